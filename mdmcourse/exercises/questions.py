"""Predictions, made before a result is shown, and checks of what was understood: both are kept in `progress()`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mdmcourse.exercises.progress import record_answer
from mdmcourse.widgets.question import Question


class Prediction(Question):
    """A question whose answer the next cells bring. Made by `predict`."""

    def reveal(self, truth: str | float, tolerance: float = 0.0) -> str:
        """Say what was predicted and what came out: one of the choices, or a number.

        tolerance: how far a number may be off and count as right, in the number's unit. Returns the line that says it.
        """
        shown = truth if isinstance(truth, str) else f"{truth:.3g} {self.unit}".strip()
        if self.answer is None:
            return f"It is: {shown}. (You made no prediction.)"
        if self.choices:
            said = self.choices[int(self.answer)]
            right = said == truth
        else:
            said = f"{self.answer:.3g} {self.unit}".strip()
            right = math.isclose(self.answer, float(truth), rel_tol=1e-9, abs_tol=tolerance)
        record_answer("predictions", self.question, said, right)
        return f"It is: {shown}. " + ("As you predicted." if right else f"You predicted: {said}.")


def predict(question: str, choices: Sequence[str] = (), *, unit: str = "") -> Prediction:
    """Ask for a prediction: one of `choices`, or a number if there are none.

    >>> guess = predict("Which token is written last?", ["a number", "an operator"])
    >>> guess  # in a cell of its own, so that it is shown
    >>> print(guess.reveal("an operator"))
    """
    return Prediction(question, choices, unit=unit)


def ask(question: str, choices: Sequence[str], right: int, why: Sequence[str] = ()) -> Question:
    """Ask whether something was understood. `right` is the place of the right choice; `why` says something to each.

    >>> ask("What does an MDM see?", ["what stands before", "everything that is not masked"], right=1)
    """
    asked = Question(question, choices, right=right, why=why)

    def keep(change: dict) -> None:
        record_answer("checks", question, asked.choices[int(change["new"])], change["new"] == right)

    asked.observe(keep, names="answer")
    return asked
