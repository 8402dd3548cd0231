"""What all widgets share: their script and style from files, and what is shown where they cannot run."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget

HERE = Path(__file__).parent


def script(*names: str) -> str:
    """The shared script, then a widget's own files, as one module: without a bundler they cannot import each other."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("shared.js", *names))


def style(*names: str) -> str:
    """The shared style, then a widget's own."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("shared.css", *names))


def html_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in HTML, every cell escaped."""

    def row(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + row(header, "th") + "".join(row(cells, "td") for cells in rows) + "</table>"


class CourseWidget(anywidget.AnyWidget):
    """A widget whose data is all in its state and whose reactions are all in its script.

    So it stays alive on a static page. For viewers that cannot draw it there is the same content as text and as HTML.
    """

    def as_text(self) -> str:
        """The content in plain text, below the widget's `repr`."""
        raise NotImplementedError

    def as_html(self) -> str:
        """The content in HTML. All text in it is escaped."""
        return "".join(f"<p>{html.escape(line)}</p>" for line in self.as_text().splitlines())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and its content for viewers that cannot draw it."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, about = bundle if isinstance(bundle, tuple) else (bundle, {})
        data = dict(data or {})
        data["text/plain"] = f"{self!r}\n{self.as_text()}"
        data["text/html"] = self.as_html()
        return data, about
