"""Checks accept what is right, however it is written, and reject what is wrong, by the property meant for it."""

from __future__ import annotations

import importlib
import inspect
import os
from typing import Any

import pytest

from mdmcourse.exercises.catalogue import exercises
from mdmcourse.exercises.checks.tools import numbers
from mdmcourse.exercises.exercise import Exercise, check
from mdmcourse.exercises.limits import undisturbed

ALL = list(exercises().values())


def answers_of(lesson: str) -> Any:
    return importlib.import_module(f"tests.exercises.answers_lesson{lesson}")


WRONG = [(each, name) for each in ALL for name in answers_of(each.lesson).WRONG[each.name]]
RIGHT = [(each, name) for each in ALL for name in answers_of(each.lesson).RIGHT[each.name]]


def named(value: Any) -> str:
    return value.name if isinstance(value, Exercise) else str(value)


# Every push tries 40; `MDMCOURSE_SEEDS=200 make test ARGS=tests/exercises/test_checks.py` whoever changes a check.
SEEDS = int(os.environ.get("MDMCOURSE_SEEDS", 40))


@pytest.mark.timeout(30 * SEEDS)
@pytest.mark.parametrize("task", ALL, ids=named)
def test_the_course_s_own_answer_is_right_for_all_seeds(task: Exercise):
    for seed in range(SEEDS):
        verdict = check(task, task.reference, seed)
        assert verdict.state == "right", (seed, verdict)


@pytest.mark.parametrize(("task", "name"), RIGHT, ids=named)
def test_right_answers_written_otherwise_are_accepted(task: Exercise, name: str):
    answer = answers_of(task.lesson).RIGHT[task.name][name]
    for seed in range(3):
        verdict = check(task, answer, seed)
        assert verdict.state == "right", (seed, verdict)


@pytest.mark.parametrize(("task", "name"), WRONG, ids=named)
def test_wrong_answers_are_rejected_by_the_property_meant_for_them(task: Exercise, name: str):
    answer, meant = answers_of(task.lesson).WRONG[task.name][name]
    for seed in range(5):
        verdict = check(task, answer, seed)
        assert verdict.state == "wrong", seed
        assert verdict.failed is not None
        assert verdict.failed.name == meant, (seed, verdict.seen)
        assert verdict.seen


@pytest.mark.parametrize("task", ALL, ids=named)
def test_every_exercise_is_complete(task: Exercise):
    answers = answers_of(task.lesson)
    assert len(answers.WRONG[task.name]) >= 6
    assert answers.RIGHT[task.name]
    meant = {name for _, name in answers.WRONG[task.name].values()}
    properties = [each.name for each in task.properties]
    assert meant <= set(properties)
    assert len(set(properties)) == len(properties)
    assert all(each.mistake.strip() for each in task.properties)
    assert len(set(task.hints)) == 3
    assert 1 <= task.minutes <= 30
    assert task.difficulty in (1, 2, 3)
    assert inspect.getdoc(task.reference)


@pytest.mark.parametrize("task", ALL, ids=named)
def test_a_check_leaves_random_numbers_as_they_were(task: Exercise):
    import torch

    torch.manual_seed(7)
    check(task, task.reference)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))


def test_numbers_lie_between_their_ends():
    with undisturbed():
        found = numbers(1000, seed=1, low=2.0, high=5.0)
    assert 2 <= found.min() < 2.1
    assert 4.9 < found.max() <= 5
