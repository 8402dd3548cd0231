"""Running a circuit: the clean prompt, with every edge outside the circuit carrying something else.

A reader v is sent the residual stream of its own run plus, for every removed edge u -> v, (replacement of u - what u
writes in this run). With the corrupted run as replacement, all edges in give the clean run and no edges in give the
corrupted run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mdmcourse.circuits.adapter import Anatomy, Layer, normed
from mdmcourse.circuits.capture import Written, after, before, before_block, head_outputs
from mdmcourse.circuits.graph import Graph

Ablation = Literal["counterfactual", "zero", "mean", "mean-position"]
"""What a removed edge u -> v carries instead: "counterfactual" what u writes on the corrupted prompt, "zero" nothing,
"mean" what u writes on average over the clean prompts and their positions, "mean-position" the same at each position
separately."""


@dataclass
class Remembered:
    """A run without any removed edge, from which runs on the same tokens can go on.

    Attributes
    ----------
    outputs: of each layer's block, as it returned them.
    written: what every source wrote.
    """

    outputs: list[Any]
    written: Written


@contextmanager
def block_outputs(layers: Sequence[Layer]) -> Iterator[list[Any]]:
    """Keeps what the blocks of these layers return in the next forward pass."""
    with ExitStack() as stack:
        outputs: list[Any] = []
        for layer in layers:
            stack.callback(after(layer.block, outputs.append).remove)
        yield outputs


@contextmanager
def _not_computed(layers: Sequence[Layer], outputs: Sequence[Any]) -> Iterator[None]:
    """In the forward passes of the block, these layers return their outputs without computing anything."""
    with ExitStack() as stack:
        for layer, output in zip(layers, outputs, strict=True):
            own = vars(layer.block).get("forward")  # Accelerate sets one where a model lies on several devices
            stack.callback(
                partial(setattr, layer.block, "forward", own) if own else partial(delattr, layer.block, "forward")
            )
            setattr(layer.block, "forward", lambda *args, output=output, **kwargs: output)  # noqa: B010
        yield


@contextmanager
def rerouted(
    parts: Anatomy,
    graph: Graph,
    removed: Bool[Tensor, "source reader"],
    replacement: Written,
    remembered: Remembered | None = None,
) -> Iterator[None]:
    """In the forward passes of the block, removed edges carry `replacement`.

    `replacement` may have a batch or position axis of length 1: then it is the same for all of them. Layers that lose
    no edge are left alone, to the last bit; those before the first that loses one are not even computed if the passes
    are on the tokens of a `remembered` run.
    """
    edges = _Rerouting(parts, graph, removed, replacement, remembered)
    if not edges.removed.any():
        yield
        return
    with ExitStack() as stack:
        stack.callback(before_block(parts.layers[0].block, edges.of_input).remove)
        if remembered is not None:
            skipped = parts.layers[: edges.first]
            stack.enter_context(_not_computed(skipped, remembered.outputs[: edges.first]))
        for index, layer in enumerate(parts.layers):
            columns = graph.attention_readers(index)
            if edges.loses(slice(columns["q"].start, columns["v"].stop)):
                stack.callback(before(layer.attention_norm, partial(edges.read_by_heads, index)).remove)
                for module in {projection.module for projection in layer.projections.values()}:
                    stack.callback(after(module, partial(edges.project, index, module)).remove)
            stack.callback(before(layer.output, partial(edges.of_heads, index)).remove)
            if edges.loses(slice(graph.mlp_reader(index), graph.mlp_reader(index) + 1)):
                stack.callback(before(layer.mlp_norm, partial(edges.read_by_mlp, index)).remove)
            stack.callback(after(layer.mlp, partial(edges.of_mlp, index)).remove)
        if edges.loses(slice(graph.logits_reader, None)):
            stack.callback(before(parts.final_norm, edges.read_by_logits).remove)
        yield


class _Rerouting:
    """What the hooks of one circuit share: how far each source, in this run, is from its replacement."""

    def __init__(
        self, parts: Anatomy, graph: Graph, removed: Tensor, replacement: Written, remembered: Remembered | None
    ) -> None:
        self.parts, self.graph, self.replacement, self.remembered = parts, graph, replacement, remembered
        self.removed = removed & graph.exists
        self.kept = graph.exists & ~removed
        self.change = torch.empty(0)  # replacement minus current value: [source, batch, pos, d_model]
        self.total = torch.empty(0)  # its sum over the sources so far: [batch, pos, d_model]
        self.normed = torch.empty(0)  # what a layer's q, k and v readers read: [reader, batch, pos, d_model]
        self.early: Tensor | None = None  # added for a layer's MLP, from before the layer: [batch, pos, d_model]

    @property
    def first(self) -> int:
        """The first layer that loses an edge, or the number of layers."""
        of_layer = self.graph.reader_layer[self.removed.any(dim=0).cpu()]
        return int(of_layer.min()) if len(of_layer) else self.graph.layers

    def loses(self, columns: slice) -> bool:
        return bool(self.removed[:, columns].any())

    # Sources: note replacement minus current value

    def of_input(self, stream: Tensor) -> None:
        self.change = stream.new_empty(self.graph.n_sources, *stream.shape)
        self.total = self.replacement.input.to(stream) - stream
        self.change[0] = self.total
        if self.remembered is not None:
            for index in range(self.first):  # they are not computed
                self.of_heads(index, self.remembered.written.heads[index])
                self.of_mlp(index, self.remembered.written.mlps[index])

    def of_heads(self, index: int, results: Tensor) -> None:
        change = self.replacement.heads[index].to(results) - results
        of_heads = head_outputs(self.parts.layers[index], change).to(self.change)
        self.change[self.graph.heads_of(index)] = of_heads.transpose(0, 1)
        self.total = self.total + of_heads.sum(dim=1)

    def of_mlp(self, index: int, output: Tensor) -> None:
        change = (self.replacement.mlps[index].to(output) - output).to(self.change)
        self.change[self.graph.mlp_of(index)] = change
        self.total = self.total + change
        self.early = None  # the layer is over

    # Readers: add it for the removed edges

    def read_by_heads(self, index: int, stream: Tensor) -> None:
        columns, mlp = self.graph.attention_readers(index), self.graph.mlp_reader(index)
        # The MLP's share of the same sources comes with it: reading them once more would cost as much again.
        added = self._removed_into(slice(columns["q"].start, mlp + 1), before=self.graph.heads_of(index).start)
        self.early = added[-1]
        self.normed = added[:-1].to(stream).add_(stream)
        for of_reader in self.normed:  # one at a time: what a norm needs on the way then fits a processor's cache
            of_reader.copy_(normed(self.parts.layers[index].attention_norm, of_reader))

    def read_by_mlp(self, index: int, stream: Tensor) -> Tensor:
        heads, column = self.graph.heads_of(index), slice(mlp := self.graph.mlp_reader(index), mlp + 1)
        if self.early is None:
            return stream + self._removed_into(column, before=heads.stop)[0].to(stream)
        added = self.early + self._sum_over(self.removed[heads, column], self.change[heads])[0]
        return stream + added.to(stream)

    def read_by_logits(self, stream: Tensor) -> Tensor:
        column = slice(self.graph.logits_reader, None)
        return stream + self._removed_into(column, before=self.graph.n_sources)[0].to(stream)

    def project(self, index: int, module: nn.Module, output: Tensor) -> Tensor:
        """Compute a module's output anew, every head from what it reads itself."""
        columns = self.graph.attention_readers(index)
        output = output.clone()
        for kind, projection in self.parts.layers[index].projections.items():
            if projection.module is module:
                rows = slice(columns[kind].start - columns["q"].start, columns[kind].stop - columns["q"].start)
                of_heads = torch.einsum("hbpd,hed->bphe", self.normed[rows], projection.weight)
                if projection.bias is not None:
                    of_heads = of_heads + projection.bias
                output[..., projection.rows] = of_heads.flatten(-2)
        return output

    def _removed_into(self, columns: slice, before: int) -> Float[Tensor, "reader batch pos d_model"]:
        """What the removed edges from the sources before this one, which are those so far, add for these readers.

        Either the sum over removed edges, or that over all edges less the kept ones: whichever has fewer sources. So a
        small circuit costs little.
        """
        removed, kept, change = self.removed[:before, columns], self.kept[:before, columns], self.change[:before]
        if removed.any(dim=1).sum() <= kept.any(dim=1).sum():
            return self._sum_over(removed, change)
        return self.total - self._sum_over(kept, change)

    def _sum_over(
        self, edges: Bool[Tensor, "source reader"], change: Float[Tensor, "source batch pos d_model"]
    ) -> Float[Tensor, "reader batch pos d_model"]:
        rows = edges.any(dim=1).nonzero()[:, 0]
        # Picking sources out copies them, which costs more than multiplying by zeros unless they are few.
        if 4 * len(rows) < len(edges):
            edges, change = edges[rows], change.index_select(0, rows.to(change.device))
        return torch.einsum("sr,sbpd->rbpd", edges.to(change), change)


def zeros(written: Written) -> Written:
    """What removed edges carry with zero ablation."""
    return written.map(lambda x: torch.zeros_like(x[:1, :1]))


def mean(written: Written, ablation: Ablation) -> Written:
    """What removed edges carry with mean ablation: the mean over prompts, and for "mean" over positions too.

    In float32 at least: in bfloat16, means of batches would not add up to the mean of all.
    """
    axes = (0, 1) if ablation == "mean" else (0,)
    return written.map(lambda x: x.mean(dim=axes, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)))
