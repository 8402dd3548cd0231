"""Sampling by unmasking: the course's own answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def certainty(
    probabilities: Float[Tensor, "pos vocab"], chosen: Int[Tensor, " pos"], order: str
) -> Float[Tensor, " pos"]:
    """How early each position should be written, the highest number first."""
    if order == "random":
        return torch.rand(len(probabilities))
    if order == "confidence":
        return probabilities.gather(-1, chosen[:, None])[:, 0]
    if order == "margin":
        best, second = probabilities.topk(2, dim=-1).values.unbind(dim=-1)
        return best - second
    return -torch.special.entr(probabilities).sum(dim=-1)  # entr(p) is -p log p, and 0 at p = 0


def pick(score: Float[Tensor, " pos"], allowed: Bool[Tensor, " pos"], count: int) -> Bool[Tensor, " pos"]:
    """The `count` allowed positions with the highest scores; of equal ones those further left."""
    order = score.masked_fill(~allowed, -torch.inf).argsort(descending=True, stable=True)
    picked = torch.zeros_like(allowed)
    picked[order[:count]] = True
    return picked & allowed


def unmask(
    look: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    tokens: Int[Tensor, " pos"],
    mask_id: int,
    passes: int,
    remask: int = 0,
    block_length: int | None = None,
) -> list[Int[Tensor, " pos"]]:
    """Fill in every mask, and return the tokens at the start and after each pass."""
    states = [tokens.clone()]
    sure = torch.zeros(len(tokens))
    to_write = (tokens == mask_id).nonzero()[:, 0]
    blocks = to_write.split(block_length or len(to_write))
    for number, block in enumerate(blocks):
        budget = passes // len(blocks) + (number < passes % len(blocks))
        again = min(remask, len(block) - 1)
        inside = torch.zeros_like(tokens, dtype=torch.bool)
        inside[block] = True
        for left in range(budget, 0, -1):
            now = states[-1].clone()
            hidden, older = inside & (now == mask_id), inside & (now != mask_id)
            if not hidden.any():
                break
            chosen, confidence, score = look(now)
            to_come = again * max(0, left - 2 if left == budget else left - 1)
            due = -(-(int(hidden.sum()) + to_come) // left)
            keep = pick(score, hidden, due)
            now[keep], sure[keep] = chosen[keep], confidence[keep]
            if left > 1:
                now[pick(-sure, older, again)] = mask_id
            states.append(now)
    return states


def written_by(joint: Float[Tensor, "*words"], groups: list[list[int]]) -> Float[Tensor, "*words"]:
    """The distribution of what an ideal model writes if it writes one group of positions a pass."""
    written = torch.ones_like(joint)
    seen: list[int] = []
    for group in groups:
        for i in group:
            unknown = [k for k in range(joint.ndim) if k != i and k not in seen]
            together = joint.sum(dim=unknown, keepdim=True) if unknown else joint  # p(seen, x_i)
            before = together.sum(dim=i, keepdim=True)  # p(seen)
            written = written * torch.where(before > 0, together / before, 1 / joint.shape[i])
        seen = seen + group
    return written


def choose_now(
    probabilities: Float[Tensor, "pos vocab"], hidden: Bool[Tensor, " pos"], passes_left: int
) -> Bool[Tensor, " pos"]:
    """All that are nearly sure, and of the unsure ones as many as are due, those with the lowest entropy first."""
    entropy = torch.special.entr(probabilities).sum(dim=-1).masked_fill(~hidden, torch.inf)
    nearly_sure = entropy < 0.25
    unsure = hidden & ~nearly_sure
    due = -(-int(unsure.sum()) // passes_left)
    place = entropy.argsort(stable=True).argsort() - int(nearly_sure.sum())  # 0 for the first of the unsure ones
    return nearly_sure | unsure & (place < due)
