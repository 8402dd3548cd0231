"""Prompts with a known answer and a minimal counterfactual."""

import runpy
from functools import cache
from pathlib import Path

from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.naming import suggest
from mdmcourse.own import own_task_files
from mdmcourse.tasks.chain import Chain
from mdmcourse.tasks.countdown import Countdown
from mdmcourse.tasks.countdown_four import CountdownFour
from mdmcourse.tasks.countdown_mini import CountdownMini
from mdmcourse.tasks.countdown_restated import CountdownRestated
from mdmcourse.tasks.countdown_text import CountdownText
from mdmcourse.tasks.greater_than import GreaterThan
from mdmcourse.tasks.ioi import IOI, ReversedIOI
from mdmcourse.tasks.path import StarPath
from mdmcourse.tasks.readable import readable
from mdmcourse.tasks.task import SLOT, Example, Prompts, Task
from mdmcourse.tasks.vocabulary import toy_tokenizer

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        IOI, ReversedIOI, GreaterThan, Countdown, CountdownFour, CountdownRestated, CountdownMini, CountdownText, Chain,
        StarPath,
    )
}  # fmt: skip


def get_task(name: str) -> Task:
    """A task by its name, with its default settings: one of the course, or of your own (see `mdmcourse.own`). Raises
    UnknownNameError, with near names, if there is none."""
    known = TASKS if name in TASKS else TASKS | own_tasks()
    if name not in known:
        raise UnknownNameError(*suggest("task", name, known))
    return known[name]()


def own_tasks() -> dict[str, type[Task]]:
    """The tasks of your own, by name: those of the files that MDMCOURSE_OWN tells of. Raises InputError if one of them
    fails, or has a name that the course uses."""
    return {name: task for file in own_task_files() for name, task in _tasks_of(file).items()}


@cache
def _tasks_of(file: Path) -> dict[str, type[Task]]:
    try:
        found = runpy.run_path(str(file))
    except Exception as error:
        raise InputError(
            f"{file} failed: {type(error).__name__}: {error}.", "Its tasks are not known.", "Run it by itself first."
        ) from error
    tasks = {
        each.name: each
        for each in found.values()
        if isinstance(each, type) and issubclass(each, Task) and each.__module__ == found["__name__"]
    }
    if taken := sorted(set(tasks) & set(TASKS)):
        raise InputError(
            f"{file} has tasks called {', '.join(taken)}.", "The course has tasks of these names.", "Choose others."
        )
    return tasks


__all__ = [
    "IOI", "SLOT", "TASKS", "Chain", "Countdown", "CountdownFour", "CountdownMini", "CountdownRestated",
    "CountdownText", "Example", "GreaterThan", "Prompts", "ReversedIOI", "StarPath", "Task", "get_task", "own_tasks",
    "readable", "toy_tokenizer",
]  # fmt: skip
