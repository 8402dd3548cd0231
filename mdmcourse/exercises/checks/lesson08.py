"""Causal interventions: what has to be true of the answers."""

from __future__ import annotations

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson08 as answers
from mdmcourse.exercises.checks.deciding_runs import DECIDING_RUNS
from mdmcourse.exercises.checks.patched_runs import NORMALISED_EFFECT, WITH_PATCH
from mdmcourse.exercises.checks.tools import differs, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- linear_effect


def _tensors(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """gradient, here, there: three prompts, four positions, five features."""
    return (
        numbers(3, 4, 5, seed=seed, low=-1.0),
        numbers(3, 4, 5, seed=seed + 1, low=-1.0),
        numbers(3, 4, 5, seed=seed + 2, low=-1.0),
    )


def _linear_tensor(answer: Answer, seed: int) -> str | None:
    found = answer(*(each.clone() for each in _tensors(seed)))
    return None if isinstance(found, Tensor) else f"it gave {shape_of(found)}"


def _of_each_position(answer: Answer, seed: int) -> str | None:
    found = answer(*_tensors(seed))
    if isinstance(found, Tensor) and found.shape == (3, 4):
        return None
    return f"for three prompts of four positions it gave {shape_of(found)}"


def _nothing_moves(answer: Answer, seed: int) -> str | None:
    gradient, here, _ = _tensors(seed)
    return differs(answer(gradient, here, here.clone()), torch.zeros(3, 4), "with `there` equal to `here`")


def _upwards(answer: Answer, seed: int) -> str | None:
    here = numbers(3, 4, 5, seed=seed)
    found = answer(torch.ones(3, 4, 5), here, here + 1)
    return None if bool((found > 0).all()) else "a step along the gradient was said to lower the metric"


def _downwards(answer: Answer, seed: int) -> str | None:
    here = numbers(3, 4, 5, seed=seed)
    found = answer(torch.ones(3, 4, 5), here, here - 1)
    return None if bool((found < 0).all()) else "a step against the gradient was not said to lower the metric"


def _linear_metric(answer: Answer, seed: int) -> str | None:
    gradient, here, there = _tensors(seed)
    truth = (gradient * there).sum(dim=2) - (gradient * here).sum(dim=2)
    return differs(answer(gradient, here, there), truth, "for a metric that *is* linear")


def _leaves_arguments(answer: Answer, seed: int) -> str | None:
    given = _tensors(seed)
    answer(*given)
    names = ("gradient", "here", "there")
    changed = [
        name for name, one, other in zip(names, given, _tensors(seed), strict=True) if not torch.equal(one, other)
    ]
    return f"afterwards `{changed[0]}` held other numbers" if changed else None


LINEAR_EFFECT = Exercise(
    lesson="08",
    task="the effect of a patch to first order: gradient times difference",
    minutes=6,
    difficulty=1,
    reference=answers.linear_effect,
    properties=(
        Property(
            "it gives a tensor", _linear_tensor,
            "The lesson goes on with a torch tensor: stay in torch, without .numpy() and .tolist().",
        ),
        Property(
            "it is one number for each prompt and position", _of_each_position, "Sum over features only, the last axis."
        ),
        Property(
            "if nothing moves, nothing changes", _nothing_moves,
            "The gradient is multiplied with the difference, not with an activation.",
        ),
        Property(
            "along the gradient the metric rises", _upwards,
            "The difference is where it goes minus where it was: there - here.",
        ),
        Property("against the gradient it falls", _downwards, "The sign is a result. No absolute values, no norms."),
        Property(
            "for a linear metric it is exact", _linear_metric,
            "A sum over features, not a mean; every feature with its own partial derivative.",
        ),
        Property(
            "what it was given is not overwritten", _leaves_arguments,
            "there -= here changes the caller's tensor, which later cells use again: write there - here.",
        ),
    ),
    hints=(
        "The first term of Taylor's series: the gradient at `here`, times the step.",
        "The step is there - here, of the same shape as the gradient: multiply entry by entry.",
        "Then sum over the last axis: (gradient * (there - here)).sum(dim=-1).",
    ),
)  # fmt: skip


# --- averaged_effect


def _ends(seed: int) -> tuple[Tensor, Tensor]:
    return numbers(3, 4, 5, seed=seed, low=-1.0), numbers(3, 4, 5, seed=seed + 1, low=-1.0)


def _linear(weights: Tensor) -> object:
    return lambda x: (weights * x).sum(dim=(1, 2))


def _bend(x: Tensor) -> Tensor:
    """Bent, but no sharper than fifty points can see; each position adds a part of its own."""
    return torch.tanh(1.5 * x) + 0.5 * x.square()


def _curved(x: Tensor) -> Tensor:
    return _bend(x).sum(dim=(1, 2))


def _has_a_gradient(answer: Answer, seed: int) -> str | None:
    try:
        found = answer(_curved, *_ends(seed), 5)
    except RuntimeError as error:
        if "does not require grad" in str(error):
            return "torch.autograd.grad found nothing that asks for a gradient"
        if "not have been used" in str(error):
            return "torch.autograd.grad was asked for the gradient at a tensor that the metric never saw"
        raise
    return None if isinstance(found, Tensor) else f"it gave {shape_of(found)}"


def _share_of_each_position(answer: Answer, seed: int) -> str | None:
    found = answer(_curved, *_ends(seed), 5)
    if isinstance(found, Tensor) and found.shape == (3, 4):
        return None
    return f"for three prompts of four positions it gave {shape_of(found)}"


def _right_for_linear(answer: Answer, seed: int) -> str | None:
    start, end = _ends(seed)
    weights = numbers(3, 4, 5, seed=seed + 2, low=-1.0)
    truth = (weights * (end - start)).sum(dim=2)
    return differs(answer(_linear(weights), start, end, 4), truth, "for a linear metric and 4 points", 1e-3)


def _any_number_of_points(answer: Answer, seed: int) -> str | None:
    start, end = _ends(seed)
    weights = numbers(3, 4, 5, seed=seed + 2, low=-1.0)
    few, many = (answer(_linear(weights), start, end, steps) for steps in (4, 12))
    return differs(many, few, "for a linear metric, with 12 points instead of 4,", 1e-3)


def _complete(answer: Answer, seed: int) -> str | None:
    """The tolerance lets a sum over left or right ends pass."""
    start, end = _ends(seed)
    found = answer(_curved, start, end, 60).sum(dim=1)
    truth = _curved(end) - _curved(start)
    return differs(found, truth, "with 60 points, the sum over positions against metric(end) - metric(start):", 0.25)


def _each_its_own(answer: Answer, seed: int) -> str | None:
    start, end = _ends(seed)
    truth = (_bend(end) - _bend(start)).sum(dim=2)
    return differs(answer(_curved, start, end, 60), truth, "for a metric that adds up over positions,", 0.12)


def _on_the_way(answer: Answer, seed: int) -> str | None:
    start, end = _ends(seed)
    places: list[float] = []

    def watched(x: Tensor) -> Tensor:
        places.append(float(((x.detach() - start) * (end - start)).sum() / (end - start).square().sum()))
        return _curved(x)

    answer(watched, start.clone(), end.clone(), 10)
    if len(places) < 10:
        return f"the metric was computed {len(places)} times for 10 points"
    if min(places) < -1e-3 or max(places) > 1.001:
        return f"points lay from {min(places):.2f} to {max(places):.2f} of the way"
    return None


def _leaves_ends(answer: Answer, seed: int) -> str | None:
    start, end = _ends(seed)
    copies = start.clone(), end.clone()
    answer(_curved, start, end, 3)
    if start.requires_grad or end.requires_grad:
        return "`start` or `end` asks for gradients now"
    return None if torch.equal(start, copies[0]) and torch.equal(end, copies[1]) else "`start` or `end` was changed"


AVERAGED_EFFECT = Exercise(
    lesson="08",
    task="the mean gradient on the straight way between two activations, times the way",
    minutes=15,
    difficulty=3,
    reference=answers.averaged_effect,
    properties=(
        Property(
            "it is a tensor, from a gradient at the point that the metric is given", _has_a_gradient,
            "A point asks for its gradient before the metric sees it: point = (start + ...).detach().requires_grad_(), "
            "then metric(point). And the result is a tensor, not an array or a list.",
        ),
        Property(
            "it is one number for each prompt and position", _share_of_each_position,
            "Sum over features only. metric(end) - metric(start) is the total, and does not say where it comes from.",
        ),
        Property(
            "every point lies on the way, and each is used", _on_the_way,
            "The points are start + alpha (end - start), with `steps` values of alpha spread over 0 to 1.",
        ),
        Property(
            "more points give no larger result", _any_number_of_points,
            "It is the *mean* gradient: divide the sum by the number of points.",
        ),
        Property(
            "for a linear metric it is exact", _right_for_linear,
            "The mean gradient times (end - start). metric(x).sum() gives every prompt its own gradient.",
        ),
        Property(
            "the shares add up to the whole", _complete,
            "Are the points spread evenly over the way, and the gradients taken there?",
        ),
        Property(
            "each position has its own share", _each_its_own,
            "Multiply before you sum: every feature's mean gradient with that feature's difference.",
        ),
        Property(
            "`start` and `end` are left as they were", _leaves_ends,
            "requires_grad_() and += change what the caller gave: begin with (start + ...).detach().requires_grad_().",
        ),
    ),
    hints=(
        "A loop over alpha = (k + 0.5) / steps, k = 0 ... steps - 1: a point on the way, the gradient there.",
        "point = (start + alpha * (end - start)).detach().requires_grad_(), then "
        "torch.autograd.grad(metric(point).sum(), point)[0].",
        "Add up the gradients, divide by steps, and give that to linear_effect(mean_gradient, start, end).",
    ),
)  # fmt: skip

EXERCISES = (WITH_PATCH, NORMALISED_EFFECT, DECIDING_RUNS, LINEAR_EFFECT, AVERAGED_EFFECT)
