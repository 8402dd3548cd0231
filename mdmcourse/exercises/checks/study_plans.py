"""A bad plan, and what has to be true of it when it is mended."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mdmcourse.errors import MdmcourseError
from mdmcourse.exercises.answers import lesson13 as answers
from mdmcourse.exercises.exercise import Answer, Exercise, Property
from mdmcourse.models import registry
from mdmcourse.study.plan import Criterion, StudyPlan, load_plan
from mdmcourse.study.rehearsal import rehearse
from mdmcourse.study.verdicts import Judged

BAD_PLAN = """\
title = "Is an MDM's work more spread out?"
prompts = 64
steps = 20
share = 0.2

[[pairs]]
title = "depth 4: IOI, chain"
pair = "toy-chain"
seeds = [0]
local = "ioi"

[findings.SPREAD]
claim = "The MDM's work is spread over more edges."
criteria = [
    { task = "local", value = "log_edges/mdms", at_least = 0.0, why = "the number of edges is large" },
]

[findings.MOVES]
claim = "On the global task work is sent from later layers."
criteria = [
    { task = "global", value = "source_centre/mdms - source_centre/arm", at_least = 0.247, why = "seed 0 gave 0.248" },
]
"""
CLAIMS = re.findall(r'claim = "(.*)"', BAD_PLAN)
STATISTIC = {CLAIMS[0]: "log_edges", CLAIMS[1]: "source_centre"}


def _seen_before(pair: str) -> set[int]:
    """The seeds of a toy pair that this course has looked at: those of the toys' study, and lesson 13's of path."""
    seeds = {seed for group in load_plan("toys").groups if group.pair == pair for seed in group.seeds}
    return seeds | ({0} if pair == "toy-path" else set())


def _loaded(answer: Answer) -> StudyPlan | str:
    """The plan that an answer gives, or why there is none."""
    text = answer(BAD_PLAN)
    if not isinstance(text, str):
        return f"it gave a {type(text).__name__}, not the text of a plan"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mended.toml"
        file.write_text(text, encoding="utf-8")
        try:
            return load_plan(file)
        except MdmcourseError as error:
            return str(error).replace("\n", " ").replace(str(file), "the plan")


def _criteria(plan: StudyPlan) -> Iterator[tuple[str, Criterion]]:
    for finding in plan.findings:
        for criterion in finding.criteria:
            yield finding.name, criterion


def _loads(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    return plan if isinstance(plan, str) else None


def _same_claims(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    claims = [finding.claim for finding in plan.findings]
    if sorted(claims) != sorted(CLAIMS):
        return f"the claims are now {claims}"
    for finding in plan.findings:
        about = STATISTIC[finding.claim]
        if not any(about in criterion.value and "/mdms" in criterion.value for criterion in finding.criteria):
            return f"{finding.name} has no criterion about {about}/mdms"
        if "global task" in finding.claim and not any("global" in criterion.task for criterion in finding.criteria):
            return f"{finding.name} speaks of the global task, and is not judged on it"
    return None


def _has_control(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    for name, criterion in _criteria(plan):
        signs = {term: sign for sign, term in criterion.terms}
        mdms = {sign for term, sign in signs.items() if term.endswith("/mdms")}
        control = {sign for term, sign in signs.items() if term.endswith("/arm-trained-on")}
        if not control or mdms == control:
            return f"in {name}, {criterion.value!r} does not take the ARM that was trained on away from the MDMs"
    return None


def _judged(plan: StudyPlan, difference: float) -> list[tuple[str, Judged]]:
    return [
        (verdict.finding.name, judged)
        for verdict in rehearse(plan, difference)
        for judged in verdict.criteria
        if "/mdms" in judged.criterion.value
    ]


def _measured(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    for name, judged in _judged(plan, 0.0):
        if judged.state == "not measured":
            return f"{name}: {judged.criterion.task}, {judged.criterion.value!r} would never be measured"
    return None


def _against(answer: Answer, seed: int) -> str | None:
    """Nothing may count as a result when there is no difference, and something has to when there is a large one."""
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    for difference, wrong in ((0.0, "met"), (-2.0, "met"), (2.0, "contradicted"), (2.0, "open")):
        for name, judged in _judged(plan, difference):
            if judged.state == wrong:
                what = f"larger by {difference:g}" if difference else "just like the control's"
                return f"{name}: with statistics of the MDMs that are {what}, {judged.criterion.value!r} is {wrong}"
    return None


def _tasks_of_pair(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    for group in plan.groups:
        known = registry()["pairs"][group.pair].get("tasks", [])
        for task in (group.local, group.global_):
            if task is not None and task not in known:
                return f"{group.pair} is studied on {task}; it was trained on {' and '.join(known)}"
    return None


def _worth_a_sentence(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    for name, criterion in _criteria(plan):
        threshold = criterion.at_least if criterion.at_least is not None else criterion.at_most
        if threshold is not None and abs(threshold) < 0.001:
            return f"in {name} the threshold is {threshold:g}"
    return None


def _other_arms(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    for group in plan.groups:
        if seen := sorted(_seen_before(group.pair) & set(group.seeds)):
            return f"seeds = {list(group.seeds)} of {group.pair}: {', '.join(map(str, seen))} have been studied before"
    return None


def _several(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    for group in plan.groups:
        if len(set(group.seeds)) < 3:
            return f"{group.title} has seeds = {list(group.seeds)}"
    return None


MENDED_PLAN = Exercise(
    lesson="13",
    task="mend a plan: controls, thresholds, what is measured, on which ARMs",
    minutes=20,
    difficulty=3,
    reference=answers.mended_plan,
    properties=(
        Property(
            "it loads", _loads,
            "Return the whole text of a plan. What the message says of it is what `load_plan` says.",
        ),
        Property(
            "it makes the same claims", _same_claims,
            "Leave both claims as they are, each with a criterion about its statistic, on the task that it speaks of.",
        ),
        Property(
            "every criterion has its control", _has_control,
            'Training alone changes a model too. Take the same statistic of "arm-trained-on" away.',
        ),
        Property(
            "everything is measured", _measured,
            "A task that [[pairs]] does not name: `load_plan` cannot tell, and a report would say \"not measured\".",
        ),
        Property(
            "the pair can be asked that", _tasks_of_pair,
            "A model that was not trained on a task has no way of doing it that could have moved: see "
            "`mdmcourse pairs`.",
        ),
        Property(
            "no difference is no result, and a large one is", _against,
            "Hold each criterion against made-up results: what if nothing changed, or the opposite came out? A "
            "threshold on the wrong side of 0 is met without any effect.",
        ),
        Property(
            "a threshold is a difference that somebody cares about", _worth_a_sentence,
            "With more and more ARMs every difference is larger than 0, be it ever so small. Ask for one that is "
            "worth a sentence.",
        ),
        Property(
            "no ARM judges that was looked at before", _other_arms,
            "A number that was read off seed 0 is met by seed 0, and what the others of the toys' study gave is "
            "printed above. Judge on ARMs that nobody has looked at, however long they take to train.",
        ),
        Property(
            "there are several ARMs", _several,
            "With one ARM there is no interval over ARMs, and with two the interval is 12.7 errors wide to each side. "
            "Name three at least.",
        ),
    ),
    hints=(
        "Look at its rehearsal. One verdict is the same whatever happens, and the other is never measured: each has a "
        "cause that you can read in the plan, or two. Then ask of each number where it comes from.",
        "For each criterion: what is taken away (the ARM, or an ARM trained for as long)? Can the threshold be missed? "
        "Is the task named under [[pairs]]?",
        'For instance "log_edges/mdms - log_edges/arm-trained-on", at_least = 0.1; "source_centre/...", at_least ='
        ' 0.05; under [[pairs]] global = "chain", and seeds = [3, 4, 5] or more: `mdmcourse train-toys` trains them.',
    ),
)  # fmt: skip
