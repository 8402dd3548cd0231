"""What a training step costs and teaches: what has to be true of the answer of lesson 05."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson05 as answers
from mdmcourse.exercises.checks.tools import shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property


def _maskable(seed: int) -> Tensor:
    maskable = torch.rand(4, 9, generator=torch.Generator().manual_seed(seed)) < 0.4
    maskable[:, 0], maskable[:, 8] = False, True
    return maskable


def _pair(answer: Answer, maskable: Tensor, parameters: int, t_min: float) -> tuple[float, float]:
    flops, learnt = answer(maskable.clone(), parameters, t_min)
    return float(flops), float(learnt)


def _two_numbers(answer: Answer, seed: int) -> str | None:
    found: Any = answer(_maskable(seed), 1000, 0.05)
    if not isinstance(found, tuple | list) or len(found) != 2:
        return f"it gave {shape_of(found) if isinstance(found, Tensor) else type(found).__name__}, not two numbers"
    if any(isinstance(each, Tensor) and each.numel() != 1 for each in found):
        return f"one of the two is {next(shape_of(each) for each in found if isinstance(each, Tensor))}"
    return None


def _in_this_order(answer: Answer, seed: int) -> str | None:
    flops, learnt = _pair(answer, _maskable(seed), 1000, 0.05)
    if learnt > max(36, flops):  # of 36 positions nobody learns more than 36 predictions
        return f"with 1000 parameters and 4 x 9 positions it gave {flops:.4g} FLOPs and {learnt:.4g} predictions"
    return None


def _every_position(answer: Answer, seed: int) -> str | None:
    few, all_of_them = _maskable(seed), torch.ones(4, 9, dtype=torch.bool)
    one, two = _pair(answer, few, 1000, 0.05)[0], _pair(answer, all_of_them, 1000, 0.05)[0]
    if one == two == _pair(answer, few, 1000, 0.9)[0]:
        return None
    return f"4 x 9 positions cost {one:.4g} FLOPs if {int(few.sum())} of them are maskable, {two:.4g} if all 36 are"


def _whole_batch(answer: Answer, seed: int) -> str | None:
    found = _pair(answer, _maskable(seed), 1000 + seed, 0.05)[0] / (6 * (1000 + seed))
    for count, what in ((4, "4, the number of texts"), (9, "9, the length of a text"), (1, "a single one")):
        if abs(found - count) < 1e-6:
            return f"4 x 9 positions cost 6 times the parameters, times {what}"
    return None


def _six(answer: Answer, seed: int) -> str | None:
    found = _pair(answer, _maskable(seed), 1000 + seed, 0.05)[0]
    expected = 6 * (1000 + seed) * 36
    if abs(found - expected) <= 1e-6 * expected:
        return None
    return f"with {1000 + seed} parameters and 4 x 9 positions it gave {found:.6g} FLOPs, expected was {expected}"


def _mean_of_t(answer: Answer, seed: int) -> str | None:
    """Is it right from t = 0 on, and wrong from a higher t_min on?"""
    maskable = _maskable(seed)
    from_zero, higher = (_pair(answer, maskable, 1000, t_min)[1] / maskable.sum().item() for t_min in (0.0, 0.4))
    if abs(from_zero - 0.5) < 1e-4 and abs(higher - 0.7) > 1e-4:
        return f"with t_min = 0.4 the share that is masked on average was {higher:.4g}, with t_min = 0 it was 0.5"
    return None


def _all_at_one(answer: Answer, seed: int) -> str | None:
    maskable = _maskable(seed)
    found, expected = _pair(answer, maskable, 1000, 1.0)[1], int(maskable.sum())
    if abs(found - expected) < 1e-4 * expected:
        return None
    return f"with t_min = 1 everything maskable is masked, {expected} tokens; it gave {found:.4g}"


def _on_average(answer: Answer, seed: int) -> str | None:
    maskable = _maskable(seed)
    for t_min in (0.0, 0.05, 0.4):
        expected = maskable.sum().item() * (1 + t_min) / 2
        found = _pair(answer, maskable, 1000, t_min)[1]
        if abs(found - expected) > 1e-4 * expected:
            return (
                f"t_min = {t_min}: of {int(maskable.sum())}, {expected:.4g} are masked on average; it gave {found:.4g}"
            )
    return None


STEP_COST = Exercise(
    lesson="05",
    task="what a training step costs, and from how many predictions it learns",
    minutes=12,
    difficulty=2,
    reference=answers.step_cost,
    properties=(
        Property("it gives two numbers", _two_numbers, "return flops, learnt. Both are of the whole batch."),
        Property(
            "first the FLOPs, then the predictions", _in_this_order,
            "The two are swapped: return flops, learnt.",
        ),
        Property(
            "every position costs, maskable or not", _every_position,
            "The decoder computes prompts, padding and what is not masked just as it computes masks: maskable.numel().",
        ),
        Property(
            "positions are those of the whole batch", _whole_batch,
            "The 6 is right, the number of positions is not: the batch has texts times positions, maskable.numel().",
        ),
        Property(
            "a parameter and position cost 6", _six,
            "2 forward and 4 backward: one multiplication and one addition each for the output, the inputs' gradient "
            "and the weights' gradient.",
        ),
        Property(
            "the mean of t begins at t_min", _mean_of_t,
            "The number of maskable tokens is right, the mean of t is not: t is uniform between t_min and 1, so its "
            "mean is halfway between these two.",
        ),
        Property(
            "at t = 1 every maskable token is learnt from", _all_at_one,
            "Count the maskable tokens of the whole batch: maskable.sum(), a sum and not a mean.",
        ),
        Property(
            "below, the share that is masked on average", _on_average,
            "A maskable token is masked with probability t, and t is uniform on [t_min, 1]. What is the mean of t?",
        ),
    ),
    hints=(
        "The cost does not ask what is masked. What is learnt from does: only masked positions have a loss.",
        "Cost: 6 times parameters times the number of positions. Learnt: the maskable tokens times the mean of t.",
        "The mean of a number that is uniform on [t_min, 1] is (t_min + 1) / 2.",
    ),
)  # fmt: skip
