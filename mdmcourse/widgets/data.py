"""From what a widget is given to the plain data in its state. What cannot be shown is refused here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mdmcourse.errors import InputError
from mdmcourse.widgets.words import visible

if TYPE_CHECKING:
    from numpy.typing import NDArray


def array(values: Any) -> NDArray[Any]:
    """A tensor, on whatever device and of whatever type, or a nested list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    return np.asarray(values)


def short(values: Any) -> Any:
    """JSON's numbers, three significant digits each; None where there is no number."""
    if isinstance(values, list):
        return [short(value) for value in values]
    return float(f"{values:.3g}") if math.isfinite(values) else None


def numbers(what: str, values: Any, *axes: str) -> NDArray[Any]:
    """An array of finite numbers with these axes, none of them empty.

    what: what the array is, for the error: "The attention of 'ARM'".
    axes: their names. Those that may be missing stand in brackets and come first: "[step]", "layer".
    Raises InputError for anything else.
    """
    wanted = ", ".join(axes)
    try:
        found = array(values).astype(float)
    except (TypeError, ValueError):
        raise InputError(
            f"{what} is {_kind(values)}.",
            f"It is not an array of numbers [{wanted}]: other types, or rows of unequal length.",
            "Give a tensor, a NumPy array or nested lists.",
        ) from None
    fewest = sum(not axis.startswith("[") for axis in axes)
    if not fewest <= found.ndim <= len(axes) or not found.size:
        raise InputError(
            f"{what} has the shape {found.shape}.",
            f"Its axes should be [{wanted}], none of them empty.",
            "Choose or add axes until it has that shape; leave the batch out.",
        )
    if not np.isfinite(found).all():
        raise InputError(
            f"{what} holds NaN or infinity.",
            "That has no place on a scale of colours or lengths.",
            "Look at where these numbers come from.",
        )
    return found


def words(what: str, given: Any, count: int | None = None) -> list[str]:
    """Tokens as visible text. Raises InputError if they are not strings, none, or not `count`."""
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(each, str) for each in given):
        raise InputError(
            f"{what} are {_kind(given)}.",
            "Every token needs a text of its own.",
            "Give a list of strings, [tokenizer.decode([id]) for id in ids].",
        )
    if not given or (count is not None and len(given) != count):
        raise InputError(
            f"{what} are {len(given)}, and there are {'no' if count is None else count} positions.",
            "A token without a position, or a position without a token, cannot be shown.",
            "Give one string for each position.",
        )
    return [visible(each) for each in given]


def titled(what: str, given: Any, example: str) -> Mapping[str, Any]:
    """A mapping from titles. Raises InputError if it is none, or empty, or its titles are not strings."""
    if not isinstance(given, Mapping) or not given or not all(isinstance(title, str) for title in given):
        raise InputError(
            f"{what} are {_kind(given)}.", "There is nothing to show, or nothing to call it by.", f"Pass {example}."
        )
    return given


def need(what: str, given: Any, kind: str, attributes: Sequence[str], made_by: str) -> None:
    """Raise InputError if something is no `kind`: it is known by its attributes."""
    if not all(hasattr(given, name) for name in attributes):
        raise InputError(f"{what} is {_kind(given)}, not a {kind}.", "There is nothing to read from it.", made_by)


def _kind(given: Any) -> str:
    """What something is, in a few words."""
    if given is None or (hasattr(given, "__len__") and len(given) == 0):
        return "empty" if given is not None else "None"
    return f"of type {type(given).__name__}"
