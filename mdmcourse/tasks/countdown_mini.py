"""Countdown for a small real model: reach a number with three digits."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import permutations, product
from typing import ClassVar

from mdmcourse.tasks.countdown_text import Ways, contrasting
from mdmcourse.tasks.task import SLOT, Example, Task

EXPRESSION = re.compile(r"(\d)([-+*])(\d)([-+*])(\d)")


def value(a: int, first: str, b: int, second: str, c: int) -> int:
    """What ``a first b second c`` comes to: products before sums, as everywhere."""
    apply = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    if second == "*" and first != "*":
        return apply[first](a, b * c)
    return apply[second](apply[first](a, b), c)


@dataclass(frozen=True)
class CountdownMini(Task):
    """Three digits, a target, and an expression that reaches it with each digit once.

    Clean      ``5,8,6=46:{}.`` -> ``8*5+6``
    Corrupted  the same digits and another target, for which the first operator has to be another one

    Analysed: the first operator, after the first digit, which is given. Every expression that begins with this digit
    and reaches the clean target has the one operator there, and every one that reaches the corrupted target the other.
    With one token a digit the text has as many tokens as characters. An example of which this cannot be said has itself
    as its corrupted text: it can be trained on and checked, and is left out of `prompts`.

    Of several answers one is shown, and all count as right.

    Held out by the digits, whatever their order, together with the target. Digits are 1 to 9 and may be equal, targets
    1 to 99, the operators + - *, products before sums.
    """

    name: ClassVar[str] = "countdown-mini"

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        digits = tuple(rng.randint(1, 9) for _ in range(3))
        operators: defaultdict[tuple[int, int], set[str]] = defaultdict(set)  # by target and first digit
        shown: dict[int, str] = {}  # by target
        # Products first, then sums, then differences; larger digits first. So of several answers always one is shown.
        for first, second in product("*+-", repeat=2):
            for a, b, c in permutations(sorted(digits, reverse=True)):
                if 1 <= (reached := value(a, first, b, second, c)) <= 99:
                    operators[reached, a].add(first)
                    shown.setdefault(reached, f"{a}{first}{b}{second}{c}")
        ways: Ways = defaultdict(dict)
        for reached, answer in shown.items():
            if operators[reached, int(answer[0])] == {answer[1]}:
                ways[reached, int(answer[0])][answer[1]] = answer

        def prompt(target: int) -> str:
            return f"{','.join(map(str, digits))}={target}:{SLOT}."

        target = rng.choice(sorted(shown))
        example = contrasting(ways, prompt, rng, target)
        if example is None:
            answer = shown[target]
            example = Example(prompt(target), answer, prompt(target), answer, answer[0])
        return example, f"{sorted(digits)}={target}"

    def check(self, example: Example, answer: str) -> bool:
        """Does the answer use every digit once and reach the target?"""
        digits, _, rest = example.clean.partition("=")
        found = EXPRESSION.fullmatch(answer.strip())
        if found is None:
            return False
        a, first, b, second, c = found.groups()
        if sorted(digits.split(",")) != sorted((a, b, c)):
            return False
        return value(int(a), first, int(b), second, int(c)) == int(rest.partition(":")[0])
