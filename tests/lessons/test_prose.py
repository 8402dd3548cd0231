"""What can be checked of prose is checked, and the checks see what they are meant to see."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest

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


def test_every_lesson_stands_in_the_table_of_run_times():
    table = (ROOT / "book" / "run_times.md").read_text(encoding="utf-8")
    assert all(path.name in table for path in LESSONS)
