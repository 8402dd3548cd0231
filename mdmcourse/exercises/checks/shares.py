"""Shares of right answers, their differences and their intervals (lesson 06): what has to be true of the answers."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson06 as answers
from mdmcourse.exercises.checks.tools import generator
from mdmcourse.exercises.exercise import Answer, Exercise, Property


def three_numbers(found: Any) -> tuple[float, float, float] | None:
    """What was returned as three finite numbers, or None if it is not that."""
    try:
        values = tuple(float(each) for each in found)
    except (TypeError, ValueError):
        return None
    return values if len(values) == 3 and all(map(math.isfinite, values)) else None


def told(found: tuple[float, float, float]) -> str:
    return f"({found[0]:.3f}, {found[1]:.3f}, {found[2]:.3f})"


def mixed(counts: dict[tuple[bool, ...], int], seed: int) -> list[Tensor]:
    """One vector of booleans for each place of the keys, so many of each kind, in a random order."""
    rows = torch.tensor([kind for kind, count in counts.items() for _ in range(count)])
    return list(rows[torch.randperm(len(rows), generator=generator(seed))].T)


# --- accuracy_interval


def _of(answer: Answer, right: int, n: int, seed: int = 0) -> tuple[float, float, float]:
    (vector,) = mixed({(True,): right, (False,): n - right}, seed)
    found = three_numbers(answer(vector))
    assert found is not None, f"no three finite numbers for {right} right of {n}"
    return found


def _share_low_high(answer: Answer, seed: int) -> str | None:
    (right,) = mixed({(True,): 23, (False,): 17}, seed)
    found = three_numbers(given := answer(right))
    if found is None:
        return f"it gave {given!r:.80}, which is not three finite numbers"
    if abs(found[0] - 23 / 40) > 1e-6 or not found[1] < found[0] < found[2]:
        return f"with 23 right of 40, a share of 0.575, it gave {told(found)}"
    return None


def _between_0_and_1(answer: Answer, seed: int) -> str | None:
    for right, n in ((1, 10), (9, 10), (2, 30), (29, 30), (0, 15), (15, 15)):
        found = _of(answer, right, n, seed)
        if found[1] < -1e-9 or found[2] > 1 + 1e-9:  # up to rounding
            return f"with {right} right of {n} it gave {told(found)}"
    return None


def _not_certain(answer: Answer, seed: int) -> str | None:
    for right, edge in ((20, 1), (0, 2)):
        found = _of(answer, right, 20, seed)
        away = abs(found[edge] - right / 20)
        if not 0.02 < away < 0.35:
            return f"with {right} right of 20 it gave {told(found)}"
    return None


def _narrower(answer: Answer, seed: int) -> str | None:
    few, many = _of(answer, 50, 100, seed), _of(answer, 200, 400, seed)
    ratio = (few[2] - few[1]) / (many[2] - many[1])
    return None if 1.8 < ratio < 2.2 else f"four times as many prompts made it {ratio:.2f} times as narrow"


def _width(answer: Answer, seed: int) -> str | None:
    found = _of(answer, 300, 600, seed)
    wide = found[2] - found[1]
    return None if 0.074 < wide < 0.088 else f"with 300 right of 600 it is {wide:.3f} wide"


def _covers(answer: Answer, seed: int) -> str | None:
    n = 60
    ends = [_of(answer, right, n, seed)[1:] for right in range(n + 1)]
    for p in (0.5, 0.8, 0.9, 0.97):
        chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        covered = sum(chance for chance, (low, high) in zip(chances, ends, strict=True) if low <= p <= high)
        if covered < 0.90:
            return f"with a true share of {p} and {n} prompts it contains the truth in only {covered:.0%} of samples"
    return None


def _large(answer: Answer, seed: int) -> str | None:
    (vector,) = mixed({(True,): 1194, (False,): 6}, seed)
    try:
        found = three_numbers(given := answer(vector))
    except ArithmeticError as error:
        return f"with 1194 right of 1200 it raised {type(error).__name__}: {error}"
    good = found is not None and 0.985 < found[1] < found[0] < found[2] < 0.9995
    return None if good else f"with 1194 right of 1200 it gave {given!r:.80}"


ACCURACY_INTERVAL = Exercise(
    lesson="06",
    task="the share of right answers with its 95 % interval",
    minutes=8,
    difficulty=1,
    reference=answers.accuracy_interval,
    properties=(
        Property(
            "it gives the share, and a lower and an upper end around it", _share_low_high,
            "Return (share, low, high), in this order. right is a tensor of booleans: right.double().mean().",
        ),
        Property(
            "all right, or none, is no certainty", _not_certain,
            "share * (1 - share) is 0 there, and resampling draws no mistake: it is a point. Wilson's is not.",
        ),
        Property(
            "it stays between 0 and 1", _between_0_and_1,
            "share +- 1.96 standard errors leaves the range. Wilson's interval does not; others can be cut off.",
        ),
        Property(
            "four times as many prompts make it half as wide", _narrower,
            "A standard error goes with one over the square root of n. Is n in the formula, and under the root?",
        ),
        Property(
            "it is a 95 % interval", _width,
            "At a share of a half it should be 2 * 1.96 * 0.5 / sqrt(n) wide: one standard error to each side gives "
            "68 %, 1.645 gives 90 %.",
        ),
        Property(
            "it contains the truth as often as it says", _covers,
            "Counted over all samples that can be drawn. Is it centred on the share itself where that is near 1?",
        ),
        Property(
            "it can be computed for 1200 prompts", _large,
            "Countdown has that many. With that many, factorials and binomial coefficients are too large for a float: "
            "add up logarithms (math.lgamma), or use Wilson's formula.",
        ),
    ),
    hints=(
        "Wilson's interval holds all p for which the share that was seen is no further than 1.96 standard errors, "
        "sqrt(p (1 - p) / n), from p. Solve that for p: a quadratic equation.",
        "Its centre is (share + z^2 / (2 n)) / (1 + z^2 / n), with z = 1.96.",
        "Its half width is z / (1 + z^2 / n) * sqrt(share (1 - share) / n + z^2 / (4 n^2)).",
    ),
)  # fmt: skip


# --- paired_difference

BOTH, ONLY_A, ONLY_B, NEITHER = (True, True), (True, False), (False, True), (False, False)


def _paired(answer: Answer, counts: tuple[int, int, int, int], seed: int) -> tuple[float, float, float]:
    """Of so many prompts that both, only a, only b, neither get right."""
    a, b = mixed(dict(zip((BOTH, ONLY_A, ONLY_B, NEITHER), counts, strict=True)), seed)
    found = three_numbers(answer(a, b))
    assert found is not None, f"no three finite numbers for both, only a, only b, neither = {counts}"
    return found


def _difference_low_high(answer: Answer, seed: int) -> str | None:
    a, b = mixed({BOTH: 100, ONLY_A: 40, ONLY_B: 20, NEITHER: 40}, seed)
    found = three_numbers(given := answer(a, b))
    if found is None:
        return f"it gave {given!r:.80}, which is not three finite numbers"
    if abs(found[0] - 0.1) > 1e-6 or not found[1] < found[0] < found[2]:
        return f"a is right in 140, b in 120 of 200 prompts; it gave {told(found)}"
    return None


def _turned_round(answer: Answer, seed: int) -> str | None:
    one, other = (_paired(answer, counts, seed) for counts in ((150, 60, 30, 60), (150, 30, 60, 60)))
    width = one[2] - one[1]
    off = max(abs(one[0] + other[0]), abs(one[1] + other[2]), abs(one[2] + other[1]))
    return None if off < 0.3 * width else f"a against b gave {told(one)}, b against a {told(other)}"


def _pairs(answer: Answer, seed: int) -> str | None:
    found = _paired(answer, (200, 12, 8, 180), seed)
    wide = found[2] - found[1]
    if wide < 0.08:
        return None
    return (
        f"both are right in the same 200 of 400 prompts and disagree in 20 only; it is {wide:.3f} wide, as if a and b "
        "had been given different prompts"
    )


def _disagreements(answer: Answer, seed: int) -> str | None:
    found = _paired(answer, (110, 100, 80, 110), seed)
    wide = found[2] - found[1]
    seen = f"of 400 prompts a alone is right in 100, b alone in 80; it is {wide:.3f} wide"
    return None if 0.105 < wide < 0.16 else seen


def _agreement(answer: Answer, seed: int) -> str | None:
    for counts in ((100, 0, 0, 0), (60, 0, 0, 40)):
        found = _paired(answer, counts, seed)
        if not (-0.1 < found[1] < -0.004 and 0.004 < found[2] < 0.1):
            return f"a and b were right in the same {counts[0]} of 100 prompts; it gave {told(found)}"
    return None


def _covers_difference(answer: Answer, seed: int) -> str | None:
    only_a, only_b, times = 0.2, 0.1, 200
    draws = torch.rand(times, 150, generator=generator(seed))
    covered = 0
    for row in draws:
        a = (row < only_a) | (row > 0.6)
        b = ((row >= only_a) & (row < only_a + only_b)) | (row > 0.6)
        found = three_numbers(answer(a, b))
        assert found is not None
        covered += found[1] <= only_a - only_b <= found[2]
    return None if covered > 0.86 * times else f"it contained the truth, 0.1, in {covered} of {times} samples"


PAIRED_DIFFERENCE = Exercise(
    lesson="06",
    task="the difference of two models on the same prompts, with its 95 % interval",
    minutes=12,
    difficulty=2,
    reference=answers.paired_difference,
    properties=(
        Property(
            "it gives a's share minus b's, and the ends around it", _difference_low_high,
            "Return (difference, low, high): positive if a is right more often.",
        ),
        Property("a and b exchanged change the sign", _turned_round, "Are the ends exchanged with it: -high, -low?"),
        Property(
            "it uses that the prompts are the same", _pairs,
            "Adding up the two models' own variances forgets that a hard prompt is hard for both. Look at each "
            "prompt's difference: 1, 0 or -1.",
        ),
        Property(
            "disagreements in both directions make it wide", _disagreements,
            "Its standard error comes from only_a + only_b, not from their difference; and it is a 95 % interval.",
        ),
        Property(
            "no disagreement is no certainty", _agreement,
            "With no disagreement the variance that was seen is 0, and the interval a point. Add half a prompt to "
            "each of the four kinds before you compute it: then only_a and only_b are half a prompt each, and n is n "
            "+ 2.",
        ),
        Property("it contains the truth as often as it says", _covers_difference, "Is it centred, and wide enough?"),
    ),
    hints=(
        "Only prompts on which the two disagree count. Let only_a be the number where only a is right, only_b the "
        "other.",
        "The difference is (only_a - only_b) / n, its standard error sqrt(only_a + only_b - (only_a - only_b)^2 / n) "
        "/ n.",
        "Take 1.96 of these to each side, with half a prompt added to each of the four kinds: only_a + 0.5, only_b + "
        "0.5, n + 2. (The difference itself is returned without.)",
    ),
)  # fmt: skip


# --- prompts_needed


def exact_power(only_a: float, only_b: float, n: int) -> float:
    """How often the interval of `paired_difference` excludes 0, by trying every number of disagreements."""

    def window(p: float) -> np.ndarray:  # counts beyond seven standard deviations do not matter
        spread = 7 * math.sqrt(n * p * (1 - p)) + 7
        return np.arange(max(0, int(n * p - spread)), min(n, int(n * p + spread)) + 1)

    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # log k!
    i, j = np.meshgrid(window(only_a), window(only_b), indexing="ij")
    rest = n - i - j
    possible = rest >= 0
    rest = np.maximum(rest, 0)
    chance = np.exp(
        logs[n] - logs[i] - logs[j] - logs[rest]
        + i * math.log(only_a) + j * math.log(only_b) + rest * math.log(1 - only_a - only_b)
    )  # fmt: skip
    half = 1.96 * np.sqrt(np.maximum(i + j + 1 - (i - j) ** 2 / (n + 2), 0))
    return float((chance * possible * (np.abs(i - j) > half)).sum())


def _number(answer: Answer, *given: float) -> int:
    return int(answer(*given))


def _whole(answer: Answer, seed: int) -> str | None:
    found = answer(0.12, 0.06, 0.8)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        return f"with 0.12, 0.06 and a power of 0.8 it gave {found!r:.60}"
    return None


def _exchanged(answer: Answer, seed: int) -> str | None:
    one, other = _number(answer, 0.15, 0.05, 0.8), _number(answer, 0.05, 0.15, 0.8)
    if abs(one - other) <= 0.15 * one:
        return None
    return f"with 0.15 and 0.05 it gave {one}, with 0.05 and 0.15 {other}"


def _half_the_difference(answer: Answer, seed: int) -> str | None:
    one, other = _number(answer, 0.2, 0.1, 0.8), _number(answer, 0.175, 0.125, 0.8)
    if 3.4 < other / one < 5:
        return None
    return f"for a difference of 0.10 it wants {one}, for 0.05, with as many disagreements, {other}"


def _more_power(answer: Answer, seed: int) -> str | None:
    one, other = _number(answer, 0.2, 0.1, 0.8), _number(answer, 0.2, 0.1, 0.95)
    if 1.2 < other / one < 2.05:
        return None
    return f"for a power of 0.8 it wants {one}, for 0.95 {other}"


def _power_squared(answer: Answer, seed: int) -> str | None:
    one, other = _number(answer, 0.2, 0.1, 0.8), _number(answer, 0.2, 0.1, 0.95)
    seen = f"for a power of 0.8 it wants {one}, for 0.95 {other}: {other / one:.2f} times as many, not 1.66 times"
    return None if other / one > 1.35 else seen


def _two_sides(answer: Answer, seed: int) -> str | None:
    found = _number(answer, 0.2, 0.1, 0.8)
    one_sided = (1.645 + NormalDist().inv_cdf(0.8)) ** 2 * 0.29 / 0.01
    seen = f"for 0.2, 0.1 and a power of 0.8 it wants {found}, the number for 1.645 standard errors"
    return None if abs(found / one_sided - 1) > 0.03 else seen


def _more_disagreement(answer: Answer, seed: int) -> str | None:
    one, other = _number(answer, 0.08, 0.02, 0.8), _number(answer, 0.18, 0.12, 0.8)
    if 2.4 < other / one < 4:
        return None
    return f"for the same difference, 0.06, it wants {one} where they disagree in 10 %, and {other} where in 30 %"


def _as_asked(answer: Answer, seed: int) -> str | None:
    for only_a, only_b, power in ((0.20, 0.10, 0.8), (0.12, 0.05, 0.9), (0.25, 0.15, 0.95), (0.06, 0.02, 0.7)):
        n = _number(answer, only_a, only_b, power)
        found = exact_power(only_a, only_b, n) if 1 <= n <= 20_000 else float(n > 20_000)
        if abs(found - power) > 0.055:
            return (
                f"for {only_a}, {only_b} and a power of {power} it wants {n} prompts; with these 0 is excluded in "
                f"{found:.0%} of all samples: {n} is too {'many' if found > power else 'few'}"
            )
    return None


PROMPTS_NEEDED = Exercise(
    lesson="06",
    task="how many prompts are needed to see a difference",
    minutes=15,
    optional=True,
    difficulty=3,
    reference=answers.prompts_needed,
    properties=(
        Property("it gives a whole number of prompts", _whole, "Round up, and return an int: math.ceil(...)."),
        Property(
            "it makes no difference which model is better", _exchanged,
            "The difference enters squared; with a search, look at its size, not at its sign.",
        ),
        Property(
            "half the difference takes four times as many", _half_the_difference,
            "The standard error falls with the square root of n, so n goes with one over the difference squared. The "
            "difference is only_a - only_b, not their sum.",
        ),
        Property(
            "more disagreements take more prompts", _more_disagreement,
            "Each disagreement is 1 or -1 where the others are 0: the variance of a prompt is only_a + only_b - "
            "(only_a - only_b)^2.",
        ),
        Property(
            "more power takes more prompts", _more_power,
            "With 1.96 alone the interval just reaches 0 *on average*: half of all samples would miss the difference."
            " Add the quantile of the power: NormalDist().inv_cdf(power).",
        ),
        Property(
            "the standard errors are added, then squared", _power_squared,
            "n goes with (1.96 + z)^2, z being the quantile of the power: is this sum squared?",
        ),
        Property(
            "the interval of 95 % has two sides", _two_sides,
            "It reaches 1.96 standard errors to each side; 1.645 leaves out 5 % on one side alone.",
        ),
        Property(
            "with that many, 0 is excluded as often as was asked", _as_asked,
            "Tried with every number of disagreements that can occur. n depends on everything as it should, so what "
            "is wrong is a constant: (1.96 + z)^2 times the variance of a prompt, over the difference squared, is all.",
        ),
    ),
    hints=(
        "What does one prompt add to the difference? 1 with probability only_a, -1 with only_b, otherwise 0. Write "
        "down the standard deviation of that, and of the mean of n prompts.",
        "The interval excludes 0 if the difference that is seen exceeds 1.96 standard errors. It is seen too small by"
        " z standard errors or more with probability 1 - power, for z = NormalDist().inv_cdf(power).",
        "So the true difference has to be 1.96 + z standard errors: solve |only_a - only_b| = (1.96 + z) * sd / "
        "sqrt(n) for n.",
    ),
)  # fmt: skip
