"""Chain: an answer whose first token needs the whole prompt, and every later one only its neighbour."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from mdmcourse.tasks.task import SLOT, Example, Task, held_out


def chain_answer(x: tuple[int, ...]) -> tuple[int, ...]:
    """y from x: y_n = x_n, and from right to left y_i = (x_i + y_{i+1}) mod 10."""
    y = [x[-1]]
    for digit in reversed(x[:-1]):
        y.append((digit + y[-1]) % 10)
    return tuple(reversed(y))


@dataclass(frozen=True)
class Chain(Task):
    """Running sums modulo 10, from the right.

    Clean      ``4 7 1 9 3 = {}`` -> ``4 0 3 2 3``: y5 = x5 = 3, y4 = 9 + 3 = 2 (mod 10), ..., y1 = 4 + 0 = 4
    Corrupted  ``4 7 6 9 3 = {}`` -> ``9 5 8 2 3``: one digit differs

    Analysed: y1, which needs all of x (answer 4, distractor 9). Encoding: <bos> is token 0, x tokens 1 to 5, ``=`` is
    token 6, y tokens 7 to 11. Written from right to left every step needs two digits; written from left to right the
    first needs five. Training with the right answer in view never asks for that first one on its own ("Clever Hans",
    Bachmann and Nagarajan, arXiv 2403.06963).

    Held out by x, so that no x-tuple of the test split was trained on; the corrupted x is held out too.
    """

    name: ClassVar[str] = "chain"
    length: int = 5

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        while True:
            x = tuple(rng.randrange(10) for _ in range(self.length))
            place, shift = rng.randrange(self.length), rng.randrange(1, 10)
            changed = (*x[:place], (x[place] + shift) % 10, *x[place + 1 :])
            clean, corrupted = self._words(x), self._words(changed)
            if held_out(corrupted) == held_out(clean):
                break
        example = Example(
            clean=f"{clean} ={SLOT}",
            answer=f" {self._words(chain_answer(x))}",
            corrupted=f"{corrupted} ={SLOT}",
            distractor=f" {self._words(chain_answer(changed))}",
        )
        return example, clean

    def check(self, example: Example, answer: str) -> bool:
        """Is every digit right?"""
        x = tuple(int(word) for word in example.clean.partition("=")[0].split())
        return answer.split() == self._words(chain_answer(x)).split()

    @staticmethod
    def _words(digits: tuple[int, ...]) -> str:
        return " ".join(map(str, digits))
