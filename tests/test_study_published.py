"""The plans for published pairs run from end to end, on stand-ins in the layouts in which those are published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import tiny_decoder
from layouts import LAYOUTS, byte_tokenizer, plain

from mdmcourse.circuits import MACHINES, Circuit, Graph, Machine, plan, run_circuits
from mdmcourse.errors import InputError
from mdmcourse.models.pairs import load_pair
from mdmcourse.models.registry import entry
from mdmcourse.study.circuits import circuits_of
from mdmcourse.study.estimate import _config, estimate
from mdmcourse.study.evaluate import accuracy, at_target, evaluate_pair
from mdmcourse.study.plan import Group, StudyPlan, load_plan
from mdmcourse.study.report import as_markdown
from mdmcourse.study.run import load_results, run_study
from mdmcourse.tasks import get_task, readable

FAMILY = {"diffugpt-s": "gpt2", "diffullama-7b": "llama", "dream-7b": "qwen2", "qwen3-0.6b-mdlm": "qwen3"}


def stand_in(folder: Path, member: str, name: str, family: str, seed: int) -> Path:
    """A random tiny decoder in the layout of a published model, with a tokenizer of bytes."""
    about = entry("models", name)
    LAYOUTS.get(name, plain)(tiny_decoder(family, seed=seed, vocabulary=about["vocabulary"]), folder / member)
    if member == "arm":
        byte_tokenizer(folder / member, 300, mask_token="<|a token|>", whole=True)
        file = folder / member / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "mask_token": None}))
    return folder / member


@pytest.mark.parametrize("name", FAMILY)
def test_a_plan_runs_on_stand_ins(name: str, tmp_path: Path) -> None:
    plan, about = load_plan(name), entry("pairs", name)
    weights = {
        member: str(stand_in(tmp_path, member, about[member], FAMILY[name], seed))
        for seed, member in enumerate(("arm", "mdm"))
    }
    # Tasks that can be written with bytes: IOI needs names of one token. Countdown is slow to draw: for one pair only,
    # one whose name holds a dot, since each unit is a file of that name.
    tasks = ("greater-than", "countdown-mini") if "." in name else ("greater-than", None)
    group = replace(plan.groups[0], weights=weights, local=tasks[0], global_=tasks[1], others=())
    small = replace(plan, groups=(group,), prompts=4, steps=2, resamples=3, dtype="float32", shares=(0.05, 0.2))
    file = run_study(small, runs=tmp_path / "runs", out=tmp_path / "results.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert [unit["task"] for unit in results["units"]] == [task for task in tasks if task]
    for unit in results["units"]:
        assert {"overlap/mdm", "overlap/arm", "cka_revealed/mdm"} <= set(unit["statistics"])
        assert ("overlap/other-task" in unit["statistics"]) == (tasks[1] is not None)
    text = as_markdown(small, results)
    assert group.title in text
    assert "(one ARM)" in text


@pytest.fixture
def with_a_new_row(tmp_path: Path) -> dict[str, str]:
    """Folders of a stand-in for diffugpt-m, whose mask is a row that its ARM does not have."""
    about = entry("pairs", "diffugpt-m")
    return {
        member: str(stand_in(tmp_path, member, about[member], "gpt2", seed))
        for seed, member in enumerate(("arm", "mdm"))
    }


def test_an_mdm_sees_its_mask_also_where_that_is_a_row_that_its_arm_does_not_have(
    with_a_new_row: dict[str, str], tmp_path: Path
) -> None:
    """Statistics are those of prompts with the mask for the MDM; for the ARM, anything can stand there."""
    plan = load_plan("diffugpt-s")
    group = Group("new row", "diffugpt-m", local="greater-than", weights=with_a_new_row)
    small = replace(plan, groups=(group,), prompts=8, steps=1, resamples=1, shares=(0.05, 0.08))
    file = run_study(small, runs=tmp_path / "runs", out=tmp_path / "results.json", progress=False)
    [unit] = json.loads(file.read_text(encoding="utf-8"))["units"]
    found = unit["statistics"]
    assert "cka_masked/mdm" in found
    pair = load_pair("diffugpt-m", weights=with_a_new_row)
    assert pair.mdm.mask_id == pair.arm.vocab_size
    drawn = get_task("greater-than").prompts(pair.arm.tokenizer, 24, mask_id=pair.mdm.mask_id)
    tested = drawn.select(slice(16, 24))
    graph = Graph.of(pair.arm)
    masked = tested.clean == pair.mdm.mask_id
    for name, model in pair.members.items():
        for other in (0, 7):  # what an ARM is given in the place of the mask does not matter
            clean, corrupted = (
                each if name == "mdm" else each.masked_fill(masked, other) for each in (tested.clean, tested.corrupted)
            )
            read = replace(tested, clean=clean, corrupted=corrupted)
            run = run_circuits(model, read, [Circuit.full(graph), Circuit.empty(graph)]).double().mean(dim=1)
            assert float(run[0] - run[1]) == pytest.approx(found[f"effect/{name}"], rel=1e-3), name


def test_each_model_is_given_prompts_that_it_can_read(with_a_new_row: dict[str, str]) -> None:
    pair = load_pair("diffugpt-m", weights=with_a_new_row)
    prompts = get_task("greater-than").prompts(pair.arm.tokenizer, 4, mask_id=pair.mdm.mask_id)
    assert readable(pair.mdm, prompts) is prompts
    given = readable(pair.arm, prompts)
    masks = prompts.clean == pair.mdm.mask_id
    assert masks.any()
    assert torch.equal(given.clean, prompts.clean.masked_fill(masks, 0))
    beyond = replace(prompts, clean=prompts.clean.clone())
    beyond.clean[0, 0] = pair.mdm.mask_id  # before the target: it would be read
    with pytest.raises(InputError, match="ids from"):
        at_target(pair.arm, beyond)


def test_circuits_and_accuracies_of_such_a_pair(
    with_a_new_row: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = load_pair("diffugpt-m", weights=with_a_new_row)
    monkeypatch.setattr("mdmcourse.study.circuits.load_pair", lambda *_, **__: replace(pair, tasks=()))
    told = circuits_of("diffugpt-m", "greater-than", n=4, steps=1, bootstrap=0)
    assert told["comparisons"]["arm ~ mdm"]["cross_faithfulness"]["circuit of arm in mdm"][-1][0] == pytest.approx(1)
    monkeypatch.setattr("mdmcourse.study.evaluate.load_pair", lambda *_, **__: replace(pair, tasks=("greater-than",)))
    found = evaluate_pair("diffugpt-m", n=8)
    for name, model in pair.members.items():
        alone = accuracy(model, get_task("greater-than"), 8, mask_id=0)
        assert found["members"][name]["greater-than"]["preferred"] == alone.preferred


def test_an_estimate_for_toys_goes_by_prompts_and_steps() -> None:
    toys = load_plan("toys")
    slowest = max(unit["seconds"] for unit in load_results(toys)["units"])
    assert f"10 units of about {slowest:.0f} s at most" in estimate(toys)
    assert f"10 units of about {slowest / 40:.0f} s at most" in estimate(replace(toys, prompts=16, steps=4))


def test_an_estimate_counts_all_models_of_a_pair_and_the_rate_of_their_numbers() -> None:
    card = MACHINES["80 GB card (H100)"]
    for name, loaded in (("smollm2-135m", 4), ("smollm2-135m-countdown", 4), ("diffugpt-s", 2)):
        group = Group("pair", name, local="ioi")
        one = StudyPlan("x", "x", (group,), (), dtype="bfloat16")
        weights = 2 * entry("models", entry("pairs", name).get("arm", "smollm2-135m"))["parameters"]
        config = _config(entry("pairs", name))
        per_prompt = plan(config, 256, 40, machine=card, dtype=torch.bfloat16).per_prompt
        just = Machine("just", (loaded * weights + 1.2 * per_prompt), 1e12)
        less = Machine("less", (loaded * weights + 0.8 * per_prompt), 1e12)
        assert "batches of 1," in estimate(one, [just])
        assert "a pair does not" in estimate(one, [less])
    seconds = {
        dtype: plan(config, 256, 40, machine=card, dtype=dtype).seconds for dtype in (torch.float32, torch.bfloat16)
    }
    assert seconds[torch.float32] / seconds[torch.bfloat16] == pytest.approx(989 / 67)


@pytest.mark.parametrize("name", [*FAMILY, "smollm2", "toys"])
def test_what_a_plan_takes_is_told_without_loading_anything(name: str) -> None:
    told = estimate(load_plan(name))
    assert all(group.title in told for group in load_plan(name).groups)
    if name == "dream-7b":
        assert "80 GB card (H100): batches of" in told
        assert "24 GB card (RTX 4090): one model fits, a pair does not" in told
