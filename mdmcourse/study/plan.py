"""A study's plan: what is measured on what, and what would count as a result, written down before it runs."""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from mdmcourse.errors import InputError, UnknownNameError
from mdmcourse.models.registry import entry, shipped_tasks
from mdmcourse.naming import suggest
from mdmcourse.paths import data_dir
from mdmcourse.study.unit import STATISTICS, WHOM
from mdmcourse.tasks import get_task

VERDICTS = ("reproduces", "partly", "does not reproduce", "not settled", "not measured")


@dataclass(frozen=True)
class Group:
    """Pairs that are judged together: one pair, trained several times.

    Attributes
    ----------
    title: for tables.
    pair: its name in the registry.
    seeds: of its ARM.
    local, global_: a task each kind: what a local and a global task is, the lessons say. Either can be missing.
    others: tasks that are measured and not judged.
    weights: folders, if the pair is not where the registry says: for stand-ins and tests.
    """

    title: str
    pair: str
    seeds: tuple[int, ...] = (0,)
    local: str | None = None
    global_: str | None = None
    others: tuple[str, ...] = ()
    weights: dict[str, str] | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for task in (self.local, self.global_, *self.others) if task)


@dataclass(frozen=True)
class Criterion:
    """One number of a unit, and what it has to be for a finding to hold.

    Attributes
    ----------
    task: "local", "global", or "global - local" for the difference of the two.
    value: names of statistics (see `mdmcourse.study.unit`), added and subtracted.
    at_least, at_most: one of the two: where the whole interval has to lie.
    why: in words.
    """

    task: str
    value: str
    why: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        for name in ("at_least", "at_most"):
            number = getattr(self, name)
            if number is not None and not (_is_number(number) and math.isfinite(number)):
                raise InputError(
                    f"{name}={number!r} in a criterion.",
                    "Intervals are held against it: it has to be a number.",
                    f"Write for instance {name} = 0.1, without quotes.",
                )
        if self.task not in ("local", "global", "global - local") or (self.at_least is None) == (self.at_most is None):
            raise InputError(
                f"A criterion with task={self.task!r}, at_least={self.at_least}, at_most={self.at_most}.",
                "It has to say for which task, and on which side of one number the interval has to lie.",
                'Use "local", "global" or "global - local", and either at_least or at_most.',
            )
        self.terms  # noqa: B018 - refused here, not after hours

    @property
    def terms(self) -> list[tuple[int, str]]:
        """The statistics of `value`, each with its sign."""
        pieces = re.split(r"\s+([+-])\s+", self.value.strip())
        names, signs = pieces[::2], ["+", *pieces[1::2]]
        if not all(re.fullmatch(r"[a-z_]+/[a-z-]+", name) for name in names):
            raise InputError(
                f"value={self.value!r}.",
                "It is not a sum of statistics.",
                'Write for instance "overlap/mdms - overlap/arm-trained-on".',
            )
        return [(1 if sign == "+" else -1, name) for sign, name in zip(signs, names, strict=True)]


@dataclass(frozen=True)
class Finding:
    """A claim, and its criteria. It reproduces if all are met, does not if none is and one is contradicted."""

    name: str
    claim: str
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True)
class StudyPlan:
    """What a study measures.

    Attributes
    ----------
    name: of the file.
    title: for the report.
    groups, findings: see there.
    prompts: for the scores, twice as many as this: two halves, whose overlap is the ceiling. As many others test the
        circuits.
    steps: of EAP-IG.
    share: the size of the circuits that are judged, as a share of all edges.
    shares: all sizes at which overlaps are measured.
    resamples: of the prompts, for intervals within a model.
    dtype: of real models; "float32" if it is not given.
    path: of the plan, if it was given by path and is none of those in `data/studies/`.
    """

    name: str
    title: str
    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]
    prompts: int = 128
    steps: int = 5
    share: float = 0.08
    shares: tuple[float, ...] = (0.01, 0.02, 0.05, 0.08, 0.1, 0.2, 0.5)
    resamples: int = 200
    dtype: str = "float32"
    sha256: str = field(default="", repr=False)
    path: Path | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("prompts", "steps", "resamples"):
            if not isinstance(number := getattr(self, name), int) or isinstance(number, bool):
                raise InputError(f"{name}={number!r}.", "It is a number of things.", f"Write for instance {name} = 8.")
        if not all(map(_is_number, (self.share, *self.shares))):
            raise InputError(
                f"share={self.share!r}, shares={self.shares!r}.",
                "They are shares of all edges: numbers.",
                "Write for instance share = 0.1 and shares = [0.05, 0.1].",
            )
        if self.resamples < 1 or not all(0 < share <= 1 for share in self.shares):
            raise InputError(
                f"resamples={self.resamples}, shares={self.shares}.",
                "Intervals come from resamples of the prompts, and circuits have a share of all edges.",
                "Give resamples of 1 or more, and shares above 0 and up to 1.",
            )
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise InputError(
                f"dtype={self.dtype!r}.", "torch has no such floating-point numbers.", 'Use "float32" or "bfloat16".'
            )
        if self.prompts < 4 or self.steps < 1 or not 0 < self.share < 1 or self.share not in self.shares:
            raise InputError(
                f"prompts={self.prompts}, steps={self.steps}, share={self.share}, shares={self.shares}.",
                "Halves need four prompts at least, and the size that is judged is one of those that are measured.",
                "Give prompts of 4 or more, steps of 1 or more, and a share that is among shares.",
            )
        if not self.groups:
            raise InputError("The plan names no pair.", "There is nothing to measure.", "Add [[pairs]].")
        titles = [group.title for group in self.groups]
        for what, each in (
            ("pairs have the title", titles),
            *((f"{g.title} has the seed", g.seeds) for g in self.groups),
        ):
            if twice := [one for one in each if list(each).count(one) > 1]:
                raise InputError(
                    f"{what[0].upper()}{what[1:]} {twice[0]!r} {list(each).count(twice[0])} times.",
                    "What is counted twice looks surer than it is: verdicts go by titles, intervals by seeds.",
                    "Give every group another title, and every seed once.",
                )

    @property
    def called(self) -> str:
        """What commands know it by: its name, or its path if it is none of those in `data/studies/`."""
        return self.name if self.path is None else str(self.path)

    @property
    def units(self) -> list[tuple[Group, int, str]]:
        """What is measured, and stored, one by one: a pair, a seed, a task."""
        return [(group, seed, task) for group in self.groups for seed in group.seeds for task in group.tasks]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def load_plan(plan: str | Path) -> StudyPlan:
    """A plan by its name (a file in `data/studies/`) or its path.

    Raises UnknownNameError, with near names, and InputError for a plan that says something that cannot be measured.
    """
    given, text = _read(plan, like=())
    try:
        _check_names("a plan", given, ("pairs", "findings", "like", *_settings(StudyPlan)))
        if not isinstance(given.get("pairs", []), list):
            raise InputError("pairs is one table.", "A plan has a list of them.", "Write [[pairs]], with two brackets.")
        groups = tuple(_group(row) for row in given.pop("pairs", []))
        findings = tuple(_finding(name, row) for name, row in given.pop("findings", {}).items())
        if "shares" in given:
            given["shares"] = tuple(given["shares"])
        digest = hashlib.sha256(text.encode()).hexdigest()
        name = Path(plan).stem if Path(plan).suffix == ".toml" else str(plan)
        own = Path(plan).suffix == ".toml" and Path(plan).resolve().parent != (data_dir() / "studies").resolve()
        path = Path(plan) if own else None
        return StudyPlan(name, groups=groups, findings=findings, sha256=digest, path=path, **given)
    except (TypeError, KeyError) as error:
        raise InputError(
            f"{plan}: {error}.", "A plan says something that no study knows.", "Compare it with those in data/studies/."
        ) from error


def _read(plan: str | Path, like: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """What a plan says, and its text; with what it takes from another, ``like = "NAME"``: all but title and pairs."""
    path = Path(plan)
    if path.suffix != ".toml":
        known = {file.stem: file for file in sorted((data_dir() / "studies").glob("*.toml"))}
        if str(plan) not in known or str(plan) in like:
            raise UnknownNameError(*suggest("study", str(plan), known))
        path = known[str(plan)]
    try:
        text = path.read_text(encoding="utf-8")
        given = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"{path} could not be read: {error}.",
            "There is no plan.",
            "Give the path of a TOML file, as in data/studies/.",
        ) from error
    if "like" not in given:
        return given, text
    other, other_text = _read(given.pop("like"), like=(*like, str(plan)))
    kept = {name: value for name, value in other.items() if name not in ("title", "pairs")}
    return {**kept, **given}, text + other_text


def _settings(kind: type) -> list[str]:
    """What can be written down for it, as it is called in a plan."""
    otherwise = ("name", "groups", "findings", "sha256", "path")  # a plan has them from its file, or by other words
    return [each.name.rstrip("_") for each in fields(kind) if each.name not in otherwise]


def _check_names(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise UnknownNameError(*suggest(f"setting of {where}", name, known))


def _finding(name: str, row: Mapping[str, Any]) -> Finding:
    """A claim of a plan and its criteria. Raises for settings and statistics that nobody knows."""
    _check_names(f"finding {name}", row, ("claim", "criteria"))
    criteria = row.get("criteria")
    if not isinstance(criteria, list) or not criteria or not all(isinstance(each, dict) for each in criteria):
        raise InputError(
            f"The criteria of finding {name} are {criteria!r}.",
            "A finding without criteria could come out as nothing.",
            "Give a list of them: criteria = [{ task = ..., value = ..., at_least = ..., why = ... }].",
        )
    for criterion in row["criteria"]:
        _check_names("a criterion", criterion, _settings(Criterion))
    finding = Finding(name, row["claim"], tuple(Criterion(**criterion) for criterion in row["criteria"]))
    # Only here: a criterion by itself may be about a statistic of one's own, but no study measures that.
    for what, _, whom in (term.partition("/") for criterion in finding.criteria for _, term in criterion.terms):
        if what not in STATISTICS:
            raise UnknownNameError(*suggest("statistic", what, STATISTICS))
        if whom not in WHOM:
            raise UnknownNameError(*suggest(f"model of the statistic {what}", whom, WHOM))
    return finding


def _group(row: Mapping[str, Any]) -> Group:
    """A pair of a plan. Raises for pairs and tasks that nobody knows, and for tasks that a toy never learnt."""
    _check_names("a pair", row, _settings(Group))
    given = dict(row)
    for name, kind in (("seeds", int), ("others", str)):
        each = given.get(name, [])
        if not isinstance(each, list) or not all(isinstance(one, kind) and not isinstance(one, bool) for one in each):
            what, example = ("whole numbers", "[0, 1, 2]") if kind is int else ("names of tasks", '["greater-than"]')
            raise InputError(
                f"{name}={each!r} of {given.get('pair')}.",
                f"It is a list of {what}.",
                f"Write for instance {name} = {example}.",
            )
    if given.get("local") is not None and given.get("local") == given.get("global"):
        raise InputError(
            f"{given['local']} is both the local and the global task of {given.get('pair')}.",
            "What is said of one kind of task could not be told from what is said of the other.",
            "Give two tasks, or leave one out.",
        )
    given["global_"] = given.pop("global", None)
    for name in ("seeds", "others"):
        if name in given:
            given[name] = tuple(given[name])
    group = Group(**given)
    about = entry("pairs", group.pair)
    # A toy knows nothing but its tasks. What a task that somebody added asks of it, nobody here can know.
    unlearnt = shipped_tasks() - set(about["tasks"]) if "seeds" in about else ()
    for task in group.tasks:
        get_task(task)
        if task in unlearnt:
            raise InputError(
                f"{group.pair} never learnt {task}.",
                "There would be no circuit for it to find: only guesses, differently wrong in each member.",
                f"Its tasks are {', '.join(about['tasks'])}.",
            )
    if not group.tasks or not group.seeds:
        raise InputError(f"{group}.", "It has no task, or no seed.", 'Give local="...", global="..." and seeds=[...].')
    return group
