"""One unit of a study: everything that is measured on one pair, one seed and one task.

Every member is held against the ARM, on the same prompts:

    arm                 itself, on the other half of the prompts: the ceiling
    arm-trained-on      trained on with its old objective: what training alone does
    attention-switched  no training at all: what attention alone does
    mdm, mdm-second-seed
    other-task          the ARM's circuit for another task: how much two circuits of one model share anyway
    other-arm           another ARM, trained from another beginning

Statistics are named "what/whom":

    overlap             Jaccard of the strongest edges with the ARM's, each found on another half of the prompts
    cross, own          faithfulness in the member of the ARM's circuit, and of the member's own
    lost, new           effect that goes with the edges that only the ARM's circuit has, taken out of the member; and
                        with those that only the member's has, taken out of the ARM: 0 nothing, 1 all
    source_centre       centre of mass of |score| over layers, as a share of the depth; reader_centre likewise
    log_edges           log of the effective number of edges; log_direct of components that speak to the logits directly
    selectivity         of the neurons in the first half of the layers, mean
    settled             share of the depth at which the logit lens first has the answer on top, to stay; mean, with 1
                        for a prompt on which it never has: compare only members that are about as often right
    distance            how far the query that predicts the analysed token looks, mean over heads, in positions
    skip                largest loss by leaving out one layer, over the layers but the first and the last, as a share
                        of the clean metric; not measured where that is below 0.1: what is not there cannot be lost
    effect              clean metric less the corrupted one; accuracy and preferred: of the analysed token. Below 0 the
                        member prefers the distractor, and cross, own, lost and new are shares of that
    cka_revealed, cka_masked   linear CKA with the ARM, mean over places, of tokens that are there or masked; cosine
                        similarity likewise
    likeness_revealed, likeness_masked   where that stands between another ARM (0) and the ARM trained on (1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdmcourse.circuits import Circuit, Graph, Scores, run_circuits
from mdmcourse.circuits.comparison import chance_overlap, entropy, overlap_curve, reader_profile, source_profile
from mdmcourse.errors import InputError
from mdmcourse.lens import (
    answer_lens,
    attention_distance,
    attention_patterns,
    direct_attribution,
    neuron_activations,
    resampled_cka,
    residual_stream,
    selectivity,
    skip_layers,
)
from mdmcourse.models.pairs import TOY_MEMBERS
from mdmcourse.models.reading import MDM, LanguageModel
from mdmcourse.study.evaluate import at_each_target
from mdmcourse.tasks import readable
from mdmcourse.tasks.task import Prompts

STATISTICS = (
    "overlap", "chance", "cross", "own", "lost", "new", "effect", "accuracy", "preferred",
    "source_centre", "reader_centre", "log_edges", "log_direct", "selectivity", "settled", "distance", "skip",
    "cka_revealed", "cka_masked", "cosine_revealed", "cosine_masked", "likeness_revealed", "likeness_masked",
)  # fmt: skip
"""What can stand before the "/" of a statistic's name."""
WHOM = (*TOY_MEMBERS, "attention-switched", "mdms", "other-arm", "other-task", "edges")
"""What can stand behind it; of a real pair, the members that it has."""
MEASURED_AS = 3
"""Raise it with every change to what a unit holds: of a study that is not finished, nothing is reused then."""
MDMS = ("mdm", "mdm-second-seed")
LIKENESS_PROMPTS = 64
T = TypeVar("T", float, Tensor)


@dataclass(frozen=True)
class Material:
    """What a unit is measured on.

    Attributes
    ----------
    members: the models, the ARM first under "arm"; "other-arm" may be among them.
    scores: of each member on `found_on`, with single prompts; also "other-task".
    found_on: prompts of the scores, in two halves.
    tested_on: others, for everything that is run.
    """

    members: dict[str, LanguageModel]
    scores: dict[str, Scores]
    found_on: Prompts
    tested_on: Prompts

    @property
    def graph(self) -> Graph:
        return self.scores["arm"].graph


def measure(
    material: Material,
    *,
    share: float,
    shares: tuple[float, ...],
    resamples: int,
    seed: int,
    sums: Mapping[str, Sequence[tuple[int, str]]],
) -> dict[str, Any]:
    """All statistics of a unit, as plain data: {"statistics": {name: value}, "intervals": {name: [low, high]} and
    "curves"}. Intervals are a bootstrap's over prompts: those that circuits were found on, or those that they are run
    on and representations are taken from; the circuits that are run stay those that were found.

    sums: of statistics, each with its sign, by name: they get intervals too, of the same draws of prompts. What varies
        alike in two terms goes out in their difference.
    """
    graph, members = material.graph, material.members
    k = round(share * graph.n_edges)
    grid = torch.tensor([max(1, round(each * graph.n_edges)) for each in shares])
    half = len(material.found_on) // 2
    first, second = torch.arange(half), torch.arange(half, 2 * half)
    tested = {name: readable(model, material.tested_on) for name, model in members.items()}
    direct = {name: direct_attribution(model, tested[name]) for name, model in members.items()}
    neurons = {name: neuron_activations(model, tested[name]) for name, model in members.items()}
    edges = {name: scores.need_prompts()[:, graph.exists] for name, scores in material.scores.items()}

    def resampleable(*drawn: Int[Tensor, " n"]) -> tuple[dict[str, float], Tensor]:
        """What can be computed from any draw of the prompts: two halves to find circuits on, and those to test on."""
        found: dict[str, float] = {}
        *halves, tests = drawn
        means = {name: [each[index].mean(dim=0) for index in halves] for name, each in edges.items()}
        curves = torch.stack(
            [
                (overlap_curve(means["arm"][0], b, grid) + overlap_curve(means["arm"][1], a, grid)) / 2
                for a, b in means.values()
            ]
        )
        at = shares.index(share)
        found |= {f"overlap/{name}": float(curve[at]) for name, curve in zip(means, curves, strict=True)}
        for name, (a, b) in means.items():
            found |= {f"{what}/{name}": value for what, value in _of_scores((a + b) / 2, graph).items()}
        for name, values in direct.items():
            found[f"log_direct/{name}"] = float(entropy(values[tests].mean(dim=0)[None, 1:].abs()))
            early = neurons[name][: max(1, graph.layers // 2), tests]
            found[f"selectivity/{name}"] = float(selectivity(early).nanmean())
        return found, curves

    sets = (first, second, torch.arange(len(material.tested_on)))
    statistics, curves = resampleable(*sets)
    generator = torch.Generator().manual_seed(seed)
    draws = [
        [each[torch.randint(len(each), (len(each),), generator=generator)] for each in sets] for _ in range(resamples)
    ]
    drawn_again = [resampleable(*draw)[0] for draw in draws]
    samples = {name: torch.tensor([each[name] for each in drawn_again], dtype=torch.float64) for name in statistics}

    # How often each prompt to test on is taken: all of them once, and then as they were drawn.
    tests = [sets[-1], *(draw[-1] for draw in draws)]
    counts = torch.stack([each.bincount(minlength=len(sets[-1])).double() for each in tests])
    measured = _functional(_runs(material, k), counts) | _likeness(material, counts) | _inside(material, counts)
    for name, values in measured.items():
        statistics[name], samples[name] = float(values[0]), values[1:]
    statistics["chance/edges"] = chance_overlap(k, graph.n_edges)
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    samples = _with_means(samples)
    samples |= {
        name: torch.stack([sign * samples[term] for sign, term in terms]).sum(dim=0)
        for name, terms in sums.items()
        if all(term in samples for _, term in terms)
    }
    intervals = {name: each.quantile(ends).tolist() for name, each in samples.items()}
    statistics = _with_means(statistics)
    _need_numbers(statistics)
    return {
        "statistics": statistics,
        "intervals": intervals,
        "curves": {
            "k": grid.tolist(),
            "overlap": dict(zip(edges, curves.tolist(), strict=True)),
            "chance": [chance_overlap(int(each), graph.n_edges) for each in grid],
            "source_profile": {
                name: source_profile(scores.values.abs(), graph).tolist() for name, scores in material.scores.items()
            },
        },
    }


def _of_scores(mean: Float[Tensor, " edge"], graph: Graph) -> dict[str, float]:
    """Where |score| lies, and on how many edges."""
    size = torch.zeros(graph.exists.shape, dtype=torch.float64)
    size[graph.exists] = mean.abs().double()
    depth = torch.arange(graph.layers, dtype=torch.float64) / max(1, graph.layers - 1)
    sent, read = source_profile(size, graph)[1:], reader_profile(size, graph)[:-1]
    return {
        "source_centre": float(sent @ depth / sent.sum()),
        "reader_centre": float(read @ depth / read.sum()),
        "log_edges": float(entropy(mean.abs().double()[None])),
    }


def _runs(material: Material, k: int) -> dict[str, dict[str, Float[Tensor, " prompt"]]]:
    """The metric in each member with only some edges left: the ARM's circuit and the member's own; and without those
    that only one of them has."""
    graph = material.graph
    found = {}
    circuits = {name: Circuit.top(material.scores[name], k) for name in material.members}
    of_arm = circuits["arm"].edges
    for name, model in material.members.items():
        own = circuits[name].edges
        chosen = {
            "all": graph.exists, "none": torch.zeros_like(graph.exists), "cross": of_arm, "own": own,
            "lost": graph.exists & ~(of_arm & ~own),
        }  # fmt: skip
        if name == "arm":
            chosen |= {
                f"new/{other}": graph.exists & ~(circuit.edges & ~of_arm)
                for other, circuit in circuits.items()
                if other != "arm"
            }
        run = run_circuits(
            model, readable(model, material.tested_on), [Circuit.of(graph, edges) for edges in chosen.values()]
        )
        found[name] = dict(zip(chosen, run.cpu().double(), strict=True))
    return found


def _functional(
    runs: dict[str, dict[str, Float[Tensor, " prompt"]]], counts: Float[Tensor, "resample prompt"]
) -> dict[str, Float[Tensor, " resample"]]:
    """What of the effect is left or goes, each prompt taken as often as a row of `counts` says."""
    weights = counts / counts.sum(dim=1, keepdim=True)
    found = {}
    for name, each in runs.items():
        value = {which: weights @ metric for which, metric in each.items()}
        effect = value["all"] - value["none"]
        found[f"effect/{name}"] = effect
        if abs(effect[0]) < 0.1:  # logits: nothing that a share could be taken of
            continue
        for what in ("cross", "own"):
            found[f"{what}/{name}"] = (value[what] - value["none"]) / effect
        found[f"lost/{name}"] = (value["all"] - value["lost"]) / effect
        found |= {what: (value["all"] - value[what]) / effect for what in value if what.startswith("new/")}
    return found


def _likeness(material: Material, counts: Float[Tensor, "resample prompt"]) -> dict[str, Float[Tensor, " resample"]]:
    """How alike the members' representations are to the ARM's, each prompt taken as often as a row of `counts` says."""
    found: dict[str, Float[Tensor, " resample"]] = {}
    few = material.tested_on.select(slice(0, LIKENESS_PROMPTS))
    streams = {
        name: residual_stream(model, readable(model, few).clean.to(model.device))[1:].float().cpu()
        for name, model in material.members.items()
    }
    mask = next((model.mask_id for model in material.members.values() if isinstance(model, MDM)), -1)
    masked = few.clean.cpu() == mask
    for kind, where in (("revealed", ~masked), ("masked", masked)):
        if where.sum() < 8:
            continue
        of_tokens = counts[:, : len(few), None].expand(-1, *where.shape)[:, where]
        for name, stream in streams.items():
            if name == "arm":
                continue
            pairs = [(x[where].double(), y[where].double()) for x, y in zip(streams["arm"], stream, strict=True)]
            found[f"cka_{kind}/{name}"] = torch.stack([resampled_cka(x, y, of_tokens) for x, y in pairs]).mean(dim=0)
            cosines = torch.stack([torch.cosine_similarity(x, y, dim=-1) for x, y in pairs]).mean(dim=0)
            found[f"cosine_{kind}/{name}"] = of_tokens @ cosines / of_tokens.sum(dim=1)
        if "other-arm" not in streams or "arm-trained-on" not in streams:
            continue
        low, high = found[f"cka_{kind}/other-arm"], found[f"cka_{kind}/arm-trained-on"]
        if high[0] - low[0] > 0.05:
            for name in MDMS:
                if name in streams:
                    found[f"likeness_{kind}/{name}"] = (found[f"cka_{kind}/{name}"] - low) / (high - low)
    return found


def _inside(material: Material, counts: Float[Tensor, "resample prompt"]) -> dict[str, Float[Tensor, " resample"]]:
    """What the lens shows of each member, each prompt taken as often as a row of `counts` says."""
    found = {}
    layers = material.graph.layers

    def mean(of_prompts: Tensor) -> Tensor:
        """Over prompts, the last axis, for every row of `counts`."""
        taken = counts[:, : of_prompts.shape[-1]]
        return of_prompts.cpu().double() @ taken.T / taken.sum(dim=1)

    for name, model in material.members.items():
        tested = readable(model, material.tested_on)
        few = tested.select(slice(0, LIKENESS_PROMPTS))
        clean = few.clean.to(model.device)
        found[f"accuracy/{name}"], found[f"preferred/{name}"] = map(mean, at_each_target(model, tested))
        lens = answer_lens(model, tested)
        wrong = (lens.rank > 0).int()
        last_wrong = (wrong * torch.arange(1, layers + 2)[:, None]).amax(dim=0)  # 0: on top from the beginning
        found[f"settled/{name}"] = mean(last_wrong.clamp(max=layers)) / layers
        rows, query = torch.arange(len(few), device=clean.device), few.target.to(clean.device) - int(model.shift)
        distance = attention_distance(attention_patterns(model, clean).float())
        found[f"distance/{name}"] = mean(distance[:, rows, :, query].flatten(1).mean(dim=1))
        skipped = mean(skip_layers(model, few))
        if layers > 2 and skipped[0, 0] > 0.1:
            found[f"skip/{name}"] = (skipped[0] - skipped[2:-1]).amax(dim=0) / skipped[0]
    return found


def _with_means(statistics: dict[str, T]) -> dict[str, T]:
    """With "what/mdms", the mean of the MDMs of one ARM: they differ in batches and noise only."""
    found = dict(statistics)
    for name in statistics:
        what, whom = name.split("/")
        if whom == "mdm":
            each = [statistics[f"{what}/{member}"] for member in MDMS if f"{what}/{member}" in statistics]
            found[f"{what}/mdms"] = sum(each[1:], each[0]) / len(each)
    return found


def _need_numbers(statistics: dict[str, float]) -> None:
    wrong = [name for name, value in statistics.items() if not math.isfinite(value)]
    if wrong:
        raise InputError(
            f"{', '.join(wrong[:5])} {'is' if len(wrong) == 1 else 'are'} no number.",
            "A result that is no number would be passed on in silence.",
            "Look at the model and the task: a model that gives NaN, or prompts that are all alike.",
        )
