"""Training a masked diffusion model: what has to be true of the answers on noise, loss, entropy and experiments."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson03 as answers
from mdmcourse.exercises.checks.attention_by_hand import ATTENTION_LAYER
from mdmcourse.exercises.checks.fair_comparison import FAIR_RUNS
from mdmcourse.exercises.checks.tools import differs, generator, numbers, shape_of, shown
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- noise_levels

T_MIN = 0.001


def _a_vector(answer: Answer, seed: int) -> str | None:
    found = answer(6, generator(seed))
    if not isinstance(found, Tensor) or found.shape != (6,) or not found.is_floating_point():
        return f"for a batch of 6 it gave {shape_of(found)}"
    return None


def _in_range(answer: Answer, seed: int) -> str | None:
    t = torch.stack([answer(50, generator(1000 * seed + run)) for run in range(40)])
    if t.min() < T_MIN - 1e-6 or t.max() > 1 + 1e-6:
        return f"t ran from {t.min():.5f} to {t.max():.5f}"
    return None


def _one_a_slice(answer: Answer, seed: int) -> str | None:
    for batch in (1, 8, 50):
        t = answer(batch, generator(seed + batch)).double().sort().values
        edges = torch.arange(batch + 1) / batch
        # Slices of [0.001, 1] and slices of [0, 1] that begin at 0.001 will both do.
        outside = (t < edges[:-1] - 1e-5) | (t > edges[1:] + T_MIN)
        if outside.any():
            return (
                f"sorted, {batch} levels were {shown(t)}: number {int(outside.int().argmax()) + 1} is not in its slice"
            )
    return None


def _anywhere_in_its_slice(answer: Answer, seed: int) -> str | None:
    t = torch.stack([answer(4, generator(1000 * seed + run)).sort().values for run in range(400)]).double()
    within = 4 * t - torch.arange(4)
    if (within.std(dim=0) < 0.2).any() or ((within.mean(dim=0) - 0.5).abs() > 0.12).any():
        return f"in 400 calls for a batch of 4, the smallest t ran from {t[:, 0].min():.3f} to {t[:, 0].max():.3f}"
    return None


def _rows_alike(answer: Answer, seed: int) -> str | None:
    t = torch.stack([answer(10, generator(1000 * seed + run)) for run in range(400)]).double()
    means, spreads = t.mean(dim=0), t.std(dim=0)
    if ((means - 0.5).abs() > 0.12).any():
        return f"in 400 calls for a batch of 10, row 0 had t = {means[0]:.2f} on average, row 9 {means[9]:.2f}"
    if (spreads < 0.2).any():
        row = int(spreads.argmin())
        return (
            f"in 400 calls for a batch of 10, row {row} had t from {t[:, row].min():.2f} to {t[:, row].max():.2f} only"
        )
    return None


def _from_the_generator(answer: Answer, seed: int) -> str | None:
    one, again = answer(20, generator(seed)), answer(20, generator(seed))
    if not torch.equal(one, again):
        return "the same generator, newly seeded, gave other levels"
    shared = generator(seed)
    first, second = answer(20, shared), answer(20, shared)
    return "two calls in a row gave the same levels" if torch.equal(first, second) else None


NOISE_LEVELS = Exercise(
    lesson="03",
    task="stratified noise levels: one from each slice",
    minutes=6,
    difficulty=1,
    reference=answers.noise_levels,
    properties=(
        Property("it gives one level for each text", _a_vector, "Return a tensor of floats of shape [batch]."),
        Property(
            "levels lie between 0.001 and 1", _in_range,
            "Map u from [0, 1] to 0.001 + 0.999 * u at the end: then 1/t stays below 1000.",
        ),
        Property(
            "exactly one level lies in each slice", _one_a_slice,
            "Independent levels, torch.rand(batch), leave some slices empty. Slice j runs from j / batch to "
            "(j + 1) / batch.",
        ),
        Property(
            "a level can lie anywhere in its slice", _anywhere_in_its_slice,
            "The middle or the edge of a slice is always the same: add a random number below 1 before dividing.",
        ),
        Property(
            "every row is as likely to get a large t as any other", _rows_alike,
            "Each row has to be able to get each slice, all equally likely: give them out in random order, with "
            "torch.randperm. (Sorted or counted up, row 0 has the first slice; turned round by a coin, the middle rows "
            "have the middle.)",
        ),
        Property(
            "the random numbers come from the generator", _from_the_generator,
            "Pass generator=generator to torch.rand and to torch.randperm.",
        ),
    ),
    hints=(
        "The numbers 0, 1, ..., batch - 1 are the slices. Which one does a row get, and where in it does its t lie?",
        "torch.randperm(batch, generator=generator) gives out slices, torch.rand(batch, generator=generator) places.",
        "u = (slices + places) / batch lies in [0, 1]; then 0.001 + 0.999 * u.",
    ),
)  # fmt: skip


# --- training_loss


def _batch(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """logits, x, masked, maskable, t: three texts of six tokens, of which four, three and two are maskable."""
    logits = 3 * numbers(3, 6, 7, seed=seed)
    x = torch.randint(7, (3, 6), generator=generator(seed + 1))
    maskable = torch.zeros(3, 6, dtype=torch.bool)
    maskable[:, 2:] = True
    maskable[1, 5], maskable[2, 4:] = False, False
    masked = maskable & (torch.rand(3, 6, generator=generator(seed + 2)) < 0.5)
    masked[:, 2], masked[:, 3] = True, False  # some of each
    return logits, x, masked, maskable, numbers(3, seed=seed + 3, low=0.2, high=0.8)


def _losses(logits: Tensor, x: Tensor) -> Tensor:
    return -logits.log_softmax(dim=-1).gather(-1, x[..., None])[..., 0]


def _one_number(answer: Answer, seed: int) -> str | None:
    found = answer(*_batch(seed))
    if isinstance(found, Tensor) and found.shape == ():
        return None
    return f"for three texts it gave {shape_of(found)}"


def _aligned(answer: Answer, seed: int) -> str | None:
    """Logits that are sure of the right token, in its own row, or in the row before or after: which cost nothing?"""
    x = (torch.arange(6) * 2 + torch.randint(7, (3, 1), generator=generator(seed))) % 7  # neighbours differ
    every, t = torch.ones_like(x, dtype=torch.bool), torch.ones(3)
    own, before, after = (
        float(answer(20 * torch.nn.functional.one_hot(x.roll(by, 1), 7).float(), x, every, every, t))
        for by in (0, -1, 1)
    )
    for found, name in ((before, "i - 1"), (after, "i + 1")):
        if own > 1 and own > found + 1:
            return f"logits that are sure of token i in row i cost {own:.3g}, in row {name} they cost {found:.3g}"
    return None


def _at_the_masks(answer: Answer, seed: int) -> str | None:
    logits, x, masked, maskable, t = _batch(seed)
    other = torch.where(masked[..., None], logits, 3 * numbers(3, 6, 7, seed=seed + 9))
    return differs(
        answer(other, x, masked, maskable, t), answer(logits, x, masked, maskable, t),
        "with other logits at positions that are not masked",
    )  # fmt: skip


def _cross_entropy(answer: Answer, seed: int) -> str | None:
    """Texts of one token, masked at t = 1, so that neither weight nor divisor makes a difference."""
    logits, x = 3 * numbers(6, 1, 7, seed=seed), torch.randint(7, (6, 1), generator=generator(seed + 1))
    every = torch.ones_like(x, dtype=torch.bool)
    expected = _losses(logits, x).mean()
    found = answer(logits, x, every, every, torch.ones(6))
    return differs(found, expected, "for texts of one token, masked at t = 1, where the loss is the mean of -log p,")


def _per_maskable(answer: Answer, seed: int) -> str | None:
    logits, x, masked, maskable, _ = _batch(seed)
    expected = _losses(logits, x)[masked].sum() / maskable.sum()
    found = answer(logits, x, masked, maskable, torch.ones(3))
    of_each = ", ".join(f"{a} of {b}" for a, b in zip(masked.sum(1).tolist(), maskable.sum(1).tolist(), strict=True))
    given = f"with t = 1 for all and {of_each} maskable tokens masked in the three texts"
    return differs(found, expected, given)


def _weights(answer: Answer, seed: int) -> str | None:
    logits, x, masked, maskable, t = _batch(seed)
    each = torch.where(masked, _losses(logits, x), 0).sum(dim=1)
    return differs(
        answer(logits, x, masked, maskable, t), (each / t).sum() / maskable.sum(), f"with t = {shown(t)}"
    )  # fmt: skip


def _unweighted(answer: Answer, seed: int) -> str | None:
    logits, x, masked, maskable, t = _batch(seed)
    expected = _losses(logits, x)[masked].sum() / maskable.sum()
    return differs(answer(logits, x, masked, maskable, t, weighted=False), expected, "with weighted=False")


def _robust(answer: Answer, seed: int) -> str | None:
    logits, x, masked, maskable, t = _batch(seed)
    expected = answer(logits, x, masked, maskable, t)
    blank = logits.masked_fill(~masked[..., None], torch.nan)
    seen = differs(answer(blank, x, masked, maskable, t), expected, "with nan in rows where nothing is predicted")
    if seen:
        return seen
    nothing = answer(logits, x, torch.zeros_like(masked), maskable, t)
    return differs(nothing, torch.tensor(0.0), "with nothing masked in the whole batch")


def _learns(answer: Answer, seed: int) -> str | None:
    logits, x, masked, maskable, t = _batch(seed)
    logits.requires_grad_()
    with torch.enable_grad():
        found = answer(logits, x, masked, maskable, t)
    if not found.requires_grad:
        return "the result has no gradient"
    (gradient,) = torch.autograd.grad(found, logits)
    return None if gradient[masked].abs().sum() > 0 else "the gradient at masked positions is 0"


TRAINING_LOSS = Exercise(
    lesson="03",
    task="the training loss of a masked diffusion model",
    minutes=12,
    difficulty=2,
    reference=answers.training_loss,
    properties=(
        Property(
            "it gives one number", _one_number,
            "Add up everything, over positions and over the batch, to a tensor of shape []. A Python float, as .item() "
            "gives it, has no gradient to train with.",
        ),
        Property(
            "row i of the logits scores token i", _aligned,
            "No shift: an ARM's row i scores token i + 1, but here logits[n, i] belongs to x[n, i].",
        ),
        Property(
            "the loss of a token is -log p of the right token", _cross_entropy,
            "log_softmax over the vocabulary (the last axis), then the entry of x, then the sign. Is the softmax "
            "there, and only once?",
        ),
        Property(
            "only masked positions count", _at_the_masks,
            "Choose with `masked`, not with `maskable`: what the model sees, it need not predict.",
        ),
        Property(
            "the sum is divided by the number of maskable tokens", _per_maskable,
            "Not by the number of masked ones, not by the number of texts, and not text by text before a mean over "
            "texts: all losses of the batch are added up, then divided once, by maskable.sum().",
        ),
        Property(
            "each text is weighted with 1/t of its own", _weights,
            "Divide the losses of text n by t[n] before adding up the batch; t[:, None] has one column.",
        ),
        Property("weighted=False leaves out the weight and nothing else", _unweighted, "Is `weighted` used?"),
        Property(
            "nan at other rows, or no mask at all, does no harm", _robust,
            "0 times nan is nan, and the mean of nothing is nan: choose the masked rows first, and sum.",
        ),
        Property("the loss has a gradient", _learns, "No .item(), .detach() or torch.no_grad() on the way."),
    ),
    hints=(
        "logits[masked] is [n, vocab] and x[masked] is [n], n being the number of masks in the batch.",
        "torch.nn.functional.cross_entropy(logits[masked], x[masked], reduction='none') gives the n losses; "
        "t[:, None].expand(x.shape)[masked] the n noise levels that belong to them.",
        "(losses / levels).sum() / maskable.sum(), and without the division by levels if not weighted.",
    ),
)  # fmt: skip


# --- entropy_given


def _list_of_texts(seed: int, n: int = 40) -> Tensor:
    return torch.randint(3, (n, 4), generator=generator(seed))


def _entropy(columns: Tensor) -> float:
    counts = Counter(map(tuple, columns.tolist()))
    return -sum(count / len(columns) * math.log(count / len(columns)) for count in counts.values())


def _number(found: Any) -> Tensor:
    return found.double() if isinstance(found, Tensor) else torch.tensor(float(found), dtype=torch.float64)


def _nothing_seen(answer: Answer, seed: int) -> str | None:
    coin = torch.arange(8)[:, None] % 2
    seen = differs(
        _number(answer(coin.clone(), [], 0)), torch.tensor(math.log(2)), "for a fair coin, with nothing seen,"
    )
    if seen:
        return seen
    uneven = torch.tensor([[0]] * 6 + [[1]] * 2 + [[2]] * (1 + seed % 3))
    return differs(
        _number(answer(uneven, [], 0)), torch.tensor(_entropy(uneven)), "for tokens of unequal frequency, nothing seen,"
    )


def _determined(answer: Answer, seed: int) -> str | None:
    texts = _list_of_texts(seed)
    texts[:, 3] = (texts[:, 0] + texts[:, 1]) % 3
    found = _number(answer(texts, [0, 1], 3))
    return differs(found, torch.tensor(0.0), "for a token that follows from those seen", 1e-5)


def _unrelated(answer: Answer, seed: int) -> str | None:
    texts = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(5))
    found = _number(answer(texts, [0, 1], 2))
    return differs(found, torch.tensor(math.log(5)), "for a token that has nothing to do with those seen")


def _frequent(answer: Answer, seed: int) -> str | None:
    texts = torch.tensor([[0, 5]] * (6 + seed % 4) + [[1, 5], [1, 6]])
    expected = torch.tensor(2 / len(texts) * math.log(2))
    return differs(
        _number(answer(texts, [0], 1)),
        expected,
        f"where {len(texts) - 2} texts of {len(texts)} leave no doubt and 2 do,",
    )


def _chain_rule(answer: Answer, seed: int) -> str | None:
    texts = _list_of_texts(seed)
    texts[:, 2] = (texts[:, 2] + texts[:, 1]) // 2
    for seen, i in (([1], 2), ([3, 0], 2), ([0, 1, 3], 2)):
        expected = _entropy(texts[:, [*seen, i]]) - _entropy(texts[:, seen])
        problem = differs(
            _number(answer(texts.clone(), list(seen), i)), torch.tensor(expected), f"seen {seen}, i = {i}:"
        )
        if problem:
            return problem
    return None


def _leaves_texts(answer: Answer, seed: int) -> str | None:
    texts, seen = _list_of_texts(seed), [3, 0]
    given = texts.clone()
    answer(given, seen, 2)
    if seen != [3, 0]:
        return f"seen was [3, 0] and became {seen}"
    return None if torch.equal(texts, given) else "the texts were others afterwards"


ENTROPY_GIVEN = Exercise(
    lesson="03",
    task="the entropy of a masked token, by counting texts",
    minutes=12,
    difficulty=2,
    reference=answers.entropy_given,
    properties=(
        Property(
            "with nothing seen it is the entropy of the token, in nats", _nothing_seen,
            "- sum p log p with the natural logarithm, p being shares of texts. With `seen` empty all texts are alike.",
        ),
        Property(
            "a token that follows from those seen has 0", _determined,
            "Are the positions in `seen` used, all of them? If so, it may be the entropy of seen and i *together*: "
            "divide by the number of texts that agree at `seen`.",
        ),
        Property(
            "a token that has nothing to do with those seen keeps its entropy", _unrelated,
            "Whatever is seen, the entropy is the same here, and so is its mean over texts. Is it a sum over what "
            "can be seen, not a mean?",
        ),
        Property(
            "frequent texts count more", _frequent,
            "The average is over texts, not over the different things that can be seen.",
        ),
        Property(
            "H(seen) + H(x_i | seen) = H(seen and i)", _chain_rule,
            "Are all positions in `seen` compared, each text with every other?",
        ),
        Property(
            "neither texts nor seen is changed", _leaves_texts,
            "seen.append(i) changes the caller's list, which is used again: [*seen, i] is a new one.",
        ),
    ),
    hints=(
        "p(x_i | x_S) of a text is a quotient of two counts: texts that agree with it at S and i, over texts that "
        "agree with it at S.",
        "texts[:, places].unique(dim=0, return_inverse=True, return_counts=True) gives groups: count[inverse] is, for "
        "each text, the size of its group.",
        "-(size of its group at seen + [i] / size of its group at seen).log(), mean over texts. With nothing seen the "
        "group is all texts.",
    ),
)  # fmt: skip


EXERCISES = (ATTENTION_LAYER, NOISE_LEVELS, TRAINING_LOSS, ENTROPY_GIVEN, FAIR_RUNS)
