"""The mechanism shift in one picture: overlaps between ceiling and chance, layer profiles, concentration, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, html_table, script, style
from mdmcourse.widgets.circuits_state import measured
from mdmcourse.widgets.data import array, need, numbers, short, titled
from mdmcourse.widgets.words import titled_as

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mdmcourse.circuits import Comparison

NEEDS = ("ks", "overlap", "overlap_of_halves", "ceiling_one", "ceiling_two", "chance", "source_profile", "measures")
MEASURES = {
    "source_centre": "centre of what is sent (layer)",
    "reader_centre": "centre of what is read (layer)",
    "effective_edges": "edges, if all mattered alike",
    "gini_edges": "Gini of edges",
    "effective_nodes": "nodes, if all mattered alike",
    "gini_nodes": "Gini of nodes",
}
HEADER = ("task", "pair", "K", "overlap", "of halves", "ceilings", "chance")
CONTROLS = 6  # at most: more lines could not be told apart


class ShiftSummary(CourseWidget):
    """What became of the circuits, for one task or several: one picture to project and to talk about.

    >>> ShiftSummary({"IOI": {"ARM and MDM": compare(arm, mdm), "control: ARM trained on": compare(arm, trained_on)}},
    ...              verdicts={"Local tasks keep their circuit": "reproduced: 0.72 of halves, ceilings 0.73 and 0.87"})

    Parameters
    ----------
    comparisons: for each task for each label a `Comparison`: the first is the pair, the others are controls; or for
        each task simply one; or just one.
    models: how the two models of the pair are called.
    verdicts: for each finding what has become of it, in words. They are shown as they are.

    Overlaps are those between halves of the prompts, because the ceilings are: see `Comparison`.

    Raises InputError for what is no comparison, or holds NaN where a curve should be.
    """

    _esm = script("plot.js", "shift.js")
    _css = style("plot.css", "shift.css")
    tasks: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    models: traitlets.List[str] = traitlets.List().tag(sync=True)
    verdicts: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    k = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        comparisons: Comparison | Mapping[str, Comparison] | Mapping[str, Mapping[str, Comparison]],
        models: tuple[str, str] = ("ARM", "MDM"),
        verdicts: Mapping[str, str] | None = None,
    ) -> None:
        states = [_task(title, pairs) for title, pairs in _by_task(comparisons, models).items()]
        said = dict(verdicts or {})
        if not all(isinstance(each, str) for pair in said.items() for each in pair):
            raise InputError(
                "A verdict is not a text.", "It is shown as it is.", 'Give {"a finding": "what has become of it"}.'
            )
        ks = states[0]["pairs"][0]["ks"]
        super().__init__(
            tasks=states, models=[titled_as(name, 24) for name in models], k=ks[len(ks) // 2],
            verdicts=[[titled_as(finding, 200), titled_as(text, 600)] for finding, text in said.items()],
        )  # fmt: skip

    def figure(self) -> Figure:
        """The same content as a still picture."""
        from mdmcourse.figures import course_style
        from mdmcourse.widgets.shift_still import shift_summary

        with course_style():
            return shift_summary(self.tasks, self.models, self.verdicts)

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for task in self.tasks:
            for pair in task["pairs"]:
                at = len(pair["ks"]) // 2
                interval = "" if pair["low"][at] is None else f" [{pair['low'][at]:.2f}, {pair['high'][at]:.2f}]"
                ceilings = " and ".join(f"{ceiling[at]:.2f}" for ceiling in pair["ceilings"])
                rows.append(
                    (
                        task["title"], pair["label"], str(pair["ks"][at]), f"{pair['overlap'][at]:.2f}{interval}",
                        f"{pair['halves'][at]:.2f}", ceilings, f"{pair['chance'][at]:.2f}",
                    )
                )  # fmt: skip
        return rows

    def _measures(self) -> list[tuple[str, ...]]:
        return [
            (task["title"], name, *(spread(row[key]) for key in ("one", "two", "difference")))
            for task in self.tasks
            for name, row in task["measures"].items()
        ]

    def as_text(self) -> str:
        """Overlaps at a medium K, the measures of the pair, the verdicts."""
        lines = ["; ".join(f"{name} {cell}" for name, cell in zip(HEADER, row, strict=True)) for row in self._rows()]
        one, two = self.models
        lines += [f"{task}, {name}: {one} {first}, {two} {second}, difference {difference}"
                  for task, name, first, second, difference in self._measures()]  # fmt: skip
        return "\n".join([*lines, *(f"{finding}: {text}" for finding, text in self.verdicts)])

    def as_html(self) -> str:
        """The same as tables."""
        tables = [html_table(HEADER, self._rows())]
        tables.append(html_table(("task", "measure", *self.models, "difference"), self._measures()))
        return "".join([*tables, html_table(("finding", "verdict"), self.verdicts) if self.verdicts else ""])

    def __repr__(self) -> str:
        titles = ", ".join(task["title"] for task in self.tasks)
        controls = max(len(task["pairs"]) for task in self.tasks) - 1
        return (
            f"ShiftSummary({titles}: {' and '.join(self.models)}, {controls} controls, {len(self.verdicts)} verdicts)"
        )


def spread(value: list[float | None]) -> str:
    """A number and its interval, if it has one."""
    middle, low, high = (None if each is None else f"{each:.3g}" for each in value)
    return f"{middle}" if low is None else f"{middle} [{low}, {high}]"


def _by_task(comparisons: Any, models: tuple[str, str]) -> dict[str, Mapping[str, Any]]:
    """For each task its comparisons by label; a single one gets the names of its models."""
    label = " and ".join(models)
    if not isinstance(comparisons, Mapping):
        about = getattr(comparisons, "about", None) or {}
        comparisons = {str(about.get("task") or "task"): comparisons}
    titled("The comparisons", comparisons, '{"a task": {"ARM and MDM": compare(one, two)}}')
    return {title: given if isinstance(given, Mapping) else {label: given} for title, given in comparisons.items()}


def _task(title: str, pairs: Any) -> dict[str, Any]:
    titled(f"The comparisons for {title!r}", pairs, '{"ARM and MDM": compare(one, two)}')
    if len(pairs) > 1 + CONTROLS:
        raise InputError(
            f"There are {len(pairs) - 1} controls for {title!r}.", "Their curves could not be told apart.",
            f"Choose {CONTROLS} at most.",
        )  # fmt: skip
    for label, comparison in pairs.items():
        what = f"The comparison {label!r} for {title!r}"
        need(what, comparison, "Comparison", NEEDS, "Give compare(one, two).")
        ks = numbers(f"{what}: ks", comparison.ks, "size")
        for name in ("overlap_of_halves", "ceiling_one", "ceiling_two", "chance"):
            curve = numbers(f"{what}: {name}", getattr(comparison, name), "size")
            if curve.shape != ks.shape:
                raise InputError(
                    f"{what} has {len(ks)} sizes and {len(curve)} values of {name}.",
                    "Every value belongs to a size K.",
                    "Give a Comparison as compare(one, two) returned it.",
                )
        overlap = array(comparison.overlap)
        if overlap.shape != (len(ks), 3):
            raise InputError(
                f"{what}: overlap has the shape {overlap.shape} for {len(ks)} sizes.",
                "It has a value, a lower and an upper end for every size K.",
                "Give a Comparison as compare(one, two) returned it.",
            )
        numbers(f"{what}: overlap", overlap[:, 0], "size")
    first = next(iter(pairs.values()))
    profiles = [
        numbers(f"The {name} for {title!r}", getattr(first, name), "model", "place")
        for name in ("source_profile", "reader_profile")
    ]
    return {
        "title": titled_as(title, 40),
        "pairs": [{"label": titled_as(label, 40), **measured(each)} for label, each in pairs.items()],
        "sent": short(profiles[0].tolist()),
        "read": short(profiles[1].tolist()),
        "measures": {
            name: {
                key: short([float(each) for each in np.ravel(values)]) for key, values in first.measures[key_of].items()
            }
            for key_of, name in MEASURES.items()
            if key_of in first.measures
        },
    }
