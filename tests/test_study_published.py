"""The plans for published pairs run from end to end, on stand-ins in the layouts in which those are published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import tiny_decoder
from layouts import LAYOUTS, byte_tokenizer, plain

from mdmcourse.models.registry import entry
from mdmcourse.study.estimate import estimate
from mdmcourse.study.plan import load_plan
from mdmcourse.study.report import as_markdown
from mdmcourse.study.run import run_study

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
    # Tasks that can be written with bytes: IOI needs names of one token. Countdown is slow to draw: for one pair only.
    tasks = ("greater-than", "countdown-mini") if name == "diffugpt-s" else ("greater-than", None)
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


@pytest.mark.parametrize("name", [*FAMILY, "smollm2", "toys"])
def test_what_a_plan_takes_is_told_without_loading_anything(name: str) -> None:
    told = estimate(load_plan(name))
    assert all(group.title in told for group in load_plan(name).groups)
    if name == "dream-7b":
        assert "80 GB card (H100): batches of" in told
        assert "24 GB card (RTX 4090): one model fits, a pair does not" in told
