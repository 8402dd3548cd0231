"""What the metric gains when a reader's input moves: gradients for all readers of all layers, in one backward pass.

No copy of the residual stream is made for each head. Gradients are taken at the outputs of the q, k and v projections
and of the norms; each head's part is then mapped back through its slice of the projection's weights, and through the
norm, whose Jacobian is known in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdmcourse.circuits.adapter import Anatomy, Layer, centred, norm_weight, through_norm, unit_and_scale
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

    with ExitStack() as stack:
        if kind == "input":
            stack.callback(before_block(layer.block, partial(_instead, leaf)).remove)
        elif kind == "heads":
            stack.callback(before(layer.output, partial(_instead, leaf)).remove)
        else:
            stack.callback(after(layer.mlp, partial(_instead, leaf)).remove)
        for each in parts.layers:
            stack.callback(before(each.attention_norm, partial(read.streams.__setitem__, each.attention_norm)).remove)
            for module in {projection.module for projection in each.projections.values()}:
                stack.callback(after(module, partial(read.projected.__setitem__, module)).remove)
        for norm in (*(each.mlp_norm for each in parts.layers), parts.final_norm):
            stack.callback(before(norm, partial(read.streams.__setitem__, norm)).remove)
            stack.callback(after(norm, partial(read.normed.__setitem__, norm)).remove)
        yield read


def _instead(value: Tensor, original: Tensor) -> Tensor:
    return value


class ReaderGradients:
    """Gradients of the metric with respect to what each reader reads, summed over weighted runs.

    They are kept small while runs go on, beside autograd's own graph, and written out when all is done: see
    `_OfAttention`.
    """

    def __init__(self, graph: Graph, parts: Anatomy, like: Float[Tensor, "batch pos d_model"]) -> None:
        self._graph, self._parts, self._like = graph, parts, like
        self._dtype = torch.promote_types(like.dtype, torch.float32)
        self._attention = [_OfAttention(layer, self._dtype) for layer in parts.layers]
        self._direct: dict[nn.Module, Tensor] = {}  # of the MLPs and the logits, by their norm

    def add(self, read: Read, metric: Float[Tensor, ""], weight: float) -> None:
        """Add `weight` times the gradients of `metric`, which was computed in the forward pass that `read` watched."""
        outputs = read.outputs
        found = torch.autograd.grad(metric, list(outputs.values()), allow_unused=True)
        gradients = {module: g for module, g in zip(outputs, found, strict=True) if g is not None}
        with torch.no_grad():
            for of_layer in self._attention:
                of_layer.add(read, gradients, weight)
            for norm in read.normed.keys() & gradients.keys():
                x, g = read.streams[norm].detach().to(self._dtype), gradients[norm].to(self._dtype)
                unit, scale = unit_and_scale(norm, x)
                g = through_norm(norm, g[:, None], unit)[:, 0] * (scale * weight)
                self._direct[norm] = self._direct[norm] + g if norm in self._direct else g

    def values(self) -> Float[Tensor, "batch reader pos d_model"]:
        """The sums, in float32 (float64 for a float64 model): the largest tensor of an attribution."""
        graph, parts = self._graph, self._parts
        batch, pos, d_model = self._like.shape
        values = torch.zeros(batch, graph.n_readers, pos, d_model, dtype=self._dtype, device=self._like.device)
        for index, (layer, of_layer) in enumerate(zip(parts.layers, self._attention, strict=True)):
            columns = graph.attention_readers(index)
            of_layer.write(values[:, columns["q"].start : columns["v"].stop])
            if layer.mlp_norm in self._direct:
                values[:, graph.mlp_reader(index)] = self._direct[layer.mlp_norm].to(values.device)
        values[:, graph.logits_reader] = self._direct[parts.final_norm].to(values.device)
        return values


class _OfAttention:
    """The gradients of a layer's q, k and v readers, summed over weighted runs.

    With W a head's weights, w those of the norm, u its input before w and 1/r its scale, a reader's gradient is

        P(w W^T g) / r - u (u . w W^T g) / (d_model r)

    for the gradient g at the head's output (P takes the mean out, for a LayerNorm). W, w and P are the same in all
    runs. So of the first term the sum of g / r is kept, d_head numbers a head instead of d_model; of the second, for
    each run, one vector u for all heads and one number a head.
    """

    def __init__(self, layer: Layer, dtype: torch.dtype) -> None:
        self._layer, self._dtype = layer, dtype
        self._sums: dict[str, Float[Tensor, "batch pos head d_head"]] = {}
        self._units: list[Float[Tensor, "batch pos d_model"]] = []
        self._along: list[Float[Tensor, "batch reader pos"]] = []
        self._written: Float[Tensor, "batch reader pos d_model"] | None = None

    def add(self, read: Read, gradients: dict[nn.Module, Tensor], weight: float) -> None:
        layer, norm = self._layer, self._layer.attention_norm
        if not any(projection.module in gradients for projection in layer.projections.values()):
            return
        unit, scale = unit_and_scale(norm, read.streams[norm].detach().to(self._dtype))
        weighted = unit * norm_weight(norm, self._dtype)
        along = []
        for kind, projection in layer.projections.items():
            heads, d_head, d_model = projection.weight.shape
            of_heads = torch.zeros(*unit.shape[:2], heads, d_head, dtype=self._dtype, device=unit.device)
            if projection.module in gradients:
                part = gradients[projection.module][..., projection.rows].unflatten(-1, (heads, d_head))
                of_heads = part.to(self._dtype) * (weight * scale[..., None])
            projected = torch.einsum("bpd,hed->bphe", weighted, projection.weight.to(self._dtype))
            along.append(torch.linalg.vecdot(of_heads, projected).transpose(1, 2) / d_model)
            self._sums[kind] = self._sums[kind] + of_heads if kind in self._sums else of_heads
        self._units.append(unit)
        self._along.append(torch.cat(along, dim=1))
        if len(self._units) >= self._along[0].shape[1]:  # from here on, the sum itself is the smaller
            self._fold()

    def _fold(self) -> None:
        """Sum up what the runs have kept of the second term."""
        total = torch.einsum("nbpd,nbrp->brpd", torch.stack(self._units), torch.stack(self._along))
        self._written = total if self._written is None else self._written + total
        self._units, self._along = [], []

    def write(self, values: Float[Tensor, "batch reader pos d_model"]) -> None:
        """Write the sums into `values`, and forget them."""
        if not self._sums:
            return
        norm, start = self._layer.attention_norm, 0
        for kind, projection in self._layer.projections.items():
            rows = slice(start, start + len(projection.weight))
            start = rows.stop
            back = torch.einsum("bphe,hed->bhpd", self._sums[kind], projection.weight.to(self._dtype))
            values[:, rows] = centred(norm, back.mul_(norm_weight(norm, self._dtype))).to(values.device)
        if self._units:
            self._fold()
        if self._written is not None:
            values -= self._written.to(values.device)
        self._sums, self._written = {}, None


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
