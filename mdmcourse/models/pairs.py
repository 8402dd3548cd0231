"""An ARM, an MDM made from it, and what they are compared with."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models.checkpoint import load_model
from mdmcourse.models.lowrank import Adapter
from mdmcourse.models.reading import ARM, MDM
from mdmcourse.models.registry import entry, load, load_from
from mdmcourse.paths import data_dir

TOY_MEMBERS = ("arm", "mdm", "mdm-second-seed", "arm-trained-on")


@dataclass(frozen=True)
class Pair:
    """An ARM, an MDM made from it, and what the two have to be compared with.

    Attributes
    ----------
    name, seed: which pair; the seed is that of the ARM.
    arm, mdm: the two.
    controls: "mdm-second-seed" (the same post-training, other batches and noise), "arm-trained-on" (the ARM trained on
        for as many steps with its old objective), "attention-switched" (the ARM's weights read as an MDM, no training).
    tasks: the names of the tasks that it can do.
    absent: controls that it cannot have, and why.

    A published pair has no control but "attention-switched".
    """

    name: str
    seed: int
    arm: ARM
    mdm: MDM
    controls: dict[str, ARM | MDM] = field(repr=False)
    tasks: tuple[str, ...] = ()
    absent: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def members(self) -> dict[str, ARM | MDM]:
        """All models by name: "arm", "mdm", then the controls."""
        return {"arm": self.arm, "mdm": self.mdm, **self.controls}

    def __repr__(self) -> str:
        lines = [f"Pair({self.name}, seed {self.seed}; tasks: {', '.join(self.tasks)})"]
        lines += [f"  {name:<19} {model!r}" for name, model in self.members.items()]
        lines += [f"  {name:<19} none: {why}" for name, why in self.absent.items()]
        return "\n".join(lines)


def pair_directory(name: str, seed: int) -> Path:
    """The folder of a shipped pair. Raises UnknownNameError or, for a seed that is not there, InputError."""
    about = entry("pairs", name)
    if "seeds" not in about:
        raise InputError(
            f"{name} has no seeds: there is one ARM.",
            "It is a real model, and was trained once.",
            f'Use load_pair("{name}"), without a seed.',
        )
    directory = data_dir() / about["directory"] / f"seed-{seed}"
    if seed not in about["seeds"] and not directory.is_dir():
        shipped = f"with the seeds {', '.join(map(str, about['seeds']))}" if about["seeds"] else "with no seed"
        raise InputError(
            f"{name} has no seed {seed} here.",
            f"It comes {shipped}; others can be trained.",
            f"{'Use one of them, or train it' if about['seeds'] else 'Train it'}: "
            f"mdmcourse train-toys {name} --seed {seed}.",
        )
    return directory


def toy_members(name: str) -> tuple[str, ...]:
    """The models that a toy pair consists of: all of TOY_MEMBERS, unless the registry names fewer."""
    return tuple(entry("pairs", name).get("members", TOY_MEMBERS))


def load_pair(
    name: str,
    seed: int = 0,
    *,
    weights: dict[str, str | Path] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Pair:
    """An ARM, an MDM made from it, and their controls. `seed` chooses among independently trained toy ARMs.

    >>> pair = load_pair("toy-chain")
    >>> pair.arm, pair.mdm, pair.controls["arm-trained-on"]

    The members of a real pair of this project are low-rank changes of one ARM, which is fetched if this machine does
    not have it. Both models of a published pair are fetched, unless `weights` gives their folders,
    ``{"arm": ..., "mdm": ...}`` or one of the two: see `mdmcourse.models.registry.load`.
    Raises UnknownNameError, InputError (no such seed), FetchError (out of reach) or CheckpointError (damaged).
    """
    about = entry("pairs", name)
    published = "mdm" in about
    if unknown := set(weights or {}) - ({"arm", "mdm"} if published else set()):
        raise InputError(
            f"weights={{{', '.join(f'{member!r}: ...' for member in sorted(unknown))}}} for {name}.",
            "Folders can be given for the arm and the mdm of a published pair; other pairs come with the course.",
            'Use weights={"arm": FOLDER, "mdm": FOLDER} with a published pair; `mdmcourse pairs` lists them.',
        )
    if published or "base" in about:
        if seed != 0:
            pair_directory(name, seed)
        if published:
            models = _published(name, about, weights or {}, device=device, dtype=dtype)
        else:
            models = _changed(about, device, dtype)
    else:
        directory = pair_directory(name, seed)
        models = {member: load_model(directory / member, device=device, dtype=dtype) for member in toy_members(name)}
    absent = {each: "it was not trained" for each in TOY_MEMBERS if "seeds" in about and each not in models}
    arm, mdm = models.pop("arm"), models.pop("mdm")
    assert isinstance(arm, ARM)
    assert isinstance(mdm, MDM)
    if mdm.mask_id < arm.vocab_size:
        reading = {"mask_id": mdm.mask_id, "shift": mdm.shift, "attention": mdm.attention}
        models["attention-switched"] = MDM.from_arm(arm, weights="share", **reading)  # type: ignore[arg-type]
    else:
        absent["attention-switched"] = f"the ARM has no row for the mask token, id {mdm.mask_id}"
    return Pair(name, seed, arm, mdm, models, tuple(about["tasks"]), absent)


def _published(name: str, about: dict[str, Any], weights: dict[str, str | Path], **where: Any) -> dict[str, ARM | MDM]:
    """The two models of a published pair. An MDM that comes without a tokenizer has that of its ARM."""
    arm = load_from(about["arm"], weights.get("arm"), lambda: None, **where)
    mdm = load_from(about["mdm"], weights.get("mdm"), lambda: arm.tokenizer, **where)
    configs = [model.decoder.config for model in (arm, mdm)]
    shapes = [(c.model_type, c.num_hidden_layers, c.num_attention_heads, c.hidden_size) for c in configs]
    if shapes[0] != shapes[1]:
        raise CheckpointError(
            f"The ARM of {name} is a {shapes[0]}, the MDM a {shapes[1]} (family, layers, heads, d_model).",
            "The one cannot have been made from the other.",
            "Give folders of two models that belong together.",
        )
    return {"arm": arm, "mdm": mdm}


def _changed(
    about: dict[str, Any], device: str | torch.device | None, dtype: torch.dtype | None
) -> dict[str, ARM | MDM]:
    """The members of a pair that are kept as low-rank changes: the base, changed by each in turn."""
    base = load(about["base"], device=device, dtype=dtype)
    assert isinstance(base, ARM)
    directory = data_dir() / about["directory"]
    models: dict[str, ARM | MDM] = {"base": base, "arm": base}
    for member in about["members"]:
        adapter = Adapter.load(directory / f"{member}.safetensors")
        origin = models[adapter.about["from"]]
        assert isinstance(origin, ARM)
        if adapter.about["kind"] == "MDM":
            model: ARM | MDM = MDM.from_arm(origin, weights="copy", mask_id=adapter.about["mask_id"])
        else:
            model = ARM(copy.deepcopy(origin.decoder), origin.tokenizer)
        adapter.merge(model)
        models[member] = model
    del models["base"]
    return models
