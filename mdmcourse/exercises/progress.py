"""How far a learner is: a small JSON file of the user's, shown as a table, exported for a teacher.

It holds what was right, how often it was tried, which hints and solutions were opened, and what was predicted. A state
is never lowered: running a lesson again from a fresh copy does not undo what was right once.
"""

from __future__ import annotations

import csv
import html
import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.exercises.exercise import Exercise, Verdict
from mdmcourse.storage import write_text

RANK = {"to do": 0, "wrong": 1, "right": 2}
MARK = {"to do": "○", "wrong": "✗", "right": "✓"}
Kept = dict[str, dict[str, Any]]


def progress_file() -> Path:
    """Where progress is kept: `MDMCOURSE_PROGRESS`, or a file of the user's in this operating system's place for it."""
    from platformdirs import user_data_path

    chosen = os.environ.get("MDMCOURSE_PROGRESS")
    return Path(chosen).expanduser() if chosen else user_data_path("mdmcourse", appauthor=False) / "progress.json"


def kept() -> Kept:
    """What is kept, by kind and name. A damaged file is put aside, which is said, and a new one is begun."""
    path = progress_file()
    try:
        if not path.exists():
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
        if not _is_progress(found):
            raise ValueError("it is not a table of exercises")
    except (OSError, ValueError, RecursionError) as error:
        aside = path.with_suffix(".damaged.json")
        try:
            path.replace(aside)
            then = f"It is kept as {aside.name}; a new file is begun."
        except OSError:
            then = "Nothing is kept there: the lesson goes on without it."
        print(f"Your progress in {path} could not be read ({error}). {then}")
        return {}
    return found


def _is_progress(found: Any) -> bool:
    """Is it what `record` and its like write? Another program, or a hand, may have written it."""
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        return False
    if not all(isinstance(row, dict) for part in found.values() for row in part.values()):
        return False
    rows = found.get("exercises", {}).values()
    return all(
        isinstance(state := row.get("state"), str)
        and state in RANK
        and isinstance(row.get("attempts"), int)
        and all(isinstance(row.get(kind, 0), int) for kind in ("hints", "solution"))
        for row in rows
    )


@contextmanager
def _changed() -> Iterator[Kept]:
    """What is kept, to be changed and written back; two notebooks at once take turns.

    Where nothing can be written, that is said in a line, and the lesson goes on: it does not need what is kept.
    """
    from filelock import FileLock

    path, found = progress_file(), Kept()
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock"), timeout=10))
            found = kept()
            wrong: Exception | None = None
        except (OSError, NotImplementedError) as error:  # a place without locks raises the latter
            wrong = error
        yield found
        if wrong is None:
            try:
                write_text(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
            except CheckpointError as error:
                wrong = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if wrong is not None:
        print(
            f"Your progress is not kept: {path} cannot be written ({wrong}). MDMCOURSE_PROGRESS chooses another file."
        )


def record(exercise: Exercise, verdict: Verdict) -> None:
    """Keep what came of an attempt. What was right once stays right; what was not tried is no attempt."""
    with _changed() as found:
        row = found.setdefault("exercises", {}).setdefault(exercise.name, {"state": "to do", "attempts": 0})
        row["attempts"] += verdict.state != "to do"
        if RANK[verdict.state] > RANK[row["state"]]:
            row["state"] = verdict.state
            if verdict.state == "right":
                row["when"] = datetime.now(UTC).isoformat(timespec="seconds")


def record_help(name: str, kind: str, number: int = 1) -> None:
    """Keep that a hint (the highest number) or the solution of an exercise was opened."""
    with _changed() as found:
        row = found.setdefault("exercises", {}).setdefault(name, {"state": "to do", "attempts": 0})
        row[kind] = max(number, row.get(kind, 0))


def record_answer(kind: str, name: str, answer: Any, right: bool | None) -> None:
    """Keep the first answer to a question: a "prediction", or a "check". Later ones do not count."""
    with _changed() as found:
        found.setdefault(kind, {}).setdefault(name, {"answer": answer, "right": right})


@dataclass(frozen=True)
class Progress:
    """How far the learner is.

    Attributes
    ----------
    rows: for each exercise lesson, name, task, state, attempts, hints, solution, minutes, optional.
    answered: predictions and checks that were answered, and how many of them were right.
    """

    rows: tuple[dict[str, Any], ...]
    answered: dict[str, tuple[int, int]]

    @property
    def done(self) -> int:
        """How many of the exercises that are not optional are right."""
        return sum(row["state"] == "right" for row in self.rows if not row["optional"])

    @property
    def counted(self) -> int:
        """How many exercises are not optional."""
        return sum(not row["optional"] for row in self.rows)

    def __str__(self) -> str:
        optional = [row["state"] == "right" for row in self.rows if row["optional"]]
        beyond = f", and {sum(optional)} of {len(optional)} optional" if optional else ""
        return f"{self.done} of {self.counted} exercises right{beyond}"

    def export(self, path: str | Path, learner: str = "") -> Path:
        """Write a table (CSV) that a teacher can collect. `learner` is put into its first column."""
        path = Path(path)
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        columns = ("lesson", "name", "state", "attempts", "hints", "solution")
        writer.writerow(("learner", *columns))
        writer.writerows((_plain(learner), *(row[column] for column in columns)) for row in self.rows)
        write_text(path, text.getvalue())
        return path

    def __repr__(self) -> str:
        lines = [f"{self}  [{bar(self.done, self.counted)}]"]
        for row in self.rows:
            line = f"  {row['lesson']}  {MARK[row['state']]} {row['name']:<28} {row['minutes']:>3} min  {_noted(row)}"
            lines.append(line.rstrip())
        lines += [
            f"  {kind}: {count} answered, {right} as it turned out" for kind, (count, right) in self.answered.items()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        share = 100 * self.done / max(1, self.counted)
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td>{html.escape(str(cell))}</td>"
                for cell in (row["lesson"], MARK[row["state"]], row["name"], row["task"], row["minutes"], _noted(row))
            )
            + "</tr>"
            for row in self.rows
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in ("lesson", "", "exercise", "task", "minutes", ""))
        counted = "".join(
            f"<p>{html.escape(kind)}: {count} answered, {right} as it turned out</p>"
            for kind, (count, right) in self.answered.items()
        )
        return (
            f"<p><strong>{self}</strong></p>"
            f'<div role="img" aria-label="{share:.0f} percent" style="background:#d5d8dc;border-radius:4px;width:20em">'
            f'<div style="background:#0072B2;border-radius:4px;height:0.7em;width:{share:.0f}%"></div></div>'
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{counted}"
        )


def progress(lesson: str | None = None) -> Progress:
    """How far you are, in the whole course or in one lesson, for instance "02".

    Raises InputError for a lesson that has no exercises.
    """
    from mdmcourse.exercises.catalogue import exercises

    found = kept()
    chosen = [each for each in exercises().values() if lesson in (None, each.lesson)]
    if not chosen:
        known = sorted({each.lesson for each in exercises().values()})
        raise InputError(
            f"lesson={lesson!r} has no exercises.", "There is nothing to count.", f"Use one of {', '.join(known)}."
        )
    blank = {"state": "to do", "attempts": 0, "hints": 0, "solution": 0}
    rows = tuple(
        {
            "lesson": each.lesson,
            "name": each.name,
            "task": each.task,
            "minutes": each.minutes,
            "optional": each.optional,
        }
        | {**blank, **found.get("exercises", {}).get(each.name, {})}
        for each in chosen
    )
    answered = {
        kind: (len(part), sum(row.get("right") is True for row in part.values()))
        for kind in ("predictions", "checks")
        if lesson is None and (part := found.get(kind, {}))
    }
    return Progress(rows, answered)


def bar(done: int, total: int, width: int = 20) -> str:
    filled = round(width * done / max(1, total))
    return "█" * filled + "·" * (width - filled)


def _noted(row: dict[str, Any]) -> str:
    """Whether it is optional, and what help was taken."""
    parts = ["optional"] * row["optional"]
    parts += [f"{row['hints']} hint{'s' * (row['hints'] > 1)}"] if row["hints"] else []
    return ", ".join(parts + ["solution"] * bool(row["solution"]))


def _plain(text: str) -> str:
    """A spreadsheet takes a cell that begins with one of these for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
