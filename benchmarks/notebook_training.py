"""The training that ends lesson 00, with STEPS at its full value: the chain ARM becomes an MDM.

.venv/bin/python benchmarks/notebook_training.py
"""

from __future__ import annotations

import time

import torch

from mdmcourse import load_pair
from mdmcourse.diffusion import TrainConfig, masked_objective, post_train
from mdmcourse.study.evaluate import accuracy
from mdmcourse.tasks import Chain

STEPS = 3500


def main() -> None:
    arm = load_pair("toy-chain").arm
    started = time.monotonic()
    texts = Chain().sequences(arm.tokenizer, 40_000)
    config = TrainConfig(steps=STEPS, learning_rate=3e-3, log_every=500)
    mdm, log = post_train(arm, texts, config, objective=masked_objective(weight="none"), progress=False)
    minutes = (time.monotonic() - started) / 60
    found = accuracy(mdm, Chain(), 500)
    print(f"{STEPS} steps in {minutes:.1f} minutes with {torch.get_num_threads()} threads")
    print(f"last loss {log.rows[-1]['loss']:.3f}")
    print(f"500 held-out prompts: first token {found.first_token:.3f}, whole answer {found.whole_answer:.3f}")


if __name__ == "__main__":
    main()
