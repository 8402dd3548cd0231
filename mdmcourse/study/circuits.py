"""The circuits of all members of a pair for one task, and how they compare with the ARM's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from mdmcourse.circuits import Comparison, Faithfulness, Scores, attribute, compare, faithfulness_curve
from mdmcourse.errors import InputError
from mdmcourse.models.pairs import load_pair
from mdmcourse.models.reading import MDM, LanguageModel
from mdmcourse.models.registry import load, registry, shipped_tasks
from mdmcourse.tasks import get_task, readable


def circuits_of(
    name: str,
    task: str,
    *,
    seed: int = 0,
    n: int = 128,
    steps: int = 5,
    top: int = 10,
    bootstrap: int = 200,
    device: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Circuits by EAP-IG of every member of a pair, or of a single model; for pairs, each compared with the ARM.

    Scores come from `n` held-out prompts, faithfulness from `n` others. `top` edges are listed for each member. `say`
    is told what is being done. What comes back can be written as JSON; what is no number (the faithfulness of a circuit
    of a model that does the same with all its edges as with none) is None. `as_text` explains it.

    Raises UnknownNameError for an unknown pair or task, and InputError for a task of the course that the pair was not
    trained on.
    """
    if n < 4:
        raise InputError(
            f"{n} prompts were asked for.",
            "A ceiling takes two halves of them, and an interval takes more than one prompt in each.",
            "Ask for 4 or more; a hundred are better.",
        )
    members, tasks = _members(name, seed, device)
    # What a task that somebody added asks of it, nobody here can know.
    if tasks and task not in tasks and task in shipped_tasks():
        raise InputError(
            f"{name} was not trained on {task}.",
            "Its circuits for it would be those of a guess.",
            f"Use one of its tasks: {', '.join(tasks)}.",
        )
    first, *others = members
    # A lone ARM may have no mask token. What stands in its place is never read: it comes after the analysed token.
    mask_id = next((model.mask_id for model in members.values() if isinstance(model, MDM)), 0)
    drawn = get_task(task).prompts(members[first].tokenizer, 2 * n, mask_id=mask_id)
    found_on, tested_on = drawn.select(slice(0, n)), drawn.select(slice(n, 2 * n))
    result: dict[str, Any] = {"name": name, "task": task, "seed": seed, "prompts": n, "members": {}, "comparisons": {}}
    scores = {}
    for member, model in members.items():
        say(f"{member}: attribution")
        scores[member] = attribute(model, readable(model, found_on), steps=steps, keep_prompts=True)
        say(f"{member}: faithfulness")
        result["members"][member] = _of_member(
            scores[member], faithfulness_curve(model, readable(model, tested_on), scores[member]), top
        )
    for member in others:
        say(f"{first} ~ {member}: comparison")
        both = compare(
            scores[first], scores[member], models=(members[first], members[member]), prompts=tested_on,
            bootstrap=bootstrap, seed=seed,
        )  # fmt: skip
        result["comparisons"][f"{first} ~ {member}"] = _of_comparison(both, first, member)
    return without_nan(result)


def _members(name: str, seed: int, device: str | None) -> tuple[dict[str, LanguageModel], tuple[str, ...]]:
    """The models by their roles, the ARM first; and the tasks that they were trained on, if that is known."""
    if name in registry()["models"] and name not in registry()["pairs"]:
        model = load(name, device=device)
        return {"mdm" if isinstance(model, MDM) else "arm": model}, ()
    pair = load_pair(name, seed, device=device)
    return dict(pair.members), pair.tasks


def _of_member(scores: Scores, curve: Faithfulness, top: int) -> dict[str, Any]:
    return {
        "clean": scores.clean,
        "corrupted": scores.corrupted,
        "integration_error": scores.integration_error,
        "warnings": _warnings(scores),
        "edges": scores.graph.n_edges,
        "fractions": curve.fractions.tolist(),
        "kept": curve.kept.tolist(),
        "faithfulness": curve.values.tolist(),
        "cpr": curve.cpr,
        "cmd": curve.cmd,
        "top_edges": scores.top(top),
    }


def _warnings(scores: Scores) -> list[str]:
    """What makes a member's numbers say less than they seem to."""
    said = []
    effect = scores.clean - scores.corrupted
    if effect < 0.1:
        said.append(
            f"corruption costs {effect:.3f} logits: it cannot do this task, and what follows describes a guess, "
            "or a mistake"
        )
    elif abs(scores.integration_error) > 0.1:
        said.append(f"the integral is off by {scores.integration_error:+.0%}: more --steps make it smaller")
    return said


def _of_comparison(both: Comparison, one: str, two: str) -> dict[str, Any]:
    """`both`, with its two models called by their names."""
    names = {"one": one, "two": two}
    return {
        "ks": both.ks.tolist(),
        "overlap": both.overlap.tolist(),
        "overlap_of_halves": both.overlap_of_halves.tolist(),
        f"ceiling_{one}": both.ceiling_one.tolist(),
        f"ceiling_{two}": both.ceiling_two.tolist(),
        "chance": both.chance.tolist(),
        "measures": {
            measure: {names.get(which, which): cell for which, cell in cells.items()}
            for measure, cells in both.measures.items()
        },
        "cross_fractions": both.fractions,
        "cross_faithfulness": {
            f"circuit of {names[whose]} in {names[where]}": both.cross[f"circuit of {whose} in {where}"]
            for where in names
            for whose in names
        },
    }


def without_nan(value: Any) -> Any:
    """The same with None for what is no number: JSON has no word for it."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# As a page to read

LEGEND = """
How to read it
  logit difference      logit(answer) - logit(distractor) where the answer is due, mean over prompts.
  error of the integral how far EAP-IG's sum is off, as a share of what corruption costs; more --steps make it smaller.
  kept                  circuits hold the edges with the largest |score|; then dead ends go, so that fewer are left.
  faithfulness          share of the effect that is left when all other edges carry the corrupted prompt's values:
                        0 with no edges, 1 with all; it can lie outside.
  CPR, CMD              area under it, and between it and 1, over the share of edges: the higher, the lower the better.
  a3.h1->m4             head 1 of layer 3 writes, the MLP of layer 4 reads; <q>, <k>, <v>: as query, key or value.
  overlap               of the two models' strongest K edges, shared over all in either. By itself it says little:
                        hold `of halves` (each model's scores from another half of the prompts) against the ceilings
                        (two halves of the prompts, but one model) and against chance (K random edges each).
  centre                mean layer that |score| leaves (source) and arrives at (reader).
  effective, gini       concentration: as many equal edges or nodes would be as spread out; 0 all alike, 1 only one.
  of arm in mdm         faithfulness of circuits found in the one and run in the other.
  [low, high]           95 % of resamples of the prompts. With few prompts a value can lie outside: resamples repeat
                        prompts, and so are noisier than all of them together."""


def as_text(result: dict[str, Any]) -> str:
    """The result of `circuits_of` as a page to read, with an explanation at its end."""
    lines = [
        f"{result['name']}, seed {result['seed']}, {result['task']}: "
        f"{result['prompts']} prompts for the scores, as many others to test them"
    ]
    for member, row in result["members"].items():
        lines += ["", *_member_lines(member, row)]
    for title, row in result["comparisons"].items():
        lines += ["", title, *_comparison_lines(row)]
    return "\n".join([*lines, LEGEND])


def _member_lines(member: str, row: dict[str, Any]) -> list[str]:
    error = "unknown" if row["integration_error"] is None else f"{row['integration_error']:+.1%}"
    return [
        f"{member}: logit difference {row['clean']:.2f} clean, {row['corrupted']:.2f} corrupted; "
        f"error of the integral {error}",
        *(f"  WARNING: {warning}" for warning in row["warnings"]),
        _row(f"share of {row['edges']:,} edges", row["fractions"], ".1%"),
        _row("kept, without dead ends", row["kept"], ","),
        _row("faithfulness", row["faithfulness"]),
        f"  CPR {_number(row['cpr'], '.3f')}, CMD {_number(row['cmd'], '.3f')}; the strongest edges, in logits:",
        *(f"    {value:>+8.3f}  {edge}" for edge, value in row["top_edges"]),
    ]


def _comparison_lines(row: dict[str, Any]) -> list[str]:
    lines = [_row("strongest K edges", row["ks"], ","), _row("overlap", _values(row["overlap"]))]
    lines.append(_row("overlap of halves", row["overlap_of_halves"]))
    lines += [_row(key.replace("_", " ", 1), row[key]) for key in row if key.startswith("ceiling_")]
    lines.append(_row("chance", row["chance"]))
    for measure, cells in row["measures"].items():
        told = (f"{which} {_interval(cell)}" for which, cell in cells.items())
        lines.append(f"  {measure.replace('_', ' '):<{WIDTH}}  {'; '.join(told)}")
    lines.append(_row("faithfulness at", row["cross_fractions"], ".1%"))
    for which, curve in row["cross_faithfulness"].items():
        lines.append(_row(which.removeprefix("circuit "), _values(curve)))
    return lines


WIDTH = 44  # of what stands before the numbers: the longest names of members, one in the other


def _row(label: str, values: Iterable[float | int | None], form: str = ".2f") -> str:
    return f"  {label:<{WIDTH}}" + "".join(f"{_number(value, form):>8}" for value in values)


def _values(estimates: list[list[float]]) -> list[float]:
    """Without their intervals."""
    return [value for value, _, _ in estimates]


def _number(value: float | int | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _interval(estimate: list[float]) -> str:
    value, low, high = (_number(number, ".3g") for number in estimate)
    return f"{value} [{low}, {high}]"
