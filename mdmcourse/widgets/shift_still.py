"""The still form of `ShiftSummary`: a row for each task."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdmcourse.figures import ARM_COLOUR, CONTROL_COLOUR, MDM_COLOUR, short_word, shown_once
from mdmcourse.widgets.stills import plain

MARKERS = "o^sdv+"


def shift_summary(
    tasks: Sequence[Mapping[str, Any]], models: Sequence[str], verdicts: Sequence[Sequence[str]]
) -> Figure:
    """Overlaps between chance and ceiling, what is sent and read by layer, concentration, and below it the verdicts."""
    lines = [line for finding, text in verdicts for line in textwrap.wrap(f"{finding}: {text}", 130)]
    figure, axes = plt.subplots(
        len(tasks), 4, figsize=(13, 3.1 * len(tasks) + 0.24 * len(lines) + 0.3), squeeze=False, layout="constrained"
    )
    for (overlap, sent, read, concentration), task in zip(axes, tasks, strict=True):
        _overlaps(overlap, task, models)
        layers = [str(layer) for layer in range(len(task["sent"][0]) - 1)]
        _profile(sent, task["sent"], ["input", *layers], "sent, share of |score|", models)
        _profile(read, task["read"], [*layers, "logits"], "read, share of |score|", models)
        _concentration(concentration, task, models)
    if lines:
        figure.supxlabel("\n".join(lines), x=0.02, ha="left", fontsize=10, parse_math=False)
    return shown_once(figure)


def _overlaps(axis: Axes, task: Mapping[str, Any], models: Sequence[str]) -> None:
    main, *controls = task["pairs"]
    for ceiling, colour, model in zip(main["ceilings"], (ARM_COLOUR, MDM_COLOUR), models, strict=True):
        axis.plot(main["ks"], ceiling, "--", color=colour, label=f"ceiling {short_word(model, 20)}")
    axis.plot(main["ks"], main["chance"], ":", color=CONTROL_COLOUR, label="chance")
    for control, marker in zip(controls, MARKERS, strict=False):
        axis.plot(
            control["ks"], control["halves"], color="#595959", linewidth=1, marker=marker, markerfacecolor="white",
            label=short_word(control["label"], 30),
        )  # fmt: skip
    axis.plot(main["ks"], main["halves"], color="black", linewidth=2.4, label=short_word(main["label"], 30))
    axis.set(xscale="log", ylim=(0, 1), xlabel="K edges")
    axis.set_title(f"{short_word(task['title'], 24)}: overlap of halves", parse_math=False)
    plain(axis.legend(fontsize=7))


def _profile(
    axis: Axes, shares: Sequence[Sequence[float]], names: Sequence[str], title: str, models: Sequence[str]
) -> None:
    for row, colour, marker, model in zip(shares, (ARM_COLOUR, MDM_COLOUR), "os", models, strict=True):
        axis.plot(np.arange(len(row)), row, color=colour, marker=marker, markersize=4, label=short_word(model, 20))
    every = -(-len(names) // 10)
    axis.set_xticks(range(0, len(names), every), names[::every], fontsize=8)
    axis.set(ylim=(0, None), xlabel="layer", title=title)
    plain(axis.legend(fontsize=8))


def _concentration(axis: Axes, task: Mapping[str, Any], models: Sequence[str]) -> None:
    rows = [name for name in ("Gini of edges", "Gini of nodes") if name in task["measures"]]
    for row, name in enumerate(rows):
        for key, aside, colour, marker in (("one", -0.12, ARM_COLOUR, "o"), ("two", 0.12, MDM_COLOUR, "s")):
            value, low, high = task["measures"][name][key]
            if low is not None:
                axis.plot([low, high], [row + aside] * 2, color=colour, linewidth=2)
            axis.plot(value, row + aside, marker, color=colour)
            axis.annotate(f"{value:.2f}", (value, row + aside), xytext=(0, 7 if key == "one" else -14),
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    axis.set_yticks(range(len(rows)), rows)
    axis.set(ylim=(len(rows) - 0.5, -0.5), title="concentration")
    axis.margins(x=0.2)
