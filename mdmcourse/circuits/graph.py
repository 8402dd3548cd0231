"""The graph whose edges circuits are made of: who writes into the residual stream, and who reads it.

Sources write: ``input`` (the embedding), every attention head ``a3.h1``, every MLP ``m3``. Readers read: every head
three times, ``a3.h1<q>``, ``a3.h1<k>``, ``a3.h1<v>``, every MLP ``m3``, and ``logits``. A reader sees the residual
stream before its norm, which is the sum of everything written so far: so there is an edge from every source upstream to
every reader, ``a0.h2->a3.h1<q>``.

With grouped-query attention several query heads share one key and one value head. Its readers are ``a3.kv0<k>`` and
``a3.kv0<v>``; in the *ungrouped* graph that papers count, every query head has a copy of them for itself.

All edges lie in one dense matrix [source, reader]. Both axes run from the first layer to the last, so that the sources
upstream of a reader are always the first few rows of its column.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mdmcourse.errors import InputError

Readers = Literal["kv", "query"]


@dataclass(frozen=True)
class Graph:
    """The shape of a decoder, as nodes and edges.

    Attributes
    ----------
    layers, heads: of the decoder.
    kv_heads: key (and value) readers of a layer: the decoder's key-value heads, or in the ungrouped graph its heads.
    """

    layers: int
    heads: int
    kv_heads: int

    def __post_init__(self) -> None:
        sizes = (self.layers, self.heads, self.kv_heads)
        if not all(isinstance(size, int) and size > 0 for size in sizes) or self.heads % self.kv_heads:
            raise InputError(
                f"A graph of {self.layers!r} layers, {self.heads!r} heads, {self.kv_heads!r} key-value readers.",
                "These are positive whole numbers, and every key-value reader serves as many heads as the others.",
                "Take them from a decoder: Graph.of(model).",
            )

    @classmethod
    def of(cls, model: Any, readers: Readers = "kv") -> Graph:
        """The graph of an ARM, an MDM, or a Hugging Face config.

        readers: "kv" for one key and one value reader per key-value head, "query" for one per query head.
        """
        config = getattr(getattr(model, "decoder", model), "config", model)
        heads = config.num_attention_heads
        if readers not in ("kv", "query"):
            raise InputError(
                f"readers={readers!r}.", "It is not a kind of key and value reader.", 'Use "kv" or "query".'
            )
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        return cls(config.num_hidden_layers, heads, heads if readers == "query" else kv_heads)

    # Where things are in the matrix

    @property
    def n_sources(self) -> int:
        return 1 + self.layers * (self.heads + 1)

    @property
    def n_readers(self) -> int:
        return self.layers * self.readers_per_layer + 1

    @property
    def readers_per_layer(self) -> int:
        """q, k and v of a layer, and its MLP."""
        return self.heads + 2 * self.kv_heads + 1

    def heads_of(self, layer: int) -> slice:
        """The rows of a layer's heads."""
        start = 1 + layer * (self.heads + 1)
        return slice(start, start + self.heads)

    def mlp_of(self, layer: int) -> int:
        """The row of a layer's MLP."""
        return (layer + 1) * (self.heads + 1)

    def attention_readers(self, layer: int) -> dict[str, slice]:
        """The columns of a layer's "q", "k" and "v" readers."""
        start = layer * self.readers_per_layer
        q, k = start + self.heads, start + self.heads + self.kv_heads
        return {"q": slice(start, q), "k": slice(q, k), "v": slice(k, k + self.kv_heads)}

    def mlp_reader(self, layer: int) -> int:
        """The column of a layer's MLP."""
        return (layer + 1) * self.readers_per_layer - 1

    @property
    def logits_reader(self) -> int:
        return self.n_readers - 1

    @cached_property
    def upstream(self) -> Int[Tensor, " reader"]:
        """How many sources stand before each reader: the first so many rows of its column are edges."""
        attention = torch.arange(self.layers)[:, None] * (self.heads + 1) + 1
        before = attention.repeat(1, self.readers_per_layer)
        before[:, -1] += self.heads  # an MLP reads what the heads of its own layer wrote
        return torch.cat([before.flatten(), torch.tensor([self.n_sources])])

    @cached_property
    def exists(self) -> Bool[Tensor, "source reader"]:
        """Which entries of the matrix are edges."""
        return torch.arange(self.n_sources)[:, None] < self.upstream

    @property
    def n_edges(self) -> int:
        return int(self.upstream.sum())

    # Layers

    @cached_property
    def source_layer(self) -> Int[Tensor, " source"]:
        """The layer of each source; -1 for the input."""
        return torch.cat([torch.tensor([-1]), torch.arange(self.layers).repeat_interleave(self.heads + 1)])

    @cached_property
    def reader_layer(self) -> Int[Tensor, " reader"]:
        """The layer of each reader; for the logits the number of layers."""
        each = torch.arange(self.layers).repeat_interleave(self.readers_per_layer)
        return torch.cat([each, torch.tensor([self.layers])])

    # Names

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the rows."""
        names = ["input"]
        for layer in range(self.layers):
            names += [f"a{layer}.h{head}" for head in range(self.heads)] + [f"m{layer}"]
        return tuple(names)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Names of the columns."""
        shared = "kv" if self.kv_heads < self.heads else "h"
        names = []
        for layer in range(self.layers):
            names += [f"a{layer}.h{head}<q>" for head in range(self.heads)]
            names += [f"a{layer}.{shared}{head}<{kind}>" for kind in "kv" for head in range(self.kv_heads)]
            names += [f"m{layer}"]
        return (*names, "logits")

    def edge(self, name: str) -> tuple[int, int]:
        """Row and column of an edge by its name, ``a0.h2->a3.h1<q>``. Raises InputError if there is no such edge."""
        source, _, reader = name.partition("->")
        if source in self._row and reader in self._column:
            row, column = self._row[source], self._column[reader]
            if self.exists[row, column]:
                return row, column
        raise InputError(
            f"There is no edge {name!r} in this graph.",
            f"It has the sources {self.sources[0]} to {self.sources[-1]} and the readers {self.readers[0]} to "
            f"{self.readers[-1]}, and an edge runs downstream.",
            f"Write it like {self.sources[0]}->{self.readers[0]}.",
        )

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.sources)}

    @cached_property
    def _column(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.readers)}

    # Which node a reader belongs to

    def read_by(self, reaches: Bool[Tensor, " reader"]) -> Bool[Tensor, " source"]:
        """Which sources have at least one of their own readers marked: a head through its q, its k or its v.

        The input reads nothing; it is never marked.
        """
        per_layer = reaches[:-1].view(self.layers, self.readers_per_layer)
        q, k, v, mlp = per_layer.split([self.heads, self.kv_heads, self.kv_heads, 1], dim=1)
        group = self.heads // self.kv_heads
        head = q | k.repeat_interleave(group, dim=1) | v.repeat_interleave(group, dim=1)
        return torch.cat([torch.tensor([False]), torch.cat([head, mlp], dim=1).flatten()])

    def readers_of(self, marked: Bool[Tensor, " source"], logits: bool = True) -> Bool[Tensor, " reader"]:
        """Which readers belong to a marked source; a shared key or value reader does if any of its heads is marked."""
        per_layer = marked[1:].view(self.layers, self.heads + 1)
        head, mlp = per_layer.split([self.heads, 1], dim=1)
        shared = head.view(self.layers, self.kv_heads, -1).any(dim=2)
        columns = torch.cat([head, shared, shared, mlp], dim=1).flatten()
        return torch.cat([columns, torch.tensor([logits])])

    def __repr__(self) -> str:
        return (
            f"Graph({self.layers} layers, {self.heads} heads, {self.kv_heads} key-value readers: "
            f"{self.n_sources} sources, {self.n_readers} readers, {self.n_edges:,} edges)"
        )
