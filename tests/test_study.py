"""A study: plans that cannot be measured are refused, what is measured is right, and a killed run ends the same."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import without_shape_checks

from mdmcourse import get_task, load_pair
from mdmcourse.circuits import Circuit, Graph, attribute, run_circuit
from mdmcourse.circuits.comparison import chance_overlap
from mdmcourse.cli import main
from mdmcourse.errors import CheckpointError, InputError, UnknownNameError
from mdmcourse.lens import direct_attribution, linear_cka, residual_stream
from mdmcourse.paths import data_dir
from mdmcourse.study.plan import VERDICTS, Criterion, Finding, Group, StudyPlan, load_plan
from mdmcourse.study.report import as_markdown, criteria_figure, overlap_figure
from mdmcourse.study.run import hash_of, load_results, results_file, results_of, run_study
from mdmcourse.study.unit import STATISTICS, WHOM, Material, _functional, measure
from mdmcourse.study.verdicts import T_800, T_975, judge_criterion, verdicts
from mdmcourse.tasks import IOI

RUN = sys.modules[run_study.__module__]
PLAN = """
title = "a small study"
prompts = 4
steps = 2
share = 0.2
shares = [0.1, 0.2]
resamples = 4

[[pairs]]
title = "chain"
pair = "toy-chain"
seeds = [0, 1]
local = "ioi"
global = "chain"

[findings.F1]
claim = "The MDM keeps the circuit."
criteria = [
    { task = "local", value = "overlap/mdms - overlap/arm-trained-on", at_least = -0.9, why = "hardly fewer edges" },
    { task = "global", value = "likeness_masked/attention-switched", at_least = 0.5, why = "never measured" },
]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small study that ran through: its plan's file, its results' file."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.toml").write_text(PLAN, encoding="utf-8")
    plan = load_plan(folder / "small.toml")
    said: list[str] = []
    file = run_study(plan, runs=folder / "runs", out=folder / "results.json", say=said.append)
    assert len(said) == 4
    return folder / "small.toml", file


def without_time(file: Path) -> dict:
    results = json.loads(file.read_text(encoding="utf-8"))
    for unit in results["units"]:
        del unit["seconds"]
    return results


def test_statistics_are_what_they_say(study):
    plan, results = load_plan(study[0]), json.loads(study[1].read_text())
    unit = next(each for each in results["units"] if (each["seed"], each["task"]) == (1, "ioi"))
    found, pair = unit["statistics"], load_pair("toy-chain", 1)
    drawn = get_task("ioi").prompts(pair.arm.tokenizer, 12)
    halves, tested = [drawn.select(slice(0, 4)), drawn.select(slice(4, 8))], drawn.select(slice(8, 12))
    arm, mdm = ([attribute(model, half, steps=2) for half in halves] for model in (pair.arm, pair.mdm))
    k = round(plan.share * arm[0].graph.n_edges)

    def overlap(one, two):
        a, b = (Circuit.top(scores, k, prune=False).edges for scores in (one, two))
        return float((a & b).sum() / (a | b).sum())

    assert math.isclose(found["overlap/arm"], overlap(arm[0], arm[1]), rel_tol=1e-4)
    crossed = (overlap(arm[0], mdm[1]) + overlap(arm[1], mdm[0])) / 2
    assert math.isclose(found["overlap/mdm"], crossed, rel_tol=1e-4)
    assert math.isclose(
        found["overlap/mdms"], (found["overlap/mdm"] + found["overlap/mdm-second-seed"]) / 2, rel_tol=1e-4
    )
    assert math.isclose(found["chance/edges"], chance_overlap(k, arm[0].graph.n_edges), rel_tol=1e-4)

    whole = attribute(pair.arm, drawn.select(slice(0, 8)), steps=2)
    circuit = Circuit.top(whole, k)
    kept, full, none = (
        float(run_circuit(pair.mdm, tested, each).mean())
        for each in (circuit, Circuit.full(circuit.graph), Circuit.empty(circuit.graph))
    )
    assert math.isclose(found["cross/mdm"], (kept - none) / (full - none), rel_tol=1e-3)

    masked = tested.clean == pair.mdm.mask_id
    streams = [residual_stream(model, tested.clean)[1:] for model in (pair.arm, pair.mdm)]
    alike = statistics.mean(linear_cka(x[~masked], y[~masked]) for x, y in zip(*streams, strict=True))
    assert math.isclose(found["cka_revealed/mdm"], alike, rel_tol=1e-4)


def test_every_statistic_of_a_model_has_an_interval_over_prompts(study):
    unit = json.loads(study[1].read_text())["units"][0]
    over_prompts = {name for name in unit["statistics"] if not name.endswith("/edges")}
    sums = {criterion.value for finding in load_plan(study[0]).findings for criterion in finding.criteria}
    assert over_prompts < set(unit["intervals"]) <= over_prompts | sums
    assert all(low <= high for low, high in unit["intervals"].values())


def test_a_sum_has_the_interval_of_its_terms_on_the_same_draws():
    """What varies alike in both terms goes out."""
    pair = load_pair("toy-chain")
    members = {"arm": pair.arm, "mdm": pair.mdm, "mdm-second-seed": pair.controls["mdm-second-seed"]}
    drawn = get_task("ioi").prompts(pair.arm.tokenizer, 24, mask_id=pair.mdm.mask_id)
    found_on, tested_on = drawn.select(slice(0, 16)), drawn.select(slice(16, 24))
    scores = {name: attribute(model, found_on, steps=1, keep_prompts=True) for name, model in members.items()}
    sums = {
        "nothing": [(1, "cross/mdm"), (-1, "cross/mdm")],
        "twice": [(1, "overlap/mdm"), (1, "overlap/mdm")],
        "back": [(1, "overlap/mdms"), (1, "overlap/mdms"), (-1, "overlap/mdm")],
        "unknown": [(1, "overlap/mdm"), (1, "overlap/nobody")],
    }
    intervals = measure(
        Material(members, scores, found_on, tested_on), share=0.2, shares=(0.2,), resamples=20, seed=0, sums=sums
    )["intervals"]
    low, high = intervals["overlap/mdm"]
    assert low < high
    assert intervals["nothing"] == [0.0, 0.0]
    assert intervals["twice"] == pytest.approx([2 * low, 2 * high])
    assert intervals["back"] == pytest.approx(intervals["overlap/mdm-second-seed"])  # two MDMs, and one taken away
    assert "unknown" not in intervals


def test_what_is_run_is_resampled_as_if_prompts_were_repeated():
    generator = torch.Generator().manual_seed(0)

    def metrics(*names):
        return {name: 3 * torch.rand(6, generator=generator, dtype=torch.float64) for name in names}

    names = ("none", "cross", "own", "lost")
    runs = {"arm": metrics(*names, "new/mdm"), "mdm": metrics(*names), "attention-switched": metrics(*names)}
    for name, each in runs.items():
        each["all"] = each["none"] + (0.01 if name == "attention-switched" else 2.0)
    drawn = [torch.arange(6), torch.tensor([0, 0, 3, 3, 3, 5]), torch.tensor([1, 2, 2, 4, 4, 1])]
    counts = torch.stack([each.bincount(minlength=6).double() for each in drawn])
    found = _functional(runs, counts)
    for row, index in enumerate(drawn):
        arm, mdm = (
            {name: float(each[index].mean()) for name, each in runs[member].items()} for member in ("arm", "mdm")
        )
        assert math.isclose(found["effect/mdm"][row], mdm["all"] - mdm["none"])
        assert math.isclose(found["cross/mdm"][row], (mdm["cross"] - mdm["none"]) / (mdm["all"] - mdm["none"]))
        assert math.isclose(found["lost/arm"][row], (arm["all"] - arm["lost"]) / (arm["all"] - arm["none"]))
        assert math.isclose(found["new/mdm"][row], (arm["all"] - arm["new/mdm"]) / (arm["all"] - arm["none"]))
    assert "effect/attention-switched" in found
    assert "cross/attention-switched" not in found  # of hardly any effect there is no share


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_the_same(study, tmp_path):
    """Ten times, each at another moment; whatever was being done then."""
    command = [sys.executable, "-m", "mdmcourse.cli", "study", str(study[0]), "--threads", "1"]
    command += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "results.json")]
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Importing torch takes seconds. From then on a unit takes about as long again.
        time.sleep(3 + 4 * float(torch.rand(1, generator=generator)))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "results.json")
    assert without_time(tmp_path / "results.json") == without_time(study[1])


@pytest.mark.slow
def test_two_processes_find_the_same(study, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    launch += ["-m", "mdmcourse.cli", "study", str(study[0])]
    launch += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "results.json"), "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launch], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = without_time(study[1]), without_time(tmp_path / "results.json")
    for a, b in zip(one["units"], two["units"], strict=True):
        for name, value in a["statistics"].items():
            # Sums in another order can swap two edges of nearly one score at the rim of a circuit.
            assert math.isclose(value, b["statistics"][name], rel_tol=0.05, abs_tol=0.02), name


def test_a_unit_that_was_cut_short_is_named(study, tmp_path):
    plan = load_plan(study[0])
    run = next((study[0].parent / "runs").rglob("toy-chain-0-ioi-*.json"))
    folder = tmp_path / "studies" / plan.name
    folder.mkdir(parents=True)
    (folder / run.name).write_text(run.read_text()[:20])
    with pytest.raises(CheckpointError, match="toy-chain-0-ioi"):
        run_study(plan, runs=tmp_path, out=tmp_path / "results.json")


def test_a_plan_that_grew_costs_what_is_new(study, tmp_path):
    plan, said = load_plan(study[0]), []
    shutil.copytree(study[0].parent / "runs", tmp_path / "runs")
    changed = replace(plan, resamples=plan.resamples + 1)
    grown = replace(plan, findings=(), groups=(*plan.groups, replace(plan.groups[0], title="once more", seeds=(1,))))
    run_study(grown, runs=tmp_path / "runs", out=tmp_path / "grown.json", say=said.append)
    assert len(said) == len(plan.groups[0].tasks)
    assert all("once more, seed 1" in line for line in said)
    run_study(changed, runs=tmp_path / "runs", out=tmp_path / "changed.json", say=said.append)
    assert len(said) == 3 * len(plan.groups[0].tasks)


def test_a_task_that_was_changed_is_measured_anew(study, tmp_path, monkeypatch):
    shutil.copytree(study[0].parent / "runs", tmp_path / "runs")
    plan, said = load_plan(study[0]), []
    run_study(plan, runs=tmp_path / "runs", out=tmp_path / "same.json", say=said.append)
    assert not said
    draw = IOI.draw
    monkeypatch.setattr(IOI, "draw", lambda self, rng: (rng.random(), draw(self, rng))[1])
    changed = run_study(plan, runs=tmp_path / "runs", out=tmp_path / "changed.json", say=said.append)
    assert len(said) == len(plan.units)
    hashes = [[unit["prompts"] for unit in json.loads(file.read_text())["units"]] for file in (study[1], changed)]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("units", ["missing", [{}], "text"])
def test_a_file_that_holds_no_units_is_refused(study, tmp_path, units):
    results = json.loads(study[1].read_text())
    results = {name: value for name, value in results.items() if name != "units"}
    results |= {} if units == "missing" else {"units": units}
    (tmp_path / "results.json").write_text(json.dumps(results))
    with pytest.raises(CheckpointError, match="units"):
        load_results(load_plan(study[0]), tmp_path / "results.json")


def test_a_criterion_that_was_moved_afterwards_is_told_in_the_report(study, tmp_path):
    """Running again costs nothing, and does not make the plan older than its results."""
    shutil.copytree(study[0].parent / "runs", tmp_path / "runs")
    moved = tmp_path / study[0].name
    moved.write_text(study[0].read_text() + "\n# after a look at the results\n")
    plan = load_plan(moved)
    file = run_study(plan, runs=tmp_path / "runs", out=tmp_path / "moved.json", say=lambda line: pytest.fail(line))
    text = as_markdown(plan, load_results(plan, file))
    assert f"{len(plan.units)} of the units were measured under another version of the plan" in text
    assert "was written before" not in text
    assert "was written before" in as_markdown(load_plan(study[0]), json.loads(study[1].read_text()))


def test_results_of_a_plan_given_by_path_go_beside_it(tmp_path, capsys, monkeypatch):
    """Not over the shipped ones of that name."""
    file = tmp_path / "toys.toml"
    file.write_text(PLAN, encoding="utf-8")
    plan = load_plan(file)
    assert results_of(plan) == tmp_path / "toys.json"
    assert results_of(load_plan("toys")) == results_file("toys")
    assert results_of(load_plan(data_dir() / "studies" / "toys.toml")) == results_file("toys")
    monkeypatch.setattr(RUN, "run_unit", lambda *_, **__: {})
    shipped = results_file("toys").read_bytes()
    assert main(["study", str(file), "--runs", str(tmp_path / "runs")]) == 0
    told = capsys.readouterr()
    assert str(tmp_path / "toys.json") in told.out
    assert str(tmp_path / "toys.json") in told.err
    assert results_file("toys").read_bytes() == shipped
    assert json.loads((tmp_path / "toys.json").read_text())["command"] == "mdmcourse study toys.toml"
    with pytest.raises(InputError, match=r"mdmcourse study .*other\.toml"):
        load_results(load_plan(shutil.copy(file, tmp_path / "other.toml")))


def test_a_file_of_weights_that_was_replaced_is_noticed(tmp_path, monkeypatch):
    computed = []
    monkeypatch.setattr(RUN, "run_unit", lambda *_, **__: computed.append(1) or {})
    for member in ("arm", "mdm"):
        (tmp_path / member).mkdir()
        (tmp_path / member / "model.safetensors").write_bytes(member.encode())
    weights = {member: str(tmp_path / member) for member in ("arm", "mdm")}
    plan = StudyPlan("x", "x", (Group("g", "diffugpt-s", local="ioi", weights=weights),), ())
    for expected in (1, 1, 2):
        if expected == 2:
            (tmp_path / "arm" / "model.safetensors").write_bytes(b"other")
        run_study(plan, runs=tmp_path / "runs", out=tmp_path / "results.json")
        assert len(computed) == expected


def test_a_unit_that_is_no_table_is_refused_also_without_assertions(tmp_path):
    (tmp_path / "unit.json").write_text("[1]")
    script = (
        f"from mdmcourse.study.run import _read; from pathlib import Path; _read(Path({str(tmp_path)!r}, 'unit.json'))"
    )
    done = subprocess.run([sys.executable, "-O", "-c", script], capture_output=True, text=True)
    assert "CheckpointError" in done.stderr


def test_the_error_of_an_integral_that_nobody_knows_is_no_number_in_no_report(study):
    results = json.loads(study[1].read_text())
    for unit in results["units"]:
        unit["integration_error"] = dict.fromkeys(unit["integration_error"])
    text = as_markdown(load_plan(study[0]), results)
    assert "nan%" not in text
    assert "cannot be checked" in text


def test_results_of_another_plan_are_refused(study, tmp_path):
    changed = tmp_path / "small.toml"
    changed.write_text(PLAN.replace("-0.9", "-0.8"), encoding="utf-8")
    with pytest.raises(InputError, match="another version"):
        load_results(load_plan(changed), study[1])
    with pytest.raises(InputError, match="not there"):
        load_results(load_plan(study[0]), tmp_path / "nothing.json")


def test_the_report_says_what_was_measured(study, capsys, tmp_path):
    plan, results = load_plan(study[0]), json.loads(study[1].read_text())
    text = as_markdown(plan, results)
    assert "partly" in text
    assert "not measured" in text
    assert results["command"] in text
    for figure in (overlap_figure(plan, results), criteria_figure(plan, results)):
        assert figure.axes
    assert main(["report", str(study[0]), "--results", str(study[1]), "--figures", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == text.strip()
    assert {file.name for file in tmp_path.glob("*.png")} == {"small-criteria.png", "small-overlaps.png"}


# Verdicts


def units(values: dict[int, float], kind: str = "local") -> list[dict]:
    return [
        {"seed": seed, "kind": kind, "statistics": {"x/mdms": value}, "intervals": {}} for seed, value in values.items()
    ]


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({0: 1.0, 1: 1.1, 2: 0.9}, "met"),
        ({0: 0.1, 1: 0.0, 2: 0.2}, "contradicted"),
        ({0: 0.1, 1: 1.5, 2: 0.9}, "open"),
        ({}, "not measured"),
    ],
)
def test_a_criterion_is_held_against_the_whole_interval(values, state):
    criterion = Criterion("local", "x/mdms", "", at_least=0.5)
    judged = judge_criterion(criterion, units(values))
    assert judged.state == state
    if values:
        assert math.isclose(judged.mean, statistics.mean(values.values()))
        error = statistics.stdev(values.values()) / math.sqrt(3)
        assert math.isclose(judged.high - judged.mean, 4.303 * error, rel_tol=1e-9)
        assert math.isclose(judged.detectable, (4.303 + 1.061) * error, rel_tol=1e-9)


def test_one_arm_without_an_interval_settles_nothing():
    judged = judge_criterion(Criterion("local", "x/mdms", "", at_least=0.5), units({0: 9.0}))
    assert (judged.state, judged.over) == ("open", "prompts")


def test_sums_and_differences_of_tasks():
    criterion = Criterion("global - local", "x/mdms - y/arm + z/arm", "", at_most=0.0)
    rows = [
        {
            "seed": 0,
            "kind": kind,
            "statistics": {"x/mdms": x, "y/arm": 1.0, "z/arm": 10.0},
            "intervals": {"x/mdm": [0, 2]},
        }
        for kind, x in (("global", 5.0), ("local", 7.0))
    ]
    judged = judge_criterion(criterion, rows)
    assert judged.mean == (5 - 1 + 10) - (7 - 1 + 10)
    assert judged.over == "prompts"
    assert math.isclose(judged.high - judged.mean, math.sqrt(2))


def test_an_interval_of_the_sum_itself_comes_before_those_of_its_terms():
    criterion = Criterion("local", "x/mdms - y/arm", "", at_most=0.0)
    row = {"seed": 0, "kind": "local", "statistics": {"x/mdms": 1.0, "y/arm": 2.0}}
    apart = {"x/mdm": [0.0, 8.0], "x/mdms": [0.0, 6.0], "y/arm": [0.0, 8.0]}
    for intervals, half in ((apart, 5.0), (apart | {criterion.value: [-1.25, -0.75]}, 0.25)):
        judged = judge_criterion(criterion, [row | {"intervals": intervals}])
        assert math.isclose(judged.high - judged.mean, half)


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        (["met", "met"], "reproduces"),
        (["met", "open"], "partly"),
        (["met", "contradicted"], "partly"),
        (["met", "not measured"], "partly"),
        (["contradicted", "open"], "does not reproduce"),
        (["open", "open"], "not settled"),
        (["not measured"], "not measured"),
    ],
)
def test_a_verdict_needs_all_criteria(states, verdict, study):
    from mdmcourse.study.verdicts import _verdict

    assert _verdict(states) == verdict
    assert verdict in VERDICTS


def test_quantiles_of_students_t():
    """Against the distribution itself: density integrated by the trapezoid rule."""
    for df, (t975, t800) in enumerate(zip(T_975, T_800, strict=True), start=1):
        constant = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
        for t, p in ((t975, 0.975), (t800, 0.8)):
            x = torch.linspace(0, t, 200_001, dtype=torch.float64)
            below = 0.5 + float(torch.trapezoid(constant * (1 + x**2 / df) ** (-(df + 1) / 2), x))
            assert abs(below - p) < 2e-4


def test_more_arms_than_the_tables_have():
    """From 32 on, the normal distribution's quantiles; the step to them is small."""
    criterion = Criterion("local", "overlap/mdms", "", at_least=0.0)

    def reach(n):
        units = [{"seed": s, "kind": "local", "statistics": {"overlap/mdms": float(s % 2)}} for s in range(n)]
        judged = judge_criterion(criterion, units)
        return (judged.high - judged.mean) / statistics.stdev(judged.each.values()) * math.sqrt(n)

    assert len(T_975) == len(T_800) == 30
    assert math.isclose(reach(31), 2.042, rel_tol=1e-6)
    assert math.isclose(reach(32), statistics.NormalDist().inv_cdf(0.975), rel_tol=1e-4)


def test_the_interval_over_prompts_is_of_the_arm_that_was_measured():
    criterion = Criterion("local", "overlap/mdms", "", at_least=0.5)
    units = [
        {"seed": 0, "kind": "local", "statistics": {}, "intervals": {"overlap/mdm": [0.0, 1.0]}},
        {"seed": 1, "kind": "local", "statistics": {"overlap/mdms": 0.6}, "intervals": {"overlap/mdm": [0.55, 0.65]}},
    ]
    judged = judge_criterion(criterion, units)
    assert (judged.over, judged.state) == ("prompts", "met")
    assert math.isclose(judged.low, 0.55)


# Plans


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (("toy-chain", "toy-chian"), UnknownNameError, "toy-chain"),
        (('local = "ioi"', 'local = "iio"'), UnknownNameError, "ioi"),
        (("prompts = 4", "prompts = 3"), InputError, "four prompts"),
        (("share = 0.2", "share = 0.3"), InputError, "among shares"),
        (("steps = 2", "stpes = 2"), UnknownNameError, "'stpes'[^?]*Did you mean steps"),
        (("overlap/mdms - ", "overlap mdms - "), InputError, "not a sum"),
        (("at_least = -0.9", "at_laest = -0.9"), UnknownNameError, "'at_laest'[^?]*Did you mean at_least"),
        (("seeds = [0, 1]", "sedes = [0, 1]"), UnknownNameError, "'sedes'[^?]*Did you mean seeds"),
        (('claim = "', 'calim = "'), UnknownNameError, "'calim'[^?]*Did you mean claim"),
        (("overlap/mdms - ", "overlab/mdms - "), UnknownNameError, "Did you mean overlap"),
        (("overlap/mdms - ", "overlap/mdsm - "), UnknownNameError, "Did you mean mdm or mdms"),
        (('local = "ioi"', 'local = "countdown"'), InputError, "toy-chain never learnt countdown"),
        (('task = "local"', 'task = "loacl"'), InputError, "loacl"),
        (("seeds = [0, 1]", "seeds = []"), InputError, "no seed"),
        (("[[pairs]]", "[[piars]]"), UnknownNameError, "'piars'[^?]*Did you mean pairs"),
        (('title = "a small study"', 'title = "a small'), InputError, "could not be read"),
        (("resamples = 4", "resamples = 0"), InputError, "resamples of 1"),
        (("shares = [0.1, 0.2]", "shares = [0.2, 1.5]"), InputError, "up to 1"),
        (("shares = [0.1, 0.2]", "shares = [0.2, 0.0]"), InputError, "up to 1"),
        (("steps = 2", 'steps = 2\ndtype = "float31"'), InputError, "float31"),
        (("steps = 2", 'steps = 2\ndtype = "int64"'), InputError, "int64"),
        (("at_least = -0.9", 'at_least = "0.1"'), InputError, "without quotes"),
        (("at_least = -0.9", "at_least = nan"), InputError, "has to be a number"),
        (("prompts = 4", "prompts = 12.5"), InputError, "number of things"),
        (("steps = 2", "steps = true"), InputError, "number of things"),
        (("share = 0.2", 'share = "0.2"'), InputError, "shares of all edges"),
        (("seeds = [0, 1]", 'seeds = [0, "0"]'), InputError, "list of whole numbers"),
        (("seeds = [0, 1]", "seeds = 0"), InputError, "list of whole numbers"),
        (("seeds = [0, 1]", 'seeds = [0, 1]\nothers = "ioi"'), InputError, "list of names"),
        (('global = "chain"', 'global = "ioi"'), InputError, "both the local and the global"),
        (("[[pairs]]", "[pairs]"), InputError, "two brackets"),
        (("seeds = [0, 1]", "seeds = [0, 1, 1]"), InputError, "has the seed 1 2 times"),
        (
            ("[findings.F1]", '[[pairs]]\ntitle = "chain"\npair = "toy-path"\nlocal = "ioi"\n[findings.F1]'),
            InputError,
            "title 'chain' 2 times",
        ),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(tmp_path, change, error, words):
    assert change[0] in PLAN
    file = tmp_path / "bad.toml"
    file.write_text(PLAN.replace(*change), encoding="utf-8")
    with without_shape_checks(), pytest.raises(error, match=words):
        load_plan(file)


def test_a_plan_by_name(capsys):
    assert main(["study", "tyos"]) == 1
    assert "toys" in capsys.readouterr().err
    with pytest.raises(InputError, match="could not be read"):
        load_plan("nowhere.toml")


def test_a_seed_that_was_never_trained_is_found_before_any_work(study, tmp_path):
    plan = load_plan(study[0])
    group = replace(plan.groups[0], seeds=(0, 77))
    with pytest.raises(InputError, match="77"):
        run_study(replace(plan, groups=(group,)), runs=tmp_path, out=tmp_path / "results.json")
    assert not list(tmp_path.iterdir())


def test_findings_are_compared_by_what_they_say():
    one = Finding("F1", "x", (Criterion("local", "a/b", "", at_least=0.0),))
    assert one == Finding("F1", "x", (Criterion("local", "a/b", "", at_least=0.0),))


# What is shipped


def test_statistics_that_a_plan_can_name_are_those_that_are_measured():
    results = [json.loads(results_file(name).read_text()) for name in ("toys", "smollm2")]
    found = [name.partition("/") for each in results for unit in each["units"] for name in unit["statistics"]]
    assert {what for what, _, _ in found} == set(STATISTICS)
    assert {whom for _, _, whom in found} == set(WHOM)


def test_the_shipped_results_are_those_of_the_shipped_weights():
    """A unit of the toys' study, from its weights once more; the prompts, and what is exact, and what is a ranking."""
    plan = load_plan("toys")
    unit = next(
        u for u in load_results(plan)["units"] if (u["pair"], u["seed"], u["task"]) == ("toy-chain", 1, "chain")
    )
    pair = load_pair("toy-chain", 1)
    for name, model in pair.members.items():
        assert unit["weights"][name] == hash_of(model), name
    drawn = get_task("chain").prompts(pair.arm.tokenizer, 3 * plan.prompts)
    tested = drawn.select(slice(2 * plan.prompts, None))
    graph = Graph.of(pair.arm)
    for name in ("arm", "mdm"):
        said = direct_attribution(pair.members[name], tested).mean(dim=0)[1:].abs()
        spread = torch.special.entr(said / said.sum()).sum()
        assert math.isclose(float(spread), unit["statistics"][f"log_direct/{name}"], rel_tol=1e-3)
    run = run_circuit(pair.mdm, tested, Circuit.full(graph)), run_circuit(pair.mdm, tested, Circuit.empty(graph))
    assert math.isclose(float((run[0] - run[1]).mean()), unit["statistics"]["effect/mdm"], rel_tol=1e-3)
    halves = [drawn.select(slice(0, plan.prompts)), drawn.select(slice(plan.prompts, 2 * plan.prompts))]
    arm, mdm = ([attribute(model, half, steps=plan.steps) for half in halves] for model in (pair.arm, pair.mdm))
    k = round(plan.share * graph.n_edges)
    tops = [[Circuit.top(scores, k, prune=False).edges for scores in of_model] for of_model in (arm, mdm)]
    shared = [float((a & b).sum() / (a | b).sum()) for a, b in ((tops[0][0], tops[1][1]), (tops[0][1], tops[1][0]))]
    assert abs(statistics.mean(shared) - unit["statistics"]["overlap/mdm"]) < 0.02


def test_shipped_plans_can_be_read_and_results_judged():
    """A plan without results needs models that are not shipped, and has not been run."""
    plans = [load_plan(file) for file in sorted((data_dir() / "studies").glob("*.toml"))]
    run = [plan for plan in plans if results_file(plan.name).exists()]
    assert "toys" in [plan.name for plan in run]
    for plan in run:
        assert results_file(plan.name).stat().st_size < 5e6
        assert len(verdicts(plan, load_results(plan))) == len(plan.groups) * len(plan.findings)
