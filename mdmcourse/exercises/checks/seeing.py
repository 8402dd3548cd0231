"""What has to be true of an experiment that finds out which rows see which tokens (lesson 12)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson12 as answers
from mdmcourse.exercises.checks.tools import generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property


def _reader(seed: int, sees: Tensor, words: int = 20) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """A function from tokens to rows in which row i depends on just the tokens it sees; and what it was asked."""
    embedding = numbers(words, 6, seed=seed, low=-1.0, high=1.0).double()
    head = numbers(6, words, seed=seed + 1, low=-1.0, high=1.0).double()
    weight = numbers(*sees.shape, seed=seed + 2, low=0.5, high=1.0).double() * sees
    asked: list[Tensor] = []

    def read(tokens: Tensor) -> Tensor:
        asked.append(tokens.clone())
        return (weight @ embedding[tokens]).tanh() @ head

    return read, asked


def _tokens(seed: int, length: int = 6) -> Tensor:
    return torch.randint(19, (1, length), generator=generator(seed + 5))


def _patterns(length: int) -> dict[str, Tensor]:
    full = torch.ones(length, length, dtype=torch.bool)
    block = torch.arange(length) // 2
    return {"causal": full.tril(), "full": full, "in blocks of 2": block[:, None] >= block[None, :]}


def _seen(answer: Answer, seed: int, name: str, sees: Tensor) -> str | None:
    read, _ = _reader(seed, sees)
    found = answer(read, _tokens(seed, len(sees)), 19)
    if not isinstance(found, Tensor) or found.shape != sees.shape:
        return f"for {len(sees)} tokens it gave {shape_of(found)}"
    if torch.equal(found.bool(), sees):
        return None
    i, j = (found.bool() != sees).nonzero()[0].tolist()
    return f"attention {name}: sees[{i}, {j}] is {bool(found[i, j])}"


def _square(answer: Answer, seed: int) -> str | None:
    read, asked = _reader(seed, _patterns(6)["full"])
    found = answer(read, _tokens(seed), 19)
    if not isinstance(found, Tensor) or found.shape != (6, 6):
        return f"for 6 tokens it gave {shape_of(found)}, expected was a tensor of shape (6, 6)"
    return None if len(asked) > 1 else f"`read` was called {len(asked)} time(s)"


def _a_single_number(answer: Answer, seed: int) -> str | None:
    """Rows of which only one number depends on the tokens, and not the largest: they have changed all the same."""
    sees = _patterns(6)["causal"]
    read, _ = _reader(seed, sees)

    def barely(tokens: Tensor) -> Tensor:
        rows = read(tokens)
        rows[..., 1:] = 0.0
        rows[..., 7] = 1e6
        return rows

    found = answer(barely, _tokens(seed), 19).bool()
    missed = sees & ~found
    if not missed.any() or (found & ~sees).any():  # sees what is not there: another property tells of it
        return None
    i, j = missed.nonzero()[0].tolist()
    return f"one number of row {i} changed with token {j}, and sees[{i}, {j}] is False"


def _causal(answer: Answer, seed: int) -> str | None:
    return _seen(answer, seed, "causal", _patterns(6)["causal"])


def _others(answer: Answer, seed: int) -> str | None:
    for name in ("full", "in blocks of 2"):
        if seen := _seen(answer, seed, name, _patterns(6)[name]):
            return seen
    return None


def _any_pattern(answer: Answer, seed: int) -> str | None:
    sees = torch.rand(5, 5, generator=generator(seed + 9)) < 0.5
    sees.fill_diagonal_(True)
    sees[0, 4], sees[4, 0] = True, False
    return _seen(answer, seed, "of any pattern", sees)


def _faint(answer: Answer, seed: int) -> str | None:
    """An influence of a millionth is one."""
    sees = _patterns(5)["full"]
    embedding = numbers(20, 4, seed=seed, low=-1.0, high=1.0).double()
    weight = torch.where(torch.eye(5).bool(), 1.0, 1e-7).double()
    found = answer(lambda tokens: weight @ embedding[tokens], _tokens(seed, 5), 19)
    return None if torch.equal(found.bool(), sees) else "influences of a ten-millionth were taken for none"


def _one_at_a_time(answer: Answer, seed: int) -> str | None:
    read, asked = _reader(seed, _patterns(6)["full"])
    tokens = _tokens(seed)
    given = tokens.clone()
    answer(read, given, 19)
    if not torch.equal(given, tokens):
        return "the tokens that were given were changed"
    most = max((int((row != tokens[0]).sum()) for each in asked for row in each), default=0)
    return None if most <= 1 else f"up to {most} tokens were changed at a time"


WHO_SEES = Exercise(
    lesson="12",
    task="which rows see which tokens, by changing one token at a time",
    minutes=12,
    difficulty=2,
    reference=answers.who_sees,
    properties=(
        Property(
            "it asks, and gives [pos, pos]", _square,
            "Call `read` for the tokens as they are, and for each changed token; put the answers, one truth value a "
            "row, side by side: torch.stack(columns, dim=1). [0] takes the dimension of the batch away.",
        ),
        Property(
            "one token is changed at a time, and put back", _one_at_a_time,
            "Make a fresh copy for each j: changed = tokens.clone().",
        ),
        Property(
            "a row has changed if one of its numbers has", _a_single_number,
            "(a != b).any(dim=-1): not all numbers need to move, and the largest may stay where it is.",
        ),
        Property("causal attention", _causal, "sees[i, j] is about row i and token j: rows first."),
        Property(
            "full and block-causal attention", _others,
            "Ask for every j, also for those behind i, and compare every row.",
        ),
        Property("any pattern at all", _any_pattern, "Do not suppose a pattern: whatever changes is seen."),
        Property(
            "faint influences count", _faint,
            "What is not seen cannot move a single digit. Compare exactly (!=), without a tolerance.",
        ),
    ),
    hints=(
        "Read the tokens once as they are. Then once for each j with token j replaced: which rows differ?",
        "changed = tokens.clone(); changed[0, j] = other; differs = (read(changed) != before)[0].any(dim=-1).",
        "differs is the column j of the answer: put the columns side by side with torch.stack(columns, dim=1).",
    ),
)  # fmt: skip
