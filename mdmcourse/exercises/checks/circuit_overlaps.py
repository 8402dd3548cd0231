"""How much two circuits share: by chance, and of one model on two halves of the prompts."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson10 as answers
from mdmcourse.exercises.checks.tools import generator
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- chance_jaccard


def _listed(k: int, n: int) -> float:
    """The mean overlap of one choice of k of n with every other choice, by listing them."""
    one = set(range(k))
    each = [len(one & set(two)) / len(one | set(two)) for two in combinations(range(n), k)]
    return sum(each) / len(each)


def _as_listed(answer: Answer, cases: list[tuple[int, int]], tolerance: float) -> str | None:
    for k, n in cases:
        found, expected = float(answer(k, n)), _listed(k, n)
        if not math.isclose(found, expected, rel_tol=tolerance):
            return f"k = {k}, n = {n}: it gave {found:.6g}; the mean over all choices is {expected:.6g}"
    return None


def _all_edges(answer: Answer, seed: int) -> str | None:
    n = 4 + seed % 9
    found = float(answer(n, n))
    return None if math.isclose(found, 1, rel_tol=1e-6) else f"k = n = {n}: it gave {found:.4g}"


def _over_either(answer: Answer, seed: int) -> str | None:
    n = 8 + seed % 4
    found, wrong = float(answer(4, n)), {"shared / k": 4 / n, "shared / n": 16 / n**2}
    for name, value in wrong.items():
        if n != 16 and math.isclose(found, value, rel_tol=0.02):
            return f"k = 4, n = {n}: it gave {found:.4g}, the mean of {name}"
    return None


def _mean_of_overlaps(answer: Answer, seed: int) -> str | None:
    return _as_listed(answer, [(1, 5 + seed % 4)], 0.25)


def _must_share(answer: Answer, seed: int) -> str | None:
    return _as_listed(answer, [(5, 6 + seed % 2), (7, 9)], 0.08)


def _exact(answer: Answer, seed: int) -> str | None:
    return _as_listed(answer, [(3, 7 + seed % 3), (2, 5)], 1e-6)


def _large(answer: Answer, seed: int) -> str | None:
    k, n = 350 + seed % 40, 1997
    found, expected = float(answer(k, n)), answers.chance_jaccard(k, n)
    return None if math.isclose(found, expected, rel_tol=1e-4) else f"k = {k}, n = {n}: it gave {found:.5g}"


CHANCE_JACCARD = Exercise(
    lesson="10",
    task="the overlap that two random choices of edges have",
    minutes=12,
    optional=True,
    difficulty=2,
    reference=answers.chance_jaccard,
    properties=(
        Property(
            "two choices of all edges are the same", _all_edges,
            "With k = n every edge is shared. Does your sum go up to shared = k, that one included?",
        ),
        Property(
            "shared edges are divided by those in either", _over_either,
            "The overlap is shared / (2 k - shared): what both have is in either only once.",
        ),
        Property(
            "it is the mean of overlaps", _mean_of_overlaps,
            "Not the overlap at the mean number of shared edges: work out the overlap for each number of them, then "
            "take the mean.",
        ),
        Property(
            "choices that must share something are counted", _must_share,
            "With 2 k > n two choices share 2 k - n edges at least; none is left that shares fewer.",
        ),
        Property(
            "it is exact", _exact,
            "A simulation, or a draw that puts edges back, only comes near. There are k + 1 numbers of shared edges at "
            "most: count the ways to each.",
        ),
        Property(
            "it works for a real graph", _large,
            "math.comb works with whole numbers of any length; divide only in the end.",
        ),
    ),
    hints=(
        "Hold one choice fixed. In how many ways can the other share exactly s edges with it?",
        "comb(k, s) * comb(n - k, k - s) of comb(n, k) ways; the overlap is then s / (2 * k - s).",
        "sum(comb(k, s) * comb(n - k, k - s) / comb(n, k) * s / (2 * k - s) for s in range(max(0, 2 * k - n), k + 1))",
    ),
)  # fmt: skip


# --- ceiling_of_halves


def _mean_of(answer: Answer, scores: Tensor, k: int, times: int) -> float:
    return sum(float(answer(scores.clone(), k)) for _ in range(times)) / times


def _without_noise(answer: Answer, seed: int) -> str | None:
    scores = torch.randn(60, generator=generator(seed)).repeat(20, 1)
    found = float(answer(scores, 10))
    return None if math.isclose(found, 1, abs_tol=1e-6) else f"20 prompts that are all alike: it gave {found:.3f}"


def _edges_are_ranked(answer: Answer, seed: int) -> str | None:
    scores = 0.01 * torch.rand(40, 30, generator=generator(seed))
    scores[:, seed % 27 : seed % 27 + 3] += 5
    found = float(answer(scores, 3))
    return None if found > 0.99 else f"three edges with scores of +5 on each of 40 prompts, k = 3: it gave {found:.3f}"


def _drawn_anew(answer: Answer, seed: int) -> str | None:
    scores = torch.randn(24, 2000, generator=generator(seed))
    found = [float(answer(scores.clone(), 200)) for _ in range(6)]
    return None if len(set(found)) > 1 else f"six calls with the same scores all gave {found[0]:.4f}"


def _half_of_the_prompts(answer: Answer, seed: int) -> str | None:
    draw = generator(seed)
    scores = torch.randn(8000, generator=draw) + 3.5 * torch.randn(40, 8000, generator=draw)
    found, expected = (_mean_of(each, scores, 2000, 6) for each in (answer, answers.ceiling_of_halves))
    if abs(found - expected) < 0.022:
        return None
    return f"40 prompts, much noise: it gave {found:.2f}, halves of 20 give {expected:.2f}"


def _signs(answer: Answer, seed: int) -> str | None:
    scores = 0.01 * torch.randn(24, 200, generator=generator(seed))
    scores[:, :10] -= 5
    found = float(answer(scores, 10))
    return None if found > 0.99 else f"ten edges with scores of -5 on every prompt, k = 10: it gave {found:.3f}"


def _nothing_in_common(answer: Answer, seed: int) -> str | None:
    scores = torch.randn(64, 6000, generator=generator(seed))
    found = _mean_of(answer, scores, 150, 4)
    if found < 0.045:
        return None
    return f"64 prompts of nothing but noise, 150 of 6000 edges: it gave {found:.2f}; chance is .01"


def _jaccard(answer: Answer, seed: int) -> str | None:
    scores = torch.randn(64, 2000, generator=generator(seed))
    found = _mean_of(answer, scores, 1000, 3)
    if abs(found - 1 / 3) < 0.05:
        return None
    return f"nothing but noise, k = half of all edges: it gave {found:.2f}; chance is .33"


def _mean_first(answer: Answer, seed: int) -> str | None:
    draw = generator(seed)
    scores = 2 * torch.randn(256, 220, generator=draw)
    scores[:, :20] = 1 + 0.1 * torch.randn(256, 20, generator=draw)
    found = _mean_of(answer, scores, 20, 2)
    if found > 0.9:
        return None
    return f"20 edges that always have 1, 200 that have +2 or -2 or so by chance, k = 20: it gave {found:.2f}"


def _kinds_of_prompts(order: Callable[[Tensor], Tensor], what: str) -> Callable[[Answer, int], str | None]:
    def test(answer: Answer, seed: int) -> str | None:
        scores = 0.02 * torch.randn(120, 400, generator=generator(seed))
        second = order(torch.arange(120))
        scores[~second, :10] += 1
        scores[second, 10:20] += 1
        found = _mean_of(answer, scores, 20, 2)
        return None if found > 0.9 else f"prompts of two kinds, {what}, k = 20: it gave {found:.2f}"

    return test


CEILING_OF_HALVES = Exercise(
    lesson="10",
    task="the overlap of two circuits of one model, found on two halves of the prompts",
    minutes=12,
    difficulty=2,
    reference=answers.ceiling_of_halves,
    properties=(
        Property(
            "prompts that are all alike give 1", _without_noise,
            "Then both halves have the same means, and the same strongest edges. (A set of tensors compares objects, "
            "not numbers: take .tolist() first.)",
        ),
        Property(
            "edges are ranked, not prompts", _edges_are_ranked,
            "The mean over prompts is over dim 0, and leaves one number for each edge.",
        ),
        Property(
            "sizes count, not signs", _signs,
            "An edge with a score of -5 is a strong one: take abs() of the means before topk.",
        ),
        Property(
            "no prompt is in both halves", _nothing_in_common,
            "Draw one order of all prompts and cut it in the middle. If you draw twice, or compare a half with the "
            "whole, the two share prompts, and with them their noise.",
        ),
        Property(
            "shared edges are divided by those in either", _jaccard,
            "len(one & two) / len(one | two), as for all overlaps in this lesson.",
        ),
        Property(
            "the mean comes first, then the size", _mean_first,
            "abs() before mean() turns noise into strength: an edge that is +2 on one prompt and -2 on another does "
            "nothing on average.",
        ),
        Property(
            "prompts in blocks do no harm", _kinds_of_prompts(lambda place: place >= 60, "one after the other"),
            "The first half and the second half may hold other kinds of prompts. Draw the halves at random.",
        ),
        Property(
            "prompts in turns do no harm", _kinds_of_prompts(lambda place: place % 2 == 1, "in turns"),
            "Every other prompt is no random half either: draw it with torch.randperm.",
        ),
        Property(
            "the halves are drawn anew", _drawn_anew,
            "Every call should draw other halves. Is there a fixed seed inside?",
        ),
        Property(
            "each half is a half", _half_of_the_prompts,
            "Each circuit comes from the mean over half of the prompts: with fewer it has more noise.",
        ),
    ),
    hints=(
        "How do you cut a pack of cards into two random halves that have no card in common?",
        "order = torch.randperm(len(scores)); the halves are scores[order[:middle]] and scores[order[middle:]].",
        "Of each half: set(half.mean(dim=0).abs().topk(k).indices.tolist()). Then len(one & two) / len(one | two).",
    ),
)  # fmt: skip
