"""Worlds in which one difference between two models changes circuits and no other does, to test pairs of models.

The overlap of a pair is low in a world if its two models differ in what counts there. A control pair is good if its
overlap would be what was measured if the rival explanation were true, and would not be if the claim were.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mdmcourse.exercises.answers import lesson10 as answers
from mdmcourse.exercises.exercise import Answer, Exercise, Property

CLAIMS = ("training", "attention", "noise", "learning", "inheritance")


class Made(NamedTuple):
    """How a model was made, as the lesson describes it."""

    arm: str
    objective: str | None
    attention: str
    steps: int
    seed: int


def given(seed: int) -> Made:
    """The MDM."""
    return Made("A", "masked", "full", 1000 + 100 * (seed % 7), seed % 5)


def can(model: Any) -> bool:
    """Does it know how to do the task? Only the ARM "new" does not, before it is taught."""
    return model.arm != "new" or model.objective is not None


DIFFERS = {
    "masks": lambda one, two: (one.objective == "masked") != (two.objective == "masked"),
    "training": lambda one, two: (one.objective is None) != (two.objective is None),
    "attention": lambda one, two: one.attention != two.attention,
    "seed": lambda one, two: None not in (one.objective, two.objective) and one.seed != two.seed,
    "learning": lambda one, two: can(one) != can(two),
    "arm": lambda one, two: one.arm != two.arm,
}
IN_WORDS = {
    "masks": "only one of them was trained with masks",
    "training": "only one of them was trained on",
    "attention": "they differ in attention",
    "seed": "they saw other batches",
    "learning": "only one of them can do the task",
    "arm": "they come from different ARMs",
}
# What the two models have to differ in, and what they must not differ in.
NEEDS = {
    "training": "training",
    "attention": "attention",
    "noise": "seed",
    "learning": "learning",
    "inheritance": "arm",
}
MUST_NOT = {
    "training": ("masks", "attention", "learning", "arm"),
    "attention": ("masks", "training", "learning", "arm", "seed"),
    "noise": ("masks", "training", "attention", "learning", "arm"),
    "learning": ("masks", "attention", "arm"),
    "inheritance": ("learning",),
}


def told(model: Any) -> str:
    how = "not trained on" if model.objective is None else f"{model.objective}, {model.steps} steps, seed {model.seed}"
    return f"(ARM {model.arm}, {how}, {model.attention})"


def _pairs(answer: Answer, seed: int) -> dict[str, tuple[Any, Any]]:
    return {claim: tuple(pair) for claim, pair in answer(given(seed)).items()}


def _two_models_each(answer: Answer, seed: int) -> str | None:
    found = answer(given(seed))
    if not isinstance(found, dict) or set(found) != set(CLAIMS):
        return f"it gave {found!r:.80}" if not isinstance(found, dict) else f"the keys were {sorted(map(str, found))}"
    for claim, pair in found.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or isinstance(pair, Made):
            return f'"{claim}" is {pair!r:.80}, not a pair of models'
        if not all(hasattr(model, field) for model in pair for field in Made._fields):
            return f'"{claim}" holds something that is no model: use treatment._replace(...)'
    return None


def _possible(answer: Answer, seed: int) -> str | None:
    for claim, pair in _pairs(answer, seed).items():
        for model in pair:
            known = model.arm in ("A", "B", "new") and model.objective in (None, "next token", "masked")
            untrained = model.objective is None
            leaks = model.objective == "next token" and model.attention == "full"
            if not known or model.attention not in ("causal", "full") or untrained != (model.steps == 0) or leaks:
                return f'"{claim}" has the model {told(model)} with {model.steps} steps'
    return None


def _not_the_pair_itself(answer: Answer, seed: int) -> str | None:
    treatment = given(seed)
    for claim, (one, two) in _pairs(answer, seed).items():
        for first, second in ((one, two), (two, one)):
            if second == treatment and first.arm == treatment.arm and first.objective is None:
                return f'"{claim}" is the ARM and the MDM again, or the MDM and its own ARM read otherwise'
        if one == two:
            return f'"{claim}" is twice the same model'
    return None


def _rival_would_show(answer: Answer, seed: int) -> str | None:
    for claim, (one, two) in _pairs(answer, seed).items():
        need = NEEDS[claim]
        if not DIFFERS[need](one, two):
            return f'"{claim}": it is not so that {IN_WORDS[need]}: {told(one)} and {told(two)}'
    return None


def _nothing_else_would(answer: Answer, seed: int) -> str | None:
    for claim, (one, two) in _pairs(answer, seed).items():
        for other in MUST_NOT[claim]:
            if DIFFERS[other](one, two):
                return f'"{claim}" would have a low overlap also because {IN_WORDS[other]}: {told(one)} and {told(two)}'
    return None


def _about_this_pair(answer: Answer, seed: int) -> str | None:
    treatment = given(seed)
    arm = treatment._replace(objective=None, attention="causal", steps=0)
    for claim, pair in _pairs(answer, seed).items():
        if claim == "learning":
            continue
        bare = [model._replace(seed=0) if model.objective is None else model for model in pair]
        if treatment not in bare and arm._replace(seed=0) not in bare:
            return f'"{claim}" has neither the ARM nor the MDM of the claim: {told(pair[0])}, {told(pair[1])}'
    return None


def _same_dose(answer: Answer, seed: int) -> str | None:
    treatment = given(seed)
    for claim, pair in _pairs(answer, seed).items():
        for model in pair:
            if model.objective is not None and model.steps != treatment.steps:
                return f'"{claim}" has a model trained for {model.steps} steps; the MDM had {treatment.steps}'
    return None


CONTROL_PAIRS = Exercise(
    lesson="10",
    task="design the missing control for five claims about an overlap",
    minutes=15,
    difficulty=3,
    reference=answers.control_pairs,
    properties=(
        Property("each claim has a pair of models", _two_models_each, "A dictionary from claim to (one, two)."),
        Property(
            "every model can be made", _possible,
            "Not trained on means objective None and 0 steps. Next tokens cannot be taught with full attention: the "
            "model would see the token that it is asked for.",
        ),
        Property(
            "no pair is the claim's own", _not_the_pair_itself,
            "The overlap of the ARM and its MDM is what is to be explained. The control is another pair.",
        ),
        Property(
            "the rival explanation would show in it", _rival_would_show,
            "If the rival is right, the control's overlap must be as low as that of the claim's pair (for "
            '"inheritance": must not be lower). So its two models have to differ in what the rival names.',
        ),
        Property(
            "nothing else would show in it", _nothing_else_would,
            "The pair differs in more than the rival needs. Whatever comes out, you could not tell which of the two it "
            "was.",
        ),
        Property(
            "it is about the models of the claim", _about_this_pair,
            'Keep one of the two models that were measured. (Only "learning" speaks of another ARM.)',
        ),
        Property(
            "what is trained is trained as long as the MDM", _same_dose,
            "With fewer steps the control has less time to change. Leave steps as they are in the treatment.",
        ),
    ),
    hints=(
        "Begin with the models: the ARM is treatment._replace(objective=None, attention='causal', steps=0). What does "
        "each rival change in it, and nothing else?",
        "Four of the pairs have lessons' names: trained on, attention switched, second seed, another ARM.",
        '"learning" is "training" once more, with arm="new" on both sides: before, and after having been taught '
        "without masks.",
    ),
)  # fmt: skip
