"""What can be said of a lesson without running it; nbval runs it (see README)."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from pathlib import Path

import nbformat
import pytest

from mdmcourse.exercises.catalogue import find
from mdmcourse.exercises.exercise import Verdict, told
from mdmcourse.exercises.progress import progress

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(lesson: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in lesson.cells if cell.cell_type == "code"]


def test_there_are_lessons():
    assert LESSONS


def test_is_valid_and_small(lesson: nbformat.NotebookNode):
    nbformat.validate(lesson)
    assert len(nbformat.writes(lesson)) <= 1_500_000


def test_every_cell_was_run_and_none_failed(lesson: nbformat.NotebookNode):
    for cell in code_cells(lesson):
        assert cell.execution_count is not None, cell.source
        assert not [output for output in cell.outputs if output.output_type == "error"], cell.source


def test_outputs_belong_to_the_code_that_is_shown(lesson: nbformat.NotebookNode):
    code = "\0".join(cell.source for cell in code_cells(lesson))
    assert lesson.metadata["mdmcourse"]["outputs_of"] == hashlib.sha256(code.encode()).hexdigest(), "run `make lessons`"


def test_cells_that_are_checked_have_outputs(lesson: nbformat.NotebookNode):
    """nbval skips the check in silence where nothing is stored."""
    for cell in code_cells(lesson):
        if "NBVAL_CHECK_OUTPUT" in cell.source:
            assert cell.outputs, cell.source


def test_questions_do_not_show_their_answers_above_them(lesson: nbformat.NotebookNode):
    """In JupyterLab, and on the book's pages."""
    asked = [cell for cell in code_cells(lesson) if cell.source.startswith("ask(")]
    for cell in asked:
        assert cell.metadata.get("jupyter", {}).get("source_hidden"), cell.source
        assert "hide-input" in cell.metadata.get("tags", []), cell.source


def test_images_have_a_text_alternative(lesson: nbformat.NotebookNode):
    for cell in code_cells(lesson):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 30, cell.source


def test_has_a_moving_picture_with_its_state_and_asks_for_predictions(lesson: nbformat.NotebookNode):
    views = [
        output.data["application/vnd.jupyter.widget-view+json"]["model_id"]
        for cell in code_cells(lesson)
        for output in cell.outputs
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    ]
    state = lesson.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert views
    assert set(views) <= set(state)
    assert "**Predict.**" in "".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")


def test_stored_widgets_have_the_scripts_of_today(lesson: nbformat.NotebookNode):
    for each in lesson.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values():
        if name := each["state"].get("_anywidget_id"):
            module, _, kind = name.rpartition(".")
            widget = getattr(importlib.import_module(module), kind)
            same = [each["state"][what] == str(getattr(widget, what)) for what in ("_esm", "_css")]
            assert all(same), f"{name}: run `make lessons`"


def test_stored_exercises_are_to_do_and_say_what_is_said_today(
    lesson: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MDMCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    for cell in code_cells(lesson):
        if name := re.search(r"^@exercise\ndef (\w+)", cell.source, re.MULTILINE):
            assert [output.text for output in cell.outputs] == [told(find(name[1]), Verdict("to do")) + "\n"]
        elif number := re.fullmatch(r'progress\("(\d\d)"\)', cell.source):
            assert [output.data["text/plain"] for output in cell.outputs] == [repr(progress(number[1]))]


def test_nothing_of_the_machine_that_ran_it_is_stored(lesson: nbformat.NotebookNode):
    text = json.dumps(lesson)
    assert not re.findall(r"/(?:root|home|Users|tmp|work)/\w+", text)
    # A findall, not an "in": pytest would spend minutes on the difference of two texts of a megabyte. At least eight
    # digits: shorter runs are found by chance in the letters that pictures are stored in.
    assert not re.findall(r"0x[0-9a-f]{8,}", text)


def test_the_machine_that_ran_it_had_no_problem(lesson: nbformat.NotebookNode):
    assert not re.findall("PROBLEM.{0,80}", json.dumps(lesson))


# Differences and bounds that a reader forms from what is printed, numbers from further up, and thresholds of a plan.
NOT_PRINTED_NEARBY = {
    ("10", "shift-predict-text"), ("10", "noise-after"), ("10", "size-text"), ("10", "alike-text"),
    ("11", "number-after"), ("12", "study-after"),
}  # fmt: skip


@pytest.mark.parametrize("number", ["10", "11", "12"])
def test_numbers_in_the_text_were_printed_a_few_cells_before(number: str):
    """Results are measured anew now and then, and the sentences about them have to follow."""
    [path] = [path for path in LESSONS if path.name.startswith(number)]
    cells = nbformat.read(path, as_version=4).cells
    checked, wrong = 0, []
    for at, cell in enumerate(cells):
        if cell.cell_type != "markdown" or (number, cell.id) in NOT_PRINTED_NEARBY:
            continue
        of_all = "What you saw" in cell.source or "What could be wrong" in cell.source
        printed = numbers_in(cells if of_all else [each for each in cells[:at] if each.get("outputs")][-4:])
        text = re.sub(r"\[[^\]]*\]\([^)]*\)|arXiv [\d.]+|`[^`]*`|\$[^$]*\$", "", cell.source)
        for quoted in re.findall(r"(?<![\w.])\d*\.\d+(?!\w)", text):
            half = 0.501 * 10 ** -len(quoted.partition(".")[2])
            wrong += [] if any(abs(each - float(quoted)) <= half for each in printed) else [(cell.id, quoted)]
            checked += 1
    assert checked >= 5
    assert not wrong


def numbers_in(cells: list[nbformat.NotebookNode]) -> list[float]:
    """All that these cells print or display as text, without signs."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [output.get("text", "") for output in outputs]
    texts += [output.get("data", {}).get(kind, "") for output in outputs for kind in ("text/plain", "text/markdown")]
    return [float(number) for text in texts for number in re.findall(r"(?<![\w.])\d*\.?\d+", text)]
