"""What happened while a text was written: every step of a sampling run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mdmcourse.storage import Saved

HIDDEN = -1  # in `tokens`: not written yet


@dataclass(frozen=True)
class Trace(Saved):
    """A sampling run, step by step.

    Attributes
    ----------
    tokens: token ids; tokens[0] is the start, tokens[s] the state after step s. HIDDEN (-1) where nothing is written.
    confidence: the probability that the model gave, in step s, to the token that it chose for a hidden position;
        NaN at positions that were not hidden.
    unmasked: True where step s wrote a token.
    remasked: True where step s hid a token again that an earlier step had written.
    alternatives, alternative_confidence: the most probable tokens at each hidden position in step s, best first, and
        their probabilities; -1 and NaN elsewhere.
    forward_passes: how many times the decoder ran.
    order: how positions were chosen.
    """

    tokens: Int[Tensor, "states batch pos"]
    confidence: Float[Tensor, "steps batch pos"]
    unmasked: Bool[Tensor, "steps batch pos"]
    remasked: Bool[Tensor, "steps batch pos"]
    alternatives: Int[Tensor, "steps batch pos top"]
    alternative_confidence: Float[Tensor, "steps batch pos top"]
    forward_passes: int
    order: str

    @property
    def steps(self) -> int:
        return self.unmasked.shape[0]

    @property
    def final(self) -> Int[Tensor, "batch pos"]:
        """The finished sequences."""
        return self.tokens[-1]

    @property
    def generated(self) -> Bool[Tensor, "batch pos"]:
        """Positions that were hidden at the start."""
        return self.tokens[0] == HIDDEN

    @property
    def written_at(self) -> Int[Tensor, "batch pos"]:
        """The step, counted from 1, that wrote the final token of each position; 0 for the prompt."""
        number = torch.arange(1, self.steps + 1)[:, None, None]
        return (self.unmasked * number).amax(dim=0) if self.steps else torch.zeros_like(self.tokens[0])

    def words(self, tokenizer: Any, row: int = 0) -> list[list[str]]:
        """Sequence `row` as text, one string a token, in every state; hidden positions are "▒"."""
        return [
            ["▒" if token == HIDDEN else tokenizer.decode([token]) for token in state]
            for state in self.tokens[:, row].tolist()
        ]

    def answers(self, tokenizer: Any) -> list[str]:
        """What was written in each sequence, as text."""
        return [tokenizer.decode(self.final[row][self.generated[row]].tolist()) for row in range(self.final.shape[0])]

    def __repr__(self) -> str:
        batch, pos = self.final.shape
        return f"Trace({self.order}: {batch} x {pos} tokens, {self.steps} steps, {self.forward_passes} forward passes)"


class Recorder:
    """Collects the steps of a run; a `Trace` at the end.

    A step only notes references and the few most probable tokens: arranging them by position waits for the end, so
    that a run costs little more than its forward passes.
    """

    def __init__(self, start: Int[Tensor, "batch pos"], top: int, order: str) -> None:
        self._start, self._top, self._order = start, top, order
        self._steps: list[tuple[Tensor, ...]] = []

    def step(
        self,
        tokens: Int[Tensor, "batch pos"],
        hidden: Bool[Tensor, "batch pos"],
        confidence: Float[Tensor, " n"],
        probabilities: Float[Tensor, "n vocab"],
        unmasked: Bool[Tensor, "batch pos"],
        remasked: Bool[Tensor, "batch pos"] | None = None,
    ) -> None:
        """Note one step: the state after it, what was hidden before it, and what the model said at those n places.

        The tensors are kept, not copied: the caller must not change them afterwards.
        """
        best = probabilities.topk(self._top, dim=-1)
        remasked = torch.zeros_like(unmasked) if remasked is None else remasked
        self._steps.append((tokens, hidden, unmasked, remasked, confidence, best.indices, best.values))

    def trace(self, forward_passes: int) -> Trace:
        shape = (len(self._steps), *self._start.shape)
        columns = list(zip(*self._steps, strict=True))
        states = torch.stack([self._start, *(columns[0] if columns else ())]).cpu()
        hidden, unmasked, remasked = (
            torch.stack(column).cpu() if columns else torch.zeros(shape, dtype=torch.bool)
            for column in (columns[1:4] or [()] * 3)
        )
        confidence = torch.full(shape, torch.nan)
        ids = torch.full((*shape, self._top), -1)
        chances = torch.full((*shape, self._top), torch.nan)
        for arranged, column in zip((confidence, ids, chances), columns[4:], strict=False):
            arranged[hidden] = torch.cat(column).cpu().to(arranged.dtype)
        return Trace(states, confidence, unmasked, remasked, ids, chances, forward_passes, self._order)
