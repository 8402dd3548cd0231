"""The design of an experiment: what has to be true of the answer of lesson 03."""

from __future__ import annotations

from typing import Any

from mdmcourse.exercises.answers import lesson03 as answers
from mdmcourse.exercises.exercise import Answer, Exercise, Property

BASE = {"on": "answers", "weight": "1/t", "batch_size": 64, "learning_rate": 5e-3, "steps": 100, "seed": 7}


def _cases(seed: int) -> list[tuple[str, list[Any], int]]:
    return [
        ("weight", ["1/t", "none"], 60_000 + 1000 * (seed % 7)),
        ("learning_rate", [1e-3, 3e-3, 1e-2], 90_000),
        ("batch_size", [16, 64, 256], 150_000 + 1000 * (seed % 5)),
    ]


def _dictionaries(answer: Answer, seed: int) -> str | None:
    for factor, values, budget in _cases(seed):
        base = dict(BASE)
        runs = answer(base, factor, list(values), budget)
        if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
            return f"it gave {type(runs).__name__} and not a list of dictionaries"
        if base != BASE:
            return f"base was changed: {', '.join(key for key in BASE if base.get(key) != BASE[key])}"
        if len({id(run) for run in runs}) < len(runs):
            return f"for the factor {factor} the list holds one and the same dictionary several times"
        odd = [key for run in runs for key in set(run) ^ set(BASE)]
        if odd:
            return f"a run lacks, or has too much, the key {odd[0]!r}"
    return None


def _one_difference(answer: Answer, seed: int) -> str | None:
    for factor, values, budget in _cases(seed):
        runs = answer(dict(BASE), factor, list(values), budget)
        for run in runs:
            other = [key for key in BASE if key not in (factor, "seed", "steps") and run[key] != BASE[key]]
            if other:
                return f"for the factor {factor} a run has {other[0]} = {run[other[0]]!r}, base has {BASE[other[0]]!r}"
        found = sorted({run[factor] for run in runs})
        if found != sorted(values):
            return f"for the factor {factor} the values were {found}, asked for were {sorted(values)}"
    return None


def _seeds(answer: Answer, seed: int) -> list[tuple[str, dict[Any, list[int]]]]:
    found = []
    for factor, values, budget in _cases(seed):
        runs = answer(dict(BASE), factor, list(values), budget)
        found.append((factor, {value: sorted(run["seed"] for run in runs if run[factor] == value) for value in values}))
    return found


def _several_seeds(answer: Answer, seed: int) -> str | None:
    for factor, seeds in _seeds(answer, seed):
        for value, each in seeds.items():
            if len(set(each)) < 3 or len(set(each)) < len(each):
                return f"for {factor} = {value} the seeds were {each}"
            if len(each) > 10:
                return f"for {factor} = {value} there were {len(each)} seeds"
    return None


def _same_seeds(answer: Answer, seed: int) -> str | None:
    for factor, seeds in _seeds(answer, seed):
        if len(set(map(tuple, seeds.values()))) > 1:
            one, two, *_ = seeds.items()
            return f"for {factor} = {one[0]} the seeds were {one[1]}, for {two[0]} they were {two[1]}"
    return None


def _same_texts(answer: Answer, seed: int) -> str | None:
    for factor, values, budget in _cases(seed):
        runs = answer(dict(BASE), factor, list(values), budget)
        strange = [run["steps"] for run in runs if not isinstance(run["steps"], int) or run["steps"] < 1]
        if strange:
            return f"a run has {strange[0]!r} steps"
        texts = [run["steps"] * run["batch_size"] for run in runs]
        if max(texts) - min(texts) > max(run["batch_size"] for run in runs):
            return f"for the factor {factor} one run sees {min(texts):,} texts and another {max(texts):,}"
    return None


def _budget(answer: Answer, seed: int) -> str | None:
    more = [(factor, values, budget + 97 * step) for factor, values, budget in _cases(seed) for step in range(20)]
    for factor, values, budget in more:
        texts = sum(run["steps"] * run["batch_size"] for run in answer(dict(BASE), factor, list(values), budget))
        if not 0.8 * budget <= texts <= budget:
            return f"for the factor {factor} all runs together see {texts:,} texts, the budget is {budget:,}"
    return None


FAIR_RUNS = Exercise(
    lesson="03",
    task="design a fair comparison: the settings of all runs",
    minutes=15,
    optional=True,
    difficulty=2,
    reference=answers.fair_runs,
    properties=(
        Property(
            "it gives a list of separate dictionaries and leaves base alone", _dictionaries,
            "Changing one dictionary and appending it again and again changes all. Make new ones: {**base, ...}.",
        ),
        Property(
            "only the factor differs from base, and takes all its values", _one_difference,
            "Beside factor, seed and steps nothing may differ: otherwise nobody can say what made the difference.",
        ),
        Property(
            "each value has three to ten different seeds", _several_seeds,
            "A difference between single runs may be luck; and with very many the budget leaves too few steps a run to "
            "learn anything.",
        ),
        Property(
            "all values have the same seeds", _same_seeds,
            "Then the luck of a seed hits both sides alike, and cancels in the difference.",
        ),
        Property(
            "every run sees the same number of texts", _same_texts,
            "Steps are not texts: with a batch four times as large a run may take a quarter of the steps. Use the "
            "batch size of the run, not that of base, and // for whole steps.",
        ),
        Property(
            "all runs together keep to the budget, and use it", _budget,
            "The budget is in texts, and for all runs: divide it by the number of runs. Steps are rounded down, with "
            "//: round() goes over for some budgets.",
        ),
    ),
    hints=(
        "How many runs are there? The number of values times the number of seeds. So how many texts may each see?",
        "Two loops, over values and over seeds: run = {**base, factor: value, 'seed': seed}.",
        "run['steps'] = budget // (number of runs) // run['batch_size'], with the batch size of this run.",
    ),
)  # fmt: skip
