"""What would the model say if it stopped here? The logit lens of one or several models, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, html_table, script, style
from mdmcourse.widgets.data import array, titled, words
from mdmcourse.widgets.words import titled_as, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

MOST = 96  # positions
HEADER = ("model", "position", "says in the end", "probability", "on top from")


class LensViewer(CourseWidget):
    """The logit lens (nostalgebraist, 2020): for every layer and position the most probable tokens, if what stands in
    the residual stream there went straight through the final norm to the logits.

    >>> LensViewer({"ARM": of_arm, "MDM": of_mdm}, tokens, tokenizer, follow={"answer": 17, "distractor": 23})

    Parameters
    ----------
    logits: for each model [layer, pos, vocab], aligned: position i scores token i. Row 0 is the embedding, row i what
        layer i - 1 leaves, the last row the model's own logits. A position that no row has a prediction for is NaN in
        all of them.
    tokens: one string for each position; for each model its own if they differ.
    tokenizer: all that is used of it is ``decode([id])``.
    follow: for each name a token id, or one id for each position, whose probability and rank are to be seen.
    top: so many of the most probable tokens are kept for each cell.

    Raises InputError for logits that have not these axes, disagree in shape or are NaN in some rows only, and for ids
    that are no tokens.
    """

    _esm = script("cells.js", "lens.js")
    _css = style("cells.css", "lens.css")
    models: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    names: traitlets.List[str] = traitlets.List().tag(sync=True)
    vocab_size = traitlets.Int().tag(sync=True)
    layer = traitlets.Int().tag(sync=True)
    pos = traitlets.Int().tag(sync=True)
    followed = traitlets.Unicode("").tag(sync=True)
    measure = traitlets.Unicode("probability").tag(sync=True)

    def __init__(
        self,
        logits: Mapping[str, ArrayLike],
        tokens: Sequence[str] | Mapping[str, Sequence[str]],
        tokenizer: Any,
        follow: Mapping[str, int | Sequence[int]] | None = None,
        top: int = 5,
    ) -> None:
        titled("The logits", logits, '{"ARM": logits [layer, pos, vocab]}')
        given = {title: array(values) for title, values in logits.items()}
        shapes = {title: values.shape for title, values in given.items()}
        first = next(iter(shapes.values()))
        if len(first) != 3 or 0 in first or first[1] > MOST or any(shape[:2] != first[:2] for shape in shapes.values()):
            raise InputError(
                f"The logits have the shapes {shapes}.",
                f"Each has to be [layer, pos, vocab], with as many layers and positions in all models, {MOST} at most.",
                "Leave the batch out, and show models of different depth in two viewers.",
            )
        layers, pos, vocab = first
        if isinstance(top, bool) or not 1 <= top <= vocab:
            raise InputError(f"top={top}.", f"The vocabulary has {vocab} tokens.", "Choose a number from 1 to that.")
        wanted = {
            name: _ids(name, ids, pos, min(shape[2] for shape in shapes.values()))
            for name, ids in (follow or {}).items()
        }
        models = []
        for title, values in given.items():
            own = tokens
            if isinstance(tokens, Mapping):
                titled("The tokens", tokens, f'{{"{title}": [...]}}')
                own = tokens.get(title, ())
            models.append(
                {"title": titled_as(title), "tokens": words(f"The tokens of {title!r}", own, pos)}
                | _state(title, values, tokenizer, wanted, top)
            )
        super().__init__(
            models=models, names=["input", *(f"layer {layer}" for layer in range(layers - 1))], vocab_size=vocab,
            layer=layers - 1, pos=pos - 1,
        )  # fmt: skip

    def _top(self, model: Mapping[str, Any]) -> list[list[list[tuple[str, float]] | None]]:
        """For each layer and position the most probable tokens, best first; None where there is no prediction."""
        return [
            [
                None if cell == "-" else [
                    (model["vocab"][int(word)], int(chance) / 1000)
                    for word, chance in zip(cell.split(",")[::2], cell.split(",")[1::2], strict=True)
                ]
                for cell in line.split(" ")
            ]
            for line in model["top"]
        ]  # fmt: skip

    def figure(self) -> Figure:
        """The same content as a still picture: the most probable token of each cell, darker the more probable."""
        from mdmcourse.figures import course_style
        from mdmcourse.widgets.stills import lens_maps

        with course_style():
            return lens_maps(
                [
                    {"title": model["title"], "tokens": model["tokens"], "top": self._top(model)}
                    for model in self.models
                ],
                self.names,
            )

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for model in self.models:
            top = self._top(model)
            for position, token in enumerate(model["tokens"]):
                last = top[-1][position]
                if last is None:
                    continue
                column = [(row[position] or [("", 0.0)])[0][0] for row in top]
                since = len(column) - 1
                while since and column[since - 1] == last[0][0]:
                    since -= 1
                rows.append(
                    (model["title"], f"{token} ({position})", last[0][0], f"{last[0][1]:.2f}", self.names[since])
                )
        return rows

    def as_text(self) -> str:
        """For each position what the model says in the end, and the layer from which on that is on top."""
        return "\n".join("  ".join(f"{cell:<18}" for cell in row).rstrip() for row in (HEADER, *self._rows()))

    def as_html(self) -> str:
        """The same as a table."""
        return html_table(HEADER, self._rows())

    def __repr__(self) -> str:
        titles = ", ".join(model["title"] for model in self.models)
        return f"LensViewer({titles}: {len(self.names)} x {len(self.models[0]['tokens'])} cells)"


def _ids(name: str, given: Any, pos: int, vocab: int) -> list[int]:
    """One token id for each position."""
    ids = [array(given).tolist()] * pos if array(given).ndim == 0 else array(given).tolist()
    if len(ids) != pos or not all(isinstance(each, int) and 0 <= each < vocab for each in ids):
        raise InputError(
            f"follow has {given!r} for {name!r}.",
            f"That is no token id below {vocab}, nor one for each of {pos} positions.",
            "Give an id, tokenizer.convert_tokens_to_ids(...), or a list of them.",
        )
    return ids


def _state(
    title: str, values: NDArray[Any], tokenizer: Any, follow: Mapping[str, list[int]], top: int
) -> dict[str, Any]:
    """The most probable tokens of each cell, and probability and rank of those that are followed.

    A line a layer, "word,per mille,word,per mille,... word,..." and "per mille,rank per mille,rank ...", "-" without a
    prediction. Words are places in `vocab`.
    """
    vocab: dict[str, int] = {}

    def place(token: int) -> int:
        return vocab.setdefault(visible(tokenizer.decode([token])), len(vocab))

    silent = np.isnan(values[0]).all(axis=-1)
    if silent.all():
        raise InputError(
            f"The logits of {title!r} are NaN everywhere.", "There is no prediction.", "Look at where they come from."
        )
    lines: list[str] = []
    followed: dict[str, list[str]] = {name: [] for name in follow}
    for layer in values:
        row = layer.astype(np.float64)
        heard = row[~silent]
        if not np.isnan(row[silent]).all() or np.isnan(heard).any() or not np.isfinite(heard.max(axis=-1)).all():
            raise InputError(
                f"The logits of {title!r} hold NaN or infinity.",
                "Only a position without any prediction may be NaN, and then in all layers and for all tokens.",
                "Look at where these numbers come from.",
            )
        best = np.full((len(row), top), -1)
        chance = np.zeros_like(row)
        # A forbidden token has the lowest number that there is: its difference to the best may be beyond all numbers.
        with np.errstate(over="ignore"):
            weight = np.exp(heard - heard.max(axis=-1, keepdims=True))
        chance[~silent] = weight / weight.sum(axis=-1, keepdims=True)
        best[~silent] = np.argsort(-heard, axis=-1, kind="stable")[:, :top]
        lines.append(
            " ".join(
                "-" if silent[at] else ",".join(
                    f"{place(token)},{round(1000 * chance[at, token])}" for token in best[at].tolist()
                )
                for at in range(len(row))
            )
        )  # fmt: skip
        for name, ids in follow.items():
            followed[name].append(
                " ".join(
                    "-"
                    if silent[at]
                    else f"{round(1000 * chance[at, token])},{int((row[at] > row[at, token]).sum()) + 1}"
                    for at, token in enumerate(ids)
                )
            )
    return {
        "vocab": list(vocab),
        "top": lines,
        "follow": [
            {
                "name": titled_as(name, 40),
                "words": [visible(tokenizer.decode([each])) for each in ids],
                "lines": followed[name],
            }
            for name, ids in follow.items()
        ],
    }
