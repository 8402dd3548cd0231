"""The mechanism shift: what has to be true of the answers. More in `circuit_overlaps` and `overlap_controls`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson10 as answers
from mdmcourse.exercises.checks.circuit_overlaps import CEILING_OF_HALVES, CHANCE_JACCARD
from mdmcourse.exercises.checks.overlap_controls import CONTROL_PAIRS
from mdmcourse.exercises.checks.tools import generator
from mdmcourse.exercises.exercise import Answer, Exercise, Property
from mdmcourse.study.verdicts import T_975

# --- shift_over_arms


def _overlaps(seed: int, n: int) -> tuple[list[list[float]], list[float]]:
    """For n ARMs the overlaps of two MDMs and of the control: ARMs differ more than members do."""
    draw = generator(seed)
    base = 0.6 + 0.15 * torch.rand(n, generator=draw, dtype=torch.float64)
    control = base + 0.02 * torch.randn(n, generator=draw, dtype=torch.float64)
    mdms = base[:, None] - 0.12 + 0.02 * torch.randn(n, 2, generator=draw, dtype=torch.float64)
    return mdms.tolist(), control.tolist()


def _three(answer: Answer, mdms: list[list[float]], control: list[float]) -> tuple[float, float, float]:
    found: Any = answer([list(each) for each in mdms], list(control))
    mean, low, high = (float(each) for each in found)
    return mean, low, high


def _expected(mdms: list[list[float]], control: list[float]) -> tuple[float, float]:
    """Mean and standard error of the differences of ARMs."""
    each = torch.tensor([sum(row) / len(row) - beside for row, beside in zip(mdms, control, strict=True)]).double()
    return float(each.mean()), float(each.std()) / math.sqrt(len(each))


def _three_numbers(answer: Answer, seed: int) -> str | None:
    found: Any = answer(*_overlaps(seed, 4))
    if not hasattr(found, "__len__") or isinstance(found, str | dict) or len(found) != 3:
        return f"it gave {found!r:.80}"
    mean, low, high = (float(each) for each in found)
    return None if low < mean < high else f"it gave mean {mean:.3f}, from {low:.3f} to {high:.3f}"


def _sign(answer: Answer, seed: int) -> str | None:
    found = _three(answer, [[0.41, 0.43], [0.40, 0.41], [0.42, 0.44]], [0.61, 0.60, 0.63])[0]
    return None if -0.3 < found < -0.1 else f"MDMs .41 to .44, controls .60 to .63: it gave a mean of {found:+.3f}"


def _every_arm_once(answer: Answer, seed: int) -> str | None:
    mdms, control = [[0.5], [0.3, 0.31, 0.29, 0.3], [0.4, 0.4]], [0.6, 0.6, 0.6]
    found = _three(answer, mdms, control)[0]
    if math.isclose(found, -0.2, abs_tol=1e-4):
        return None
    return f"three ARMs at -.1, -.3, -.2 that have one, four and two MDMs: it gave a mean of {found:+.3f}"


def _own_control(answer: Answer, seed: int) -> str | None:
    mdms, control = _overlaps(seed, 5)
    moves = [0.0, 0.1, -0.15, 0.05, -0.2]
    moved = [[value + move for value in row] for row, move in zip(mdms, moves, strict=True)]
    before = _three(answer, mdms, control)
    after = _three(answer, moved, [value + move for value, move in zip(control, moves, strict=True)])
    if all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(before, after, strict=True)):
        return None
    width = [each[2] - each[1] for each in (before, after)]
    return (
        f"the same move in an ARM's MDMs and its control: the interval goes from {width[0]:.3f} to {width[1]:.3f} wide"
    )


def _more_mdms(answer: Answer, seed: int) -> str | None:
    mdms, control = _overlaps(seed, 4)
    once, often = _three(answer, mdms, control), _three(answer, [row * 6 for row in mdms], control)
    if math.isclose(once[2] - once[1], often[2] - often[1], rel_tol=1e-3):
        return None
    return (
        f"each MDM written down six times: the interval goes from {once[2] - once[1]:.3f} to {often[2] - often[1]:.3f}"
    )


def _student(answer: Answer, seed: int) -> str | None:
    for n in (3, 5, 8):
        given = _overlaps(seed + n, n)
        found, (mean, error) = _three(answer, *given), _expected(*given)
        ends = mean - T_975[n - 2] * error, mean + T_975[n - 2] * error
        if max(abs(found[1] - ends[0]), abs(found[2] - ends[1])) > 0.005 * T_975[n - 2] * error:
            half = (found[2] - found[1]) / 2
            return f"{n} ARMs: it reaches {half / error:.2f} standard errors to each side, t has {T_975[n - 2]}"
    return None


SHIFT_OVER_ARMS = Exercise(
    lesson="10",
    task="how much less the MDMs share with their ARM than the control does, with an interval over ARMs",
    minutes=12,
    difficulty=2,
    reference=answers.shift_over_arms,
    properties=(
        Property("it gives a mean between two ends", _three_numbers, "Return three numbers: mean, low, high."),
        Property(
            "it is MDM minus control", _sign,
            "Below 0 if the MDMs share less with the ARM than the control does.",
        ),
        Property(
            "every ARM counts once", _every_arm_once,
            "Take the mean over the MDMs of an ARM first, then the difference, then the mean over ARMs.",
        ),
        Property(
            "every ARM is held against its own control", _own_control,
            "Subtract within each ARM. That some ARMs share more with everybody does not matter then.",
        ),
        Property(
            "more MDMs of one ARM are no more ARMs", _more_mdms,
            "n is the number of ARMs. Two MDMs of one ARM are not independent of each other.",
        ),
        Property(
            "it is Student's interval over ARMs", _student,
            "T_975[n - 2] standard errors to each side: spread (with n - 1 under the root) over sqrt(n).",
        ),
    ),
    hints=(
        "First make one number of each ARM: by how much do its MDMs, on average, differ from its control?",
        "Of these n numbers take the mean and the standard deviation (with n - 1); the error is spread / sqrt(n).",
        "mean - T_975[n - 2] * error and mean + T_975[n - 2] * error",
    ),
)  # fmt: skip


# --- faithfulness_in_host


def _host(full: float, empty: float, circuit: float, seed: int, scatter: float = 0.5) -> Callable[[str], Tensor]:
    """A model whose metric has these means over 32 prompts."""
    noise = torch.randn(32, generator=generator(seed))
    noise = scatter * (noise - noise.mean())
    means = {"all": full, "none": empty, "circuit": circuit}
    return lambda edges: means[edges] + noise * {"all": 1, "none": -0.5, "circuit": 0.3}[edges]


def _share(
    answer: Answer, full: float, empty: float, circuit: float, expected: float, seed: int, scatter: float = 0.5
) -> str | None:
    found = float(answer(_host(full, empty, circuit, seed, scatter), "circuit", "all", "none"))
    if math.isclose(found, expected, abs_tol=1e-3):
        return None
    told = f"m(all) {full:g}, m(none) {empty:g}, m(circuit) {circuit:g}"
    return f"{told}: it gave {found:.3g}, expected was {expected:.3g}"


def _ends(answer: Answer, seed: int) -> str | None:
    full = 8.0 + seed % 5
    return _share(answer, full, 0.0, full, 1.0, seed, 0.0) or _share(answer, full, 0.0, 0.0, 0.0, seed, 0.0)


def _zero_point(answer: Answer, seed: int) -> str | None:
    move = 1.0 + seed % 7
    return _share(answer, 10 + move, move, 6 + move, 0.6, seed, 0.0) or _share(answer, 4.0, -16.0, 0.0, 0.8, seed, 0.0)


def _ratio_of_means(answer: Answer, seed: int) -> str | None:
    full, circuit = torch.tensor([0.01, 20.0, 10.0, 9.97]), torch.tensor([-4.0, 18.0, 9.0, 5.0])
    metric = {"all": full, "none": torch.zeros(4), "circuit": circuit}.__getitem__
    found, expected = float(answer(metric, "circuit", "all", "none")), float(circuit.mean() / full.mean())
    if math.isclose(found, expected, rel_tol=1e-3):
        return None
    return f"four prompts, the first of which has next to no effect: it gave {found:.4g}, expected was {expected:.4g}"


def _not_cut(answer: Answer, seed: int) -> str | None:
    return _share(answer, 10.0, 0.0, 12.5, 1.25, seed) or _share(answer, 10.0, 0.0, -3.0, -0.3, seed)


def _no_effect(answer: Answer, seed: int) -> str | None:
    for effect in (0.03, -0.03):
        found = float(answer(_host(1 + effect, 1.0, 1.2, seed, 0.0), "circuit", "all", "none"))
        if not math.isnan(found):
            return f"m(all) - m(none) is {effect:+.2f} logits: it gave {found:.3g}"
    return None


def _small_effect(answer: Answer, seed: int) -> str | None:
    return _share(answer, 1.2, 1.0, 1.1, 0.5, seed, 0.0) or _share(answer, -0.4, 0.0, -0.1, 0.25, seed, 0.0)


def _effects_that_cancel(answer: Answer, seed: int) -> str | None:
    full = torch.tensor([5.0, -5.0, 4.0, -4.0])
    metric = {"all": full, "none": torch.zeros(4), "circuit": torch.ones(4)}.__getitem__
    found = float(answer(metric, "circuit", "all", "none"))
    if math.isnan(found):
        return None
    return f"four prompts with effects of +5, -5, +4, -4: the effect is 0 on average, and it gave {found:.3g}"


def _negative_effect(answer: Answer, seed: int) -> str | None:
    return _share(answer, -6.0 - seed % 3, 0.0, -3.0 - (seed % 3) / 2, 0.5, seed)


FAITHFULNESS_IN_HOST = Exercise(
    lesson="10",
    task="the faithfulness of a circuit in a model that it was not found in",
    minutes=8,
    optional=True,
    difficulty=1,
    reference=answers.faithfulness_in_host,
    properties=(
        Property("all edges give 1, none give 0", _ends, "(m(circuit) - m(none)) / (m(all) - m(none))."),
        Property(
            "0 is what the host does without edges", _zero_point,
            "With no edges the metric is that of the corrupted prompt, and not 0: subtract it above and below.",
        ),
        Property(
            "means are taken first", _ratio_of_means,
            "A prompt with next to no effect would give a share of anything. Divide means, not single prompts.",
        ),
        Property("it is not cut off at 0 and 1", _not_cut, "A circuit can overshoot, or work against the answer."),
        Property(
            "without an effect there is no share", _no_effect,
            "If |m(all) - m(none)| is below 0.1 logits, there is nothing to take a share of: math.nan.",
        ),
        Property(
            "an effect can be negative", _negative_effect,
            "Ask for abs(effect) < 0.1: a model that is sure of the wrong answer has an effect too.",
        ),
        Property(
            "a small effect is one", _small_effect,
            "Only below 0.1 logits in size is there nothing to take a share of.",
        ),
        Property(
            "effects that cancel are no effect", _effects_that_cancel,
            "The size of the mean effect counts, not the mean of sizes: abs() comes after mean().",
        ),
    ),
    hints=(
        "All three runs are made in the host: metric(circuit), metric(full), metric(empty). One number of each.",
        "effect = float(metric(full).mean() - metric(empty).mean()); if abs(effect) < 0.1, return math.nan.",
        "float(metric(circuit).mean() - metric(empty).mean()) / effect",
    ),
)  # fmt: skip

EXERCISES = (CHANCE_JACCARD, CEILING_OF_HALVES, SHIFT_OVER_ARMS, CONTROL_PAIRS, FAITHFULNESS_IN_HOST)
