"""What can be checked of the lessons' prose: python lessons/prose.py

Sentences that are too long, abbreviations that are used before they are explained, words that tell readers that they
should have understood, headings out of order.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import nbformat

from mdmcourse.exercises.catalogue import exercises

LESSONS = Path(__file__).parent
LONGEST = 60  # words of one sentence
MEAN = 22  # words of a sentence, over a lesson
PACE = 110  # words a minute: half as fast as one reads a newspaper, for pictures, code and predictions take time too
NEVER = (
    "obviously",
    "trivially",
    "needless to say",
    "of course you",
    "simply put",
    "groundbreaking",
    "amazing",
    "game-chang",
)
# Everybody who can open a notebook knows these; all others, ARM and MDM among them, are explained in every lesson.
KNOWN = {"CPU", "GPU", "GB", "MB", "KB", "PNG", "JSON", "README", "AI", "OK", "ID", "MIT", "CC", "BY", "US", "ICML"}


@dataclass(frozen=True)
class Prose:
    """A lesson's running text.

    Attributes
    ----------
    sentences: without code, formulas, tables, headings and references.
    problems: what is wrong, each in a line.
    minutes: of work: for reading, for the exercises, and for those that are optional.
    """

    sentences: list[str]
    problems: list[str]
    minutes: tuple[int, int, int]

    @property
    def mean(self) -> float:
        return sum(len(sentence.split()) for sentence in self.sentences) / max(1, len(self.sentences))


def read(path: Path) -> Prose:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    sentences = [sentence for source in cells for sentence in sentences_of(source)]
    problems = [*headings(cells), *abbreviations(cells)]
    problems += [f"{len(s.split())} words: {s[:90]}..." for s in sentences if len(s.split()) > LONGEST]
    text = " ".join(sentences).lower()
    problems += [f"says {word!r}" for word in NEVER if word in text]
    found = Prose(sentences, problems, work(path, sentences))
    if found.mean > MEAN:
        found.problems.append(f"sentences have {found.mean:.1f} words on average")
    return found


def work(path: Path, sentences: list[str]) -> tuple[int, int, int]:
    """Minutes for reading a lesson, for its exercises, and for those that are optional."""
    own = [each for each in exercises().values() if each.lesson == path.name[:2]]
    done, beyond = (sum(each.minutes for each in own if each.optional == optional) for optional in (False, True))
    return math.ceil(sum(len(sentence.split()) for sentence in sentences) / PACE), done, beyond


def plain(source: str) -> str:
    """Text as it is read aloud: a formula is one word, a link its text."""
    source = re.split(r"^## Further reading", source, flags=re.MULTILINE)[0]
    source = re.sub(r"```.*?```|\$\$.*?\$\$", " FORMULA. ", source, flags=re.DOTALL)
    source = re.sub(r"\$[^$]+\$|`[^`]+`", "formula", source)
    source = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", source)
    return re.sub(r"[*_>|]", " ", source)


def sentences_of(source: str) -> Iterator[str]:
    """Sentences of paragraphs and of points of lists, each point being at least one."""
    paragraphs = re.split(
        r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", re.sub(r"^(?:#.*|\|.*)$", "", source, flags=re.MULTILINE)
    )
    for paragraph in paragraphs:
        for sentence in re.split(r"(?<=[.!?:;])\s+(?=[A-Z“\"(])", plain(paragraph)):
            if re.search(r"[a-z]", sentence):
                yield " ".join(sentence.split())


def headings(cells: list[str]) -> Iterator[str]:
    levels = [
        len(m[1])
        for source in cells
        for m in re.finditer(r"^(#+) ", re.sub(r"```.*?```", "", source, flags=re.DOTALL), re.MULTILINE)
    ]
    if levels.count(1) != 1 or levels[0] != 1:
        yield "a lesson has one title, and begins with it"
    yield from (f"a heading of level {b} follows one of level {a}" for a, b in pairwise(levels) if b > a + 1)


def abbreviations(cells: list[str]) -> Iterator[str]:
    """Words of capitals that stand before, or without, their explanation: "(ARM)", or "IOI (indirect ...)"."""
    text = " ".join(" ".join(plain(source) for source in cells).replace("FORMULA", "").split())
    for word in sorted(set(re.findall(r"\b[A-Z]{2,}s?\b", text))):
        short = word.rstrip("s")
        explained = re.search(rf"\({short}s?\)|\b{short}s?,? \(?[a-z\"]+-|\b{short}s? \([a-z\"]", text)
        first = re.search(rf"\b{short}s?\b", text)
        assert first is not None
        if short not in KNOWN and (explained is None or explained.start() > first.start() + 200):
            around = text[max(0, first.start() - 40) : first.end() + 20]
            yield f"{short} is not explained where it is first used: ...{around}..."


def main() -> int:
    wrong = 0
    for path in sorted(LESSONS.glob("[0-9][0-9]_*.ipynb")):
        found = read(path)
        longest = max(len(sentence.split()) for sentence in found.sentences)
        print(
            f"{path.stem:<45} {len(found.sentences):>4} sentences, {found.mean:.1f} words on average, "
            f"{longest} at most; " + "{} + {} minutes of work, {} optional".format(*found.minutes)
        )
        wrong += len(found.problems)
        for problem in found.problems:
            print(f"    {problem}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
