"""The course's look in matplotlib, and its recurring plots. They take arrays and plain data, never a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

# Told apart by readers with any kind of colour vision (Okabe and Ito), and by lightness in grey.
ARM_COLOUR, MDM_COLOUR, CONTROL_COLOUR = "#0072B2", "#D55E00", "#7F7F7F"

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 10,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.bbox": "tight",
}


@contextmanager
def course_style() -> Iterator[None]:
    """The course's style inside the block; matplotlib's settings are left as they were."""
    with plt.rc_context(STYLE):  # type: ignore[arg-type]
        yield


def _shown_once(figure: Figure) -> Figure:
    """Let go of a finished figure, so that a notebook that shows the returned value does not show it twice."""
    plt.close(figure)
    return figure


def influence_maps(maps: Mapping[str, ArrayLike], labels: Sequence[str]) -> Figure:
    """For each title a square picture: row i, column j is dark if changing token j changes the scores of token i.

    A row that holds NaN has no prediction and is hatched.
    """
    figure, axes = plt.subplots(1, len(maps), figsize=(4.6 * len(maps), 4.4), squeeze=False, layout="constrained")
    for axis, (title, values) in zip(axes[0], maps.items(), strict=True):
        array = np.asarray(values, dtype=float)
        axis.imshow(array > 0, cmap="Blues", vmin=0, vmax=1.4)
        for row in np.flatnonzero(np.isnan(array).any(axis=1)):
            axis.axhspan(row - 0.5, row + 0.5, facecolor="#e8e8e8", edgecolor="#9a9a9a", hatch="//", linewidth=0)
        axis.set_xticks(range(len(labels)), labels, rotation=90)
        axis.set_yticks(range(len(labels)), labels)
        axis.set_xticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        axis.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        axis.grid(which="minor", color="#dddddd", linewidth=0.5)
        axis.tick_params(which="both", length=0)
        axis.set(title=title, xlabel="token that is changed", ylabel="token that is scored")
    return _shown_once(figure)


def accuracy_bars(rows: Mapping[str, Sequence[float]], labels: Sequence[str], chance: float | None = None) -> Figure:
    """Accuracy of each token of an answer, a group of bars a token, one bar a model ("ARM...", "MDM...", others)."""
    figure, axis = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    width = 0.8 / len(rows)
    for number, (title, values) in enumerate(rows.items()):
        colour = ARM_COLOUR if title.startswith("ARM") else MDM_COLOUR if title.startswith("MDM") else CONTROL_COLOUR
        places = np.arange(len(labels)) + (number - (len(rows) - 1) / 2) * width
        bars = axis.bar(places, values, width * 0.92, label=title, color=colour)
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    if chance is not None:
        axis.axhline(chance, color="black", linewidth=1, linestyle=":")
        axis.annotate("chance", (len(labels) - 0.5, chance), xytext=(4, 0), textcoords="offset points", va="center")
    axis.set_xticks(range(len(labels)), labels)
    axis.set(ylim=(0, 1.12), ylabel="share right")
    axis.legend(loc="upper left", bbox_to_anchor=(0, 1.22), ncols=len(rows))
    return _shown_once(figure)


def training_curves(rows: Sequence[Mapping[str, Any]], goal: float | None = None) -> Figure:
    """The log of a training: its loss on the left, on the right what else was measured, shares from 0 to 1."""
    steps = [row["step"] for row in rows]
    measured = [name for name in (rows[-1] if rows else {}) if name not in ("step", "loss", "seconds")]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3), layout="constrained")
    left.plot(steps, [row["loss"] for row in rows], color="black", marker=".")
    left.set(xlabel="step", title="loss (nats)")
    for number, name in enumerate(measured):
        colour = (ARM_COLOUR, MDM_COLOUR, "#009E73", "#CC79A7")[number % 4]
        right.plot(steps, [row[name] for row in rows], marker="o^sd"[number % 4], label=name, color=colour)
    if goal is not None:
        right.axhline(goal, color="black", linewidth=1, linestyle=":")
    right.set(xlabel="step", ylim=(0, 1), title="share right")
    if measured:
        right.legend(loc="upper right", bbox_to_anchor=(1, 1.17), ncols=len(measured), fontsize=9)
    return _shown_once(figure)


def live(draw: Callable[[Any], Figure]) -> Callable[[Any], None]:
    """A callback that shows `draw(what it is given)` in a notebook, each time in the place of the last."""
    handle = None

    def show(given: Any) -> None:
        nonlocal handle
        from IPython.display import display

        with course_style():
            figure = draw(given)
        if handle is None:
            handle = display(figure, display_id=True)
        else:
            handle.update(figure)

    return show


def _short(word: str) -> str:
    """A token as it fits into its box: "?" for a mask, control characters left out, long words cut."""
    word = "".join(letter for letter in word.strip() if letter.isprintable())
    return "?" if word == "▒" else word if len(word) <= 9 else word[:8] + "…"


def written_steps(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """The still form of `UnmaskingPlayer`: a line for each step, a column for each token, dark where it was written."""
    heights = [len(panel["words"]) for panel in panels]
    widths = [len(panel["words"][0]) for panel in panels]
    size = (max(6.0, 0.62 * max(widths)), sum(0.34 * height + 0.5 for height in heights))
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size, squeeze=False, height_ratios=heights, layout="constrained"
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        for step, words in enumerate(panel["words"]):
            for position, word in enumerate(words):
                written = panel["writtenAt"][position]
                fill = "#eef0f2" if not written else "#cfe6f7" if step > written else "white"
                fresh = written and step == written
                axis.add_patch(
                    plt.Rectangle(
                        (position - 0.47, step - 0.45), 0.94, 0.9,
                        facecolor=ARM_COLOUR if fresh else fill, edgecolor="#c4c9cf", linewidth=0.5,
                    )
                )  # fmt: skip
                axis.text(
                    position, step, _short(word), color="white" if fresh else "black",
                    ha="center", va="center", fontsize=8,
                    parse_math=False,
                )  # fmt: skip
        axis.set_title(panel["title"], parse_math=False)
        axis.set(
            xlim=(-0.5, len(panel["words"][0]) - 0.5), ylim=(len(panel["words"]) - 0.5, -0.5),
            ylabel="step", xticks=[], yticks=range(len(panel["words"])),
        )  # fmt: skip
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.tick_params(length=0)
    return _shown_once(figure)
