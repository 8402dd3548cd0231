"""Running a study: unit after unit, each stored when it is done, and one file of results in the end.

A unit is a pair, a seed and a task. What is done is kept in `runs/`: attributions batch by batch, units whole, each
under what it depends on. So a run that is killed, at any moment, goes on from there and ends with the same file; and a
plan to which a seed, a pair or a criterion was added costs what is new.

Started under `accelerate launch` or `torchrun`, the prompts of every attribution are divided among the processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mdmcourse.circuits import attribute
from mdmcourse.circuits.processes import wait_for_all, which_process
from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models.fetch import fetch
from mdmcourse.models.pairs import Pair, load_pair, pair_directory
from mdmcourse.models.reading import LanguageModel
from mdmcourse.models.registry import entry
from mdmcourse.paths import data_dir
from mdmcourse.storage import sha256, write_text
from mdmcourse.study.circuits import without_nan
from mdmcourse.study.plan import Group, StudyPlan
from mdmcourse.study.unit import MEASURED_AS, Material, measure
from mdmcourse.tasks import get_task, readable
from mdmcourse.tasks.task import Prompts

DIGITS = 6  # significant ones, of every number that is stored


def run_study(
    plan: StudyPlan,
    *,
    runs: Path = Path("runs"),
    out: Path | None = None,
    device: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: bool = True,
) -> Path:
    """Run what of a plan has not been run yet, and write the results; returns their file, by default that of
    `results_of`. `say` is told which unit begins; `progress` shows a bar for each attribution.

    Raises what loading a pair raises (before anything is computed, if a pair is not there), and CheckpointError for a
    unit in `runs` that is damaged.
    """
    out = out or results_of(plan)
    for group, seed, _ in plan.units:
        _need(group, seed)
    stored = []
    for number, (group, seed, task) in enumerate(plan.units, start=1):
        folder = runs / "studies" / plan.name / f"{group.pair}-{seed}-{task}-{_key(plan, group, seed)}"
        file = folder.with_name(f"{folder.name}.json")  # a pair's name may hold a dot
        if file.exists():
            stored.append(_read(file))
            continue
        say(f"{number} of {len(plan.units)}: {group.title}, seed {seed}, {task}")
        unit = run_unit(plan, group, seed, task, folder, device, progress)
        if int(os.environ.get("RANK", "0")) == 0:
            write_text(file, _text(unit))
        stored.append(json.loads(_text(unit)))
    result = {
        "plan": plan.name,
        "title": plan.title,
        "sha256_of_plan": plan.sha256,
        "command": f"mdmcourse study {plan.name if plan.path is None else plan.path.name}",
        "versions": _versions(),
        "units": stored,
    }
    if int(os.environ.get("RANK", "0")) == 0:
        write_text(out, _text(result))
    return out


def run_unit(
    plan: StudyPlan,
    group: Group,
    seed: int,
    task: str,
    folder: Path,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure one unit. `folder` keeps its attributions until it is done."""
    started = time.monotonic()
    dtype = None if "seeds" in entry("pairs", group.pair) else getattr(torch, plan.dtype)
    seeded = {"seed": seed} if "seeds" in entry("pairs", group.pair) else {}
    pair = load_pair(group.pair, weights=group.weights, device=device, dtype=dtype, **seeded)  # type: ignore[arg-type]
    members: dict[str, LanguageModel] = dict(pair.members)
    if (beside := _beside(group, seed)) is not None:
        members["other-arm"] = load_pair(group.pair, beside, device=device).arm
    found_on, tested_on = _prompts(task, pair, plan.prompts)
    scores = {
        name: attribute(
            model,
            readable(model, found_on),
            steps=plan.steps,
            keep_prompts=True,
            save_to=folder / f"{name}.safetensors",
            progress=progress,
        )
        for name, model in members.items()
    }
    if others := [other for other in group.tasks if other != task]:
        other_prompts, _ = _prompts(others[0], pair, plan.prompts)
        scores["other-task"] = attribute(
            pair.arm,
            readable(pair.arm, other_prompts),
            steps=plan.steps,
            keep_prompts=True,
            save_to=folder / "other-task.safetensors",
        )
    # Others may still have to read what is stored of attributions; and only one may take it away.
    rank, world = which_process(pair.arm.device)
    wait_for_all(world)
    measured = measure(
        Material(members, scores, found_on, tested_on),
        share=plan.share, shares=plan.shares, resamples=plan.resamples, seed=seed,
        sums={criterion.value: criterion.terms for each in plan.findings for criterion in each.criteria},
    )  # fmt: skip
    if rank == 0:
        for file in folder.glob("*.safetensors"):
            file.unlink()
    return {
        "sha256_of_plan": plan.sha256,  # the version under which it was measured: criteria may be changed afterwards
        "group": group.title,
        "pair": group.pair,
        "seed": seed,
        "task": task,
        "kind": {group.local: "local", group.global_: "global"}.get(task, "other"),
        "layers": scores["arm"].graph.layers,
        "edges": scores["arm"].graph.n_edges,
        "weights": {name: hash_of(model) for name, model in members.items()},
        "prompts": _hash_of_prompts(found_on, tested_on),
        "dtype": str(pair.arm.decoder.dtype).removeprefix("torch."),
        "integration_error": {name: each.integration_error for name, each in scores.items()},
        **measured,
        "seconds": round(time.monotonic() - started, 1),
    }


def results_file(name: str) -> Path:
    """Where the results of a shipped plan lie."""
    return data_dir() / "studies" / "results" / f"{name}.json"


def results_of(plan: StudyPlan) -> Path:
    """Where the results of a plan go: of a shipped one see `results_file`; of one given by path, beside it."""
    return results_file(plan.name) if plan.path is None else plan.path.with_suffix(".json")


def load_results(plan: StudyPlan, file: Path | None = None) -> dict[str, Any]:
    """The results of a plan. Raises InputError if there are none, or if they were made by another version of the plan:
    criteria are written before a study runs, not after."""
    file = file or results_of(plan)
    if not file.exists():
        raise InputError(
            f"{file} is not there.", "The study has not been run here.", f"Run it: mdmcourse study {plan.called}"
        )
    results = _read(file)
    units = results.get("units")
    needed = {"group", "seed", "task", "kind", "statistics", "intervals"}
    if not isinstance(units, list) or not all(isinstance(unit, dict) and needed <= set(unit) for unit in units):
        raise CheckpointError(
            f"{file} holds no units, or some that lack {', '.join(sorted(needed))}.",
            "It is no file of results, or was altered: the study writes its files whole.",
            "Delete it, and run the study again: only what is missing is computed.",
        )
    if results.get("sha256_of_plan") != plan.sha256:
        raise InputError(
            f"{file} was made by another version of the plan {plan.name}.",
            "Its criteria may have been written after its results were known.",
            f"Run the study again: mdmcourse study {plan.called}",
        )
    return results


def _prompts(task: str, pair: Pair, n: int) -> tuple[Prompts, Prompts]:
    """Held-out prompts in two halves for the scores, and others to test them on; masked with the MDM's mask."""
    drawn = get_task(task).prompts(pair.arm.tokenizer, 3 * n, mask_id=pair.mdm.mask_id)
    return drawn.select(slice(0, 2 * n)), drawn.select(slice(2 * n, 3 * n))


def _beside(group: Group, seed: int) -> int | None:
    """The seed of the other ARM that a unit's is held against: the next one."""
    return group.seeds[(group.seeds.index(seed) + 1) % len(group.seeds)] if len(group.seeds) > 1 else None


def _key(plan: StudyPlan, group: Group, seed: int) -> str:
    """Changes with everything that a unit of this pair and seed depends on: what the plan says, the models' files, the
    examples that its tasks give, how statistics are measured, and with which libraries."""
    settings = (plan.prompts, plan.steps, plan.share, plan.shares, plan.resamples, plan.dtype, MEASURED_AS, _versions())
    about = (group.title, group.tasks, group.local, group.global_, group.weights, _beside(group, seed))
    seeds = [each for each in (seed, _beside(group, seed)) if each is not None]
    drawn = [get_task(name)._up_to(4 * plan.prompts, "test", 0) for name in group.tasks]
    files = sorted(f"{file}: {checksum}" for each in seeds for file, checksum in _files(group, each))
    return hashlib.sha256(repr((settings, about, files, drawn)).encode()).hexdigest()[:8]


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "transformers")}}


def _files(group: Group, seed: int) -> Iterator[tuple[str, str]]:
    """The files of a pair's models (weights, settings, tokenizers) with their checksums; of a model in the hub's cache,
    its revision."""
    about, given = entry("pairs", group.pair), group.weights or {}
    folders = [Path(folder) for folder in given.values()]
    if "seeds" in about:
        folders.append(pair_directory(group.pair, seed))
    elif "directory" in about:
        folders.append(data_dir() / about["directory"])
    for member in ("base", "arm", "mdm"):
        if member in about and member not in given:
            folder = fetch(about[member])
            if "package" in entry("models", about[member]):
                folders.append(folder)
            else:
                yield about[member], folder.name
    for number, folder in enumerate(folders):
        for file in sorted((*folder.rglob("*.safetensors"), *folder.rglob("*.json"))):
            stat = file.stat()
            yield f"{number}: {file.relative_to(folder)}", _checksum(file, stat.st_mtime_ns, stat.st_size)


@cache
def _checksum(file: Path, changed: int, size: int) -> str:
    """Of one state of a file: several units read it."""
    return sha256(file)


def _need(group: Group, seed: int) -> None:
    """Raise for a toy pair that was never trained here, and for models that cannot be fetched."""
    list(_files(group, seed))


def hash_of(model: LanguageModel) -> str:
    """SHA-256 of a model's weights as they are computed with, in float32, and of how it is read."""
    digest = hashlib.sha256(f"{model.attention} {model.shift} {getattr(model, 'mask_id', None)}".encode())
    for name, weight in model.decoder.state_dict().items():
        digest.update(name.encode() + weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _hash_of_prompts(*each: Prompts) -> str:
    digest = hashlib.sha256()
    for prompts in each:
        for column in (prompts.clean, prompts.corrupted, prompts.answer, prompts.distractor, prompts.target):
            digest.update(column.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _text(value: Any) -> str:
    return json.dumps(_rounded(without_nan(value)), indent=1, allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return value


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no table")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} could not be read: {error!r}.",
            "It was altered, or copied in part: the study writes its files whole.",
            "Delete it, and run the study again: only what is missing is computed.",
        ) from error
    return found
