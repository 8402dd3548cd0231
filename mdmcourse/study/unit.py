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
    settled             share of the depth at which the logit lens first has the answer on top, to stay; mean
    distance            how far the query that predicts the analysed token looks, mean over heads, in positions
    skip                largest loss by leaving out one layer, over the layers but the first and the last, as a share
                        of the clean metric: where that is below 0, the share turns its sign
    effect              clean metric less the corrupted one; accuracy and preferred: of the analysed token
    cka_revealed, cka_masked   linear CKA with the ARM, mean over places, of tokens that are there or masked; cosine
                        similarity likewise
    likeness_revealed, likeness_masked   where that stands between another ARM (0) and the ARM trained on (1)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    cosine_similarity,
    direct_attribution,
    linear_cka,
    neuron_activations,
    residual_stream,
    selectivity,
    skip_layers,
)
from mdmcourse.models.reading import MDM, LanguageModel
from mdmcourse.study.evaluate import at_target
from mdmcourse.tasks import readable
from mdmcourse.tasks.task import Prompts

STATISTICS = (
    "overlap", "chance", "cross", "own", "lost", "new", "effect", "accuracy", "preferred",
    "source_centre", "reader_centre", "log_edges", "log_direct", "selectivity", "settled", "distance", "skip",
    "cka_revealed", "cka_masked", "cosine_revealed", "cosine_masked", "likeness_revealed", "likeness_masked",
)  # fmt: skip
"""What can stand before the "/" of a statistic's name."""
MDMS = ("mdm", "mdm-second-seed")
LIKENESS_PROMPTS = 64


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
    material: Material, *, share: float, shares: tuple[float, ...], resamples: int, seed: int
) -> dict[str, Any]:
    """All statistics of a unit, as plain data: {"statistics": {name: value}, "intervals": {name: [low, high]} over
    prompts, for those that are means over them, and "curves"}."""
    graph, members = material.graph, material.members
    k = round(share * graph.n_edges)
    grid = torch.tensor([max(1, round(each * graph.n_edges)) for each in shares])
    half = len(material.found_on) // 2
    first, second = torch.arange(half), torch.arange(half, 2 * half)
    tested = {name: readable(model, material.tested_on) for name, model in members.items()}
    direct = {name: direct_attribution(model, tested[name]) for name, model in members.items()}
    neurons = {name: neuron_activations(model, tested[name]) for name, model in members.items()}
    edges = {name: scores.need_prompts()[:, graph.exists] for name, scores in material.scores.items()}

    def resampleable(draw: Callable[[Int[Tensor, " n"]], Int[Tensor, " n"]]) -> tuple[dict[str, float], Tensor]:
        """What can be computed from any draw of the prompts."""
        found: dict[str, float] = {}
        halves = [draw(first), draw(second)]
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
        drawn = draw(torch.arange(len(material.tested_on)))
        for name, values in direct.items():
            found[f"log_direct/{name}"] = float(entropy(values[drawn].mean(dim=0)[None, 1:].abs()))
            early = neurons[name][: max(1, graph.layers // 2), drawn]
            found[f"selectivity/{name}"] = float(selectivity(early).nanmean())
        return found, curves

    statistics, curves = resampleable(lambda index: index)
    generator = torch.Generator().manual_seed(seed)

    def redrawn(index: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        return index[torch.randint(len(index), (len(index),), generator=generator)]

    samples = [resampleable(redrawn)[0] for _ in range(resamples)]
    statistics |= _functional(material, k) | _inside(material)
    statistics["chance/edges"] = chance_overlap(k, graph.n_edges)
    samples_of = {name: torch.tensor([sample[name] for sample in samples], dtype=torch.float64) for name in samples[0]}
    intervals = {
        name: each.quantile(torch.tensor([0.025, 0.975]).double()).tolist() for name, each in samples_of.items()
    }
    return {
        "statistics": _with_means(statistics),
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


def _functional(material: Material, k: int) -> dict[str, float]:
    """Circuits that are run: the ARM's and the member's own in each; and what goes with edges that only one has."""
    graph = material.graph
    found: dict[str, float] = {}
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
        value = dict(zip(chosen, run.double().mean(dim=1).tolist(), strict=True))
        effect = value["all"] - value["none"]
        found[f"effect/{name}"] = effect
        if abs(effect) < 0.1:  # logits: nothing that a share could be taken of
            continue
        for what in ("cross", "own"):
            found[f"{what}/{name}"] = (value[what] - value["none"]) / effect
        found[f"lost/{name}"] = (value["all"] - value["lost"]) / effect
        found |= {what: (value["all"] - value[what]) / effect for what in chosen if what.startswith("new/")}
    return found


def _inside(material: Material) -> dict[str, float]:
    """What the lens shows of each member, and how alike its representations are to the ARM's."""
    found: dict[str, float] = {}
    layers = material.graph.layers
    mask = next((model.mask_id for model in material.members.values() if isinstance(model, MDM)), -1)
    masked = material.tested_on.clean[:LIKENESS_PROMPTS].cpu() == mask
    streams, kinds = {}, {"revealed": ~masked, "masked": masked}
    for name, model in material.members.items():
        tested = readable(model, material.tested_on)
        few = tested.select(slice(0, LIKENESS_PROMPTS))
        clean = few.clean.to(model.device)
        found[f"accuracy/{name}"], found[f"preferred/{name}"] = at_target(model, tested)
        lens = answer_lens(model, tested)
        wrong = (lens.rank > 0).int()
        last_wrong = (wrong * torch.arange(1, layers + 2)[:, None]).amax(dim=0)  # 0: on top from the beginning
        found[f"settled/{name}"] = float(last_wrong.clamp(max=layers).double().mean()) / layers
        rows, query = torch.arange(len(few), device=clean.device), few.target.to(clean.device) - int(model.shift)
        distance = attention_distance(attention_patterns(model, clean).float())
        found[f"distance/{name}"] = float(distance[:, rows, :, query].mean())
        skipped = skip_layers(model, few).double().mean(dim=1)
        if layers > 2 and abs(effect := float(skipped[0])) > 0.1:
            found[f"skip/{name}"] = float((skipped[0] - skipped[2:-1]).max()) / effect
        streams[name] = residual_stream(model, clean)[1:].float().cpu()
    for kind, where in kinds.items():
        if not where.any() or where.sum() < 8:
            continue
        for name, stream in streams.items():
            if name == "arm":
                continue
            pairs = [(x[where], y[where]) for x, y in zip(streams["arm"], stream, strict=True)]
            found[f"cka_{kind}/{name}"] = sum(linear_cka(x, y) for x, y in pairs) / len(pairs)
            found[f"cosine_{kind}/{name}"] = sum(cosine_similarity(x, y) for x, y in pairs) / len(pairs)
        if "other-arm" not in streams or "arm-trained-on" not in streams:
            continue
        low, high = found[f"cka_{kind}/other-arm"], found[f"cka_{kind}/arm-trained-on"]
        if high - low > 0.05:
            for name in MDMS:
                if name in streams:
                    found[f"likeness_{kind}/{name}"] = (found[f"cka_{kind}/{name}"] - low) / (high - low)
    return found


def _with_means(statistics: dict[str, float]) -> dict[str, float]:
    """With "what/mdms", the mean of the MDMs of one ARM: they differ in batches and noise only."""
    found = dict(statistics)
    for name in statistics:
        what, whom = name.split("/")
        if whom == "mdm":
            each = [statistics[f"{what}/{member}"] for member in MDMS if f"{what}/{member}" in statistics]
            found[f"{what}/mdms"] = sum(each) / len(each)
    if not all(math.isfinite(value) for value in found.values()):
        wrong = [name for name, value in found.items() if not math.isfinite(value)]
        raise InputError(
            f"{', '.join(wrong[:5])} {'is' if len(wrong) == 1 else 'are'} no number.",
            "A result that is no number would be passed on in silence.",
            "Look at the model and the task: a model that gives NaN, or prompts that are all alike.",
        )
    return found
