"""Countdown as text for real models: reach a number with four others, step by step."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from mdmcourse.tasks.task import SLOT, Example, Task

Step = tuple[int, str, int, int]  # a, operator, b, result
Ways = defaultdict[tuple[int, int], dict[str, str]]
"""For each target and first number of an answer: the first operators that lead there, with one answer for each."""
STEP = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")


@lru_cache(maxsize=1000)  # different steps often leave the same numbers
def solutions(numbers: tuple[int, ...]) -> tuple[tuple[Step, ...], ...]:
    """All ways to join all `numbers` into one, two at a time, through whole numbers from 0 on."""
    if len(numbers) == 1:
        return ((),)
    found = []
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i == j:
                continue
            rest = tuple(n for k, n in enumerate(numbers) if k not in (i, j))
            for operator, result in (
                ("+", a + b),
                ("-", a - b),
                ("*", a * b),
                ("/", a // b if b and a % b == 0 else -1),
            ):
                if result >= 0:
                    step = (a, operator, b, result)
                    found += [(step, *later) for later in solutions((*rest, result))]
    return tuple(found)


def written(steps: tuple[Step, ...]) -> str:
    """Steps as text: ``86+28=114,31-13=18,114-18=96``."""
    return ",".join(f"{a}{operator}{b}={result}" for a, operator, b, result in steps)


def check_steps(numbers: tuple[int, ...], target: int, answer: str) -> bool:
    """Is every step right, every number used exactly once, and the last result the target?"""
    left = list(numbers)
    for text in answer.strip().split(","):
        step = STEP.fullmatch(text)
        if step is None:
            return False
        a, b, result = (int(step[group]) for group in (1, 3, 4))
        try:
            left.remove(a)
            left.remove(b)
        except ValueError:
            return False  # a number that is not there, or is used up
        right = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[step[2]]
        if right != result:
            return False
        left.append(result)
    return left == [target]


def contrasting(
    ways: Ways, prompt: Callable[[int], str], rng: random.Random, target: int | None = None
) -> Example | None:
    """Two targets that force different operators after the same first number, or None if these numbers have none.

    target: the first of the two, if it is not to be any.
    """
    forced = [
        (reached, first, operator, answer)
        for (reached, first), by_operator in ways.items()
        if len(by_operator) == 1
        for operator, answer in by_operator.items()
    ]
    rng.shuffle(forced)
    of_target = [one for one in forced if target in (None, one[0])]
    for reached, first, operator, answer in of_target[:20]:
        for reached_2, first_2, operator_2, distractor in forced:
            same_length = len(answer) == len(distractor) and len(str(reached)) == len(str(reached_2))
            if first == first_2 and operator != operator_2 and same_length:
                return Example(prompt(reached), answer, prompt(reached_2), distractor, str(first))
    return None


@dataclass(frozen=True)
class CountdownText(Task):
    """Countdown in the form that language models are tested on: numbers, then the target, then the steps.

    Clean      ``86,28,13,31,96:{}`` -> ``86+28=114,31-13=18,114-18=96`` (the last number, 96, is the target)
    Corrupted  the same numbers and another target, for which the first operator has to be another one

    Analysed: the first operator, after the first number, which is given. An exhaustive search makes sure that *every*
    solution of the clean target that begins with this number has the one operator, and every solution of the
    corrupted target the other. With one token a digit the text has as many tokens as characters.

    Held out by the numbers, whatever their order and target. The `count` numbers are 2 to `largest`, the
    target 1 to 99; results on the way are whole and not negative.
    """

    name: ClassVar[str] = "countdown-text"
    count: int = 4
    largest: int = 50

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        while True:
            numbers = tuple(rng.sample(range(2, self.largest + 1), self.count))
            example = self._example(numbers, rng)
            if example is not None:
                return example, ",".join(map(str, sorted(numbers)))

    def _example(self, numbers: tuple[int, ...], rng: random.Random) -> Example | None:
        ways: Ways = defaultdict(dict)
        for steps in solutions(numbers):
            first_number, operator, _, _ = steps[0]
            reached = steps[-1][3]
            if 1 <= reached <= 99 and operator not in (by_operator := ways[reached, first_number]):
                by_operator[operator] = written(steps)
        text = ",".join(map(str, numbers))
        return contrasting(ways, lambda target: f"{text},{target}:{SLOT}", rng)

    def check(self, example: Example, answer: str) -> bool:
        """Does the answer use every number once, compute rightly and reach the target?"""
        *numbers, target = map(int, example.clean.partition(":")[0].split(","))
        return check_steps(tuple(numbers), target, answer)
