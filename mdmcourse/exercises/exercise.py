"""Exercises that are checked by their properties, and that are never in the way.

    @exercise
    def forward_mask(x, t, mask_id): ...

What the decorator gives back is the learner's function if it is right, and the course's own answer otherwise: the
lesson goes on either way, and says which of the two it uses.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mdmcourse.errors import MdmcourseError
from mdmcourse.exercises.limits import TimeUp, seed_all, undisturbed, within

Answer = Callable[..., Any]
State = Literal["right", "wrong", "to do"]
SECONDS = 10.0
PRINTED = 5  # lines that are shown of what an answer prints


@dataclass(frozen=True)
class Property:
    """One thing that has to be true of an answer.

    Attributes
    ----------
    name: as the learner reads it, for instance "the input is not changed".
    test: takes the answer and a seed; returns None if it is true, else what was seen, in a few words.
    mistake: what the learner probably did if it is not true.
    """

    name: str
    test: Callable[[Answer, int], str | None]
    mistake: str


@dataclass(frozen=True)
class Exercise:
    """An exercise of a lesson.

    Attributes
    ----------
    lesson: its number, as in the notebook's name.
    task: what has to be written, in a line.
    minutes, difficulty: how long it takes, and how hard it is, from 1 to 3.
    reference: the course's own answer. Its name is that of the exercise.
    properties: in the order in which they are tested; the first that does not hold is told.
    hints: three, each more direct than the one before.
    optional: beyond the hour and a half that a lesson takes.
    """

    lesson: str
    task: str
    minutes: int
    difficulty: int
    reference: Answer
    properties: tuple[Property, ...]
    hints: tuple[str, str, str]
    optional: bool = False

    @property
    def name(self) -> str:
        return self.reference.__name__


@dataclass(frozen=True)
class Verdict:
    """What came of checking an answer.

    Attributes
    ----------
    state: "right", "wrong" or "to do".
    failed: the property that does not hold, if one does not.
    seen: what was seen instead.
    printed: what the answer printed while it was checked.
    """

    state: State
    failed: Property | None = None
    seen: str = ""
    printed: str = ""


class ExerciseError(MdmcourseError, AssertionError):
    """An exercise that is not done, where all have to be: MDMCOURSE_STRICT=1."""


RUNS = Property("it runs", lambda answer, seed: None, "The message says where Python stopped.")
RETURNS = Property(
    "it returns something", lambda answer, seed: None, "Is `return` missing, or does it stand in one branch only?"
)
CALLED = Property(
    "it takes the arguments that the exercise names",
    lambda answer, seed: None,
    "Keep the line with which the cell began.",
)
ENDS = Property("it comes to an end", lambda answer, seed: None, "Is there a loop whose condition never changes?")


def check(exercise: Exercise, answer: Answer, seed: int = 0, seconds: float = SECONDS) -> Verdict:
    """Test the properties of an exercise one after the other, and stop at the first that does not hold.

    An answer may draw random numbers without a generator: it draws the same ones for the same seed, so that one and
    the same answer is not right today and wrong tomorrow.
    """
    verdict = Verdict("right")
    with undisturbed() as printed, _known_by_name(answer, exercise.name):
        try:
            for each in exercise.properties:
                seed_all(seed)
                seen = within(seconds, functools.partial(each.test, answer, seed))
                if seen is not None:
                    verdict = Verdict("wrong", each, seen)
                    break
        except TimeUp:
            verdict = Verdict("wrong", ENDS, f"it was stopped after {seconds:g} seconds")
        except (Exception, SystemExit) as error:  # exit() too: it would end the lesson
            if _to_do(error, answer):
                verdict = Verdict("to do")
            elif isinstance(error, TypeError) and f"{exercise.name}() " in str(error):
                verdict = Verdict("wrong", CALLED, str(error))
            else:
                verdict = Verdict("wrong", RUNS, _where(error, answer))
        said = printed.getvalue()
        if verdict.failed in (each, RUNS):
            verdict = _gave_nothing(exercise, answer, each, seed, seconds) or verdict
    return Verdict(verdict.state, verdict.failed, verdict.seen, said)


@contextlib.contextmanager
def _known_by_name(answer: Answer, name: str) -> Iterator[None]:
    """An answer that calls itself calls itself: in the notebook its name means nothing yet, or what stood in before."""
    names = getattr(answer, "__globals__", {}) if getattr(answer, "__name__", None) == name else {}
    was_there, before = name in names, names.get(name)
    names[name] = answer
    try:
        yield
    finally:
        if was_there:
            names[name] = before
        else:
            del names[name]


class _Nothing(BaseException):
    """An answer returned None."""


def _gave_nothing(exercise: Exercise, answer: Answer, each: Property, seed: int, seconds: float) -> Verdict | None:
    """The verdict on an answer that fails and returns None, where the course's does not: `return` is forgotten often,
    and what follows from it says little."""

    def nothing(function: Answer) -> bool:
        @functools.wraps(function)
        def noting(*arguments: Any, **options: Any) -> Any:
            if (result := function(*arguments, **options)) is None:
                raise _Nothing
            return result

        try:
            seed_all(seed)
            within(seconds, functools.partial(each.test, noting, seed))
        except _Nothing:
            return True
        except (Exception, SystemExit, TimeUp):
            return False
        return False

    return Verdict("wrong", RETURNS, "it gave None") if nothing(answer) and not nothing(exercise.reference) else None


def _to_do(error: BaseException, answer: Answer) -> bool:
    """Is it a `raise NotImplementedError` in the answer's own cell? torch raises that too, of types that it has no
    kernel for: in compiled code, so that the answer's line is a call and no `raise`."""
    if not isinstance(error, NotImplementedError) or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    where, own = last.tb_frame.f_code, getattr(answer, "__code__", last.tb_frame.f_code)
    return where.co_filename == own.co_filename and where.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _where(error: BaseException, answer: Answer) -> str:
    """What an error says of the answer: the line of it that raised, or that its result could not be used."""
    said = f"{type(error).__name__}: {str(error)[:300]}"
    code = getattr(answer, "__code__", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename]
    if own:
        return f"{said}, in the line `{own[-1].line}`"
    return f"what it returned could not be used ({said})"


def exercise(answer: Answer) -> Answer:
    """Check a learner's function against the exercise of the same name, say what came of it, and give back what the
    lesson goes on with: this function if it is right, the course's answer if it is not.

    With MDMCOURSE_STRICT=1 an answer that is not right raises ExerciseError. Raises UnknownNameError if no exercise has
    the function's name.
    """
    from mdmcourse.exercises.catalogue import find
    from mdmcourse.exercises.progress import record

    task = find(answer.__name__)
    verdict = check(task, answer)
    record(task, verdict)
    if os.environ.get("MDMCOURSE_STRICT") == "1" and verdict.state != "right":
        raise ExerciseError(
            f"The exercise {task.name} of lesson {task.lesson} is {_said(verdict)}.",
            "MDMCOURSE_STRICT=1 asks for every exercise to be right.",
            "Mend the answer, or unset MDMCOURSE_STRICT.",
        )
    print(told(task, verdict))
    return answer if verdict.state == "right" else stand_in(task)


def told(task: Exercise, verdict: Verdict) -> str:
    """What the learner reads."""
    if verdict.state == "right":
        return f"✓ {task.name}: right. Your function is used from here on."
    stands = "The course's own answer stands in for it."
    if verdict.state == "to do":
        what = "optional" if task.optional else "to do"
        return f'○ {task.name}: {what}, about {task.minutes} minutes. {stands} Stuck? hint("{task.name}")'
    assert verdict.failed is not None
    lines = [f"✗ {task.name}: not yet. {stands}", f"  What does not hold: {verdict.failed.name}."]
    lines += [f"  Seen: {verdict.seen}.", f"  Likely: {verdict.failed.mistake}", f'  Stuck? hint("{task.name}")']
    if verdict.printed:
        said = verdict.printed.splitlines()
        lines.append(f"  While it was checked it printed{', among other lines' if len(said) > PRINTED else ''}:")
        lines += [f"    {line[:100]}" for line in said[:PRINTED]]
    return "\n".join(lines)


def _said(verdict: Verdict) -> str:
    if verdict.failed is None:
        return "to do"
    return f"not right: {verdict.failed.name} does not hold ({verdict.seen})"


def stand_in(task: Exercise) -> Answer:
    """The course's answer, marked as such: see `credit`."""

    @functools.wraps(task.reference)
    def reference(*arguments: Any, **options: Any) -> Any:
        return task.reference(*arguments, **options)

    reference.stands_in = True  # type: ignore[attr-defined]
    return reference


def credit(*answers: Answer) -> str:
    """A line for a figure that was drawn with the course's answers in the place of the learner's; "" if none was."""
    names = [answer.__name__ for answer in answers if getattr(answer, "stands_in", False)]
    return f"drawn with the course's own {', '.join(names)}" if names else ""
