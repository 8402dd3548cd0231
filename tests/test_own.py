"""Pairs and tasks of one's own: known to every command, without a change to the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import assert_three_parts

from mdmcourse import get_task, load_pair
from mdmcourse.cli import main
from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.models import registry
from mdmcourse.models.checkpoint import save_model

TASK = '''
from mdmcourse.tasks import SLOT, Example, Task


class Echo(Task):
    """Say the first of two words again."""

    name = "echo"

    def draw(self, rng):
        one, two = rng.sample(range(20), 2)
        clean, corrupted = f"{one} {two} = {SLOT}", f"{two} {one} = {SLOT}"
        return Example(clean, f" {one}", corrupted, f" {two}"), str((one, two))

    def check(self, example, answer):
        return answer == example.answer
'''
PAIR = """
tasks = ["echo.py"]

[pairs.mine]
title = "A chain of my own"
directory = "models"
members = ["arm", "mdm"]
tasks = ["chain", "echo"]
seeds = [0]
"""
PLAN = """
title = "mine"
prompts = 4
steps = 1
share = 0.2
shares = [0.2]
resamples = 2

[[pairs]]
title = "mine"
pair = "mine"
local = "echo"

[findings.F]
claim = "It moves."
criteria = [{ task = "local", value = "overlap/mdm", at_least = 0.5, why = "as much as that" }]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    pair = load_pair("toy-chain")
    for member in ("arm", "mdm"):
        save_model(pair.members[member], tmp_path / "models" / "seed-0" / member)
    (tmp_path / "echo.py").write_text(TASK)
    (tmp_path / "own.toml").write_text(PAIR)
    (tmp_path / "plan.toml").write_text(PLAN)
    monkeypatch.setenv("MDMCOURSE_OWN", str(tmp_path / "own.toml"))
    monkeypatch.chdir(tmp_path)
    registry.cache_clear()
    yield tmp_path
    registry.cache_clear()


def test_every_command_knows_them(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pairs"]) == 0
    assert "A chain of my own" in capsys.readouterr().out
    assert main(["pairs", "mine"]) == 0
    assert "A pair of your own" in capsys.readouterr().out
    assert main(["evaluate", "mine", "--prompts", "6", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert set(found["members"]["mdm"]) == {"chain", "echo"}
    assert main(["circuits", "mine", "echo", "--prompts", "4", "--steps", "1", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["members"]) == {"arm", "mdm", "attention-switched"}
    assert main(["study", "plan.toml", "--runs", "runs"]) == 0
    assert main(["report", "plan.toml"]) == 0
    assert "It moves." in capsys.readouterr().out
    assert main(["doctor"]) == 0


def test_a_pair_of_ones_own_is_what_was_saved(own: Path) -> None:
    mine, theirs = load_pair("mine"), load_pair("toy-chain")
    prompts = get_task("echo").prompts(mine.arm.tokenizer, 4)
    assert mine.mdm.logits(prompts.clean).nan_to_num().equal(theirs.mdm.logits(prompts.clean).nan_to_num())
    assert mine.absent == {"mdm-second-seed": "it was not trained", "arm-trained-on": "it was not trained"}


def test_a_task_of_ones_own_can_be_asked_of_a_shipped_toy(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["circuits", "toy-path", "echo", "--prompts", "4", "--steps", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "echo"
    assert main(["circuits", "toy-path", "countdown", "--prompts", "4"]) == 1
    assert "was not trained on countdown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('title = "A', 'tilte = "A'), "title"),
        (("seeds = [0]", 'seeds = "0"'), "seeds"),
        (("[pairs.mine]", "[pairs.toy-chain]"), "toy-chain"),
        (("[pairs.mine]", "[piars.mine]"), "could not be read"),
        (("[pairs.mine]", "[pairs.mine"), "could not be read"),
        (("echo.py", "ehco.py"), "ehco.py is not there"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(own: Path, change: tuple[str, str], words: str) -> None:
    (own / "own.toml").write_text(PAIR.replace(*change))
    with pytest.raises(InputError, match=words) as error:
        get_task("echo") and load_pair("mine")
    assert_three_parts(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [(("class Echo", "1 / 0\nclass Echo"), "ZeroDivisionError"), (('"echo"', '"ioi"'), "ioi")],
)
def test_files_with_tasks_that_fail_or_take_a_name_are_told(own: Path, change: tuple[str, str], words: str) -> None:
    (own / "echo.py").write_text(TASK.replace(*change))
    with pytest.raises(InputError, match=words) as error:
        get_task("echo")
    assert_three_parts(error.value)


def test_a_missing_file_is_told(own: Path) -> None:
    (own / "own.toml").unlink()
    with pytest.raises(InputError, match="MDMCOURSE_OWN"):
        load_pair("toy-chain")


def test_without_it_they_are_unknown(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MDMCOURSE_OWN")
    registry.cache_clear()
    with pytest.raises(UnknownNameError, match="mine"):
        load_pair("mine")
    with pytest.raises(UnknownNameError, match="echo"):
        get_task("echo")
