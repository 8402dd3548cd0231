"""What every source writes into the residual stream, recorded by hooks on the library's own modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdmcourse.circuits.adapter import Anatomy, Layer, Projection
from mdmcourse.models.reading import LanguageModel


@dataclass
class Written:
    """What every source wrote in one run. Heads are kept as they are before their output weight: that is d_head
    numbers a head instead of d_model.

    Attributes
    ----------
    input: the embedding (with position embeddings, if the decoder adds any).
    heads: for each layer the heads' results side by side.
    mlps: for each layer the MLP's output.
    """

    input: Float[Tensor, "batch pos d_model"]
    heads: list[Float[Tensor, "batch pos all_heads"]]
    mlps: list[Float[Tensor, "batch pos d_model"]]

    def map(self, change: Callable[..., Tensor], *others: Written) -> Written:
        """`change` of every tensor, and of those in its place in the others."""
        return Written(
            change(self.input, *(other.input for other in others)),
            [change(*xs) for xs in zip(self.heads, *(other.heads for other in others), strict=True)],
            [change(*xs) for xs in zip(self.mlps, *(other.mlps for other in others), strict=True)],
        )

    def minus(self, other: Written, dtype: torch.dtype) -> Written:
        """The difference, in `dtype`."""
        return self.map(lambda one, two: one.to(dtype) - two.to(dtype), other)


def head_outputs(
    layer: Layer, results: Float[Tensor, "batch pos all_heads"]
) -> Float[Tensor, "batch head pos d_model"]:
    """What each head of a layer adds to the residual stream."""
    heads, d_head, _ = layer.output_weight.shape
    weight = layer.output_weight.to(results.dtype)
    return torch.einsum("bphe,hed->bhpd", results.unflatten(-1, (heads, d_head)), weight)


def target_logits(
    model: LanguageModel, tokens: Int[Tensor, "batch pos"], target: Int[Tensor, " batch"]
) -> Float[Tensor, "batch vocab"]:
    """The model's logits of the token at `target`, one row a prompt."""
    where = torch.zeros_like(tokens, dtype=torch.bool)
    where[torch.arange(len(tokens), device=tokens.device), target] = True
    return model.logits_at(tokens, where)


def before_block(block: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Any:
    """A hook that sees, and may replace, the residual stream that enters a layer."""
    return block.register_forward_pre_hook(partial(_stream, change), with_kwargs=True)


def before(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Any:
    """A hook that sees, and may replace, the input of a module."""
    return module.register_forward_pre_hook(partial(_input, change))


def after(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Any:
    """A hook that sees, and may replace, the output of a module."""
    return module.register_forward_hook(partial(_output, change))


def _stream(change: Callable, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    changed = change(args[0] if args else kwargs["hidden_states"])
    if changed is None:
        return None
    if args:
        return (changed, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": changed}


def _input(change: Callable, module: nn.Module, args: tuple) -> Tensor | None:
    return change(args[0])


def _output(change: Callable, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
    return change(output)


@contextmanager
def recording(parts: Anatomy) -> Iterator[Written]:
    """Records what every source writes in the next forward pass."""
    written = Written(torch.empty(0, 0, 0), [], [])

    def note_input(stream: Tensor) -> None:
        written.input = stream.detach()

    with ExitStack() as stack:
        stack.callback(before_block(parts.layers[0].block, note_input).remove)
        for layer in parts.layers:
            stack.callback(before(layer.output, lambda results: written.heads.append(results.detach())).remove)
            stack.callback(after(layer.mlp, lambda output: written.mlps.append(output.detach())).remove)
        yield written


@contextmanager
def one_key_per_query_head(parts: Anatomy) -> Iterator[Anatomy]:
    """The ungrouped decoder: every query head gets a copy of its key and value head for itself.

    The copies are equal, so nothing that the decoder computes changes; but each can be read, and changed, alone.
    """
    if parts.groups == 1:
        yield parts
        return
    layers = []
    with ExitStack() as stack:
        for layer in parts.layers:
            for shared in (layer.k, layer.v):
                stack.callback(after(shared.module, _copies(shared, parts.groups)).remove)
            # transformers itself repeats key and value heads so often; now they are repeated already.
            stack.callback(setattr, layer.attention, "num_key_value_groups", layer.attention.num_key_value_groups)
            setattr(layer.attention, "num_key_value_groups", 1)  # noqa: B010
            layers.append(replace(layer, k=_repeated(layer.k, parts.groups), v=_repeated(layer.v, parts.groups)))
        yield replace(parts, layers=tuple(layers), groups=1)


def _copies(projection: Projection, groups: int) -> Callable[[Tensor], Tensor]:
    heads = projection.weight.shape[0]

    def repeat(output: Tensor) -> Tensor:
        return output.unflatten(-1, (heads, -1)).repeat_interleave(groups, dim=-2).flatten(-2)

    return repeat


def _repeated(projection: Projection, groups: int) -> Projection:
    bias = projection.bias
    return replace(
        projection,
        weight=projection.weight.repeat_interleave(groups, dim=0),
        bias=None if bias is None else bias.repeat_interleave(groups, dim=0),
    )
