"""What a run is judged by: one number a prompt, the higher the better."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.naming import suggest
from mdmcourse.tasks.task import Prompts

Metric = Callable[[Float[Tensor, "batch vocab"], Prompts, Float[Tensor, "batch vocab"]], Float[Tensor, " batch"]]
"""(logits at the target, the prompts, the clean run's logits at the target) -> one number a prompt."""


def logit_diff(logits: Tensor, prompts: Prompts, clean: Tensor) -> Tensor:
    """logit(answer) - logit(distractor), in logits."""
    both = logits.gather(1, torch.stack([prompts.answer, prompts.distractor], dim=1))
    return both[:, 0] - both[:, 1]


def answer_logprob(logits: Tensor, prompts: Prompts, clean: Tensor) -> Tensor:
    """log p(answer), in nats."""
    return logits.log_softmax(dim=1).gather(1, prompts.answer[:, None])[:, 0]


def kl(logits: Tensor, prompts: Prompts, clean: Tensor) -> Tensor:
    """-KL(clean || run), in nats, summed over the vocabulary: 0 for the clean run, below it for any other.

    At the clean run its gradient is zero, so that plain EAP gives nothing with it: use EAP-IG.
    """
    reference = clean.log_softmax(dim=1)
    return (reference.exp() * (logits.log_softmax(dim=1) - reference)).sum(dim=1)


METRICS: dict[str, Metric] = {"logit_diff": logit_diff, "answer_logprob": answer_logprob, "kl": kl}


def get_metric(metric: str | Metric) -> tuple[str, Metric]:
    """A metric and its name. Raises UnknownNameError for a name that is not one."""
    if callable(metric):
        name = getattr(metric, "__name__", "a function")
        return (f"own {name}" if METRICS.get(name, metric) is not metric else name), metric
    if metric not in METRICS:
        raise UnknownNameError(*suggest("metric", metric, METRICS))
    return metric, METRICS[metric]


def reads_clean(metric: Metric) -> bool:
    """May it look at the clean run's logits? Of those that surely do not, that run can be saved."""
    return metric not in (logit_diff, answer_logprob)


def judge(metric: Metric, logits: Tensor, prompts: Prompts, clean: Tensor) -> Float[Tensor, " batch"]:
    """The metric of every prompt, in float32 at least. Raises InputError if the metric gives no tensor, another shape,
    or something that is no finite number."""
    logits, clean = (x if x.dtype == torch.float64 else x.float() for x in (logits, clean))
    values: object = metric(logits, prompts, clean)
    if not isinstance(values, Tensor):
        raise InputError(
            f"The metric gave a {type(values).__name__} for {len(logits)} prompts.",
            "It has to give one number a prompt, as a tensor: a gradient is taken through it.",
            "Return a tensor [batch], computed from `logits` with torch, without .item(), .tolist() or .numpy().",
        )
    if values.shape != logits.shape[:1]:
        raise InputError(
            f"The metric gave the shape {tuple(values.shape)} for {len(logits)} prompts.",
            "It has to give one number a prompt; the mean over prompts is taken later, once.",
            "Return a tensor [batch], without averaging.",
        )
    if not values.isfinite().all():
        wrong = values[~values.isfinite()]
        raise InputError(
            f"The metric is {float(wrong[0])} for {len(wrong)} of {len(values)} prompts.",
            "Nothing that is computed with it, a mean or a score, would be a number.",
            "Look at model.logits(prompts.clean): if they are finite, the metric is at fault, and if not, float16 may "
            "have overflowed, where bfloat16 or float32 would not.",
        )
    return values
