"""From ARM to MDM: the course's own answers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def aligned_logits(raw: Float[Tensor, "batch pos vocab"], shifted: bool) -> Float[Tensor, "batch pos vocab"]:
    """Logits whose row i scores token i; NaN where no row of the decoder does."""
    if not shifted:
        return raw.clone()
    aligned = torch.full_like(raw, torch.nan)
    aligned[:, 1:] = raw[:, :-1]
    return aligned


def annealed_mask(length: int, s: float) -> Bool[Tensor, "pos pos"]:
    """May position i see position j? Causal at s = 0, full at s = 1, in between each look ahead with probability s."""
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return causal | (torch.rand(length, length) < s)


def step_cost(maskable: Bool[Tensor, "batch pos"], parameters: int, t_min: float) -> tuple[float, float]:
    """(FLOPs of one training step, predictions that it learns from on average), t being uniform on [t_min, 1]."""
    flops = 6.0 * parameters * maskable.numel()
    learnt = maskable.sum().item() * (1 + t_min) / 2
    return flops, learnt


def controls_for(treatment: Any, arm_steps: int) -> dict[str, Any]:
    """For each rival explanation of what the treatment shows, the run that would show it too if that were all."""
    untrained = treatment._replace(objective=None, steps=0)
    return {
        "already": untrained._replace(attention="causal"),
        "attention": untrained,
        "training": treatment._replace(attention="causal", objective="next token"),
        "masks": treatment._replace(start="random"),
        "compute": treatment._replace(start="random", steps=arm_steps + treatment.steps),
        "luck": treatment._replace(seed=treatment.seed + 1),
    }
