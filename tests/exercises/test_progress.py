"""Progress is kept whatever happens to its file; questions are asked once."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import assert_three_parts

from mdmcourse.errors import InputError
from mdmcourse.exercises import ask, predict, progress
from mdmcourse.exercises.catalogue import exercises
from mdmcourse.exercises.checks.lesson02 import BOUND_SAMPLE, FORWARD_MASK
from mdmcourse.exercises.exercise import Verdict
from mdmcourse.exercises.progress import bar, kept, record, record_answer, record_help
from mdmcourse.widgets.question import Question


def test_it_begins_empty_and_lists_every_exercise(progress_path: Path):
    found = progress()
    assert not progress_path.exists()
    assert found.done == 0
    assert [row["name"] for row in found.rows] == list(exercises())
    optional = [each for each in exercises().values() if each.optional]
    counted = len(exercises()) - len(optional)
    assert f"0 of {counted} exercises right, and 0 of {len(optional)} optional" in repr(found)
    assert f"0 of {counted} exercises right" in found._repr_html_()
    assert "<table>" in found._repr_html_()


def test_it_counts_what_was_done_and_helped_with():
    record(FORWARD_MASK, Verdict("right"))
    record(BOUND_SAMPLE, Verdict("wrong"))
    record_help("bound_sample", "hints", 2)
    record_help("bound_sample", "hints", 1)
    record_help("bound_sample", "solution")
    found = progress("02")
    rows = {row["name"]: row for row in found.rows}
    assert found.done == 1
    assert (rows["bound_sample"]["state"], rows["bound_sample"]["attempts"]) == ("wrong", 1)
    assert "2 hints, solution" in repr(found)


def test_what_is_optional_is_counted_apart():
    optional = next(each for each in exercises().values() if each.optional)
    before = progress(optional.lesson)
    assert before.counted == sum(not row["optional"] for row in before.rows) < len(before.rows)
    record(optional, Verdict("right"))
    after = progress(optional.lesson)
    assert (after.done, after.counted) == (before.done, before.counted)
    assert "and 1 of 1 optional" in str(after)
    assert [line.rstrip().endswith("optional") for line in repr(after).splitlines()[1:]] == [
        row["optional"] for row in after.rows
    ]


def test_a_teacher_gets_a_table(tmp_path: Path):
    record(FORWARD_MASK, Verdict("right"))
    path = progress().export(tmp_path / "out" / "mary.csv", learner="=Mary, the first")
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert rows[0]["learner"] == "'=Mary, the first"  # no formula
    assert {row["name"]: row["state"] for row in rows}["forward_mask"] == "right"


@pytest.mark.parametrize(
    "damage",
    [
        "", "{", "[]", '{"exercises": 1}', "\x00", '{"exercises": {"forward_mask": []}}', '{"exercises": []}',
        '{"exercises": {"forward_mask": {"state": "done", "attempts": 0}}}', '{"checks": {"a question": "yes"}}',
        '{"exercises": {"forward_mask": {"state": "right"}}}',
        '{"exercises": {"forward_mask": {"state": [], "attempts": 0}}}',
        '{"exercises": {"forward_mask": {"state": "to do", "attempts": 0, "hints": "all"}}}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_put_aside_and_said(damage: str, progress_path: Path, capsys: pytest.CaptureFixture[str]):
    progress_path.parent.mkdir(parents=True)
    progress_path.write_text(damage)
    record(FORWARD_MASK, Verdict("right"))
    assert "could not be read" in capsys.readouterr().out
    assert progress_path.with_suffix(".damaged.json").read_text() == damage
    assert progress("02").done == 1


@pytest.mark.parametrize("place", ["below a file", "where a folder is"])
def test_a_place_that_cannot_be_written_is_said_in_a_line_and_stops_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    path = tmp_path / ("folder" if place == "where a folder is" else "file/progress.json")
    if place == "where a folder is":
        monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setenv("MDMCOURSE_PROGRESS", str(path))
    record(FORWARD_MASK, Verdict("right"))
    said = capsys.readouterr().out.splitlines()
    assert "Your progress is not kept" in said[-1]
    assert len(said) == (2 if place == "where a folder is" else 1)
    assert progress("02").done == 0


def refuse(self: Path, target: Path) -> None:
    raise PermissionError("no")


def test_two_processes_at_once_lose_nothing(progress_path: Path):
    code = (
        "import sys; from mdmcourse.exercises.progress import record_answer\n"
        "for n in range(20): record_answer('predictions', sys.argv[1] + str(n), n, None)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [each.wait() for each in running] == [0, 0]
    assert len(json.loads(progress_path.read_text())["predictions"]) == 40


def test_a_lesson_without_exercises_is_refused():
    with pytest.raises(InputError) as caught:
        progress("99")
    assert_three_parts(caught.value, "99")


def test_the_bar():
    assert bar(0, 3, 6) == "······"
    assert bar(1, 3, 6) == "██····"
    assert bar(3, 3, 6) == "██████"
    assert bar(0, 0, 2) == "··"


# --- questions


def test_a_prediction_is_compared_with_what_came_out():
    guess = predict("Which is written last?", ["a number", "an operator"])
    assert guess.reveal("an operator") == "It is: an operator. (You made no prediction.)"
    assert kept() == {}
    guess.answer = 0
    assert guess.reveal("an operator") == "It is: an operator. You predicted: a number."
    assert kept()["predictions"]["Which is written last?"] == {"answer": "a number", "right": False}
    guess.answer = 1
    assert guess.reveal("an operator").endswith("As you predicted.")
    assert kept()["predictions"]["Which is written last?"]["right"] is False  # the first counts


def test_a_predicted_number_may_be_a_little_off():
    guess = predict("How many?", unit="nats")
    guess.answer = 2.0
    assert guess.reveal(2.3) == "It is: 2.3 nats. You predicted: 2 nats."
    other = predict("How many now?", unit="nats")
    other.answer = 2.0
    assert other.reveal(2.3, tolerance=0.5).endswith("As you predicted.")
    assert "1 as it turned out" in repr(progress())


def test_a_check_is_kept_when_it_is_answered():
    asked = ask("What does an MDM see?", ["what stands before", "all that is not masked"], right=1)
    asked.answer = 0
    assert kept()["checks"]["What does an MDM see?"] == {"answer": "what stands before", "right": False}


@pytest.mark.parametrize(
    "given",
    [
        {"question": " "},
        {"question": "a", "choices": ["one"]},
        {"question": "a", "choices": ["one", "one"]},
        {"question": "a", "choices": "one"},
        {"question": "a", "choices": ["one", "two"], "right": 2},
        {"question": "a", "choices": ["one", "two"], "right": True},
        {"question": "a", "right": 0},
        {"question": "a", "choices": ["one", "two"], "why": ["because"]},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(given: dict[str, Any]):
    with pytest.raises(InputError) as caught:
        Question(**given)
    assert_three_parts(caught.value)


def test_a_question_can_be_read_without_a_script():
    hostile = "<script>alert(1)</script>"
    bundle, _ = Question(hostile, [hostile, "b"], right=1)._repr_mimebundle_()
    assert "<script>" not in bundle["text/html"]
    assert hostile in bundle["text/plain"]
    assert "a number" in Question("How many?").as_text()


def test_answers_of_questions_are_kept_in_any_script():
    record_answer("predictions", "مرحبا 你好", "ä", True)
    assert kept()["predictions"]["مرحبا 你好"]["answer"] == "ä"
