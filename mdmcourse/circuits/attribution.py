"""Attribution: the importance of all edges at once, from a handful of backward passes.

The score of an edge u -> v estimates how much of the metric M is lost if v alone is sent what u writes on the corrupted
prompt (u' there, u on the clean prompt; x_v is what v reads):

eap                 (u - u') . dM/dx_v at the clean prompt (Syed et al., arXiv 2310.10348)
eap-ig              (u - u') . the mean over alpha of dM/dx_v, the input embedding being
                    corrupted + alpha (clean - corrupted) (Hanna et al., arXiv 2403.17806)
eap-ig-activations  the same, but what is moved is each group of sources in turn, everything upstream of it being clean
exact               M(clean) - M(clean but for this edge): one forward pass an edge

summed over positions and d_model.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mdmcourse.circuits.adapter import Anatomy, anatomy, frozen
from mdmcourse.circuits.capture import Written, one_key_per_query_head, recording, target_logits
from mdmcourse.circuits.gradients import Group, ReaderGradients, contract, contracted_in, groups, written_by
from mdmcourse.circuits.graph import Graph, Readers
from mdmcourse.circuits.intervention import Remembered, block_outputs, rerouted
from mdmcourse.circuits.metrics import Metric, get_metric, judge
from mdmcourse.circuits.quadrature import Rule, quadrature
from mdmcourse.errors import InputError
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts

TOGETHER = 2**18
"""Numbers in the residual stream up to which points of the integral are computed in one pass: with a small model and a
few short prompts, a pass for each would not keep a machine busy."""

Method = Literal["eap", "eap-ig", "eap-ig-activations", "exact"]


@dataclass(frozen=True)
class Settings:
    """How to attribute.

    Attributes
    ----------
    method: see above.
    steps, rule: of the integral, for the two methods that have one.
    metric: "logit_diff", "answer_logprob", "kl", or a function (see `metrics`).
    readers: "kv" or "query" (see `Graph.of`).
    positions: keep the share of every token position too.
    """

    method: Method = "eap-ig"
    steps: int = 5
    rule: Rule = "gauss-legendre"
    metric: str | Metric = "logit_diff"
    readers: Readers = "kv"
    positions: bool = False

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(
                f"method={self.method!r}.", "It is not a method of attribution.", f"Use one of {get_args(Method)}."
            )
        if self.method == "exact" and self.positions:
            raise InputError(
                "method='exact' with positions=True.",
                "An edge is patched at all positions at once: there is no share of one position.",
                'Leave positions out, or use "eap-ig".',
            )
        quadrature(self.rule, self.steps)
        get_metric(self.metric)

    @property
    def about(self) -> dict[str, object]:
        """For the record: what has a bearing on the scores."""
        integral = {"steps": self.steps, "rule": self.rule} if self.method.startswith("eap-ig") else {}
        return {"method": self.method, **integral, "metric": get_metric(self.metric)[0], "readers": self.readers}


@dataclass(frozen=True)
class BatchScores:
    """Scores of every prompt of a batch, and its metric on the clean and the corrupted prompt.

    `scores` is [batch source reader], or with positions [batch pos source reader].
    """

    scores: Tensor
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]


def attribute_batch(model: LanguageModel, prompts: Prompts, settings: Settings) -> BatchScores:
    """The scores of every prompt of one batch, computed together.

    Raises InputError for a decoder of an unknown family, and if the metric has no gradient or one that is no number.
    """
    graph = Graph.of(model, settings.readers)
    metric = get_metric(settings.metric)[1]
    with ExitStack() as stack:
        parts = anatomy(model.decoder)
        stack.enter_context(frozen(model.decoder))
        if settings.readers == "query":
            parts = stack.enter_context(one_key_per_query_head(parts))
        with torch.no_grad():
            with recording(parts) as corrupted:
                corrupted_logits = target_logits(model, prompts.corrupted, prompts.target)
            kept = parts.layers if settings.method == "exact" else ()
            with recording(parts) as clean, block_outputs(kept) as outputs:
                clean_logits = target_logits(model, prompts.clean, prompts.target)
            values = [judge(metric, logits, prompts, clean_logits) for logits in (clean_logits, corrupted_logits)]
        difference = clean.minus(corrupted, contracted_in(corrupted.input.dtype))
        remembered = Remembered(outputs, clean) if settings.method == "exact" else None
        del clean, outputs  # each run holds as much as the difference
        if settings.method in ("eap", "eap-ig"):
            corrupted.heads, corrupted.mlps = [], []
        batch = _Batch(model, parts, graph, prompts, metric, corrupted, difference, clean_logits)
        if remembered is not None:
            scores = batch.one_edge_at_a_time(values[0], remembered)
        elif settings.method == "eap-ig-activations":
            scores = batch.empty(settings.positions)
            for group in groups(graph):
                batch.add(scores, [group], group, quadrature(settings.rule, settings.steps))
        else:
            points = [(1.0, 1.0)] if settings.method == "eap" else quadrature(settings.rule, settings.steps)
            scores = batch.empty(settings.positions)
            batch.add(scores, groups(graph), ("input", 0), points)
    if not scores.isfinite().all():
        raise InputError(
            "Some scores are infinite or not a number, although the metric is finite.",
            "The metric has no slope somewhere on the way from the corrupted to the clean prompt, as a square root has "
            "none at 0; or gradients overflowed, which float16 does easily.",
            "Use a metric that is smooth, also at the clean prompt, or load the model in bfloat16 or float32.",
        )
    return BatchScores(scores.cpu(), *(value.cpu() for value in values))


@dataclass
class _Batch:
    """A batch of prompts: what its sources wrote on the corrupted prompts, and how far the clean run is from that."""

    model: LanguageModel
    parts: Anatomy
    graph: Graph
    prompts: Prompts
    metric: Metric
    corrupted: Written
    difference: Written
    clean_logits: Tensor

    def empty(self, positions: bool) -> Tensor:
        """Scores to be added to."""
        batch, pos = self.prompts.clean.shape
        shape = (batch, pos) if positions else (batch,)
        dtype = torch.promote_types(self.difference.input.dtype, torch.float32)
        return torch.zeros(*shape, self.graph.n_sources, self.graph.n_readers, dtype=dtype)

    def add(self, scores: Tensor, chosen: list[Group], moved: Group, points: list[tuple[float, float]]) -> None:
        """Add the scores of the edges that leave the `chosen` sources, gradients being taken while `moved` stands at
        corrupted + alpha (clean - corrupted), for each (alpha, weight) of `points`."""
        gradients = ReaderGradients(self.graph, self.parts, self.difference.input)
        corrupted, difference = written_by(self.corrupted, moved), written_by(self.difference, moved)
        tokens, target = self.prompts.clean, self.prompts.target
        together = max(1, TOGETHER // self.difference.input.numel())
        for first in range(0, len(points), together):
            some = points[first : first + together]
            leaf = torch.cat([corrupted + alpha * difference for alpha, _ in some]).to(corrupted.dtype).requires_grad_()
            weights = torch.tensor([weight for _, weight in some], dtype=scores.dtype, device=difference.device)
            with torch.enable_grad(), gradients.watching(moved, leaf, weights):
                logits = target_logits(self.model, tokens.repeat(len(some), 1), target.repeat(len(some)))
                runs = (judge(self.metric, run, self.prompts, self.clean_logits) for run in logits.chunk(len(some)))
                total = torch.stack([run.sum() for run in runs]).sum()
                if not total.requires_grad:
                    raise InputError(
                        "The metric does not depend on the logits, or was detached from them.",
                        "It has no gradient, and without one there is no attribution.",
                        'Compute it from `logits` with torch, without .detach() or .item(); or use method="exact".',
                    )
                torch.autograd.grad(total, leaf, allow_unused=True)
                del logits, total  # they hold the pass that is over
        for part, values in gradients.parts():
            contract(self.graph, self.parts, self.difference, part, values, chosen, scores)

    def one_edge_at_a_time(
        self, clean_value: Float[Tensor, " batch"], clean: Remembered
    ) -> Float[Tensor, "batch source reader"]:
        """What the metric loses when one edge carries the corrupted value. What comes before its reader is clean."""
        scores = self.empty(positions=False)
        for row, column in self.graph.exists.nonzero().tolist():
            removed = torch.zeros_like(self.graph.exists)
            removed[row, column] = True
            with torch.no_grad(), rerouted(self.parts, self.graph, removed, self.corrupted, clean):
                logits = target_logits(self.model, self.prompts.clean, self.prompts.target)
                patched = judge(self.metric, logits, self.prompts, self.clean_logits)
            scores[:, row, column] = (clean_value - patched).cpu()
        return scores
