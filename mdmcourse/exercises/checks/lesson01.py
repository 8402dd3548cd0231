"""Two ways to model text: what has to be true of the answers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson01 as answers
from mdmcourse.exercises.checks.joint_tables import ANY_CONDITIONAL, NEXT_CONDITIONAL
from mdmcourse.exercises.checks.tools import differs, generator, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- sequence_nll


def _scores(seed: int, batch: int = 3, length: int = 6, vocab: int = 9) -> tuple[Tensor, Tensor]:
    raw = torch.randn(batch, length, vocab, generator=generator(seed))
    return 2 * raw, torch.randint(vocab, (batch, length), generator=generator(seed + 500))


def _nll_tensor(answer: Answer, seed: int) -> str | None:
    raw, x = _scores(seed)
    found = answer(raw.clone(), x.clone(), 2)
    return None if isinstance(found, Tensor) else f"it gave a {type(found).__name__}"


def _nll_shape(answer: Answer, seed: int) -> str | None:
    raw, x = _scores(seed)
    found = answer(raw.clone(), x.clone(), 2)
    if isinstance(found, Tensor) and found.shape == (3,):
        return None
    return f"for three sequences it gave {shape_of(found)}, expected was one of shape (3,)"


def _nll_differences(answer: Answer, seed: int) -> str | None:
    raw, x = _scores(seed)
    higher = raw + 3 * torch.randn(3, 6, 1, generator=generator(seed + 1))
    return differs(
        answer(higher, x.clone(), 1), answer(raw.clone(), x.clone(), 1), "with another number added to each row", 1e-3
    )


def _nll_guess(answer: Answer, seed: int) -> str | None:
    length, vocab = 5 + seed % 4, 7
    _, x = _scores(seed, 2, length, vocab)
    expected = torch.full((2,), (length - 1) * math.log(vocab))
    given = f"with {length - 1} tokens to score, all guessed among {vocab}: {length - 1} log {vocab}; then"
    return differs(answer(torch.zeros(2, length, vocab), x, 1), expected, given)


def _nll_shift(answer: Answer, seed: int) -> str | None:
    _, x = _scores(seed)
    x = (x[:, :1] + torch.arange(6) * (1 + seed % 3)) % 9  # neighbours differ, also two apart
    raw = torch.zeros(3, 6, 9)
    raw[:, :-1].scatter_(-1, x[:, 1:, None], 40.0)
    given = "with a decoder whose row i is certain of token i + 1, which costs nothing,"
    return differs(answer(raw, x.clone(), 1), torch.zeros(3), given)


def _nll_prompt(answer: Answer, seed: int) -> str | None:
    raw, x = _scores(seed)
    other = raw.clone()
    other[:, :2] = 5 * torch.randn(3, 2, 9, generator=generator(seed + 2))
    given = "with a prompt of 3 tokens and other scores in rows 0 and 1, which score tokens 1 and 2,"
    return differs(answer(other, x.clone(), 3), answer(raw.clone(), x.clone(), 3), given)


def _nll_loop(answer: Answer, seed: int) -> str | None:
    raw, x = _scores(seed)
    expected = torch.zeros(3, dtype=torch.float64)
    for n, i in itertools.product(range(3), range(2, 6)):
        row = raw[n, i - 1].double()
        expected[n] += math.log(float(row.exp().sum())) - row[x[n, i]]
    return differs(answer(raw.clone(), x.clone(), 2), expected, "for random scores and a prompt of 2 tokens", 1e-3)


def _nll_large(answer: Answer, seed: int) -> str | None:
    raw, x = _scores(seed)
    raw = 200 * raw
    expected = -raw.double().log_softmax(dim=-1)[:, 1:-1].gather(-1, x[:, 2:, None])[..., 0].sum(dim=1)
    return differs(answer(raw.clone(), x.clone(), 2), expected, "for scores of several hundred", 1e-3)


SEQUENCE_NLL = Exercise(
    lesson="01",
    task="- log p(x) from the raw scores of a causal decoder",
    minutes=12,
    difficulty=2,
    reference=answers.sequence_nll,
    properties=(
        Property("it gives a tensor", _nll_tensor, "Return a tensor: torch.stack or torch.tensor makes one of a list."),
        Property(
            "it gives one number for each sequence", _nll_shape,
            "Sum over positions (dim=1), and not over the batch.",
        ),
        Property(
            "a number added to a whole row changes nothing", _nll_differences,
            "The softmax is missing, or it runs over positions or the batch. It belongs over words, the last axis.",
        ),
        Property(
            "a model that guesses costs log(words) a token", _nll_guess,
            "-log p, natural logarithm, *summed* over tokens: a mean? Is the sign, the logarithm or a token missing?",
        ),
        Property(
            "row i scores token i + 1", _nll_shift,
            "Off by one: token i is scored by row i - 1, and the last row scores nothing that is there.",
        ),
        Property(
            "the prompt costs nothing", _nll_prompt,
            "The first token to be scored is x[:, prompt_length]; its row is prompt_length - 1.",
        ),
        Property(
            "it is what a loop gives", _nll_loop,
            "Is it the score of the token that is there, x, and not that of the best one? Does every one count once?",
        ),
        Property(
            "large scores do no harm", _nll_large,
            "log(softmax(...)) is log(0) if a probability underflows. log_softmax does both at once.",
        ),
    ),
    hints=(
        "Which rows do you need? Token prompt_length is scored by row prompt_length - 1, the last token by row -2.",
        "raw.log_softmax(dim=-1)[:, prompt_length - 1 : -1] are the rows that score x[:, prompt_length:].",
        "rows.gather(-1, tokens[..., None])[..., 0] picks the log-probability of each token. Sum over dim=1, minus.",
    ),
)  # fmt: skip


# --- can_depend


def _table_kind(answer: Answer, seed: int) -> str | None:
    length = 3 + seed % 4
    for causal, shifted in itertools.product((False, True), repeat=2):
        found = answer(length, causal, shifted)
        if not isinstance(found, Tensor) or found.shape != (length, length) or found.dtype != torch.bool:
            kind = f" of {found.dtype}" if isinstance(found, Tensor) else ""
            return f"for length {length} it gave {shape_of(found)}{kind}"
    return None


def _table(answer: Answer, seed: int, causal: bool, shifted: bool) -> str | None:
    length = 3 + seed % 4
    found = answer(length, causal, shifted)
    for i, j in itertools.product(range(length), repeat=2):
        row = i - 1 if shifted else i  # of the decoder, which scores token i
        expected = row >= 0 and (not causal or j <= row)
        if bool(found[i, j]) != expected:
            return (
                f"for length {length} it says that token {i} {'can' if found[i, j] else 'cannot'} depend on token {j}; "
                + (f"row {row} of the decoder scores it" if row >= 0 else "no row scores it")
            )
    return None


def _full(answer: Answer, seed: int) -> str | None:
    return _table(answer, seed, causal=False, shifted=False)


def _causal(answer: Answer, seed: int) -> str | None:
    return _table(answer, seed, causal=True, shifted=False)


def _causal_shifted(answer: Answer, seed: int) -> str | None:
    return _table(answer, seed, causal=True, shifted=True)


def _full_shifted(answer: Answer, seed: int) -> str | None:
    return _table(answer, seed, causal=False, shifted=True)


CAN_DEPEND = Exercise(
    lesson="01",
    task="which scores can depend on which tokens",
    minutes=10,
    difficulty=2,
    reference=answers.can_depend,
    properties=(
        Property(
            "it is a square of booleans", _table_kind,
            "True and False, [length, length]: torch.ones(length, length, dtype=torch.bool) is a beginning.",
        ),
        Property(
            "full attention, not shifted: everything", _full,
            "Without causal attention every row sees every token. (It is an MDM without the shift.)",
        ),
        Property(
            "causal attention, not shifted: the token and what stands before it", _causal,
            "Row i of a causal decoder sees tokens 0 to i, i itself included: the lower triangle, .tril().",
        ),
        Property(
            "causal attention, shifted: only what stands before", _causal_shifted,
            "With the shift, row i - 1 scores token i. Move every row of the table one down; no row scores token 0.",
        ),
        Property(
            "full attention, shifted: everything, except for token 0", _full_shifted,
            "Row i - 1 sees everything, token i included. Only token 0, which no row scores, depends on nothing.",
        ),
    ),
    hints=(
        "First forget the shift: what does row i of the decoder see? Everything, or tokens 0 to i.",
        "Then the shift: the scores of token i come from row i - 1. So row i of your table is row i - 1 of the other.",
        "torch.cat([row of False, table[:-1]]) moves all rows one down and puts the row of token 0 on top.",
    ),
)  # fmt: skip


# --- forced_and_free

START = 3  # of the answer, in texts of three given tokens and four that follow


def _counting(batch: int, seed: int) -> Tensor:
    """Texts that count upwards modulo 10."""
    first = torch.randint(10, (batch, 1), generator=generator(seed))
    return (first + torch.arange(START + 4)) % 10


def _counts(prefix: Tensor) -> Tensor:
    return (prefix[:, -1] + 1) % 10


def _stumbles(prefix: Tensor) -> Tensor:
    """Counts, but leaves one number out at the first token of the answer."""
    return (prefix[:, -1] + (2 if prefix.shape[1] == START else 1)) % 10


def _recovers(prefix: Tensor) -> Tensor:
    """Reads everything off the first token; wrong only at the first of the answer."""
    return (prefix[:, 0] + prefix.shape[1] + (1 if prefix.shape[1] == START else 0)) % 10


def _pair(found: Any, given: str) -> str | None:
    if not isinstance(found, tuple | list) or len(found) != 2:
        return f"{given} it gave {shape_of(found)}, expected were two tensors"
    for each in found:
        if not isinstance(each, Tensor) or each.shape != (4,):
            return f"{given} it gave {shape_of(each)}, expected were two of shape (4,)"
    return None


def _two_vectors(answer: Answer, seed: int) -> str | None:
    return _pair(answer(_counts, _counting(8, seed), START), "for an answer of 4 tokens")


def _leaves_x(answer: Answer, seed: int) -> str | None:
    x = _counting(8, seed)
    given = x.clone()
    answer(_stumbles, given, START)
    changed = int((given != x).sum())
    return f"{changed} of {x.numel()} tokens of x were others afterwards" if changed else None


def _perfect(answer: Answer, seed: int) -> str | None:
    forced, free = answer(_counts, _counting(8, seed), START)
    given = "with a model that is always right"
    return differs(forced, torch.ones(4), f"{given}, forced,") or differs(free, torch.ones(4), f"{given}, free,")


def _forced(answer: Answer, seed: int) -> str | None:
    forced, _ = answer(_stumbles, _counting(8, seed), START)
    return differs(forced, torch.tensor([0.0, 1, 1, 1]), "with a model that errs at the first token only, forced,")


def _free(answer: Answer, seed: int) -> str | None:
    _, free = answer(_stumbles, _counting(8, seed), START)
    return differs(free, torch.zeros(4), "with a model that errs at the first token and counts on from there, free,")


def _can_recover(answer: Answer, seed: int) -> str | None:
    _, free = answer(_recovers, _counting(8, seed), START)
    given = "with a model that errs at the first token and reads all others off the prompt, free,"
    return differs(free, torch.tensor([0.0, 1, 1, 1]), given)


def _share(answer: Answer, seed: int) -> str | None:
    x = _counting(8, seed)
    x[:2, -1] = (x[:2, -1] + 1) % 10  # the last token of two of eight texts is none that counting gives
    forced, free = answer(_counts, x, START)
    expected = torch.tensor([1, 1, 1, 0.75])
    given = "with a last token that is right in 6 of 8 texts"
    return differs(forced, expected, f"{given}, forced,") or differs(free, expected, f"{given}, free,")


FORCED_AND_FREE = Exercise(
    lesson="01",
    task="accuracy with the right tokens in view, and with the model's own",
    minutes=15,
    optional=True,
    difficulty=3,
    reference=answers.forced_and_free,
    properties=(
        Property(
            "it gives two vectors, with one number for each token of the answer", _two_vectors,
            "Average over texts, not over the tokens of the answer, and return (forced, free).",
        ),
        Property(
            "x is not changed", _leaves_x,
            "written = x is the same tensor under another name: begin with x.clone().",
        ),
        Property(
            "a model that is always right is right both ways", _perfect,
            "Off by one? next_token(x[:, :i]) sees tokens 0 to i - 1 and gives token i. Are these shares of texts?",
        ),
        Property(
            "forced, one mistake stays one mistake", _forced,
            "Forced means: the *right* tokens x[:, :i] stand before token i. Is it (forced, free), in this order?",
        ),
        Property(
            "free, the model goes on from its own mistake", _free,
            "Free means: what the model wrote, not x, stands before the next token. Write it into a copy of x.",
        ),
        Property(
            "free, a token that needs none of the wrong ones is right again", _can_recover,
            "Free running is not the product of forced accuracies: let the model write, and compare every token.",
        ),
        Property(
            "they are shares of the batch", _share,
            "Average (found == x[:, i]) over the batch: .double().mean(). Not all(), not any().",
        ),
    ),
    hints=(
        "Go through i from start to the end. Forced: next_token(x[:, :i]). Free: the same with what was written.",
        "For free, keep a copy, written = x.clone(), and put each prediction into it before you go on: written[:, i].",
        "Collect (prediction == x[:, i]).double().mean() for each i in two lists; return torch.stack of both.",
    ),
)  # fmt: skip

EXERCISES = (NEXT_CONDITIONAL, ANY_CONDITIONAL, SEQUENCE_NLL, CAN_DEPEND, FORCED_AND_FREE)
