"""What can be loaded by name, and loading a real model."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

import torch

from mdmcourse.errors import UnknownNameError
from mdmcourse.models.checkpoint import load_model
from mdmcourse.models.reading import ARM, MDM
from mdmcourse.naming import suggest
from mdmcourse.paths import data_dir


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
