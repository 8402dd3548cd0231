"""A small example of every widget on made-up data: no model is loaded. `text` stands wherever a text may stand."""

from __future__ import annotations

from typing import Any

import torch

from mdmcourse.circuits import Graph, Patching, Scores, compare
from mdmcourse.diffusion import HIDDEN, Trace
from mdmcourse.tasks import Prompts
from mdmcourse.widgets import (
    AttentionViewer,
    CircuitViewer,
    LensViewer,
    MaskingExplorer,
    PatchingViewer,
    ShiftSummary,
    UnmaskingPlayer,
)

GRAPH = Graph(layers=4, heads=4, kv_heads=2)
WORDS = ["<bos>", " When", " Mary", "日本", "مرحبا", " to"]
LENGTH = len(WORDS)


class Tokenizer:
    """Token n is the n-th word, or always the same text."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def decode(self, ids: list[int]) -> str:
        return self.text or WORDS[ids[0] % LENGTH]


def made_up(seed: int, graph: Graph = GRAPH) -> Scores:
    drawn = torch.randn(8, *graph.exists.shape, generator=torch.Generator().manual_seed(seed)) ** 3 * graph.exists
    return Scores(drawn.mean(dim=0), graph.layers, graph.heads, graph.kv_heads, 1.0, 0.0, 8, {}, drawn)


def trace(steps: list[tuple[int, int | None]]) -> Trace:
    """Two given tokens; each step writes the token at a position, and may hide another one again."""
    states = [torch.tensor([0, 1, *[HIDDEN] * (LENGTH - 2)])]
    unmasked, remasked = torch.zeros(2, len(steps), LENGTH, dtype=torch.bool)
    for step, (written, hidden) in enumerate(steps):
        states.append(states[-1].clone())
        states[-1][written] = written
        unmasked[step, written] = True
        if hidden is not None:
            states[-1][hidden] = HIDDEN
            remasked[step, hidden] = True
    masked = torch.stack(states[:-1]) == HIDDEN
    confidence = torch.where(masked, torch.linspace(0.2, 0.95, masked.numel()).view(masked.shape), torch.nan)
    alternatives = torch.where(masked[..., None], torch.arange(3), -1)
    return Trace(
        torch.stack(states)[:, None], confidence[:, None], unmasked[:, None], remasked[:, None],
        alternatives[:, None], confidence[:, None, :, None] * torch.tensor([1.0, 0.5, 0.1]), len(steps), "made up",
    )  # fmt: skip


LEFT_TO_RIGHT = [(2, None), (3, None), (4, None), (5, None)]
REMASKED = [(2, None), (3, None), (4, 2), (5, None), (2, None)]


def attention(causal: bool, *shape: int) -> torch.Tensor:
    scores = 3 * torch.randn(*shape, LENGTH, LENGTH, generator=torch.Generator().manual_seed(len(shape)))
    scores[..., 2, 1, :, 0] += 6  # a sink
    if causal:
        scores = scores.masked_fill(~torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril(), -torch.inf)
    return scores.softmax(dim=-1)


def patching(what: str, *shape: int) -> Patching:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)
    return Patching(2 * values, 2.0, -1.0, what, "denoise", {"metric": "logit_diff", "prompts": 8})


def examples(text: str | None = None) -> dict[str, Any]:
    """A fresh widget of every kind."""
    words = [text] * LENGTH if text else WORDS
    one, two = text or "ARM", f"{text} 2" if text else "MDM"
    tokenizer = Tokenizer(text)
    scores = [made_up(seed) for seed in range(3)]
    pair, control = (compare(scores[0], other, ks=[5, 20, 80], bootstrap=4, halvings=2) for other in scores[1:])
    logits = 3 * torch.randn(5, LENGTH, 30, generator=torch.Generator().manual_seed(0))
    logits[:, 0] = torch.nan
    prompts = Prompts(
        torch.arange(LENGTH)[None], torch.arange(LENGTH)[None].index_fill(1, torch.tensor([2]), 3),
        torch.tensor([2]), torch.tensor([3]), torch.tensor([5]),
    )  # fmt: skip
    return {
        "masking": MaskingExplorer(words, [False, *[True] * (LENGTH - 1)], t=0.4),
        "unmasking": UnmaskingPlayer({one: trace(LEFT_TO_RIGHT), two: trace(REMASKED)}, tokenizer),
        "attention": AttentionViewer({one: attention(True, 3, 2), two: attention(False, 4, 3, 2)}, words),
        "lens": LensViewer({one: logits, two: -logits}, words, tokenizer, {text or "answer": 2}),
        "patching": PatchingViewer(
            {
                text or "streams": {one: patching("residual", 5, LENGTH), two: patching("residual", 5, LENGTH)},
                two: {one: patching("heads", 4, 2, LENGTH)},
            },
            prompts,
            tokenizer,
        ),
        "circuits": CircuitViewer(
            {text or "main": {one: scores[0], two: scores[1]}, two: {one: scores[1], two: scores[2]}},
            {text or "main": pair},
            k=20,
            roles=dict.fromkeys(("a1.h2", "m0", "logits"), text or "a role"),
        ),
        "shift": ShiftSummary(
            {text or "main": {one: pair, two: control}}, (one, two), {text or "A finding": text or "undecided"}
        ),
    }
