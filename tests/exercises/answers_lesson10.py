"""Answers to the exercises of lesson 10: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import math
from math import comb

import torch

from mdmcourse.circuits.comparison import chance_overlap, overlap_curve
from mdmcourse.exercises.answers.lesson10 import control_pairs
from mdmcourse.study.verdicts import T_975

# --- chance_jaccard


def share_of_k(k, n):
    return k / n


def share_of_n(k, n):
    return sum(comb(k, s) * comb(n - k, k - s) / comb(n, k) * s / n for s in range(k + 1))


def overlap_of_the_mean(k, n):
    shared = k * k / n
    return shared / (2 * k - shared)


def put_back(k, n):
    p = k / n
    return sum(comb(k, s) * p**s * (1 - p) ** (k - s) * s / (2 * k - s) for s in range(k + 1))


def without_the_last(k, n):
    return sum(comb(k, s) * comb(n - k, k - s) / comb(n, k) * s / (2 * k - s) for s in range(k))


def never_must_share(k, n):
    return sum(comb(k, s) * comb(max(n - k, k - s), k - s) / comb(n, k) * s / (2 * k - s) for s in range(k + 1))


def by_draws(k, n):
    total = 0.0
    for _ in range(2000):
        shared = int((torch.randperm(n)[:k] < k).sum())
        total += shared / (2 * k - shared)
    return total / 2000


def rounded(k, n):
    return round(chance_overlap(k, n), 3)


def from_the_right(k, n):
    each = range(min(k, n - k) + 1)
    return sum(comb(k, only) * comb(n - k, only) / comb(n, k) * (k - only) / (k + only) for only in each)


# --- ceiling_of_halves


def jaccard(one, two, k):
    one, two = (set(each.abs().topk(k).indices.tolist()) for each in (one, two))
    return len(one & two) / len(one | two)


def halved(scores):
    order = torch.randperm(len(scores))
    return scores[order[: len(order) // 2]], scores[order[len(order) // 2 :]]


def same_prompts(scores, k):
    half = scores[torch.randperm(len(scores))[: len(scores) // 2]]
    return jaccard(half.mean(dim=0), half.mean(dim=0), k)


def drawn_twice(scores, k):
    one, two = (scores[torch.randperm(len(scores))[: len(scores) // 2]] for _ in range(2))
    return jaccard(one.mean(dim=0), two.mean(dim=0), k)


def half_and_whole(scores, k):
    return jaccard(halved(scores)[0].mean(dim=0), scores.mean(dim=0), k)


def without_abs(scores, k):
    one, two = (set(each.mean(dim=0).topk(k).indices.tolist()) for each in halved(scores))
    return len(one & two) / len(one | two)


def over_k(scores, k):
    one, two = (set(each.mean(dim=0).abs().topk(k).indices.tolist()) for each in halved(scores))
    return len(one & two) / k


def abs_first(scores, k):
    one, two = halved(scores.abs())
    return jaccard(one.mean(dim=0), two.mean(dim=0), k)


def in_order(scores, k):
    middle = len(scores) // 2
    return jaccard(scores[:middle].mean(dim=0), scores[middle:].mean(dim=0), k)


def every_other(scores, k):
    return jaccard(scores[::2].mean(dim=0), scores[1::2].mean(dim=0), k)


def halves_of_edges(scores, k):
    return jaccard(scores.mean(dim=0)[::2], scores.mean(dim=0)[1::2], k)


def prompts_ranked(scores, k):
    one, two = (each.mean(dim=1).abs() for each in halved(scores))
    one, two = (set(each.topk(min(k, len(each))).indices.tolist()) for each in (one, two))
    return len(one & two) / len(one | two)


def sets_of_tensors(scores, k):
    one, two = (set(each.mean(dim=0).abs().topk(k).indices) for each in halved(scores))
    return len(one & two) / len(one | two)


def with_a_fixed_seed(scores, k):
    torch.manual_seed(0)
    return jaccard(*(each.mean(dim=0) for each in halved(scores)), k)


def two_quarters(scores, k):
    return jaccard(*(each[: len(each) // 2].mean(dim=0) for each in halved(scores)), k)


def uneven(scores, k):
    order, cut = torch.randperm(len(scores)), len(scores) // 5
    return jaccard(scores[order[:cut]].mean(dim=0), scores[order[cut:]].mean(dim=0), k)


def by_a_mask(scores, k):
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[torch.randperm(len(scores))[: len(scores) // 2]] = True
    return jaccard(scores[chosen].sum(dim=0), scores[~chosen].sum(dim=0), k)


def by_the_package(scores, k):
    one, two = halved(scores)
    return overlap_curve(one.mean(dim=0), two.mean(dim=0), torch.tensor([k]))[0]


# --- shift_over_arms


def interval(each):
    each = torch.tensor(each, dtype=torch.float64)
    half = T_975[len(each) - 2] * float(each.std()) / math.sqrt(len(each))
    return float(each.mean()), float(each.mean()) - half, float(each.mean()) + half


def average(row):
    return sum(row) / len(row)


def control_minus_mdm(mdms, control):
    return interval([beside - average(row) for row, beside in zip(mdms, control, strict=True)])


def all_mdms_in_a_heap(mdms, control):
    return interval([value - beside for row, beside in zip(mdms, control, strict=True) for value in row])


def unpaired(mdms, control):
    one, two = (torch.tensor(each).double() for each in ([average(row) for row in mdms], control))
    error = math.sqrt(float(one.var() + two.var()) / len(one))
    mean = float(one.mean() - two.mean())
    return mean, mean - T_975[len(one) - 2] * error, mean + T_975[len(one) - 2] * error


def against_the_mean_control(mdms, control):
    return interval([average(row) - average(control) for row in mdms])


def normal(mdms, control):
    mean, _, high = interval([average(row) - beside for row, beside in zip(mdms, control, strict=True)])
    half = 1.96 * (high - mean) / T_975[len(mdms) - 2]
    return mean, mean - half, mean + half


def spread_of_arms(mdms, control):
    mean, _, high = interval([average(row) - beside for row, beside in zip(mdms, control, strict=True)])
    half = (high - mean) * math.sqrt(len(mdms))
    return mean, mean - half, mean + half


def one_degree_more(mdms, control):
    mean, _, high = interval([average(row) - beside for row, beside in zip(mdms, control, strict=True)])
    half = (high - mean) * T_975[len(mdms) - 1] / T_975[len(mdms) - 2]
    return mean, mean - half, mean + half


def n_under_the_root(mdms, control):
    mean, _, high = interval([average(row) - beside for row, beside in zip(mdms, control, strict=True)])
    half = (high - mean) * math.sqrt((len(mdms) - 1) / len(mdms))
    return mean, mean - half, mean + half


def counts_mdms(mdms, control):
    each = torch.tensor([average(row) - beside for row, beside in zip(mdms, control, strict=True)]).double()
    n = sum(map(len, mdms))
    half = T_975[min(n - 2, 9)] * float(each.std()) / math.sqrt(n)
    return float(each.mean()), float(each.mean()) - half, float(each.mean()) + half


def mean_only(mdms, control):
    return interval([average(row) - beside for row, beside in zip(mdms, control, strict=True)])[0]


def as_one_tensor(mdms, control):
    return torch.tensor(by_tensors(mdms, control), dtype=torch.float64)


def as_an_array(mdms, control):
    return as_one_tensor(mdms, control).numpy()


def by_tensors(mdms, control):
    return interval(
        [float(torch.tensor(row).double().mean()) - beside for row, beside in zip(mdms, control, strict=True)]
    )


# --- faithfulness_in_host


def of_all(metric, circuit, full, empty):
    effect = float(metric(full).mean() - metric(empty).mean())
    return math.nan if abs(effect) < 0.1 else float(metric(circuit).mean() / metric(full).mean())


def half_subtracted(metric, circuit, full, empty):
    return float((metric(circuit).mean() - metric(empty).mean()) / metric(full).mean())


def what_is_lost(metric, circuit, full, empty):
    return float((metric(full).mean() - metric(circuit).mean()) / (metric(full).mean() - metric(empty).mean()))


def prompt_by_prompt(metric, circuit, full, empty):
    return float(((metric(circuit) - metric(empty)) / (metric(full) - metric(empty))).mean())


def cut_off(metric, circuit, full, empty):
    found = in_two_lines(metric, circuit, full, empty)
    return min(max(found, 0.0), 1.0)


def always_a_share(metric, circuit, full, empty):
    with_none = metric(empty).mean()
    return float((metric(circuit).mean() - with_none) / (metric(full).mean() - with_none))


def zero_without_effect(metric, circuit, full, empty):
    effect = float(metric(full).mean() - metric(empty).mean())
    return 0.0 if abs(effect) < 0.1 else always_a_share(metric, circuit, full, empty)


def positive_effects_only(metric, circuit, full, empty):
    effect = float(metric(full).mean() - metric(empty).mean())
    return math.nan if effect < 0.1 else always_a_share(metric, circuit, full, empty)


def sizes_of_effects(metric, circuit, full, empty):
    if (metric(full) - metric(empty)).abs().mean() < 0.1:
        return math.nan
    return always_a_share(metric, circuit, full, empty)


def wants_a_large_effect(metric, circuit, full, empty):
    effect = float(metric(full).mean() - metric(empty).mean())
    return math.nan if abs(effect) < 1 else always_a_share(metric, circuit, full, empty)


def in_two_lines(metric, circuit, full, empty):
    c, f, e = (float(metric(edges).double().mean()) for edges in (circuit, full, empty))
    return (c - e) / (f - e) if abs(f - e) >= 0.1 else math.nan


# --- control_pairs


def instead(**pairs):
    """The course's answer with some of its pairs made otherwise: functions of the treatment."""

    def answer(treatment):
        return control_pairs(treatment) | {claim: make(treatment) for claim, make in pairs.items()}

    return answer


def arm(t):
    return t._replace(objective=None, attention="causal", steps=0)


def trained_on(t):
    return t._replace(objective="next token", attention="causal")


WRONG = {
    "chance_jaccard": {
        "shared over k": (share_of_k, "shared edges are divided by those in either"),
        "shared over all edges": (share_of_n, "shared edges are divided by those in either"),
        "the overlap at the mean number": (overlap_of_the_mean, "it is the mean of overlaps"),
        "edges are put back": (put_back, "it is exact"),
        "the sum ends too early": (without_the_last, "two choices of all edges are the same"),
        "no minimum of shared edges": (never_must_share, "two choices of all edges are the same"),
        "a simulation": (by_draws, "it is exact"),
        "rounded": (rounded, "it is exact"),
    },
    "ceiling_of_halves": {
        "the same prompts in both halves": (same_prompts, "no prompt is in both halves"),
        "drawn twice": (drawn_twice, "no prompt is in both halves"),
        "a half and the whole": (half_and_whole, "no prompt is in both halves"),
        "signs count": (without_abs, "sizes count, not signs"),
        "shared over k": (over_k, "shared edges are divided by those in either"),
        "sizes before the mean": (abs_first, "the mean comes first, then the size"),
        "the first and the second half": (in_order, "prompts in blocks do no harm"),
        "every other prompt": (every_other, "prompts in turns do no harm"),
        "halves of the edges": (halves_of_edges, "prompts that are all alike give 1"),
        "sets of tensors": (sets_of_tensors, "prompts that are all alike give 1"),
        "prompts are ranked": (prompts_ranked, "edges are ranked, not prompts"),
        "a fixed seed": (with_a_fixed_seed, "the halves are drawn anew"),
        "two quarters": (two_quarters, "each half is a half"),
        "a fifth and the rest": (uneven, "each half is a half"),
    },
    "shift_over_arms": {
        "the mean only": (mean_only, "it gives a mean between two ends"),
        "control minus MDM": (control_minus_mdm, "it is MDM minus control"),
        "all MDMs in a heap": (all_mdms_in_a_heap, "every ARM counts once"),
        "unpaired": (unpaired, "every ARM is held against its own control"),
        "against the mean control": (against_the_mean_control, "every ARM is held against its own control"),
        "n counts MDMs": (counts_mdms, "more MDMs of one ARM are no more ARMs"),
        "1.96": (normal, "it is Student's interval over ARMs"),
        "the spread, not the error": (spread_of_arms, "it is Student's interval over ARMs"),
        "a degree of freedom too many": (one_degree_more, "it is Student's interval over ARMs"),
        "n under the root": (n_under_the_root, "it is Student's interval over ARMs"),
    },
    "faithfulness_in_host": {
        "over the clean metric": (of_all, "0 is what the host does without edges"),
        "subtracted above only": (half_subtracted, "0 is what the host does without edges"),
        "what is lost": (what_is_lost, "all edges give 1, none give 0"),
        "mean of shares": (prompt_by_prompt, "means are taken first"),
        "cut off": (cut_off, "it is not cut off at 0 and 1"),
        "a share of nothing": (always_a_share, "without an effect there is no share"),
        "0 without an effect": (zero_without_effect, "without an effect there is no share"),
        "positive effects only": (positive_effects_only, "an effect can be negative"),
        "effects below 1": (wants_a_large_effect, "a small effect is one"),
        "the mean of sizes": (sizes_of_effects, "effects that cancel are no effect"),
    },
    "control_pairs": {
        "a single model each": (lambda t: dict.fromkeys(control_pairs(t), t), "each claim has a pair of models"),
        "one claim is missing": (
            lambda t: {claim: pair for claim, pair in control_pairs(t).items() if claim != "noise"},
            "each claim has a pair of models",
        ),
        "next tokens with full attention": (
            instead(training=lambda t: (arm(t), trained_on(t)._replace(attention="full"))),
            "every model can be made",
        ),
        "the pair itself": (instead(training=lambda t: (arm(t), t)), "no pair is the claim's own"),
        "twice the same": (instead(noise=lambda t: (t, t)), "no pair is the claim's own"),
        "attention switched for training": (
            instead(training=lambda t: (arm(t), arm(t)._replace(attention="full"))),
            "the rival explanation would show in it",
        ),
        "the learner could do it already": (
            instead(learning=lambda t: (arm(t), trained_on(t))),
            "the rival explanation would show in it",
        ),
        "taught with masks": (
            instead(learning=lambda t: (arm(t)._replace(arm="new"), t._replace(arm="new"))),
            "nothing else would show in it",
        ),
        "attention and training": (
            instead(attention=lambda t: (arm(t), t._replace(seed=t.seed + 1))),
            "nothing else would show in it",
        ),
        "other weights for noise": (
            instead(noise=lambda t: (t, t._replace(arm="B", seed=t.seed + 1))),
            "nothing else would show in it",
        ),
        "two controls": (
            instead(noise=lambda t: (trained_on(t), trained_on(t)._replace(seed=t.seed + 1))),
            "it is about the models of the claim",
        ),
        "a shorter control": (
            instead(training=lambda t: (arm(t), trained_on(t)._replace(steps=t.steps // 2))),
            "what is trained is trained as long as the MDM",
        ),
    },
}  # fmt: skip

RIGHT = {
    "chance_jaccard": {"from the right": from_the_right, "the package's": chance_overlap},
    "ceiling_of_halves": {"by a mask": by_a_mask, "the package's": by_the_package},
    "shift_over_arms": {"by tensors": by_tensors, "as one tensor": as_one_tensor, "as an array": as_an_array},
    "faithfulness_in_host": {"in two lines": in_two_lines},
    "control_pairs": {
        "the other way round": lambda t: {claim: (two, one) for claim, (one, two) in control_pairs(t).items()},
        "another ARM as it is": instead(inheritance=lambda t: (arm(t), arm(t)._replace(arm="B"))),
        "another MDM": instead(inheritance=lambda t: (arm(t), t._replace(arm="B"))),
        "as lists": lambda t: {claim: list(pair) for claim, pair in control_pairs(t).items()},
    },
}
