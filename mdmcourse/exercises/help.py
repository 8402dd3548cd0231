"""Hints, each more direct than the one before, and the course's own answers."""

from __future__ import annotations

import ast
import html
import inspect
import re
from dataclasses import dataclass

from mdmcourse.errors import InputError
from mdmcourse.exercises.catalogue import find
from mdmcourse.exercises.progress import kept, record_help


@dataclass(frozen=True)
class Shown:
    """A text that a notebook shows, as code or as prose."""

    text: str
    code: bool = False

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        text = html.escape(self.text)
        return f"<pre><code>{text}</code></pre>" if self.code else f"<p>{text}</p>"


def hint(name: str, number: int | None = None) -> Shown:
    """The next hint of an exercise, or one of its three by number.

    Raises UnknownNameError, or InputError for a number that is not 1, 2 or 3.
    """
    hints = find(name).hints
    if number is None:
        number = min(len(hints), kept().get("exercises", {}).get(name, {}).get("hints", 0) + 1)
    if not isinstance(number, int) or not 1 <= number <= len(hints):
        raise InputError(
            f"hint({name!r}, {number!r}).",
            f"An exercise has {len(hints)} hints.",
            f"Give a number from 1 to {len(hints)}, or none for the next one.",
        )
    record_help(name, "hints", number)
    after = f" (hint {number} of {len(hints)}; " + (
        "once more for the next)" if number < len(hints) else f'next would be solution("{name}"))'
    )
    return Shown(hints[number - 1] + after)


def solution(name: str) -> Shown:
    """The course's own answer to an exercise, as it can stand in the exercise's cell. Raises UnknownNameError."""
    source = without_annotations(inspect.getsource(find(name).reference))
    record_help(name, "solution")
    return Shown(source.rstrip(), code=True)


def without_annotations(source: str) -> str:
    """The source of a function without those of its arguments: a lesson has not imported what they are made of."""
    text = source.encode()  # ast counts bytes
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg) and node.annotation is not None:
            begin = starts[node.lineno - 1] + node.col_offset + len(node.arg.encode())
            spans.append((begin, _end(node.annotation, starts)))
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            arrow = text.rindex(b" -> ", 0, starts[node.returns.lineno - 1] + node.returns.col_offset)
            spans.append((arrow, _end(node.returns, starts)))
    for begin, end in sorted(spans, reverse=True):
        text = text[:begin] + text[end:]
    head, body = text.decode().split("):\n", 1)
    return re.sub(r"\( ", "(", " ".join(head.split())).rstrip(",") + "):\n" + body  # what is left fits into a line


def _end(node: ast.expr, starts: list[int]) -> int:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return starts[node.end_lineno - 1] + node.end_col_offset
