"""What one activation is worth: maps of activation patching, and what stands behind each cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, html_table, script, style
from mdmcourse.widgets.data import array, need, numbers, titled
from mdmcourse.widgets.words import titled_as, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from mdmcourse.circuits import Patching
    from mdmcourse.tasks import Prompts

NEEDS = ("values", "clean", "corrupted", "what", "direction", "about")
PROMPTS = ("clean", "corrupted", "answer", "distractor", "target")
HEADER = ("", "model", "patched", "clean", "corrupted", "strongest cells")
Maps = Mapping[str, "Patching"]


class PatchingViewer(CourseWidget):
    """Activation patching as maps of cells; a chosen cell shows where it lies in the two prompts, and how far it moves
    the metric between the clean and the corrupted run.

    >>> PatchingViewer({"ARM": activation_patching(arm, prompts), "MDM": activation_patching(mdm, prompts)}, prompts,
    ...                tokenizer)

    Parameters
    ----------
    patchings: what `activation_patching` returned: one, one for each model, or for each title (a tab) one for each
        model. Those of a tab have the same kind of activations and as many cells.
    prompts: the prompts that were patched. The values are means over all of them; one is shown.
    tokenizer: all that is used of it is ``decode([id])``.
    row: which prompt is shown.

    A cell's colour and number are the share of the way between the two runs, as in `Patching.normalised`: 1 if it
    restores ("denoise") or destroys ("noise") everything, below 0 if it does the opposite.

    Raises InputError for what is no patching or of no effect at all, for cells that disagree with one another or with
    the prompts, and for a row that is not there.
    """

    _esm = script("cells.js", "patching_about.js", "patching.js")
    _css = style("cells.css", "patching.css")
    tabs: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    prompt: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    tab = traitlets.Unicode().tag(sync=True)
    row = traitlets.Int(0).tag(sync=True)
    column = traitlets.Int(0).tag(sync=True)
    pos = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        patchings: Patching | Maps | Mapping[str, Maps],
        prompts: Prompts,
        tokenizer: Any,
        row: int = 0,
    ) -> None:
        need("The prompts", prompts, "Prompts", PROMPTS, "Give task.prompts(tokenizer, n).")
        count, length = array(prompts.clean).shape
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < count:
            raise InputError(f"row={row}.", f"There are {count} prompts, counted from 0.", "Choose one of them.")
        states = []
        for title, maps in _by_tab(patchings).items():
            titled(f"The patchings of {title!r}", maps, '{"ARM": activation_patching(arm, prompts)}')
            states.append(_tab(title, maps, length))
        # The cell that does most in the first map.
        first = self._shares(states[0], 0)
        best = np.unravel_index(first.argmax(), first.shape)
        super().__init__(
            tabs=states, prompt=_prompt(prompts, tokenizer, row), tab=states[0]["title"],
            row=int(best[0]), column=int(best[1]), pos=int(best[1 if states[0]["across"] == "position" else 2]),
        )  # fmt: skip

    @staticmethod
    def _shares(tab: Mapping[str, Any], panel: int) -> NDArray[Any]:
        """[row, column, position]: what has no columns, or no positions, has one."""
        return np.array(
            [[cell.split(",") for cell in line.split(" ")] for line in tab["panels"][panel]["shares"]], dtype=float
        )

    def figure(self, tab: str | None = None) -> Figure:
        """The same content as a still picture: the maps of a tab, by default of the one that is shown now."""
        from mdmcourse.figures import course_style
        from mdmcourse.widgets.stills import patched_cells

        wanted = self.tab if tab is None else titled_as(tab)
        found = [each for each in self.tabs if each["title"] == wanted]
        if not found:
            raise InputError(
                f"tab={wanted!r}.",
                "There are no maps of that title.",
                f"Use one of {[each['title'] for each in self.tabs]}.",
            )
        state = found[0]
        panels = []
        for at, panel in enumerate(state["panels"]):
            shares = self._shares(state, at)
            # Where a cell has a position too, each is shown at the position where it does most.
            flat = shares[..., 0] if shares.shape[2] == 1 else np.take_along_axis(
                shares, np.abs(shares).argmax(axis=2, keepdims=True), axis=2
            )[..., 0]  # fmt: skip
            panels.append({"title": panel["title"], "shares": flat, "note": panel["direction"]})
        columns = self.prompt["clean"] if state["across"] == "position" else state["columns"]
        with course_style():
            return patched_cells(panels, state["rows"], columns, f"{state['title']}: share restored or destroyed")

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for tab in self.tabs:
            for at, panel in enumerate(tab["panels"]):
                shares = self._shares(tab, at)
                order = np.argsort(-np.abs(shares), axis=None, kind="stable")[:3]
                cells = [(np.unravel_index(each, shares.shape), shares.flat[each]) for each in order.tolist()]
                strongest = ", ".join(f"{self._name(tab, *map(int, cell))} {share:+.0%}" for cell, share in cells)
                runs = (f"{panel['clean']:.3g}", f"{panel['corrupted']:.3g}")
                rows.append((tab["title"], panel["title"], f"{tab['what']}, {panel['direction']}", *runs, strongest))
        return rows

    def _name(self, tab: Mapping[str, Any], row: int, column: int, pos: int) -> str:
        at = column if tab["across"] == "position" else pos if tab["positions"] > 1 else None
        head = f" {tab['columns'][column]}" if tab["across"] == "head" else ""
        return f"{tab['rows'][row]}{head}" + (f" at {self.prompt['clean'][at]} ({at})" if at is not None else "")

    def as_text(self) -> str:
        """For each map the two runs and the cells that do most."""
        return "\n".join(
            "; ".join(f"{name}: {cell}" for name, cell in zip(HEADER[1:], row[1:], strict=True)) for row in self._rows()
        )

    def as_html(self) -> str:
        """The same as a table."""
        return html_table(HEADER, self._rows())

    def __repr__(self) -> str:
        maps = "; ".join(f"{tab['title']}: {', '.join(panel['title'] for panel in tab['panels'])}" for tab in self.tabs)
        return f"PatchingViewer({maps})"


def _by_tab(patchings: Any) -> Mapping[str, Any]:
    if not isinstance(patchings, Mapping):
        patchings = {str(getattr(patchings, "what", "model")): patchings}
    titled("The patchings", patchings, '{"ARM": activation_patching(arm, prompts)}')
    first = next(iter(patchings.values()))
    return patchings if isinstance(first, Mapping) else {str(getattr(first, "what", "patching")): patchings}


def _tab(title: str, maps: Mapping[str, Any], length: int) -> dict[str, Any]:
    """The maps of a tab: names of rows and columns, and for each model the shares.

    A line a row, "share share ..." or, where a cell has positions, "share,share,... share,...".
    """
    shape: tuple[int, ...] = ()
    what = ""
    panels: list[dict[str, Any]] = []
    for model, patching in maps.items():
        where = f"The patching of {model!r} for {title!r}"
        need(where, patching, "Patching", NEEDS, "Give what activation_patching(model, prompts) returns.")
        axes = ("layer", "head", "[pos]") if patching.what == "heads" else ("layer", "[pos]")
        values = numbers(where, patching.values, *sorted(axes, key=lambda axis: not axis.startswith("[")))
        if values.ndim == len(axes) and values.shape[-1] != length:
            raise InputError(
                f"{where} has {values.shape[-1]} positions, the prompts have {length}.",
                "A cell could not be found in them.",
                "Give the prompts that were patched.",
            )
        if panels and (values.shape != shape or patching.what != what):
            raise InputError(
                f"{where} has {values.shape} cells of {patching.what!r}, another {shape} of {what!r}.",
                "One cell is chosen in all maps of a tab at once.",
                'Give them as tabs: {"residual": {"ARM": ...}, "heads": {"ARM": ...}}.',
            )
        shape, what = values.shape, patching.what
        panels.append({"title": titled_as(model), **_panel(where, patching, values)})
    heads = what == "heads"
    layers = [f"layer {layer}" for layer in range(shape[0])]
    across = "head" if heads else "position" if len(shape) == 2 else "nothing"
    return {
        "title": titled_as(title),
        "what": what,
        "rows": [*(f"into {layer}" for layer in layers[:-1]), "into the end"] if what == "residual" else layers,
        "columns": [f"h{head}" for head in range(shape[1])]
        if heads
        else []
        if across == "position"
        else ["all positions"],
        "across": across,
        "positions": shape[2] if len(shape) == 3 else 1,
        "panels": panels,
    }


def _panel(where: str, patching: Any, values: NDArray[Any]) -> dict[str, Any]:
    clean, corrupted = float(patching.clean), float(patching.corrupted)
    if not np.isfinite([clean, corrupted]).all() or clean == corrupted:
        raise InputError(
            f"{where}: the metric is {clean:.3g} in the clean and {corrupted:.3g} in the corrupted run.",
            "There is nothing to restore or to destroy, and no share of it.",
            "Use prompts whose corruption alters the answer.",
        )
    lost = clean - corrupted
    shares = (values - corrupted) / lost if patching.direction == "denoise" else (clean - values) / lost
    cells = shares.reshape(len(shares), -1, 1) if shares.ndim < 3 else shares
    return {
        "direction": patching.direction,
        "clean": clean,
        "corrupted": corrupted,
        "metric": str((patching.about or {}).get("metric") or "metric").replace("_", " "),
        "prompts": (patching.about or {}).get("prompts"),
        "shares": [" ".join(",".join(f"{share:.3g}" for share in cell) for cell in line) for line in cells.tolist()],
    }


def _prompt(prompts: Any, tokenizer: Any, row: int) -> dict[str, Any]:
    def texts(ids: Any) -> list[str]:
        return [visible(tokenizer.decode([each])) for each in ids]

    answer, distractor = texts([array(prompts.answer)[row].item(), array(prompts.distractor)[row].item()])
    return {
        "clean": texts(array(prompts.clean)[row].tolist()),
        "corrupted": texts(array(prompts.corrupted)[row].tolist()),
        "answer": answer,
        "distractor": distractor,
        "target": int(array(prompts.target)[row]),
    }
