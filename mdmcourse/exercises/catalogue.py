"""All exercises of the course, by name: a module of checks and one of answers for each lesson."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from mdmcourse.errors import UnknownNameError
from mdmcourse.exercises import checks
from mdmcourse.exercises.exercise import Exercise
from mdmcourse.naming import suggest


@cache
def exercises() -> dict[str, Exercise]:
    """Every exercise by its name, in the order of the lessons."""
    found: dict[str, Exercise] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(checks.__path__) if info.name.startswith("lesson")):
        for exercise in importlib.import_module(f"{checks.__name__}.{module}").EXERCISES:
            assert exercise.name not in found, f"two exercises are called {exercise.name}"
            found[exercise.name] = exercise
    return found


def find(name: str) -> Exercise:
    """The exercise of that name. Raises UnknownNameError with near names."""
    if name not in exercises():
        raise UnknownNameError(*suggest("exercise", name, exercises()))
    return exercises()[name]
