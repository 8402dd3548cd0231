"""Errors that say what happened, what it means, and what to do: in that order."""

from __future__ import annotations


class MdmcourseError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    happened: what was seen, with the names and numbers that were seen.
    means: why the work cannot go on.
    do: what the reader can do about it.
    """

    def __init__(self, happened: str, means: str, do: str) -> None:
        self.happened, self.means, self.do = happened, means, do
        super().__init__(f"{happened}\n  What it means: {means}\n  What to do: {do}")


class InputError(MdmcourseError, ValueError):
    """An argument that cannot be used: wrong shape, wrong range, wrong kind."""


class UnknownNameError(MdmcourseError, LookupError):
    """A model, pair or task of which nothing is known."""


class CheckpointError(MdmcourseError, RuntimeError):
    """A checkpoint that is damaged, incomplete, altered, or cannot be written."""


class FetchError(MdmcourseError, RuntimeError):
    """A checkpoint that could not be brought to this machine."""
