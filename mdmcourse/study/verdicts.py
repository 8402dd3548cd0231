"""What became of the findings: each criterion of a plan, with its interval over independently trained models.

A statistic is taken once for each ARM (the mean of its MDMs, where it is about them). With several ARMs the interval is
Student's, over ARMs: what another training would give. With one ARM there is none of that kind; then it is the
bootstrap's over prompts, which says nothing about another training, and the verdict is marked so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdmcourse.study.plan import Criterion, Finding, StudyPlan

# Quantiles of Student's t with 1, 2, ... 30 degrees of freedom: 97.5 % and 80 %. From there on, those of the normal.
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
T_800 = (
    1.376, 1.061, 0.978, 0.941, 0.920, 0.906, 0.896, 0.889, 0.883, 0.879, 0.876, 0.873, 0.870, 0.868, 0.866, 0.865,
    0.863, 0.862, 0.861, 0.860, 0.859, 0.858, 0.858, 0.857, 0.856, 0.856, 0.855, 0.855, 0.854, 0.854,
)  # fmt: skip
Z_975, Z_800 = 1.960, 0.842

Unit = Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """A criterion, and what was measured.

    Attributes
    ----------
    criterion: see there.
    each: its value for every ARM, by seed.
    mean, low, high: over ARMs; NaN if it was not measured, the ends also where one ARM gives no interval.
    over: "models" or "prompts": what the interval is over.
    detectable: the smallest distance from the threshold that so many ARMs, varying so much, would show four times in
        five (the power of a t test at 5 %, by the usual approximation). NaN for an interval over prompts.
    state: "met", "contradicted", "open" or "not measured".
    """

    criterion: Criterion
    each: dict[int, float]
    mean: float
    low: float
    high: float
    over: str
    detectable: float
    state: str


@dataclass(frozen=True)
class Verdict:
    """A finding on one group of pairs: one of `VERDICTS`, and why."""

    group: str
    finding: Finding
    verdict: str
    criteria: tuple[Judged, ...]

    @property
    def over_models(self) -> bool:
        return all(judged.over == "models" for judged in self.criteria if judged.state != "not measured")


def verdicts(plan: StudyPlan, results: Mapping[str, Any]) -> list[Verdict]:
    """Every finding of the plan on every group."""
    found = []
    for group in plan.groups:
        units = [unit for unit in results["units"] if unit["group"] == group.title]
        for finding in plan.findings:
            judged = tuple(judge_criterion(criterion, units) for criterion in finding.criteria)
            found.append(Verdict(group.title, finding, _verdict([each.state for each in judged]), judged))
    return found


def _verdict(states: list[str]) -> str:
    measured = [state for state in states if state != "not measured"]
    if not measured:
        return "not measured"
    if all(state == "met" for state in measured) and len(measured) == len(states):
        return "reproduces"
    if "met" in measured:
        return "partly"
    return "does not reproduce" if "contradicted" in measured else "not settled"


def judge_criterion(criterion: Criterion, units: list[Unit]) -> Judged:
    """Hold a criterion against the units of one group."""
    seeds = sorted({unit["seed"] for unit in units})
    each = {seed: value for seed in seeds if (value := _value(criterion, units, seed)) is not None}
    over, detectable = "models", math.nan
    if not each:
        return Judged(criterion, each, math.nan, math.nan, math.nan, over, detectable, "not measured")
    n, values = len(each), list(each.values())
    mean = sum(values) / n
    if n > 1:
        error = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
        t_975, t_800 = (T_975[n - 2], T_800[n - 2]) if n - 2 < len(T_975) else (Z_975, Z_800)
        low, high = mean - t_975 * error, mean + t_975 * error
        detectable = (t_975 + t_800) * error
    else:
        over = "prompts"
        half = _half_width(criterion, units, *each)
        low, high = mean - half, mean + half
    if criterion.at_least is not None:
        state = "met" if low >= criterion.at_least else "contradicted" if high < criterion.at_least else "open"
    else:
        assert criterion.at_most is not None
        state = "met" if high <= criterion.at_most else "contradicted" if low > criterion.at_most else "open"
    return Judged(criterion, each, mean, low, high, over, detectable, state)


def _kinds(criterion: Criterion) -> list[tuple[int, str]]:
    return [(1, "global"), (-1, "local")] if criterion.task == "global - local" else [(1, criterion.task)]


def _value(criterion: Criterion, units: list[Unit], seed: int) -> float | None:
    """The criterion's value for one ARM, or None if a part of it was not measured."""
    total = 0.0
    for sign_of_task, kind in _kinds(criterion):
        mine = (unit["statistics"] for unit in units if unit["seed"] == seed and unit["kind"] == kind)
        statistics: Mapping[str, float] = next(mine, {})
        for sign, name in criterion.terms:
            if statistics.get(name) is None:
                return None
            total += sign_of_task * sign * statistics[name]
    return total


def _half_width(criterion: Criterion, units: list[Unit], seed: int) -> float:
    """Half of the 95 % interval over prompts of one ARM's sum. The two tasks have prompts of their own, and vary
    independently. So do the terms of a sum, for lack of better, if there is no interval of the sum itself: rather too
    wide, for they share prompts. A term without an interval counts as exact; NaN if none has one, or if the ends of
    one are no numbers."""
    halves = []
    for _, kind in _kinds(criterion):
        unit = next(unit for unit in units if unit["seed"] == seed and unit["kind"] == kind)
        intervals = unit["intervals"]
        names = [name if name in intervals else name.replace("/mdms", "/mdm") for _, name in criterion.terms]
        names = [criterion.value] if criterion.value in intervals else names
        ends = [intervals[name] for name in names if name in intervals]
        halves += [math.nan if None in (low, high) else (high - low) / 2 for low, high in ends]
    return math.hypot(*halves) if halves else math.nan
