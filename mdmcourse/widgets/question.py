"""A question that is answered before the result is shown, or to see whether something was understood."""

from __future__ import annotations

from collections.abc import Sequence

import traitlets

from mdmcourse.errors import InputError
from mdmcourse.widgets.base import CourseWidget, html_table, script, style


class Question(CourseWidget):
    """A question with choices, or one that asks for a number.

    Parameters
    ----------
    question: what is asked.
    choices: what can be chosen; none: a number is asked for.
    right: the place of the right choice, for a question that is marked at once. None: a prediction, which is not.
    why: what is said to each choice once it is made; as many as there are choices, or none.
    unit: of the number.

    Its answer is `answer`, the place of the choice or the number, and None before. It can be given once.

    >>> Question("Which is written last?", ["a number", "an operator"])
    >>> Question("What share is right?", unit="of 500 answers")

    Raises InputError for a single choice, a `right` that is none of them, or a `why` of another length.
    """

    _esm = script("question.js")
    _css = style("question.css")

    question = traitlets.Unicode().tag(sync=True)
    choices: traitlets.List[str] = traitlets.List().tag(sync=True)
    right = traitlets.Int(None, allow_none=True).tag(sync=True)
    why: traitlets.List[str] = traitlets.List().tag(sync=True)
    unit = traitlets.Unicode().tag(sync=True)
    answer = traitlets.Float(None, allow_none=True).tag(sync=True)

    def __init__(
        self,
        question: str,
        choices: Sequence[str] = (),
        *,
        right: int | None = None,
        why: Sequence[str] = (),
        unit: str = "",
    ) -> None:
        if not question.strip():
            raise InputError("The question is empty.", "There is nothing to answer.", "Give a text.")
        if isinstance(choices, str) or len(choices) == 1 or len(set(choices)) != len(choices):
            raise InputError(
                f"choices={choices!r}.",
                "A choice is between at least two different things.",
                "Give a list of two or more, or none for a question that asks for a number.",
            )
        if right is not None and (isinstance(right, bool) or right not in range(len(choices))):
            raise InputError(
                f"right={right!r}, and {len(choices)} choices.",
                "None of them would be right.",
                "Give the place of the right choice, counted from 0.",
            )
        if len(why) not in (0, len(choices)):
            raise InputError(
                f"why has {len(why)} texts for {len(choices)} choices.",
                "A choice would go without its text, or a text without its choice.",
                "Give one for each choice, or none at all.",
            )
        super().__init__(question=question, choices=list(choices), right=right, why=list(why), unit=unit)

    def as_text(self) -> str:
        """The choices, without a word about which is right."""
        return "\n".join(f"  {chr(ord('a') + n)}) {choice}" for n, choice in enumerate(self.choices)) or "  (a number)"

    def as_html(self) -> str:
        """The same as a table."""
        return html_table([self.question], [[choice] for choice in self.choices] or [["(a number)"]])

    def __repr__(self) -> str:
        return f"Question({self.question!r})"
