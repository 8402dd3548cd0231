"""Countdown with the target written once more: a longer answer that is no harder to plan."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from mdmcourse.tasks.countdown import Countdown
from mdmcourse.tasks.task import Example


@dataclass(frozen=True)
class CountdownRestated(Countdown):
    """Put + or - between three numbers so that they make the target, and write the target after them.

    Clean      ``7 4 2 : 5 = {}`` -> ``7 - 4 + 2 = 5``
    Corrupted  ``7 4 2 : 13 = {}`` -> ``7 + 4 + 2 = 13``

    Analysed: the first operator (answer -, distractor +); the first number is given. There are as many ways to answer
    as in `Countdown`: the two tokens more are copied from the prompt. Encoding: as there, the answer tokens 7 to 13,
    the analysed operator token 8.
    """

    name: ClassVar[str] = "countdown-restated"

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        example, key = super().draw(rng)
        target, other = (_target(problem) for problem in (example.clean, example.corrupted))
        longer = Example(
            example.clean,
            f"{example.answer} = {target}",
            example.corrupted,
            f"{example.distractor} = {other}",
            given=example.given,
        )
        return longer, key

    def check(self, example: Example, answer: str) -> bool:
        """Are the numbers used in their order, does the sum come out, and is the target written after it?"""
        total, equals, target = answer.partition("=")
        return bool(equals) and target.split() == [_target(example.clean)] and self.solves(example.clean, total)


def _target(problem: str) -> str:
    """The target of ``7 4 2 : 5 = {}``."""
    return problem.partition(":")[2].split()[0]
