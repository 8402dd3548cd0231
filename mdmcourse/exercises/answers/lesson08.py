"""Causal interventions: the course's own answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def with_patch(
    block: nn.Module, given: Float[Tensor, "prompt pos d_model"], positions: list[int], run: Callable[[], Any]
) -> Any:
    """What `run()` gives while the stream that enters `block` is, at these positions, that of `given`."""

    def put(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        stream = args[0].clone()
        stream[:, positions] = given[:, positions]
        return (stream, *args[1:])

    handle = block.register_forward_pre_hook(put)
    try:
        return run()
    finally:
        handle.remove()


def normalised_effect(
    patched: Float[Tensor, " prompt"],
    clean: Float[Tensor, " prompt"],
    corrupted: Float[Tensor, " prompt"],
    direction: str,
) -> Float[Tensor, ""]:
    """The share of the distance between the two runs that a patch restores ("denoise") or destroys ("noise")."""
    distance = clean.mean() - corrupted.mean()
    if direction == "denoise":
        return (patched.mean() - corrupted.mean()) / distance
    return (clean.mean() - patched.mean()) / distance


def deciding_runs() -> dict[str, list[tuple[str, str]]]:
    """For each claim the runs that decide it: a direction and the components that are patched in it."""
    return {
        "A is enough": [("denoise", "A")],
        "A is needed": [("noise", "A")],
        "only A matters": [("denoise", "A"), ("noise", "A")],
        "A and B back each other up": [("noise", "A"), ("noise", "B"), ("noise", "AB")],
        "A and B work only together": [("denoise", "A"), ("denoise", "B"), ("denoise", "AB")],
    }


def linear_effect(
    gradient: Float[Tensor, "prompt pos feature"],
    here: Float[Tensor, "prompt pos feature"],
    there: Float[Tensor, "prompt pos feature"],
) -> Float[Tensor, "prompt pos"]:
    """By how much the metric moves, to first order, if `here` becomes `there`; the gradient was taken at `here`."""
    return (gradient * (there - here)).sum(dim=-1)


def averaged_effect(
    metric: Callable[[Tensor], Float[Tensor, " prompt"]],
    start: Float[Tensor, "prompt pos feature"],
    end: Float[Tensor, "prompt pos feature"],
    steps: int,
) -> Float[Tensor, "prompt pos"]:
    """Each position's share of metric(end) - metric(start): the mean gradient on the straight way, times the way."""
    total = torch.zeros_like(start)
    for k in range(steps):
        alpha = (k + 0.5) / steps
        point = (start + alpha * (end - start)).detach().requires_grad_()
        total += torch.autograd.grad(metric(point).sum(), point)[0]
    return (total / steps * (end - start)).sum(dim=-1)
