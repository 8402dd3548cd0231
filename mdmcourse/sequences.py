"""Token sequences of unequal lengths, and which of their tokens are the answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Sequences padded on the right to one length: what models are trained on.

    Attributes
    ----------
    tokens: token ids.
    attention_mask: True at real tokens, False at padding.
    answer: True at the tokens that the task asks for; everything else is prompt (or padding).
    """

    tokens: Int[Tensor, "batch pos"]
    attention_mask: Bool[Tensor, "batch pos"]
    answer: Bool[Tensor, "batch pos"]

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def __repr__(self) -> str:
        return f"Sequences({len(self)} of up to {self.tokens.shape[1]} tokens, {int(self.answer.sum())} to answer)"

    def select(self, index: Int[Tensor, " n"]) -> Sequences:
        """The sequences at `index`, in that order, without columns that would be padding only."""
        attention_mask = self.attention_mask[index]
        length = int(attention_mask.sum(dim=1).max())
        return Sequences(self.tokens[index, :length], attention_mask[:, :length], self.answer[index, :length])

    @staticmethod
    def from_lists(tokens: list[list[int]], answers: list[tuple[int, int]], pad_id: int) -> Sequences:
        """Pad lists of token ids; `answers[n]` is the half-open range of sequence n that is its answer."""
        length = max(map(len, tokens))
        padded = torch.tensor([ids + [pad_id] * (length - len(ids)) for ids in tokens])
        position = torch.arange(length)
        lengths = torch.tensor([len(ids) for ids in tokens])
        starts, ends = torch.tensor(answers).T
        return Sequences(
            padded,
            position < lengths[:, None],
            (position >= starts[:, None]) & (position < ends[:, None]),
        )

    @staticmethod
    def cat(parts: Iterable[Sequences]) -> Sequences:
        """All sequences of all parts, padded to the longest (with token 0, which `attention_mask` hides)."""
        parts = list(parts)
        length = max(part.tokens.shape[1] for part in parts)

        def widen(tensor: Tensor) -> Tensor:
            return torch.nn.functional.pad(tensor, (0, length - tensor.shape[1]))

        return Sequences(
            torch.cat([widen(part.tokens) for part in parts]),
            torch.cat([widen(part.attention_mask) for part in parts]),
            torch.cat([widen(part.answer) for part in parts]),
        )
