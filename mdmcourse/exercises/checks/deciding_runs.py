"""Which runs decide a claim: what has to be true of the answers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product

from mdmcourse.exercises.answers import lesson08 as answers
from mdmcourse.exercises.checks.tools import shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

COMPONENTS = "ABC"
World = dict[frozenset[str], bool]
"""Is the answer there, given the components that hold their clean values?"""


def _sets() -> list[frozenset[str]]:
    return [frozenset(chosen) for size in range(4) for chosen in combinations(COMPONENTS, size)]


def _worlds() -> list[World]:
    """Every world in which all clean gives the answer, all corrupted does not, and nothing works against it."""
    found = []
    for values in product([False, True], repeat=8):
        world = dict(zip(_sets(), values, strict=True))
        grows = all(world[one] <= world[two] for one in world for two in world if one <= two)
        if grows and world[frozenset(COMPONENTS)] and not world[frozenset()]:
            found.append(world)
    return found


CLAIMS: dict[str, Callable[[Callable[[str], bool]], bool]] = {
    "A is enough": lambda holds: holds("A"),
    "A is needed": lambda holds: not holds("BC"),
    "only A matters": lambda holds: holds("A") and not holds("BC"),
    "A and B back each other up": lambda holds: holds("AC") and holds("BC") and not holds("C"),
    "A and B work only together": lambda holds: holds("AB") and not holds("A") and not holds("B"),
}
Run = tuple[str, str]


def _with_answer(world: World, run: Run) -> bool:
    """Is the answer there in this run?"""
    patched = frozenset(run[1])
    return world[patched if run[0] == "denoise" else frozenset(COMPONENTS) - patched]


def _clash(claim: str, runs: list[Run]) -> list[bool] | None:
    """A result of these runs that leaves the claim open, if there is one."""
    said: dict[tuple[bool, ...], bool] = {}
    for world in _worlds():
        result = tuple(_with_answer(world, run) for run in runs)
        truth = CLAIMS[claim](lambda kept, world=world: world[frozenset(kept)])  # type: ignore[misc]
        if said.setdefault(result, truth) != truth:
            return list(result)
    return None


def _named(run: Run) -> str:
    return f"{run[0]} {run[1]}"


def _readable(answer: Answer, seed: int) -> str | None:
    found = answer()
    if not isinstance(found, dict) or set(found) != set(CLAIMS):
        return f"it gave {sorted(found) if isinstance(found, dict) else shape_of(found)}"
    for claim, runs in found.items():
        for run in runs if isinstance(runs, list | tuple) else [runs]:
            if not (isinstance(run, tuple | list) and len(run) == 2 and run[0] in ("denoise", "noise")):
                return f"{claim!r} has the run {run!r}"
            if not (isinstance(run[1], str) and set(run[1]) <= set(COMPONENTS) and run[1]):
                return f"{claim!r} patches {run[1]!r}"
    return None


def _decides(*claims: str) -> Callable[[Answer, int], str | None]:
    def test(answer: Answer, seed: int) -> str | None:
        found = answer()
        for claim in claims:
            runs = [tuple(run) for run in found[claim]]
            clash = _clash(claim, runs)
            if clash is not None:
                results = ", ".join(
                    f"{_named(run)}: {'there' if there else 'gone'}" for run, there in zip(runs, clash, strict=True)
                )
                return f"for {claim!r} the answers may be [{results}] both if it is true and if it is false"
        return None

    return test


def _no_run_too_many(answer: Answer, seed: int) -> str | None:
    for claim, runs in answer().items():
        for index, run in enumerate(runs):
            if _clash(claim, [tuple(each) for each in (*runs[:index], *runs[index + 1 :])]) is None:
                return f"{claim!r} is decided without {_named(run)}"
    return None


DECIDING_RUNS = Exercise(
    lesson="08",
    task="the patched runs that decide a claim about three components",
    minutes=12,
    optional=True,
    difficulty=3,
    reference=answers.deciding_runs,
    properties=(
        Property(
            "it is a list of runs for each claim", _readable,
            'A dictionary with the five claims as keys; a run is ("denoise", "AB"): direction, patched components.',
        ),
        Property(
            "what is enough is decided", _decides("A is enough"),
            "Enough: with everything else corrupted, does A bring the answer back? That is denoising.",
        ),
        Property(
            "what is needed is decided", _decides("A is needed"),
            "Needed: with everything else clean, is the answer lost without A? That is noising.",
        ),
        Property(
            "what alone matters is decided", _decides("only A matters"),
            "It has to be enough *and* needed: enough alone leaves room for a second way, needed alone for a helper.",
        ),
        Property(
            "stand-ins are found", _decides("A and B back each other up"),
            "Remove A, then B, then both. Denoising each tells you what each can do alone, with C corrupted too.",
        ),
        Property(
            "partners are found", _decides("A and B work only together"),
            "Restore A, then B, then both. Noising A only says that A is needed, perhaps together with C.",
        ),
        Property(
            "no run is too many", _no_run_too_many,
            "Each run costs as much as the next: leave out those whose result could not change the verdict.",
        ),
    ),
    hints=(
        "Write each claim as a sentence about what is clean: 'A alone clean: the answer is there'. Then say which run "
        "that is.",
        "Only S clean: denoise S. All but S clean: noise S. Two claims need one run, one needs two, two need three.",
        "Stand-ins: noise A, noise B, noise AB. Partners are the same with denoise. The third claim is the first two "
        "at once.",
    ),
)  # fmt: skip
