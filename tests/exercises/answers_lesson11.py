"""Answers to the exercises of lesson 11: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import math

import numpy as np
import torch


def shares(scores):
    return scores.abs() / scores.abs().sum(dim=-1, keepdim=True)


def number(scores):
    return torch.special.entr(shares(scores)).sum(dim=-1).exp()


def in_bits_with_e(scores):
    p = shares(scores)
    return torch.where(p > 0, -p * p.clamp(min=1e-30).log2(), torch.zeros(())).sum(dim=-1).exp()


def only_entropy(scores):
    return torch.special.entr(shares(scores)).sum(dim=-1)


def nan_at_zero(scores):
    p = shares(scores)
    return (-p * p.log()).sum(dim=-1).exp()


def signed(scores):
    p = scores.clamp(min=0) / scores.clamp(min=0).sum(dim=-1, keepdim=True)
    return torch.special.entr(p).sum(dim=-1).exp()


def inverse_of_squares(scores):
    return 1 / shares(scores).square().sum(dim=-1)


def not_normalised(scores):
    size = scores.abs()
    return torch.special.entr(size).sum(dim=-1).exp()


def of_everything(scores):
    p = scores.abs() / scores.abs().sum()
    return torch.special.entr(p).sum().exp()


def in_place(scores):
    scores.abs_()
    scores /= scores.sum(dim=-1, keepdim=True)
    return torch.special.entr(scores).sum(dim=-1).exp()


def by_powers_of_two(scores):
    p = shares(scores)
    return 2 ** torch.where(p > 0, -p * p.clamp(min=1e-30).log2(), torch.zeros(())).sum(dim=-1)


def by_a_distribution(scores):
    return torch.distributions.Categorical(probs=shares(scores).double()).entropy().exp()


def spike(n, share):
    weights = torch.full((n,), (1 - share) / (n - 1))
    weights[0] = share
    return weights


def flat(n, k):
    weights = torch.zeros(n)
    weights[:k] = 1.0
    return weights


def few(scores, n, draws, choose=None, measure=None, collect=np.mean):
    choose = choose or (lambda: torch.randperm(len(scores))[:n])
    measure = measure or (lambda chosen: float(number(chosen.mean(dim=0))))
    return float(collect([measure(scores[choose()]) for _ in range(draws)]))


def shuffles_in_place(scores, n, draws):
    found = []
    for _ in range(draws):
        scores[:] = scores[torch.randperm(len(scores))]
        found.append(float(number(scores[:n].mean(dim=0))))
    return sum(found) / draws


def sizes_in_place(scores, n, draws):
    scores.abs_()
    return few(scores, n, draws)


def one_choice(scores, n, draws):
    return float(number(scores[torch.randperm(len(scores))[:n]].mean(dim=0)))


def from_entropies(scores, n, draws):
    return float(np.exp(few(scores, n, draws, measure=lambda chosen: math.log(float(number(chosen.mean(dim=0)))))))


def of_the_average(scores, n, draws):
    means = torch.stack([scores[torch.randperm(len(scores))[:n]].mean(dim=0) for _ in range(draws)])
    return float(number(means.mean(dim=0)))


def with_numpy(scores, n, draws):
    found, values = [], scores.numpy()
    for _ in range(draws):
        chosen = torch.randperm(len(values))[:n].numpy()
        p = np.abs(values[chosen].sum(axis=0))
        p = p[p > 0] / p.sum()
        found.append(np.exp(-(p * np.log(p)).sum()))
    return np.mean(found)


def by_weights(scores, n, draws):
    chosen = torch.rand(draws, len(scores)).argsort(dim=1)[:, :n]
    return number(scores[chosen].mean(dim=1)).mean()


def back(one, two, k, known=True, size=False, top=None, pick=None):
    pair = []
    for here, there in ((one, two), (two, one)):
        if known:
            both = here.isfinite() & there.isfinite()
            here, there = here[both], there[both]
        chosen = (pick or here).topk(k).indices if top is None else top(here)
        change = here[chosen] - there[chosen]
        pair.append(float((change.abs() if size else change).mean()))
    return pair[0], pair[1]


def one_choice_for_both(one, two, k):
    known = one.isfinite() & two.isfinite()
    top = one[known].topk(k).indices
    change = float((one[known][top] - two[known][top]).mean())
    return change, -change


def other_sign(one, two, k):
    return tuple(-each for each in back(one, two, k))


def tops_of_each(one, two, k):
    known = one.isfinite() & two.isfinite()
    a, b = float(one[known].topk(k).values.mean()), float(two[known].topk(k).values.mean())
    return a - b, b - a


def nan_as_zero(one, two, k):
    return back(one.nan_to_num(0.0), two.nan_to_num(0.0), k)


def by_sorting(one, two, k):
    rows = [(a, b) for a, b in zip(one.tolist(), two.tolist(), strict=True) if a == a and b == b]
    there = sorted(rows, key=lambda row: -row[0])[:k]
    again = sorted(rows, key=lambda row: -row[1])[:k]
    return sum(a - b for a, b in there) / k, sum(b - a for a, b in again) / k


def first_above(ks, f, level):
    above = (f >= level).nonzero()
    if not len(above):
        return math.inf
    i = int(above[0])
    return float(ks[0]) if i == 0 else float(ks[i - 1] + (level - f[i - 1]) / (f[i] - f[i - 1]) * (ks[i] - ks[i - 1]))


def needed(ks, f, level, start=None, end=math.inf, line=True, strict=False):
    below = (f <= level).nonzero() if strict else (f < level).nonzero()
    if not len(below):
        return float(ks[0]) if start is None else start
    i = int(below[-1])
    if i == len(ks) - 1:
        return end
    return float(ks[i] + (level - f[i]) / (f[i + 1] - f[i]) * (ks[i + 1] - ks[i])) if line else float(ks[i + 1])


def by_interpolation(ks, f, level):
    return float(np.interp(level, f.numpy(), ks.numpy()))


def on_logarithms(ks, f, level):
    return math.exp(needed(ks.log(), f, level))


def from_the_end(ks, f, level):
    k, values = ks.tolist(), f.tolist()
    if values[-1] < level:
        return math.inf
    for i in range(len(k) - 2, -1, -1):
        if values[i] < level:
            return k[i] + (k[i + 1] - k[i]) * (level - values[i]) / (values[i + 1] - values[i])
    return k[0]


ALIKE = "k edges that count the same are k"
SILENT = "edges with the score 0 count for nothing"
SIGNS = "a negative score counts as much as a positive one"
LOUD = "it does not matter how loud all are together"
HALVES = "of 1/2, 1/4 and 1/4 it is 2 to the power 1.5"
ROWS = "each row is a distribution of its own"
LENGTH = "both are lists of numbers of one length"
SHORT = "they are short, 20 numbers at most"
NOT_NEGATIVE = "weights are not negative, and not all 0"
BY_NUMBER = "by the effective number the first is more spread out, by a tenth at least"
BY_GINI = "by Gini the first is sharper, by 0.05 at least"
KEPT = "the scores are not changed"
TENSOR = "it gives a tensor"
SUM = "more draws make it no larger"
APART = "every draw has an effective number of its own"
CANCELS = "what cancels between prompts is gone"
DIFFERENT = "n prompts are n different prompts, and no more"
ALL = "with all prompts it is the effective number of the mean scores"
MANY = "it is the mean over many random choices"
SAME = "of two models that are alike both are 0"
SIGNED = "if all neurons become blunter, the first is positive and the second negative"
OWN = "each way has neurons of its own"
K = "k neurons are chosen, the largest"
DEAD = "neurons that are NaN in either model are left out"
LINE = "between two sizes it lies on a straight line"
LEVEL = "the level is the one that was given"
START = "if even the smallest circuit is enough, it is the smallest"
STAYS = "a circuit that overshoots and falls back has not arrived"
NEVER = "if the largest is not enough, it is infinity"

WRONG = {
    "effective_number": {
        "the entropy in bits, and then e": (in_bits_with_e, ALIKE),
        "the entropy, without exp": (only_entropy, ALIKE),
        "not normalised": (not_normalised, ALIKE),
        "0 log 0 is nan": (nan_at_zero, SILENT),
        "how many are not 0": (lambda scores: (scores != 0).sum(dim=-1).double(), HALVES),
        "negative ones left out": (signed, SIGNS),
        "how many are above a threshold": (lambda scores: (scores.abs() > 0.05).sum(dim=-1).double(), LOUD),
        "one over the sum of squares": (inverse_of_squares, HALVES),
        "a softmax of the scores": (lambda s: torch.special.entr(s.abs().softmax(-1)).sum(-1).exp(), SILENT),
        "all rows in one": (of_everything, ROWS),
        "in place": (in_place, KEPT),
        "an array": (lambda scores: number(scores).numpy(), TENSOR),
    },
    "disagreement": {
        "lists of two lengths": (lambda: (flat(6, 6), spike(20, 0.65)), LENGTH),
        "two tables": (lambda: (torch.ones(4, 5), torch.ones(4, 5)), LENGTH),
        "a negative weight": (lambda: (flat(20, 6) - 0.1, spike(20, 0.65)), NOT_NEGATIVE),
        "nothing at all": (lambda: (flat(20, 6), flat(20, 0)), NOT_NEGATIVE),
        "the wrong way round": (lambda: (spike(20, 0.65), flat(20, 6)), BY_NUMBER),
        "one is the other": (lambda: (spike(20, 0.65), spike(20, 0.65)), BY_NUMBER),
        "only another size": (lambda: (flat(20, 8), flat(20, 4)), BY_GINI),
        "spikes of two sizes": (lambda: (spike(20, 0.3), spike(20, 0.65)), BY_GINI),
        "the pair of the table": (lambda: (flat(1001, 200), spike(1001, 0.4)), SHORT),
    },
    "few_prompts": {
        "shuffles in place": (shuffles_in_place, KEPT),
        "sizes in place": (sizes_in_place, KEPT),
        "the mean of sizes": (
            lambda s, n, d: few(s, n, d, measure=lambda c: float(number(c.abs().mean(dim=0)))),
            CANCELS,
        ),
        "the mean of single prompts": (
            lambda s, n, d: few(s, n, d, measure=lambda c: float(number(c).mean())),
            CANCELS,
        ),
        "with replacement": (lambda s, n, d: few(s, n, d, choose=lambda: torch.randint(len(s), (n,))), DIFFERENT),
        "always the first n": (lambda s, n, d: few(s, n, d, choose=lambda: torch.arange(n)), MANY),
        "one over the sum of squares": (
            lambda s, n, d: few(s, n, d, measure=lambda c: float(inverse_of_squares(c.mean(dim=0)))),
            ALL,
        ),
        "one choice": (one_choice, MANY),
        "the mean of logarithms": (from_entropies, MANY),
        "all prompts always": (lambda s, n, d: float(number(s.mean(dim=0))), APART),
        "the largest of the draws": (lambda s, n, d: few(s, n, d, collect=np.max), MANY),
        "the sum over draws": (lambda s, n, d: few(s, n, d, collect=np.sum), SUM),
        "the number of the average": (of_the_average, APART),
    },
    "there_and_back": {
        "the other sign": (other_sign, SIGNED),
        "without a sign": (lambda a, b, k: back(a, b, k, size=True), SIGNED),
        "the tops of each": (tops_of_each, OWN),
        "one choice for both ways": (one_choice_for_both, OWN),
        "over all neurons": (lambda a, b, k: back(a, b, k, top=lambda x: torch.arange(len(x))), OWN),
        "the choosiness itself": (
            lambda a, b, k: (float(a.topk(k).values.mean()), float(b.topk(k).values.mean())),
            SAME,
        ),
        "one neuron only": (lambda a, b, k: back(a, b, 1), K),
        "one too many": (lambda a, b, k: back(a, b, k + 1), OWN),
        "NaN is the largest": (lambda a, b, k: back(a, b, k, known=False), DEAD),
        "NaN as 0": (nan_as_zero, DEAD),
    },
    "edges_needed": {
        "the first above": (first_above, STAYS),
        "the next size, no line": (lambda k, f, level: needed(k, f, level, line=False), LINE),
        "a line on logarithms": (on_logarithms, LINE),
        "always .9": (lambda k, f, level: needed(k, f, 0.9), LINE),
        "reaching it is not enough": (lambda k, f, level: needed(k, f, level, strict=True), LEVEL),
        "nothing needed": (lambda k, f, level: needed(k, f, level, start=0.0), START),
        "the last size if never": (lambda k, f, level: needed(k, f, level, end=float(k[-1])), NEVER),
        "np.interp": (by_interpolation, STAYS),
        "how many sizes": (lambda k, f, level: float((f < level).sum()), LINE),
    },
}

RIGHT = {
    "effective_number": {"in bits": by_powers_of_two, "with a distribution": by_a_distribution},
    "disagreement": {
        "with fewer of them": lambda: (flat(19, 5), spike(19, 0.7)),
        "as lists": lambda: (np.array([1.0] * 6 + [0.0] * 14), torch.tensor([65.0] + [35 / 19] * 19)),
    },
    "few_prompts": {"with numpy": with_numpy, "all draws at once": by_weights},
    "there_and_back": {"by sorting": by_sorting, "in one function": back},
    "edges_needed": {"from the end": from_the_end, "in one function": needed},
}
