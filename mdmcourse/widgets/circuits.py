"""Two circuits laid over each other on one layered graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, html_table, script, style
from mdmcourse.widgets.circuits_roles import roles_by_task
from mdmcourse.widgets.circuits_state import counts, kinds, layout, measured_near, task_state
from mdmcourse.widgets.data import array
from mdmcourse.widgets.packing import unpacked
from mdmcourse.widgets.words import titled_as

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mdmcourse.circuits import Comparison, Faithfulness, Scores

SIZES = (10, 20, 50, 100, 200, 400)  # of circuits, in the fallback's table
HEADER = ("task", "K", "kept", "lost", "new", "overlap")


class CircuitViewer(CourseWidget):
    """The circuits of two models, usually an ARM and its MDM: which edges both have, which only one of them has.

    >>> CircuitViewer({"ARM": scores_of_arm, "MDM": scores_of_mdm})
    >>> CircuitViewer({"IOI": {"ARM": ..., "MDM": ...}, "Countdown": {...}}, comparisons={"IOI": comparison})

    Parameters
    ----------
    scores: for each task the scores of two models, the same two for every task and all of one graph; or those of a
        single task.
    comparisons: of the same scores; their ceilings, their chance and their intervals are shown. For a single task
        simply the comparison.
    faithfulness: for each task and model its faithfulness curve; for a single task simply those of its models.
    most: of each model, so many of the strongest edges can be looked at.
    k: the size of the circuits that are shown first, in edges.
    roles: what is known of nodes, by their names: {"a2.h1": "name mover"}; or that for each model; or for each task and
        model. Of a node without a role the picture says what it reads most from, and what reads it most.

    A circuit is the `k` edges with the largest |score|, dead ends included. Node size is the share of |score| that a
    node takes in and sends out over all its edges, for each model its own half.

    Raises InputError for scores that cannot be laid over each other, and for anything that belongs to other scores.
    """

    _esm = script(
        "packing.js", "circuits_draw.js", "circuits_nodes.js", "circuits_roles.js", "circuits_panel.js", "circuits.js"
    )
    _css = style("circuits.css")
    graph: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    models: traitlets.List[str] = traitlets.List().tag(sync=True)
    tasks: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    task = traitlets.Unicode().tag(sync=True)
    k = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        scores: Mapping[str, Mapping[str, Scores]] | Mapping[str, Scores],
        comparisons: Mapping[str, Comparison] | Comparison | None = None,
        faithfulness: Mapping[str, Mapping[str, Faithfulness]] | Mapping[str, Faithfulness] | None = None,
        most: int = 2000,
        k: int = 50,
        roles: Mapping[str, Any] | None = None,
    ) -> None:
        tasks, compared, curves = _by_task(scores, comparisons, faithfulness)
        _check_scores(tasks)
        _check_titles("comparisons", compared, tasks)
        _check_titles("faithfulness", curves, tasks)
        if not isinstance(most, int) or most < 1:
            raise InputError(f"most={most!r}.", "There would be no edge to look at.", "Give a whole number from 1.")
        for title, pair in tasks.items():
            _check_kind(compared.get(title), "Comparison", ("ks", "overlap", "source_profile"), "compare(one, two)")
            _check_titles(f"faithfulness of {title!r}", curves.get(title, {}), pair)
            for curve in curves.get(title, {}).values():
                _check_kind(curve, "Faithfulness", ("asked", "values", "fractions"), "faithfulness_curve(...)")
        first = next(iter(tasks.values()))
        graph = next(iter(first.values())).graph
        nodes = layout(graph)
        said = roles_by_task(roles, tasks, unpacked(nodes)["nodes"])
        found = []
        for title, pair in tasks.items():
            state = task_state(title, pair, compared.get(title), curves.get(title, {}), said[title], most)
            _check_measured(title, state, curves.get(title, {}), pair, compared.get(title))
            found.append(state)
        self._most = min(most, graph.n_edges)
        self._check_k(k)
        super().__init__(
            graph=nodes,
            models=[titled_as(name, 40) for name in first],
            tasks=found,
            task=found[0]["title"],
            k=k,
        )

    def _check_k(self, k: int) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self._most:
            raise InputError(
                f"k={k!r}.",
                f"A circuit that can be shown has 1 to {self._most} edges.",
                "Choose k in that range, or make the viewer with a larger `most`.",
            )

    def figure(self, k: int | None = None, task: str | None = None) -> Figure:
        """The same content as a still picture: the circuits of `k` edges for one task, by default those shown now."""
        from mdmcourse.figures import course_style, layered_circuits

        k, task = self.k if k is None else k, self.task if task is None else titled_as(task)
        self._check_k(k)
        _check_titles("task", {task: None}, {state["title"]: state for state in self.tasks})
        with course_style():
            state = unpacked(next(state for state in self.tasks if state["title"] == task))
            near = measured_near(state, self.models, k)
            return layered_circuits(unpacked(self.graph), state, kinds(state, k), k, self.models, near)

    def as_text(self) -> str:
        """How many edges the circuits share at several sizes, what was measured near the size that is shown, the
        strongest edges of each, and the roles given."""
        lines = [f"{'task':<16} {'K':>5} {'kept':>5} {'lost':>5} {'new':>5}  overlap"]
        lines += [
            f"{task:<16} {k:>5} {kept:>5} {lost:>5} {new:>5}  {jaccard}"
            for task, k, kept, lost, new, jaccard in self._rows()
        ]
        return "\n".join(
            [
                *lines,
                *self._measured(),
                *self._strongest(),
                *(f"{task}, {model}, {node}: {text}" for task, model, node, text in self._roles()),
            ]
        )

    def as_html(self) -> str:
        """The same as tables."""
        measured = self._measured()
        near = html_table(["measured"], [[line] for line in measured]) if measured else ""
        edges = html_table(["strongest edges"], [[line] for line in self._strongest()])
        roles = self._roles()
        said = html_table(["task", "model", "node", "role"], roles) if roles else ""
        return html_table(HEADER, self._rows()) + near + edges + said

    def _rows(self) -> list[tuple[str, int, int, int, int, str]]:
        sizes = sorted({min(size, self._most) for size in SIZES})
        rows = [(task["title"], k, *counts(task, k)) for task in map(unpacked, self.tasks) for k in sizes]
        return [(*row[:-1], f"{row[-1]:.2f}") for row in rows]

    def _measured(self) -> list[str]:
        """What comparisons and faithfulness curves say near the size that is shown."""
        return [f"{task['title']}: {line}" for task in self.tasks for line in measured_near(task, self.models, self.k)]

    def _strongest(self, n: int = 5) -> list[str]:
        """A line for each task and model: its `n` strongest edges and their scores."""
        graph = unpacked(self.graph)
        width = len(graph["readers"])
        lines = []
        for task in map(unpacked, self.tasks):
            for model, order, scores in zip(self.models, task["order"], task["scores"], strict=True):
                names = [
                    f"{graph['nodes'][task['edges'][edge] // width]}->"
                    f"{graph['readers'][task['edges'][edge] % width]} {scores[edge]:+.3g}"
                    for edge in order[:n]
                ]
                lines.append(f"{task['title']}, {model}: {', '.join(names)}")
        return lines

    def _roles(self) -> list[tuple[str, str, str, str]]:
        """Task, model, node and role, for each role that was given."""
        return [
            (task["title"], model, node, text)
            for task in self.tasks
            for model, roles in zip(self.models, task["roles"], strict=True)
            for node, text in roles.items()
        ]

    def __repr__(self) -> str:
        titles = ", ".join(task["title"] for task in self.tasks)
        return f"CircuitViewer({titles}: {' and '.join(self.models)}, {self.graph['edges']:,} edges)"


def _by_task(scores: Any, comparisons: Any, faithfulness: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """All three by task; what was given for a single one gets its name."""
    if not isinstance(scores, Mapping) or not scores:
        raise InputError(
            "No scores were given.",
            "There is no circuit to show.",
            'Pass {"ARM": scores, "MDM": scores}, or {"a task": {"ARM": scores, "MDM": scores}}.',
        )
    first = next(iter(scores.values()))
    if isinstance(first, Mapping):
        return dict(scores), dict(comparisons or {}), dict(faithfulness or {})
    title = str((getattr(first, "about", None) or {}).get("task") or "circuits")
    return (
        {title: scores},
        {title: comparisons} if comparisons is not None else {},
        {title: faithfulness} if faithfulness else {},
    )


def _check_scores(tasks: Mapping[str, Any]) -> None:
    """That every task has two models' scores, the same two, all of one graph, and all of them numbers."""
    models, graph = None, None
    for title, pair in tasks.items():
        models = models or (list(pair) if isinstance(pair, Mapping) else None)
        if not isinstance(pair, Mapping) or len(pair) != 2 or list(pair) != models:
            given = list(pair) if isinstance(pair, Mapping) else pair
            raise InputError(
                f"The task {title!r} has the models {given!r}.",
                "Two circuits are laid over each other, of the same two models for every task.",
                'Give for each task {"ARM": scores, "MDM": scores}.',
            )
        for model, scores in pair.items():
            where = f"The scores of {model!r} for {title!r}"
            if not all(hasattr(scores, name) for name in ("values", "exists", "graph")):
                raise InputError(
                    f"{where} are a {type(scores).__name__}.",
                    "It does not say which edges there are.",
                    "Give what attribute(model, prompts) returns.",
                )
            graph = graph or scores.graph
            values = array(scores.values)
            if scores.graph != graph or values.shape != (graph.n_sources, graph.n_readers):
                raise InputError(
                    f"{where} have the shape {values.shape} and belong to {scores.graph!r}, others to {graph!r}.",
                    "Circuits of different graphs cannot be laid over each other.",
                    "Show decoders of one shape, attributed with the same `readers`.",
                )
            if not np.isfinite(values).all() or not values.any():
                raise InputError(
                    f"{where} hold NaN or infinity, or are all zero.",
                    "Their edges have no order.",
                    "Look at the metric and the prompts that they come from.",
                )


def _check_titles(what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    unknown = [title for title in given if title not in known]
    if unknown:
        raise InputError(
            f"{what} names {unknown!r}.", "There are no scores of that title.", f"Use one of {list(known)!r}."
        )


def _check_kind(given: Any, kind: str, needs: tuple[str, ...], made_by: str) -> None:
    if given is not None and not all(hasattr(given, name) for name in needs):
        raise InputError(
            f"A {type(given).__name__} was given, not a {kind}.",
            "There is nothing to read from it.",
            f"Give {made_by}.",
        )


def _check_measured(
    title: str, state: Mapping[str, Any], curves: Mapping[str, Any], pair: Mapping[str, Any], comparison: Any
) -> None:
    """That comparison and faithfulness belong to these scores."""
    if comparison is not None:
        own, given = array(unpacked(state)["sourceProfile"]), array(comparison.source_profile)
        if own.shape != given.shape or not np.allclose(own, given, atol=0.005):
            raise InputError(
                f"The comparison for {title!r} has other layer profiles than the scores.",
                "It was made from other scores: its ceilings would stand beside the wrong circuits.",
                "Give compare(one, two) of the two scores that are shown, in their order.",
            )
    n_edges = next(iter(pair.values())).graph.n_edges
    for model, curve in curves.items():
        if array(curve.asked).max() > n_edges:
            raise InputError(
                f"The faithfulness of {model!r} for {title!r} goes up to {array(curve.asked).max()} edges.",
                f"The graph has {n_edges}: the curve belongs to another one.",
                "Give faithfulness_curve(model, prompts, scores) of the scores that are shown.",
            )
