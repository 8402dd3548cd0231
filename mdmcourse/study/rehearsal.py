"""A rehearsal of a plan: what its verdicts would be on made-up results, before anything is run.

It shows what no reading of a plan does: a criterion that holds without any effect, one that no result can contradict,
one about a task that the plan does not name and so never measures.
"""

from __future__ import annotations

from typing import Any

from mdmcourse.study.plan import StudyPlan, load_plan
from mdmcourse.study.run import load_results
from mdmcourse.study.unit import MDMS
from mdmcourse.study.verdicts import Verdict, verdicts


def rehearse(plan: StudyPlan, difference: float, spread: float = 0.001) -> list[Verdict]:
    """The verdicts on `imagined` results."""
    return verdicts(plan, imagined(plan, difference, spread))


def imagined(plan: StudyPlan, difference: float, spread: float = 0.001) -> dict[str, Any]:
    """Results of a plan as they would be if all models were alike, but for one thing: on the global task every
    statistic of the MDMs is larger by `difference`, on the local one by half of it.

    spread: standard deviation over ARMs of each difference; their mean is exact. With one ARM it is that over prompts.
    Which statistics there are is taken from the toys' study.
    """
    example = load_results(load_plan("toys"))["units"][0]
    units = []
    for group, seed, task in plan.units:
        kind = {group.local: "local", group.global_: "global"}.get(task, "other")
        at, n = group.seeds.index(seed), len(group.seeds)
        chance = spread * (at - (n - 1) / 2) / ((n * (n + 1) / 12) ** 0.5)  # mean 0, standard deviation `spread`
        shift = {"global": 1.0, "local": 0.5}.get(kind, 0.0) * difference
        statistics = {
            name: 0.4 + (shift + chance if name.split("/")[1] in (*MDMS, "mdms") else 0.0)
            for name in example["statistics"]
        }
        intervals = {name: [value - 1.96 * spread, value + 1.96 * spread] for name, value in statistics.items()}
        units.append(
            {"group": group.title, "seed": seed, "task": task, "kind": kind}
            | {"statistics": statistics, "intervals": intervals}
        )
    return {"units": units}
