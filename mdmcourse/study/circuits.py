"""The circuits of all members of a pair for one task, and how they compare with the ARM's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mdmcourse.circuits import attribute, compare, faithfulness_curve
from mdmcourse.errors import InputError
from mdmcourse.models.pairs import load_pair
from mdmcourse.models.reading import MDM, LanguageModel
from mdmcourse.models.registry import load, registry
from mdmcourse.tasks import get_task


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

    Scores come from `n` held-out prompts, faithfulness from `n` others. `say` is told what is being done.
    Raises UnknownNameError for an unknown pair or task, and InputError for a task that the pair was not trained on.
    """
    members, tasks = _members(name, seed, device)
    if tasks and task not in tasks:
        get_task(task)
        raise InputError(
            f"{name} was not trained on {task}.",
            "Its circuits for it would be those of a guess.",
            f"Use one of its tasks: {', '.join(tasks)}.",
        )
    arm = members["arm"]
    # A lone ARM may have no mask token. What stands in its place is never read: it comes after the analysed token.
    mask_id = next((model.mask_id for model in members.values() if isinstance(model, MDM)), 0)
    drawn = get_task(task).prompts(arm.tokenizer, 2 * n, mask_id=mask_id)
    found_on, tested_on = drawn.select(slice(0, n)), drawn.select(slice(n, 2 * n))
    result: dict[str, Any] = {"name": name, "task": task, "seed": seed, "prompts": n, "members": {}, "comparisons": {}}
    scores = {}
    for member, model in members.items():
        say(f"{member}: attribution")
        scores[member] = attribute(model, found_on, steps=steps, keep_prompts=True)
        say(f"{member}: faithfulness")
        curve = faithfulness_curve(model, tested_on, scores[member])
        result["members"][member] = {
            "clean": scores[member].clean,
            "corrupted": scores[member].corrupted,
            "integration_error": scores[member].integration_error,
            "edges": scores[member].graph.n_edges,
            "fractions": curve.fractions.tolist(),
            "kept": curve.kept.tolist(),
            "faithfulness": curve.values.tolist(),
            "cpr": curve.cpr,
            "cmd": curve.cmd,
            "top_edges": scores[member].top(top),
        }
    for member, model in members.items():
        if member == "arm":
            continue
        say(f"arm ~ {member}: comparison")
        both = compare(
            scores["arm"], scores[member], models=(arm, model), prompts=tested_on, bootstrap=bootstrap, seed=seed
        )
        result["comparisons"][f"arm ~ {member}"] = {
            "ks": both.ks.tolist(),
            "overlap": both.overlap.tolist(),
            "overlap_of_halves": both.overlap_of_halves.tolist(),
            "ceiling_arm": both.ceiling_one.tolist(),
            f"ceiling_{member}": both.ceiling_two.tolist(),
            "chance": both.chance.tolist(),
            "measures": both.measures,
            "cross_faithfulness": both.cross,
        }
    return result


def _members(name: str, seed: int, device: str | None) -> tuple[dict[str, LanguageModel], tuple[str, ...]]:
    if name in registry()["models"] and name not in registry()["pairs"]:
        return {"arm": load(name, device=device)}, ()
    pair = load_pair(name, seed, device=device)
    return dict(pair.members), pair.tasks


def as_text(result: dict[str, Any]) -> str:
    """The result of `circuits_of` as a page to read."""
    lines = [
        f"{result['name']}, seed {result['seed']}, {result['task']}: "
        f"{result['prompts']} prompts for the scores, as many others to test them"
    ]
    for member, row in result["members"].items():
        lines += ["", f"{member}: logit difference {row['clean']:.2f} clean, {row['corrupted']:.2f} corrupted"]
        lines[-1] += f"; error of the integral {row['integration_error']:+.1%}"
        lines.append("  edges kept    " + "".join(f"{kept:>8,}" for kept in row["kept"]))
        lines.append("  faithfulness  " + "".join(f"{value:>8.2f}" for value in row["faithfulness"]))
        lines.append(f"  CPR {row['cpr']:.3f}, CMD {row['cmd']:.3f}; of {row['edges']:,} edges the strongest:")
        lines += [f"    {value:>+8.3f}  {edge}" for edge, value in row["top_edges"]]
    for title, row in result["comparisons"].items():
        own = [key for key in row if key.startswith("ceiling_")]
        lines += ["", f"{title} (intervals: 95 %, over prompts)"]
        lines.append("  top K edges         " + "".join(f"{k:>8,}" for k in row["ks"]))
        lines.append("  overlap             " + "".join(f"{value:>8.2f}" for value, _, _ in row["overlap"]))
        lines.append("  overlap of halves   " + "".join(f"{value:>8.2f}" for value in row["overlap_of_halves"]))
        lines += [f"  {key.replace('_', ' '):<20}" + "".join(f"{value:>8.2f}" for value in row[key]) for key in own]
        lines.append("  chance              " + "".join(f"{value:>8.2f}" for value in row["chance"]))
        for measure, cells in row["measures"].items():
            told = "; ".join(f"{which} {v:.3g} [{low:.3g}, {high:.3g}]" for which, (v, low, high) in cells.items())
            lines.append(f"  {measure:<20}{told}")
        for which, curve in row["cross_faithfulness"].items():
            named = which.replace("one", "arm").replace("two", title.removeprefix("arm ~ "))
            lines.append(f"  f, {named:<44}" + "".join(f"{value:>6.2f}" for value, _, _ in curve))
    return "\n".join(lines)
