"""Tables in lessons."""

from __future__ import annotations

import pytest
from hostile import HOSTILE
from IPython.display import Markdown
from markdown_it import MarkdownIt

from mdmcourse.errors import InputError
from mdmcourse.tables import as_table, show_table


def cells(markdown: str) -> list[list[str]]:
    """What a reader of the rendered table gets, row by row; nothing but text may stand in a cell."""
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline":
            kinds = {child.type for child in token.children or []}
            assert kinds <= {"text", "text_special"}
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def test_every_cell_is_where_it_belongs():
    markdown = as_table(["", "ARM", "MDM"], [["IOI", 0.5, "a|b"], ["chain", "", "-1"]])
    assert cells(markdown) == [["", "ARM", "MDM"], ["IOI", "0.5", "a|b"], ["chain", "", "-1"]]
    assert markdown.splitlines()[1] == "|:--|--:|--:|"


@pytest.mark.parametrize("text", [*HOSTILE, "*a* _b_ `c` $d$ ~~e~~ [f](g)", "<img src=x onerror=alert(1)>", "a\\|b"])
def test_whatever_a_cell_holds_stays_text(text: str):
    (_, row) = cells(as_table(["one", "two"], [["x", text]]))
    assert row == ["x", " ".join(text.split()).replace("\0", "\N{REPLACEMENT CHARACTER}")]  # as CommonMark says


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="2 cells under 3 columns"):
        as_table(["", "a", "b"], [["x", 1]])


def test_it_is_displayed_as_markdown(monkeypatch: pytest.MonkeyPatch):
    shown: list[Markdown] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    show_table(["a"], [["b"]])
    assert [each.data for each in shown] == ["| a |\n|:--|\n| b |"]
