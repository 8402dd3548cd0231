"""Masking and the bound: the course's own answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def forward_mask(x: Int[Tensor, "batch pos"], t: Float[Tensor, " batch"], mask_id: int) -> Int[Tensor, "batch pos"]:
    """Replace each token of sequence n by the mask with probability t[n], independently of all others."""
    coins = torch.rand(x.shape)
    return torch.where(coins < t[:, None], mask_id, x)


def unmask_probability(alpha_s: Float[Tensor, "*any"], alpha_t: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The probability that a token which is masked at time t is not masked at the earlier time s."""
    return (alpha_s - alpha_t) / (1 - alpha_t)


def loss_weight(alpha: Callable[[Tensor], Tensor], t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The weight - alpha'(t) / (1 - alpha(t)) of any schedule."""
    t = t.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(alpha(t).sum(), t)
    return -slope / (1 - alpha(t.detach()))


def bound_sample(
    losses: Float[Tensor, "batch pos"], masked: Bool[Tensor, "batch pos"], t: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """One estimate of the bound, in nats per sequence: 1/t times the sum of the losses at masked positions."""
    return losses.masked_fill(~masked, 0).sum(dim=1) / t


def bound_by_count(mean_loss: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The bound from mean_loss[k - 1], the mean loss of a masked token when exactly k of the n tokens are masked."""
    return mean_loss.sum()
