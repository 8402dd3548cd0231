"""Moving pictures for notebooks and static pages. They take arrays, strings and dataclasses, never a model."""

from mdmcourse.widgets.attention import AttentionViewer
from mdmcourse.widgets.circuits import CircuitViewer
from mdmcourse.widgets.lens import LensViewer
from mdmcourse.widgets.masking import MaskingExplorer
from mdmcourse.widgets.patching import PatchingViewer
from mdmcourse.widgets.shift import ShiftSummary
from mdmcourse.widgets.unmasking import UnmaskingPlayer

__all__ = [
    "AttentionViewer",
    "CircuitViewer",
    "LensViewer",
    "MaskingExplorer",
    "PatchingViewer",
    "ShiftSummary",
    "UnmaskingPlayer",
]
