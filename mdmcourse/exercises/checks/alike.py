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


def _same_everywhere(answer: Answer, seed: int) -> str | None:
    x = _cloud(seed)
    return differs(answer(x + 30.0 + seed % 9), answer(x.clone()), "with the same number added everywhere", 1e-3)


def _left_as_it_was(answer: Answer, seed: int) -> str | None:
    x = _cloud(seed) + 3.0
    kept = x.clone()
    answer(x)
    return None if torch.equal(x, kept) else "x was changed"


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
            "a number added everywhere changes nothing", _same_everywhere,
            "Variance is about the mean: subtract it first.",
        ),
        Property(
            "a vector added to all tokens changes nothing", _centred,
            "Each dimension has a mean of its own, over the tokens: x.mean(dim=0). It is neither one mean of all "
            "numbers nor a mean within each token, dim=1.",
        ),
        Property(
            "distances count squared", _squared,
            "Variance is a mean of squares: square the distance of a token from the mean.",
        ),
        Property("a case by hand", _by_hand, "The squared distance from the mean, divided by the sum of all."),
        Property("x is not changed", _left_as_it_was, "c = x - x.mean(dim=0) is new; x -= ... writes into x."),
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


def _not_overwritten(answer: Answer, seed: int) -> str | None:
    """Rows of zeros are tokens too: far from the others, if these are far from zero. Told only if it is that."""
    x, y, _ = _both_ways(seed)
    x, y = x + 4.0, y + 4.0
    for each in (x, y):
        each[0], each[1] = 0.0, 0.0
    zeroed = linear_cka(x, y)
    x[0], y[1] = 500.0, 500.0
    found = float(answer(x.clone(), y.clone(), 10.0))
    if abs(found - zeroed) > 1e-3 or abs(zeroed - linear_cka(x[2:], y[2:])) < 0.01:
        return None
    return f"it gave {found:.3f}, what linear_cka gives with zeros in the place of the giants"


def _limit(answer: Answer, seed: int) -> str | None:
    """A token of four medians is a giant at three, and none at five."""
    x, y = _cloud(seed), _cloud(seed) + 0.3 * _cloud(seed + 1)
    x *= (1 + 0.1 * numbers(40, 1, seed=seed + 2)) / x.norm(dim=1, keepdim=True)
    y *= (1 + 0.1 * numbers(40, 1, seed=seed + 3)) / y.norm(dim=1, keepdim=True)
    x[0] *= 4.2 / x[0].norm()
    y[1] *= 4.2 / y[1].norm()
    for times, start in ((3.0, 2), (5.0, 0)):
        given = f"with a token of four medians in each, at times={times:g},"
        if seen := _same(answer, x, y, times, linear_cka(x[start:], y[start:]), given):
            return seen
    return None


def _as_they_are(answer: Answer, seed: int) -> str | None:
    """All are far from zero, and one lies on the other side: far from the mean, no longer than the others."""
    x, y = _cloud(seed) + 9.0, _cloud(seed) + 0.3 * _cloud(seed + 1) + 9.0
    x[0], y[1] = -x[0], -y[1]
    return _same(answer, x, y, 3.0, linear_cka(x, y), "with tokens far from the mean that are not longer")


def _just_as_long(answer: Answer, seed: int) -> str | None:
    """Of nine tokens, the one of median length is as long as one median. |x| has the lengths of x."""
    x = _cloud(seed, 9, 3)
    length = x.norm(dim=1)
    keep = length <= length.median()
    return _same(answer, x, x.abs(), 1.0, linear_cka(x[keep], x[keep].abs()), "at times=1, of nine tokens")


def _left_alone(answer: Answer, seed: int) -> str | None:
    x, y, _ = _both_ways(seed)
    kept = x.clone(), y.clone()
    answer(x, y, 10.0)
    return None if torch.equal(x, kept[0]) and torch.equal(y, kept[1]) else "x or y was changed"


CKA_WITHOUT_GIANTS = Exercise(
    lesson="12",
    task="compare two representations without the tokens that would decide alone",
    minutes=12,
    optional=True,
    difficulty=3,
    reference=answers.cka_without_giants,
    properties=(
        Property("it gives one number", _one_number, "Return linear_cka of the tokens that are left."),
        Property(
            "without giants it is the CKA", _none, "Where no token is left out it is linear_cka(x, y), nothing else."
        ),
        Property(
            "lengths are those of the vectors as they are", _as_they_are,
            "The length of a token is x.norm(dim=1), before anything is subtracted.",
        ),
        Property(
            "giants are left out, not overwritten", _not_overwritten,
            "A row of zeros is a token like any other, and may be the farthest of all. Choose rows: x[keep].",
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
        Property(
            "the limit is `times` medians", _limit,
            "Hold the length itself, not its square, against times * median, with the `times` that is given.",
        ),
        Property(
            "a token just as long as the limit stays", _just_as_long,
            "Left out is what is *longer* than the limit: keep length <= times * median.",
        ),
        Property("nothing is changed in place", _left_alone, "Choose rows, x[keep]; do not overwrite them."),
    ),
    hints=(
        "The length of a token is x.norm(dim=1). Which ones are at most times * length.median()?",
        "Do it for x and for y, and keep the tokens that pass in both: keep = keep_x & keep_y.",
        "return linear_cka(x[keep], y[keep])",
    ),
)  # fmt: skip
