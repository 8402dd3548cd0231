"""Masking, objectives, training and post-training, sampling with a trace of every step, exact enumeration."""

from mdmcourse.diffusion.exact import Exact, all_sequences, exact_arm, exact_mdm
from mdmcourse.diffusion.forward import COSINE, LINEAR, Schedule, forward_process, sample_t
from mdmcourse.diffusion.objective import elbo, masked_loss, masked_objective, next_token_loss, next_token_objective
from mdmcourse.diffusion.sampling import distribution, sample_arm, sample_mdm
from mdmcourse.diffusion.trace import HIDDEN, Trace
from mdmcourse.diffusion.training import TrainConfig, TrainLog, post_train, train

__all__ = [
    "COSINE", "HIDDEN", "LINEAR", "Exact", "Schedule", "Trace", "TrainConfig", "TrainLog", "all_sequences",
    "distribution", "elbo", "exact_arm", "exact_mdm", "forward_process", "masked_loss", "masked_objective",
    "next_token_loss", "next_token_objective", "post_train", "sample_arm", "sample_mdm", "sample_t", "train",
]  # fmt: skip
