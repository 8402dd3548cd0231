"""Masking and the bound: what has to be true of the answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson02 as answers
from mdmcourse.exercises.checks.masking_process import FORWARD_MASK, UNMASK_PROBABILITY
from mdmcourse.exercises.checks.tools import differs, generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- loss_weight


def _linear(answer: Answer, seed: int) -> str | None:
    t = numbers(5, seed=seed, low=0.1, high=0.9)
    return differs(answer(lambda t: 1 - t, t.clone()), 1 / t, f"for alpha = 1 - t at t = {t[0]:.2f}, ...", 2e-3)


def _rounding(answer: Answer, seed: int) -> str | None:
    """Is it right in double precision, and wrong in single?"""
    t = numbers(5, seed=seed, low=0.1, high=0.9)
    wrong = differs(answer(lambda t: 1 - t, t.clone()), 1 / t, f"for alpha = 1 - t at t = {t[0]:.2f}, ...", 2e-3)
    if wrong and differs(answer(lambda t: 1 - t, t.double()), 1 / t.double(), "", 2e-3) is None:
        return f"{wrong}; in double precision it is right"
    return None


def _coarse(answer: Answer, seed: int) -> str | None:
    """Is it nearly right? A quotient with a wide step is."""
    t = torch.tensor([0.2, 0.4, 0.6, 0.8])
    for power in (2, 3, 4):
        found, expected = answer(lambda t, power=power: 1 - t**power, t.clone()), power / t
        wrong = differs(found, expected, f"for alpha = 1 - t^{power} at t = 0.2, 0.4, ...", 5e-3)
        if wrong and differs(found, expected, "", 0.15) is None:
            return f"close, but not close enough: {wrong}"
    return None


def _cosine(answer: Answer, seed: int) -> str | None:
    t = numbers(5, seed=seed, low=0.1, high=0.9)
    angle = math.pi / 2 * (1 - t)
    weight = math.pi / 2 * torch.tan(angle)
    return differs(
        answer(lambda t: 1 - torch.cos(math.pi / 2 * (1 - t)), t.clone()), weight, "for the cosine schedule", 5e-3
    )


def _power(answer: Answer, seed: int) -> str | None:
    t = numbers(5, seed=seed, low=0.2, high=0.9)
    power = 2.0 + seed % 3
    return differs(answer(lambda t: 1 - t**power, t.clone()), power / t, f"for alpha = 1 - t^{power:.0f}", 5e-3)


def _leaves_t(answer: Answer, seed: int) -> str | None:
    t = numbers(5, seed=seed, low=0.2, high=0.9)
    given = t.clone()
    answer(lambda t: 1 - t, given)
    return "t was changed" if given.requires_grad or not torch.equal(given.detach(), t) else None


LOSS_WEIGHT = Exercise(
    lesson="02",
    task="the weight of any schedule, from its slope",
    minutes=12,
    difficulty=2,
    reference=answers.loss_weight,
    properties=(
        Property(
            "it is right in single precision", _rounding,
            "Rounding: with a small h nothing but rounding errors is left of the difference. Take h larger (1e-3), or "
            "compute in double.",
        ),
        Property(
            "it is 1/t for the linear schedule", _linear,
            "- alpha'(t) / (1 - alpha(t)): mind the sign, and what it is divided by.",
        ),
        Property(
            "the slope is exact enough", _coarse,
            "The formula is right, but the difference quotient is coarse. Take h smaller (1e-3), and the difference on "
            "both sides: alpha(t + h) - alpha(t - h).",
        ),
        Property(
            "it is right for alpha = 1 - t^p", _power,
            "1/t is the weight of the linear schedule only. Use the slope of alpha.",
        ),
        Property("it is right for the cosine schedule", _cosine, "Is the slope exact enough, and taken at t?"),
        Property(
            "t is left as it was", _leaves_t,
            "t.requires_grad_() changes the caller's t: begin with t.detach().clone().",
        ),
    ),
    hints=(
        "You need the slope of alpha at t. A difference quotient will do: (alpha(t + h) - alpha(t - h)) / (2 h).",
        "With h = 1e-3 that is exact enough. Or let PyTorch do it: torch.autograd.grad(alpha(t).sum(), t).",
        "Then put it together: minus the slope, divided by 1 - alpha(t).",
    ),
)  # fmt: skip


# --- bound_sample


def _losses(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    losses = numbers(4, 6, seed=seed, low=0.5, high=3.0)
    masked = torch.rand(4, 6, generator=generator(seed + 1)) < 0.5
    masked[:, 0], masked[:, 1] = True, False  # some of each in every sequence
    return losses, masked, numbers(4, seed=seed + 2, low=0.2, high=0.9)


def _one_number_a_sequence(answer: Answer, seed: int) -> str | None:
    losses, masked, t = _losses(seed)
    found = answer(losses, masked, t)
    if isinstance(found, Tensor) and found.shape == (4,):
        return None
    return f"for four sequences it gave {shape_of(found)}"


def _only_masked(answer: Answer, seed: int) -> str | None:
    losses, masked, t = _losses(seed)
    other = torch.where(masked, losses, losses + 7)
    return differs(
        answer(other, masked, t), answer(losses, masked, t), "with other losses at positions that are not masked"
    )


def _sums(answer: Answer, seed: int) -> str | None:
    masked = torch.ones(2, 6, dtype=torch.bool)
    masked[0, 3:] = False
    found = answer(torch.ones(2, 6), masked, torch.ones(2))
    return differs(found, torch.tensor([3.0, 6.0]), "with three and six masks, a loss of 1 each, and t = 1")


def _weighted(answer: Answer, seed: int) -> str | None:
    losses, masked, t = _losses(seed)
    return differs(
        answer(losses, masked, t), torch.where(masked, losses, 0).sum(dim=1) / t, f"with t = {t[0]:.2f}, ..."
    )


def _survives_nan(answer: Answer, seed: int) -> str | None:
    losses, masked, t = _losses(seed)
    expected = torch.where(masked, losses, 0).sum(dim=1) / t
    return differs(
        answer(losses.masked_fill(~masked, torch.nan), masked, t), expected, "with NaN at positions that are not masked"
    )


BOUND_SAMPLE = Exercise(
    lesson="02",
    task="one estimate of the bound, from the losses of one noised batch",
    minutes=8,
    difficulty=1,
    reference=answers.bound_sample,
    properties=(
        Property(
            "it gives one number for each sequence", _one_number_a_sequence,
            "Sum over positions (dim=1), not over the batch.",
        ),
        Property(
            "only masked positions count", _only_masked,
            "A position that is not masked has nothing to predict: leave it out.",
        ),
        Property(
            "losses are summed, not averaged", _sums,
            "A mean over masked positions loses how many there are. The bound is of the whole sequence.",
        ),
        Property("the sum is weighted with 1/t", _weighted, "Divide by t, each sequence by its own."),
        Property(
            "NaN where nothing is predicted does no harm", _survives_nan,
            "0 times NaN is NaN. Choose with torch.where or masked_fill instead of multiplying.",
        ),
    ),
    hints=(
        "Set the losses at positions that are not masked to 0, then add up each sequence.",
        "losses.masked_fill(~masked, 0) does the first, .sum(dim=1) the second.",
        "Divide the sum of sequence n by t[n]; both have shape [batch].",
    ),
)  # fmt: skip


# --- bound_by_count


def _one_token(answer: Answer, seed: int) -> str | None:
    loss = numbers(1, seed=seed, low=0.5, high=3.0)
    return differs(answer(loss.clone()), loss[0], "with a single token, where the bound is its loss")


def _uniform(answer: Answer, seed: int) -> str | None:
    n, words = 3 + seed % 4, 7
    found = answer(torch.full((n,), math.log(words)))
    return differs(
        found,
        torch.tensor(n * math.log(words)),
        f"for {n} tokens, all guessed among {words}: -log p is {n} log {words}; then",
    )


def _numerical(answer: Answer, seed: int) -> str | None:
    """An integral over t comes close, whatever the losses are."""
    for number in range(8):
        mean_loss = numbers(5, seed=seed + 1000 * number, low=0.1, high=3.0)
        found, expected = answer(mean_loss.clone()), mean_loss.sum()
        wrong = differs(found, expected, "close, but not exact:")
        if wrong is None or differs(found, expected, "", 0.03):
            return None
    return wrong


def _too_large(answer: Answer, seed: int) -> str | None:
    n, loss = 3 + seed % 4, math.log(7)
    found = answer(torch.full((n,), loss))
    if isinstance(found, Tensor) and found.shape == () and found > 1.001 * n * loss:
        return f"for {n} tokens, each of which costs {loss:.3g} at any number of masks, it gave {float(found):.3g}"
    return None


def _any_order(answer: Answer, seed: int) -> str | None:
    mean_loss = numbers(5, seed=seed, low=0.1, high=3.0)
    return differs(answer(mean_loss.clone()), mean_loss.sum(), "writing one token a step, from five masks to one,")


BOUND_BY_COUNT = Exercise(
    lesson="02",
    task="the bound without noise levels: from the mean loss at each number of masks",
    minutes=15,
    optional=True,
    difficulty=3,
    reference=answers.bound_by_count,
    properties=(
        Property(
            "it is exact", _numerical,
            "A numerical integral over t? It can be done exactly, and what comes out has no t in it.",
        ),
        Property(
            "with one token it is the token's loss", _one_token,
            "Is there a factor too many, or is the last entry left out?",
        ),
        Property(
            "it is not more than n tokens cost", _too_large,
            "Too large: mean_loss[k - 1] is the loss of *one* token, and k of them, each weighted with 1/t, weigh as "
            "much as one. Do not multiply by k.",
        ),
        Property(
            "with a model that guesses it is n log(words)", _uniform,
            "Too small: the bound is a sum over steps, one for each number of masks, not a mean.",
        ),
        Property(
            "each number of masks counts once", _any_order,
            "The weight 1/t does away with the number of masks: k losses are weighted with 1/k on average.",
        ),
    ),
    hints=(
        "Think of sampling instead of noising: one token a step, in random order. How many are masked at each step?",
        "At the step with k masks, one of them is written; on average over orders its loss is mean_loss[k - 1].",
        "So every entry of mean_loss is the loss of one step. What does the whole sequence cost?",
    ),
)  # fmt: skip

EXERCISES = (FORWARD_MASK, UNMASK_PROBABILITY, LOSS_WEIGHT, BOUND_SAMPLE, BOUND_BY_COUNT)
