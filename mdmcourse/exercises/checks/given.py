"""What goes into an answer stays as it was, and what comes out of it is a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.exercise import Answer, Property


def copies(*given: Any) -> list[Any]:
    """The same once more, with memory of its own."""
    return [each.clone() if isinstance(each, Tensor) else each for each in given]


def gives_a_tensor(make: Callable[[int], tuple[Any, ...]]) -> Property:
    """The answer to what `make` gives for a seed is a tensor of torch."""

    def test(answer: Answer, seed: int) -> str | None:
        found = answer(*copies(*make(seed)))
        if isinstance(found, Tensor):
            return None
        kind = type(found)
        return f"it gave a {kind.__name__}" + (f" of {kind.__module__}" if kind.__module__ != "builtins" else "")

    return Property(
        "it gives a tensor", test,
        "The lesson goes on with a tensor of torch. torch.tensor makes one of numbers in a list, torch.stack of "
        "tensors in a list, torch.from_numpy of an array.",
    )  # fmt: skip


def leaves(names: str, make: Callable[[int], tuple[Any, ...]], mistake: str) -> Property:
    """The tensors among what `make` gives for a seed, called `names` in a sentence, are not changed by the answer."""

    def test(answer: Answer, seed: int) -> str | None:
        given = make(seed)
        handed = copies(*given)
        answer(*handed)
        for place, (before, after) in enumerate(zip(given, handed, strict=True)):
            if isinstance(before, Tensor) and not torch.equal(before, after):
                return f"the answer wrote into its argument number {place + 1}"
        return None

    return Property(f"{names} not changed", test, mistake)
