"""Every lesson runs with all exercises done, where each has to be right; blank, nbval runs it (see the Makefile)."""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from mdmcourse.exercises.catalogue import exercises
from tests.lessons.filled import exercise_in, filled

ROOT = Path(__file__).parents[2]
LESSONS = {path: nbformat.read(path, as_version=4) for path in sorted((ROOT / "lessons").glob("[0-9][0-9]_*.ipynb"))}


def asked(lesson: nbformat.NotebookNode) -> list[str]:
    cells = [cell.source for cell in lesson.cells if cell.cell_type == "code"]
    return [name for name in map(exercise_in, cells) if name]


WITH_EXERCISES = [path for path, lesson in LESSONS.items() if asked(lesson)]


def test_each_exercise_is_asked_for_once_and_in_its_lesson():
    for path, lesson in LESSONS.items():
        assert asked(lesson) == [each.name for each in exercises().values() if each.lesson == path.name[:2]]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_a_lesson_with_every_exercise_done(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MDMCOURSE_STRICT", "1")
    monkeypatch.setenv("MDMCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    lesson = filled(copy.deepcopy(LESSONS[path]))
    client = NotebookClient(lesson, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = "".join(
        output.text for cell in lesson.cells if cell.cell_type == "code" for output in cell.outputs if "text" in output
    )
    assert printed.count("Your function is used from here on.") == len(asked(lesson)) > 0
    assert "stands in" not in printed
    assert "drawn with the course's own" not in printed
