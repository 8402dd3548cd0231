"""Neurons of the MLPs: what they are on which prompts, and how choosy they are."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdmcourse.circuits.adapter import anatomy_of
from mdmcourse.circuits.capture import before, target_logits
from mdmcourse.errors import InputError
from mdmcourse.lens.logit_lens import batches
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts


@torch.no_grad()
def neuron_activations(
    model: LanguageModel, prompts: Prompts, batch_size: int = 64
) -> Float[Tensor, "layer prompt neuron"]:
    """What every neuron is, on the clean prompts, at the position that predicts the analysed token.

    A neuron is an input of an MLP's last matrix. Raises InputError for a decoder of an unknown family, and if there are
    no prompts.
    """
    parts = anatomy_of(model)
    rows = []
    for part in batches(prompts, batch_size, model):
        found: list[Tensor] = []
        with ExitStack() as stack:
            for layer in parts.layers:
                stack.callback(before(_last_matrix(layer.mlp), found.append).remove)
            target_logits(model, part.clean, part.target)
        at = part.target - int(model.shift)
        rows.append(torch.stack([x[torch.arange(len(part)), at].float().cpu() for x in found]))
    return torch.cat(rows, dim=1)


def selectivity(activations: Float[Tensor, "layer prompt neuron"]) -> Float[Tensor, "layer neuron"]:
    """How choosy each neuron is among the prompts, by the size r of its activation: 0 if it is the same on all, 1 if a
    single prompt moves it. S = (1 - mean(r)^2 / mean(r^2)) / (1 - 1/n); Vinje and Gallant (2000). A neuron that nothing
    moves is NaN. Raises InputError for fewer than two prompts.
    """
    n = activations.shape[1]
    if n < 2:
        raise InputError(f"{n} prompts.", "Being choosy takes a choice.", "Give at least two prompts.")
    size = activations.abs()
    return (1 - size.mean(dim=1).square() / size.square().mean(dim=1)) / (1 - 1 / n)


def top_prompts(
    activations: Float[Tensor, "layer prompt neuron"], layer: int, neuron: int, n: int = 5
) -> Int[Tensor, " n"]:
    """The prompts that move a neuron most, by the size of its activation: their numbers, the strongest first."""
    size = activations[layer, :, neuron].abs()
    return size.argsort(descending=True, stable=True)[:n]


def _last_matrix(mlp: nn.Module) -> nn.Module:
    names: Any = mlp
    return names.down_proj if hasattr(names, "down_proj") else names.c_proj
