"""Worlds in which one explanation of an effect is the whole truth, to test whether a control tells them apart.

An effect X was seen in a run, the treatment: an ARM's weights, attention opened, trained with masks. Each rival
explanation says that less would have been enough. In its world, X shows in every run that has that much. A control
is good if it shows X in the world of its rival, and in no other that matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mdmcourse.exercises.exercise import Answer

RIVALS = ("already", "attention", "training", "masks", "compute", "luck")
START, ATTENTION, OBJECTIVE = ("ARM", "random"), ("causal", "full"), ("next token", "masked", None)
World = Callable[[Any], bool]


class Run(NamedTuple):
    """A training run, as the lesson describes it."""

    start: str
    attention: str
    objective: str | None
    steps: int
    seed: int


def given(seed: int) -> tuple[Run, int]:
    """A treatment, and the steps of its ARM's training."""
    return Run("ARM", "full", "masked", 40 + 10 * (seed % 7), seed % 5), 1000 + 37 * (seed % 11)


def worlds(treatment: Run, arm_steps: int) -> dict[str, World]:
    """For each rival, and for the claim itself: does a run show X in its world?"""
    enough = treatment.steps

    def with_masks(run: Any) -> bool:
        return run.attention == "full" and run.objective == "masked"

    def all_steps(run: Any) -> int:
        return run.steps + (arm_steps if run.start == "ARM" else 0)

    return {
        "already": lambda run: run.start == "ARM",
        "attention": lambda run: run.start == "ARM" and run.attention == "full",
        "training": lambda run: run.start == "ARM" and run.objective is not None and run.steps >= enough,
        "masks": lambda run: with_masks(run) and run.steps >= enough,
        "compute": lambda run: with_masks(run) and all_steps(run) >= arm_steps + enough,
        "luck": lambda run: run.seed == treatment.seed,
        "claim": lambda run: run.start == "ARM" and with_masks(run) and run.steps >= enough,
        "masked texts": lambda run: run.objective == "masked",
    }


# What a control must not have beside what its rival needs: the worlds in which it would show X for another reason.
TOO_MUCH = {
    "already": ("attention", "training", "masks"),
    "attention": ("training", "masks", "compute"),
    "training": ("attention", "masked texts"),
    "masks": ("already", "compute"),
    "compute": ("already",),
}
REASON = {
    "already": "the ARM's weights",
    "attention": "opened attention",
    "training": "training",
    "masks": "training with masks",
    "compute": "as much training as both stages together",
    "masked texts": "masks in the texts",
}


def told(run: Any) -> str:
    known = (*START, *ATTENTION, *OBJECTIVE, "no training")
    fields = (
        each if each in known else repr(each) for each in (run.start, run.attention, run.objective or "no training")
    )
    return f"({', '.join(fields)}, {run.steps} step{'' if run.steps == 1 else 's'}, seed {run.seed})"


def each_rival_has_a_run(answer: Answer, seed: int) -> str | None:
    found = answer(*given(seed))
    if not isinstance(found, dict):
        return f"it gave a {type(found).__name__}"
    if set(found) != set(RIVALS):
        missing, extra = sorted(set(RIVALS) - set(found)), sorted(map(str, set(found) - set(RIVALS)))
        return "; ".join(
            f"{name}: {', '.join(keys)}" for name, keys in (("missing", missing), ("unknown", extra)) if keys
        )
    for name, run in found.items():
        if not all(hasattr(run, field) for field in Run._fields):
            return f'"{name}" is a {type(run).__name__}, not a run: use treatment._replace(...)'
    return None


def each_is_possible(answer: Answer, seed: int) -> str | None:
    for name, run in answer(*given(seed)).items():
        known = run.start in START and run.attention in ATTENTION and run.objective in OBJECTIVE
        untrained = run.objective is None
        leaks = run.objective == "next token" and run.attention == "full"
        if not known or untrained != (run.steps == 0) or run.steps < 0 or leaks:
            return f'"{name}" is {told(run)}'
    return None


def shows_x_if_the_rival_is_right(answer: Answer, seed: int) -> str | None:
    treatment, arm_steps = given(seed)
    found, shows = answer(treatment, arm_steps), worlds(treatment, arm_steps)
    for name in RIVALS[:-1]:
        if not shows[name](found[name]):
            return f'if "{name}" is the whole truth, its run {told(found[name])} still does not show X'
    if shows["luck"](found["luck"]):
        return f'if the seed was lucky, the run for "luck", {told(found["luck"])}, must not show X, and does'
    return None


def silent_if_only_post_training_does_it(answer: Answer, seed: int) -> str | None:
    treatment, arm_steps = given(seed)
    found, shows = answer(treatment, arm_steps), worlds(treatment, arm_steps)
    for name in RIVALS[:-1]:
        if shows["claim"](found[name]):
            return f'the run for "{name}", {told(found[name])}, has all that the treatment has'
    if not shows["claim"](found["luck"]):
        return f'the run for "luck", {told(found["luck"])}, is not the treatment with another seed'
    return None


def one_explanation_each(answer: Answer, seed: int) -> str | None:
    treatment, arm_steps = given(seed)
    found, shows = answer(treatment, arm_steps), worlds(treatment, arm_steps)
    for name, others in TOO_MUCH.items():
        for other in others:
            if shows[other](found[name]):
                return f'the run for "{name}", {told(found[name])}, would show X also if {REASON[other]} did it'
    return None


def _steps(treatment: Run, arm_steps: int) -> dict[str, int]:
    """How many steps each rival speaks of."""
    return dict.fromkeys(RIVALS, treatment.steps) | {
        "already": 0,
        "attention": 0,
        "compute": arm_steps + treatment.steps,
    }


def _told_of_steps(name: str, run: Any, treatment: Run, arm_steps: int) -> str:
    return (
        f'"{name}" has {run.steps} steps, where the treatment that the check gave has {treatment.steps} and its ARM '
        f"had {arm_steps}"
    )


def enough_steps(answer: Answer, seed: int) -> str | None:
    treatment, arm_steps = given(seed)
    found = answer(treatment, arm_steps)
    for name, steps in _steps(treatment, arm_steps).items():
        if found[name].objective is not None and found[name].steps < steps:
            return _told_of_steps(name, found[name], treatment, arm_steps)
    return None


def same_seed(answer: Answer, seed: int) -> str | None:
    treatment, arm_steps = given(seed)
    for name, run in answer(treatment, arm_steps).items():
        if name != "luck" and run.seed != treatment.seed:
            return f'"{name}" is {told(run)}, the treatment has seed {treatment.seed}'
    return None


def right_number_of_steps(answer: Answer, seed: int) -> str | None:
    treatment, arm_steps = given(seed)
    found = answer(treatment, arm_steps)
    for name, steps in _steps(treatment, arm_steps).items():
        if found[name].steps != steps:
            return _told_of_steps(name, found[name], treatment, arm_steps)
    return None
