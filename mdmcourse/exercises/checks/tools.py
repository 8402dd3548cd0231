"""What several lessons need to test a property."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform numbers between two ends."""
    return low + (high - low) * torch.rand(*shape, generator=generator(seed))


def shape_of(found: Any) -> str:
    return f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"


def shown(values: Tensor, digits: int = 3) -> str:
    """A few numbers, short enough for a line."""
    flat = values.reshape(-1)[:6].tolist()
    text = ", ".join(f"{value:.{digits}g}" if isinstance(value, float) else str(value) for value in flat)
    return f"[{text}{', ...' if values.numel() > 6 else ''}]"


def differs(found: Any, expected: Tensor, given: str, tolerance: float = 1e-4) -> str | None:
    """None if `found` is `expected` up to rounding, else what was seen."""
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return f"{given} it gave {shape_of(found)}, expected was one of shape {tuple(expected.shape)}"
    if not torch.allclose(found.double(), expected.double(), rtol=tolerance, atol=tolerance):
        digits = 3 if shown(found) != shown(expected) else 7  # as many as show the difference
        return f"{given} it gave {shown(found, digits)}, expected was {shown(expected, digits)}"
    return None
