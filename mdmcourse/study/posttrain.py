"""Post-training a real ARM: `mdmcourse posttrain`, after a recipe in data/recipes/.

Each member of the pair is a low-rank change (`mdmcourse.models.lowrank`) of the same weights: the MDM, a second one
with another seed, and the control, the ARM trained on with its own objective on the same tokens.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from mdmcourse.diffusion.objective import masked_objective, next_token_objective
from mdmcourse.diffusion.training import TrainConfig, TrainLog, train
from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.models.lowrank import Adapter, attach, detach
from mdmcourse.models.reading import ARM, MDM, LanguageModel
from mdmcourse.models.registry import load
from mdmcourse.naming import suggest
from mdmcourse.paths import data_dir
from mdmcourse.sequences import Sequences
from mdmcourse.study.evaluate import at_target, write_answers
from mdmcourse.study.infilling import infilling, windows
from mdmcourse.study.text import read_text
from mdmcourse.tasks import get_task
from mdmcourse.tasks.task import encode_examples


@dataclass(frozen=True)
class Recipe:
    """How the members of a real pair were trained: a file in data/recipes/.

    Attributes
    ----------
    base: the ARM that all begins with, by its name in the registry.
    mask_id: the token that stands for "masked".
    dtype: of the frozen weights while training.
    implementation: of attention in transformers; "eager" trains faster than "sdpa" on sequences as short as these.
    lowrank: rank and alpha.
    train: fields of `TrainConfig`.
    masked: options of `masked_objective`.
    members: name -> kind (ARM or MDM), from (base, or another member), seed.
    text, length, shortest: files of text under data/, and of how many tokens the windows are that it is cut into; or
    task, examples: a task, and how many of its examples.
    """

    base: str
    mask_id: int
    dtype: str
    implementation: str
    lowrank: dict[str, Any]
    train: dict[str, Any]
    masked: dict[str, Any]
    members: dict[str, dict[str, Any]]
    text: list[str] | None = None
    length: int = 0
    shortest: int = 0
    task: str | None = None
    examples: int = 0

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe. Raises InputError if it is none."""
        try:
            recipe = cls(**tomllib.loads(Path(path).read_text(encoding="utf-8")))
            if (recipe.text is None) == (recipe.task is None) or not hasattr(torch, recipe.dtype):
                raise ValueError("it needs one of text and task, and a dtype of PyTorch")
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} is not a recipe: {error}.",
                "It is not known what to train on, or how.",
                "Start from one of the files in data/recipes/.",
            ) from error
        return recipe

    def sequences(self, tokenizer: Any, split: str) -> Sequences:
        """What is trained on, or what was held out."""
        if self.task is not None:
            examples = get_task(self.task)._up_to(self.examples, "train" if split == "train" else "test", 0)
            return encode_examples(examples, tokenizer)
        assert self.text is not None
        texts = [text for file in self.text for text in read_text(split, data_dir() / file)]
        if split == "train":
            return windows(texts, tokenizer, self.length, self.shortest, vary=Generator().manual_seed(0))
        return windows(texts, tokenizer, self.length)


def recipe_path(name: str) -> Path:
    """The committed recipe of a pair. Raises UnknownNameError."""
    known = {path.stem: path for path in sorted((data_dir() / "recipes").glob("*.toml"))}
    if name not in known:
        raise UnknownNameError(*suggest("recipe", name, known))
    return known[name]


def start(recipe: Recipe, member: str, out: Path, dtype: str | None = None) -> LanguageModel:
    """A member ready to be trained: the base, or the member that it comes from as it is stored in `out`, with low-rank
    changes attached. `dtype` replaces the recipe's."""
    if member not in recipe.members:
        raise UnknownNameError(*suggest("member", member, recipe.members))
    model: LanguageModel = load(recipe.base, dtype=getattr(torch, dtype or recipe.dtype), progress=False)
    assert isinstance(model, ARM)
    model.decoder.set_attn_implementation(recipe.implementation)
    about = recipe.members[member]
    if about["from"] != "base":
        Adapter.load(out / f"{about['from']}.safetensors").merge(model)
    if about["kind"] == "MDM":
        model = MDM.from_arm(model, weights="share", mask_id=recipe.mask_id)
    attach(model, recipe.lowrank["rank"], float(recipe.lowrank["alpha"]), seed=about["seed"])
    return model


def posttrain(
    recipe: Recipe,
    out: Path,
    *,
    runs: Path,
    members: Sequence[str] | None = None,
    dtype: str | None = None,
    command: str = "",
    progress: bool = True,
) -> list[str]:
    """Train the members of a recipe into `out`, a file each; what is there already is kept. Returns the names of those
    that were kept.

    `runs` holds the state of the training in progress: run the same again after an interruption. `dtype` replaces the
    recipe's.
    """
    kept = []
    for member in members or recipe.members:
        file = out / f"{member}.safetensors"
        if file.exists():
            kept.append(member)
            continue
        model = start(recipe, member, out, dtype)
        config = TrainConfig(**recipe.train, seed=recipe.members[member]["seed"])
        state = runs / f"{out.name}-{member}.safetensors"
        identity = repr((recipe.base, recipe.members[member], recipe.lowrank, recipe.masked, dtype or recipe.dtype))
        log = train_member(model, recipe, config, checkpoint=state, identity=identity, progress=progress)
        about = {
            "base": recipe.base,
            "member": member,
            **recipe.members[member],
            "mask_id": recipe.mask_id,
            "lowrank": recipe.lowrank,
            "train": recipe.train,
            "masked": recipe.masked,
            "data": recipe.text or recipe.task,
            "dtype": dtype or recipe.dtype,
            "log": [{name: round(value, 4) for name, value in row.items()} for row in log.rows],
            "command": command,
            "versions": {"python": sys.version.split()[0], **{n: version(n) for n in ("torch", "transformers")}},
        }
        Adapter.of(model.decoder, about).save(file)
        detach(model.decoder)
        state.unlink()
    return kept


def train_member(model: LanguageModel, recipe: Recipe, config: TrainConfig, **options: Any) -> TrainLog:
    """Train one model with the objective of its kind. The log counts tokens, and follows what the model can do."""
    sequences = recipe.sequences(model.tokenizer, "train")
    on = "all" if recipe.task is None else "answer"
    objective = masked_objective(on, **recipe.masked) if isinstance(model, MDM) else next_token_objective(on)  # type: ignore[arg-type]
    probe = _Probe(recipe, model.tokenizer)
    return train(model, sequences, objective, config, evaluate=probe, **options)


class _Probe:
    """What is measured while a training goes on: on few prompts, to see where it is heading."""

    def __init__(self, recipe: Recipe, tokenizer: Any) -> None:
        self.recipe = recipe
        if recipe.task is None:
            held_out = recipe.sequences(tokenizer, "test")
            chosen = torch.randperm(len(held_out), generator=Generator().manual_seed(0))[:96]
            self.text = held_out.select(chosen)
            self.prompts = {
                name: get_task(name).prompts(tokenizer, 128, mask_id=recipe.mask_id) for name in ("ioi", "ioi-reversed")
            }
        else:
            self.examples = get_task(recipe.task)._up_to(128, "test", 0)
            self.answers = encode_examples(self.examples, tokenizer)

    def __call__(self, model: LanguageModel) -> dict[str, float]:
        if self.recipe.task is None:
            right, _ = infilling(model, self.text, mask_id=self.recipe.mask_id)
            found = {"infilling": right.float().mean().item()}
            for name, prompts in self.prompts.items():
                found[name], found[f"{name} preferred"] = at_target(model, prompts)
            return found
        task = get_task(self.recipe.task)
        written = write_answers(model, self.answers)
        solved = [task.check(example, answer) for example, answer in zip(self.examples, written, strict=True)]
        return {"whole_answer": sum(solved) / len(solved)}
