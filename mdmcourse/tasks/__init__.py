"""Prompts with a known answer and a minimal counterfactual."""

from mdmcourse.errors import UnknownNameError
from mdmcourse.naming import suggest
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
    """A task by its name, with its default settings. Raises UnknownNameError, with near names, if there is none."""
    if name not in TASKS:
        raise UnknownNameError(*suggest("task", name, TASKS))
    return TASKS[name]()


__all__ = [
    "IOI", "SLOT", "TASKS", "Chain", "Countdown", "CountdownFour", "CountdownMini", "CountdownRestated",
    "CountdownText", "Example", "GreaterThan", "Prompts", "ReversedIOI", "StarPath", "Task", "get_task", "readable",
    "toy_tokenizer",
]  # fmt: skip
