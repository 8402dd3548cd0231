"""Training a toy pair: which members, from which weights."""

import re
import shutil

import pytest
import torch

from mdmcourse.cli import main
from mdmcourse.diffusion.forward import sample_t
from mdmcourse.diffusion.training import TrainLog
from mdmcourse.errors import CheckpointError
from mdmcourse.models import load_pair, pairs
from mdmcourse.models.checkpoint import read_about
from mdmcourse.models.pairs import TOY_MEMBERS, pair_directory
from mdmcourse.study import toys
from mdmcourse.study.toys import Recipe, train_toys

TASKS = {"ioi": 20, "countdown": 20}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of a step or two, from the ARM that is shipped."""
    monkeypatch.setitem(toys.RECIPES, "toy-countdown", Recipe(TASKS, layers=8, arm_steps=1, mdm_steps=1))
    for name, steps in (("toy-countdown-longer", 2), ("toy-countdown-all-masked", 1)):
        recipe = Recipe(TASKS, layers=8, arm_steps=0, mdm_steps=steps, arm_of="toy-countdown")
        monkeypatch.setitem(toys.RECIPES, name, recipe)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("name", "shared"), [("toy-countdown-longer", False), ("toy-countdown-all-masked", True)])
def test_a_variant_starts_from_the_arm_of_another_pair(tmp_path, monkeypatch, name: str, shared: bool):
    shipped = pair_directory("toy-countdown", 1)
    out = tmp_path / "checkpoints" / "toy" / name.removeprefix("toy-") / "seed-1"
    train_toys(name, 1, out, runs=tmp_path / "runs", progress=False)

    def same(member: str) -> bool:
        one, other = ((folder / member / "model.safetensors").read_bytes() for folder in (out, shipped))
        return one == other

    assert same("arm")
    # A control that would be trained in the same way is not trained again.
    assert same("arm-trained-on") == shared
    monkeypatch.setattr(pairs, "data_dir", lambda: tmp_path)
    pair = load_pair(name, 1)
    assert list(pair.members) == ["arm", "mdm", "arm-trained-on", "attention-switched"]
    assert "mdm-second-seed" in pair.absent
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.usefixtures("short")
def test_what_is_there_is_kept(tmp_path):
    train_toys("toy-countdown", 0, tmp_path, runs=tmp_path / "runs", members=["arm"], progress=False)
    before = (tmp_path / "arm" / "model.safetensors").stat().st_mtime_ns
    train_toys("toy-countdown", 0, tmp_path, runs=tmp_path / "runs", progress=False)
    assert (tmp_path / "arm" / "model.safetensors").stat().st_mtime_ns == before
    assert {path.name for path in tmp_path.iterdir()} == {"arm", "mdm", "mdm-second-seed", "arm-trained-on", "runs"}


def test_all_masked_is_all_masked():
    assert (sample_t(64, torch.Generator().manual_seed(0), t_min=1.0) == 1).all()
    assert toys.RECIPES["toy-countdown-all-masked"].t_min == 1


def test_a_training_ends_at_the_target_accuracy_and_the_control_where_the_mdm_ended(tmp_path, monkeypatch):
    recipe = Recipe(TASKS, layers=1, arm_steps=300, mdm_steps=300, target=0.5)
    monkeypatch.setitem(toys.RECIPES, "toy-countdown-target", recipe)
    # The ARM is good enough at 200 steps, the MDM at 300; the ARM trained on would be at once.
    enough = {"arm": iter([0.4, 0.5]), "mdm": iter([0.4, 0.4, 1.0]), "arm-trained-on": iter([1.0, 1.0, 1.0])}

    def train_member(model, sequences, recipe, config, **options):
        log = TrainLog(config)
        for step in range(100, config.steps + 1, 100):
            good = next(enough[TOY_MEMBERS[config.seed]])
            log.rows.append({"step": step, "loss": 0.0, "seconds": 0.0, "ioi": 1.0, "countdown": good})
            if options["until"](log.rows[-1]):
                break
        options["checkpoint"].parent.mkdir(exist_ok=True)
        options["checkpoint"].touch()
        return log

    monkeypatch.setattr(toys, "train_member", train_member)
    train_toys("toy-countdown-target", 0, tmp_path, runs=tmp_path / "runs", progress=False)
    ends = {
        member: read_about(tmp_path / member)["training"]["log"][-1]["step"]
        for member in ("arm", "mdm", "arm-trained-on")
    }
    assert ends == {"arm": 200, "mdm": 300, "arm-trained-on": 300}


def test_the_control_of_a_pair_with_a_target_is_not_trained_before_its_mdm(tmp_path):
    shutil.copytree(pair_directory("toy-countdown", 0) / "arm", tmp_path / "arm")
    members = ["arm-trained-on"]
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "mdm"))):
        train_toys("toy-countdown-target", 0, tmp_path, runs=tmp_path / "runs", members=members, progress=False)


def test_the_command_says_that_it_trained_nothing(tmp_path, capsys):
    """Else one would believe that the shipped weights were reproduced."""
    shutil.copytree(pair_directory("toy-chain", 0), tmp_path / "mine")
    assert main(["train-toys", "toy-chain", "--out", str(tmp_path / "mine"), "--runs", str(tmp_path / "runs")]) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(tmp_path / "mine")
    assert all(member in told.err for member in ("not trained", "arm, mdm", "--out"))
