"""What `CircuitViewer` sends to its script: where nodes lie, which edges are the strongest, what was measured.

Everything is plain data. Numbers have three significant digits, but ranks are those of the unrounded scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mdmcourse.widgets.data import array, short
from mdmcourse.widgets.words import titled_as

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mdmcourse.circuits import Comparison, Faithfulness, Graph, Scores

PORT = 0.07  # how far the q and v readers of a head stand beside its middle, in columns
MLP_ROW = 0.45  # how far an MLP stands above the heads of its layer, which it reads


def layout(graph: Graph) -> dict[str, Any]:
    """Where nodes and readers lie: a column a head and one for the MLPs, a row a layer, the input below in row 0.

    Nodes are the sources and, last, the logits. A reader that several heads share lies in their middle.
    """
    heads, kv = graph.heads, graph.kv_heads
    group = heads // kv
    middle = (heads - 1) / 2
    columns, rows = [middle], [0.0]
    ports: list[tuple[str, float, float, int, int]] = []  # part, column, row, first of its nodes, how many
    for layer in range(graph.layers):
        first = graph.heads_of(layer).start
        columns += [*range(heads), heads]
        rows += [1.0 + layer] * heads + [1 + layer + MLP_ROW]
        ports += [("q", head - PORT, 1 + layer, first + head, 1) for head in range(heads)]
        for part, aside in (("k", 0.0), ("v", PORT)):
            ports += [(part, (n + 0.5) * group - 0.5 + aside, 1 + layer, first + n * group, group) for n in range(kv)]
        ports.append(("MLP", heads, 1 + layer + MLP_ROW, graph.mlp_of(layer), 1))
    ports.append(("logits", middle, graph.layers + 1, graph.n_sources, 1))
    parts, port_columns, port_rows, owner, owners = zip(*ports, strict=True)
    return {
        "layers": graph.layers, "heads": heads, "edges": graph.n_edges,
        "nodes": [*graph.sources, "logits"], "columns": [*columns, middle], "rows": [*rows, graph.layers + 1],
        "readers": list(graph.readers), "part": list(parts),
        "readerColumns": list(port_columns), "readerRows": list(port_rows),
        "owner": list(owner), "owners": list(owners),
    }  # fmt: skip


def task_state(
    title: str,
    scores: Mapping[str, Scores],
    comparison: Comparison | None,
    faithfulness: Mapping[str, Faithfulness],
    most: int,
) -> dict[str, Any]:
    """One task: the strongest edges of both models with their scores in both, and for each model their order."""
    graph = next(iter(scores.values())).graph
    sizes = [np.abs(array(one.values).astype(float)) for one in scores.values()]
    tops = [strongest(size, array(one.exists))[:most] for size, one in zip(sizes, scores.values(), strict=True)]
    edges = np.union1d(*tops)
    leaves, arrives = ([size.sum(axis=axis) / size.sum() for size in sizes] for axis in (1, 0))
    return {
        "title": titled_as(title),
        "edges": edges.tolist(),
        "scores": [short(array(one.values).astype(float).ravel()[edges].tolist()) for one in scores.values()],
        "order": [np.searchsorted(edges, top).tolist() for top in tops],
        "leaves": [short(share.tolist()) for share in leaves],
        "arrives": [short(share.tolist()) for share in arrives],
        "sourceProfile": [short(by_layer(share, array(graph.source_layer) + 1)) for share in leaves],
        "readerProfile": [short(by_layer(share, array(graph.reader_layer))) for share in arrives],
        "comparison": comparison and measured(comparison),
        "faithfulness": [
            {"asked": array(found.asked).tolist(), "values": short(array(found.values).tolist())} if found else None
            for found in map(faithfulness.get, scores)
        ],
    }


def strongest(size: NDArray[Any], exists: NDArray[Any]) -> NDArray[Any]:
    """All edges, as places in the flattened matrix, by falling |score|; ties by their place, as in a `Comparison`."""
    edges = np.flatnonzero(exists)
    return edges[np.argsort(-size.ravel()[edges], kind="stable")]


def by_layer(share: NDArray[Any], layer: NDArray[Any]) -> list[float]:
    return np.bincount(layer, weights=share).tolist()


def measured(comparison: Comparison) -> dict[str, Any]:
    """What a comparison says at each of its sizes."""
    value, low, high = array(comparison.overlap).T.tolist()
    return {
        "ks": array(comparison.ks).tolist(),
        "overlap": short(value), "low": short(low), "high": short(high),
        "halves": short(array(comparison.overlap_of_halves).tolist()),
        "ceilings": [short(array(values).tolist()) for values in (comparison.ceiling_one, comparison.ceiling_two)],
        "chance": short(array(comparison.chance).tolist()),
    }  # fmt: skip


def kinds(task: Mapping[str, Any], k: int) -> NDArray[Any]:
    """Of each edge of a task: 0 kept (in the top k of both models), 1 lost (the first's only), 2 new, -1 neither."""
    one, two = (np.isin(np.arange(len(task["edges"])), order[:k]) for order in task["order"])
    return np.select([one & two, one, two], [0, 1, 2], -1)


def counts(task: Mapping[str, Any], k: int) -> tuple[int, int, int, float]:
    """How many edges are kept, lost and new among the top k, and the Jaccard index of the two sets."""
    kept, lost, new = np.bincount(kinds(task, k) + 1, minlength=4)[1:].tolist()
    return kept, lost, new, kept / (kept + lost + new)
