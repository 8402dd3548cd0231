"""Real checkpoints: what has to be true of the answers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from mdmcourse.circuits.graph import Graph
from mdmcourse.exercises.answers import lesson12 as answers
from mdmcourse.exercises.checks.alike import CKA_WITHOUT_GIANTS, SHARES_OF_TOKENS
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
        layers, heads, kv_heads = shapes[seed % len(shapes)]
        found, expected = answer(layers, heads, kv_heads), _counted(layers, heads, kv_heads)
        if isinstance(found, Tensor):
            found = found.item()
        if found == expected:
            return None
        return f"{layers} layer(s) of {heads} heads with {kv_heads} of keys and values: {found}, there are {expected:,}"

    return test


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
            "Below layer l are 1 + l (heads + 1) sources: the input, and the heads and MLP of each layer below. The "
            "logits read all.",
        ),
        Property(
            "shared keys and values", _edges([(2, 4, 2), (3, 6, 2), (30, 9, 3), (5, 8, 1)]),
            "Every head has a query of its own; keys and values exist once a group: heads + 2 kv_heads readers.",
        ),
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


def _first(answer: Answer, seed: int) -> str | None:
    """A mask at the first place has no row before it."""
    rows, tokens, masked = _rows(seed, False)
    masked[:, 0] = True
    rows[:, -1] = torch.nn.functional.one_hot(tokens[:, 0], rows.shape[-1]) * 900.0  # what index -1 would find
    rows[:, 0] = torch.nn.functional.one_hot(tokens[:, 0], rows.shape[-1]) * -900.0
    masked[:, -1] = False
    return _judge(answer, rows, tokens, masked, False, "a mask at the first place:")


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
            "a mask at the first place does no harm", _first,
            "Index 0 - 1 is the last row. Leave the first token out: it has no row before it.",
        ),
        Property(
            "logits are normalised", _normalised,
            "Rows of logits have different offsets. Compare log-probabilities: log_softmax(dim=-1).",
        ),
        Property(
            "it looks at probabilities, not only at the top", _soft,
            "A small model is seldom right. Compare the mean log-probability of the right token, not accuracy.",
        ),
    ),
    hints=(
        "For each masked token i (but the first): how likely is it by row i - 1, and how likely by row i?",
        "log_p = rows.log_softmax(dim=-1); batch, position = masked[:, 1:].nonzero(as_tuple=True).",
        "These positions are those of the rows *before*; the tokens stand at position + 1. Compare the two means.",
    ),
)  # fmt: skip


# --- who_sees


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
    most = max(int((row != tokens[0]).sum()) for each in asked for row in each)
    return None if most <= 1 else f"up to {most} tokens were changed at a time"


WHO_SEES = Exercise(
    lesson="12",
    task="which rows see which tokens, by changing one token at a time",
    minutes=12,
    difficulty=2,
    reference=answers.who_sees,
    properties=(
        Property(
            "one token is changed at a time, and put back", _one_at_a_time,
            "Make a fresh copy for each j: changed = tokens.clone().",
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

EXERCISES = (EDGES_OF, SCORES_NEXT, WHO_SEES, SHARES_OF_TOKENS, CKA_WITHOUT_GIANTS)
