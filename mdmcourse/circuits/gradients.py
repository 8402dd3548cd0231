"""What the metric gains when a reader's input moves: gradients for all readers of all layers, in one backward pass.

No copy of the residual stream is made for each head. Gradients are taken at the outputs of the q, k and v projections
and of the norms; each head's part is then mapped back through its slice of the projection's weights, and through the
norm, whose Jacobian is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdmcourse.circuits.adapter import Anatomy, Layer, centred, norm_weight, through_norm, unit_and_scale
from mdmcourse.circuits.capture import Written, after, before, before_block, head_outputs
from mdmcourse.circuits.graph import Graph

WRITTEN_OUT = 2**26
"""Bytes of gradients that are written out at a time."""

Part = tuple[slice, slice]
"""Some prompts of a batch, and some of their positions."""

Group = tuple[Literal["input", "heads", "mlp"], int]
"""Sources that stand side by side: the input, all heads of a layer, or the MLP of a layer."""


def contracted_in(dtype: torch.dtype) -> torch.dtype:
    """The type in which scores of a model of `dtype` are contracted: its own, but for float16, whose range small
    gradients leave. Sums over runs are kept in float32 at least."""
    return torch.float32 if dtype == torch.float16 else dtype


def groups(graph: Graph) -> list[Group]:
    """All groups of sources, in order."""
    per_layer: list[Group] = [group for layer in range(graph.layers) for group in (("heads", layer), ("mlp", layer))]
    return [("input", 0), *per_layer]


def written_by(written: Written, group: Group) -> Tensor:
    """What one group wrote, as `Written` keeps it."""
    kind, layer = group
    return {"input": [written.input], "heads": written.heads, "mlp": written.mlps}[kind][layer]


class ReaderGradients:
    """Gradients of the metric with respect to what each reader reads, summed over weighted runs.

    Each is taken the moment that the backward pass comes by, by a hook on the tensor, so that no more is kept than a
    plain backward pass keeps. The sums are small while runs go on, and written out when all is done: see
    `_OfAttention`.
    """

    def __init__(self, graph: Graph, parts: Anatomy, like: Float[Tensor, "batch pos d_model"]) -> None:
        """like: a tensor of the shape, the device and the type that the sums are contracted with."""
        self._graph, self._parts, self._like = graph, parts, like
        self._dtype = torch.promote_types(like.dtype, torch.float32)
        self._attention = [_OfAttention(layer, self._dtype, like.dtype) for layer in parts.layers]
        self._direct: dict[nn.Module, Tensor] = {}  # of the MLPs and the logits, by their norm
        self._streams: dict[nn.Module, Tensor] = {}  # what each norm of the run in progress read

    @contextmanager
    def watching(self, moved: Group, leaf: Tensor, weights: Float[Tensor, " run"]) -> Iterator[None]:
        """The next forward pass is of several runs of the batch, one behind the other along the first axis, and has
        `leaf` written by one group of sources; the backward pass that follows adds to the sums the gradients of all
        readers that depend on it, those of each run times its weight. Nothing before `leaf` needs any."""
        kind, place = moved
        layer = self._parts.layers[place]
        with ExitStack() as stack:
            stack.callback(self._streams.clear)
            if kind == "input":
                stack.callback(before_block(layer.block, partial(_instead, leaf)).remove)
            elif kind == "heads":
                stack.callback(before(layer.output, partial(_instead, leaf)).remove)
            else:
                stack.callback(after(layer.mlp, partial(_instead, leaf)).remove)
            for each, of_layer in zip(self._parts.layers, self._attention, strict=True):
                stack.callback(before(each.attention_norm, partial(of_layer.begin, weights)).remove)
                stack.callback(of_layer.forget)
                for module in {projection.module for projection in each.projections.values()}:
                    stack.callback(after(module, partial(_on_gradient, partial(of_layer.add, module))).remove)
            for norm in (*(each.mlp_norm for each in self._parts.layers), self._parts.final_norm):
                stack.callback(before(norm, partial(self._streams.__setitem__, norm)).remove)
                stack.callback(after(norm, partial(_on_gradient, partial(self._add, norm, weights))).remove)
            yield
            for of_layer in self._attention:
                of_layer.end()

    def _add(self, norm: nn.Module, weights: Tensor, gradient: Tensor) -> None:
        """Add the gradient at the output of the norm before an MLP or the logits."""
        x, g = self._streams.pop(norm).detach().to(self._dtype), gradient.to(self._dtype)
        unit, scale = unit_and_scale(norm, x)
        g = _sum_of_runs(through_norm(norm, g[:, None], unit)[:, 0] * scale, weights)
        self._direct[norm] = self._direct[norm] + g if norm in self._direct else g

    def parts(self) -> Iterator[tuple[Part, Float[Tensor, "part reader pos d_model"]]]:
        """The sums written out, for some prompts and positions at a time: for a whole batch they would be the largest
        tensor of an attribution. They are all written into the same memory: use one before you ask for the next."""
        batch, pos, d_model = self._like.shape
        tokens = max(1, WRITTEN_OUT // (self._graph.n_readers * d_model * self._like.dtype.itemsize))
        prompts, positions = min(max(1, tokens // pos), batch), min(tokens, pos)
        memory = self._like.new_empty(prompts, self._graph.n_readers, positions, d_model)
        for row in range(0, batch, prompts):
            for column in range(0, pos, positions):
                part = (slice(row, min(row + prompts, batch)), slice(column, min(column + positions, pos)))
                count, width = (of_axis.stop - of_axis.start for of_axis in part)
                values = memory[:count, :, :width]
                self._write(part, values)
                yield part, values

    def _write(self, part: Part, values: Float[Tensor, "part reader pos d_model"]) -> None:
        """Write the sums of some prompts and positions into `values`."""
        graph = self._graph
        for index, of_layer in enumerate(self._attention):
            columns = graph.attention_readers(index)
            of_layer.write(part, values[:, columns["q"].start : columns["v"].stop])
        norms = [layer.mlp_norm for layer in self._parts.layers]
        readers = [graph.mlp_reader(index) for index in range(graph.layers)]
        for norm, reader in zip([*norms, self._parts.final_norm], [*readers, graph.logits_reader], strict=True):
            values[:, reader] = self._direct[norm][part].to(values.device) if norm in self._direct else 0


def _instead(value: Tensor, original: Tensor) -> Tensor:
    return value


def _on_gradient(add: Callable[[Tensor], None], output: Tensor) -> None:
    """Have `add` told the gradient at `output`, if there will be one; `output` itself is not kept."""
    if output.requires_grad:
        output.register_hook(partial(_tell, add))


def _sum_of_runs(values: Float[Tensor, "run_batch ..."], weights: Float[Tensor, " run"]) -> Tensor:
    """The weighted sum of runs that lie one behind the other."""
    return torch.tensordot(weights.to(values), values.unflatten(0, (len(weights), -1)), dims=1)


@torch.no_grad()
def _tell(add: Callable[[Tensor], None], gradient: Tensor) -> None:
    add(gradient)


class _OfAttention:
    """The gradients of a layer's q, k and v readers, summed over weighted runs.

    With W a head's weights, w those of the norm, u its input before w and 1/r its scale, a reader's gradient is

        P(w W^T g) / r - u (u . w W^T g) / (d_model r)

    for the gradient g at the head's output (P takes the mean out, for a LayerNorm). W, w and P are the same in all
    runs. So of the first term the sum of g / r is kept, d_head numbers a head instead of d_model; of the second, for
    each run, one vector u for all heads and one number a head. "run_batch" are runs of the batch that were computed
    together, one behind the other.
    """

    def __init__(self, layer: Layer, dtype: torch.dtype, written: torch.dtype) -> None:
        """Sums in `dtype`; what has d_model numbers, and each product with a weight, in `written`."""
        self._layer, self._dtype, self._as = layer, dtype, written
        self._sums: dict[str, Float[Tensor, "batch pos head d_head"]] = {}
        self._units: list[Float[Tensor, "batch pos d_model"]] = []  # of each run
        self._along: list[Float[Tensor, "batch reader pos"]] = []
        self._written: Float[Tensor, "batch reader pos d_model"] | None = None
        # Of the runs in progress: weights, what the norm read and what it made of that; and the new entries of _along.
        self._weights, self._stream = torch.empty(0), torch.empty(0)
        self._unit, self._scale = torch.empty(0), torch.empty(0)
        self._of_runs: dict[str, Float[Tensor, "run_batch reader pos"]] = {}

    def begin(self, weights: Float[Tensor, " run"], stream: Tensor) -> None:
        """A forward pass has come to this layer's norm."""
        self._weights, self._stream = weights, stream

    def add(self, module: nn.Module, gradient: Tensor) -> None:
        """Add the gradient at the output of one of the projections."""
        norm = self._layer.attention_norm
        if not self._of_runs:
            self._unit, self._scale = unit_and_scale(norm, self._stream.detach().to(self._dtype))
        weighted = (self._unit * norm_weight(norm, self._dtype)).to(self._as)
        for kind, projection in self._layer.projections.items():
            if projection.module is not module:
                continue
            heads, d_head, d_model = projection.weight.shape
            of_heads = gradient[..., projection.rows].unflatten(-1, (heads, d_head)).to(self._dtype)
            of_heads = of_heads * self._scale[..., None]
            projected = torch.einsum("bpd,hed->bphe", weighted, projection.weight.to(self._as)).to(self._dtype)
            self._of_runs[kind] = torch.linalg.vecdot(of_heads, projected).transpose(1, 2) / d_model
            total = _sum_of_runs(of_heads, self._weights)
            self._sums[kind] = self._sums[kind] + total if kind in self._sums else total

    def end(self) -> None:
        """The runs went well: keep what they add to the second term."""
        if self._of_runs:
            along = torch.cat([self._of_runs[kind] for kind in self._layer.projections], dim=1)
            runs = len(self._weights)
            self._units += self._unit.to(self._as).chunk(runs)
            self._along += [
                weight * each for weight, each in zip(self._weights.to(along), along.chunk(runs), strict=True)
            ]
            if len(self._units) >= self._along[0].shape[1]:  # from here on, the sum itself is the smaller
                self._fold()

    def forget(self) -> None:
        """Keep nothing of the runs in progress: they are over, or something went wrong in them."""
        self._stream = self._unit = self._scale = torch.empty(0)
        self._of_runs = {}

    def _fold(self) -> None:
        """Sum up what the runs have kept of the second term."""
        total = self._second_term((slice(None), slice(None))).to(self._dtype)
        self._written = total if self._written is None else self._written + total
        self._units, self._along = [], []

    def _second_term(self, part: Part) -> Float[Tensor, "part reader pos d_model"]:
        units = torch.stack([unit[part] for unit in self._units])
        along = torch.stack([each[part[0], :, part[1]] for each in self._along]).to(units)
        return torch.einsum("nbpd,nbrp->brpd", units, along)

    def write(self, part: Part, values: Float[Tensor, "part reader pos d_model"]) -> None:
        """Write the sums of some prompts and positions into `values`."""
        if not self._sums:
            values.zero_()
            return
        norm, start = self._layer.attention_norm, 0
        for kind, projection in self._layer.projections.items():
            rows = slice(start, start + len(projection.weight))
            start = rows.stop
            sums, weight = (each.to(self._as) for each in (self._sums[kind][part], projection.weight))
            back = torch.einsum("bphe,hed->bhpd", sums, weight)
            values[:, rows] = centred(norm, back.mul_(norm_weight(norm, self._as))).to(values.device)
        if self._units:
            values -= self._second_term(part).to(values.device)
        if self._written is not None:
            values -= self._written[part[0], :, part[1]].to(values.device)


def contract(
    graph: Graph,
    parts: Anatomy,
    difference: Written,
    part: Part,
    gradients: Float[Tensor, "part reader pos d_model"],
    chosen: list[Group],
    into: Tensor,
) -> None:
    """Add (what a source wrote, clean minus corrupted) . (a reader's gradient) to `into`, for the edges that leave the
    chosen groups: summed over d_model, and over positions too unless `into` has an axis for them.

    part: the prompts and positions that `gradients` are of.
    into: [batch source reader] or [batch pos source reader], of the whole batch.
    """
    for kind, layer in chosen:
        of_group = written_by(difference, (kind, layer))[part].to(gradients.dtype)
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
            into[part[0], part[1], rows, first:] += torch.einsum("bspd,brpd->bpsr", u, downstream).to(into.device)
        else:
            into[part[0], rows, first:] += _products(u.flatten(2), downstream.flatten(2)).to(into.device)


def _products(
    u: Float[Tensor, "part source pos_d_model"], gradients: Float[Tensor, "part reader pos_d_model"]
) -> Float[Tensor, "part source reader"]:
    if u.device.type == "cpu" and u.dtype == torch.bfloat16:
        # There, PyTorch's batched product copies the gradients first, and takes eight times as long as one by one.
        return torch.stack([one @ other.mT for one, other in zip(u, gradients, strict=True)])
    return torch.bmm(u, gradients.mT)
