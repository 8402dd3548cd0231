"""What tells one attribution from another, so that a run goes on only from what is its own."""

from __future__ import annotations

import functools
import hashlib
import json
import types
from collections.abc import Iterable
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from mdmcourse.circuits.attribution import Settings
from mdmcourse.errors import InputError
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts


def fingerprint(model: LanguageModel, prompts: Prompts, settings: Settings, keep_prompts: bool) -> str:
    """The same for the same run, in every process, and another for any other: all weights are read, and of a metric
    that is a function what `_told` says.

    Raises InputError for a metric that cannot be told from others, an object of a class of its own for instance.
    """
    digest = hashlib.sha256()
    what = [settings.about, _told(settings.metric, set()), settings.positions, keep_prompts]
    which = [repr(model), getattr(model, "mask_id", None)]
    digest.update(json.dumps([what, which], default=str).encode())
    digest.update(_of_tensors((prompts.clean, prompts.corrupted, prompts.answer, prompts.distractor, prompts.target)))
    digest.update(_of_weights(model.decoder))
    return digest.hexdigest()[:32]


def which_prompts(prompts: Prompts) -> str:
    """The same for the same prompts, also after `readable` put token 0 in the place of masks for one of two models."""
    rows = torch.arange(len(prompts), device=prompts.target.device)
    after = torch.arange(prompts.clean.shape[1], device=rows.device) >= prompts.target[:, None]
    digest = hashlib.sha256()
    for tokens in (prompts.clean, prompts.corrupted):
        masks = after & ((tokens == tokens[rows, prompts.target][:, None]) | (tokens == 0))
        digest.update(_of_tensors([tokens.masked_fill(masks, -1)]))
    digest.update(_of_tensors((prompts.answer, prompts.distractor, prompts.target)))
    return digest.hexdigest()[:16]


def _of_weights(decoder: nn.Module) -> bytes:
    names, tensors = zip(*chain(decoder.named_parameters(), decoder.named_buffers()), strict=True)
    return "".join(names).encode() + _of_tensors(tensors)


def _of_tensors(tensors: Iterable[Tensor]) -> bytes:
    """A digest of shapes, types and every byte."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        # A copy: a single number out of a column counts as contiguous, and has no bytes beside it to be viewed.
        row = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).flatten()
        digest.update(row.view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _told(value: object, seen: set[int]) -> object:
    """What tells one metric from another of the same name, two lambdas for instance: its code, its defaults, what it
    closes over or was given by `functools.partial`, and the numbers and functions of its own module that it looks up by
    name; of those functions the same.

    Not what can change while it runs, such as a list in which it keeps a record; nor what it looks up elsewhere.
    """
    if isinstance(value, functools.partial):
        return [_told(each, seen) for each in (value.func, value.args, tuple(value.keywords.items()))]
    if isinstance(value, types.FunctionType):
        if id(value) in seen:  # it may well call itself
            return value.__qualname__
        seen.add(id(value))
        given = (value.__code__, value.__defaults__, tuple(sorted((value.__kwdefaults__ or {}).items())))
        cells = [_of_cell(cell, seen) for cell in value.__closure__ or ()]
        names = sorted(_names(value.__code__) & set(value.__globals__))
        found = [(name, _looked_up(value.__globals__[name], value.__module__, seen)) for name in names]
        return [*(_told(each, seen) for each in given), cells, found]
    if isinstance(value, types.CodeType):
        return [value.co_code.hex(), value.co_names, _told(value.co_consts, seen)]
    if isinstance(value, tuple):
        return [_told(each, seen) for each in value]
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    if isinstance(value, Tensor | np.ndarray):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, list | dict | set):
        return type(value).__qualname__
    if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
        return getattr(value, "__qualname__", value.__name__)
    if isinstance(value, int | float | complex | str | bytes | slice | torch.dtype | torch.device | np.generic | None):
        return repr(value)
    if value is Ellipsis:
        return "..."
    raise InputError(
        f"The metric is, or holds, a {type(value).__qualname__}.",
        "Two of them cannot be told apart, so that save_to could go on from the scores of another metric.",
        "Use a function whose numbers are arguments (functools.partial) or closed over, or leave save_to out.",
    )


def _names(code: types.CodeType) -> set[str]:
    """All that a function may look up by name, in functions within it too."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _looked_up(value: object, module: str, seen: set[int]) -> object:
    if isinstance(value, types.FunctionType) and value.__module__ != module:
        return f"{value.__module__}.{value.__qualname__}"
    try:
        return _told(value, seen)
    except InputError:  # it cannot be told from others of its class; that it holds the same is not promised
        return type(value).__qualname__


def _of_cell(cell: types.CellType, seen: set[int]) -> object:
    try:
        contents = cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return "empty"
    return _told(contents, seen)
