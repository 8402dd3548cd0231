"""How much every edge matters: one number an edge, in one dense matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mdmcourse.circuits.graph import Graph
from mdmcourse.errors import InputError
from mdmcourse.storage import Saved


@dataclass(frozen=True)
class Scores(Saved):
    """Attribution scores of all edges.

    A score is the loss of the metric, mean over prompts and in the metric's unit, that is attributed to the edge when
    it alone carries what the corrupted prompt would send: positive means that the edge helps. Where there is no edge it
    is 0.

    Attributes
    ----------
    values: the scores; the rows are `sources`, the columns `readers`.
    layers, heads, kv_heads: the shape of the graph.
    clean, corrupted: the metric of the clean and of the corrupted run, mean over prompts.
    prompts: how many there were.
    about: method, rule, steps, metric, task, model, which_prompts (a checksum of them).
    by_prompt: the scores of every single prompt, if they were kept: bootstraps and split halves need them.
    by_position: the share of every token position, if it was kept.
    """

    values: Float[Tensor, "source reader"]
    layers: int
    heads: int
    kv_heads: int
    clean: float
    corrupted: float
    prompts: int
    about: dict[str, Any]
    by_prompt: Float[Tensor, "prompt source reader"] | None = None
    by_position: Float[Tensor, "pos source reader"] | None = None

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.layers, self.heads, self.kv_heads)

    @property
    def sources(self) -> tuple[str, ...]:
        return self.graph.sources

    @property
    def readers(self) -> tuple[str, ...]:
        return self.graph.readers

    @property
    def exists(self) -> Bool[Tensor, "source reader"]:
        """Which entries are edges."""
        return self.graph.exists

    def __getitem__(self, edge: str) -> float:
        """The score of an edge by its name, ``scores["a0.h2->a3.h1<q>"]``. Raises InputError if there is none."""
        return float(self.values[self.graph.edge(edge)])

    def of(self, prompts: Int[Tensor, " n"] | Bool[Tensor, " prompt"]) -> Scores:
        """The scores of some of the prompts. Needs `by_prompt`. Their `clean` and `corrupted` are not known: NaN."""
        chosen = self.need_prompts()[prompts]
        if not len(chosen):
            raise InputError(
                "No prompt was chosen.", "A mean over nothing is no number.", "Choose at least one prompt."
            )
        about = dict(self.about)
        if "which_prompts" in about:
            indices = torch.arange(self.prompts)[prompts.cpu()].tolist()
            about["which_prompts"] = sha256(f"{about['which_prompts']}{indices}".encode()).hexdigest()[:16]
        return replace(
            self,
            values=chosen.mean(dim=0),
            clean=float("nan"),
            corrupted=float("nan"),
            prompts=len(chosen),
            about=about,
            by_prompt=chosen,
            by_position=None,
        )

    def need_prompts(self) -> Float[Tensor, "prompt source reader"]:
        """`by_prompt`. Raises InputError if it was not kept."""
        if self.by_prompt is None:
            raise InputError(
                "These scores do not say what each prompt contributed.",
                "Halves of the prompts, and confidence intervals over prompts, cannot be made from a mean.",
                "Compute them with attribute(..., keep_prompts=True).",
            )
        return self.by_prompt

    def top(self, n: int = 10) -> list[tuple[str, float]]:
        """The `n` edges with the largest |score|, and their scores."""
        n = min(n, self.graph.n_edges)
        size = torch.where(self.exists, self.values.abs(), -1.0).flatten()
        found = size.topk(n).indices
        rows, columns = (found // len(self.readers)).tolist(), (found % len(self.readers)).tolist()
        return [
            (f"{self.sources[row]}->{self.readers[column]}", float(self.values[row, column]))
            for row, column in zip(rows, columns, strict=True)
        ]

    @property
    def integration_error(self) -> float:
        """How far EAP-IG's integral is off, relative: all that is lost is lost through the input, so that the scores of
        its edges have to sum to m(clean) - m(corrupted) (the completeness axiom of integrated gradients, Sundararajan
        et al., arXiv 1703.01365). Take more steps, or another rule, if it is too large; it is mostly the edges into the
        first layers that suffer. NaN for all methods but "eap-ig" and "eap-ig-activations".
        """
        if not str(self.about.get("method", "")).startswith("eap-ig"):
            return float("nan")
        lost = self.clean - self.corrupted
        return float(self.values[0].sum()) / lost - 1 if lost else float("nan")

    def of_sources(self) -> Float[Tensor, " source"]:
        """What leaves each source: the sum of |score| over its edges."""
        return self.values.abs().sum(dim=1)

    def of_readers(self) -> Float[Tensor, " reader"]:
        """What arrives at each reader: the sum of |score| over its edges."""
        return self.values.abs().sum(dim=0)

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {value:+.3g}" for name, value in self.top(3))
        how = " ".join(str(self.about[key]) for key in ("method", "metric", "task") if self.about.get(key))
        return f"Scores({how}: {self.graph.n_edges:,} edges, {self.prompts} prompts; {best})"
