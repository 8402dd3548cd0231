"""Watch texts being written, step by step, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, html_table, script, style
from mdmcourse.widgets.data import array
from mdmcourse.widgets.words import titled_as, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mdmcourse.diffusion.trace import Trace

HIDDEN = -1  # in a trace's tokens: not written yet
NEEDS = ("tokens", "confidence", "unmasked", "remasked", "alternatives", "alternative_confidence")
GUESSES = 3  # alternatives shown of each token


class UnmaskingPlayer(CourseWidget):
    """One or more sampling runs, step by step: which token was written when, how sure the model was, what else it
    thought of, and what was hidden again.

    >>> UnmaskingPlayer({"ARM": trace_of_arm, "MDM": trace_of_mdm}, tokenizer)

    Parameters
    ----------
    traces: a title for each run, or a single run. Runs of unequal length share one slider; the shorter ones wait at
        their end.
    tokenizer: the tokenizer that made the tokens; all that is used of it is ``decode([id])``.
    row: which sequence of each run's batch.

    Raises InputError for a trace without steps or tokens, with shapes that disagree or with a written token that has
    no confidence, and for a row that is not there.
    """

    _esm = script("unmasking.js")
    _css = style("unmasking.css")
    panels: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(self, traces: Mapping[str, Trace] | Trace, tokenizer: Any, row: int = 0) -> None:
        if not isinstance(traces, Mapping):
            traces = {str(getattr(traces, "order", "run")): traces}
        if not traces:
            raise InputError(
                "No traces were given.", "There is nothing to show.", 'Pass {"a title": a trace from sample_mdm(...)}.'
            )
        for title, trace in traces.items():
            _check(title, trace, row)
        super().__init__(panels=[_panel(title, trace, tokenizer, row) for title, trace in traces.items()])

    def figure(self) -> Figure:
        """The same content as a still picture: a line for each step, a column for each token."""
        from mdmcourse.figures import course_style, written_steps

        with course_style():
            return written_steps([{"title": panel["title"], "states": states(panel)} for panel in self.panels])

    def __repr__(self) -> str:
        return f"UnmaskingPlayer({', '.join(panel['title'] for panel in self.panels)})"

    def as_text(self) -> str:
        """The finished texts, and how each came about."""
        return "\n".join(f"{panel['title']}: {_words(states(panel)[-1])}" for panel in self.panels)

    def as_html(self) -> str:
        """A table for each run: its text after every step."""
        return "".join(
            html_table(["step", panel["title"]], [(step, _words(state)) for step, state in enumerate(states(panel))])
            for panel in self.panels
        )


def states(panel: Mapping[str, Any]) -> list[list[tuple[str | None, int, float]]]:
    """After each step of a panel and for each token: the word (None while it is masked), the step that wrote it (0 for
    the prompt) and its confidence then. The script unrolls the same."""
    now = [(None if word < 0 else panel["vocab"][word], 0, 1.0) for word in panel["start"]]
    found = [list(now)]
    for number, step in enumerate(panel["steps"], start=1):
        for position, word, confidence in step["written"]:
            now[position] = (panel["vocab"][word], number, confidence)
        for position in step["hidden"]:
            now[position] = (None, 0, 1.0)
        found.append(list(now))
    return found


def _words(state: Sequence[tuple[str | None, int, float]]) -> str:
    return " ".join("▒" if word is None else word for word, _, _ in state)


def _check(title: str, trace: Any, row: int) -> None:
    missing = [name for name in NEEDS if not hasattr(trace, name)]
    if missing:
        raise InputError(
            f"{title!r} is a {type(trace).__name__}, not a Trace.",
            "It does not say what was written when.",
            "Give what sample_arm(...) or sample_mdm(...) returns.",
        )
    shapes = {name: tuple(array(getattr(trace, name)).shape) for name in NEEDS}
    tokens, steps = shapes["tokens"], shapes["unmasked"]
    if len(tokens) != 3 or 0 in tokens or tokens[0] < 2:
        raise InputError(
            f"The tokens of {title!r} have the shape {tokens}.",
            "There is no step to show.",
            "Write at least one token: give tokens with masks in them.",
        )
    expected = (tokens[0] - 1, *tokens[1:])
    if any(shapes[name][:3] != expected for name in NEEDS[1:]):
        raise InputError(
            f"The trace {title!r} has the shapes {shapes}.",
            f"After {tokens[0]} states everything else has to begin with {expected}: a row a step.",
            "Give a Trace as it was recorded.",
        )
    if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < steps[1]:
        raise InputError(
            f"row={row}, but the trace has {steps[1]} sequences.",
            "There is no such sequence to show.",
            "Count rows from 0.",
        )
    confidence, unmasked = array(trace.confidence)[:, row], array(trace.unmasked)[:, row]
    if not np.isfinite(confidence[unmasked.astype(bool)]).all():
        raise InputError(
            f"In {title!r} a token was written without a confidence (NaN).",
            "How sure the model was cannot be shown.",
            "Give a Trace as it was recorded.",
        )


def _panel(title: str, trace: Trace, tokenizer: Any, row: int) -> dict[str, Any]:
    """What the script needs of one trace: its start, what each step wrote and hid, and what else was thought of.

    Words are places in `vocab`. Guesses of a step are "position,word,per cent,word,per cent position,word,...".
    """
    vocab: dict[str, int] = {}

    def place(token: int) -> int:
        return vocab.setdefault(visible(tokenizer.decode([token])), len(vocab))

    tokens = array(trace.tokens)[:, row]
    unmasked, remasked = (array(part)[:, row].astype(bool) for part in (trace.unmasked, trace.remasked))
    confidence = array(trace.confidence)[:, row]
    ids, chances = array(trace.alternatives)[:, row, :, :GUESSES], array(trace.alternative_confidence)[:, row]
    start = [HIDDEN if token == HIDDEN else place(token) for token in tokens[0].tolist()]
    steps, guesses = [], []
    for step in range(len(unmasked)):
        written = [
            [int(at), place(int(tokens[step + 1, at])), round(float(confidence[step, at]), 3)]
            for at in np.flatnonzero(unmasked[step])
        ]
        steps.append({"written": written, "hidden": np.flatnonzero(remasked[step]).tolist()})
        guesses.append(_line(ids[step].tolist(), chances[step].tolist(), place))
    return {"title": titled_as(title), "vocab": list(vocab), "start": start, "steps": steps, "guesses": guesses}


def _line(ids: list[list[int]], chances: list[list[float]], place: Callable[[int], int]) -> str:
    """The guesses of a step. One string: a notebook would give every number of nested lists a line of its own."""
    return " ".join(
        ",".join(map(str, [at, *(value for token, chance in thought for value in (place(token), round(100 * chance)))]))
        for at, thought in enumerate(
            [(token, chance) for token, chance in zip(*both, strict=False) if token >= 0]
            for both in zip(ids, chances, strict=True)
        )
        if thought
    )
