"""Indirect object identification (Wang et al., arXiv 2211.00593): a task with a local, causal answer."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mdmcourse.errors import InputError
from mdmcourse.tasks.task import SLOT, Example, Task

NAMES = (
    "Mary", "John", "Alice", "Bob", "Tom", "Anna", "James", "Sarah", "Paul", "Laura",
    "Mark", "Emma", "David", "Kate", "Peter", "Jane", "Simon", "Lisa", "Adam", "Rose",
)  # fmt: skip
PLACES = ("store", "park", "school", "office", "station", "garden")
OBJECTS = ("drink", "ring", "book", "ball", "letter", "key")
# Every template has the same number of words, so that a word-level tokenizer gives them equal lengths.
TEMPLATES = (
    "When {A} and {B} went to the {place}, {S} gave a {object} to{answer}",
    "After {A} and {B} went to the {place}, {S} handed a {object} to{answer}",
    "While {A} and {B} stayed at the {place}, {S} gave a {object} to{answer}",
    "Once {A} and {B} arrived at the {place}, {S} passed a {object} to{answer}",
)
REVERSED_TEMPLATES = (
    "Then {S} gave a {object} to{answer} when {A} and {B} went to the {place}.",
    "Then {S} handed a {object} to{answer} after {A} and {B} went to the {place}.",
    "Then {S} gave a {object} to{answer} while {A} and {B} stayed at the {place}.",
    "Then {S} passed a {object} to{answer} once {A} and {B} arrived at the {place}.",
)


@dataclass(frozen=True)
class IOI(Task):
    """Two people are named; one gives something to ... the other.

    Clean      ``When Mary and John went to the store, John gave a drink to`` -> ``Mary``
    Corrupted  ``When Mary and John went to the store, Paul gave a drink to``: nothing decides between the two.

    Answer: the indirect object (Mary). Distractor: the subject (John). With a word-level tokenizer, position by
    position (16 tokens; the analysed token is number 15)::

        0     1    2    3   4    5    6  7   8     9 10   11   12 13    14 15
        <bos> When Mary and John went to the store ,  John gave a  drink to <mask>

    `names` are filtered to those that are one token each. The change is the "ABC" corruption of circuit studies.
    """

    name: ClassVar[str] = "ioi"
    templates: ClassVar[tuple[str, ...]] = TEMPLATES
    names: tuple[str, ...] = NAMES

    def for_tokenizer(self, tokenizer: Any) -> IOI:
        unknown = tokenizer.unk_token_id
        kept = []
        for name in self.names:
            ids = tokenizer(" " + name, add_special_tokens=False).input_ids
            if len(ids) == 1 and ids[0] != unknown:
                kept.append(name)
        if len(kept) < 3:
            raise InputError(
                f"The tokenizer writes only {len(kept)} of {len(self.names)} names as one token.",
                "An example needs three names of one token each.",
                "Give other names: IOI(names=(...)).",
            )
        return replace(self, names=tuple(kept))

    def draw(self, rng: random.Random) -> tuple[Example, str]:
        a, b, other = rng.sample(self.names, 3)
        subject, indirect_object = rng.sample((a, b), 2)
        template = rng.choice(self.templates)
        words = {"A": a, "B": b, "place": rng.choice(PLACES), "object": rng.choice(OBJECTS), "answer": SLOT}
        clean = template.format(S=subject, **words)
        corrupted = template.format(S=other, **words)
        return Example(clean, f" {indirect_object}", corrupted, f" {subject}"), clean

    def check(self, example: Example, answer: str) -> bool:
        """Is the first word the indirect object?"""
        return answer.split()[:1] == example.answer.split()


@dataclass(frozen=True)
class ReversedIOI(IOI):
    """IOI with the clue after the answer: no model that reads from left to right can know it.

    Clean      ``Then John gave a drink to {} when Mary and John went to the store.`` -> ``Mary``
    Corrupted  ``Then Paul gave a drink to {} when Mary and John went to the store.``

    The answer is token 7 with a word-level tokenizer (<bos> is token 0); an ARM sees only what is before it.
    """

    name: ClassVar[str] = "ioi-reversed"
    templates: ClassVar[tuple[str, ...]] = REVERSED_TEMPLATES
