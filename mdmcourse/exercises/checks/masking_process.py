"""Lesson 02, the forward process and the step back: what has to be true of the answers."""

from __future__ import annotations

from collections.abc import Callable

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


def _whole_rows(answer: Answer, seed: int) -> str | None:
    share = (answer(_tokens(seed, 8, 50), torch.full((8,), 0.5), MASK) == MASK).double().mean(dim=1)
    if ((share == 0) | (share == 1)).all():
        return "with t = 0.5 each of 8 sequences was masked as a whole or not at all"
    return None


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
            "the tokens of a sequence do not all go together", _whole_rows,
            "One coin for all tokens of a sequence. torch.rand(x.shape) tosses one for each token.",
        ),
        Property(
            "in sequence n a share of t[n] is masked", _rate,
            "All sequences got the same t? t has one number for each: t[:, None] lines them up with the rows of x.",
        ),
        Property(
            "each token has a coin of its own", _independent,
            "Neighbours that share a coin, the same coins for every row, or a fixed number of masks. "
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


def _is_not(formula: Callable[[Tensor, Tensor], Tensor], written: str) -> Callable[[Answer, int], str | None]:
    """A test that knows one mistake: it fails for answers that are `formula`, and for no others."""

    def test(answer: Answer, seed: int) -> str | None:
        alpha_t, alpha_s = numbers(2, 6, seed=seed, low=0.1, high=0.9).sort(dim=0).values
        found, mistaken = answer(alpha_s, alpha_t), formula(alpha_s, alpha_t)
        return None if differs(found, mistaken, "") else f"it gave {written} for six pairs of times"

    return test


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
            "the condition is divided by", _is_not(lambda s, t: s - t, "alpha_s - alpha_t"),
            "This is P(there at s and masked at t); divide by P(masked at t).",
        ),
        Property(
            "the two events depend on each other", _is_not(lambda s, t: s + 0 * t, "alpha_s"),
            "This is P(there at s), whatever is seen at t. The two events are not independent: a token that is masked "
            "at t is less likely to have been there at s.",
        ),
        Property(
            "there at s and masked at t is not a product", _is_not(lambda s, t: s * (1 - t), "alpha_s (1 - alpha_t)"),
            "The two events are not independent. There at s and masked at t: the token vanished in between.",
        ),
        Property(
            "it is the probability of coming back",
            _is_not(lambda s, t: (1 - s) / (1 - t), "(1 - alpha_s) / (1 - alpha_t)"),
            "This is the probability of *staying* masked. You are one subtraction away.",
        ),
        Property(
            "it is a step back", _is_not(lambda s, t: 1 - t / s, "1 - alpha_t / alpha_s"),
            "This is the step forward: of a token that is there at s, how likely it is masked at t. The condition is "
            "the other one.",
        ),
        Property(
            "the condition is at time t",
            _is_not(lambda s, t: (s - t) / (1 - s), "(alpha_s - alpha_t) / (1 - alpha_s)"),
            "Divided by P(masked at s). What is known is that the token is masked at t.",
        ),
        Property(
            "s is the earlier time", _is_not(lambda s, t: (t - s) / (1 - s), "(alpha_t - alpha_s) / (1 - alpha_s)"),
            "The times are swapped: s is the earlier one, so alpha_s is the larger number.",
        ),
        Property(
            "it is 1 if nothing is masked at s, and 0 if no time passes", _at_the_ends,
            "This is the probability of *staying* masked, or the times are swapped. alpha is the share NOT masked.",
        ),
        Property(
            "it is the share that one counts", _bayes,
            "Write down P(there at s and masked at t) and divide by the probability of being masked at t, 1 - alpha_t.",
        ),
        Property("two steps back are one long step back", _composes, "What holds for one pair of times holds for all."),
    ),
    hints=(
        "Use Bayes: P(not masked at s | masked at t) = P(not masked at s AND masked at t) / P(masked at t).",
        "A token that is not masked at s and masked at t vanished in between: alpha_s - alpha_t.",
        "Divide that by P(masked at t) = 1 - alpha_t.",
    ),
)  # fmt: skip
