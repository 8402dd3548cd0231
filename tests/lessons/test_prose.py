"""What can be checked of prose is checked, and the checks see what they are meant to see."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from pathlib import Path

import nbformat
import pytest

from mdmcourse.exercises.catalogue import exercises

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module")
def prose():
    spec = importlib.util.spec_from_file_location("prose", ROOT / "lessons" / "prose.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["prose"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_reads_well(prose, path: Path):
    found = prose.read(path)
    assert found.problems == []
    assert len(found.sentences) > 50


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("# A lesson\n\nThe ABC is read. " + "It works. " * 100, "ABC is not explained"),
        ("# A lesson\n\nA thing (ABC) is read, then an ABC.", None),
        ("# A lesson\n\nIOI (who gets it) is a task.", None),
        ("# A lesson\n\nThis is obviously so.", "says 'obviously'"),
        ("# A lesson\n\n### Deep\n\nToo deep.", "level 3 follows one of level 1"),
        ("## No title\n\nNone.", "one title"),
        ("# A lesson\n\n" + "word " * 70 + "end.", "71 words"),
        ("# A lesson\n\n```\n" + "word " * 70 + "\n```\n\nGood.", None),
    ],
)
def test_what_is_wrong_is_seen(prose, tmp_path: Path, source: str, problem: str | None):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)])
    nbformat.write(notebook, tmp_path / "99_x.ipynb")
    told = " ".join(prose.read(tmp_path / "99_x.ipynb").problems)
    assert (problem in told) if problem else not told


@pytest.mark.parametrize("path", LESSONS[1:], ids=lambda path: path.stem)
def test_a_lesson_takes_an_hour_and_a_half_at_most_and_says_so(prose, path: Path):
    reading, done, beyond = prose.read(path).minutes
    assert reading + done <= 90
    title = nbformat.read(path, as_version=4).cells[0].source
    assert f"\nAbout {5 * math.ceil((reading + done) / 5)} minutes of work" in title
    assert (f", and {beyond} more for the" in title) == (beyond > 0)


@pytest.mark.parametrize("path", LESSONS[1:], ids=lambda path: path.stem)
def test_the_heading_of_an_exercise_says_how_long_and_how_hard_it_is(path: Path):
    heading, found = "", {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            heading = next(iter(re.findall(r"^### Exercise .*$", cell.source, re.MULTILINE)), heading)
        elif name := re.search(r"@exercise\ndef (\w+)", cell.source):
            found[name[1]] = heading
    own = [each for each in exercises().values() if each.lesson == path.name[:2]]
    assert list(found) == [each.name for each in own]
    for number, each in enumerate(own, start=1):
        difficulty = ("easy", "medium", "hard")[each.difficulty - 1] + ", optional" * each.optional
        assert re.fullmatch(rf"### Exercise {number}: .+ \({each.minutes} minutes, {difficulty}\)", found[each.name])


def test_every_lesson_stands_in_the_table_of_run_times():
    table = (ROOT / "book" / "run_times.md").read_text(encoding="utf-8")
    assert all(path.name in table for path in LESSONS)
