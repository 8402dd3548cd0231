"""Answers to the exercises of lesson 06: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import math
from collections import Counter
from statistics import NormalDist

import torch
import torch.nn.functional as F


def heaps(seen, answers):
    found = {}
    for sight, answer in zip(seen, answers, strict=True):
        found.setdefault(sight, []).append(answer)
    return found


def most(values):
    return Counter(values).most_common(1)[0][1]


def mean_of_heaps(seen, answers):
    each = [most(heap) / len(heap) for heap in heaps(seen, answers).values()]
    return sum(each) / len(each)


def the_last_of_each(seen, answers):
    table = dict(zip(seen, answers, strict=True))
    return sum(table[sight] == answer for sight, answer in zip(seen, answers, strict=True)) / len(answers)


def matches_frequencies(seen, answers):
    total = sum(count**2 / len(heap) for heap in heaps(seen, answers).values() for count in Counter(heap).values())
    return total / len(answers)


def one_of_those_that_occur(seen, answers):
    return sum(len(heap) / len(set(heap)) for heap in heaps(seen, answers).values()) / len(answers)


def in_a_loop(seen, answers):
    right = 0
    for sight in set(seen):
        here = [answer for each, answer in zip(seen, answers, strict=True) if each == sight]
        right += max(here.count(answer) for answer in here)
    return right / len(seen)


def by_tensors(seen, answers):
    sights, names = {}, {}
    rows = torch.tensor([sights.setdefault(sight, len(sights)) for sight in seen])
    columns = torch.tensor([names.setdefault(answer, len(names)) for answer in answers])
    table = torch.zeros(len(sights), len(names))
    table.index_put_((rows, columns), torch.ones(len(rows)), accumulate=True)
    return table.amax(dim=1).sum() / len(rows)


def share_of(right):
    return right.double().mean().item()


def wald(right, z=1.96, n=None):
    share = share_of(right)
    half = z * math.sqrt(share * (1 - share) / (n or len(right)))
    return share, share - half, share + half


def wilson(right, z=1.96, n=None):
    share, n = share_of(right), n or len(right)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return share, centre - half, centre + half


def bootstrap(right):
    means = right.double()[torch.randint(len(right), (2000, len(right)))].mean(dim=1)
    return share_of(right), *means.quantile(torch.tensor([0.025, 0.975]).double()).tolist()


def pushed_up(right):
    share, low, high = wilson(right)
    half = (high - low) / 2
    return share, max(0.0, share - 0.5 * half), min(1.0, share + 1.5 * half)


def without_a_root(right):
    share, half = share_of(right), 4 / len(right)
    return share, max(0.0, share - half), min(1.0, share + half)


def agresti_coull(right):
    n, extra = len(right), 1.96**2
    moved = (right.sum().item() + extra / 2) / (n + extra)
    half = 1.96 * math.sqrt(moved * (1 - moved) / (n + extra))
    return share_of(right), max(0.0, moved - half), min(1.0, moved + half)


def by_coefficients(n, i, p):
    return math.comb(n, i) * p**i * (1 - p) ** (n - i)


def by_logarithms(n, i, p):
    log = math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)
    return math.exp(log + i * math.log(p) + (n - i) * math.log(1 - p))


def exact_ends(right, chance=by_logarithms):
    """Clopper and Pearson: the shares that would leave 2.5 % for what was seen and beyond."""
    k, n = int(right.sum()), len(right)

    def at_most(p, count):
        return sum(chance(n, i, p) for i in range(count + 1))

    def crossing(above):
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if above(middle) else (low, middle)
        return (low + high) / 2

    low = crossing(lambda p: 1 - at_most(p, k - 1) < 0.025) if k else 0.0
    high = crossing(lambda p: at_most(p, k) > 0.025) if k < n else 1.0
    return torch.tensor([k / n, low, high])


def unpaired(a, b):
    half = 1.96 * math.sqrt(sum(share_of(x) * (1 - share_of(x)) + 0.5 / len(x) for x in (a, b)) / len(a))
    difference = share_of(a) - share_of(b)
    return difference, difference - half, difference + half


def adjusted(a, b, z=1.96, more=0.5, count=None):
    only_a, only_b, n = (a & ~b).sum().item() + more, (b & ~a).sum().item() + more, len(a) + 4 * more
    centre = (only_a - only_b) / n
    half = z * math.sqrt((count or (lambda x, y: x + y))(only_a, only_b) - (only_a - only_b) ** 2 / n) / n
    return share_of(a) - share_of(b), centre - half, centre + half


def other_way_round(a, b):
    difference, low, high = adjusted(a, b)
    return -difference, -high, -low


def size_only(a, b):
    difference, low, high = adjusted(a, b)
    return (difference, low, high) if difference >= 0 else (-difference, -high, -low)


def per_disagreement(a, b):
    only_a, only_b = (a & ~b).sum().item() + 0.5, (b & ~a).sum().item() + 0.5
    n = only_a + only_b
    centre, half = (only_a - only_b) / n, 1.96 * 2 * math.sqrt(only_a * only_b / n) / n
    return centre, centre - half, centre + half


def shifted(a, b):
    difference, low, high = adjusted(a, b)
    return difference, low + 0.45 * (high - low), high + 0.45 * (high - low)


def paired_bootstrap(a, b):
    each = a.double() - b.double()
    means = each[torch.randint(len(each), (500, len(each)))].mean(dim=1)
    return each.mean().item(), *means.quantile(torch.tensor([0.025, 0.975]).double()).tolist()


def bootstrap_with_two_more(a, b):
    each = torch.cat([a.double() - b.double(), torch.tensor([1.0, -1.0]).double()])
    means = each[torch.randint(len(each), (500, len(each)))].mean(dim=1)
    return (a.double() - b.double()).mean(), *means.quantile(torch.tensor([0.025, 0.975]).double())


def newcombe(a, b):
    """Newcombe's (1998), from two Wilson intervals and how far the two vectors go together."""
    n = len(a)
    both, only_a, only_b = (a & b).sum().item(), (a & ~b).sum().item(), (b & ~a).sum().item()
    neither = n - both - only_a - only_b
    (p, p_low, p_high), (q, q_low, q_high) = wilson(a), wilson(b)
    spread = math.sqrt((both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither))
    phi = (both * neither - only_a * only_b) / spread if spread else 0.0
    low = (p - p_low) ** 2 - 2 * phi * (p - p_low) * (q_high - q) + (q_high - q) ** 2
    high = (p_high - p) ** 2 - 2 * phi * (p_high - p) * (q - q_low) + (q - q_low) ** 2
    return p - q, p - q - math.sqrt(low), p - q + math.sqrt(high)


def needed(only_a, only_b, power, z=1.96, share=None):
    d, all_ = only_a - only_b, only_a + only_b
    total = z + NormalDist().inv_cdf(power)
    return math.ceil(total**2 * (all_ - d**2 if share is None else share) / d**2)


def mcnemar_needed(only_a, only_b, power):
    d, all_ = abs(only_a - only_b), only_a + only_b
    return math.ceil(((1.96 * math.sqrt(all_) + NormalDist().inv_cdf(power) * math.sqrt(all_ - d**2)) / d) ** 2)


def searched(only_a, only_b, power):
    d, variance, n = abs(only_a - only_b), only_a + only_b - (only_a - only_b) ** 2, 1
    while 1 - NormalDist(d, math.sqrt(variance / n)).cdf(1.96 * math.sqrt(variance / n)) < power:
        n += 1
    return n


def not_the_size(only_a, only_b, power):
    n = 1
    while n < 5000 and only_a - only_b < 2.8 * math.sqrt((only_a + only_b) / n):
        n += 1
    return n


def mask_in_place(texts, start, k, mask_id, filler=None):
    texts[:, start : start + 1 + k] = mask_id
    if filler is None:
        return texts[:, : start + 1 + k]
    texts[:, start + 1 + k :] = filler
    return texts


def build(texts, start, masks, mask_id, filler):
    pieces = [texts[:, :start], texts.new_full((len(texts), masks), mask_id)]
    if filler is not None:
        pieces.append(texts.new_full((len(texts), max(0, texts.shape[1] - start - masks)), filler))
    return torch.cat(pieces, dim=1)


def answer_in_view(texts, start, k, mask_id, filler=None):
    x = texts.clone()
    x[:, start : start + 1 + k] = mask_id
    return x if filler is not None else x[:, : start + 1 + k]


def filler_first(texts, start, k, mask_id, filler=None):
    x = build(texts, start, k + 1, mask_id, filler)
    return x if filler is None else torch.cat([x[:, :start], x[:, start:].flip(dims=[1])], dim=1)


def no_room(texts, start, k, mask_id, filler=None):
    x = texts.clone()
    x[:, start:] = mask_id if filler is None else filler
    x[:, start : start + 1 + k] = mask_id
    return x[:, : start + 1 + k] if filler is None else x


def truthy(texts, start, k, mask_id, filler=None):
    return build(texts, start, k + 1, mask_id, filler or None)


def padded(texts, start, k, mask_id, filler=None):
    x = F.pad(texts[:, :start], (0, 1 + k), value=mask_id)
    more = texts.shape[1] - x.shape[1]
    return F.pad(x, (0, more), value=filler) if filler is not None and more > 0 else x


def by_places(texts, start, k, mask_id, filler=None):
    end = start + 1 + k
    length = end if filler is None else max(end, texts.shape[1])
    rows = []
    for text in texts.tolist():
        rows.append([text[i] if i < start else mask_id if i < end else filler for i in range(length)])
    return torch.tensor(rows)


BLIND = "who sees nothing says the most frequent answer"
SEEN = "who sees what decides the answer is always right"
AROUND = "it gives the share, and a lower and an upper end around it"
CERTAIN = "all right, or none, is no certainty"
WIDTH = "it is a 95 % interval"
NARROWER = "four times as many prompts make it half as wide"
ENDS = "it gives a's share minus b's, and the ends around it"
WIDE = "disagreements in both directions make it wide"
AGREE = "no disagreement is no certainty"
HALF = "half the difference takes four times as many"
POWER, DISAGREE = "more power takes more prompts", "more disagreements take more prompts"
PROMPT = "the prompt stays"
ASKED = "with that many, 0 is excluded as often as was asked"
VIEW = "nothing of the right answer is in view"
WRONG = {
    "best_guess": {
        "one over the number of answers": (lambda seen, answers: 1 / len(set(answers)), BLIND),
        "one over the answers of each sight": (one_of_those_that_occur, BLIND),
        "the same answer for every sight": (lambda seen, answers: most(answers) / len(answers), SEEN),
        "a mean over sights": (mean_of_heaps, "a sight counts as often as it occurs"),
        "guesses as often as answers occur": (matches_frequencies, BLIND),
        "not divided": (lambda seen, answers: sum(map(most, heaps(seen, answers).values())), BLIND),
        "divided by the sights": (
            lambda seen, answers: sum(map(most, heaps(seen, answers).values())) / len(set(seen)), BLIND,
        ),
        "only sights that are always the same": (
            lambda seen, answers: (
                sum(len(heap) for heap in heaps(seen, answers).values() if len(set(heap)) == 1) / len(answers)
            ),
            BLIND,
        ),
        "the last answer of each sight": (
            lambda seen, answers: (
                the_last_of_each(sorted(seen), [y for _, y in sorted(zip(seen, answers, strict=True))])
            ),
            BLIND,
        ),
    },
    "accuracy_interval": {
        "Wald": (wald, CERTAIN),
        "bootstrap": (bootstrap, CERTAIN),
        "the ends without the share": (lambda right: wilson(right)[1:], AROUND),
        "the order is another": (lambda right: sorted(wilson(right)), AROUND),
        "a count for the share": (lambda right: (right.sum(), *wilson(right)[1:]), AROUND),
        "one standard error": (lambda right: wilson(right, z=1.0), WIDTH),
        "90 %": (lambda right: wilson(right, z=1.645), WIDTH),
        "99 %": (lambda right: wilson(right, z=2.576), WIDTH),
        "n forgotten": (lambda right: wilson(right, n=40), NARROWER),
        "not the root": (without_a_root, NARROWER),
        "a rule of three for the ends": (
            lambda right: (share_of(right), wald(right)[1] - 3 / len(right), wald(right)[2] + 3 / len(right)),
            "it stays between 0 and 1",
        ),
        "binomial coefficients": (
            lambda right: exact_ends(right, by_coefficients), "it can be computed for 1200 prompts",
        ),
        "lopsided": (pushed_up, "it contains the truth as often as it says"),
    },
    "paired_difference": {
        "unpaired": (unpaired, "it uses that the prompts are the same"),
        "b minus a": (other_way_round, ENDS),
        "without a sign": (size_only, "a and b exchanged change the sign"),
        "of the disagreements only": (per_disagreement, ENDS),
        "the ends alone": (lambda a, b: adjusted(a, b)[1:], ENDS),
        "Wald": (lambda a, b: adjusted(a, b, more=0), AGREE),
        "paired bootstrap": (paired_bootstrap, AGREE),
        "one standard error": (lambda a, b: adjusted(a, b, z=1.0), WIDE),
        "the spread of the difference of counts": (
            lambda a, b: adjusted(a, b, count=lambda x, y: abs(x - y) + (x - y) ** 2 / 100), WIDE,
        ),
        "the larger kind only": (lambda a, b: adjusted(a, b, count=max), WIDE),
        "off centre": (lambda a, b: shifted(a, b), "a and b exchanged change the sign"),
    },
    "prompts_needed": {
        "no power": (lambda a, b, power: math.ceil(1.96**2 * (a + b - (a - b) ** 2) / (a - b) ** 2), POWER),
        "one-sided": (lambda a, b, power: needed(a, b, power, z=1.645), "the interval of 95 % has two sides"),
        "two of everything": (lambda a, b, power: 2 * needed(a, b, power), ASKED),
        "half of them": (lambda a, b, power: math.ceil(needed(a, b, power) / 2), ASKED),
        "the sum not squared": (
            lambda a, b, power: math.ceil((1.96 + NormalDist().inv_cdf(power)) * (a + b - (a - b) ** 2) / (a - b) ** 2),
            "the standard errors are added, then squared",
        ),
        "a float": (lambda a, b, power: 1.0 * needed(a, b, power), "it gives a whole number of prompts"),
        "the sum for the difference": (
            lambda a, b, power: math.ceil((1.96 + NormalDist().inv_cdf(power)) ** 2 / (a + b)), HALF,
        ),
        "not squared": (
            lambda a, b, power: math.ceil((1.96 + NormalDist().inv_cdf(power)) ** 2 * (a + b) / abs(a - b)), HALF,
        ),
        "a variance of 1/4": (lambda a, b, power: needed(a, b, power, share=0.25), DISAGREE),
        "a variance of 1/2, two models": (
            lambda a, b, power: needed(a, b, power, share=0.5), DISAGREE,
        ),
        "counts disagreements": (
            lambda a, b, power: math.ceil(needed(a, b, power) * (a + b)), DISAGREE,
        ),
        "with its sign": (not_the_size, "it makes no difference which model is better"),
        "the power for the quantile": (
            lambda a, b, power: math.ceil(((1.96 + power) / (a - b)) ** 2 * (a + b)), POWER,
        ),
        "the quantile of 1 - power": (
            lambda a, b, power: math.ceil((1.96 - NormalDist().inv_cdf(power)) ** 2 * (a + b) / (a - b) ** 2),
            POWER,
        ),
    },
    "masks_behind": {
        "k masks in all": (
            lambda texts, start, k, mask_id, filler=None: build(texts, start, k, mask_id, filler),
            "without a filler the text ends behind the masks",
        ),
        "everything masked": (
            lambda texts, start, k, mask_id, filler=None: build(texts, start, texts.shape[1] - start, mask_id, filler),
            "without a filler the text ends behind the masks",
        ),
        "in place": (mask_in_place, "the texts are not changed"),
        "the end of the answer in view": (answer_in_view, VIEW),
        "fillers before the masks": (filler_first, "the token that is asked for and k more are masked"),
        "no room for more masks": (no_room, "there may be more masks than the answer has tokens"),
        "0 is no filler": (truthy, "token 0 can be the filler"),
        "the last token of the prompt masked": (
            lambda texts, start, k, mask_id, filler=None: build(texts, start - 1, k + 2, mask_id, filler), PROMPT,
        ),
        "the filler ignored": (
            lambda texts, start, k, mask_id, filler=None: build(texts, start, k + 1, mask_id, None),
            "a filler stands in all other places, up to the old length",
        ),
        "the first token not masked": (
            lambda texts, start, k, mask_id, filler=None: build(texts, start + 1, k, mask_id, filler), VIEW,
        ),
    },
}  # fmt: skip

RIGHT = {
    "best_guess": {"a loop": in_a_loop, "tensors": by_tensors},
    "accuracy_interval": {"Agresti and Coull": agresti_coull, "Clopper and Pearson": exact_ends},
    "paired_difference": {"bootstrap, two prompts added": bootstrap_with_two_more, "Newcombe": newcombe},
    "prompts_needed": {"McNemar's": mcnemar_needed, "searched": searched},
    "masks_behind": {"pads": padded, "place by place": by_places},
}
