"""What the metric gains when a reader's input moves: gradients for all readers of all layers, in one backward pass.

No copy of the residual stream is made for each head. Gradients are taken at the outputs of the q, k and v projections
and of the norms; each head's part is then mapped back through its slice of the projection's weights, and through the
norm, whose Jacobian is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdmcourse.circuits.adapter import Anatomy, Layer, norm_gradient
from mdmcourse.circuits.capture import Written, after, before, before_block, head_outputs
from mdmcourse.circuits.graph import Graph

Group = tuple[Literal["input", "heads", "mlp"], int]
"""Sources that stand side by side: the input, all heads of a layer, or the MLP of a layer."""


def groups(graph: Graph) -> list[Group]:
    """All groups of sources, in order."""
    per_layer: list[Group] = [group for layer in range(graph.layers) for group in (("heads", layer), ("mlp", layer))]
    return [("input", 0), *per_layer]


def written_by(written: Written, group: Group) -> Tensor:
    """What one group wrote, as `Written` keeps it."""
    kind, layer = group
    return {"input": [written.input], "heads": written.heads, "mlp": written.mlps}[kind][layer]


@dataclass
class Read:
    """Tensors of one forward pass that depend on what was moved: where gradients are taken.

    Attributes
    ----------
    streams: the residual stream at every norm.
    normed: what the norms before MLPs and logits made of it.
    projected: the outputs of the projections.
    """

    streams: dict[nn.Module, Tensor] = field(default_factory=dict)
    normed: dict[nn.Module, Tensor] = field(default_factory=dict)
    projected: dict[nn.Module, Tensor] = field(default_factory=dict)

    @property
    def outputs(self) -> dict[nn.Module, Tensor]:
        return {module: x for module, x in (self.normed | self.projected).items() if x.requires_grad}


@contextmanager
def reading(parts: Anatomy, moved: Group, value: Tensor) -> Iterator[Read]:
    """The next forward pass has `value` written by one group of sources, and is watched at all readers.

    Gradients flow from `value` on; nothing before it needs any.
    """
    read = Read()
    leaf = value.detach().requires_grad_()
    kind, place = moved
    layer = parts.layers[place]

    def put(original: Tensor) -> Tensor:
        return leaf

    def note(notes: dict[nn.Module, Tensor], module: nn.Module) -> Callable[[Tensor], None]:
        def into(tensor: Tensor) -> None:
            notes[module] = tensor

        return into

    with ExitStack() as stack:
        if kind == "input":
            stack.callback(before_block(layer.block, put).remove)
        elif kind == "heads":
            stack.callback(before(layer.output, put).remove)
        else:
            stack.callback(after(layer.mlp, put).remove)
        for each in parts.layers:
            stack.callback(before(each.attention_norm, note(read.streams, each.attention_norm)).remove)
            for module in {projection.module for projection in each.projections.values()}:
                stack.callback(after(module, note(read.projected, module)).remove)
        for norm in (*(each.mlp_norm for each in parts.layers), parts.final_norm):
            stack.callback(before(norm, note(read.streams, norm)).remove)
            stack.callback(after(norm, note(read.normed, norm)).remove)
        yield read


class ReaderGradients:
    """Gradients of the metric with respect to what each reader reads, summed over weighted runs.

    values: for every prompt and reader, in float32 (float64 for a float64 model): the largest tensor of an attribution.
    """

    def __init__(self, graph: Graph, parts: Anatomy, like: Float[Tensor, "batch pos d_model"]) -> None:
        self._graph, self._parts = graph, parts
        batch, pos, d_model = like.shape
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        self.values = torch.zeros(batch, graph.n_readers, pos, d_model, dtype=dtype, device=like.device)

    def add(self, read: Read, metric: Float[Tensor, ""], weight: float) -> None:
        """Add `weight` times the gradients of `metric`, which was computed in the forward pass that `read` watched."""
        outputs = read.outputs
        found = torch.autograd.grad(metric, list(outputs.values()), allow_unused=True)
        gradients = {module: g for module, g in zip(outputs, found, strict=True) if g is not None}
        with torch.no_grad():
            for index, layer in enumerate(self._parts.layers):
                columns = self._graph.attention_readers(index)
                if any(projection.module in gradients for projection in layer.projections.values()):
                    both = slice(columns["q"].start, columns["v"].stop)
                    g = self._through_projections(layer, columns, gradients)
                    self._add(both, layer.attention_norm, read, g, weight)
                if layer.mlp_norm in gradients:
                    column = self._graph.mlp_reader(index)
                    g = gradients[layer.mlp_norm].to(self.values.dtype)[:, None]
                    self._add(slice(column, column + 1), layer.mlp_norm, read, g, weight)
            norm, column = self._parts.final_norm, self._graph.logits_reader
            self._add(slice(column, None), norm, read, gradients[norm].to(self.values.dtype)[:, None], weight)

    def _through_projections(
        self, layer: Layer, columns: dict[str, slice], gradients: dict[nn.Module, Tensor]
    ) -> Float[Tensor, "batch reader pos d_model"]:
        """Each q, k and v reader's gradient at the output of the attention's norm."""
        batch, _, pos, d_model = self.values.shape
        first = columns["q"].start
        g = self.values.new_zeros(batch, columns["v"].stop - first, pos, d_model)
        for kind, projection in layer.projections.items():
            if projection.module in gradients:
                heads, d_head, _ = projection.weight.shape
                of_heads = gradients[projection.module][..., projection.rows].unflatten(-1, (heads, d_head))
                rows = slice(columns[kind].start - first, columns[kind].stop - first)
                g[:, rows] = torch.einsum(
                    "bphe,hed->bhpd", of_heads.to(g.dtype), projection.weight.to(g.device, g.dtype)
                )
        return g

    def _add(self, columns: slice, norm: nn.Module, read: Read, g: Tensor, weight: float) -> None:
        x = read.streams[norm].detach().to(self.values.device)
        self.values[:, columns].add_(norm_gradient(norm, x, g.to(x.device)), alpha=weight)


def contract(
    graph: Graph,
    parts: Anatomy,
    difference: Written,
    gradients: Float[Tensor, "batch reader pos d_model"],
    chosen: list[Group],
    into: Tensor,
) -> None:
    """Add (what a source wrote, clean minus corrupted) . (a reader's gradient) to `into`, for the edges that leave the
    chosen groups: summed over d_model, and over positions too unless `into` has an axis for them.

    into: [batch source reader] or [batch pos source reader].
    """
    for kind, layer in chosen:
        of_group = written_by(difference, (kind, layer)).to(gradients.dtype)
        if kind == "input":
            rows, first, u = slice(0, 1), 0, of_group[:, None]
        elif kind == "heads":
            rows, first, u = graph.heads_of(layer), graph.mlp_reader(layer), head_outputs(parts.layers[layer], of_group)
        else:
            row = graph.mlp_of(layer)
            rows, first, u = slice(row, row + 1), graph.mlp_reader(layer) + 1, of_group[:, None]
        downstream = gradients[:, first:]
        u = u.to(gradients.device)
        if into.ndim == 4:
            into[:, :, rows, first:] += torch.einsum("bspd,brpd->bpsr", u, downstream).to(into.device)
        else:
            into[:, rows, first:] += torch.bmm(u.flatten(2), downstream.flatten(2).mT).to(into.device)
