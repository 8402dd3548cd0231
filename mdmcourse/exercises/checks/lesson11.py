"""From localised to distributed: what has to be true of the answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdmcourse.circuits.comparison import entropy, gini
from mdmcourse.exercises.answers import lesson11 as answers
from mdmcourse.exercises.checks.distributed_in_use import EDGES_NEEDED, THERE_AND_BACK
from mdmcourse.exercises.checks.given import gives_a_tensor, leaves
from mdmcourse.exercises.checks.tools import differs, generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- effective_number


def _number(answer: Answer, weights: Tensor, expected: float | int, given: str) -> str | None:
    found = float(answer(weights))
    if math.isclose(found, expected, rel_tol=1e-4):
        return None
    return f"{given} it gave {found:.4g}, expected was {expected:.4g}"


def _two_rows(seed: int) -> tuple[Tensor]:
    return (numbers(2, 9, seed=seed, low=-1.0),)


def _alike(answer: Answer, seed: int) -> str | None:
    for k in (1 + seed % 3, 7, 40):
        if seen := _number(answer, torch.full((k,), 0.3), k, f"of {k} edges with the score 0.3 each"):
            return seen
    return None


def _silent(answer: Answer, seed: int) -> str | None:
    weights = torch.zeros(50)
    weights[torch.randperm(50, generator=generator(seed))[:5]] = 2.0
    return _number(answer, weights, 5, "of 5 edges with the score 2 and 45 with 0")


def _loudness(answer: Answer, seed: int) -> str | None:
    weights = numbers(30, seed=seed, low=0.1)
    expected = float(answer(weights))
    for factor in (100.0, 0.01):
        if seen := _number(answer, factor * weights, expected, f"with all scores times {factor:g}"):
            return seen
    return None


def _signs(answer: Answer, seed: int) -> str | None:
    weights = torch.ones(12)
    weights[torch.randperm(12, generator=generator(seed))[:5]] = -1
    return _number(answer, weights, 12, "of 7 edges with the score 1 and 5 with -1")


def _halves(answer: Answer, seed: int) -> str | None:
    """H of (1/2, 1/4, 1/4) is 1.5 ln 2."""
    weights = torch.tensor([2.0, 1.0, 1.0])
    return _number(answer, weights, 2**1.5, "of the scores 2, 1, 1")


def _batches(answer: Answer, seed: int) -> str | None:
    weights = numbers(2, 3, 9, seed=seed, low=-1.0)
    found = answer(weights)
    expected = torch.stack([torch.stack([answer(row) for row in block]) for block in weights])
    if not isinstance(found, Tensor) or found.shape != (2, 3):
        return f"for scores of shape (2, 3, 9) it gave {shape_of(found)}"
    return differs(found, expected, "of several rows at once")


EFFECTIVE_NUMBER = Exercise(
    lesson="11",
    task="the effective number of edges, neurons, or whatever else has scores",
    minutes=8,
    difficulty=1,
    reference=answers.effective_number,
    properties=(
        gives_a_tensor(_two_rows),
        leaves("the scores are", _two_rows, "scores.abs() makes a new tensor; abs_() and /= change the old."),
        Property(
            "k edges that count the same are k", _alike,
            "The exponential of the entropy, with the natural logarithm in it; scores first become shares that sum to"
            " 1.",
        ),
        Property(
            "edges with the score 0 count for nothing", _silent,
            "0 log 0 is 0 here, but 0 * log(0) is nan in PyTorch: torch.special.entr(p) is -p log p, and right at 0."
            " (A softmax gives every edge something, also those with 0.)",
        ),
        Property("a negative score counts as much as a positive one", _signs, "Shares of |score|, not of the score."),
        Property("it does not matter how loud all are together", _loudness, "Divide by the sum before anything else."),
        Property(
            "of 1/2, 1/4 and 1/4 it is 2 to the power 1.5", _halves,
            "1 over the sum of squares agrees where all are equal, and nowhere else; it is another number. And a share"
            " is p, not a softmax of the scores.",
        ),
        Property(
            "each row is a distribution of its own", _batches, "Sum over the last axis only: dim=-1, keepdim=True."
        ),
    ),
    hints=(
        "Three steps: sizes, shares, entropy. Then the exponential.",
        "p = scores.abs() / scores.abs().sum(dim=-1, keepdim=True)",
        "torch.special.entr(p).sum(dim=-1).exp()",
    ),
)  # fmt: skip


# --- disagreement


def _pair(answer: Answer) -> tuple[Tensor, Tensor]:
    one, two = answer()
    return torch.as_tensor(one).double(), torch.as_tensor(two).double()


def _same_length(answer: Answer, seed: int) -> str | None:
    one, two = _pair(answer)
    if one.ndim == two.ndim == 1 and len(one) == len(two) >= 2:
        return None
    return f"the two have the shapes {tuple(one.shape)} and {tuple(two.shape)}"


def _few(answer: Answer, seed: int) -> str | None:
    n = len(_pair(answer)[0])
    return None if n <= 20 else f"each holds {n} numbers"


def _weights(answer: Answer, seed: int) -> str | None:
    for name, each in zip(("first", "second"), _pair(answer), strict=True):
        if not each.isfinite().all() or (each < 0).any() or each.sum() <= 0:
            return f"of the {name}, the smallest is {float(each.min()):.3g} and the sum {float(each.sum()):.3g}"
    return None


def _by_number(answer: Answer, seed: int) -> str | None:
    one, two = (float(entropy(each[None]).exp()) for each in _pair(answer))
    return None if one > 1.1 * two else f"the effective numbers are {one:.3f} and {two:.3f}"


def _by_gini(answer: Answer, seed: int) -> str | None:
    one, two = (float(gini(each[None])) for each in _pair(answer))
    return None if one > two + 0.05 else f"Gini is {one:.3f} and {two:.3f}"


DISAGREEMENT = Exercise(
    lesson="11",
    task="two lists of weights that two measures put in opposite order",
    minutes=6,
    difficulty=1,
    reference=answers.disagreement,
    properties=(
        Property(
            "both are lists of numbers of one length", _same_length,
            "Gini depends on how many there are: only lists of one length can be compared. Fill up with zeros.",
        ),
        Property("they are short, 20 numbers at most", _few, "The table's pair is a thousand long. Fewer will do."),
        Property("weights are not negative, and not all 0", _weights, "They stand for |score|."),
        Property(
            "by the effective number the first is more spread out, by a tenth at least", _by_number,
            "Have you got them the right way round? Where one list has a large one among many small, the effective"
            " number pays for it dearly.",
        ),
        Property(
            "by Gini the first is sharper, by 0.05 at least", _by_gini,
            "Gini asks how unequal any two are on average: many that have nothing make it large, one large one among"
            " many equal ones hardly does.",
        ),
    ),
    hints=(
        "What does each measure mind? Try k equal weights among n - k zeros, and one large weight among equal small"
        " ones.",
        "k equal among n: the effective number is k, and Gini is 1 - k/n. Share s in one, the rest alike: Gini is about"
        " s.",
        "Take n = 20. Six equal weights: 6 and .7. And .65 in one, .35 over all others: 5.4 and .6.",
    ),
)  # fmt: skip


# --- few_prompts


def _seeded(answer: Answer, scores: Tensor, n: int, draws: int, seed: int) -> float:
    torch.manual_seed(seed)
    return float(answer(scores, n, draws))


def _prompt_scores(seed: int, prompts: int = 24, edges: int = 60) -> Tensor:
    """A few edges that matter in all prompts, many that come and go with either sign."""
    scores = torch.randn(prompts, edges, generator=generator(seed))
    scores[:, :5] += 3
    return scores


def _all_of_them(answer: Answer, seed: int) -> str | None:
    scores = _prompt_scores(seed)
    expected = float(answers.effective_number(scores.mean(dim=0)))
    found = _seeded(answer, scores, len(scores), 3, seed)
    if math.isclose(found, expected, rel_tol=1e-4):
        return None
    return f"with all 24 prompts at once it gave {found:.3f}; the mean scores have {expected:.3f}"


def _cancels(answer: Answer, seed: int) -> str | None:
    """Two prompts that differ in the sign of one edge: with both it is gone."""
    scores = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]])
    found = _seeded(answer, scores, 2, 30, seed)
    if found < 2.99:
        return None
    return f"two edges have 1 in both prompts, a third 1 in one, -1 in the other: of both prompts it gave {found:.3f}"


def _not_a_sum(answer: Answer, seed: int) -> str | None:
    found = [_seeded(answer, torch.ones(6, 5), 3, draws, seed) for draws in (1, 7)]
    if all(math.isclose(each, 5, rel_tol=1e-4) for each in found):
        return None
    return f"five edges that are alike in all prompts: with 1 draw it gave {found[0]:.3f}, with 7 draws {found[1]:.3f}"


def _draws_apart(answer: Answer, seed: int) -> str | None:
    found = _seeded(answer, torch.eye(16), 1, 8, seed)
    if math.isclose(found, 1, rel_tol=1e-4):
        return None
    return f"where each of 16 prompts has an edge of its own, single prompts gave {found:.3f}, mean over 8 draws"


def _single(answer: Answer, seed: int) -> str | None:
    """Disjoint prompts: each shows one edge only, so that n of them show n."""
    scores = torch.eye(16)
    for n in (1, 4, 16):
        found = _seeded(answer, scores, n, 8, seed)
        if not math.isclose(found, n, rel_tol=1e-4):
            return f"where each of 16 prompts has an edge of its own, {n} of them gave {found:.3f}"
    return None


def _averages(answer: Answer, seed: int) -> str | None:
    """Half of the prompts show 1 edge, half show 9: a single prompt shows 5 on average."""
    scores = torch.zeros(40, 10)
    scores[::2, 0] = 1
    scores[1::2, 1:] = 1
    found = _seeded(answer, scores, 1, 600, seed)
    if 4.2 < found < 5.8:
        return None
    return f"half of the prompts show 1 edge, half 9: of one prompt it gave {found:.2f}, mean over 600 draws"


def _untouched(answer: Answer, seed: int) -> str | None:
    scores = _prompt_scores(seed)
    before = scores.clone()
    _seeded(answer, scores, 5, 4, seed)
    return None if torch.equal(scores, before) else "the scores were others afterwards"


FEW_PROMPTS = Exercise(
    lesson="11",
    task="the effective number that a study with few prompts would have found",
    minutes=12,
    difficulty=2,
    reference=answers.few_prompts,
    properties=(
        Property("the scores are not changed", _untouched, "Index them; do not shuffle or take sizes in place."),
        Property(
            "more draws make it no larger", _not_a_sum, "The mean over draws, not the sum; and exp() of the entropy.",
        ),
        Property(
            "every draw has an effective number of its own", _draws_apart,
            "Take the effective number in each draw and average these; not the number of the average over draws.",
        ),
        Property(
            "what cancels between prompts is gone", _cancels,
            "The mean over prompts comes first, then the size. A mean of sizes never cancels, and neither does a mean"
            " of effective numbers of single prompts.",
        ),
        Property(
            "n prompts are n different prompts, and no more", _single,
            "Drawing with replacement takes some twice: randperm(len(scores))[:n].",
        ),
        Property(
            "with all prompts it is the effective number of the mean scores", _all_of_them,
            "Mean over the prompts that were drawn, |.|, shares, entropy, exp.",
        ),
        Property(
            "it is the mean over many random choices", _averages,
            "A new choice in every draw, and the mean of the effective numbers, not of their logarithms.",
        ),
    ),
    hints=(
        "For each draw: choose n prompts, average their scores, take the effective number. Then average over draws.",
        "torch.randperm(len(scores))[:n] are n different prompts.",
        "effective_number(scores[chosen].mean(dim=0)) for each draw; the signs have to be there when you average.",
    ),
)  # fmt: skip

EXERCISES = (EFFECTIVE_NUMBER, DISAGREEMENT, FEW_PROMPTS, THERE_AND_BACK, EDGES_NEEDED)
