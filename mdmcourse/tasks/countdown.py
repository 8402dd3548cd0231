"""Countdown for toys: choose the operators so that the sum comes out. A small planning task."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from mdmcourse.tasks.task import SLOT, Example, Task


@dataclass(frozen=True)
class Countdown(Task):
    """Put + or - between three numbers so that they make the target.

    Clean      ``7 4 2 : 5 = {}`` -> ``7 - 4 + 2``
    Corrupted  ``7 4 2 : 13 = {}`` -> ``7 + 4 + 2``: another target, the first operator changes

    Analysed: the first operator, which cannot be chosen without the second (answer -, distractor +); the first number
    is given. Encoding: <bos> is token 0, the numbers tokens 1 to 3, ``:`` token 4, the target token 5, ``=`` token 6,
    the answer tokens 7 to 11, the analysed operator token 8.

    Numbers are 1 to `largest`; the second and third differ, which makes the solution unique. Targets can be negative
    (``-3`` is one token). Held out by the three numbers in any order.
    """

    name: ClassVar[str] = "countdown"
    largest: int = 15

    def numbers(self, rng: random.Random) -> list[int]:
        """The numbers of an example, with which every target has one solution."""
        return [rng.randint(1, self.largest), *rng.sample(range(1, self.largest + 1), 2)]

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        numbers = self.numbers(rng)
        first, *signs = (rng.choice("+-") for _ in numbers[1:])
        other = "-" if first == "+" else "+"
        clean, answer = self._text(numbers, [first, *signs])
        corrupted, distractor = self._text(numbers, [other, *signs])
        key = " ".join(map(str, sorted(numbers)))
        return Example(clean, answer, corrupted, distractor, given=f" {numbers[0]}"), key

    @staticmethod
    def _text(numbers: list[int], signs: list[str]) -> tuple[str, str]:
        """The problem that these signs solve, and that answer."""
        first, *others = numbers
        answer = f" {first}" + "".join(f" {sign} {number}" for sign, number in zip(signs, others, strict=True))
        return f"{' '.join(map(str, numbers))} : {evaluate(answer)} ={SLOT}", answer

    def check(self, example: Example, answer: str) -> bool:
        """Are the numbers used in their order, and does the sum come out?"""
        return self.solves(example.clean, answer)

    @staticmethod
    def solves(problem: str, answer: str) -> bool:
        """Does `answer` solve a problem written as ``7 4 2 : 5 =``?"""
        numbers, _, rest = problem.partition(":")
        words = answer.split()
        given = numbers.split()
        if len(words) != 2 * len(given) - 1 or words[::2] != given or not set(words[1::2]) <= {"+", "-"}:
            return False
        return evaluate(answer) == int(rest.partition("=")[0])


def evaluate(expression: str) -> int:
    """The value of ``a o1 b o2 c ...``, words separated by spaces, operators + and -, from left to right."""
    first, *rest = expression.split()
    value = int(first)
    for operator, number in zip(rest[::2], rest[1::2], strict=True):
        value += int(number) if operator == "+" else -int(number)
    return value
