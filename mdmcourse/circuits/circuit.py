"""A circuit: a choice of edges."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mdmcourse.circuits.graph import Graph
from mdmcourse.circuits.scores import Scores
from mdmcourse.errors import InputError
from mdmcourse.storage import Saved

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True, eq=False)
class Circuit(Saved):
    """A choice of edges of one graph. Nothing changes it: every operation gives a new one.

    Attributes
    ----------
    edges: True for the chosen ones; rows and columns as in `Graph`.
    layers, heads, kv_heads: the shape of the graph.
    asked: how many edges were asked for, before dead ends were pruned.
    """

    edges: Bool[Tensor, "source reader"]
    layers: int
    heads: int
    kv_heads: int
    asked: int

    def __post_init__(self) -> None:
        if self.edges.shape != self.graph.exists.shape or bool((self.edges & ~self.graph.exists).any()):
            raise InputError(
                f"The edges have the shape {tuple(self.edges.shape)}, or some lie where the graph has none.",
                f"They do not belong to {self.graph!r}.",
                "Take the shape of the graph from where the edges come from.",
            )

    # Choosing

    @classmethod
    def of(cls, graph: Graph, edges: Bool[Tensor, "source reader"], asked: int | None = None) -> Circuit:
        """The circuit of given edges."""
        asked = int(edges.sum()) if asked is None else asked
        return cls(edges, graph.layers, graph.heads, graph.kv_heads, asked)

    @classmethod
    def full(cls, graph: Graph) -> Circuit:
        """All edges."""
        return cls.of(graph, graph.exists.clone())

    @classmethod
    def empty(cls, graph: Graph) -> Circuit:
        """No edges."""
        return cls.of(graph, torch.zeros_like(graph.exists))

    @classmethod
    def top(cls, scores: Scores, k: int, *, prune: bool = True) -> Circuit:
        """The `k` edges with the largest |score|, then without dead ends."""
        graph = scores.graph
        _check_k(k, graph)
        size = torch.where(graph.exists, scores.values.abs(), -1.0).flatten()
        edges = torch.zeros(size.shape, dtype=torch.bool)
        edges[size.topk(k).indices] = True
        circuit = cls.of(graph, edges.view(graph.exists.shape), k)
        return circuit.pruned() if prune else circuit

    @classmethod
    def greedy(cls, scores: Scores, k: int) -> Circuit:
        """`k` edges, grown from the logits backwards: always the edge with the largest |score| among those into a
        node that is in the circuit already (Hanna et al., arXiv 2403.17806). Then without dead ends: those not fed from
        the input.
        """
        graph = scores.graph
        _check_k(k, graph)
        size = scores.values.abs()
        edges = torch.zeros_like(graph.exists)
        frontier: list[tuple[float, int, int]] = []  # one entry a reader: its best edge not yet taken
        in_order: dict[int, list[int]] = {}

        def offer(reader: int) -> None:
            if in_order[reader]:
                source = in_order[reader].pop()
                heapq.heappush(frontier, (-float(size[source, reader]), source, reader))

        def open_up(readers: list[int]) -> None:
            for reader in readers:
                if reader not in in_order:
                    in_order[reader] = size[: graph.upstream[reader], reader].argsort(stable=True).tolist()
                    offer(reader)

        open_up([graph.logits_reader])
        for _ in range(k):
            if not frontier:
                break
            _, source, reader = heapq.heappop(frontier)
            edges[source, reader] = True
            offer(reader)
            node = torch.zeros(graph.n_sources, dtype=torch.bool)
            node[source] = True
            open_up(graph.readers_of(node, logits=False).nonzero()[:, 0].tolist())
        return cls.of(graph, edges, k).pruned()

    @classmethod
    def threshold(cls, scores: Scores, least: float, *, prune: bool = True) -> Circuit:
        """All edges with |score| of at least `least`, then without dead ends."""
        circuit = cls.of(scores.graph, (scores.values.abs() >= least) & scores.exists)
        return circuit.pruned() if prune else circuit

    def pruned(self) -> Circuit:
        """Without dead ends: edges from nodes that the input does not reach, or into nodes that reach no logits."""
        graph = self.graph
        fed = torch.zeros(graph.n_sources, dtype=torch.bool)
        fed[0] = True
        for _ in range(2 * graph.layers):  # each round reaches at least one group of sources further
            further = fed | graph.read_by((self.edges & fed[:, None]).any(dim=0))
            if torch.equal(further, fed):
                break
            fed = further
        useful = torch.zeros(graph.n_sources, dtype=torch.bool)
        for _ in range(2 * graph.layers + 1):
            further = useful | (self.edges & graph.readers_of(useful)).any(dim=1)
            if torch.equal(further, useful):
                break
            useful = further
        return replace(self, edges=self.edges & fed[:, None] & graph.readers_of(useful))

    # Reading

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.layers, self.heads, self.kv_heads)

    @property
    def kept(self) -> int:
        """How many edges there are."""
        return int(self.edges.sum())

    def __len__(self) -> int:
        return self.kept

    def __bool__(self) -> bool:
        return True  # an empty circuit is a circuit

    def __eq__(self, other: object) -> bool:
        """The same edges of the same graph."""
        return isinstance(other, Circuit) and self.graph == other.graph and torch.equal(self.edges, other.edges)

    __hash__ = None  # type: ignore[assignment]

    def names(self) -> list[str]:
        """The edges by name, from the first layer to the last."""
        return [
            f"{self.graph.sources[row]}->{self.graph.readers[column]}" for row, column in self.edges.nonzero().tolist()
        ]

    def nodes(self) -> list[str]:
        """Every source that has an edge, in or out."""
        nodes = self.edges.any(dim=1) | self.graph.read_by(self.edges.any(dim=0))
        return [self.graph.sources[row] for row in nodes.nonzero()[:, 0].tolist()]

    def __contains__(self, edge: str) -> bool:
        return bool(self.edges[self.graph.edge(edge)])

    # Sets

    def __and__(self, other: Circuit) -> Circuit:
        self.need_same_graph(other)
        return Circuit.of(self.graph, self.edges & other.edges)

    def __or__(self, other: Circuit) -> Circuit:
        self.need_same_graph(other)
        return Circuit.of(self.graph, self.edges | other.edges)

    def __sub__(self, other: Circuit) -> Circuit:
        self.need_same_graph(other)
        return Circuit.of(self.graph, self.edges & ~other.edges)

    def need_same_graph(self, other: Circuit | Scores | Graph) -> None:
        """Raise InputError if the other belongs to a graph of another shape."""
        theirs = other if isinstance(other, Graph) else other.graph
        if self.graph != theirs:
            raise InputError(
                f"A circuit of {self.graph!r} meets {theirs!r}.",
                "Their edges are not the same edges.",
                'Compare circuits of decoders of one shape, found with the same readers ("kv" or "query").',
            )

    def jaccard(self, other: Circuit) -> float:
        """Shared edges over edges of either; 1 for two empty circuits."""
        self.need_same_graph(other)
        either = int((self.edges | other.edges).sum())
        return int((self.edges & other.edges).sum()) / either if either else 1.0

    # Elsewhere

    def to_json(self) -> str:
        """The shape of the graph and the names of the edges, as JSON."""
        shape = {"layers": self.layers, "heads": self.heads, "kv_heads": self.kv_heads}
        return json.dumps({"graph": shape, "asked": self.asked, "edges": self.names()}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Circuit:
        """What `to_json` wrote. Raises InputError if it is not that."""
        try:
            read = json.loads(text)
            graph, names, asked = Graph(**read["graph"]), read["edges"], int(read["asked"])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise TypeError("edges is not a list of names")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"This is not a circuit: {type(error).__name__}: {error}.",
                "A circuit is a JSON object with graph, asked and edges.",
                "Write one with Circuit.to_json.",
            ) from error
        edges = torch.zeros_like(graph.exists)
        for name in names:
            edges[graph.edge(name)] = True
        return cls.of(graph, edges, asked)

    def to_networkx(self, scores: Scores | None = None) -> networkx.MultiDiGraph:
        """A networkx graph of nodes; each edge has `reader` (its name) and, if scores are given, `score`."""
        import networkx

        if scores is not None:
            self.need_same_graph(scores)
        found = networkx.MultiDiGraph()
        found.add_nodes_from(self.nodes())
        group = self.heads // self.kv_heads
        for row, column in self.edges.nonzero().tolist():
            reader = self.graph.readers[column]
            node, _, kind = reader.partition("<")
            layer, _, head = node.partition(".kv")
            nodes = [f"{layer}.h{int(head) * group + member}" for member in range(group)] if head else [node]
            about: dict[str, Any] = {"reader": reader}
            if scores is not None:
                about["score"] = float(scores.values[row, column])
            for each in nodes:
                found.add_edge(self.graph.sources[row], each, key=kind.rstrip(">") or None, **about)
        return found

    def __repr__(self) -> str:
        asked = "" if self.asked == self.kept else f" (asked for {self.asked:,})"
        return f"Circuit({self.kept:,} of {self.graph.n_edges:,} edges{asked}, {len(self.nodes())} nodes)"


def _check_k(k: int, graph: Graph) -> None:
    if not isinstance(k, Integral) or not 0 <= k <= graph.n_edges:
        raise InputError(
            f"k={k}.", f"The graph has {graph.n_edges:,} edges.", f"Ask for a whole number from 0 to {graph.n_edges}."
        )
