"""Training a masked diffusion model: the course's own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor


def attention_layer(
    x: Float[Tensor, "batch pos d_model"],
    wq: Float[Tensor, "d_model d_model"],
    wk: Float[Tensor, "d_model d_model"],
    wv: Float[Tensor, "d_model d_model"],
    wo: Float[Tensor, "d_model d_model"],
    heads: int,
    rotate: Callable[[Tensor], Tensor],
    causal: bool,
) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch head query key"]]:
    """The output and the attention of one layer; weights as in nn.Linear."""
    q, k, v = ((x @ w.T).unflatten(-1, (heads, -1)).transpose(1, 2) for w in (wq, wk, wv))  # [batch, head, pos, d]
    q, k = rotate(q), rotate(k)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # [batch, head, query, key]
    if causal:
        later = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
        scores = scores.masked_fill(later, -torch.inf)
    attention = scores.softmax(dim=-1)
    z = (attention @ v).transpose(1, 2).flatten(start_dim=2)  # [batch, pos, d_model], head beside head
    return z @ wo.T, attention


def noise_levels(batch: int, generator: Generator) -> Float[Tensor, " batch"]:
    """Stratified noise levels between 0.001 and 1: one from each slice, in random order."""
    slices = torch.randperm(batch, generator=generator)
    u = (slices + torch.rand(batch, generator=generator)) / batch
    return 0.001 + 0.999 * u


def training_loss(
    logits: Float[Tensor, "batch pos vocab"],
    x: Int[Tensor, "batch pos"],
    masked: Bool[Tensor, "batch pos"],
    maskable: Bool[Tensor, "batch pos"],
    t: Float[Tensor, " batch"],
    weighted: bool = True,
) -> Float[Tensor, ""]:
    """The masked diffusion loss in nats per maskable token: masked positions only, weighted with 1/t."""
    log_p = logits[masked].log_softmax(dim=-1)  # [n, vocab]
    losses = -log_p.gather(-1, x[masked][:, None])[:, 0]
    if weighted:
        losses = losses / t[:, None].expand(x.shape)[masked]
    return losses.sum() / maskable.sum()


def entropy_given(texts: Int[Tensor, "text pos"], seen: Sequence[int], i: int) -> Float[Tensor, ""]:
    """H(x_i | x_seen) in nats, over texts that are all equally likely."""
    sizes = []  # for each text, how many texts look the same there
    for places in (list(seen), [*seen, i]):
        look = torch.cat([torch.zeros_like(texts[:, :1]), texts[:, places]], dim=1)  # one column at least
        _, which, count = look.unique(dim=0, return_inverse=True, return_counts=True)
        sizes.append(count[which].double())
    before, together = sizes
    return -(together / before).log().mean()


def fair_runs(base: dict[str, Any], factor: str, values: Sequence[Any], budget: int) -> list[dict[str, Any]]:
    """The runs of a fair comparison: all values of the factor, the same seeds and the same number of texts for each."""
    seeds = range(3)
    texts = budget // (len(values) * len(seeds))  # for each run
    runs = []
    for value in values:
        for seed in seeds:
            run = {**base, factor: value, "seed": seed}
            runs.append({**run, "steps": texts // run["batch_size"]})
    return runs
