"""What to say when a name is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(kind: str, name: str, known: Iterable[str]) -> tuple[str, str, str]:
    """The three parts of an UnknownNameError: what happened, what it means, and near names to try."""
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    many = near and len(known) > 30  # a list that long would bury the name that is meant
    return (
        f"There is no {kind} called {name!r}.",
        f"It is none of {len(known)} that are known." if many else f"Known are: {', '.join(known)}.",
        f"Did you mean {' or '.join(near)}?" if near else "Choose one of these.",
    )
