"""Real checkpoints: what has to be true of the answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from types import SimpleNamespace

import torch
from torch import Tensor

from mdmcourse.circuits.graph import Graph
from mdmcourse.exercises.answers import lesson12 as answers
from mdmcourse.exercises.checks.alike import CKA_WITHOUT_GIANTS, SHARES_OF_TOKENS
from mdmcourse.exercises.checks.seeing import WHO_SEES
from mdmcourse.exercises.checks.tools import generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- edges_of


def _counted(layers: int, heads: int, kv_heads: int) -> int:
    """By the package's graph."""
    config = SimpleNamespace(
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads, model_type="llama"
    )
    return Graph.of(config).n_edges


def _edges(shapes: list[tuple[int, int, int]]) -> Callable[[Answer, int], str | None]:
    def test(answer: Answer, seed: int) -> str | None:
        for layers, heads, kv_heads in shapes:
            found, expected = answer(layers, heads, kv_heads), _counted(layers, heads, kv_heads)
            if isinstance(found, Tensor):
                found = found.item()
            if found != expected:
                given = f"{layers} layer(s) of {heads} heads with {kv_heads} of keys and values"
                return f"{given}: {found}, there are {expected:,}"
        return None

    return test


def _whole(answer: Answer, seed: int) -> str | None:
    found = answer(3, 6, 2)
    if isinstance(found, Tensor):
        found = found.item()
    return None if isinstance(found, Integral) else f"it gave {found!r}, a {type(found).__name__}"


EDGES_OF = Exercise(
    lesson="12",
    task="how many edges a decoder has whose heads share keys and values",
    minutes=12,
    difficulty=2,
    reference=answers.edges_of,
    properties=(
        Property(
            "one layer, one head", _edges([(1, 1, 1)]),
            "Write them down: the input goes to q, k, v, to the MLP and to the logits; the head to the MLP and to the "
            "logits; the MLP to the logits.",
        ),
        Property(
            "one layer, several heads", _edges([(1, 2, 2), (1, 4, 4), (1, 3, 3)]),
            "The MLP reads the input and every head of its own layer; each head has three readers, q, k and v.",
        ),
        Property(
            "several layers", _edges([(2, 1, 1), (3, 2, 2), (4, 4, 4)]),
            "A reader reads from every layer below, not only from the last. Below layer l are 1 + l (heads + 1) "
            "sources: the input, and the heads and MLP of each layer below. The logits read all.",
        ),
        Property(
            "shared keys and values", _edges([(2, 4, 2), (3, 6, 2), (30, 9, 3), (5, 8, 1)]),
            "Every head has a query of its own; keys and values exist once a group: heads + 2 kv_heads readers.",
        ),
        Property("it is a whole number", _whole, "Edges are counted: divide with // where / would give a float."),
    ),
    hints=(
        "Go through the layers. For each: who reads in it, and how many sources lie below?",
        "Layer l has heads + 2 kv_heads readers of attention, each of which reads 1 + l (heads + 1) sources.",
        "Its MLP reads as many, and the heads of its own layer. Last, the logits read 1 + layers (heads + 1).",
    ),
)  # fmt: skip


# --- scores_next


def _rows(seed: int, shift: bool, length: int = 9, words: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a model that is right more often than not, with or without a shift; tokens; what was masked."""
    tokens = torch.randint(words, (4, length), generator=generator(seed))
    masked = torch.zeros(4, length, dtype=torch.bool)
    masked[torch.arange(4), torch.randint(1, length, (4,), generator=generator(seed + 1))] = True
    masked[:, length // 2] = True
    rows = numbers(4, length, words, seed=seed + 2)
    right = torch.nn.functional.one_hot(tokens, words) * 4.0
    if shift:
        rows[:, :-1] += right[:, 1:]
        rows += 0.25 * right  # its own place knows a little too, the one after it nothing
    else:
        rows += right
    return rows, tokens, masked


def _judge(answer: Answer, rows: Tensor, tokens: Tensor, masked: Tensor, shift: bool, given: str) -> str | None:
    found = answer(rows.clone(), tokens.clone(), masked.clone())
    if bool(found) == shift:
        return None
    return f"{given} it gave {bool(found)}, expected was {shift}"


def _one_truth(answer: Answer, seed: int) -> str | None:
    found = answer(*_rows(seed, True))
    if isinstance(found, bool) or (isinstance(found, Tensor) and found.numel() == 1):
        return None
    return f"it gave {shape_of(found)}"


def _clear(answer: Answer, seed: int) -> str | None:
    for shift in (True, False):
        given = f"rows that score {'the next token' if shift else 'their own token'}:"
        if seen := _judge(answer, *_rows(seed, shift), shift, given):
            return seen
    return None


def _only_masked(answer: Answer, seed: int) -> str | None:
    """Where a token is in view, a row may just repeat it."""
    rows, tokens, masked = _rows(seed, True)
    copied = torch.nn.functional.one_hot(tokens, rows.shape[-1]) * 9.0
    rows[~masked] += copied[~masked]
    rows[:, :-1][masked[:, 1:]] = _rows(seed, True)[0][:, :-1][masked[:, 1:]]
    return _judge(answer, rows, tokens, masked, True, "rows at tokens in view that repeat those:")


def _normalised(answer: Answer, seed: int) -> str | None:
    """Logits may be moved up and down, row by row."""
    rows, tokens, masked = _rows(seed, False)
    rows += 30 * numbers(*rows.shape[:2], 1, seed=seed + 3)
    rows[:, :-1][masked[:, 1:]] += 60
    return _judge(answer, rows, tokens, masked, False, "rows of logits with different offsets:")


def _soft(answer: Answer, seed: int) -> str | None:
    """Right tokens that are likelier than elsewhere and never on top."""
    rows, tokens, masked = _rows(seed, True, words=12)
    rows = torch.zeros_like(rows)
    rows[..., 0] = 5.0
    tokens = tokens.clamp(min=1)
    rows[:, :-1] += torch.nn.functional.one_hot(tokens[:, 1:], 12) * 2.0
    return _judge(answer, rows, tokens, masked, True, "right tokens that are never on top:")


def _own_token(answer: Answer, seed: int) -> str | None:
    """Only the rows before masked tokens know something; the others would never say what comes next."""
    rows, tokens, masked = numbers(4, 11, 12, seed=seed), _rows(seed, True, 11)[1], torch.zeros(4, 11, dtype=torch.bool)
    masked[:, 2 + seed % 2 :: 3] = True
    follow = torch.nn.functional.one_hot(tokens[:, 1:], 12) * 4.0
    rows[:, :-1] += torch.where(masked[:, 1:, None], follow, -follow)
    return _judge(answer, rows, tokens, masked, True, "where only the rows before masked tokens know the next one:")


def _first(answer: Answer, seed: int) -> str | None:
    """A mask at the first place has no row before it: whatever is put there moves the mean."""
    for shift in (False, True):
        rows, tokens, masked = _rows(seed, shift)
        masked[:, 0], masked[:, 1], masked[:, -1] = True, False, False
        first = torch.nn.functional.one_hot(tokens[:, 0], rows.shape[-1]) * 900.0
        rows[:, -1] = -first if shift else first  # what index -1 would find
        rows[:, 0] = first if shift else -first
        if seen := _judge(answer, rows, tokens, masked, shift, "a mask at the first place:"):
            return seen
    return None


def _scored(*texts: list[tuple[float, float]]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that give masked tokens these probabilities, by (the row before, the row at its place); one list a text."""
    length, words = 2 + 2 * max(map(len, texts)), 5
    rows, tokens = torch.zeros(len(texts), length, words), torch.zeros(len(texts), length, dtype=torch.long)
    masked = torch.zeros(len(texts), length, dtype=torch.bool)
    for text, each in enumerate(texts):
        for number, pair in enumerate(each):
            masked[text, 2 * number + 1] = True
            for row, probability in enumerate(pair, start=2 * number):
                rows[text, row] = math.log((1 - probability) / (words - 1))
                rows[text, row, 0] = math.log(probability)
    return rows, tokens, masked


def _logarithms(answer: Answer, seed: int) -> str | None:
    given = "two masked tokens, of probability .9 and .000001 by the row before, .3 and .2 by their own:"
    return _judge(answer, *_scored([(0.9, 0.3), (1e-6, 0.2)]), False, given)


def _by_how_much(answer: Answer, seed: int) -> str | None:
    given = "two masked tokens a little likelier by the row before, one a hundred thousand times less likely:"
    return _judge(answer, *_scored([(0.5, 0.4), (0.5, 0.4), (4e-6, 0.4)]), False, given)


def _alike(answer: Answer, seed: int) -> str | None:
    given = "one masked token in a text, likelier by the row before, and three in another, likelier by their own:"
    return _judge(answer, *_scored([(0.8, 0.1)], [(0.2, 0.55)] * 3), False, given)


SCORES_NEXT = Exercise(
    lesson="12",
    task="does row i of a checkpoint score token i, or token i + 1?",
    minutes=10,
    difficulty=2,
    reference=answers.scores_next,
    properties=(
        Property("it gives one truth value", _one_truth, "Average over all masked tokens, then compare."),
        Property(
            "clear cases", _clear,
            "The candidates for token i are row i - 1 (shift: True) and row i (no shift: False).",
        ),
        Property(
            "only masked tokens count", _only_masked,
            "A token that is in view can be repeated without being understood. Look at masked ones only.",
        ),
        Property(
            "what is looked up is the token that was masked", _own_token,
            "If token i is masked, its rows are i - 1 and i. So masked[:, 1:] goes with tokens[:, 1:], and with "
            "rows[:, :-1] for the row before.",
        ),
        Property(
            "a mask at the first place does no harm", _first,
            "The first token has no row before it (index 0 - 1 would be the last row). Leave it out of both means, "
            "whatever you would put in that row's place.",
        ),
        Property(
            "logits are normalised", _normalised,
            "Rows of logits have different offsets. Compare log-probabilities: log_softmax(dim=-1).",
        ),
        Property(
            "it looks at probabilities, not only at the top", _soft,
            "A small model is seldom right. Compare the mean log-probability of the right token, not accuracy.",
        ),
        Property(
            "the mean is of logarithms", _logarithms,
            "A mean of probabilities hardly notices a token that is thought impossible. Take log_softmax, then the "
            "mean.",
        ),
        Property(
            "it counts by how much", _by_how_much,
            "Do not count the tokens at which one row is better: compare two means of log-probabilities.",
        ),
        Property(
            "every masked token counts alike", _alike,
            "Average once, over all masked tokens of all texts. A mean of the texts' means gives a token more weight "
            "where few are masked.",
        ),
    ),
    hints=(
        "For each masked token i (but the first): how likely is it by row i - 1, and how likely by row i?",
        "log_p = rows.log_softmax(dim=-1); batch, position = masked[:, 1:].nonzero(as_tuple=True).",
        "These positions are those of the rows *before*; the tokens stand at position + 1. Compare the two means.",
    ),
)  # fmt: skip


EXERCISES = (EDGES_OF, SCORES_NEXT, WHO_SEES, SHARES_OF_TOKENS, CKA_WITHOUT_GIANTS)
