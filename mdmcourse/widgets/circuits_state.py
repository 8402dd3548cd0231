"""What `CircuitViewer` sends to its script: where nodes lie, which edges are the strongest, what was measured.

Long lists are packed: `unpacked` gives them back. Ranks are those of the scores as they were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mdmcourse.widgets.data import array, short
from mdmcourse.widgets.packing import packed
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
    long: dict[str, Any] = {
        "nodes": [*graph.sources, "logits"], "readers": graph.readers, "part": parts,
        "columns": np.array([*columns, middle]), "rows": np.array([*rows, graph.layers + 1]),
        "readerColumns": np.array(port_columns), "readerRows": np.array(port_rows),
        "owner": np.array(owner), "owners": np.array(owners),
    }  # fmt: skip
    return {
        "layers": graph.layers,
        "heads": heads,
        "edges": graph.n_edges,
        "packed": {name: packed(values) for name, values in long.items()},
    }


def task_state(
    title: str,
    scores: Mapping[str, Scores],
    comparison: Comparison | None,
    faithfulness: Mapping[str, Faithfulness],
    roles: Sequence[Mapping[str, str]],
    most: int,
) -> dict[str, Any]:
    """One task: the strongest edges of both models with their scores in both, and for each model their order.

    roles: for each model what was said of its nodes.
    """
    graph = next(iter(scores.values())).graph
    sizes = [np.abs(array(one.values).astype(float)) for one in scores.values()]
    tops = [strongest(size, array(one.exists))[:most] for size, one in zip(sizes, scores.values(), strict=True)]
    edges = np.union1d(*tops)
    leaves, arrives = [[size.sum(axis=axis) / size.sum() for size in sizes] for axis in (1, 0)]
    long = {
        "scores": [array(one.values).astype(float).ravel()[edges] for one in scores.values()],
        "order": [np.searchsorted(edges, top) for top in tops],
        "leaves": leaves,
        "arrives": arrives,
        "sourceProfile": [by_layer(share, array(graph.source_layer) + 1) for share in leaves],
        "readerProfile": [by_layer(share, array(graph.reader_layer)) for share in arrives],
    }
    return {
        "title": titled_as(title),
        "packed": {"edges": packed(edges)} | {name: [*map(packed, both)] for name, both in long.items()},
        "total": short([size.sum() for size in sizes]),
        "roles": list(roles),
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


def by_layer(share: NDArray[Any], layer: NDArray[Any]) -> NDArray[Any]:
    return np.bincount(layer, weights=share)


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


def measured_near(task: Mapping[str, Any], models: Sequence[str], k: int) -> list[str]:
    """What was measured at or near `k` edges: two sentences, each only if there is something to say."""
    lines = []
    if found := task["comparison"]:
        at = nearest(found["ks"], k)
        low, high = found["low"][at], found["high"][at]
        interval = "" if low is None else f" [{low:.2f}, {high:.2f}]"
        pairs = zip(found["ceilings"], models, strict=True)
        ceilings = " and ".join(f"{ceiling[at]:.2f} ({model})" for ceiling, model in pairs)
        lines.append(
            f"Measured at K = {found['ks'][at]}: overlap {found['overlap'][at]:.2f}{interval}; between halves of the "
            f"prompts {found['halves'][at]:.2f}, ceilings {ceilings}; chance {found['chance'][at]:.2f}."
        )
    curves = []
    for curve, model in zip(task["faithfulness"], models, strict=True):
        if curve:
            at = nearest(curve["asked"], k)
            value = curve["values"][at]
            shown = "not a number" if value is None else f"{value:.2f}"
            curves.append(f"{model} {shown} (at {curve['asked'][at]} edges)")
    if curves:
        lines.append(f"Faithfulness, nearest size measured: {', '.join(curves)}.")
    return lines


def nearest(sizes: Sequence[int], k: int) -> int:
    """The place of the size that is nearest to `k` on a logarithmic scale."""
    return int(np.argmin(np.abs(np.log(np.maximum(sizes, 0.5) / k))))


def kinds(task: Mapping[str, Any], k: int) -> NDArray[Any]:
    """Of each edge of an unpacked task: 0 kept (in the top k of both), 1 lost (the first's only), 2 new, -1 neither."""
    one, two = (np.isin(np.arange(len(task["edges"])), order[:k]) for order in task["order"])
    return np.select([one & two, one, two], [0, 1, 2], -1)


def counts(task: Mapping[str, Any], k: int) -> tuple[int, int, int, float]:
    """How many edges are kept, lost and new among the top k of an unpacked task, and their Jaccard index."""
    kept, lost, new = np.bincount(kinds(task, k) + 1, minlength=4)[1:].tolist()
    return kept, lost, new, kept / (kept + lost + new)
