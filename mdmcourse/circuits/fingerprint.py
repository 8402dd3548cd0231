"""What tells one attribution from another, so that a run goes on only from what is its own."""

from __future__ import annotations

import functools
import hashlib
import json
import types

import torch
from torch import Tensor

from mdmcourse.circuits.attribution import Settings
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts


def fingerprint(model: LanguageModel, prompts: Prompts, settings: Settings, keep_prompts: bool) -> str:
    """The same for the same run, in every process, and another for any other: of weights the shapes and their first and
    last numbers are read, of a metric that is a function what `_told` says."""
    digest = hashlib.sha256()
    what = [settings.about, _told(settings.metric), settings.positions, keep_prompts]
    which = [repr(model), getattr(model, "mask_id", None)]
    digest.update(json.dumps([what, which], default=str).encode())
    for column in (prompts.clean, prompts.corrupted, prompts.answer, prompts.distractor, prompts.target):
        digest.update(column.cpu().numpy().tobytes())
    for name, weight in model.decoder.named_parameters():
        ends = torch.cat([weight.detach().flatten()[:8], weight.detach().flatten()[-8:]]).float().cpu()
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode() + ends.numpy().tobytes())
    return digest.hexdigest()[:32]


def _told(value: object) -> object:
    """What tells one metric from another of the same name, two lambdas for instance: its code, its defaults, and the
    plain values that it closes over or was given by `functools.partial`.

    Not what it looks up by name, nor what can change while it runs, such as a list in which it keeps a record.
    """
    if isinstance(value, functools.partial):
        return [_told(value.func), _told(value.args), _told(tuple(value.keywords.items()))]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        # Of functions that it calls, the code: one may well call itself.
        inner = tuple(each.__code__ if isinstance(each, types.FunctionType) else each for each in cells)
        return [_told(value.__code__), _told(value.__defaults__), _told(inner)]
    if isinstance(value, types.CodeType):
        return [value.co_code.hex(), value.co_names, _told(value.co_consts)]
    if isinstance(value, tuple):
        return [_told(each) for each in value]
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    if isinstance(value, Tensor):
        return value.tolist()
    plain = isinstance(value, int | float | complex | str | bytes | slice | None)
    return repr(value) if plain else type(value).__qualname__
