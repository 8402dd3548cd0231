"""Real checkpoints: the course's own answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mdmcourse.lens import linear_cka


def edges_of(layers: int, heads: int, kv_heads: int) -> int:
    """How many edges the graph of a decoder has whose heads share keys and values in groups."""
    total = 0
    for layer in range(layers):
        before = 1 + layer * (heads + 1)  # the input, and all heads and MLPs of the layers below
        total += (heads + 2 * kv_heads) * before  # queries, keys and values
        total += before + heads  # the MLP reads the heads of its own layer too
    return total + 1 + layers * (heads + 1)  # the logits read everything


def scores_next(
    rows: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"], masked: Bool[Tensor, "batch pos"]
) -> bool:
    """Does the row before a masked token score it better than the row at its own place?"""
    log_p = rows.float().log_softmax(dim=-1)
    batch, position = masked[:, 1:].nonzero(as_tuple=True)  # the first token has no row before it
    token = tokens[batch, position + 1]
    return bool(log_p[batch, position, token].mean() > log_p[batch, position + 1, token].mean())


def who_sees(
    read: Callable[[Int[Tensor, "1 pos"]], Float[Tensor, "1 pos vocab"]], tokens: Int[Tensor, "1 pos"], other: int
) -> Bool[Tensor, "pos pos"]:
    """sees[i, j]: does row i change if token j becomes `other`, a token that is not among them?"""
    before = read(tokens)
    columns = []
    for j in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[0, j] = other
        columns.append((read(changed) != before)[0].any(dim=-1))
    return torch.stack(columns, dim=1)


def shares_of_tokens(x: Float[Tensor, "token d"]) -> Float[Tensor, " token"]:
    """How much of the variance of a representation each token makes up; the shares add up to 1."""
    squares = (x - x.mean(dim=0)).square().sum(dim=1)
    return squares / squares.sum()


def cka_without_giants(x: Float[Tensor, "token d_x"], y: Float[Tensor, "token d_y"], times: float) -> float:
    """Linear CKA of the tokens that in neither model are longer than `times` the median length there."""
    keep = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for each in (x, y):
        length = each.norm(dim=1)
        keep &= length <= times * length.median()
    return linear_cka(x[keep], y[keep])
