"""A plan rehearsed on made-up results; and a study of a task that somebody added."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mdmcourse.errors import UnknownNameError
from mdmcourse.study.plan import Criterion, Finding, Group, StudyPlan, load_plan
from mdmcourse.study.rehearsal import imagined, rehearse
from mdmcourse.study.run import run_study
from mdmcourse.tasks import TASKS, Chain

MORE = Criterion("global", "overlap/mdms - overlap/arm-trained-on", "", at_least=0.1)
LESS = Criterion("global - local", "overlap/mdms - overlap/arm-trained-on", "", at_most=-0.1)
CROSS = Criterion("global", "cross/mdms - cross/arm-trained-on", "", at_most=-0.1)
MISSPELT = Criterion("global", "overlp/mdms", "", at_most=-0.1)


def plan(*criteria, seeds=(3, 4, 5)):
    group = Group("two tasks", "toy-chain", seeds, "ioi", "chain")
    return StudyPlan("planned", "a plan", (group,), (Finding("F", "a claim", criteria),), share=0.2)


def states(study, difference, **options):
    (verdict,) = rehearse(study, difference, **options)
    return [judged.state for judged in verdict.criteria]


def test_a_difference_is_met_or_contradicted_and_none_is_neither():
    assert states(plan(MORE, LESS), 0.3) == ["met", "contradicted"]
    assert states(plan(MORE, LESS), -0.3) == ["contradicted", "met"]
    assert "met" not in states(plan(MORE, LESS), 0.0)


def test_what_a_plan_says_wrongly_comes_out():
    assert states(plan(MISSPELT), 0.3) == ["not measured"]
    without = plan(MORE)
    without = replace(without, groups=(replace(without.groups[0], global_=None),))
    assert states(without, 0.3) == ["not measured"]


def test_with_one_arm_intervals_are_over_prompts():
    found = rehearse(plan(MORE, CROSS, seeds=(0,)), -0.5)
    assert [(judged.state, judged.over) for judged in found[0].criteria] == [
        ("contradicted", "prompts"), ("met", "prompts")
    ]  # fmt: skip
    assert states(plan(CROSS, seeds=(0,)), -0.5, spread=0.5) == ["open"]
    assert states(plan(CROSS), -0.5) == ["met"]


def test_arms_differ_by_the_given_spread_around_the_given_difference():
    (verdict,) = rehearse(plan(MORE, seeds=tuple(range(6))), 0.25, spread=0.05)
    (judged,) = verdict.criteria
    values = list(judged.each.values())
    assert math.isclose(judged.mean, 0.25)
    assert math.isclose(math.sqrt(sum((x - 0.25) ** 2 for x in values) / 5), 0.05)


def test_every_unit_of_the_toys_plan_can_be_imagined():
    study = load_plan("toys")
    assert len(imagined(study, 0.1)["units"]) == len(study.units)
    assert not [
        judged for verdict in rehearse(study, 0.1) for judged in verdict.criteria if judged.state == "not measured"
    ]


class ShortSums(Chain):
    """The chain task under another name."""

    name = "short-sums"


def test_a_task_that_was_added_can_be_planned_and_run(tmp_path, monkeypatch):
    text = """
title = "an own task"
prompts = 4
steps = 1
share = 0.2
shares = [0.2]
resamples = 2

[[pairs]]
title = "chain"
pair = "toy-chain"
seeds = [0]
global = "short-sums"
"""
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UnknownNameError, match="short-sums"):
        load_plan(tmp_path / "own.toml")
    monkeypatch.setitem(TASKS, ShortSums.name, ShortSums)
    study = load_plan(tmp_path / "own.toml")
    file = run_study(study, runs=tmp_path / "runs", out=tmp_path / "own.json")
    assert '"task": "short-sums"' in file.read_text(encoding="utf-8")
