"""Greater-than (Hanna et al., arXiv 2305.00586): a year that has to come after another."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from mdmcourse.tasks.task import SLOT, Example, Task

NOUNS = ("war", "trial", "strike", "journey", "project", "siege", "famine", "voyage")


@dataclass(frozen=True)
class GreaterThan(Task):
    """Something lasted from one year to another of the same century.

    Clean      ``The war lasted from the year 1732 to the year 17{}`` -> ``58``
    Corrupted  ``The war lasted from the year 1701 to the year 17{}``: now nearly every ending would do

    Answer: an ending whose first digit is larger (5 > 3); distractor: one whose first digit is smaller (``21``). So the
    same example serves a tokenizer with one token a digit (SmolLM2, Qwen: the analysed token is the digit 5) and one
    with a token for two digits (GPT-2: the token 58). Word-level toy tokenizers cannot write years.
    """

    name: ClassVar[str] = "greater-than"

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        century, tens, ones = rng.randint(11, 19), rng.randint(2, 7), rng.randrange(10)
        text = f"The {rng.choice(NOUNS)} lasted from the year {century}{{start}} to the year {century}{SLOT}"
        clean = text.replace("{start}", f"{tens}{ones}")
        answer = f"{rng.randint(tens + 1, 9)}{rng.randrange(10)}"
        distractor = f"{rng.randint(0, tens - 1)}{rng.randrange(10)}"
        return Example(clean, answer, text.replace("{start}", "01"), distractor), clean

    def check(self, example: Example, answer: str) -> bool:
        """Does the text go on with two digits that make a later year?"""
        words = example.clean.split()
        start = words[words.index("to") - 1]
        ending = answer.strip()[:2]
        return len(ending) == 2 and ending.isdecimal() and int(ending) > int(start[2:])
