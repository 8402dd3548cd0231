"""Two models, one task: are their circuits the same, and how sure can one be?

An overlap means nothing by itself. It stands between *chance* (random sets of as many edges) and a *ceiling*: the
overlap of two circuits of the very same model, found on two disjoint halves of the prompts. And structure is not
function: so the circuit of each model is also run inside the other (cross-faithfulness).

Intervals are percentiles of a bootstrap over prompts, the same prompts being drawn for both models. They say how much
hangs on the choice of prompts; nothing about other training runs. A resample holds fewer different prompts than there
are, so that its scores are noisier: overlaps and rank correlations of resamples lie lower, and measures of
concentration shift too. With few prompts a value can therefore lie at the end of its interval, or outside of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from mdmcourse.circuits.faithfulness import FRACTIONS, check_fractions, faithfulness_curve, metric_of
from mdmcourse.circuits.graph import Graph
from mdmcourse.circuits.metrics import Metric, get_metric
from mdmcourse.circuits.scores import Scores
from mdmcourse.errors import InputError
from mdmcourse.models.reading import LanguageModel
from mdmcourse.storage import Saved
from mdmcourse.tasks.readable import readable
from mdmcourse.tasks.task import Prompts

Estimate = tuple[float, float, float]
"""A value and the interval around it: (value, low, high)."""


@dataclass(frozen=True)
class Comparison(Saved):
    """What two models' scores for one task have in common.

    Attributes
    ----------
    ks: circuit sizes K, in edges.
    overlap: Jaccard of the two top-K sets; with intervals: the last axis is value, low, high.
    overlap_of_halves: the same with each model's scores from another half of the prompts, mean over random halvings.
        This, not `overlap`, is to be held against the ceilings: it is made from as few prompts as they are.
    ceiling_one, ceiling_two: overlap of two halves of the same model's prompts, mean over the same halvings.
    chance: expected overlap of two random sets of K edges.
    source_profile, reader_profile: share of |score| that leaves each layer (first the input, then the layers) and that
        arrives at each layer (the layers, then the logits); the rows are the two models.
    measures: for each measure of `MEASURES` "one", "two" and "difference" (two minus one), and the
        "rank_correlation" of |score| between the two: each [value, low, high].
    cross: normalised faithfulness at `fractions` of circuits of the "scores of" one model "in" a model; empty if no
        models were given.
    fractions: see `cross`.
    about: how the scores were made, and the settings of the bootstrap.
    """

    ks: Int[Tensor, " size"]
    overlap: Float[Tensor, "size 3"]
    overlap_of_halves: Float[Tensor, " size"]
    ceiling_one: Float[Tensor, " size"]
    ceiling_two: Float[Tensor, " size"]
    chance: Float[Tensor, " size"]
    source_profile: Float[Tensor, "model place"]
    reader_profile: Float[Tensor, "model place"]
    measures: dict[str, dict[str, list[float]]]
    cross: dict[str, list[list[float]]]
    fractions: list[float]
    about: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        lines = [f"Comparison({self.about.get('task', '')}, {self.about.get('prompts')} prompts)"]
        lines.append("  K      overlap           of halves  ceilings     chance")
        for index, k in enumerate(self.ks.tolist()):
            value, low, high = self.overlap[index].tolist()
            lines.append(
                f"  {k:<6} {value:.2f} [{low:.2f}, {high:.2f}]  {self.overlap_of_halves[index]:.2f}       "
                f"{self.ceiling_one[index]:.2f}, {self.ceiling_two[index]:.2f}   {self.chance[index]:.2f}"
            )
        for name, rows in self.measures.items():
            cells = [f"{which} {value:.3g} [{low:.3g}, {high:.3g}]" for which, (value, low, high) in rows.items()]
            lines.append(f"  {name:<18} {'; '.join(cells)}")
        return "\n".join(lines)


# What is measured on one model's scores. Each takes sizes |score| of [sample, source, reader] and gives [sample].


def _centre(profile: Float[Tensor, "sample layer"]) -> Float[Tensor, " sample"]:
    """Centre of mass, in layers."""
    layers = torch.arange(profile.shape[-1], dtype=profile.dtype)
    return (profile * layers).sum(dim=-1) / profile.sum(dim=-1)


def _edges(size: Float[Tensor, "sample source reader"], graph: Graph) -> Float[Tensor, "sample edge"]:
    return size[:, graph.exists]


def _nodes(size: Float[Tensor, "sample source reader"], graph: Graph) -> Float[Tensor, "sample node"]:
    """Heads and MLPs, each with the |score| that leaves it."""
    return size.sum(dim=2)[:, 1:]


MEASURES: dict[str, Callable[[Tensor, Graph], Tensor]] = {
    # Centres of mass over layers: of what leaves them, without the input; of what arrives, without the logits
    "source_centre": lambda size, graph: _centre(source_profile(size, graph)[..., 1:]),
    "reader_centre": lambda size, graph: _centre(reader_profile(size, graph)[..., :-1]),
    # Entropy of the distribution of |score| over edges, in nats; and how many equal edges would have as much
    "entropy_edges": lambda size, graph: entropy(_edges(size, graph)),
    "effective_edges": lambda size, graph: entropy(_edges(size, graph)).exp(),
    "effective_nodes": lambda size, graph: entropy(_nodes(size, graph)).exp(),
    # 0: all matter alike; 1: only one does
    "gini_edges": lambda size, graph: gini(_edges(size, graph)),
    "gini_nodes": lambda size, graph: gini(_nodes(size, graph)),
}


def entropy(weights: Float[Tensor, "sample n"]) -> Float[Tensor, " sample"]:
    """Entropy, in nats, of non-negative weights as a distribution."""
    return torch.special.entr(weights / weights.sum(dim=-1, keepdim=True)).sum(dim=-1)


def gini(weights: Float[Tensor, "sample n"]) -> Float[Tensor, " sample"]:
    """Gini coefficient of non-negative weights: 0 if all are equal, towards 1 if one has everything."""
    ordered = weights.sort(dim=-1).values
    n = weights.shape[-1]
    rank = torch.arange(1, n + 1, dtype=weights.dtype)
    return (2 * rank - n - 1).mul(ordered).sum(dim=-1) / (n * ordered.sum(dim=-1))


def source_profile(size: Float[Tensor, "*sample source reader"], graph: Graph) -> Float[Tensor, "*sample place"]:
    """Share of |score| that leaves the input, layer 0, layer 1, ..."""
    return _by_layer(size.sum(dim=-1), graph.source_layer + 1, graph.layers + 1)


def reader_profile(size: Float[Tensor, "*sample source reader"], graph: Graph) -> Float[Tensor, "*sample place"]:
    """Share of |score| that arrives at layer 0, layer 1, ..., the logits."""
    return _by_layer(size.sum(dim=-2), graph.reader_layer, graph.layers + 1)


def _by_layer(weights: Tensor, layer: Tensor, layers: int) -> Tensor:
    total = weights.new_zeros(*weights.shape[:-1], layers).index_add_(-1, layer, weights)
    return total / total.sum(dim=-1, keepdim=True)


# Overlap


def overlap_curve(
    one: Float[Tensor, " edge"], two: Float[Tensor, " edge"], ks: Int[Tensor, " size"]
) -> Float[Tensor, " size"]:
    """Jaccard of the K edges with the largest |score| in each, for every K. Ties are broken by the edge's place."""
    # An edge is in both sets if the worse of its two ranks is below K.
    worse = torch.maximum(_ranks(one), _ranks(two)).sort().values
    shared = torch.searchsorted(worse, ks)
    return shared / (2 * ks - shared)


def _ranks(scores: Float[Tensor, " edge"]) -> Int[Tensor, " edge"]:
    order = scores.abs().argsort(descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    return ranks


def chance_overlap(k: int, n_edges: int) -> float:
    """Expected Jaccard of two random sets of k of n edges: their shared edges follow a hypergeometric distribution."""
    shared = torch.arange(max(0, 2 * k - n_edges), k + 1, dtype=torch.float64)
    if k == 0:
        return 1.0

    def log_choose(n: int, m: Tensor) -> Tensor:
        return math.lgamma(n + 1) - torch.lgamma(m + 1) - torch.lgamma(n - m + 1)

    log_p = log_choose(k, shared) + log_choose(n_edges - k, k - shared) - log_choose(n_edges, shared.new_tensor(k))
    return float((log_p.exp() * shared / (2 * k - shared)).sum())


def rank_correlation(one: Float[Tensor, " edge"], two: Float[Tensor, " edge"]) -> float:
    """Spearman's correlation of |score| over all edges (ties broken by the edge's place)."""
    both = torch.stack([_ranks(one), _ranks(two)]).double()
    return float(torch.corrcoef(both)[0, 1])


# The whole


def default_ks(graph: Graph) -> list[int]:
    """1, 2, 5, 10, 20 and 50 % of all edges, ten at least."""
    shares = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    return sorted({min(graph.n_edges, max(10, round(share * graph.n_edges))) for share in shares})


def compare(
    one: Scores,
    two: Scores,
    *,
    ks: Sequence[int] | None = None,
    models: tuple[LanguageModel, LanguageModel] | None = None,
    prompts: Prompts | None = None,
    fractions: Sequence[float] = FRACTIONS,
    metric: str | Metric | None = None,
    bootstrap: int = 200,
    halvings: int = 20,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """What two models' circuits for one task have in common, in structure and in function.

    one, two: scores with `keep_prompts=True`, from the same prompts. Scores of one model by two metrics can be
        compared too.
    ks: sizes of circuits; by default `default_ks`.
    models, prompts: with both, each model's circuits are also run in the other, at `fractions` of all edges. Prompts
        that were not used for the scores make the fairer test.
    metric: by which the circuits that are run are judged; by default the one that the scores are of.
    bootstrap, halvings: how many resamples of the prompts (0: no intervals, their ends are NaN), and how many ways to
        halve them.
    level: of the intervals.
    seed: of resamples and halvings.

    Raises InputError if the scores have no single prompts, or not the same graph, or not the same prompts, or fewer
    than four; if all are zero; for sizes, settings and fractions out of range; if only one of models and prompts is
    given; and if the circuits are run, and the scores do not say by which metric.
    """
    graph = one.graph
    if graph != two.graph or one.prompts != two.prompts or one.prompts < 4:
        raise InputError(
            f"{one!r} meets {two!r}.",
            "A comparison needs two graphs of one shape, and the same four or more prompts for both.",
            "Compute both with attribute(model, prompts, keep_prompts=True), from the same prompts.",
        )
    for scores in (one, two):
        if not scores.values.any():
            raise InputError(
                f"All scores of {scores!r} are zero.",
                "Then no edge is stronger than another, and every ranking of them is arbitrary.",
                'Use prompts whose corruption alters the metric; and not "kl" with "eap", whose slope is zero.',
            )
    known = [scores.about.get("which_prompts") for scores in (one, two)]
    if None not in known and known[0] != known[1]:
        raise InputError(
            f"The scores are of different prompts ({known[0]} and {known[1]}).",
            "Prompts are drawn, and halved, together for both: each has to be the same prompt for both.",
            "Compute both with attribute(model, prompts, keep_prompts=True), from the same prompts.",
        )
    if (models is None) != (prompts is None):
        raise InputError(
            "Only one of models and prompts was given.",
            "Cross-faithfulness needs the models to run and the prompts to run them on.",
            "Give both, or neither.",
        )
    check_fractions(fractions)
    if metric is not None:
        get_metric(metric)
    grid = torch.tensor(default_ks(graph) if ks is None else sorted(ks))
    if len(grid) == 0 or int(grid[0]) < 1 or int(grid[-1]) > graph.n_edges:
        raise InputError(f"ks={ks}.", f"The graph has {graph.n_edges} edges.", "Give sizes from 1 to that number.")
    if bootstrap < 0 or halvings < 1 or not 0 < level < 1:
        raise InputError(
            f"bootstrap={bootstrap}, halvings={halvings}, level={level}.",
            "An interval needs resamples and a level between 0 and 1, a ceiling at least one halving.",
            "bootstrap=0 leaves the intervals out.",
        )
    generator, tail = torch.Generator().manual_seed(seed), (1 - level) / 2
    edges = [scores.need_prompts()[:, graph.exists].float() for scores in (one, two)]
    of_halves, ceiling_one, ceiling_two = _halved(edges, grid, halvings, generator)
    whole = _Sample.of(torch.stack([each.mean(dim=0) for each in edges]), graph, grid)
    resampled = [
        _Sample.of(torch.stack([_resampled(each, drawn) for each in edges]), graph, grid)
        for drawn in _draws(one.prompts, bootstrap, generator)
    ]
    overlap, correlation, measured = (
        _estimate(getattr(whole, name), [getattr(sample, name) for sample in resampled], tail)
        for name in ("overlap", "correlation", "measures")
    )
    measures = {
        name: dict(zip(("one", "two", "difference"), rows.tolist(), strict=True))
        for name, rows in zip(MEASURES, measured, strict=True)
    }
    measures["rank_correlation"] = {"between": correlation.tolist()}
    cross = {}
    if models is not None and prompts is not None:
        judged = metric_of(one, two) if metric is None else metric
        drawn = _draws(len(prompts), bootstrap, generator)
        for (where, model), (whose, scores) in product(
            zip(("one", "two"), models, strict=True), (("one", one), ("two", two))
        ):
            curve = faithfulness_curve(model, readable(model, prompts), scores, fractions, metric=judged)
            samples = [curve.of(draw).values for draw in drawn]
            cross[f"circuit of {whose} in {where}"] = _estimate(curve.values, samples, tail).tolist()
    size = torch.stack([one.values.abs(), two.values.abs()])
    return Comparison(
        ks=grid,
        overlap=overlap,
        overlap_of_halves=of_halves,
        ceiling_one=ceiling_one,
        ceiling_two=ceiling_two,
        chance=torch.tensor([chance_overlap(int(k), graph.n_edges) for k in grid]),
        source_profile=source_profile(size, graph),
        reader_profile=reader_profile(size, graph),
        measures=measures,
        cross=cross,
        fractions=list(fractions),
        about={
            "task": one.about.get("task"), "prompts": one.prompts, "one": one.about, "two": two.about,
            "bootstrap": bootstrap, "halvings": halvings, "level": level, "seed": seed,
        },
    )  # fmt: skip


def _halved(
    edges: list[Float[Tensor, "prompt edge"]], grid: Int[Tensor, " size"], halvings: int, generator: Generator
) -> Float[Tensor, "3 size"]:
    """Mean overlap of halves of the prompts: of the two models, of the first model, of the second."""
    found = []
    for _ in range(halvings):
        order = torch.randperm(len(edges[0]), generator=generator)
        middle = len(order) // 2
        (a, a_other), (b, b_other) = (
            [each[half].mean(dim=0) for half in (order[:middle], order[middle:])] for each in edges
        )
        crossed = (overlap_curve(a, b_other, grid) + overlap_curve(a_other, b, grid)) / 2
        found.append(torch.stack([crossed, overlap_curve(a, a_other, grid), overlap_curve(b, b_other, grid)]))
    return torch.stack(found).mean(dim=0)


@dataclass(frozen=True)
class _Sample:
    """Everything that gets an interval, from the scores of one draw of prompts."""

    overlap: Float[Tensor, " size"]
    correlation: Float[Tensor, ""]
    measures: Float[Tensor, "measure 3"]  # of one, of two, and their difference

    @classmethod
    def of(cls, edges: Float[Tensor, "2 edge"], graph: Graph, grid: Int[Tensor, " size"]) -> _Sample:
        measures = _measure(edges, graph)
        return cls(
            overlap_curve(edges[0], edges[1], grid),
            torch.tensor(rank_correlation(edges[0], edges[1])),
            torch.cat([measures, measures[:, 1:] - measures[:, :1]], dim=1),
        )


def _draws(count: int, times: int, generator: Generator) -> list[Int[Tensor, " prompt"]]:
    """As many prompts as there are, drawn with replacement, so many times."""
    return [torch.randint(count, (count,), generator=generator) for _ in range(times)]


def _resampled(edges: Float[Tensor, "prompt edge"], drawn: Int[Tensor, " prompt"]) -> Float[Tensor, " edge"]:
    """Mean over drawn prompts, without copying them."""
    weight = torch.bincount(drawn, minlength=len(edges)).to(edges.dtype) / len(drawn)
    return weight @ edges


def _measure(edges: Float[Tensor, "2 edge"], graph: Graph) -> Float[Tensor, "measure 2"]:
    size = edges.new_zeros(2, graph.n_sources, graph.n_readers)
    size[:, graph.exists] = edges.abs()
    return torch.stack([measure(size, graph) for measure in MEASURES.values()])


def _estimate(value: Float[Tensor, "*any"], samples: list[Tensor], tail: float) -> Float[Tensor, "*any 3"]:
    """Value, low, high; without samples the ends are NaN."""
    ends = torch.full((2, *value.shape), torch.nan, dtype=torch.float64)
    if samples:
        ends = torch.quantile(torch.stack(samples).double(), torch.tensor([tail, 1 - tail]).double(), dim=0)
    return torch.stack([value.double(), *ends], dim=-1).float()
