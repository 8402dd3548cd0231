"""Models and pairs by name."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.models.checkpoint import load_model
from mdmcourse.models.reading import ARM, MDM
from mdmcourse.naming import suggest
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
    tasks: the names of the tasks that it was trained on.
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


@cache
def registry() -> dict[str, dict[str, dict[str, Any]]]:
    """The registry, as read from data/registry.toml: {"models": {name: entry}, "pairs": {name: entry}}."""
    return tomllib.loads((data_dir() / "registry.toml").read_text(encoding="utf-8"))


def entry(kind: str, name: str) -> dict[str, Any]:
    """The entry of one of the "models" or "pairs". Raises UnknownNameError with near names."""
    entries = registry()[kind]
    if name not in entries:
        other = "pairs" if kind == "models" else "models"
        if name in registry()[other]:
            call = "load_pair" if other == "pairs" else "load"
            raise UnknownNameError(
                f"{name!r} is one of the {other}, not of the {kind}.",
                "A pair is two models and their controls; a model is one.",
                f'Use {call}("{name}").',
            )
        raise UnknownNameError(*suggest(kind.removesuffix("s"), name, entries))
    return entries[name]


def load(
    name: str, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None, progress: bool = True
) -> ARM | MDM:
    """A real model by name, fetched first if this machine does not have it (see `mdmcourse.models.fetch`).

    `device` defaults to the CPU; `dtype` to float32 on a CPU and to that of the file elsewhere. Raises
    UnknownNameError, FetchError (out of reach) or CheckpointError (damaged).
    """
    from mdmcourse.models.fetch import fetch

    entry("models", name)
    return load_model(fetch(name, progress=progress), device=device, dtype=dtype)


def pair_directory(name: str, seed: int) -> Path:
    """The folder of a shipped pair. Raises UnknownNameError or, for a seed that is not there, InputError."""
    about = entry("pairs", name)
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
    """An ARM, an MDM made from it, and their controls. `seed` chooses among independently trained ARMs.

    >>> pair = load_pair("toy-chain")
    >>> pair.arm, pair.mdm, pair.controls["arm-trained-on"]

    Raises UnknownNameError, InputError (no such seed) or CheckpointError (damaged).
    """
    directory = pair_directory(name, seed)
    models = {
        member: load_model(directory / member, device=device, dtype=dtype)
        for member in ("arm", "mdm", "mdm-second-seed", "arm-trained-on")
    }
    arm, mdm = models.pop("arm"), models.pop("mdm")
    assert isinstance(arm, ARM)
    assert isinstance(mdm, MDM)
    switched = MDM.from_arm(arm, weights="share", mask_id=mdm.mask_id, shift=mdm.shift, attention=mdm.attention)
    return Pair(name, seed, arm, mdm, {**models, "attention-switched": switched}, tuple(entry("pairs", name)["tasks"]))
