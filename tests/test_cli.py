"""The command line, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mdmcourse import doctor as doctor_module
from mdmcourse.cli import main
from mdmcourse.doctor import Check, Report, doctor
from mdmcourse.models import registry


def test_doctor_finds_nothing_wrong_here():
    report = doctor()
    assert report.ok, report
    assert {"python", "packages", "device", "cache", "checkpoints", "jupyterlab", "widgets"} <= {
        check.name for check in report.checks
    }


def test_doctor_speaks_json(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert all(set(check) == {"name", "status", "found", "do"} for check in report["checks"])


def test_doctor_names_a_cure_for_every_problem(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """An unwritable cache, damaged checkpoints, an old package and missing widgets, all at once."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("MDMCOURSE_CACHE", str(blocker / "cache"))
    monkeypatch.setattr(doctor_module, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(doctor_module.metadata, "requires", lambda name: ["torch>=99", "no-such-package>=1"])
    monkeypatch.setattr(doctor_module.sys, "prefix", str(tmp_path))
    report = doctor()
    problems = {check.name: check for check in report.checks if check.status == "problem"}
    assert not report.ok
    assert set(problems) == {"packages", "cache", "checkpoints", "widgets"}
    assert all(check.do for check in problems.values())
    assert "no-such-package is missing" in problems["packages"].found
    assert "PROBLEM" in repr(report)


def test_notes_are_no_problems():
    assert Report([Check("a", "ok", ""), Check("b", "note", "", "do this")]).ok


def test_doctor_exits_with_1_when_something_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(doctor_module, "doctor", lambda: Report([Check("a", "problem", "broken", "mend it")]))
    assert main(["doctor"]) == 1
    assert "mend it" in capsys.readouterr().out


def test_an_unknown_pair_is_an_error_without_a_traceback(capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "toy-chian"]) == 1
    error = capsys.readouterr().err
    assert "toy-chain" in error
    assert "Traceback" not in error


def test_python_m_mdmcourse_is_the_same_command():
    ran = subprocess.run([sys.executable, "-m", "mdmcourse", "pairs", "toy-chain"], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Shipped: seeds 0, 1, 2." in " ".join(ran.stdout.split())


def test_an_unknown_model_is_an_error_too(capsys: pytest.CaptureFixture[str]):
    assert main(["fetch", "smollm2"]) == 1
    assert "smollm2-135m" in capsys.readouterr().err


@pytest.mark.parametrize("pair", [name for name, about in registry()["pairs"].items() if about.get("seeds")])
def test_evaluate_prints_every_member_on_every_task(pair: str, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", pair, "--seed", "0", "--prompts", "20", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["pair"] == pair
    assert set(result["members"]) == {"arm", "mdm", "mdm-second-seed", "arm-trained-on", "attention-switched"}
    for tasks in result["members"].values():
        assert set(tasks) == set(registry()["pairs"][pair]["tasks"])
        assert all(row["prompts"] == 20 for row in tasks.values())


def test_evaluate_says_how_a_pair_that_is_not_shipped_comes_about(capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "toy-countdown-four"]) == 1
    assert "mdmcourse train-toys toy-countdown-four --seed 0" in capsys.readouterr().err


def test_evaluate_prints_a_table_too(capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "toy-chain", "--seed", "1", "--prompts", "20"]) == 0
    assert "arm-trained-on" in capsys.readouterr().out


def test_evaluate_measures_in_the_dtype_that_is_asked_for(capsys: pytest.CaptureFixture[str]):
    """A toy that is sure of its answers is right about as often in bfloat16."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        assert main(["evaluate", "toy-path", "--prompts", "40", "--dtype", dtype, "--json"]) == 0
        (result,) = json.loads(capsys.readouterr().out)
        assert result["dtype"] == dtype
        found[dtype] = result["members"]["mdm"]["path"]["first_token"]
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.1)


REFUSED = [["--prompts", "0"], ["--prompts", "-3"], ["--device", "gpu"], ["--dtype", "int8"]]


@pytest.mark.parametrize("arguments", REFUSED, ids=str)
def test_arguments_out_of_range_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "toy-chain", *arguments])
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["smollm2-135m", "toy-chian"])
def test_only_toys_are_trained_as_toys(pair: str, capsys: pytest.CaptureFixture[str]):
    assert main(["train-toys", pair]) == 1
    assert "toy-chain" in capsys.readouterr().err


def test_training_needs_a_thread(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["train-toys", "toy-chain", "--threads", "0"])
    assert "--threads" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error():
    command = [sys.executable, "-m", "mdmcourse.cli", "doctor"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
