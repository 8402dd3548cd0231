"""Neurons of two models, and edges that it takes: what has to be true of the answers (lesson 11)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson11 as answers
from mdmcourse.exercises.checks.tools import generator, numbers
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- there_and_back


def _both(answer: Answer, one: Tensor, two: Tensor, k: int) -> tuple[float, float]:
    found = answer(one.clone(), two.clone(), k)
    return float(found[0]), float(found[1])


def _close(found: tuple[float, float], expected: tuple[float | int, float | int], given: str) -> str | None:
    if all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(found, expected, strict=True)):
        return None
    told = [f"({a:+.3f}, {b:+.3f})" for a, b in (found, expected)]
    return f"{given} it gave {told[0]}, expected was {told[1]}"


def _same(answer: Answer, seed: int) -> str | None:
    one = numbers(40, seed=seed)
    return _close(_both(answer, one, one, 5), (0, 0), "of two models that are alike")


def _duller(answer: Answer, seed: int) -> str | None:
    """All neurons lose a tenth: there it looks blunter, back it looks sharper."""
    one = numbers(40, seed=seed, low=0.2)
    return _close(_both(answer, one, one - 0.1, 5), (0.1, -0.1), "where every neuron is blunter by 0.1 in the second")


def _chooses_anew(answer: Answer, seed: int) -> str | None:
    """Other neurons are choosy in the two: each model's look blunter in the other."""
    one, two = torch.full((20,), 0.2), torch.full((20,), 0.2)
    order = torch.randperm(20, generator=generator(seed))
    one[order[:3]], two[order[3:6]] = 0.9, 0.8
    return _close(_both(answer, one, two, 3), (0.7, 0.6), "where each model has three choosy neurons of its own")


def _k_only(answer: Answer, seed: int) -> str | None:
    one = torch.arange(10, dtype=torch.float32) / 10
    order = torch.randperm(10, generator=generator(seed))
    two = torch.where(one > 0.75, 0.5, one)
    return _close(
        _both(answer, one[order], two[order], 2), (0.35, 0),
        "of 0, .1, ... .9, where .8 and .9 are .5 in the second, with k = 2",
    )  # fmt: skip


def _dead(answer: Answer, seed: int) -> str | None:
    one, two = numbers(30, seed=seed, high=0.5), numbers(30, seed=seed + 1, high=0.5)
    one[3], two[3], one[7], two[7] = 0.9, torch.nan, torch.nan, 0.9
    known = torch.ones(30, dtype=torch.bool)
    known[[3, 7]] = False
    expected = answers.there_and_back(one[known], two[known], 4)
    return _close(_both(answer, one, two, 4), expected, "with two neurons that are NaN in one of the models")


THERE_AND_BACK = Exercise(
    lesson="11",
    task="the k choosiest neurons of each model, looked at in the other",
    minutes=12,
    difficulty=2,
    reference=answers.there_and_back,
    properties=(
        Property("of two models that are alike both are 0", _same, "A difference: here minus there."),
        Property(
            "if all neurons become blunter, the first is positive and the second negative", _duller,
            "How much *blunter*: choosiness in the model that they were chosen by, minus that in the other one; with"
            " its sign.",
        ),
        Property(
            "each way has neurons of its own", _chooses_anew,
            "Choose by the one and look in the other; then choose anew, by the other, and look back.",
        ),
        Property("k neurons are chosen, the largest", _k_only, "topk(k).indices; the mean over these k, not over all."),
        Property(
            "neurons that are NaN in either model are left out", _dead,
            "A neuron that nothing moves has no choosiness, and topk takes NaN for the largest of all: look at"
            " isfinite() of both first.",
        ),
    ),
    hints=(
        "Write one direction first: indices of the k largest of `one`, then the mean of one minus two there.",
        "known = one.isfinite() & two.isfinite(); go on with one[known] and two[known].",
        "A loop over ((one, two), (two, one)) does both; (here[top] - there[top]).mean() each.",
    ),
)  # fmt: skip


# --- edges_needed

KS = torch.tensor([10.0, 20.0, 50.0, 100.0, 200.0])


def _needed(answer: Answer, values: list[float], level: float, expected: float | int) -> str | None:
    found = float(answer(KS.clone(), torch.tensor(values), level))
    if math.isclose(found, expected, rel_tol=1e-4):
        return None
    return f"of faithfulness {values} at {KS.int().tolist()} edges, level {level:g}, it gave {found:.4g}, expected was {expected:.4g}"  # fmt: skip  # noqa: E501


def _between(answer: Answer, seed: int) -> str | None:
    return _needed(answer, [0.1, 0.3, 0.7, 0.95, 1.0], 0.9, 90) or _needed(answer, [0.1, 0.5, 0.7, 0.9, 1.0], 0.6, 35)


def _at_the_start(answer: Answer, seed: int) -> str | None:
    return _needed(answer, [0.95, 0.97, 0.98, 0.99, 1.0], 0.9, 10)


def _stays(answer: Answer, seed: int) -> str | None:
    return _needed(answer, [0.2, 1.2, 0.6, 0.8, 1.0], 0.9, 150)


def _over_the_end(answer: Answer, seed: int) -> str | None:
    return _needed(answer, [0.1, 0.3, 0.92, 0.7, 0.8], 0.9, math.inf)


def _level_asked_for(answer: Answer, seed: int) -> str | None:
    for level, expected in ((0.5, 50), (0.7, 250 / 3), (1.0, 200)):
        if seen := _needed(answer, [0.0, 0.2, 0.5, 0.8, 1.0], level, expected):
            return seen
    return None


EDGES_NEEDED = Exercise(
    lesson="11",
    task="how many edges it takes for a circuit to do the work",
    minutes=12,
    optional=True,
    difficulty=2,
    reference=answers.edges_needed,
    properties=(
        Property(
            "between two sizes it lies on a straight line", _between,
            "The size at which the line between the last point below and the next one crosses the level.",
        ),
        Property(
            "the level is the one that was given", _level_asked_for, "Use `level`, and count reaching it as enough."
        ),
        Property(
            "if even the smallest circuit is enough, it is the smallest", _at_the_start,
            "There is no point below the level then: return ks[0].",
        ),
        Property(
            "a circuit that overshoots and falls back has not arrived", _stays,
            "Look for the *last* size that is below the level, not for the first above it: faithfulness need not rise"
            " all the way.",
        ),
        Property(
            "if the largest is not enough, it is infinity", _over_the_end, 'Return float("inf"): nobody knows how many.'
        ),
    ),
    hints=(
        "Find the last size whose faithfulness is below the level. What has to be returned lies between it and the"
        " next.",
        "(faithfulness < level).nonzero() lists them; it can be empty, and the last can be the last size of all.",
        "share = (level - f[i]) / (f[i + 1] - f[i]), and then ks[i] + share * (ks[i + 1] - ks[i]).",
    ),
)  # fmt: skip
