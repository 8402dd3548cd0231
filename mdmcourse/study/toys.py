"""How the toy pairs that the course ships were trained: `mdmcourse train-toys`.

For each pair and seed, four models, or those that the registry says:

    arm              trained from scratch on the pair's tasks, next-token loss on the answers
    mdm              that ARM, post-trained: attention opened, masks in its input, shift kept
    mdm-second-seed  the same from the same ARM, other batches and noise
    arm-trained-on   the same ARM, trained on for as many steps with its old objective: the control
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from mdmcourse.diffusion.objective import Weight, masked_objective, next_token_objective
from mdmcourse.diffusion.training import TrainConfig, TrainLog, train
from mdmcourse.models.checkpoint import load_model, read_about, save_model
from mdmcourse.models.pairs import TOY_MEMBERS, pair_directory, toy_members
from mdmcourse.models.reading import ARM, MDM, LanguageModel
from mdmcourse.models.toy import ToyConfig, toy_arm
from mdmcourse.sequences import Sequences
from mdmcourse.study.evaluate import at_target
from mdmcourse.tasks import get_task, toy_tokenizer


@dataclass(frozen=True)
class Recipe:
    """What one toy pair is trained on, and for how long.

    Attributes
    ----------
    tasks: task name -> number of different training examples.
    layers: of the decoder.
    arm_steps, mdm_steps: optimiser steps of the ARM, and of everything that starts from it.
    arm_rate, mdm_rate: peak learning rates.
    weight: of the masked loss.
    t_min: lowest noise level in training; below it hardly anything is masked and 1/t is large.
    arm_tasks: of `tasks`, those that the ARM is taught at first; all, unless it says so. The others are new to what
        starts from the ARM.
    arm_of: another pair, whose ARM of the same seed is taken as it is; and whose ARM trained on, if it is the same
        training.
    target: every training from scratch, and every post-training, ends as soon as this share of the held-out prompts of
        each task that is taught is right at the analysed token; the ARM trained on ends with the step at which the MDM
        ended. The steps above are the most then.
    """

    tasks: dict[str, int]
    layers: int
    arm_steps: int
    mdm_steps: int
    arm_rate: float = 2e-3
    mdm_rate: float = 2e-3
    weight: Weight = "elbo"
    t_min: float = 0.05
    arm_tasks: tuple[str, ...] | None = None
    arm_of: str | None = None
    target: float | None = None


RECIPES = {
    "toy-countdown": Recipe({"ioi": 10_000, "countdown": 10_000}, layers=8, arm_steps=2500, mdm_steps=1500),
    "toy-countdown-4": Recipe({"ioi": 10_000, "countdown": 10_000}, layers=4, arm_steps=3600, mdm_steps=2000),
    "toy-countdown-12": Recipe({"ioi": 10_000, "countdown": 10_000}, layers=12, arm_steps=2500, mdm_steps=1500),
    # As many steps for the ARM that is taught Countdown afterwards as for the one that learns it from scratch.
    "toy-countdown-new": Recipe(
        {"ioi": 10_000, "countdown": 10_000}, layers=4, arm_steps=1000, mdm_steps=3600, arm_tasks=("ioi",)
    ),
    "toy-chain": Recipe(
        {"ioi": 20_000, "chain": 40_000},
        layers=4,
        arm_steps=500,
        mdm_steps=3500,
        mdm_rate=3e-3,
        weight="none",
    ),
    "toy-path": Recipe(
        {"ioi": 20_000, "path": 80_000},
        layers=4,
        arm_steps=1000,
        mdm_steps=2500,
        mdm_rate=3e-3,
        weight="none",
    ),
    # What the study of front-loading varies of toy-countdown, one thing at a time.
    "toy-countdown-longer": Recipe(
        {"ioi": 10_000, "countdown": 10_000}, layers=8, arm_steps=0, mdm_steps=3000, arm_of="toy-countdown"
    ),
    "toy-countdown-all-masked": Recipe(
        {"ioi": 10_000, "countdown": 10_000}, layers=8, arm_steps=0, mdm_steps=1500, arm_of="toy-countdown", t_min=1.0
    ),
    "toy-countdown-four": Recipe({"ioi": 10_000, "countdown-four": 30_000}, layers=8, arm_steps=2500, mdm_steps=1500),
    # A longer answer that is no harder, beside the usual one; both as good at it as each other.
    "toy-countdown-target": Recipe(
        {"ioi": 10_000, "countdown": 10_000}, layers=8, arm_steps=2500, mdm_steps=1500, target=0.98
    ),
    "toy-countdown-restated": Recipe(
        {"ioi": 10_000, "countdown-restated": 10_000}, layers=8, arm_steps=2500, mdm_steps=1500, target=0.98
    ),
    # Pairs of the study of toys, each training ended at a target accuracy.
    **{
        f"toy-countdown-{layers}-at-target": Recipe(
            {"ioi": 10_000, "countdown": 10_000}, layers, arm_steps, mdm_steps, target=0.98
        )
        for layers, arm_steps, mdm_steps in ((8, 2500, 1500), (4, 3600, 2000), (12, 2500, 1500))
    },
}


def taught(recipe: Recipe, member: str) -> tuple[str, ...]:
    """The tasks that a member is taught."""
    return recipe.arm_tasks if member == "arm" and recipe.arm_tasks else tuple(recipe.tasks)


def training_sequences(recipe: Recipe, member: str) -> Sequences:
    """The training split of all tasks that a member is taught, one after the other."""
    tokenizer = toy_tokenizer()
    return Sequences.cat(get_task(name).sequences(tokenizer, recipe.tasks[name]) for name in taught(recipe, member))


def train_toys(
    pair: str, seed: int, out: Path, *, runs: Path, members: Sequence[str] = (), progress: bool = True
) -> list[str]:
    """Train the models of a pair and seed, or some of them, into `out`; what is there already is kept. Returns the
    names of those that were kept.

    `runs` holds the state of the training in progress: run the same command again after an interruption. All members
    but the ARM start from the ARM in `out`, so that they can be trained at the same time by several processes; with a
    target accuracy, the ARM trained on has to know from the MDM in `out` when to end.
    """
    recipe = RECIPES[pair]
    tokenizer = toy_tokenizer()
    kept = []
    for member in members or toy_members(pair):
        directory = out / member
        if directory.exists():
            kept.append(member)
            continue
        if recipe.arm_of and (
            member == "arm" or (member == "arm-trained-on" and recipe.mdm_steps == RECIPES[recipe.arm_of].mdm_steps)
        ):
            shutil.copytree(pair_directory(recipe.arm_of, seed) / member, directory)
            continue
        if member == "arm":
            model: LanguageModel = toy_arm(tokenizer, ToyConfig(num_hidden_layers=recipe.layers), seed=seed)
        else:
            # From the weights as they are stored, so that what is shipped is what the others came from.
            arm = load_model(out / "arm")
            assert isinstance(arm, ARM)
            model = MDM.from_arm(arm, weights="copy") if member.startswith("mdm") else arm
        config = TrainConfig(
            steps=recipe.arm_steps if member == "arm" else recipe.mdm_steps,
            learning_rate=recipe.arm_rate if member == "arm" else recipe.mdm_rate,
            seed=1000 * seed + TOY_MEMBERS.index(member),
        )
        state = runs / f"{pair}-{seed}-{member}.safetensors"
        sequences = training_sequences(recipe, member)
        until = None if recipe.target is None else _end(recipe, recipe.target, member, out)
        log = train_member(
            model, sequences, recipe, config, checkpoint=state, identity=repr(recipe), until=until, progress=progress
        )
        origin = {
            "pair": pair, "member": member, "seed": seed,
            "command": f"mdmcourse train-toys {pair} --seed {seed}",
            "python": sys.version.split()[0], "torch": version("torch"), "transformers": version("transformers"),
        }  # fmt: skip
        rows = [{name: round(value, 6) for name, value in row.items()} for row in log.rows]
        training = {"recipe": asdict(recipe), "config": asdict(config), "log": rows}
        save_model(model, directory, dtype=torch.float16, about={"origin": origin, "training": training})
        state.unlink()
    return kept


def _end(recipe: Recipe, target: float, member: str, out: Path) -> Callable[[dict[str, float]], bool]:
    """When a member of a pair with a target accuracy is trained enough, from a row of its log."""
    if member == "arm-trained-on":
        as_long = read_about(out / "mdm")["training"]["log"][-1]["step"]
        return lambda row: row["step"] >= as_long
    return lambda row: all(row[name] >= target for name in taught(recipe, member))


def train_member(
    model: LanguageModel, sequences: Sequences, recipe: Recipe, config: TrainConfig, **options: object
) -> TrainLog:
    """Train one model with the objective of its kind; the log has the accuracy on each task's held-out prompts."""
    prompts = {name: get_task(name).prompts(model.tokenizer, 256) for name in recipe.tasks}

    def evaluate(model: LanguageModel) -> dict[str, float]:
        return {name: at_target(model, prompts[name])[0] for name in prompts}

    if isinstance(model, MDM):
        objective = masked_objective(weight=recipe.weight, t_min=recipe.t_min)
    else:
        objective = next_token_objective()
    return train(model, sequences, objective, config, evaluate=evaluate, **options)  # type: ignore[arg-type]
