"""Lesson 04, the parts of a sampler: what has to be true of scores and of choosing by them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson04 as answers
from mdmcourse.exercises.checks.tools import generator, numbers, shape_of, shown
from mdmcourse.exercises.exercise import Answer, Exercise, Property

ORDERS = ("random", "confidence", "margin", "entropy")

# --- certainty


def _distributions(seed: int, positions: int = 12, words: int = 7) -> tuple[Tensor, Tensor]:
    """Distributions of all kinds, from sure to unsure, and a token drawn for each, often not the best."""
    sharp = numbers(positions, 1, seed=seed + 500, low=0.3, high=4.0)
    probabilities = (sharp * torch.randn(positions, words, generator=generator(seed))).softmax(dim=-1)
    return probabilities, torch.randint(words, (positions,), generator=generator(seed + 900))


def _tensors(answer: Answer, seed: int) -> str | None:
    for order in ORDERS:
        found = answer(*_distributions(seed), order)
        if not isinstance(found, Tensor):
            return f"for order={order!r} it gave a {type(found).__name__}"
    return None


def _one_score(answer: Answer, seed: int) -> str | None:
    for order in ORDERS:
        found = answer(*_distributions(seed), order)
        if found.shape != (12,):
            return f"for 12 positions and order={order!r} it gave {shape_of(found)}"
    return None


def _first_ones(answer: Answer, seed: int, order: str, wanted: Tensor, given: tuple[Tensor, Tensor]) -> str | None:
    """Compare the order that the scores make, whatever their scale."""
    found = answer(given[0].clone(), given[1].clone(), order).argsort(descending=True).tolist()
    expected = wanted.argsort(descending=True).tolist()
    if found == expected:
        return None
    place = next(n for n, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
    before = f"after the positions {found[:place]} comes" if place else "the first is"
    said = f"of {len(found)} positions {before} {found[place]}, expected was {expected[place]}"
    two = given[0][[found[place], expected[place]]].sort(dim=-1, descending=True).values
    return f"{said}: the largest probabilities there are {shown(two[0, :3])} and {shown(two[1, :3])}"


def _confidence(answer: Answer, seed: int) -> str | None:
    probabilities, chosen = _distributions(seed)
    wanted = torch.stack([row[token] for row, token in zip(probabilities, chosen, strict=True)])
    return _first_ones(answer, seed, "confidence", wanted, (probabilities, chosen))


def _margin(answer: Answer, seed: int) -> str | None:
    probabilities, chosen = _distributions(seed)
    ordered = probabilities.sort(dim=-1).values
    return _first_ones(answer, seed, "margin", ordered[:, -1] - ordered[:, -2], (probabilities, chosen))


def _entropy(answer: Answer, seed: int) -> str | None:
    probabilities, chosen = _distributions(seed)
    return _first_ones(
        answer, seed, "entropy", (probabilities * probabilities.log()).sum(dim=-1), (probabilities, chosen)
    )


def _zeros(answer: Answer, seed: int) -> str | None:
    probabilities = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.4, 0.3, 0.3]])
    found = answer(probabilities, torch.tensor([0, 0, 0]), "entropy")
    if not torch.isfinite(found).all():
        return f"with probabilities of 0 the scores were {shown(found)}"
    first = found.argsort(descending=True).tolist()
    return None if first == [1, 0, 2] else f"with probabilities of 0 it takes the positions in the order {first}"


def _random(answer: Answer, seed: int) -> str | None:
    probabilities, chosen = _distributions(seed)
    orders = [tuple(answer(probabilities, chosen, "random").argsort().tolist()) for _ in range(60)]
    if len(set(orders)) < 50:
        return f"60 times asked, it gave only {len(set(orders))} different orders"
    last = len({order[-1] for order in orders})
    return None if last > 6 else f"60 times asked, it began with one of {last} positions only"


def _leaves_probabilities(answer: Answer, seed: int) -> str | None:
    probabilities, chosen = _distributions(seed)
    given, given_chosen = probabilities.clone(), chosen.clone()
    for order in ORDERS:
        answer(given, given_chosen, order)
    same = torch.equal(given, probabilities) and torch.equal(given_chosen, chosen)
    return None if same else "probabilities or chosen were others afterwards"


CERTAINTY = Exercise(
    lesson="04",
    task="how early each mask should be written: by confidence, margin, entropy or at random",
    minutes=8,
    difficulty=1,
    reference=answers.certainty,
    properties=(
        Property("it gives a tensor", _tensors, "torch.tensor(...) makes one of a list or of a NumPy array."),
        Property("it gives one number for each position", _one_score, "Work along the words: dim=-1."),
        Property(
            "confidence looks at the token that was chosen", _confidence,
            "The chosen token need not be the most probable one: gather its own probability, not the maximum.",
        ),
        Property(
            "margin is how far the best word is ahead of the second", _margin,
            "A difference, not a quotient, and to the second, not to the smallest: "
            "probabilities.topk(2, dim=-1).values holds both. (The chosen token plays no role.)",
        ),
        Property(
            "the lowest entropy comes first", _entropy,
            "The highest score is written first: so it has to be minus the entropy, sum of p log p.",
        ),
        Property(
            "probabilities of 0 do no harm", _zeros,
            "0 log 0 counts as 0, but 0 * torch.log(0) is NaN. torch.special.entr(p) is -p log p and knows that.",
        ),
        Property(
            "random is another order each time", _random,
            "A random number for each position, new ones at each call, no seed set: torch.rand(len(probabilities)).",
        ),
        Property("its input is not changed", _leaves_probabilities, "Something is written into the caller's tensor."),
    ),
    hints=(
        "Four cases. Each gives [pos]; the higher the number, the earlier the position is written.",
        "Confidence: probabilities.gather(-1, chosen[:, None])[:, 0]. Margin: the difference of the two of topk(2).",
        "Entropy: -torch.special.entr(probabilities).sum(dim=-1). Random: torch.rand(len(probabilities)).",
    ),
)  # fmt: skip


# --- pick


def _scores(seed: int) -> tuple[Tensor, Tensor]:
    score = torch.randn(10, generator=generator(seed))
    allowed = torch.rand(10, generator=generator(seed + 1)) < 0.6
    allowed[:4], allowed[9] = True, False
    score[4:][~allowed[4:]] += 5  # the best ones are forbidden
    return score, allowed


def _booleans(found: Any, allowed: Tensor) -> str | None:
    if not isinstance(found, Tensor) or found.shape != allowed.shape or found.dtype != torch.bool:
        kind = f" of {found.dtype}" if isinstance(found, Tensor) else ""
        return f"for {len(allowed)} positions it gave {shape_of(found)}{kind}"
    return None


def _pick_shape(answer: Answer, seed: int) -> str | None:
    score, allowed = _scores(seed)
    return _booleans(answer(score, allowed, 2), allowed)


def _pick_allowed(answer: Answer, seed: int) -> str | None:
    score, allowed = _scores(seed)
    score[~allowed] += 1
    for count in (1, 3, 10):
        found = answer(score.clone(), allowed.clone(), count)
        if (found & ~allowed).any():
            return f"with count={count} it took position {int((found & ~allowed).nonzero()[0])}, which is not allowed"
    return None


def _pick_counts(answer: Answer, seed: int, most: int) -> Iterator[tuple[int, int, str]]:
    """How many were taken and how many should have been, with scores around 0 and with negative ones."""
    for draw, count, shift in itertools.product(range(5), range(most + 1), (0.0, -10.0)):  # entropies are negative
        score, allowed = _scores(seed + 1000 * draw)
        taken = int(answer(score + shift, allowed.clone(), count).sum())
        given = f"with count={count} and the allowed scores {shown((score + shift)[allowed])}"
        yield taken, min(count, int(allowed.sum())), f"{given} it took {taken}"


def _pick_enough(answer: Answer, seed: int) -> str | None:
    return next((said for taken, right, said in _pick_counts(answer, seed, 10) if taken < right), None)


def _pick_no_more(answer: Answer, seed: int) -> str | None:
    wrong = next((said for taken, right, said in _pick_counts(answer, seed, 11) if taken > right), None)
    score, allowed = torch.tensor([1.0, 2.0, 2.0, 2.0, 0.0]), torch.ones(5, dtype=torch.bool)
    taken = int(answer(score.clone(), allowed, 2).sum())
    return wrong or (f"with count=2 and the scores {shown(score)} it took {taken}" if taken > 2 else None)


def _pick_highest(answer: Answer, seed: int) -> str | None:
    score, allowed = _scores(seed)
    for shift in (0.0, -10.0):  # entropies are negative scores
        found = answer(score + shift, allowed.clone(), 3)
        if (score[found].min() if found.any() else -torch.inf) < score[allowed & ~found].max():
            return f"of the allowed scores {shown((score + shift)[allowed])} it took {shown((score + shift)[found])}"
    return None


def _pick_nan(answer: Answer, seed: int) -> str | None:
    score, allowed = _scores(seed)
    expected = answer(score.clone(), allowed.clone(), 3)
    found = answer(score.masked_fill(~allowed, torch.nan), allowed.clone(), 3)
    return None if torch.equal(found, expected) else "with NaN where nothing may be taken it took other positions"


def _pick_ties(answer: Answer, seed: int) -> str | None:
    """Of many lengths: each sort that is not stable mixes equal scores for some of them."""
    for n, count in itertools.product((5, 20, 50, 200, 500), (1, 3, 4)):
        allowed = torch.ones(n, dtype=torch.bool)
        allowed[0] = False
        found = answer(torch.ones(n), allowed, count).nonzero()[:, 0].tolist()
        if found != list(range(1, count + 1)):
            return f"of {n} equal scores, the positions from 1 on allowed, count={count}, it took {found}"
    return None


def _pick_leaves(answer: Answer, seed: int) -> str | None:
    score, allowed = _scores(seed)
    given, given_allowed = score.clone(), allowed.clone()
    answer(given, given_allowed, 3)
    same = torch.equal(given, score) and torch.equal(given_allowed, allowed)
    return None if same else "score or allowed were others afterwards"


PICK = Exercise(
    lesson="04",
    task="the allowed positions with the highest scores",
    minutes=7,
    difficulty=1,
    reference=answers.pick,
    properties=(
        Property(
            "it gives True or False for each position", _pick_shape,
            "A tensor of booleans is wanted: begin with torch.zeros_like(allowed).",
        ),
        Property(
            "only allowed positions are taken", _pick_allowed,
            "Give the others the score -inf before you sort; and if count is more than there are, they come up all the "
            "same: & allowed.",
        ),
        Property(
            "it takes as many as it should", _pick_enough,
            "Do forbidden positions take places? 0 or -1 in the place of their scores beats negative ones: "
            "masked_fill(~allowed, -torch.inf), before you sort. Or is argsort read as ranks? It lists positions, the "
            "best one first.",
        ),
        Property(
            "it takes no more than count", _pick_no_more,
            "A comparison with the count-th score takes too many where scores are equal, and count may be 0.",
        ),
        Property(
            "the highest scores are taken, negative ones too", _pick_highest,
            "Descending or ascending? And argsort lists positions: that is not the rank of each position.",
        ),
        Property(
            "NaN where nothing may be taken does no harm", _pick_nan,
            "NaN times 0 is NaN, and sorts first. Choose with masked_fill(~allowed, -torch.inf).",
        ),
        Property(
            "of equal scores the leftmost are taken", _pick_ties,
            "topk and argsort promise no order among equals: argsort(descending=True, stable=True) does.",
        ),
        Property("its input is not changed", _pick_leaves, "masked_fill makes a new tensor, masked_fill_ does not."),
    ),
    hints=(
        "Make forbidden positions lose: score.masked_fill(~allowed, -torch.inf). Then sort, the highest first.",
        "order = ....argsort(descending=True, stable=True); the first count of them are what you want.",
        "picked = torch.zeros_like(allowed); picked[order[:count]] = True; return picked & allowed.",
    ),
)  # fmt: skip
