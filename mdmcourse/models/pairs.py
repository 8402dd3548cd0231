"""An ARM, an MDM made from it, and what they are compared with."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mdmcourse.errors import InputError
from mdmcourse.models.checkpoint import load_model
from mdmcourse.models.lowrank import Adapter
from mdmcourse.models.reading import ARM, MDM
from mdmcourse.models.registry import entry, load
from mdmcourse.paths import data_dir


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
    """

    name: str
    seed: int
    arm: ARM
    mdm: MDM
    controls: dict[str, ARM | MDM] = field(repr=False)
    tasks: tuple[str, ...] = ()

    @property
    def members(self) -> dict[str, ARM | MDM]:
        """All models by name: "arm", "mdm", then the controls."""
        return {"arm": self.arm, "mdm": self.mdm, **self.controls}

    def __repr__(self) -> str:
        lines = [f"Pair({self.name}, seed {self.seed}; tasks: {', '.join(self.tasks)})"]
        lines += [f"  {name:<19} {model!r}" for name, model in self.members.items()]
        return "\n".join(lines)


def pair_directory(name: str, seed: int) -> Path:
    """The folder of a shipped pair. Raises UnknownNameError or, for a seed that is not there, InputError."""
    about = entry("pairs", name)
    if "base" in about:
        raise InputError(
            f"{name} has no seeds: there is one ARM.",
            "It is a real model, and was trained once.",
            f'Use load_pair("{name}"); members are low-rank changes in {about["directory"]}.',
        )
    if seed not in about["seeds"]:
        raise InputError(
            f"{name} has no seed {seed}.",
            f"Its ARM was trained with the seeds {', '.join(map(str, about['seeds']))}.",
            f"Use one of them, or train another: mdmcourse train-toys {name} --seed {seed}.",
        )
    return data_dir() / about["directory"] / f"seed-{seed}"


def load_pair(
    name: str, seed: int = 0, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> Pair:
    """An ARM, an MDM made from it, and their controls. `seed` chooses among independently trained toy ARMs.

    >>> pair = load_pair("toy-chain")
    >>> pair.arm, pair.mdm, pair.controls["arm-trained-on"]

    The members of a real pair are low-rank changes of one ARM, which is fetched if this machine does not have it.
    Raises UnknownNameError, InputError (no such seed), FetchError (out of reach) or CheckpointError (damaged).
    """
    about = entry("pairs", name)
    if "base" in about:
        if seed != 0:
            pair_directory(name, seed)
        models = _changed(about, device, dtype)
    else:
        directory = pair_directory(name, seed)
        models = {
            member: load_model(directory / member, device=device, dtype=dtype)
            for member in ("arm", "mdm", "mdm-second-seed", "arm-trained-on")
        }
    arm, mdm = models.pop("arm"), models.pop("mdm")
    assert isinstance(arm, ARM)
    assert isinstance(mdm, MDM)
    switched = MDM.from_arm(arm, weights="share", mask_id=mdm.mask_id, shift=mdm.shift, attention=mdm.attention)
    return Pair(name, seed, arm, mdm, {**models, "attention-switched": switched}, tuple(about["tasks"]))


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
