"""Circuits: the course's own answers."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor


def edge_scores(
    clean: Float[Tensor, "source prompt pos d_model"],
    corrupted: Float[Tensor, "source prompt pos d_model"],
    gradients: Float[Tensor, "reader prompt pos d_model"],
    exists: Bool[Tensor, "source reader"],
) -> Float[Tensor, "source reader"]:
    """EAP: what each source writes, clean minus corrupted, times the gradient at each reader; mean over prompts."""
    summed = torch.einsum("snpd,rnpd->sr", clean - corrupted, gradients)
    return torch.where(exists, summed / clean.shape[1], 0)


def rule_weights(points: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The weights with which n points of [0, 1] integrate every polynomial of degree below n exactly."""
    powers = torch.arange(len(points), dtype=points.dtype)
    return torch.linalg.solve(points ** powers[:, None], 1 / (powers + 1))


def without_dead_ends(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges (source, node) that lie on a way from "input" to "logits"."""
    kept = set(edges)
    while True:
        fed = {"input"} | {node for _, node in kept}
        useful = {"logits"} | {source for source, _ in kept}
        further = {(source, node) for source, node in kept if source in fed and node in useful}
        if further == kept:
            return kept
        kept = further


def faithfulness(
    circuit: Float[Tensor, " prompt"], full: Float[Tensor, " prompt"], none: Float[Tensor, " prompt"]
) -> Float[Tensor, ""]:
    """The share of the metric, mean over prompts, that a circuit keeps: 1 as with all edges, 0 as with none."""
    return (circuit.mean() - none.mean()) / (full.mean() - none.mean())


def control_circuit(
    edges: Bool[Tensor, "source reader"], exists: Bool[Tensor, "source reader"], generator: Generator
) -> Bool[Tensor, "source reader"]:
    """A random circuit in which as many edges enter each reader as in a given one, from sources drawn anew."""
    luck = torch.where(exists, torch.rand(exists.shape, generator=generator), 2.0)
    rank = luck.argsort(dim=0).argsort(dim=0)
    return rank < edges.sum(dim=0)
