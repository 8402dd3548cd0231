"""One layer of attention: what has to be true of the answer of lesson 03."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson03 as answers
from mdmcourse.exercises.checks.tools import differs, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

HEADS, D = 3, 4


@dataclass(frozen=True)
class Given:
    """What an answer is called with. Scores differ by a few units, so that no attention is close to even."""

    x: Tensor
    wq: Tensor
    wk: Tensor
    wv: Tensor
    wo: Tensor
    causal: bool = False
    turned: bool = False

    def rotate(self, q: Tensor) -> Tensor:
        """A rotation of pairs of numbers, by an angle that grows with the position; or none."""
        if not self.turned:
            return q
        if q.ndim != 4 or q.shape[1] != HEADS or q.shape[-1] != D:
            raise ValueError(f"rotate takes [batch, head, pos, d], here [2, {HEADS}, 5, {D}], and got {tuple(q.shape)}")
        angle = torch.arange(q.shape[2])[:, None] * torch.tensor([1.0, 0.3])
        cos, sin = angle.cos(), angle.sin()
        one, two = q[..., : D // 2], q[..., D // 2 :]
        return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)

    def ask(self, answer: Answer) -> Any:
        clones = [each.clone() for each in (self.x, self.wq, self.wk, self.wv, self.wo)]
        return answer(*clones, heads=HEADS, rotate=self.rotate, causal=self.causal)

    def pattern(self) -> Tensor:
        """By loops over texts, heads and queries."""
        q, k = ((self.x @ w.T).view(2, 5, HEADS, D).permute(0, 2, 1, 3) for w in (self.wq, self.wk))
        q, k = self.rotate(q), self.rotate(k)
        found = torch.zeros(2, HEADS, 5, 5)
        for text in range(2):
            for head in range(HEADS):
                for query in range(5):
                    sees = query + 1 if self.causal else 5
                    scores = (k[text, head, :sees] * q[text, head, query]).sum(dim=-1) / D**0.5
                    found[text, head, query, :sees] = scores.softmax(dim=0)
        return found

    def output(self) -> Tensor:
        v = self.x @ self.wv.T
        pattern = self.pattern()
        z = [pattern[:, head] @ v[..., head * D : (head + 1) * D] for head in range(HEADS)]
        return torch.cat(z, dim=-1) @ self.wo.T


def given(seed: int, *, causal: bool = False, turned: bool = False) -> Given:
    shapes = [(2, 5, HEADS * D), *[(HEADS * D, HEADS * D)] * 4]
    x, wq, wk, wv, wo = (
        numbers(*shape, seed=10 * seed + place, low=-1.0, high=1.0) for place, shape in enumerate(shapes)
    )
    return Given(x, wq, wk, wv, wo, causal, turned)


def _two_tensors(answer: Answer, seed: int) -> str | None:
    found = given(seed).ask(answer)
    if not isinstance(found, tuple | list) or len(found) != 2:
        return f"it gave {shape_of(found)} and not two tensors"
    for each, name, shape in zip(found, ("output", "attention"), ((2, 5, HEADS * D), (2, HEADS, 5, 5)), strict=True):
        if not isinstance(each, Tensor) or each.shape != shape:
            return f"with 2 texts of 5 tokens and {HEADS} heads the {name} is {shape_of(each)}, expected was {shape}"
    return None


def _sums_to_one(answer: Answer, seed: int) -> str | None:
    for causal in (False, True):
        _, attention = given(seed, causal=causal).ask(answer)
        if causal and attention[:, :, 0].isnan().all():
            continue  # the first query sees nothing: the next property says so
        sums = attention.sum(dim=-1)
        if not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            return f"with causal={causal} a query's attention adds up to {sums.min():.2f} to {sums.max():.2f}"
    return None


def _triangle(answer: Answer, seed: int) -> str | None:
    _, full = given(seed).ask(answer)
    if (full == 0).any():
        return "with causal=False some positions get no attention"
    _, causal = given(seed, causal=True).ask(answer)
    if causal.isnan().any():
        return "with causal=True the attention of the first query is nan: all of its scores are -inf, its own too"
    ahead = causal.triu(diagonal=1)
    if ahead.abs().max() > 1e-6:
        return f"with causal=True a later position gets {ahead.max():.2f} of the attention"
    if (causal[..., torch.arange(5), torch.arange(5)] == 0).any():
        return "with causal=True a position does not see itself"
    return None


def _moved(answer: Answer, seed: int, part: tuple[slice, ...]) -> list[int]:
    """The heads whose attention is another one with other numbers in this part of wq."""
    case = given(seed)
    wq = case.wq.clone()
    wq[part] = numbers(*wq[part].shape, seed=10 * seed + 7, low=-1.0, high=1.0)
    (_, before), (_, after) = case.ask(answer), replace(case, wq=wq).ask(answer)
    return [head for head in range(HEADS) if not torch.allclose(before[:, head], after[:, head], atol=1e-5)]


def _as_linear(answer: Answer, seed: int) -> str | None:
    """The rows of a weight are what comes out. Where its columns belong to the heads it was not transposed."""
    if _moved(answer, seed, (slice(None), slice(D, 2 * D))) == [1]:
        return f"other numbers in the columns {D} to {2 * D - 1} of wq changed head 1 alone: they belong to all heads"
    return None


def _own_features(answer: Answer, seed: int) -> str | None:
    """Other queries for head 1 leave the other heads' attention as it is, and change that of head 1."""
    moved = _moved(answer, seed, (slice(D, 2 * D),))
    return None if moved == [1] else f"other queries for head 1 changed the attention of the heads {moved}"


def _scaled(answer: Answer, seed: int) -> str | None:
    case = given(seed)
    _, found = case.ask(answer)
    return differs(found[0, 0, 0], case.pattern()[0, 0, 0], "the attention of the first query without rotation:")


def _rotated(answer: Answer, seed: int) -> str | None:
    case = given(seed, turned=True)
    _, found = case.ask(answer)
    return differs(found[0, 0, 4], case.pattern()[0, 0, 4], "the attention of the last query with a rotation:")


def _adds_up(answer: Answer, seed: int) -> str | None:
    for causal in (False, True):
        case = given(seed, causal=causal, turned=True)
        output, _ = case.ask(answer)
        seen = differs(output[0, 4], case.output()[0, 4], f"the output of the last position with causal={causal}:")
        if seen:
            return seen
    return None


def _leaves_the_past(answer: Answer, seed: int) -> str | None:
    case = given(seed, causal=True, turned=True)
    x = case.x.clone()
    x[:, 3:] = numbers(2, 2, HEADS * D, seed=10 * seed + 8, low=-1.0, high=1.0)
    (one, _), (two, _) = case.ask(answer), replace(case, x=x).ask(answer)
    return differs(two[:, :3], one[:, :3], "with causal=True and other tokens at positions 3 and 4, positions 0 to 2:")


ATTENTION_LAYER = Exercise(
    lesson="03",
    task="one layer of attention, causal or full",
    minutes=18,
    difficulty=3,
    reference=answers.attention_layer,
    properties=(
        Property(
            "it gives the output and the attention", _two_tensors,
            "Return (output, attention): [batch, pos, d_model] and [batch, head, query, key].",
        ),
        Property(
            "the attention of each query adds up to 1", _sums_to_one,
            "Softmax over the keys, the last axis; and mask *before* the softmax: setting entries to 0 afterwards "
            "leaves less than 1.",
        ),
        Property(
            "causal means no later position, full means all", _triangle,
            "Later positions are j > i: torch.triu(..., diagonal=1), so that each position sees itself. They get -inf, "
            "not 0; and only if causal.",
        ),
        Property(
            "weights are applied as nn.Linear applies them", _as_linear,
            "x @ w.T, not x @ w: the rows of a weight make the features that come out.",
        ),
        Property(
            "each head has its own features", _own_features,
            "unflatten(-1, (heads, d)) splits the features, and transpose(1, 2) brings the heads forward. A single "
            "view(batch, heads, pos, d) mixes positions and heads.",
        ),
        Property(
            "scores are products of queries and keys over the root of d", _scaled,
            "d is the length of one head's query, not d_model.",
        ),
        Property(
            "queries and keys are rotated", _rotated,
            "rotate(q) and rotate(k), after the heads are split.",
        ),
        Property(
            "the values are mixed, put side by side and sent through wo", _adds_up,
            "attention @ v for each head (v is not rotated), then transpose(1, 2).flatten(2), then @ wo.T.",
        ),
        Property(
            "with causal attention the past does not know the future", _leaves_the_past,
            "Something beside the attention moves information between positions.",
        ),
    ),
    hints=(
        "Four steps: q, k, v split into heads; rotate; scores, mask, softmax; mix the values and join the heads.",
        "(x @ w.T).unflatten(-1, (heads, -1)).transpose(1, 2) is [batch, head, pos, d]; "
        "q @ k.transpose(-1, -2) is [batch, head, query, key].",
        "scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf) if causal; "
        "then softmax(dim=-1) @ v, transpose(1, 2).flatten(2) @ wo.T.",
    ),
)  # fmt: skip
