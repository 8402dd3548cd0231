"""Exercises that are checked by their properties, hints, solutions, predictions and progress."""

from mdmcourse.exercises.exercise import credit, exercise
from mdmcourse.exercises.help import hint, solution
from mdmcourse.exercises.progress import progress
from mdmcourse.exercises.questions import ask, predict

__all__ = ["ask", "credit", "exercise", "hint", "predict", "progress", "solution"]
