"""Looking inside: the course's own answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def sink_score(pattern: Float[Tensor, "*any query key"], causal: bool) -> Float[Tensor, "*any key"]:
    """The mean attention that each key gets from the other queries that can see it; NaN if fewer than three can."""
    n = pattern.shape[-1]
    sees = ~torch.eye(n, dtype=torch.bool)
    if causal:
        sees = sees.tril()
    count = sees.sum(dim=0)
    score = (pattern * sees).sum(dim=-2) / count.clamp(min=1)
    return score.masked_fill(count < 3, torch.nan)


def row_change(before: Float[Tensor, "*any m m"], after: Float[Tensor, "*any n n"]) -> Float[Tensor, "*any"]:
    """The share of their attention that the rows which both patterns have moved to another key, on average."""
    m, n = before.shape[-1], after.shape[-1]
    wider = torch.nn.functional.pad(before, (0, n - m))  # nobody looked at keys that were not there
    return (after[..., :m, :] - wider).abs().sum(dim=-1).mean(dim=-1) / 2


def lens_logits(
    stream: Float[Tensor, "place batch pos d_model"],
    norm: Callable[[Tensor], Tensor],
    head: Callable[[Tensor], Tensor],
    shifted: bool,
) -> Float[Tensor, "place batch pos vocab"]:
    """Aligned logits at every place of the residual stream; NaN where no row scores a token."""
    raw = head(norm(stream))
    if not shifted:
        return raw
    aligned = torch.full_like(raw, torch.nan)
    aligned[:, :, 1:] = raw[:, :, :-1]
    return aligned


def settled_place(on_top: Bool[Tensor, "place prompt"]) -> Int[Tensor, " prompt"]:
    """The first place from which the answer is on top to stay; the number of places if it is not on top at the end."""
    stays = on_top.flip(0).int().cumprod(dim=0)  # read from the end: 1 as long as it has always been on top
    return len(on_top) - stays.sum(dim=0)


def direct_shares(
    writes: Float[Tensor, "source prompt d_model"],
    gain: Float[Tensor, " d_model"],
    eps: float,
    towards: Float[Tensor, "prompt d_model"],
) -> Float[Tensor, "source prompt"]:
    """What each source adds to the logit difference, the final norm's scale being held at what the whole stream has."""
    stream = writes.sum(dim=0)
    scale = torch.rsqrt(stream.square().mean(dim=-1) + eps)
    return torch.einsum("spd,d,pd,p->sp", writes, gain, towards, scale)
