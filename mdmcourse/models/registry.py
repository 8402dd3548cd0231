"""What can be loaded by name, and loading a real model."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.models.checkpoint import load_model
from mdmcourse.models.reading import ARM, MDM
from mdmcourse.naming import suggest
from mdmcourse.own import own_pairs
from mdmcourse.paths import data_dir


@cache
def registry() -> dict[str, dict[str, dict[str, Any]]]:
    """The registry, as read from data/registry.toml, with your own pairs (see `mdmcourse.own`): {"models": {name:
    entry}, "pairs": {name: entry}}.

    A model that names a shape has the sizes of that shape, unless it states its own.
    """
    read = tomllib.loads((data_dir() / "registry.toml").read_text(encoding="utf-8"))
    models = {name: {**read["shapes"].get(about.get("shape"), {}), **about} for name, about in read["models"].items()}
    own = own_pairs()
    if taken := sorted(set(own) & {*models, *read["pairs"]}):
        raise InputError(
            f"{', '.join(taken)}: this name is that of a model or pair of the course already.",
            "It would not be known which of the two is meant.",
            "Give your pair another name.",
        )
    return {"models": models, "pairs": read["pairs"] | own}


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


def shipped_tasks() -> set[str]:
    """The tasks that pairs of the course were trained on, or are known to do. Not those that somebody added."""
    return {task for about in registry()["pairs"].values() if "made" not in about for task in about["tasks"]}


def arm_of(name: str) -> str | None:
    """The name of the ARM that an MDM was made from, or None if no pair has it."""
    return next((about["arm"] for about in registry()["pairs"].values() if about.get("mdm") == name), None)


def load(
    name: str,
    weights: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    device_map: Any = None,
    progress: bool = True,
) -> ARM | MDM:
    """A real model by name, fetched first if this machine does not have it (see `mdmcourse.models.fetch`).

    weights: a folder that holds it, in the layout in which it was published: then nothing is fetched, and the sizes may
        be others than the registry's (smaller ones, for a trial), but not the reading.
    device: the CPU by default.
    dtype: float32 by default on a CPU, and that of the file elsewhere.
    device_map: in the place of `device`; "auto" divides the layers between all devices.

    Raises UnknownNameError, FetchError (out of reach) or CheckpointError (damaged, or not what it should be).
    """
    where = {"device": device, "dtype": dtype, "device_map": device_map}
    return load_from(name, weights, partial(tokenizer_of_arm, name), progress=progress, **where)


def load_from(
    name: str, weights: str | Path | None, spare: Callable[[], Any], *, progress: bool = True, **where: Any
) -> ARM | MDM:
    """`load`; `spare` gives the tokenizer of a published model that comes without one."""
    from mdmcourse.models.fetch import fetch
    from mdmcourse.models.published import load_published

    about = entry("models", name)
    directory = fetch(name, progress=progress) if weights is None else Path(weights)
    if weights is None and "package" in about:
        return load_model(directory, **where)
    return load_published(about, directory, from_hub=weights is None, spare=spare, **where)


def tokenizer_of_arm(name: str) -> Any:
    """The tokenizer of the ARM that an MDM was made from, if this machine has that ARM, else None."""
    from mdmcourse.models.fetch import fetch, is_fetched
    from mdmcourse.models.published import read_tokenizer

    arm = arm_of(name)
    if arm is None or not is_fetched(arm):
        return None
    return read_tokenizer(fetch(arm, progress=False), entry("models", arm)["family"])
