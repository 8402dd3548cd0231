"""The mechanism shift: the course's own answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mdmcourse.study.verdicts import T_975


def chance_jaccard(k: int, n: int) -> float:
    """The expected overlap of two random choices of k of n edges: shared edges over all in either."""
    total = 0.0
    for shared in range(max(0, 2 * k - n), k + 1):
        ways = math.comb(k, shared) * math.comb(n - k, k - shared)
        total += ways / math.comb(n, k) * shared / (2 * k - shared)
    return total


def ceiling_of_halves(scores: Float[Tensor, "prompt edge"], k: int) -> float:
    """The overlap of the k strongest edges by one half of the prompts and by the other half."""
    order = torch.randperm(len(scores))
    middle = len(order) // 2
    one, two = (
        set(scores[half].mean(dim=0).abs().topk(k).indices.tolist()) for half in (order[:middle], order[middle:])
    )
    return len(one & two) / len(one | two)


def shift_over_arms(mdms: Sequence[Sequence[float]], control: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): how much more the MDMs of an ARM share with it than the control does, with Student's 95 %
    interval over ARMs.

    mdms[i] are the overlaps with ARM i of all MDMs made from it, control[i] is that of ARM i trained on.
    """
    each = [sum(of_arm) / len(of_arm) - beside for of_arm, beside in zip(mdms, control, strict=True)]
    n = len(each)
    mean = sum(each) / n
    spread = math.sqrt(sum((value - mean) ** 2 for value in each) / (n - 1))
    half = T_975[n - 2] * spread / math.sqrt(n)
    return mean, mean - half, mean + half


def faithfulness_in_host(
    metric: Callable[[Any], Float[Tensor, " prompt"]], circuit: Any, full: Any, empty: Any
) -> float:
    """The share of a model's effect that is left when only a circuit's edges carry the clean prompt; NaN if the model
    has no effect. metric(edges) are the logit differences of that model, one a prompt, with these edges."""
    with_all, with_none = metric(full).mean(), metric(empty).mean()
    effect = float(with_all - with_none)
    if abs(effect) < 0.1:
        return math.nan
    return float(metric(circuit).mean() - with_none) / effect


def control_pairs(treatment: Any) -> dict[str, tuple[Any, Any]]:
    """For each claim the two models whose overlap has to be measured beside that of the pair."""
    arm = treatment._replace(objective=None, attention="causal", steps=0)
    trained_on = treatment._replace(objective="next token", attention="causal")
    return {
        "training": (arm, trained_on),
        "attention": (arm, arm._replace(attention="full")),
        "noise": (treatment, treatment._replace(seed=treatment.seed + 1)),
        "learning": (arm._replace(arm="new"), trained_on._replace(arm="new")),
        "inheritance": (arm._replace(arm="B"), treatment),
    }
