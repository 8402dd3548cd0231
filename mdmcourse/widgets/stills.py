"""The widgets' content as still pictures, for print and for viewers without JavaScript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mdmcourse.figures import ARM_COLOUR, CONTROL_COLOUR, MDM_COLOUR, short_word, shown_once


def masked_sentence(
    tokens: Sequence[str],
    masked: Mapping[float, Sequence[bool]],
    schedules: Sequence[Mapping[str, Any]],
    chosen: str,
    t: float,
) -> Figure:
    """The still form of `MaskingExplorer`: a line for each noise level, then rate and weight over t."""
    wide = max(7.0, 0.62 * len(tokens))
    figure, axes = plt.subplot_mosaic(
        [["text", "text"], ["rate", "weight"]], figsize=(wide, 3.2 + 0.34 * len(masked)), layout="constrained",
        height_ratios=[0.34 * len(masked), 2.6],
    )  # fmt: skip
    text = axes["text"]
    for row, hidden in enumerate(masked.values()):
        for place, (word, gone) in enumerate(zip(tokens, hidden, strict=True)):
            text.add_patch(
                plt.Rectangle(
                    (place - 0.47, row - 0.45), 0.94, 0.9, facecolor="#E3E6E9" if gone else "#C3E0F5",
                    edgecolor="#8A8F96" if gone else "none", linestyle="--", linewidth=0.7,
                )
            )  # fmt: skip
            shown = "?" if gone else short_word(word)
            text.text(place, row, shown, ha="center", va="center", fontsize=8, parse_math=False)
    text.set(xlim=(-0.5, len(tokens) - 0.5), ylim=(len(masked) - 0.5, -0.5), xticks=[])
    text.set_yticks(range(len(masked)), [f"t = {level:g}" for level in masked])
    text.spines[:].set_visible(False)
    text.tick_params(length=0)
    for name, title, key in (("rate", "rate of masking, 1 − α(t)", "rate"), ("weight", "weight of the loss", "weight")):
        axis = axes[name]
        for each, dash in zip(schedules, ("-", "--", ":", "-.") * len(schedules), strict=False):
            values = np.array([np.nan if value is None else value for value in each[key]])
            now = each["name"] == chosen
            axis.plot(
                np.linspace(0, 1, len(values)), np.where(values > 20, np.nan, values), dash,
                label=short_word(each["name"], 20),
                color=ARM_COLOUR if now else CONTROL_COLOUR, linewidth=2 if now else 1.2,
            )  # fmt: skip
        axis.axvline(t, color="black", linewidth=0.8)
        axis.set(xlim=(0, 1), ylim=(0, 1 if key == "rate" else 20), xlabel="noise level t", title=title)
    plain(axes["rate"].legend(fontsize=9))
    return shown_once(figure)


def plain(legend: Any) -> None:
    """The legend's words are words: no formula is read into a dollar sign."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def head_maps(panels: Sequence[Mapping[str, Any]], layer: int, head: int) -> Figure:
    """The still form of `AttentionViewer`: for each model all heads above, one in full below.

    panels: "title", "pattern" [layer, head, query, key], "tokens", "sinks" (keys by "layer.head").
    """
    layers, heads, pos, _ = panels[0]["pattern"].shape
    wide = max(3.6, 0.26 * pos + 1.2)
    high = wide * layers / max(heads, 1)
    figure, axes = plt.subplots(
        2, len(panels), figsize=(wide * len(panels) + 0.6, min(high, 9) + wide), squeeze=False,
        height_ratios=[min(high, 9), wide], layout="constrained",
    )  # fmt: skip
    for (above, below), panel in zip(axes.T, panels, strict=True):
        size = panel["pattern"].shape[-1]
        gap = max(1, size // 12)
        tiles = np.full((layers * (size + gap) - gap, heads * (size + gap) - gap), np.nan)
        for at_layer in range(layers):
            for at_head in range(heads):
                row, column = (layers - 1 - at_layer) * (size + gap), at_head * (size + gap)
                tiles[row : row + size, column : column + size] = panel["pattern"][at_layer, at_head]
        above.imshow(tiles, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        middle = (size - 1) / 2
        above.set_xticks([middle + at * (size + gap) for at in range(heads)], [f"h{at}" for at in range(heads)])
        above.set_yticks([middle + (layers - 1 - at) * (size + gap) for at in range(layers)], range(layers))
        above.add_patch(
            plt.Rectangle(
                (head * (size + gap) - 1, (layers - 1 - layer) * (size + gap) - 1), size + 1, size + 1, fill=False,
                edgecolor=MDM_COLOUR, linewidth=2,
            )
        )  # fmt: skip
        for name in panel["sinks"]:
            at_layer, at_head = map(int, name.split("."))
            corner = at_head * (size + gap) + size - 1, (layers - 1 - at_layer) * (size + gap)
            above.plot(*corner, marker=7, color=MDM_COLOUR)
        above.set_title(short_word(panel["title"], 40), parse_math=False)
        above.set_ylabel("layer")
        below.imshow(panel["pattern"][layer, head], cmap="Blues", vmin=0, vmax=1)
        name_ticks(below, "x", panel["tokens"], rotation=90)
        name_ticks(below, "y", panel["tokens"])
        for key in panel["sinks"].get(f"{layer}.{head}", []):
            below.plot(key, size - 0.2, marker=6, color=MDM_COLOUR, clip_on=False)
        below.set_title(f"a{layer}.h{head}: rows are queries, columns keys", fontsize=9)
        for axis in (above, below):
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
    return shown_once(figure)


def _maps(count: int, wide: float, high: float) -> tuple[Figure, Sequence[Axes]]:
    """So many pictures, each so wide and high in inches: beside each other if a page is wide enough for that."""
    down = count if wide * count > 12 else 1
    figure, axes = plt.subplots(
        down, count // down, figsize=(wide * count / down, high * down), squeeze=False, layout="constrained"
    )
    return figure, axes.ravel().tolist()


def name_ticks(axis: Axes, which: str, names: Sequence[str], **look: Any) -> None:
    """Tokens at an axis, as text and nothing else."""
    ticks = axis.set_xticks if which == "x" else axis.set_yticks
    ticks(range(len(names)), [short_word(name, 12) for name in names], fontsize=8, **look)
    for label in (axis.get_xticklabels if which == "x" else axis.get_yticklabels)():
        label.set_parse_math(False)


def lens_maps(panels: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """The still form of `LensViewer`: the most probable token of each layer and position.

    panels: "title", "tokens" and "top", for each layer and position (token, probability) best first, or None.
    """
    pos = len(panels[0]["tokens"])
    figure, axes = _maps(len(panels), max(4.0, 0.55 * pos + 1.0), 0.28 * len(names) + 1.4)
    for axis, panel in zip(axes, panels, strict=True):
        chances = np.array([[cell[0][1] if cell else np.nan for cell in row] for row in panel["top"]])
        axis.imshow(chances, cmap="Blues", vmin=0, vmax=1, origin="lower", aspect="auto")
        for layer, row in enumerate(panel["top"]):
            for place, cell in enumerate(row):
                word = short_word(cell[0][0], 7) if cell else "–"
                colour = "white" if cell and cell[0][1] > 0.6 else "black"
                axis.text(place, layer, word, color=colour, fontsize=7, ha="center", va="center", parse_math=False)
        name_ticks(axis, "x", panel["tokens"], rotation=90)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_title(short_word(panel["title"], 40), parse_math=False)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    return shown_once(figure)


def patched_cells(
    panels: Sequence[Mapping[str, Any]], rows: Sequence[str], columns: Sequence[str], label: str
) -> Figure:
    """The still form of `PatchingViewer`: a map for each model, blue where a cell restores or destroys, orange where it
    does the opposite, with its share. panels: "title", "note" and "shares" [row, column]."""
    figure, axes = _maps(len(panels), max(2.6, 0.48 * len(columns) + 1.6), 0.3 * len(rows) + 1.6)
    colours = LinearSegmentedColormap.from_list("both", ["#A84600", "white", "#0A4880"])  # those of the widget
    for axis, panel in zip(axes, panels, strict=True):
        picture = axis.imshow(panel["shares"], cmap=colours, vmin=-1, vmax=1, origin="lower", aspect="auto")
        for (row, column), share in np.ndenumerate(panel["shares"]):
            if abs(share) < 0.005:
                continue
            colour = "white" if abs(share) > 0.65 else "black"
            axis.text(column, row, f"{share:.2f}", color=colour, fontsize=7, ha="center", va="center")
        name_ticks(axis, "x", columns, rotation=90)
        name_ticks(axis, "y", rows)
        axis.set_title(f"{short_word(panel['title'], 30)} ({panel['note']})", parse_math=False)
        axis.spines[:].set_color("#C9CED4")
        axis.tick_params(length=0)
    bar = figure.colorbar(picture, ax=list(axes), shrink=0.8)
    bar.set_label(short_word(label, 60), parse_math=False)
    return shown_once(figure)
