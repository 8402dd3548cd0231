"""A bad plan, and what has to be true of it when it is mended."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mdmcourse.errors import MdmcourseError
from mdmcourse.exercises.answers import lesson13 as answers
from mdmcourse.exercises.exercise import Answer, Exercise, Property
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
    { task = "global", value = "source_center/mdms - source_center/arm", at_least = 0.247, why = "seed 0 gave 0.248" },
]
"""
CLAIMS = re.findall(r'claim = "(.*)"', BAD_PLAN)
STATISTIC = {CLAIMS[0]: "log_edges", CLAIMS[1]: "source_centre"}
SEEN_BEFORE = 0  # the seed that the threshold was read off


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
        near = about[:8]  # a misspelt one is told of by another property
        if not any(near in criterion.value and "/mdms" in criterion.value for criterion in finding.criteria):
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


def _other_arms(answer: Answer, seed: int) -> str | None:
    plan = _loaded(answer)
    assert isinstance(plan, StudyPlan)
    for group in plan.groups:
        if SEEN_BEFORE in group.seeds:
            return f"seeds = {list(group.seeds)}: {SEEN_BEFORE} is among them, and the plan says what it gave"
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
            "A task that [[pairs]] does not name, or a statistic that is not in mdmcourse/study/unit.py: `load_plan` "
            "cannot tell, and a report would say \"not measured\".",
        ),
        Property(
            "no difference is no result, and a large one is", _against,
            "Hold each criterion against made-up results: what if nothing changed, or the opposite came out? A "
            "threshold on the wrong side of 0 is met without any effect.",
        ),
        Property(
            "the ARM that gave the threshold does not judge it", _other_arms,
            "A number that was read off seed 0 is met by seed 0. Judge on ARMs that nobody has looked at, however long "
            "they take to train.",
        ),
        Property(
            "there are several ARMs", _several,
            "With one ARM there is no interval over ARMs, and with two the interval is 12.7 errors wide to each side. "
            "Name three at least.",
        ),
    ),
    hints=(
        "Five things are wrong: no control, a threshold that is always met, a misspelt statistic, a task that is "
        "missing under [[pairs]], and a number that was read off the ARM that it judges.",
        'Take "log_edges/arm-trained-on" away in SPREAD and ask for more than 0. In MOVES it is called "source_centre";'
        ' its control is "arm-trained-on" too.',
        'Add global = "chain" under [[pairs]], and seeds = [3, 4, 5] or more: they can be trained with '
        "`mdmcourse train-toys`.",
    ),
)  # fmt: skip
