"""Masking and the bound: what has to be true of the answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson02 as answers
from mdmcourse.exercises.checks.tools import differs, generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

MASK = 0


def _tokens(seed: int, batch: int, length: int) -> Tensor:
    """Token ids from 1; the mask is 0."""
    return torch.randint(1, 100, (batch, length), generator=generator(seed))


# --- forward_mask


def _gives_tokens(answer: Answer, seed: int) -> str | None:
    x = _tokens(seed, 3, 5)
    found = answer(x.clone(), torch.tensor([0.2, 0.5, 0.8]), MASK)
    if not isinstance(found, Tensor) or found.shape != x.shape or found.dtype != x.dtype:
        kind = f" of {found.dtype}" if isinstance(found, Tensor) else ""
        return f"for x of shape (3, 5) and torch.int64 it gave {shape_of(found)}{kind}"
    return None


def _leaves_the_input(answer: Answer, seed: int) -> str | None:
    x, t = _tokens(seed, 4, 50), torch.full((4,), 0.5)
    given, given_t = x.clone(), t.clone()
    answer(given, given_t, MASK)
    changed = int((given != x).sum())
    return f"{changed} of 200 tokens of x were others afterwards" if changed or not torch.equal(t, given_t) else None


def _mask_or_original(answer: Answer, seed: int) -> str | None:
    x = _tokens(seed, 4, 50)
    found = answer(x.clone(), torch.full((4,), 0.5), MASK)
    strange = (found != x) & (found != MASK)
    return f"token {x[strange][0]} became {found[strange][0]}; the mask is {MASK}" if strange.any() else None


def _ends(answer: Answer, seed: int) -> str | None:
    x = _tokens(seed, 2, 100)
    share = (answer(x.clone(), torch.tensor([0.0, 1.0]), MASK) == MASK).double().mean(dim=1).tolist()
    return None if share == [0, 1] else f"{share[0]:.0%} were masked at t = 0 and {share[1]:.0%} at t = 1"


def _rate(answer: Answer, seed: int) -> str | None:
    x, t = _tokens(seed, 3, 4000), torch.tensor([0.2, 0.5, 0.9])
    share = (answer(x.clone(), t.clone(), MASK) == MASK).double().mean(dim=1)
    if ((share - t).abs() < 0.05).all():
        return None
    return f"with t = 0.2, 0.5, 0.9 the shares {', '.join(f'{each:.2f}' for each in share.tolist())} were masked"


def _independent(answer: Answer, seed: int) -> str | None:
    x = _tokens(seed, 400, 40)
    masked = (answer(x.clone(), torch.full((400,), 0.5), MASK) == MASK).double()
    rows, columns = masked.mean(dim=1), masked.mean(dim=0)
    # The share of masks has a variance of 1/4 over the number of independent coins.
    if rows.var() > 2 / 160:
        return f"with t = 0.5 and 40 tokens, whole sequences went together: {shown_counts(rows * 40)} masks"
    if rows.var() < 0.5 / 160:
        return f"with t = 0.5 and 40 tokens, sequences had {shown_counts(rows * 40)} masks: too even for coins"
    if columns.var() > 6 / 1600:
        return "in 400 sequences with t = 0.5 the same positions were masked"
    return None


def shown_counts(counts: Tensor) -> str:
    return ", ".join(f"{count:.0f}" for count in counts[:5].tolist()) + ", ..."


def _fresh(answer: Answer, seed: int) -> str | None:
    x, t = _tokens(seed, 4, 50), torch.full((4,), 0.5)
    torch.manual_seed(seed)
    one, two = answer(x.clone(), t.clone(), MASK), answer(x.clone(), t.clone(), MASK)
    return "two calls masked the same 200 positions" if torch.equal(one, two) else None


FORWARD_MASK = Exercise(
    lesson="02",
    task="the forward process: replace tokens by the mask",
    minutes=8,
    difficulty=1,
    reference=answers.forward_mask,
    properties=(
        Property("it gives token ids of the shape of x", _gives_tokens, "torch.where(..., mask_id, x) keeps both."),
        Property(
            "the input is not changed", _leaves_the_input,
            "x[...] = mask_id writes into the caller's tensor. Make a new one, with torch.where or x.clone().",
        ),
        Property(
            "every token is the original or the mask", _mask_or_original,
            "Another token than mask_id was put in. (Random tokens are uniform diffusion, another kind.)",
        ),
        Property(
            "nothing is masked at t = 0, everything at t = 1", _ends,
            "Time runs the other way, or a coin equal to t is on the wrong side: torch.rand lies in [0, 1).",
        ),
        Property(
            "in sequence n a share of t[n] is masked", _rate,
            "All sequences got the same t? t has one number for each: t[:, None] lines them up with the rows of x.",
        ),
        Property(
            "each token has a coin of its own", _independent,
            "One coin for a whole row, the same coins for every row, or a fixed number of masks. "
            "torch.rand(x.shape) tosses one coin for each token.",
        ),
        Property("two calls differ", _fresh, "A seed is set inside the function: the noise is always the same."),
    ),
    hints=(
        "Each token needs a random number of its own between 0 and 1. When is it below t?",
        "torch.rand(x.shape) gives the numbers; t has the shape [batch] and is compared with [batch, pos]: t[:, None].",
        "torch.where(torch.rand(x.shape) < t[:, None], ..., ...): the mask where it is true, the token where not.",
    ),
)  # fmt: skip


# --- unmask_probability

PAIRS = torch.tensor([[0.9, 0.1], [0.7, 0.4], [0.5, 0.0], [0.3, 0.2]])


def _at_the_ends(answer: Answer, seed: int) -> str | None:
    alpha_t = numbers(5, seed=seed, low=0.1, high=0.9)
    return differs(
        answer(torch.ones(5), alpha_t), torch.ones(5), "with alpha_s = 1 (at s = 0, where nothing is masked)"
    ) or (differs(answer(alpha_t, alpha_t), torch.zeros(5), "with alpha_s = alpha_t (no time between them)"))


def _bayes(answer: Answer, seed: int) -> str | None:
    """By counting: every token vanishes once, at a level that is uniform in alpha."""
    vanishes_below = torch.rand(200_000, generator=generator(seed))  # masked once alpha is below it
    for alpha_s, alpha_t in PAIRS.tolist():
        masked_at_t = vanishes_below > alpha_t
        counted = (vanishes_below[masked_at_t] <= alpha_s).double().mean().item()
        found = float(answer(torch.tensor(alpha_s), torch.tensor(alpha_t)))
        if abs(found - counted) > 0.01:
            return (
                f"alpha_s = {alpha_s:.1f}, alpha_t = {alpha_t:.1f}: of the tokens masked at t, {counted:.2f} were not "
                f"masked at s; it gave {found:.2f}"
            )
    return None


def _composes(answer: Answer, seed: int) -> str | None:
    alpha_t, alpha_s, alpha_r = numbers(3, 6, seed=seed, low=0.05, high=0.95).sort(dim=0).values
    two = (1 - answer(alpha_s, alpha_t)) * (1 - answer(alpha_r, alpha_s))
    return differs(1 - answer(alpha_r, alpha_t), two, "for staying masked from t over s to r at once", 1e-3)


UNMASK_PROBABILITY = Exercise(
    lesson="02",
    task="the posterior: how likely a mask is undone in a step back",
    minutes=10,
    difficulty=2,
    reference=answers.unmask_probability,
    properties=(
        Property(
            "it is 1 if nothing is masked at s, and 0 if no time passes", _at_the_ends,
            "This is the probability of *staying* masked, or the times are swapped. alpha is the share NOT masked.",
        ),
        Property(
            "it is the share that one counts", _bayes,
            "The condition is missing: divide by the probability of being masked at t, which is 1 - alpha_t. "
            "(1 - alpha_t / alpha_s is the forward step, of a token that is not masked yet.)",
        ),
        Property("two steps back are one long step back", _composes, "What holds for one pair of times holds for all."),
    ),
    hints=(
        "Use Bayes: P(not masked at s | masked at t) = P(not masked at s AND masked at t) / P(masked at t).",
        "A token that is not masked at s and masked at t vanished in between: alpha_s - alpha_t.",
        "Divide that by P(masked at t) = 1 - alpha_t.",
    ),
)  # fmt: skip


# --- loss_weight


def _linear(answer: Answer, seed: int) -> str | None:
    t = numbers(5, seed=seed, low=0.1, high=0.9)
    return differs(answer(lambda t: 1 - t, t.clone()), 1 / t, f"for alpha = 1 - t at t = {t[0]:.2f}, ...", 2e-3)


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
            "it is 1/t for the linear schedule", _linear,
            "- alpha'(t) / (1 - alpha(t)): mind the sign, and what it is divided by.",
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


def _any_order(answer: Answer, seed: int) -> str | None:
    mean_loss = numbers(5, seed=seed, low=0.1, high=3.0)
    return differs(answer(mean_loss.clone()), mean_loss.sum(), "writing one token a step, from five masks to one,")


BOUND_BY_COUNT = Exercise(
    lesson="02",
    task="the bound without noise levels: from the mean loss at each number of masks",
    minutes=15,
    difficulty=3,
    reference=answers.bound_by_count,
    properties=(
        Property(
            "with one token it is the token's loss", _one_token,
            "Is there a factor too many, or is the last entry left out?",
        ),
        Property(
            "with a model that guesses it is n log(words)", _uniform,
            "The bound is a sum over steps, one for each number of masks, not a mean.",
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
