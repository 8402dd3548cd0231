"""Who looks at whom: attention of all heads of one or several models, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, html_table, script, style
from mdmcourse.widgets.data import numbers, titled, words
from mdmcourse.widgets.packing import packed
from mdmcourse.widgets.words import titled_as

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

MOST = 96  # tokens
OFF = 0.05  # how far the weights of a query may be from 1 in all, for numbers of low precision
SINK = 0.3  # Gu et al., arXiv 2410.10781
HEADER = ("model", "heads with a sink", "where", "strongest head", "looks")


class AttentionViewer(CourseWidget):
    """Attention patterns: a picture of every head, layer by layer, and one head in full; all models show the same head.

    >>> AttentionViewer({"ARM": of_arm, "MDM": of_mdm}, tokens=["<bos>", "7", "4", "2", ":", "5", "=", "<mask>"])

    Parameters
    ----------
    patterns: for each model attention weights [layer, head, query, key], or [step, layer, head, query, key] with one
        pattern for each unmasking step. A model of which no query looks ahead is called causal.
    tokens: one string for each position; for each model its own if they differ, and for each step if they change.
    layer, head, query, key: what is shown first: of the last query the key that it looks at most, unless you say so.
    steps: what each step is called, if it is no step of unmasking.

    A key is a *sink* of a head if the other queries that can see it give it at least 0.3 of their attention on average
    (Gu et al., arXiv 2410.10781) and there are three of them or more: sinks are marked with a triangle.

    Raises InputError for patterns that are no distributions over keys, whose shapes disagree, or that do not have one
    token for each position.
    """

    _esm = script("packing.js", "cells.js", "attention.js")
    _css = style("cells.css", "attention.css")
    models: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    layer = traitlets.Int().tag(sync=True)
    head = traitlets.Int().tag(sync=True)
    query = traitlets.Int(-1).tag(sync=True)
    key = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)
    steps: traitlets.List[str] = traitlets.List().tag(sync=True)

    def __init__(
        self,
        patterns: Mapping[str, ArrayLike],
        tokens: Sequence[Any] | Mapping[str, Sequence[Any]],
        layer: int = 0,
        head: int = 0,
        query: int = -1,
        key: int | None = None,
        steps: Sequence[str] = (),
    ) -> None:
        titled("The patterns", patterns, '{"ARM": attention [layer, head, query, key]}')
        found = {title: _pattern(title, values) for title, values in patterns.items()}
        shapes = {title: pattern.shape[1:3] for title, pattern in found.items()}
        if len(set(shapes.values())) > 1:
            raise InputError(
                f"Layers and heads are {shapes}.",
                "One head is chosen in all models at once: they need as many layers and heads.",
                "Show models of different shapes in two viewers.",
            )
        layers, heads = next(iter(shapes.values()))
        if not (0 <= layer < layers and 0 <= head < heads):
            raise InputError(
                f"layer={layer}, head={head}.",
                f"There are {layers} layers with {heads} heads each, counted from 0.",
                "Choose one of them.",
            )
        longest, pos = (max(pattern.shape[axis] for pattern in found.values()) for axis in (0, -1))
        if len(steps) not in (0, longest) or not (-1 <= query < pos and (key is None or 0 <= key < pos)):
            raise InputError(
                f"{len(steps)} names for {longest} steps; query={query}, key={key}, and {pos} positions.",
                "There is one name for each step, and positions are counted from 0.",
                "Leave them out, or give those that there are.",
            )
        self._patterns = found
        first = next(iter(found.values()))
        super().__init__(
            models=[_state(title, pattern, tokens) for title, pattern in found.items()],
            heads=heads,
            layer=layer,
            head=head,
            query=query,
            key=int(first[-1, layer, head, query].argmax()) if key is None else key,
            steps=list(steps),
        )

    def figure(self, layer: int | None = None, head: int | None = None, step: int | None = None) -> Figure:
        """The same content as a still picture: all heads, and one in full, for each model; by default as shown now."""
        from mdmcourse.figures import course_style
        from mdmcourse.widgets.stills import head_maps

        chosen = (self.layer if layer is None else layer, self.head if head is None else head)
        step = self.step if step is None else step
        panels = [
            {"title": model["title"], "pattern": pattern[min(step, len(pattern) - 1)],
             "tokens": _at(model["tokens"], step), "sinks": _at(model["sinks"], step)}
            for model, pattern in zip(self.models, self._patterns.values(), strict=True)
        ]  # fmt: skip
        with course_style():
            return head_maps(panels, *chosen)

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for model, pattern in zip(self.models, self._patterns.values(), strict=True):
            tokens, sinks, weights = _at(model["tokens"], -1), _at(model["sinks"], -1), pattern[-1]
            places = sorted({key for keys in sinks.values() for key in keys})
            others = weights * ~np.eye(weights.shape[-1], dtype=bool)
            layer, head, query, key = np.unravel_index(others.argmax(), others.shape)
            rows.append(
                (
                    model["title"], f"{len(sinks)} of {weights.shape[0] * weights.shape[1]}",
                    ", ".join(f"{tokens[at]} ({at})" for at in places[:5]) or "none", f"a{layer}.h{head}",
                    f"from {tokens[query]} ({query}) to {tokens[key]} ({key}): {others.max():.2f}",
                )
            )  # fmt: skip
        return rows

    def as_text(self) -> str:
        """For each model how many heads have a sink, and its strongest look at another position."""
        return "\n".join(
            "; ".join(f"{name}: {cell}" for name, cell in zip(HEADER, row, strict=True)) for row in self._rows()
        )

    def as_html(self) -> str:
        """The same as a table."""
        return html_table(HEADER, self._rows())

    def __repr__(self) -> str:
        steps, layers, heads, *_ = next(iter(self._patterns.values())).shape
        titles = ", ".join(model["title"] for model in self.models)
        return f"AttentionViewer({titles}: {layers} x {heads} heads{f', {steps} steps' if steps > 1 else ''})"


def _pattern(title: str, values: Any) -> NDArray[Any]:
    """[step, layer, head, query, key], every row a distribution."""
    what = f"The attention of {title!r}"
    pattern = numbers(what, values, "[step]", "layer", "head", "query", "key")
    pattern = pattern if pattern.ndim == 5 else pattern[None]
    *_, queries, keys = pattern.shape
    if queries != keys or queries > MOST:
        raise InputError(
            f"{what} has {queries} queries and {keys} keys.",
            f"Every position is both a query and a key, and more than {MOST} could not be told apart.",
            "Give the attention of one sequence to itself, without a cache, and a shorter one if it is long.",
        )
    sums = pattern.sum(axis=-1)
    if pattern.min() < 0 or abs(sums - 1).max() > OFF:
        raise InputError(
            f"{what}: weights run from {pattern.min():.3g} to {pattern.max():.3g}, and those of a query add up to "
            f"{sums.min():.3g} to {sums.max():.3g}.",
            "A query gives 1 in all. These may be scores before the softmax, or have keys and queries swapped.",
            "Give weights after the softmax, with the key as the last axis.",
        )
    return pattern


def _state(title: str, pattern: NDArray[Any], tokens: Any) -> dict[str, Any]:
    steps, *_, pos = pattern.shape
    given = tokens
    if isinstance(tokens, Mapping):
        if title not in tokens:
            raise InputError(
                f"There are no tokens for {title!r}.", "Its positions have no names.", f"Add it to {list(tokens)!r}."
            )
        given = tokens[title]
    by_step = not isinstance(given, str) and bool(given) and all(not isinstance(each, str) for each in given)
    if by_step and len(given) != steps:
        raise InputError(
            f"{title!r} has tokens for {len(given)} steps and attention for {steps}.",
            "Every step needs both.",
            "Give one list of strings for each step, or one for all.",
        )
    lists = [words(f"The tokens of {title!r}", each, pos) for each in (given if by_step else [given])]
    return {
        "title": titled_as(title),
        "pos": pos,
        "tokens": lists,
        "causal": bool((np.triu(pattern, 1) == 0).all()) and pos > 1,
        "ahead": (np.triu(pattern, 1) > 0).any(axis=(1, 2, 3, 4)).tolist(),
        "weights": [packed(np.round(255 * each).clip(0, 255).astype(np.uint8)) for each in pattern],
        "sinks": [sinks(each) for each in pattern],
    }


def sinks(pattern: NDArray[Any]) -> dict[str, list[int]]:
    """The keys that are sinks, by the name of their head. Queries see a key if they stand behind it, or look ahead."""
    layers, heads, pos, _ = pattern.shape
    ahead = (np.triu(pattern, 1) > 0).any()
    sees = ~np.eye(pos, dtype=bool) if ahead else np.tri(pos, k=-1, dtype=bool)
    count = sees.sum(axis=0)
    mean = (pattern * sees).sum(axis=2) / np.maximum(count, 1)
    found = (mean >= SINK) & (count >= 3)
    return {
        f"{layer}.{head}": np.flatnonzero(found[layer, head]).tolist()
        for layer in range(layers)
        for head in range(heads)
        if found[layer, head].any()
    }


def _at(steps: Sequence[Any], step: int) -> Any:
    """What holds in a step: where there is only one, it holds in all."""
    return steps[min(step, len(steps) - 1)]
