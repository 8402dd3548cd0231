"""What a study of a plan would take, before anything is loaded: arithmetic on the registry's sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from mdmcourse.circuits import MACHINES, Machine, Settings, plan
from mdmcourse.circuits.plan import this_machine
from mdmcourse.errors import InputError
from mdmcourse.models.registry import entry
from mdmcourse.study.plan import StudyPlan, load_plan
from mdmcourse.study.run import load_results

TOKENS = 40  # of a prompt, about
AROUND = 2.0  # a unit over its attributions alone: circuits that are run, the lens, layers left out


def estimate(study: StudyPlan, machines: list[Machine] | None = None, device: str | None = None) -> str:
    """For every group and machine: batch, memory and time of a unit, as lines to read. For pairs of real models.

    machines: by default those of `MACHINES`, and `device` (the CPU, if none is given) of this machine.
    """
    machines = machines or [*MACHINES.values(), this_machine(device or "cpu", getattr(torch, study.dtype))]
    lines = []
    for group in study.groups:
        about = entry("pairs", group.pair)
        if "seeds" in about:
            units = len(group.seeds) * len(group.tasks)
            lines.append(f"{group.title}: toys, {units} units of about {_seconds_of_toys(study):.0f} s at most")
            continue
        # Attributions are of these, of the ARM read with its attention switched, and of its other task.
        config, members = _config(about), len(_loaded(about) - {"base"}) + 2
        lines.append(f"{group.title}: {len(group.tasks)} units, {2 * study.prompts} prompts of about {TOKENS} tokens")
        for machine in machines:
            lines.append(f"  {machine.name}: {_on(study, config, len(_loaded(about)), members, machine)}")
    return "\n".join(lines)


def _seconds_of_toys(study: StudyPlan) -> float:
    """Of a unit: the slowest of the toys' study took so long, by prompts and steps. So small models take time by their
    passes, whatever their arithmetic."""
    toys = load_plan("toys")
    slowest = max(unit["seconds"] for unit in load_results(toys)["units"])
    return slowest * (study.prompts * study.steps) / (toys.prompts * toys.steps)


def _on(study: StudyPlan, config: Any, loaded: int, members: int, machine: Machine) -> str:
    dtype = getattr(torch, study.dtype)
    try:
        one = plan(
            config, 2 * study.prompts, TOKENS, settings=Settings(steps=study.steps), machine=machine, dtype=dtype
        )
    except InputError:
        return "does not fit"
    held = loaded * one.weights
    if held + one.per_prompt > machine.memory:
        return "one model fits, a pair does not"
    batch = int(min(one.batch_size, (machine.memory - held) // one.per_prompt))
    minutes = AROUND * members * one.seconds / 60
    peak = (held + batch * one.per_prompt) / 1e9
    return (
        f"batches of {batch}, {peak:.0f} GB at most, about {minutes:.0f} min a unit"
        if minutes >= 1
        else (f"batches of {batch}, {peak:.1f} GB at most, less than a minute a unit")
    )


def _loaded(about: dict[str, Any]) -> set[str]:
    """The models of a pair that lie in memory at once. The ARM with its attention switched shares its weights."""
    if "mdm" in about:
        return {"arm", "mdm"}
    return {"base" if "arm" in about["members"] else "arm", *about["members"]}


def _config(about: dict[str, Any]) -> Any:
    """A pair's sizes, called as in a Hugging Face config."""
    model = entry("models", about.get("arm") or about["base"])
    return SimpleNamespace(
        model_type=model["family"], hidden_size=model["d_model"], num_hidden_layers=model["layers"],
        num_attention_heads=model["heads"], num_key_value_heads=model["kv_heads"], head_dim=model.get("head_dim"),
        intermediate_size=model["d_mlp"], vocab_size=model["vocabulary"], tie_word_embeddings=model["tied"],
    )  # fmt: skip
