"""The course's look in matplotlib, and its recurring plots. They take arrays and plain data, never a model."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D
from matplotlib.path import Path as Curve
from numpy.typing import ArrayLike, NDArray

# Told apart by readers with any kind of colour vision (Okabe and Ito), and by lightness in grey.
ARM_COLOUR, MDM_COLOUR, CONTROL_COLOUR = "#0072B2", "#D55E00", "#7F7F7F"

# Chinese, Japanese and Korean, on Linux, macOS and Windows: matplotlib's own font has none of their letters. Only those
# that are installed may be named, or matplotlib warns.
CJK_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "IPAexGothic", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Arial Unicode MS", "Yu Gothic",
    "Microsoft YaHei", "Malgun Gothic",
)  # fmt: skip

STYLE: dict[str, Any] = {
    "font.family": ["sans-serif", *(name for name in CJK_FONTS if name in fontManager.get_font_names())],
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


def shown_once(figure: Figure) -> Figure:
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
    return shown_once(figure)


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
        right = ("axes fraction", "data")  # beside the line, not on it
        axis.annotate("chance", (1, chance), xycoords=right, xytext=(4, 0), textcoords="offset points", va="center")
    axis.set_xticks(range(len(labels)), labels)
    axis.set(ylim=(0, 1.12), ylabel="share right")
    axis.legend(loc="upper left", bbox_to_anchor=(0, 1.22), ncols=len(rows))
    return shown_once(figure)


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
    return shown_once(figure)


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


def short_word(word: str, most: int = 9) -> str:
    """A token as it fits into its box: control characters left out, long words cut."""
    word = "".join(letter for letter in word.strip() if letter.isprintable())
    return word if len(word) <= most else word[: most - 1] + "…"


def written_steps(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """The still form of `UnmaskingPlayer`: a line for each step, a column for each token, dark where it was written.

    panels: "title", and "states": after each step and for each token its word, the step that wrote it, its confidence.
    A token that was hidden again has a dashed frame.
    """
    heights = [len(panel["states"]) for panel in panels]
    widths = [len(panel["states"][0]) for panel in panels]
    size = (max(6.0, 0.62 * max(widths)), sum(0.34 * height + 0.5 for height in heights))
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size, squeeze=False, height_ratios=heights, layout="constrained"
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        before = panel["states"][0]
        for step, state in enumerate(panel["states"]):
            for position, (word, written, confidence) in enumerate(state):
                fresh = written and step == written
                again = word is None and before[position][0] is not None
                fill = "#E3E6E9" if word is None else _between("#FBD9B5", "#C3E0F5", confidence) if written else "white"
                axis.add_patch(
                    plt.Rectangle(
                        (position - 0.47, step - 0.45), 0.94, 0.9,
                        facecolor=ARM_COLOUR if fresh else fill, linestyle="--" if again else "-",
                        edgecolor=MDM_COLOUR if again else "#C4C9CF", linewidth=1.5 if again else 0.5,
                    )
                )  # fmt: skip
                axis.text(
                    position, step, "?" if word is None else short_word(word), color="white" if fresh else "black",
                    ha="center", va="center", fontsize=8, parse_math=False,
                )  # fmt: skip
            before = state
        axis.set_title(short_word(panel["title"], 60), parse_math=False)
        axis.set(
            xlim=(-0.5, len(panel["states"][0]) - 0.5), ylim=(len(panel["states"]) - 0.5, -0.5),
            ylabel="step", xticks=[], yticks=range(len(panel["states"])),
        )  # fmt: skip
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.tick_params(length=0)
    return shown_once(figure)


def _between(one: str, two: str, share: float) -> tuple[float, float, float]:
    """A colour on the way from one to the other."""
    first, second = (np.asarray(to_rgb(colour)) for colour in (one, two))
    return tuple(first + share * (second - first))


# Two circuits on one graph

KEPT_COLOUR = "#4A5058"
EDGE_STYLES: tuple[tuple[str, Any], ...] = (
    (KEPT_COLOUR, "-"),
    (ARM_COLOUR, (0, (5, 2.5))),
    (MDM_COLOUR, (0, (1.2, 1.8))),
)  # kept, lost, new


def layered_circuits(
    graph: Mapping[str, Any],
    task: Mapping[str, Any],
    kinds: ArrayLike,
    k: int,
    models: Sequence[str],
    measured: Sequence[str] = (),
) -> Figure:
    """The still form of `CircuitViewer`: the circuits of `k` edges of two models on one graph, with layer profiles.

    graph, task: from the widget's state. kinds: of each edge of the task 0 kept, 1 lost, 2 new, -1 in neither circuit.
    measured: what was measured near `k` edges, in sentences that stand below.
    """
    size = (4.2 + 0.72 * min(graph["heads"] + 1, 16), 1.2 + 0.46 * min(graph["layers"] + 2, 26))
    figure, (axis, sent, read) = plt.subplots(
        1, 3, figsize=size, sharey=True, width_ratios=[6, 1, 1], layout="constrained"
    )
    kinds = np.asarray(kinds)
    kept, lost, new = (int((kinds == kind).sum()) for kind in range(3))
    _draw_edges(axis, graph, task, kinds, k)
    _draw_nodes(axis, graph, task, kinds)
    for column, name, key, first in ((sent, "sent", "sourceProfile", 0), (read, "read", "readerProfile", 1)):
        for aside, shares, colour in zip((0.16, -0.16), task[key], (ARM_COLOUR, MDM_COLOUR), strict=True):
            column.barh(first + np.arange(len(shares)) + aside, shares, 0.28, color=colour)
        column.set(title=name, xlabel="of |score|", xticks=[])
        column.spines[:].set_visible(False)
        column.tick_params(length=0, labelleft=False)
    title = f"{short_word(task['title'], 24)}: {kept} of {k} edges kept, overlap {kept / (2 * k - kept):.2f}"
    axis.set_title(title, parse_math=False)
    axis.set_xticks(range(graph["heads"] + 1), [*(f"h{head}" for head in range(graph["heads"])), "MLP"])
    layers = [f"layer {layer}" for layer in range(graph["layers"])]
    axis.set_yticks(range(graph["layers"] + 2), ["input", *layers, "logits"])
    axis.set(xlim=(-0.9, graph["heads"] + 0.9), ylim=(-0.5, graph["layers"] + 1.5))
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    one, two = (short_word(model, 24) for model in models)
    legend = axis.legend(
        [Line2D([], [], color=colour, linestyle=dash, linewidth=2) for colour, dash in EDGE_STYLES],
        [f"kept {kept}", f"lost {lost}: only {one}", f"new {new}: only {two}"],
        loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, fontsize=9, columnspacing=1.2,
    )  # fmt: skip
    texts = legend.get_texts()
    if measured:
        wrapped = "\n".join(line for each in measured for line in textwrap.wrap(each, int(13 * size[0])))
        texts.append(figure.supxlabel(wrapped, x=0.02, ha="left", fontsize=9))
    for text in texts:
        text.set_parse_math(False)
    return shown_once(figure)


def _draw_edges(axis: Axes, graph: Mapping[str, Any], task: Mapping[str, Any], kinds: NDArray[Any], k: int) -> None:
    """Wide if the rank is high; a small minus half-way where the score is negative in a model that has the edge."""
    best = np.full(len(kinds), np.inf)
    for order in task["order"]:
        best[order] = np.minimum(best[order], np.arange(len(order)))
    sources, readers = np.divmod(np.asarray(task["edges"]), len(graph["readers"]))
    negative = np.asarray(task["scores"]) < 0
    for kind, (colour, dash) in enumerate(EDGE_STYLES):
        edges = np.flatnonzero(kinds == kind)
        strength = 1 - np.log1p(best[edges]) / np.log1p(k)
        curves = [_curve(graph, int(sources[edge]), int(readers[edge])) for edge in edges]
        alpha = np.clip(np.maximum(min(1, 60 / k), strength), 0.25 if kind == 0 else 0.45, 0.9)
        axis.add_collection(
            PathCollection(
                [Curve(points, [Curve.MOVETO] + 3 * [Curve.CURVE4]) for points in curves], facecolors="none",
                edgecolors=[(colour, each) for each in alpha], linewidths=0.8 + 2.2 * strength, linestyles=[dash],
            )
        )  # fmt: skip
        marked = np.asarray([negative.any(axis=0), *negative])[kind, edges] & (k <= 100)
        across, up = np.array([np.array([1, 3, 3, 1]) @ curve / 8 for curve in curves]).reshape(-1, 2)[marked].T
        axis.scatter(across, up, s=30, color="white", edgecolors=colour, linewidths=0.8, zorder=2.5)
        axis.scatter(across, up, s=9, color=colour, marker="_", linewidths=0.9, zorder=2.6)


def _curve(graph: Mapping[str, Any], source: int, reader: int) -> NDArray[Any]:
    """Start, two handles and end of an edge, in columns and rows; along one column it bows out."""
    to_logits = graph["owner"][reader] == len(graph["nodes"]) - 1
    start, end = graph["columns"][source], graph["readerColumns"][reader]
    if source == 0:
        start = -0.6 if to_logits else end
    if to_logits:
        end = start
    rise = graph["readerRows"][reader] - graph["rows"][source]
    bow = (end - start) * 0.15
    handles = [start + bow, end - bow]
    if abs(end - start) < 0.5 and rise > 1:
        aside = (-1 if start < graph["heads"] / 2 else 1) * min(0.75, 0.26 + 0.06 * rise)
        handles = [start + aside, end + aside]
    low, high = graph["rows"][source] + 0.08, graph["readerRows"][reader] - 0.12
    heights = low + (high - low) * np.array([0, 0.4, 0.6, 1])
    return np.column_stack([[start, *handles, end], heights])


def _draw_nodes(axis: Axes, graph: Mapping[str, Any], task: Mapping[str, Any], kinds: NDArray[Any]) -> None:
    """Two halves, one a model, as large as the node's share of |score|; a faint ring where no circuit uses it."""
    sources, readers = np.divmod(np.asarray(task["edges"]), len(graph["readers"]))
    columns, rows = np.asarray(graph["columns"])[1:-1], np.asarray(graph["rows"])[1:-1]
    axis.scatter(columns, rows, s=16, color="white", edgecolors="#C9CED4", zorder=3)
    shares, used = np.zeros((2, 2, len(graph["nodes"])))
    for model in range(2):
        shares[model, :-1] = task["leaves"][model]
        for reader, (owner, owners) in enumerate(zip(graph["owner"], graph["owners"], strict=True)):
            node = slice(owner, owner + owners)
            shares[model, node] += task["arrives"][model][reader]
            used[model, node] += np.isin(kinds[readers == reader], (0, model + 1)).sum()
        used[model, sources[np.isin(kinds, (0, model + 1))]] += 1
    for model, colour in enumerate((ARM_COLOUR, MDM_COLOUR)):
        inner = slice(1, -1)
        shown = used[model, inner] > 0
        area = np.maximum(18, 420 * shares[model, inner] / shares[:, inner].max())
        half = Curve.wedge(90, 270) if model == 0 else Curve.wedge(-90, 90)
        axis.scatter(columns[shown], rows[shown], area[shown], color=colour, marker=half, linewidths=0, zorder=4)
    for row in (0, graph["layers"] + 1):
        axis.plot(
            [-0.5, graph["heads"] + 0.5], [row, row], color="#D5D8DC", linewidth=9, solid_capstyle="round", zorder=1
        )
