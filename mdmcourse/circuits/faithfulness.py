"""Does a circuit do the work? Run it with everything outside it ablated, and see what is left of the metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdmcourse.circuits.adapter import Anatomy, anatomy
from mdmcourse.circuits.capture import Written, one_key_per_query_head, recording, target_logits
from mdmcourse.circuits.circuit import Circuit
from mdmcourse.circuits.graph import Graph
from mdmcourse.circuits.intervention import Ablation, mean, rerouted, zeros
from mdmcourse.circuits.metrics import METRICS, Metric, get_metric, judge, reads_clean
from mdmcourse.circuits.scores import Scores
from mdmcourse.errors import InputError
from mdmcourse.models.reading import LanguageModel, need_model
from mdmcourse.storage import Saved
from mdmcourse.tasks.task import Prompts

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The shares of all edges at which MIB measures (Mueller et al., arXiv 2504.13151)."""

Selection = Literal["top", "greedy"]


@torch.no_grad()
def run_circuit(
    model: LanguageModel,
    prompts: Prompts,
    circuit: Circuit,
    ablation: Ablation = "counterfactual",
    *,
    metric: str | Metric = "logit_diff",
    batch_size: int = 64,
) -> Float[Tensor, " prompt"]:
    """The metric of every prompt, in the metric's unit, when only the circuit's edges carry what this run sends.

    ablation: what the other edges carry: "counterfactual" what their source writes on the corrupted prompt, "zero"
        nothing, "mean" what it writes on average over the clean prompts and their positions, "mean-position" the same
        at each position separately.
    metric: "logit_diff" (in logits), "answer_logprob", "kl" (in nats), or a function (see `metrics`).
    batch_size: prompts computed together.

    Raises InputError if there are no prompts, for an unknown ablation, for a decoder of an unknown family, and if the
    circuit belongs to a decoder of another shape; UnknownNameError for an unknown metric.
    """
    return run_circuits(model, prompts, [circuit], ablation, metric=metric, batch_size=batch_size)[0]


@torch.no_grad()
def run_circuits(
    model: LanguageModel,
    prompts: Prompts,
    circuits: Sequence[Circuit],
    ablation: Ablation = "counterfactual",
    *,
    metric: str | Metric = "logit_diff",
    batch_size: int = 64,
) -> Float[Tensor, "circuit prompt"]:
    """`run_circuit` for several circuits of one shape: the corrupted run, and the clean one if the
    metric looks at it, are made only once."""
    need_model(model)
    prompts.need_answers(model)
    if ablation not in get_args(Ablation):
        raise InputError(
            f"ablation={ablation!r}.",
            "It is not something that a removed edge can carry.",
            f"Use one of {', '.join(get_args(Ablation))}.",
        )
    if not len(prompts) or batch_size < 1:
        raise InputError(
            f"There are {len(prompts) or 'no'} prompts, and batch_size={batch_size}.",
            "A circuit runs on one prompt at a time at least.",
            "Give at least one prompt, and a batch_size of 1 or more.",
        )
    if not circuits:
        return torch.zeros(0, len(prompts))
    graph = _graph_for(model, circuits)
    judged = get_metric(metric)[1]
    columns = []
    with ExitStack() as stack:
        parts = anatomy(model.decoder)
        if graph.kv_heads != Graph.of(model).kv_heads:
            parts = stack.enter_context(one_key_per_query_head(parts))
        replacement = None
        if ablation in ("mean", "mean-position"):
            replacement = _mean(model, parts, prompts, ablation, batch_size)
        for part in _split(prompts, batch_size, model.device):
            reference = target_logits(model, part.clean, part.target) if reads_clean(judged) else torch.empty(0)
            if ablation in ("counterfactual", "zero"):
                corrupted = _recorded(model, parts, part.corrupted, part.target)
                replacement = corrupted if ablation == "counterfactual" else zeros(corrupted)
            assert replacement is not None
            rows = []
            for circuit in circuits:
                with rerouted(parts, graph, ~circuit.edges, replacement):
                    logits = target_logits(model, part.clean, part.target)
                rows.append(judge(judged, logits, part, reference).cpu())
            columns.append(torch.stack(rows))
    return torch.cat(columns, dim=1)


def _mean(model: LanguageModel, parts: Anatomy, prompts: Prompts, ablation: Ablation, batch_size: int) -> Written:
    """What each source writes on average over all clean prompts."""
    total = None
    for part in _split(prompts, batch_size, model.device):
        clean = _recorded(model, parts, part.clean, part.target)
        share = mean(clean, ablation).map(partial(torch.mul, other=len(part) / len(prompts)))
        total = share if total is None else total.map(torch.add, share)
    assert total is not None
    return total


def _recorded(
    model: LanguageModel, parts: Anatomy, tokens: Int[Tensor, "batch pos"], target: Int[Tensor, " batch"]
) -> Written:
    """What every source writes."""
    with recording(parts) as written:
        target_logits(model, tokens, target)
    return written


def _split(prompts: Prompts, batch_size: int, device: torch.device) -> Iterator[Prompts]:
    for start in range(0, len(prompts), batch_size):
        yield prompts.select(slice(start, start + batch_size)).to(device)


def _graph_for(model: LanguageModel, circuits: Sequence[Circuit]) -> Graph:
    """The graph of the circuits, which must be one of the model's two."""
    graph = circuits[0].graph
    for circuit in circuits:
        circuit.need_same_graph(graph)
    if graph not in (Graph.of(model), Graph.of(model, "query")):
        raise InputError(
            f"A circuit of {graph!r} cannot run in {model!r}.",
            f"That model is {Graph.of(model)!r}.",
            "Run it in a model of the shape in which it was found.",
        )
    return graph


@dataclass(frozen=True)
class Faithfulness(Saved):
    """How much of a model's behaviour circuits of growing size keep.

    Attributes
    ----------
    fractions: of all edges that were asked for.
    asked, kept: edges asked for, and left after pruning.
    by_prompt: the metric of each circuit on every prompt.
    full, none: the metric of every prompt with all edges (the clean run) and with no edges.
    about: selection, ablation, metric, and where the scores come from.
    """

    fractions: Float[Tensor, " size"]
    asked: Int[Tensor, " size"]
    kept: Int[Tensor, " size"]
    by_prompt: Float[Tensor, "size prompt"]
    full: Float[Tensor, " prompt"]
    none: Float[Tensor, " prompt"]
    about: dict[str, object]

    @property
    def values(self) -> Float[Tensor, " size"]:
        """Normalised faithfulness f = (m(circuit) - m(no edges)) / (m(all edges) - m(no edges)), m meaned over prompts.

        1: the circuit does what the model does; 0: no more than no edges at all. It can lie outside, and is not a
        number if all edges do the same as none. It means little where they hardly differ; and where a metric of which
        more is better falls with all edges (see `full` and `none`), it tells how much of the *harm* is kept.
        """
        effect = self.full.mean() - self.none.mean()
        share = (self.by_prompt.mean(dim=1) - self.none.mean()) / effect
        return share if effect else torch.full_like(share, torch.nan)

    @property
    def cpr(self) -> float:
        """MIB's circuit performance ratio: the area under f over the fraction of edges (trapezoids). Higher is better;
        it rewards circuits that overshoot. Only curves of the same fractions can be compared; of one fraction there is
        no area: NaN."""
        return self._area(self.values)

    @property
    def cmd(self) -> float:
        """MIB's circuit-model distance: the area under |1 - f|. Lower is better. Of one fraction NaN, as `cpr`."""
        return self._area((1 - self.values).abs())

    def _area(self, heights: Float[Tensor, " size"]) -> float:
        return float(torch.trapezoid(heights, self.fractions)) if len(heights) > 1 else math.nan

    def of(self, prompts: Int[Tensor, " n"]) -> Faithfulness:
        """The same for some of the prompts: for bootstraps."""
        return replace(self, by_prompt=self.by_prompt[:, prompts], full=self.full[prompts], none=self.none[prompts])

    def __repr__(self) -> str:
        rows = ", ".join(f"{int(k)}: {f:.2f}" for k, f in zip(self.kept, self.values, strict=True))
        return f"Faithfulness(CPR {self.cpr:.3f}, CMD {self.cmd:.3f}; edges: f  {rows})"


def faithfulness_curve(
    model: LanguageModel,
    prompts: Prompts,
    scores: Scores,
    fractions: Sequence[float] = FRACTIONS,
    ablation: Ablation = "counterfactual",
    *,
    metric: str | Metric | None = None,
    selection: Selection = "top",
    batch_size: int = 64,
) -> Faithfulness:
    """Faithfulness of the circuits with the largest |scores|, at growing shares of all edges.

    scores: from this model, or (cross-faithfulness) from another of the same shape.
    fractions: shares of all edges to ask for, from 0 to 1, in order.
    selection: "top" by |score|, or "greedy" from the logits backwards.
    metric: by which the circuits are judged; by default the one that the scores are of.
    ablation, batch_size: see `run_circuit`.

    Raises what `run_circuit` raises, and InputError for fractions out of order, an unknown selection, and scores by a
    function that is not given.
    """
    check_fractions(fractions)
    metric = metric_of(scores) if metric is None else metric
    if selection not in get_args(Selection):
        raise InputError(f"selection={selection!r}.", "It is not a way to choose edges.", 'Use "top" or "greedy".')
    graph = scores.graph
    choose = Circuit.top if selection == "top" else Circuit.greedy
    asked = [max(1, round(fraction * graph.n_edges)) if fraction else 0 for fraction in fractions]
    circuits = [choose(scores, k) for k in asked]
    run = run_circuits(
        model, prompts, [Circuit.full(graph), Circuit.empty(graph), *circuits], ablation,
        metric=metric, batch_size=batch_size,
    )  # fmt: skip
    return Faithfulness(
        fractions=torch.tensor(list(fractions), dtype=torch.float64),
        asked=torch.tensor(asked),
        kept=torch.tensor([circuit.kept for circuit in circuits]),
        by_prompt=run[2:].double(),
        full=run[0].double(),
        none=run[1].double(),
        about={"selection": selection, "ablation": ablation, "metric": get_metric(metric)[0], "scores": scores.about},
    )


def metric_of(*each: Scores) -> str:
    """The metric of all these scores. Raises InputError if it is not one, or not known by its name."""
    names = {str(scores.about.get("metric", "logit_diff")) for scores in each}
    if len(names) > 1 or not names <= set(METRICS):
        raise InputError(
            f"The scores are by the metric {' and by '.join(sorted(names))}.",
            "The circuits that are run have to be judged by one metric, and it is not known which function that is.",
            "Give it: metric=..., a function or one of " + ", ".join(METRICS) + ".",
        )
    return names.pop()


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise InputError if they are no shares of all edges in order."""
    if not fractions or not all(0 <= each <= 1 for each in fractions) or list(fractions) != sorted(fractions):
        raise InputError(
            f"fractions={list(fractions)}.",
            "They are shares of all edges, from 0 to 1, in order.",
            "Leave them out for MIB's.",
        )
