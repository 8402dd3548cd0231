"""Your own study: what has to be true of the answers. What is written about plans stands in `study_plans`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson13 as answers
from mdmcourse.exercises.checks.study_plans import MENDED_PLAN
from mdmcourse.exercises.checks.tools import generator
from mdmcourse.exercises.exercise import Answer, Exercise, Property
from mdmcourse.study.verdicts import T_800, T_975

# --- judged


def _told(answer: Answer, expected: str, low: float, high: float, **criterion: float) -> str | None:
    """None if it says so of the interval, and of the same one moved up and down together with its number."""
    for move in (0.0, 0.37, -0.81):
        given = {name: value + move for name, value in criterion.items()}
        found = answer(low + move, high + move, **given)
        if found != expected:
            told = ", ".join(f"{name}={value:g}" for name, value in given.items())
            return f"[{low + move:.3g}, {high + move:.3g}] with {told}: it said {found!r}, expected was {expected!r}"
    return None


def _met(answer: Answer, seed: int) -> str | None:
    return _told(answer, "met", 0.11 + seed % 5 / 10, 0.93, at_least=0.1)


def _below(answer: Answer, seed: int) -> str | None:
    return _told(answer, "contradicted", -0.5, 0.08 - seed % 5 / 10, at_least=0.1)


def _open(answer: Answer, seed: int) -> str | None:
    return _told(answer, "open", 0.09, 0.5, at_least=0.1) or _told(answer, "open", -0.5, 0.11, at_least=0.1)


def _at_most(answer: Answer, seed: int) -> str | None:
    return (
        _told(answer, "met", -0.9, -0.11, at_most=-0.1)
        or _told(answer, "contradicted", -0.09, 0.4, at_most=-0.1)
        or _told(answer, "open", -0.9, 0.4, at_most=-0.1)
    )


def _touching(answer: Answer, seed: int) -> str | None:
    return (
        _told(answer, "met", 0.1, 0.5 + seed % 5 / 10, at_least=0.1)
        or _told(answer, "open", -0.5, 0.1, at_least=0.1)
        or _told(answer, "met", -0.5, -0.1, at_most=-0.1)
        or _told(answer, "open", -0.1, 0.5, at_most=-0.1)
    )


def _zero(answer: Answer, seed: int) -> str | None:
    for criterion, expected in (({"at_least": 0.0}, "met"), ({"at_most": 0.0}, "contradicted")):
        try:
            found = answer(0.2, 0.4, **criterion)
        except TypeError as error:  # the other number is None
            found = f"TypeError: {error}"
        if found != expected:
            return f"[0.2, 0.4] with {criterion}: it said {found!r}, expected was {expected!r}"
    return None


def _no_interval(answer: Answer, seed: int) -> str | None:
    for criterion in ({"at_least": 0.1}, {"at_most": 0.1}):
        if (found := answer(math.nan, math.nan, **criterion)) != "open":
            return f"for an interval from nan to nan, {criterion}: it said {found!r}"
    return None


JUDGED = Exercise(
    lesson="13",
    task="what an interval says of a criterion: met, contradicted or open",
    minutes=8,
    difficulty=1,
    reference=answers.judged,
    properties=(
        Property(
            "an interval on the right side is met", _met,
            'With at_least the whole interval has to lie at the number or above: then it is the string "met".',
        ),
        Property(
            "an interval on the wrong side is contradicted", _below,
            "Not only the mean or the lower end: when the whole interval lies below at_least, that is a result.",
        ),
        Property(
            "an interval with the number in it is open", _open,
            "Both ends count. An end on the right side is not enough to be met, nor one on the wrong side to be "
            "contradicted.",
        ),
        Property("at_most looks to the other side", _at_most, "With at_most the right side is below the number."),
        Property(
            "an interval that touches the number", _touching,
            "`at least` is fulfilled by the number itself: low >= at_least is met. And an interval that only touches "
            "it from the wrong side holds the number, so it is open: contradicted needs high < at_least.",
        ),
        Property(
            "0 is a number like any other", _zero,
            "`if at_least:` is false for 0. Ask `if at_least is not None`.",
        ),
        Property(
            "without an interval it is open", _no_interval,
            "Every comparison with nan is false. Do not let what is left over be \"contradicted\".",
        ),
    ),
    hints=(
        "There are two kinds of criterion and three things to say. Begin with at_least, which end decides?",
        "met if low >= at_least; contradicted if high < at_least; else open.",
        "at_most is the mirror image: met if high <= at_most, contradicted if low > at_most, else open.",
    ),
)  # fmt: skip


# --- any_false_alarm


def _close(answer: Answer, levels: list[float], tolerance: float = 1e-6) -> str | None:
    found, expected = float(answer(list(levels))), 1 - math.prod(1 - level for level in levels)
    if abs(found - expected) <= tolerance:
        return None
    shown = ", ".join(f"{level:g}" for level in levels[:4]) + (", ..." if len(levels) > 4 else "")
    return f"{len(levels)} levels [{shown}]: it gave {found:.8g}, expected was {expected:.8g}"


def _single(answer: Answer, seed: int) -> str | None:
    return _close(answer, [0.05 + seed % 7 / 100], 0.02)


def _more_is_more(answer: Answer, seed: int) -> str | None:
    few, many = float(answer([0.05] * 5)), float(answer([0.05] * 60))
    return None if many > few + 0.3 else f"at a level of .05 it gave {few:.3g} for 5 measures, {many:.3g} for 60"


def _a_probability(answer: Answer, seed: int) -> str | None:
    found = float(answer([0.05] * (25 + seed % 5)))
    return None if 0 <= found <= 1 else f"for {25 + seed % 5} measures at .05 it gave {found:.3g}"


def _equal(answer: Answer, seed: int) -> str | None:
    return _close(answer, [0.05] * (15 + seed % 5), 0.02)


def _unequal(answer: Answer, seed: int) -> str | None:
    return _close(answer, [0.6, 0.01 + seed % 3 / 100, 0.3], 0.02)


def _exact(answer: Answer, seed: int) -> str | None:
    return _close(answer, [0.05, 0.02, 0.01 + seed % 3 / 100]) or _close(answer, [])


ANY_FALSE_ALARM = Exercise(
    lesson="13",
    task="how likely one of several independent measures gives a false alarm",
    minutes=6,
    difficulty=1,
    reference=answers.any_false_alarm,
    properties=(
        Property("a single measure has its own level", _single, "At least one of one: that is its level itself."),
        Property(
            "more measures give more false alarms", _more_is_more,
            "Not the probability that all give one, nor that exactly one does: *at least* one.",
        ),
        Property(
            "it is a probability", _a_probability,
            "A sum of levels can exceed 1: it counts twice where two measures give an alarm.",
        ),
        Property(
            "it is right for many measures of one level", _equal,
            "Nothing goes wrong only if no measure gives an alarm; with independent measures that is a product.",
        ),
        Property(
            "the levels may differ", _unequal,
            "Take every level as it is, not their mean or the first one.",
        ),
        Property(
            "it is exact, also without any measure", _exact,
            "A simulation is a good check, but there is a formula. And the product of nothing is 1.",
        ),
    ),
    hints=(
        "Turn it round: how likely does none of them give a false alarm?",
        "Measure i gives none with probability 1 - levels[i]; of independent measures these are multiplied.",
        "1 - math.prod(1 - level for level in levels)",
    ),
)  # fmt: skip


# --- detectable


def _power(difference: float, n: int, seed: int) -> float:
    """How often Student's interval of n values with mean `difference` and spread 1 lies above 0, by simulation."""
    values = torch.randn(20_000, n, generator=generator(seed), dtype=torch.float64) + difference
    return float((values.mean(dim=1) > T_975[n - 2] * values.std(dim=1) / math.sqrt(n)).double().mean())


def _proportional(answer: Answer, seed: int) -> str | None:
    spread = 0.1 + seed % 7 / 10
    once, thrice = float(answer(spread, 5)), float(answer(3 * spread, 5))
    if math.isclose(thrice, 3 * once, rel_tol=0.05):
        return None
    return f"spread {spread:.1f}: it gave {once:.3g}; three times the spread: {thrice:.3g}"


def _four_in_five(answer: Answer, n: int, seed: int, low: float, high: float) -> str | None:
    found = float(answer(1.0, n))
    shown = _power(found, n, seed)
    if low < shown < high:
        return None
    return f"{n} ARMs, spread 1: it gave {found:.3g}, which is shown in {shown:.0%} of 20,000 simulated studies"


def _ten(answer: Answer, seed: int) -> str | None:
    return _four_in_five(answer, 10, seed, 0.7, 0.88)


def _root(answer: Answer, seed: int) -> str | None:
    """Told only if it is that: too large by the root of n / (n - 1), and for each n."""
    found = {n: float(answer(1.0, n)) for n in (3, 5, 8)}
    for n, each in found.items():
        as_if = (T_975[n - 2] + T_800[n - 2]) / math.sqrt(n - 1)
        if not math.isclose(each, as_if, rel_tol=0.05):
            return None
    return f"3 ARMs, spread 1: it gave {found[3]:.3g}, {found[3] * math.sqrt(3):.3g} errors of spread / sqrt(3)"


def _three(answer: Answer, seed: int) -> str | None:
    return _four_in_five(answer, 3, seed, 0.7, 0.88) or _four_in_five(answer, 4, seed, 0.72, 0.88)


DETECTABLE = Exercise(
    lesson="13",
    task="the difference that so many ARMs would show in four studies out of five",
    minutes=12,
    optional=True,
    difficulty=2,
    reference=answers.detectable,
    properties=(
        Property(
            "it is proportional to the spread", _proportional,
            "Twice as much variation hides twice as large a difference: multiply by the spread, not by its square.",
        ),
        Property(
            "ten ARMs show it in about four studies of five", _ten,
            "The error of a mean is spread / sqrt(n). The interval takes T_975 of it; with the difference just that "
            "large, only half of all studies would show it: add T_800.",
        ),
        Property(
            "the error of a mean has the root of n", _root,
            "n - 1 is how many degrees of freedom Student's t has. The error of a mean is spread / sqrt(n), and not "
            "spread / sqrt(n - 1).",
        ),
        Property(
            "three ARMs do so too", _three,
            "With few ARMs Student's t is far from the normal distribution, and n ARMs leave n - 1 degrees of freedom:"
            " T_975[n - 2].",
        ),
    ),
    hints=(
        "How large is the error of a mean over n ARMs? And how many of these errors does the interval reach to a side?",
        "If the true difference is T_975[n - 2] errors, half of all studies miss. It has to be larger by T_800[n - 2].",
        "(T_975[n - 2] + T_800[n - 2]) * spread / math.sqrt(n)",
    ),
)  # fmt: skip


# --- over_arms


def _values(seed: int, n: int, prompts: int = 40) -> list[Tensor]:
    """For each of n ARMs what it gave on its prompts: ARMs differ more than prompts do."""
    draw = generator(seed)
    return [0.3 + 0.4 * torch.randn(1, generator=draw) + 0.2 * torch.randn(prompts, generator=draw) for _ in range(n)]


def _called(answer: Answer, values: list[Tensor]) -> tuple[float, float, float] | str:
    found: Any = answer([each.clone() for each in values])
    if not isinstance(found, tuple | list) or len(found) != 3:
        return f"it gave {found!r}"
    mean, low, high = (float(each) for each in found)
    return mean, low, high


def _expected(values: list[Tensor]) -> tuple[float, float]:
    """Mean over ARMs, and its standard error."""
    each = torch.stack([of_arm.double().mean() for of_arm in values])
    return float(each.mean()), float(each.std() / math.sqrt(len(each)))


def _three_numbers(answer: Answer, seed: int) -> str | None:
    found = _called(answer, _values(seed, 4))
    if isinstance(found, str):
        return found
    if found[1] < found[0] < found[2]:
        return None
    return f"it gave mean {found[0]:.3f}, from {found[1]:.3f} to {found[2]:.3f}"


def _arms_count_alike(answer: Answer, seed: int) -> str | None:
    values = [torch.full((4,), 0.1), torch.full((40,), 0.5), torch.full((7,), 0.9)]
    found = _called(answer, values)
    if isinstance(found, str) or math.isclose(found[0], 0.5, abs_tol=1e-4):
        return None
    return f"three ARMs with 0.1 on 4 prompts, 0.5 on 40 and 0.9 on 7: it gave a mean of {found[0]:.3f}"


def _copies(answer: Answer, seed: int) -> str | None:
    values = _values(seed, 4)
    once, often = _called(answer, values), _called(answer, [each.repeat(9) for each in values])
    if isinstance(once, str) or isinstance(often, str):
        return None
    widths = once[2] - once[1], often[2] - often[1]
    if math.isclose(*widths, rel_tol=1e-3):
        return None
    return f"an interval {widths[0]:.4f} wide; with every prompt written down nine times {widths[1]:.4f}"


def _error_of_the_mean(answer: Answer, seed: int) -> str | None:
    for n in (4, 9):
        values = _values(seed + n, n)
        found, (_, error) = _called(answer, values), _expected(values)
        if not isinstance(found, str) and (found[2] - found[1]) / (2 * error) > 1.3 * T_975[n - 2]:
            half = (found[2] - found[1]) / 2
            return (
                f"{n} ARMs, standard error {error:.4f}: it reaches {half:.4f} to each side, {half / error:.1f} errors"
            )
    return None


def _student(answer: Answer, seed: int) -> str | None:
    for n in (3, 6):
        values = _values(seed + n, n)
        found, (mean, error) = _called(answer, values), _expected(values)
        ends = mean - T_975[n - 2] * error, mean + T_975[n - 2] * error
        if isinstance(found, str):
            return found
        if max(abs(found[1] - ends[0]), abs(found[2] - ends[1])) > 0.01 * T_975[n - 2] * error:
            half = (found[2] - found[1]) / 2
            return f"{n} ARMs: it reaches {half / error:.2f} standard errors to each side, t has {T_975[n - 2]}"
    return None


def _one_arm(answer: Answer, seed: int) -> str | None:
    values = _values(seed, 1)
    found = _called(answer, values)
    if isinstance(found, str):
        return found
    if not math.isclose(found[0], float(values[0].mean()), abs_tol=1e-4):
        return f"for one ARM it gave a mean of {found[0]:.3f}; its prompts have {float(values[0].mean()):.3f}"
    return None if math.isnan(found[1]) and math.isnan(found[2]) else f"for one ARM it gave [{found[1]}, {found[2]}]"


OVER_ARMS = Exercise(
    lesson="13",
    task="an interval over ARMs from what each of them gave on its prompts",
    minutes=10,
    difficulty=2,
    reference=answers.over_arms,
    properties=(
        Property(
            "it gives a mean between two ends", _three_numbers,
            "Return three numbers: mean, low, high.",
        ),
        Property(
            "every ARM counts once", _arms_count_alike,
            "Take the mean of each ARM first, then the mean of these. In a heap of all prompts the ARM with most "
            "prompts counts most.",
        ),
        Property(
            "copies of prompts make it no narrower", _copies,
            "The sample is of ARMs: n is their number, not that of the prompts.",
        ),
        Property(
            "it is an interval of the mean", _error_of_the_mean,
            "Divide the spread by sqrt(n): the mean of n ARMs varies less than one of them.",
        ),
        Property(
            "it is Student's, over ARMs", _student,
            "T_975[n - 2] instead of 1.96, and a spread with n - 1 under the root.",
        ),
        Property(
            "one ARM gives no interval", _one_arm,
            "From one ARM nothing is known of how ARMs vary: let low and high be math.nan. Its mean is known.",
        ),
    ),
    hints=(
        "Reduce each ARM to one number first: its mean over prompts. Forget the prompts from there on.",
        "Mean and standard deviation (with n - 1) of these n numbers; the error of the mean is spread / sqrt(n).",
        "mean - T_975[n - 2] * error and mean + T_975[n - 2] * error; for n = 1 both are math.nan.",
    ),
)  # fmt: skip

EXERCISES = (JUDGED, ANY_FALSE_ALARM, DETECTABLE, OVER_ARMS, MENDED_PLAN)
