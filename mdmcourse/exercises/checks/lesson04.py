"""Sampling by unmasking: what has to be true of the answers."""

from __future__ import annotations

from mdmcourse.exercises.checks.sampler_parts import CERTAINTY, PICK
from mdmcourse.exercises.checks.small_worlds import CHOOSE_NOW, WRITTEN_BY
from mdmcourse.exercises.checks.unmask_loop import UNMASK

EXERCISES = (CERTAINTY, PICK, UNMASK, WRITTEN_BY, CHOOSE_NOW)
