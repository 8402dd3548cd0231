"""Your own study: the course's own answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

from jaxtyping import Float
from torch import Tensor

from mdmcourse.study.verdicts import T_800, T_975


def judged(low: float, high: float, at_least: float | None = None, at_most: float | None = None) -> str:
    """What an interval says of a criterion: "met", "contradicted" or "open"."""
    if at_least is not None:
        right, wrong = low >= at_least, high < at_least
    else:
        assert at_most is not None
        right, wrong = high <= at_most, low > at_most
    return "met" if right else "contradicted" if wrong else "open"


def any_false_alarm(levels: Sequence[float]) -> float:
    """How likely at least one of several independent measures gives a false alarm, if measure i does with levels[i]."""
    return 1.0 - math.prod(1 - level for level in levels)


def detectable(spread: float, n: int) -> float:
    """The difference that n ARMs would show in four studies out of five, if it varies by `spread` from ARM to ARM."""
    return (T_975[n - 2] + T_800[n - 2]) * spread / math.sqrt(n)


def over_arms(values: Sequence[Float[Tensor, " _"]]) -> tuple[float, float, float]:
    """(mean, low, high): Student's 95 % interval over ARMs, from what each ARM gave on each of its prompts."""
    each = [float(of_arm.mean()) for of_arm in values]
    n = len(each)
    if n == 1:
        return each[0], math.nan, math.nan
    half = T_975[n - 2] * stdev(each) / math.sqrt(n)
    return mean(each), mean(each) - half, mean(each) + half


def mended_plan(text: str) -> str:
    """A plan for the same two claims as the bad one in `text`, mended."""
    return """
title = "Is an MDM's work more spread out?"
prompts = 64
steps = 20
share = 0.2

[[pairs]]
title = "depth 4: IOI, chain"
pair = "toy-chain"
seeds = [3, 4, 5, 6, 7]   # 0, 1 and 2 were looked at; these are trained with: mdmcourse train-toys toy-chain --seed 3 ...
local = "ioi"
global = "chain"

[findings.SPREAD]
claim = "The MDM's work is spread over more edges."
criteria = [
    { task = "local", value = "log_edges/mdms - log_edges/arm-trained-on", at_least = 0.1, why = "a tenth more edges than training for as long explains" },
]

[findings.MOVES]
claim = "On the global task work is sent from later layers."
criteria = [
    { task = "global", value = "source_centre/mdms - source_centre/arm-trained-on", at_least = 0.05, why = "later by a twentieth of the depth than training for as long explains" },
]
"""  # noqa: E501 - a criterion is one line in TOML
