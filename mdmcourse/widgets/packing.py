"""Long lists in a widget's state as one string each: a notebook would store every number on a line of its own.

A string says what it holds: ``f4:``, ``u1:``, ``u2:`` or ``u4:`` and numbers in base64, or ``words:`` and names with
spaces between them. `packing.js` reads them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def packed(values: Sequence[str] | NDArray[Any]) -> str:
    """Names without spaces, or an array: whole numbers from 0 exactly, others as float32."""
    if not isinstance(values, np.ndarray):
        return "words:" + " ".join(values)
    whole = np.issubdtype(values.dtype, np.integer)
    kind = np.min_scalar_type(values.max(initial=0)) if whole else np.dtype("f4")
    text = base64.b64encode(values.astype(kind.newbyteorder("<")).tobytes()).decode("ascii")
    return f"{kind.kind}{kind.itemsize}:{text}"


def read(text: str) -> Any:
    """The list of names, or the array, that a packed string holds."""
    kind, _, values = text.partition(":")
    return values.split(" ") if kind == "words" else np.frombuffer(base64.b64decode(values), f"<{kind}")


def unpacked(state: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with what stands under "packed" beside the rest of it, as lists and arrays again."""
    plain = {key: value for key, value in state.items() if key != "packed"}
    long = state["packed"].items()
    return plain | {key: [*map(read, value)] if isinstance(value, list) else read(value) for key, value in long}
