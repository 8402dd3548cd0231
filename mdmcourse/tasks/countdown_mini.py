"""Countdown for a small real model: reach a number with three small ones."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from typing import ClassVar

from mdmcourse.tasks.countdown_text import Ways, contrasting
from mdmcourse.tasks.task import SLOT, Example, Task

EXPRESSION = re.compile(r"(\d+)([-+*])(\d+)([-+*])(\d+)")


def value(a: int, first: str, b: int, second: str, c: int) -> int:
    """What ``a first b second c`` comes to: products before sums, as everywhere."""
    apply = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    if second == "*" and first != "*":
        return apply[first](a, b * c)
    return apply[second](apply[first](a, b), c)


@dataclass(frozen=True)
class CountdownMini(Task):
    """Three numbers, a target, and an expression that reaches it with each number once.

    Clean      ``5,8,6=46:{}.`` -> ``8*5+6``
    Corrupted  the same numbers and another target, for which the first operator has to be another one

    Analysed: the first operator, after the first number, which is given. Every expression that begins with it and
    reaches the clean target has the one operator there, and every one that reaches the corrupted target the other.
    With one token a digit the text has as many tokens as characters. An example of which this cannot be said has itself
    as its corrupted text: it can be trained on and checked, and is left out of `prompts`.

    Of several answers one is shown, and all count as right.

    Held out by the numbers, whatever their order, together with the target. Numbers are 1 to `largest` and may be
    equal, targets 1 to 99, the operators + - *, products before sums.
    """

    name: ClassVar[str] = "countdown-mini"
    largest: int = 15

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        numbers = tuple(rng.randint(1, self.largest) for _ in range(3))
        operators: defaultdict[tuple[int, int], set[str]] = defaultdict(set)  # by target and first number
        shown: dict[int, tuple[int, str, str]] = {}  # by target: first number, first operator, the whole
        # Products first, then sums, then differences; larger numbers first. So of several answers always one is shown.
        for first, second in product("*+-", repeat=2):
            for a, b, c in permutations(sorted(numbers, reverse=True)):
                if 1 <= (reached := value(a, first, b, second, c)) <= 99:
                    operators[reached, a].add(first)
                    shown.setdefault(reached, (a, first, f"{a}{first}{b}{second}{c}"))
        ways: Ways = defaultdict(dict)
        for reached, (a, first, answer) in shown.items():
            if operators[reached, a] == {first}:
                ways[reached, a][first] = answer

        prompt = partial(self._prompt, numbers)
        target = rng.choice(sorted(shown))
        example = contrasting(ways, prompt, rng, target)
        if example is None:
            a, _, answer = shown[target]
            example = Example(prompt(target), answer, prompt(target), answer, str(a))
        return example, f"{sorted(numbers)}={target}"

    @staticmethod
    def _prompt(numbers: tuple[int, ...], target: int) -> str:
        return f"{','.join(map(str, numbers))}={target}:{SLOT}."

    def check(self, example: Example, answer: str) -> bool:
        """Does the answer use every number once and reach the target?"""
        numbers, _, rest = example.clean.partition("=")
        found = EXPRESSION.fullmatch(answer.strip())
        if found is None:
            return False
        a, first, b, second, c = found.groups()
        if sorted(numbers.split(",")) != sorted((a, b, c)):
            return False
        return value(int(a), first, int(b), second, int(c)) == int(rest.partition(":")[0])
