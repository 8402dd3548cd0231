"""Watch texts being written, step by step, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, script, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mdmcourse.diffusion.trace import Trace


class UnmaskingPlayer(CourseWidget):
    """One or more sampling runs, step by step: which token was written when, and how sure the model was.

    >>> UnmaskingPlayer({"ARM": trace_of_arm, "MDM": trace_of_mdm}, tokenizer)

    Parameters
    ----------
    traces: a title for each run, or a single run. Runs of unequal length share one slider; the shorter ones wait at
        their end.
    tokenizer: the tokenizer that made the tokens.
    row: which sequence of each run's batch.

    Everything is in the widget's state and every reaction in its JavaScript, so that it stays alive on a static page.
    """

    _esm = script("unmasking.js")
    _css = style("unmasking.css")
    panels: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(self, traces: Mapping[str, Trace] | Trace, tokenizer: Any, row: int = 0) -> None:
        if not isinstance(traces, Mapping):
            traces = {traces.order: traces}
        if not traces:
            raise InputError(
                "No traces were given.", "There is nothing to show.", 'Pass {"a title": a trace from sample_mdm(...)}.'
            )
        super().__init__(panels=[_panel(title, trace, tokenizer, row) for title, trace in traces.items()])

    def figure(self) -> Figure:
        """The same content as a still picture: a line for each step, a column for each token."""
        from mdmcourse.figures import course_style, written_steps

        with course_style():
            return written_steps(self.panels)

    def __repr__(self) -> str:
        return f"UnmaskingPlayer({', '.join(panel['title'] for panel in self.panels)})"

    def as_text(self) -> str:
        """The finished texts."""
        return "\n".join(f"{panel['title']}: {' '.join(panel['words'][-1])}" for panel in self.panels)


def _panel(title: str, trace: Trace, tokenizer: Any, row: int) -> dict[str, Any]:
    """What the JavaScript needs of one trace, in JSON's types: NaN becomes None."""
    if not 0 <= row < trace.tokens.shape[1]:
        raise InputError(
            f"row={row}, but the trace has {trace.tokens.shape[1]} sequences.",
            "There is no such sequence to show.",
            "Count rows from 0.",
        )

    def clean(values: list[float]) -> list[float | None]:
        return [None if math.isnan(value) else round(value, 4) for value in values]

    confidence = [clean(values) for values in trace.confidence[:, row].tolist()]
    guesses = [
        [
            [[tokenizer.decode([token]), round(chance, 3)] for token, chance in zip(*place, strict=True) if token >= 0][
                :3
            ]
            for place in zip(ids, chances, strict=True)
        ]
        for ids, chances in zip(
            trace.alternatives[:, row].tolist(), trace.alternative_confidence[:, row].tolist(), strict=True
        )
    ]
    return {
        "title": title,
        "words": trace.words(tokenizer, row),
        "writtenAt": trace.written_at[row].tolist(),
        "confidence": confidence,
        "guesses": guesses,
        "passes": trace.forward_passes,
    }
