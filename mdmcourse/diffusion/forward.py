"""The forward process of masked diffusion: every token is replaced by the mask, independently, more and more of them.

At noise level t in [0, 1] a token x is still there with probability alpha(t) and is the mask m otherwise:

    q(x_t | x) = alpha(t) [x_t = x] + (1 - alpha(t)) [x_t = m]           (Sahoo et al., arXiv 2406.07524)

with alpha(0) = 1 (nothing masked) and alpha(1) = 0 (everything masked).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from mdmcourse.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """How the noise level turns into a rate of masking.

    Attributes
    ----------
    name: "linear" or "cosine".
    alpha: t -> probability that a token is still there.
    weight: t -> -alpha'(t) / (1 - alpha(t)), the weight of the loss at t in the evidence lower bound.
    """

    name: str
    alpha: Callable[[Float[Tensor, "*any"]], Float[Tensor, "*any"]]
    weight: Callable[[Float[Tensor, "*any"]], Float[Tensor, "*any"]]

    def __repr__(self) -> str:
        return f"Schedule({self.name})"


# alpha = 1 - t, so that the weight is 1/t
LINEAR = Schedule("linear", lambda t: 1 - t, lambda t: 1 / t)
# alpha = 1 - cos(pi (1 - t) / 2): few masks for most of the way, then many
COSINE = Schedule(
    "cosine",
    lambda t: 1 - torch.cos(math.pi / 2 * (1 - t)),
    lambda t: math.pi / 2 * torch.tan(math.pi / 2 * (1 - t)),
)


def sample_t(
    batch: int, generator: Generator | None = None, *, t_min: float = 1e-3, stratified: bool = True
) -> Float[Tensor, " batch"]:
    """Noise levels, uniform on [t_min, 1], one for each sequence.

    Stratified: one from each of `batch` equal slices, in random order. Each is still uniform, and the mean over the
    batch varies much less (Kingma et al., arXiv 2107.00630).
    """
    u = torch.rand(batch, generator=generator)
    if stratified:
        u = (torch.randperm(batch, generator=generator) + u) / batch
    return t_min + (1 - t_min) * u


def forward_process(
    x: Int[Tensor, "batch pos"],
    t: Float[Tensor, " batch"],
    mask_id: int,
    *,
    maskable: Bool[Tensor, "batch pos"] | None = None,
    schedule: Schedule = LINEAR,
    generator: Generator | None = None,
) -> Int[Tensor, "batch pos"]:
    """Draw x_t from q(x_t | x): each maskable token becomes `mask_id` with probability 1 - alpha(t).

    `x` is not changed. `maskable` defaults to every position; prompts and padding are left alone by leaving them out.
    Random numbers are drawn on the CPU, so that a seed gives the same masks on every device.
    Raises InputError if a t is outside [0, 1] or x already holds the mask where it may be masked.
    """
    if ((t < 0) | (t > 1)).any() or t.isnan().any():
        raise InputError(
            f"t runs from {t.min():.3g} to {t.max():.3g}.",
            "A noise level is a number from 0 (nothing masked) to 1 (everything masked).",
            "Draw it with sample_t, or clamp it.",
        )
    if maskable is None:
        maskable = torch.ones_like(x, dtype=torch.bool)
    if ((x == mask_id) & maskable).any():
        raise InputError(
            f"x already holds the mask token {mask_id} at a position that may be masked.",
            "There is no original token to predict there.",
            "Pass clean text, or exclude those positions from maskable.",
        )
    rate = (1 - schedule.alpha(t))[:, None].to(x.device)
    masked = (torch.rand(x.shape, generator=generator).to(x.device) < rate) & maskable
    return torch.where(masked, mask_id, x)
