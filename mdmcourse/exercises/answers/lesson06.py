"""Local and global tasks: the course's own answers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from statistics import NormalDist

from jaxtyping import Bool, Int
from torch import Tensor


def best_guess(seen: Sequence[tuple], answers: Sequence[Hashable]) -> float:
    """How often the best guesser is right that sees only `seen`: for each sight it says the most frequent answer."""
    counts: defaultdict[tuple, Counter] = defaultdict(Counter)
    for sight, answer in zip(seen, answers, strict=True):
        counts[sight][answer] += 1
    return sum(max(each.values()) for each in counts.values()) / len(answers)


def accuracy_interval(right: Bool[Tensor, " n"]) -> tuple[float, float, float]:
    """(share, low, high): the share of right answers and its 95 % interval (Wilson, 1927)."""
    n, share, z = len(right), right.double().mean().item(), 1.96
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return share, max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(a: Bool[Tensor, " n"], b: Bool[Tensor, " n"]) -> tuple[float, float, float]:
    """(difference, low, high): how much more often `a` is right than `b` on the same prompts, with its 95 % interval.

    Half a prompt is added to each of the four kinds (Agresti and Min, 2005).
    """
    only_a, only_b = (a & ~b).sum().item(), (b & ~a).sum().item()
    n = len(a) + 2
    centre = (only_a - only_b) / n
    half = 1.96 * math.sqrt(only_a + only_b + 1 - (only_a - only_b) ** 2 / n) / n
    return (only_a - only_b) / len(a), max(-1.0, centre - half), min(1.0, centre + half)


def prompts_needed(only_a: float, only_b: float, power: float) -> int:
    """With how many prompts the 95 % interval of the paired difference excludes 0 with the probability `power`."""
    difference, disagreement = only_a - only_b, only_a + only_b
    one_prompt = math.sqrt(disagreement - difference**2)  # the standard deviation of what a prompt adds: 1, -1 or 0
    z = 1.96 + NormalDist().inv_cdf(power)
    return math.ceil((z * one_prompt / difference) ** 2)


def masks_behind(
    texts: Int[Tensor, "batch pos"], start: int, k: int, mask_id: int, filler: int | None = None
) -> Int[Tensor, "batch other"]:
    """The prompt, a mask for the first token of the answer, `k` masks behind it, and `filler` up to the old length."""
    end = start + 1 + k
    length = end if filler is None else max(end, texts.shape[1])
    x = texts.new_full((len(texts), length), mask_id if filler is None else filler)
    x[:, :start] = texts[:, :start]
    x[:, start:end] = mask_id
    return x
