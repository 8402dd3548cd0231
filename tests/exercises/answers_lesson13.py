"""Answers to the exercises of lesson 13: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import math
from statistics import NormalDist

import torch

from mdmcourse.exercises.answers.lesson13 import mended_plan
from mdmcourse.exercises.checks.study_plans import BAD_PLAN
from mdmcourse.study.verdicts import T_800, T_975

# --- judged


def by_the_lower_end(low, high, at_least=None, at_most=None):
    if at_least is not None:
        return "met" if low >= at_least else "contradicted"
    return "met" if high <= at_most else "contradicted"


def by_the_mean(low, high, at_least=None, at_most=None):
    middle = (low + high) / 2
    right = middle >= at_least if at_least is not None else middle <= at_most
    return "met" if right else "contradicted"


def an_end_is_enough(low, high, at_least=None, at_most=None):
    if at_least is not None:
        return "met" if high >= at_least else "contradicted"
    return "met" if low <= at_most else "contradicted"


def never_contradicted(low, high, at_least=None, at_most=None):
    right = low >= at_least if at_least is not None else high <= at_most
    return "met" if right else "open"


def one_direction(low, high, at_least=None, at_most=None):
    needed = at_least if at_least is not None else at_most
    return "met" if low >= needed else "contradicted" if high < needed else "open"


def zero_is_nothing(low, high, at_least=None, at_most=None):
    if at_least:
        return "met" if low >= at_least else "contradicted" if high < at_least else "open"
    if at_most:
        return "met" if high <= at_most else "contradicted" if low > at_most else "open"
    return "open"


def zero_is_the_other_side(low, high, at_least=None, at_most=None):
    if at_least:
        return "met" if low >= at_least else "contradicted" if high < at_least else "open"
    return "met" if high <= at_most else "contradicted" if low > at_most else "open"


def what_is_left_is_contradicted(low, high, at_least=None, at_most=None):
    if at_least is not None:
        return "met" if low >= at_least else "open" if low < at_least <= high else "contradicted"
    return "met" if high <= at_most else "open" if low <= at_most < high else "contradicted"


def a_truth_value(low, high, at_least=None, at_most=None):
    return low >= at_least if at_least is not None else high <= at_most


def strictly(low, high, at_least=None, at_most=None):
    if at_least is not None:
        return "met" if low > at_least else "contradicted" if high < at_least else "open"
    return "met" if high < at_most else "contradicted" if low > at_most else "open"


def touching_is_contradicted(low, high, at_least=None, at_most=None):
    if at_least is not None:
        return "met" if low >= at_least else "contradicted" if high <= at_least else "open"
    return "met" if high <= at_most else "contradicted" if low >= at_most else "open"


def by_mirror(low, high, at_least=None, at_most=None):
    if at_least is None:
        low, high, at_least = -high, -low, -at_most
    if math.isnan(low) or math.isnan(high) or low < at_least <= high:
        return "open"
    return "met" if low >= at_least else "contradicted"


# --- any_false_alarm


def none_of_them(levels):
    return math.prod(1 - level for level in levels)


def at_least_one_by_hand(levels):
    nothing = 1.0
    for level in levels:
        nothing *= 1 - level
    return 1 - nothing


def one_after_the_other(levels):
    found = 0.0
    for level in levels:
        found += (1 - found) * level
    return found


def exactly_one(levels):
    return sum(level * math.prod(1 - b for j, b in enumerate(levels) if j != i) for i, level in enumerate(levels))


def by_tosses(levels):
    return float((torch.rand(20_000, len(levels)) < torch.tensor(levels)).any(dim=1).double().mean())


# --- detectable


def normal(spread, n):
    z = NormalDist()
    return (z.inv_cdf(0.975) + z.inv_cdf(0.8)) * spread / math.sqrt(n)


def normal_power(spread, n):
    return (T_975[n - 2] + NormalDist().inv_cdf(0.8)) * spread / math.sqrt(n)


def exact(spread, n):
    """By bisection over simulated studies."""
    values = torch.randn(20_000, n, generator=torch.Generator().manual_seed(1))
    reach = T_975[n - 2] * values.std(dim=1) / math.sqrt(n) - values.mean(dim=1)
    return float(reach.quantile(0.8)) * spread


# --- over_arms


def all_prompts(values):
    heap = torch.cat(values)
    half = 1.96 * heap.std() / len(heap) ** 0.5
    return heap.mean(), heap.mean() - half, heap.mean() + half


def mean_of_the_heap(values):
    mean, low, high = over(values)
    shift = torch.cat(values).mean() - mean
    return mean + shift, low + shift, high + shift


def over(values, t=lambda n: T_975[n - 2], unbiased=True, root=True):
    each = torch.stack([of_arm.mean() for of_arm in values])
    n = len(each)
    if n == 1:
        return each[0], math.nan, math.nan
    half = t(n) * each.std(unbiased=unbiased) / (n**0.5 if root else 1)
    return each.mean(), each.mean() - half, each.mean() + half


def within_arms(values):
    each = torch.stack([of_arm.mean() for of_arm in values])
    error = torch.stack([of_arm.std() / len(of_arm) ** 0.5 for of_arm in values]).mean()
    return each.mean(), each.mean() - 2 * error, each.mean() + 2 * error


def half_width(values):
    mean, low, high = over(values)
    return mean, (high - low) / 2


def a_point_for_one(values):
    if len(values) == 1:
        mean = values[0].mean()
        return mean, mean, mean
    return over(values)


def by_lists(values):
    each = [sum(of_arm.tolist()) / len(of_arm) for of_arm in values]
    if len(each) == 1:
        return each[0], math.nan, math.nan
    middle = sum(each) / len(each)
    error = math.sqrt(sum((x - middle) ** 2 for x in each) / (len(each) - 1) / len(each))
    return middle, middle - T_975[len(each) - 2] * error, middle + T_975[len(each) - 2] * error


# --- mended_plan


def changed(*changes):
    """The course's own plan with something in it spoilt again."""

    def answer(text):
        mended = mended_plan(text)
        for old, new in changes:
            assert old in mended, old
            mended = mended.replace(old, new)
        return mended

    return answer


def step_by_step(text):
    for old, new in (
        ("seeds = [0]", "seeds = [4, 5, 6]"),
        ('local = "ioi"', 'local = "ioi"\nglobal = "chain"'),
        ('"log_edges/mdms", at_least = 0.0', '"log_edges/mdms - log_edges/arm-trained-on", at_least = 0.2'),
        ("source_centre/arm", "source_centre/arm-trained-on"),
        ("at_least = 0.247", "at_least = 0.05"),
    ):
        text = text.replace(old, new)
    return text


WRONG = {
    "judged": {
        "only the better end counts": (an_end_is_enough, "an interval with the number in it is open"),
        "only the worse end counts": (by_the_lower_end, "an interval with the number in it is open"),
        "by the mean": (by_the_mean, "an interval with the number in it is open"),
        "nothing is ever contradicted": (never_contradicted, "an interval on the wrong side is contradicted"),
        "at_most like at_least": (one_direction, "at_most looks to the other side"),
        "more than at least": (strictly, "an interval that touches the number"),
        "touched from the wrong side": (touching_is_contradicted, "an interval that touches the number"),
        "0 taken for no number": (zero_is_nothing, "0 is a number like any other"),
        "0 taken for no number, and no other": (zero_is_the_other_side, "0 is a number like any other"),
        "no interval is contradicted": (what_is_left_is_contradicted, "without an interval it is open"),
        "true or false": (a_truth_value, "an interval on the right side is met"),
    },
    "any_false_alarm": {
        "none of them": (none_of_them, "a single measure has its own level"),
        "all of them": (math.prod, "more measures give more false alarms"),
        "the largest": (lambda levels: max(levels, default=0), "more measures give more false alarms"),
        "exactly one": (exactly_one, "more measures give more false alarms"),
        "the sum": (sum, "it is a probability"),
        "the sum, cut off": (lambda levels: min(1, sum(levels)), "it is right for many measures of one level"),
        "the first level for all": (lambda levels: 1 - (1 - levels[0]) ** len(levels), "the levels may differ"),
        "the mean level for all": (
            lambda levels: 1 - (1 - sum(levels) / len(levels)) ** len(levels),
            "the levels may differ",
        ),
        "by tosses": (by_tosses, "it is exact, also without any measure"),
    },
    "detectable": {
        "the normal distribution": (normal, "three ARMs do so too"),
        "n degrees of freedom": (
            lambda spread, n: (T_975[n - 1] + T_800[n - 1]) * spread / math.sqrt(n),
            "three ARMs do so too",
        ),
        "the root of n - 1": (
            lambda spread, n: (T_975[n - 2] + T_800[n - 2]) * spread / math.sqrt(n - 1),
            "the error of a mean has the root of n",
        ),
        "without the root": (
            lambda spread, n: (T_975[n - 2] + T_800[n - 2]) * spread,
            "ten ARMs show it in about four studies of five",
        ),
        "n in the place of its root": (
            lambda spread, n: (T_975[n - 2] + T_800[n - 2]) * spread / n,
            "ten ARMs show it in about four studies of five",
        ),
        "the half width": (
            lambda spread, n: T_975[n - 2] * spread / math.sqrt(n),
            "ten ARMs show it in about four studies of five",
        ),
        "two standard errors": (
            lambda spread, n: 2 * spread / math.sqrt(n),
            "ten ARMs show it in about four studies of five",
        ),
        "the variance": (
            lambda spread, n: (T_975[n - 2] + T_800[n - 2]) * spread**2 / math.sqrt(n),
            "it is proportional to the spread",
        ),
        "without the spread": (
            lambda spread, n: (T_975[n - 2] + T_800[n - 2]) / math.sqrt(n),
            "it is proportional to the spread",
        ),
    },
    "over_arms": {
        "over prompts": (all_prompts, "every ARM counts once"),
        "the mean of the heap": (mean_of_the_heap, "every ARM counts once"),
        "the errors within ARMs": (within_arms, "copies of prompts make it no narrower"),
        "the spread, not the error": (lambda values: over(values, root=False), "it is an interval of the mean"),
        "1.96": (lambda values: over(values, t=lambda n: 1.96), "it is Student's, over ARMs"),
        "n degrees of freedom": (
            lambda values: over(values, t=lambda n: T_975[n - 1]),
            "it is Student's, over ARMs",
        ),
        "n under the root": (lambda values: over(values, unbiased=False), "it is Student's, over ARMs"),
        "mean and half width": (half_width, "it gives a mean between two ends"),
        "nothing at all for one ARM": (
            lambda values: over(values) if len(values) > 1 else (math.nan, math.nan, math.nan),
            "one ARM gives no interval",
        ),
        "a point for one ARM": (a_point_for_one, "one ARM gives no interval"),
    },
    "mended_plan": {
        "left as it is": (lambda text: text, "every criterion has its control"),
        "a list": (lambda text: text.splitlines(), "it loads"),
        "no TOML": (changed(("[[pairs]]", "[[pairs]")), "it loads"),
        "both sides of a number": (changed(("at_least = 0.1,", "at_least = 0.1, at_most = 1,")), "it loads"),
        "a claim left out": (
            lambda text: mended_plan(text).partition("[findings.MOVES]")[0],
            "it makes the same claims",
        ),
        "another claim": (changed(("over more edges", "over more layers")), "it makes the same claims"),
        "judged on the other task": (
            changed(('"global", value = "source', '"local", value = "source')),
            "it makes the same claims",
        ),
        "the ARM as the control": (
            changed(("source_centre/arm-trained-on", "source_centre/arm")),
            "every criterion has its control",
        ),
        "the control added": (changed(("mdms - log_edges", "mdms + log_edges")), "every criterion has its control"),
        "no global task": (changed(('global = "chain"', "")), "everything is measured"),
        "misspelt": (changed(("source_centre", "source_center")), "it loads"),
        "a task that a toy was never given": (changed(('"toy-chain"', '"toy-countdown"')), "it loads"),
        "met without any effect": (
            changed(("at_least = 0.1,", "at_least = -0.1,")),
            "no difference is no result, and a large one is",
        ),
        "the wrong direction": (
            changed(("at_least = 0.05", "at_most = -0.05")),
            "no difference is no result, and a large one is",
        ),
        "cannot be reached": (
            changed(("at_least = 0.05", "at_least = 5.0")),
            "no difference is no result, and a large one is",
        ),
        "more than nothing": (
            changed(("at_least = 0.1,", "at_least = 0.0,")),
            "a threshold is a difference that somebody cares about",
        ),
        "a task that a real pair was never given": (
            changed(('"toy-chain"', '"smollm2-135m"')),
            "the pair can be asked that",
        ),
        "on the same ARM": (changed(("[3, 4, 5, 6, 7]", "[0, 3, 4]")), "no ARM judges that was looked at before"),
        "on the ARMs of the toys' study": (
            changed(("[3, 4, 5, 6, 7]", "[1, 2, 3]")),
            "no ARM judges that was looked at before",
        ),
        "one ARM": (changed(("[3, 4, 5, 6, 7]", "[3]")), "there are several ARMs"),
        "two ARMs": (changed(("[3, 4, 5, 6, 7]", "[3, 4]")), "there are several ARMs"),
    },
}

RIGHT = {
    "judged": {"by mirror": by_mirror},
    "any_false_alarm": {
        "in a loop": at_least_one_by_hand,
        "one after the other": one_after_the_other,
        "with torch, in single precision": lambda levels: 1 - (1 - torch.tensor(levels)).prod(),
        "by logarithms": lambda levels: -math.expm1(sum(math.log1p(-level) for level in levels)),
    },
    "detectable": {"t and the normal distribution": normal_power, "by simulation": exact},
    "over_arms": {"with torch": over, "by lists": by_lists},
    "mended_plan": {
        "step by step": step_by_step,
        "as a difference of tasks too": changed(('"global", value = "source', '"global - local", value = "source')),
        "on the global task": changed(('"local", value = "log', '"global", value = "log')),
        "on another pair": changed(('"toy-chain"', '"toy-path"'), ('"chain"', '"path"')),
        "turned round": changed(
            ("source_centre/mdms - source_centre/arm-trained-on", "source_centre/arm-trained-on - source_centre/mdms"),
            ("at_least = 0.05", "at_most = -0.05"),
        ),
        "of the course": lambda text: mended_plan(BAD_PLAN),
    },
}
