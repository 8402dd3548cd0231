"""Countdown with four numbers: longer to write, and harder to plan."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from mdmcourse.tasks.countdown import Countdown


@dataclass(frozen=True)
class CountdownFour(Countdown):
    """Put + or - between four numbers so that they make the target: one of eight ways, in the place of one of four.

    Clean      ``7 4 2 9 : 14 = {}`` -> ``7 - 4 + 2 + 9``
    Corrupted  ``7 4 2 9 : 22 = {}`` -> ``7 + 4 + 2 + 9``

    Analysed: the first operator (answer -, distractor +); the first number is given. Encoding: <bos> is token 0, the
    numbers tokens 1 to 4, ``:`` token 5, the target token 6, ``=`` token 7, the answer tokens 8 to 14, the analysed
    operator token 9.

    Numbers are 1 to `largest`, so that every target is a word that toys know. Of the second to the fourth, two differ
    always, and no one is the sum of the other two, which makes the solution unique. Held out by the numbers in any
    order.
    """

    name: ClassVar[str] = "countdown-four"
    largest: int = 10

    def numbers(self, rng: random.Random) -> list[int]:
        a = rng.randint(1, self.largest)
        others = rng.sample(range(1, self.largest + 1), 3)
        while 2 * max(others) == sum(others):
            others = rng.sample(range(1, self.largest + 1), 3)
        return [a, *others]
