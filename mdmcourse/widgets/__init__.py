"""Moving pictures for notebooks and static pages. They take arrays, strings and traces, never a model."""

from mdmcourse.widgets.unmasking import UnmaskingPlayer

__all__ = ["UnmaskingPlayer"]
