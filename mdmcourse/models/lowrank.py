"""Post-training a real model in few numbers: low-rank changes of its linear layers (LoRA, Hu et al., arXiv 2106.09685).

A layer y = W x becomes y = W x + (alpha / rank) B A x, with A [rank, in] and B [out, rank] trained and W frozen. An
MDM also needs a vector for its mask token; it is trained too. On disk the change is kept in eight bits a number, and
loading adds it to W: what is loaded is a plain decoder again, of the same class and speed as before.

Written here rather than taken from a library: it is forty lines, they are part of what the course teaches, and the
mask's vector, the eight-bit file and the merged decoder would each have to be built around a library's wrappers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models.reading import MDM, LanguageModel
from mdmcourse.storage import read_tensors, write_tensors


class Change(nn.Module):
    """What is trained beside a frozen module; `hook` puts it to use."""

    hook: Any


class LowRank(Change):
    """The trained part of one layer: x -> (alpha / rank) B A x. It is nothing at all before training, B being zero."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, generator: Generator) -> None:
        super().__init__()
        bound = layer.in_features**-0.5
        a = torch.empty(rank, layer.in_features).uniform_(-bound, bound, generator=generator)
        self.a = nn.Parameter(a.to(layer.weight.device))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank, device=layer.weight.device))
        self.scale = alpha / rank

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return (x @ self.a.to(x.dtype).T) @ (self.scale * self.b).to(x.dtype).T


class MaskVector(Change):
    """The trained embedding of the mask token, beside a frozen table of the others."""

    def __init__(self, table: nn.Embedding, mask_id: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(table.weight[mask_id].detach().float().clone())
        self.mask_id = mask_id


def attach(model: LanguageModel, rank: int, alpha: float, *, seed: int = 0) -> None:
    """Freeze a model's decoder and give its layers low-rank changes to train, and an MDM's mask token a vector.

    Done by hooks on the decoder's own linear layers; `detach` takes them away again. Raises InputError if the decoder
    has no `nn.Linear` layers (GPT-2 does not), or has changes attached already.
    """
    layers = dict(_linear_layers(model.decoder))
    if is_attached(model.decoder) or not layers or rank < 1:
        raise InputError(
            f"Low-rank changes of rank {rank} cannot be attached to {model!r}.",
            "It has them already, or its layers are not plain linear layers, or the rank is not positive.",
            "Use a model of the Llama or Qwen families, once, with a rank of at least 1.",
        )
    for parameter in model.decoder.parameters():
        parameter.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        change: Change = LowRank(layer, rank, alpha, generator)
        change.hook = layer.register_forward_hook(_add_change)
        layer.lowrank = change
    if isinstance(model, MDM):
        table = model.decoder.get_input_embeddings()
        change = MaskVector(table, model.mask_id)
        change.hook = table.register_forward_hook(_put_mask)
        table.lowrank = change


def is_attached(decoder: nn.Module) -> bool:
    """Has this decoder changes that are not merged into its weights?"""
    return any(isinstance(module, Change) for module in decoder.modules())


def changes(decoder: nn.Module) -> Iterator[tuple[str, nn.Module, Change]]:
    """Name, layer and change of everything that has one."""
    for name, module in decoder.named_modules():
        change = getattr(module, "lowrank", None)
        if isinstance(change, Change):
            yield name, module, change


def detach(decoder: nn.Module) -> None:
    """Take the changes away: the decoder computes what it did before, and all of it can be trained again."""
    for _, module, change in list(changes(decoder)):
        change.hook.remove()
        del module.lowrank
    for parameter in decoder.parameters():
        parameter.requires_grad_(True)


def _add_change(layer: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
    return output + layer.lowrank(args[0])


def _put_mask(table: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
    mask = table.lowrank
    return torch.where((args[0] == mask.mask_id)[..., None], mask.vector.to(output.dtype), output)


def _linear_layers(decoder: Any) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of all blocks: not the head, which is the table of embeddings once more."""
    for name, module in decoder.base_model.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module


# On disk


@dataclass(frozen=True)
class Adapter:
    """Low-rank changes as they are kept: eight bits a number, one scale for each of the `rank` directions of a matrix.

    Attributes
    ----------
    tensors: for each layer ``NAME.a``, ``NAME.b`` (int8) and their scales ``NAME.a_scale``, ``NAME.b_scale``; for an
        MDM ``mask`` (float32).
    about: what it was trained from, on what and how.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]

    @classmethod
    def of(cls, decoder: nn.Module, about: dict[str, Any]) -> Adapter:
        """The changes that are attached to a decoder, rounded to eight bits."""
        tensors: dict[str, Tensor] = {}
        for name, _, change in changes(decoder):
            if isinstance(change, MaskVector):
                tensors["mask"] = change.vector.detach().float().cpu()
            if not isinstance(change, LowRank):
                continue
            for part, matrix in (("a", change.a), ("b", change.scale * change.b.T)):  # both [rank, ...]
                scale = matrix.detach().abs().amax(dim=1).clamp(min=1e-12) / 127
                tensors[f"{name}.{part}"] = (matrix.detach() / scale[:, None]).round().to(torch.int8).cpu()
                tensors[f"{name}.{part}_scale"] = scale.float().cpu()
        return cls(tensors, about)

    def save(self, path: str | Path) -> None:
        """Write it, whole or not at all."""
        write_tensors(Path(path), self.tensors, self.about)

    @classmethod
    def load(cls, path: str | Path) -> Adapter:
        """Read what `save` wrote. Raises CheckpointError if the file is damaged or something else."""
        tensors, about = read_tensors(Path(path))
        if not any(name.endswith(".a_scale") for name in tensors):
            raise CheckpointError(
                f"{path} holds no low-rank changes.",
                "Merged into a model it would change nothing.",
                "Check the path: changes are what `mdmcourse posttrain` writes.",
            )
        return cls(tensors, about)

    @torch.no_grad()
    def merge(self, model: LanguageModel) -> None:
        """Add the changes to the weights of a model, in place.

        Raises CheckpointError, and changes nothing, if they do not fit: another shape, other layers, or an MDM's for an
        ARM.
        """
        layers = dict(model.decoder.named_modules())
        names = {name.removesuffix(".a") for name in self.tensors if name.endswith(".a")}
        fits = ("mask" in self.tensors) == isinstance(model, MDM) and all(
            name in layers
            and {f"{name}.a_scale", f"{name}.b", f"{name}.b_scale"} <= self.tensors.keys()
            and getattr(layers[name], "weight", torch.empty(0)).shape
            == (self.tensors[f"{name}.b"].shape[1], self.tensors[f"{name}.a"].shape[1])
            for name in names
        )
        if not fits or not names or is_attached(model.decoder):
            raise CheckpointError(
                f"These low-rank changes ({json.dumps(self.about.get('base', '?'))}) do not fit {model!r}.",
                "They were trained on a decoder with other layers, or for the other kind of model.",
                "Use load_pair, which puts together what belongs together.",
            )
        for name in names:
            a, b = (self.tensors[f"{name}.{part}"] * self.tensors[f"{name}.{part}_scale"][:, None] for part in "ab")
            weight = layers[name].weight
            weight.copy_(weight.float() + (b.T @ a).to(weight.device))
        if isinstance(model, MDM):
            table = model.decoder.get_input_embeddings().weight
            table[model.mask_id] = self.tensors["mask"].to(table)

    def __repr__(self) -> str:
        size = sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())
        return f"Adapter({sum(name.endswith('.a') for name in self.tensors)} layers, {size / 1e6:.1f} MB)"
