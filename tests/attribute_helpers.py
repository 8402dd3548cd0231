"""What the tests of `attribute` as a long run share: a tiny run, watched, interrupted, or in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from circuits_helpers import MASK
from helpers import tiny_decoder

from mdmcourse.circuits import Scores, attribute
from mdmcourse.circuits.attribution import BatchScores, Settings, attribute_batch
from mdmcourse.models import MDM
from mdmcourse.tasks import Prompts

HERE = Path(__file__).parent
# The package has a function of the same name, which hides the module from `import ... as`.
MODULE = sys.modules["mdmcourse.circuits.attribute"]


def tiny() -> MDM:
    return MDM(tiny_decoder("llama", grouped=True), mask_id=MASK)


def run(model: Any, prompts: Prompts, **settings: Any) -> Scores:
    """`attribute`, with one step if nothing else is said: checking shapes makes every step slow."""
    return attribute(model, prompts, **{"steps": 1, **settings})


def watch(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None] = lambda count: None) -> list[int]:
    """The sizes of all batches that are computed from now on; `before` sees each first, and may raise."""
    sizes: list[int] = []

    def watched(model: Any, prompts: Prompts, settings: Settings) -> BatchScores:
        before(len(prompts))
        sizes.append(len(prompts))
        return attribute_batch(model, prompts, settings)

    monkeypatch.setattr(MODULE, "attribute_batch", watched)
    return sizes


def stop_after(batches: int) -> Callable[[int], None]:
    """Raises KeyboardInterrupt instead of computing one more batch."""
    left = batches

    def before(count: int) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1

    return before


def interrupted(model: Any, prompts: Prompts, save_to: Any, **settings: Any) -> None:
    """A run that ends after its first prompt."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        watch(monkeypatch, stop_after(1))
        with pytest.raises(KeyboardInterrupt):
            run(model, prompts, **{"batch_size": 1, "save_to": save_to, **settings})


def assert_same(found: Scores, expected: Scores, atol: float = 0.0) -> None:
    for name in ("values", "by_prompt", "by_position"):
        one, two = getattr(found, name), getattr(expected, name)
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, atol=atol, rtol=0)
    assert (found.clean, found.corrupted) == pytest.approx((expected.clean, expected.corrupted), abs=atol, rel=0)
    one, two = ({**scores.about, "run": None} for scores in (found, expected))  # only with save_to
    assert (found.prompts, one) == (expected.prompts, two)


def partials(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*.partial*"))


def start(script: str, folder: Path, *launcher: str) -> subprocess.Popen[str]:
    """Another process of Python, with this one's modules; a launcher starts several."""
    (folder / "script.py").write_text(script)
    paths = os.pathsep.join(map(str, (HERE, HERE.parent)))
    fixed = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, str(folder / "script.py")],
        cwd=folder, env={**os.environ, **fixed}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
