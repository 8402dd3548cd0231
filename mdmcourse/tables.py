"""Tables in lessons: numbers to compare stand below one another, at any width of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from mdmcourse.errors import InputError

_MARKS = str.maketrans({mark: f"&#{ord(mark)};" for mark in "|*_`$~[]\\"})


def as_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown: its first column on the left, the others on the right. Whatever a cell holds stays text.

    Raises InputError if a row has not as many cells as there are columns.
    """
    lines = [_line(columns), "|:--" + "|--:" * (len(columns) - 1) + "|"]
    for row in rows:
        if len(row) != len(columns):
            raise InputError(
                f"A row of {len(row)} cells under {len(columns)} columns: {row!r}.",
                "It is not known which cell belongs to which column.",
                "Give every row one cell a column; an empty one is an empty string.",
            )
        lines.append(_line(row))
    return "\n".join(lines)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Display `as_table` below the cell."""
    from IPython.display import Markdown, display

    display(Markdown(as_table(columns, rows)))


def _line(cells: Iterable[object]) -> str:
    return "|" + "|".join(f" {html.escape(' '.join(str(cell).split())).translate(_MARKS)} " for cell in cells) + "|"
