"""The widgets' content as still pictures, for print and for viewers without JavaScript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mdmcourse.figures import ARM_COLOUR, CONTROL_COLOUR, short_word, shown_once


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
