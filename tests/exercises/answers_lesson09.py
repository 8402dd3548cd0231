"""Answers to the exercises of lesson 09: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import numpy as np
import torch


def scores(clean, corrupted, gradients, exists):
    return torch.einsum("snpd,rnpd->sr", clean - corrupted, gradients) / clean.shape[1] * exists


def looped_scores(clean, corrupted, gradients, exists):
    found = torch.zeros(exists.shape)
    for u, v in exists.nonzero().tolist():
        found[u, v] = ((clean[u] - corrupted[u]) * gradients[v]).sum(dim=(1, 2)).mean()
    return found


def mean_of_gradients(clean, corrupted, gradients, exists):
    """Means over prompts before the product: the prompts are mixed."""
    return torch.einsum("spd,rpd->sr", (clean - corrupted).mean(1), gradients.mean(1)) * exists


def vandermonde(points):
    return points ** torch.arange(len(points), dtype=points.dtype)[:, None]


def right_side(points):
    return 1 / (torch.arange(len(points), dtype=points.dtype) + 1)


def trapezoid(points):
    """Half of the distance to each neighbour: the outermost reach to the ends."""
    order = points.argsort()
    ends = torch.cat([points.new_zeros(1), (points[order][1:] + points[order][:-1]) / 2, points.new_ones(1)])
    found = torch.empty_like(points)
    found[order] = ends.diff()
    return found


def one_power_less(points):
    """Only n - 1 equations, by least squares."""
    if len(points) == 1:
        return torch.ones_like(points)
    return torch.linalg.lstsq(vandermonde(points)[:-1], right_side(points)[:-1, None], driver="gelsd").solution[:, 0]


def sorted_in_place(points):
    points.copy_(points.sort().values)
    return torch.linalg.solve(vandermonde(points), right_side(points))


def lagrange(points):
    found = []
    for j in range(len(points)):
        others = np.delete(points.numpy(), j)
        whole = np.polynomial.Polynomial.fromroots(others) if len(others) else np.polynomial.Polynomial([1.0])
        integral = (whole / whole(points.numpy()[j])).integ()
        found.append(integral(1.0) - integral(0.0))
    return torch.tensor(found, dtype=points.dtype)


def fed(edges):
    found = {"input"}
    while True:
        further = found | {v for u, v in edges if u in found}
        if further == found:
            return found
        found = further


def useful(edges):
    found = {"logits"}
    while True:
        further = found | {u for u, v in edges if v in found}
        if further == found:
            return found
        found = further


def both_ways(edges):
    before, after = fed(edges), useful(edges)
    return {(u, v) for u, v in edges if u in before and v in after}


def one_round(edges):
    before, after = {"input"} | {v for _, v in edges}, {"logits"} | {u for u, _ in edges}
    return {(u, v) for u, v in edges if u in before and v in after}


def forgets_the_ends(edges):
    kept = set(edges)
    while True:
        before, after = {v for _, v in kept}, {u for u, _ in kept}
        further = {(u, v) for u, v in kept if u in before and v in after}
        if further == kept:
            return kept
        kept = further


def connected(edges):
    """Joined to the input by edges in either direction."""
    found = {"input"}
    while True:
        further = found | {v for u, v in edges if u in found} | {u for u, v in edges if v in found}
        if further == found:
            return {(u, v) for u, v in edges if u in found}
        found = further


def shrinks_its_argument(edges):
    edges &= both_ways(edges)
    return edges


def by_every_way(edges):
    """Walks every way from the input, and keeps those that arrive."""
    kept = set()

    def walk(node, way):
        if node == "logits":
            kept.update(way)
        for u, v in edges:
            if u == node:
                walk(v, [*way, (u, v)])

    walk("input", [])
    return kept


def uniform(edges, exists, generator):
    places = exists.nonzero()
    chosen = places[torch.randperm(len(places), generator=generator)[: int(edges.sum())]]
    found = torch.zeros_like(edges)
    found[chosen[:, 0], chosen[:, 1]] = True
    return found


def shuffled_rows(edges, exists, generator):
    return edges[torch.randperm(len(edges), generator=generator)]


def column_by_column(edges, exists, generator, replacement=False, own=True):
    found = torch.zeros_like(edges)
    for reader in range(edges.shape[1]):
        n = int(edges[:, reader].sum())
        sources = exists[:, reader].nonzero()[:, 0]
        if not own:  # those of the circuit last
            rest = sources[~edges[sources, reader]]
            sources = torch.cat([rest[torch.randperm(len(rest), generator=generator)], sources[edges[sources, reader]]])
            found[sources[:n], reader] = True
        elif replacement and n:
            found[sources[torch.randint(len(sources), (n,), generator=generator)], reader] = True
        else:
            found[sources[torch.randperm(len(sources), generator=generator)[:n]], reader] = True
    return found


def same_sources(edges, exists, generator):
    """As many edges out of each source: the other way round."""
    found = torch.zeros_like(edges)
    for source in range(len(edges)):
        readers = exists[source].nonzero()[:, 0]
        found[source, readers[torch.randperm(len(readers), generator=generator)[: int(edges[source].sum())]]] = True
    return found


def seeded_anew(edges, exists, generator):
    return column_by_column(edges, exists, torch.Generator().manual_seed(0))


def own_coins(edges, exists, generator):
    return column_by_column(edges, exists, None)


def changes_its_argument(edges, exists, generator):
    found = column_by_column(edges, exists, generator)
    edges.copy_(found)
    return edges


def multinomial(edges, exists, generator):
    found = torch.zeros_like(edges)
    for reader, n in enumerate(edges.sum(dim=0).tolist()):
        if n:
            found[torch.multinomial(exists[:, reader].double(), n, generator=generator), reader] = True
    return found


def changes_clean(clean, corrupted, gradients, exists):
    clean -= corrupted
    return torch.einsum("snpd,rnpd->sr", clean, gradients) / clean.shape[1] * exists


def changes_circuit(circuit, full, none):
    distance = full.mean() - none.mean()
    circuit -= none
    return circuit.mean() / distance


def another_circuit(edges, exists, generator):
    """The circuit's own edges are struck from the list."""
    return column_by_column(edges, exists & ~edges, generator)


def sorted_weights(points):
    return lagrange(points.sort().values)


BOTH = "there is no score where there is no edge"
WRONG = {
    "edge_scores": {
        "sign": (lambda c, k, g, e: scores(k, c, g, e), "positive means that the edge helps"),
        "the clean value alone": (
            lambda c, k, g, e: scores(c, 0 * k, g, e), "nothing is lost if the corrupted prompt is the clean one",
        ),
        "sum over prompts": (lambda c, k, g, e: scores(c, k, g, e) * c.shape[1], "it is a mean over prompts"),
        "mean over positions": (lambda c, k, g, e: scores(c, k, g, e) / c.shape[2], "it is a sum over positions"),
        "mean over d_model": (
            lambda c, k, g, e: scores(c, k, g, e) / c.shape[3], "the numbers of a position are summed too",
        ),
        "NaN for no mask": (lambda c, k, g, e: scores(c, k, g, e).masked_fill(~e, torch.nan), BOTH),
        "changes its argument": (changes_clean, "what it was given is not overwritten"),
        "no mask": (lambda c, k, g, e: scores(c, k, g, torch.ones_like(e)), BOTH),
        "absolute value": (lambda c, k, g, e: scores(c, k, g, e).abs(), "positive means that the edge helps"),
        "prompts mixed": (mean_of_gradients, "each edge has its own source and reader"),
        "transposed": (lambda c, k, g, e: scores(c, k, g, e).T, "it gives one number for each source and reader"),
        "one number for all": (
            lambda c, k, g, e: scores(c, k, g, e).sum(), "it gives one number for each source and reader",
        ),
        "one number a prompt": (
            lambda c, k, g, e: torch.einsum("snpd,rnpd->nsr", c - k, g) * e,
            "it gives one number for each source and reader",
        ),
    },
    "rule_weights": {
        "equal weights": (lambda x: torch.full_like(x, 1 / len(x)), "the integral of x is 1/2"),
        "transposed": (
            lambda x: torch.linalg.solve(vandermonde(x).T, right_side(x)), "the matrix is the right way round",
        ),
        "1 / (k + 2)": (
            lambda x: torch.linalg.solve(vandermonde(x), 1 / (torch.arange(len(x), dtype=x.dtype) + 2)),
            "on the right stand the integrals",
        ),
        "1, then 1 / k": (
            lambda x: torch.linalg.solve(vandermonde(x), 1 / torch.arange(len(x), dtype=x.dtype).clamp(min=1)),
            "on the right stand the integrals",
        ),
        "1 / k": (
            lambda x: torch.linalg.solve(vandermonde(x), 1 / torch.arange(len(x), dtype=x.dtype)),
            "all weights are finite",
        ),
        "from -1 to 1": (lambda x: 2 * lagrange(x), "on the right stand the integrals"),
        "too few digits": (lambda x: lagrange(x).float(), "it gives a tensor of the points' dtype"),
        "an array": (lambda x: lagrange(x).numpy(), "it gives a tensor of the points' dtype"),
        "a list": (lambda x: lagrange(x).tolist(), "it gives a tensor of the points' dtype"),
        "weights of the sorted points": (sorted_weights, "the integral of x is 1/2"),
        "trapezoid": (trapezoid, "the integral of x is 1/2"),
        "one power less": (one_power_less, "three points at the ends and the middle give Simpson's rule"),
        "points changed": (sorted_in_place, "the points are left as they were"),
        "a sum": (lambda x: lagrange(x).sum(), "it gives one weight for each point"),
        "proportional to x": (lambda x: x / x.sum(), "the integral of x is 1/2"),
    },
    "without_dead_ends": {
        "one round only": (one_round, "several dead ends in a row are dropped"),
        "forwards only": (
            lambda edges: {(u, v) for u, v in edges if u in fed(edges)},
            "an edge into a node that goes nowhere is dropped",
        ),
        "backwards only": (
            lambda edges: {(u, v) for u, v in edges if v in useful(edges)},
            "an edge out of a node that gets nothing is dropped",
        ),
        "either end": (
            lambda edges: {(u, v) for u, v in edges if u in fed(edges) or v in useful(edges)},
            "an edge into a node that goes nowhere is dropped",
        ),
        "the ends are dead ends": (forgets_the_ends, "an edge on a way is kept"),
        "directions ignored": (connected, "an edge into a node that goes nowhere is dropped"),
        "changes its argument": (shrinks_its_argument, "the set that goes in is not changed"),
        "nodes for edges": (lambda edges: fed(edges) & useful(edges), "it gives a set of edges"),
        "a list": (lambda edges: sorted(both_ways(edges)), "it gives a set of edges"),
        "everything": (set, "an edge into a node that goes nowhere is dropped"),
    },
    "faithfulness": {
        "a distance without its sign": (
            lambda c, f, n: (c.mean() - n.mean()) / (f.mean() - n.mean()).abs(), "the distance keeps its sign",
        ),
        "changes its argument": (changes_circuit, "what it was given is not overwritten"),
        "not normalised": (lambda c, f, n: c.mean(), "it is 1 with all edges"),
        "not divided": (lambda c, f, n: c.mean() - n.mean(), "it is 1 with all edges"),
        "a plain ratio": (lambda c, f, n: c.mean() / f.mean(), "it is 0 with no edges"),
        "mean of ratios": (lambda c, f, n: ((c - n) / (f - n)).mean(), "means are taken before the ratio"),
        "clipped": (
            lambda c, f, n: ((c.mean() - n.mean()) / (f.mean() - n.mean())).clamp(0, 1),
            "it may lie above 1 and below 0",
        ),
        "absolute value": (
            lambda c, f, n: ((c.mean() - n.mean()) / (f.mean() - n.mean())).abs(), "it may lie above 1 and below 0",
        ),
        "distance to the model": (
            lambda c, f, n: 1 - (f.mean() - c.mean()).abs() / (f.mean() - n.mean()), "it may lie above 1 and below 0",
        ),
        "what is lost": (
            lambda c, f, n: (f.mean() - c.mean()) / (f.mean() - n.mean()), "it is 1 with all edges",
        ),
        "one number a prompt": (lambda c, f, n: (c - n) / (f - n), "it gives one number"),
        "medians": (
            lambda c, f, n: ((c - n) / (f - n)).median(), "means are taken before the ratio",
        ),
    },
    "control_circuit": {
        "any edges": (uniform, "each reader gets as many edges as before"),
        "rows shuffled": (shuffled_rows, "it has only edges that exist"),
        "with putting back": (lambda *a: column_by_column(*a, replacement=True), "it has as many edges"),
        "never the circuit's own": (
            lambda *a: column_by_column(*a, own=False), "every source upstream has the same chance",
        ),
        "without the circuit's own": (another_circuit, "the circuit's own edges may be drawn too"),
        "a list": (lambda *a: column_by_column(*a).tolist(), "it gives booleans of the shape of the edges"),
        "as many out of each source": (same_sources, "each reader gets as many edges as before"),
        "the circuit itself": (lambda edges, exists, generator: edges.clone(), "two draws differ"),
        "a seed of its own": (seeded_anew, "two draws differ"),
        "without the generator": (own_coins, "the generator decides"),
        "changes its argument": (changes_its_argument, "what goes in is not changed"),
        "numbers for booleans": (
            lambda *a: column_by_column(*a).float(), "it gives booleans of the shape of the edges",
        ),
        "all edges": (lambda edges, exists, generator: exists.clone(), "it has as many edges"),
    },
}  # fmt: skip

RIGHT = {
    "edge_scores": {
        "einsum and a product": scores,
        "loops": looped_scores,
        "matrix product": lambda c, k, g, e: ((c - k).flatten(1) @ g.flatten(1).T / c.shape[1]).masked_fill(~e, 0),
    },
    "rule_weights": {
        "Lagrange's polynomials": lagrange,
        "least squares": lambda x: torch.linalg.lstsq(vandermonde(x), right_side(x)[:, None]).solution[:, 0],
        "an inverse": lambda x: torch.linalg.inv(vandermonde(x)) @ right_side(x),
    },
    "without_dead_ends": {"from both ends": both_ways, "every way": by_every_way},
    "faithfulness": {
        "sums": lambda c, f, n: (c - n).sum() / (f - n).sum(),
        "NumPy's number": lambda c, f, n: (c.mean() - n.mean()).numpy() / (f.mean() - n.mean()).numpy(),
        "a float": lambda c, f, n: 1 - float((f - c).mean() / (f - n).mean()),
    },
    "control_circuit": {"column by column": column_by_column, "multinomial": multinomial},
}
