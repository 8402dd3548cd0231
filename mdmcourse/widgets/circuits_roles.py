"""What was said of nodes: "name mover". In whatever depth it was given, for each task and each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdmcourse.errors import InputError
from mdmcourse.widgets.words import titled_as

MOST = 60  # letters of a role


def roles_by_task(given: Any, tasks: Mapping[str, Mapping[str, Any]], nodes: Sequence[str]) -> dict[str, Any]:
    """For each task, for each of its models in their order, the roles of nodes as text that can be shown.

    given: {node: text}, which then holds for all; or that for each model, or for each task and model; or None.
    Raises InputError for anything else, and for tasks, models and nodes that there are not.
    """
    depth = _depth(given)
    if given is not None and not 1 <= depth <= 3:
        raise _refused(given)
    if depth == 3:
        _known("tasks", given, tasks)
    found = {}
    for title, pair in tasks.items():
        by_model = given.get(title, {}) if depth == 3 else given if depth == 2 else dict.fromkeys(pair, given or {})
        _known("models", by_model, pair)
        found[title] = [_shown(by_model.get(model, {}), nodes) for model in pair]
    return found


def _depth(given: Any) -> int:
    """How many mappings lie in each other."""
    return 1 + max(map(_depth, given.values()), default=0) if isinstance(given, Mapping) else 0


def _shown(roles: Any, nodes: Sequence[str]) -> dict[str, str]:
    _known("nodes", roles, nodes)
    for text in roles.values():
        if not isinstance(text, str):
            raise _refused(text)
    return {node: titled_as(text, MOST) for node, text in roles.items()}


def _known(what: str, given: Any, known: Any) -> None:
    if not isinstance(given, Mapping):
        raise _refused(given)
    unknown = [name for name in given if name not in known]
    if unknown:
        names = list(known)
        raise InputError(
            f"roles names the {what} {unknown!r}.",
            "They are not in this picture: their roles would never be seen.",
            f"Use some of {names!r}." if len(names) < 9 else f"Write them like {names[1]!r} or {names[-2]!r}.",
        )


def _refused(given: Any) -> InputError:
    return InputError(
        f"roles holds a {type(given).__name__} where a role's text or a mapping should be.",
        "It does not say for which nodes there is something to say, or not all in the same depth.",
        'Give {"a2.h1": "name mover"}; or that for each model; or for each task {"ARM": {...}, "MDM": {...}}.',
    )
