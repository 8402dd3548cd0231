"""What happens inside a language model when it is turned from autoregression to masked diffusion.

`import mdmcourse` is light: PyTorch and transformers are imported when a name that needs them is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mdmcourse.diffusion import Trace, sample_arm, sample_mdm
    from mdmcourse.models import ARM, MDM, Pair, describe, load, load_pair
    from mdmcourse.study.evaluate import evaluate_pair
    from mdmcourse.tasks import get_task

_HOME = {
    "ARM": "models", "MDM": "models", "Pair": "models", "describe": "models", "load": "models",
    "load_pair": "models",
    "Trace": "diffusion", "sample_arm": "diffusion", "sample_mdm": "diffusion",
    "get_task": "tasks", "evaluate_pair": "study.evaluate",
}  # fmt: skip
__all__ = [
    "ARM", "MDM", "Pair", "Trace", "describe", "evaluate_pair", "get_task", "load", "load_pair", "sample_arm",
    "sample_mdm",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"mdmcourse.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mdmcourse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
