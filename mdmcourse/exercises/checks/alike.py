"""What has to be true of measures of likeness that few tokens could dominate (lesson 12)."""

from __future__ import annotations

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson12 as answers
from mdmcourse.exercises.checks.tools import differs, generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property
from mdmcourse.lens import linear_cka


def _cloud(seed: int, tokens: int = 40, d: int = 6) -> Tensor:
    return torch.randn(tokens, d, generator=generator(seed))


# --- shares_of_tokens


def _one_each(answer: Answer, seed: int) -> str | None:
    found = answer(_cloud(seed))
    return None if isinstance(found, Tensor) and found.shape == (40,) else f"for 40 tokens it gave {shape_of(found)}"


def _sum_to_one(answer: Answer, seed: int) -> str | None:
    return differs(answer(_cloud(seed)).sum(), torch.tensor(1.0), "added up,")


def _centred(answer: Answer, seed: int) -> str | None:
    x = _cloud(seed)
    far = 50 * numbers(6, seed=seed + 1, low=0.5)
    return differs(answer(x + far), answer(x.clone()), "with the same vector added to all tokens", 1e-3)


def _by_hand(answer: Answer, seed: int) -> str | None:
    """Two tokens as far to one side as to the other, two in the middle."""
    size = 1.0 + seed % 5
    x = torch.tensor([[size, 0.0], [-size, 0.0], [0.0, 0.0], [0.0, 0.0]])
    return differs(answer(x), torch.tensor([0.5, 0.5, 0.0, 0.0]), f"for tokens at {size:g}, -{size:g}, 0 and 0")


def _squared(answer: Answer, seed: int) -> str | None:
    x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) * (1 + seed % 3)
    return differs(answer(x), torch.tensor([0.45, 0.45, 0.05, 0.05]), "for tokens at distances 3, 3, 1 and 1")


SHARES_OF_TOKENS = Exercise(
    lesson="12",
    task="how much of the variance of a representation each token makes up",
    minutes=8,
    difficulty=1,
    reference=answers.shares_of_tokens,
    properties=(
        Property("one number for each token", _one_each, "Sum over the dimensions, dim=1: one number a token is left."),
        Property("the shares add up to 1", _sum_to_one, "Divide by the sum over all tokens."),
        Property(
            "a vector added to all tokens changes nothing", _centred,
            "Variance is about the mean: subtract x.mean(dim=0), the mean of each dimension, first.",
        ),
        Property(
            "distances count squared", _squared,
            "Variance is a mean of squares: square the distance of a token from the mean.",
        ),
        Property("a case by hand", _by_hand, "The squared distance from the mean, divided by the sum of all."),
    ),
    hints=(
        "Centre first: c = x - x.mean(dim=0).",
        "The variance is the sum of all squares in c. How much of it lies in row i?",
        "squares = c.square().sum(dim=1); then divide by squares.sum().",
    ),
)  # fmt: skip


# --- cka_without_giants


def _one_number(answer: Answer, seed: int) -> str | None:
    found = answer(_cloud(seed), _cloud(seed + 1), 10.0)
    if isinstance(found, float) or (isinstance(found, Tensor) and found.numel() == 1):
        return None
    return f"it gave {shape_of(found)}"


def _same(answer: Answer, x: Tensor, y: Tensor, times: float, expected: float, given: str) -> str | None:
    return differs(torch.as_tensor(answer(x.clone(), y.clone(), times)).float(), torch.tensor(expected), given, 1e-3)


def _none(answer: Answer, seed: int) -> str | None:
    x, y = _cloud(seed), _cloud(seed) + _cloud(seed + 1)
    return _same(answer, x, y, 1000.0, linear_cka(x, y), "where no token is a giant")


def _both_ways(seed: int) -> tuple[Tensor, Tensor, float]:
    """Two alike but for a giant in each, at different tokens."""
    x, y = _cloud(seed), _cloud(seed) + 0.3 * _cloud(seed + 1)
    without = linear_cka(x[2:], y[2:])
    x[0] *= 500 / x[0].norm()
    y[1] *= 500 / y[1].norm()
    return x, y, without


def _either(answer: Answer, seed: int) -> str | None:
    x, y, without = _both_ways(seed)
    return _same(answer, x, y, 10.0, without, "with a giant in each, at different tokens")


def _shared(answer: Answer, seed: int) -> str | None:
    """Nothing alike but one giant."""
    x, y = _cloud(seed), _cloud(seed + 1)
    without = linear_cka(x[1:], y[1:])
    x[0], y[0] = 500.0, 500.0
    return _same(answer, x, y, 10.0, without, "with a giant at the same token of two that have nothing in common")


def _own_median(answer: Answer, seed: int) -> str | None:
    """One model may be larger throughout."""
    x, y, without = _both_ways(seed)
    return _same(answer, x, 70 * y, 10.0, without, "where one model's vectors are all 70 times as long")


def _of_the_median(answer: Answer, seed: int) -> str | None:
    """Many giants move a mean."""
    x, y = _cloud(seed), _cloud(seed) + 0.3 * _cloud(seed + 1)
    without = linear_cka(x[12:], y[12:])
    x[:12] *= 100 / x[:12].norm(dim=1, keepdim=True)
    lengths = x.norm(dim=1)
    if float(lengths.max()) > 3.5 * float(lengths.mean()):  # then the case would show nothing
        return None
    return _same(answer, x, y, 10.0, without, "with twelve giants among 40 tokens")


def _left_alone(answer: Answer, seed: int) -> str | None:
    x, y, _ = _both_ways(seed)
    kept = x.clone(), y.clone()
    answer(x, y, 10.0)
    return None if torch.equal(x, kept[0]) and torch.equal(y, kept[1]) else "x or y was changed"


CKA_WITHOUT_GIANTS = Exercise(
    lesson="12",
    task="compare two representations without the tokens that would decide alone",
    minutes=12,
    difficulty=3,
    reference=answers.cka_without_giants,
    properties=(
        Property("it gives one number", _one_number, "Return linear_cka of the tokens that are left."),
        Property(
            "without giants it is the CKA", _none, "Where no token is left out it is linear_cka(x, y), nothing else."
        ),
        Property(
            "a giant in either is left out of both", _either,
            "Rows are the same tokens: whoever leaves in one leaves in the other. keep_x & keep_y.",
        ),
        Property("a giant in both is left out too", _shared, "A giant at the same token makes any two models alike."),
        Property(
            "each model has a median of its own", _own_median,
            "Hold a token against the median length *in that model*: its vectors may all be longer.",
        ),
        Property(
            "lengths are held against the median, not the mean", _of_the_median,
            "A mean is moved by the giants themselves. And the limit is times * median.",
        ),
        Property("nothing is changed in place", _left_alone, "Choose rows, x[keep]; do not overwrite them."),
    ),
    hints=(
        "The length of a token is x.norm(dim=1). Which ones are at most times * length.median()?",
        "Do it for x and for y, and keep the tokens that pass in both: keep = keep_x & keep_y.",
        "return linear_cka(x[keep], y[keep])",
    ),
)  # fmt: skip
