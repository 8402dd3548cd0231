"""Lesson 01, joint tables: what has to be true of conditionals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson01 as answers
from mdmcourse.exercises.checks.tools import differs, generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property


def _joint(tokens: int, words: int, seed: int) -> Tensor:
    """A table of probabilities, one axis a token, far from uniform and from independence."""
    weights = numbers(*[words] * tokens, seed=seed, low=0.02).double() ** 3
    return weights / weights.sum()


def _counted(joint: Tensor, seen: Mapping[int, int], i: int) -> Tensor:
    """p(word at i | seen), by going through the table entry by entry."""
    weight = torch.zeros(joint.shape[i], dtype=torch.float64)
    for entry in itertools.product(*map(range, joint.shape)):
        if all(entry[position] == word for position, word in seen.items()):
            weight[entry[i]] += joint[entry]
    return weight / weight.sum()


def _words(seed: int, count: int, words: int) -> list[int]:
    return torch.randint(words, (count,), generator=generator(seed + 1000)).tolist()


A_TENSOR = "it gives a tensor"
ONE_A_WORD = "it gives one number for each word"
SUMS_TO_1 = "it sums to 1"
UNCHANGED = "the table is not changed"


def _no_tensor(found: Any) -> str | None:
    return None if isinstance(found, Tensor) else f"it gave a {type(found).__name__}"


def _distribution(found: Any, words: int, given: str) -> str | None:
    if isinstance(found, Tensor) and found.shape == (words,):
        return None
    return f"{given} it gave {shape_of(found)}, expected was one of shape ({words},)"


def _total(found: Tensor, given: str) -> str | None:
    total = float(found.sum())
    return None if abs(total - 1) < 1e-4 else f"{given} the sum is {total:.4f}"


# --- next_conditional


def _next_tensor(answer: Answer, seed: int) -> str | None:
    return _no_tensor(answer(_joint(3, 4, seed), _words(seed, 1, 4)))


def _next_list(answer: Answer, seed: int) -> str | None:
    """Is it right if the prefix comes as a tuple, and only then?"""
    joint, prefix = _joint(3, 4, seed), _words(seed, 2, 4)
    expected = _counted(joint, dict(enumerate(prefix)), 2)

    def wrong(given: Any) -> str | None:
        try:
            return differs(answer(joint.clone(), given), expected, f"for the prefix {given}")
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            return f"for the prefix {given}: {error}"

    of_list = wrong(list(prefix))
    return f"{of_list}; with a tuple it is right" if of_list and wrong(tuple(prefix)) is None else None


def _next_all_summed(answer: Answer, seed: int) -> str | None:
    joint, prefix = _joint(3, 4, seed), _words(seed, 2, 4)
    found = answer(joint.clone(), list(prefix))
    return f"for the full prefix {prefix} it gave a single number" if found.shape == () else None


def _next_shape(answer: Answer, seed: int) -> str | None:
    joint, (a, b) = _joint(3, 4, seed), _words(seed, 2, 4)
    for prefix in ([], [a], [a, b]):
        wrong = _distribution(answer(joint.clone(), list(prefix)), 4, f"for a table [4, 4, 4] and the prefix {prefix}")
        if wrong:
            return wrong
    return None


def _next_total(answer: Answer, seed: int) -> str | None:
    joint, (a, b) = _joint(3, 4, seed), _words(seed, 2, 4)
    for prefix in ([a], [a, b]):
        wrong = _total(answer(joint.clone(), list(prefix)), f"for the prefix {prefix}")
        if wrong:
            return wrong
    return None


def _next_leaves(answer: Answer, seed: int) -> str | None:
    joint = _joint(3, 4, seed)
    given = joint.clone()
    answer(given, _words(seed, 1, 4))
    return None if torch.equal(given, joint) else "the entries of joint were others afterwards"


def _next_counted(answer: Answer, seed: int) -> str | None:
    joint, (a, b) = _joint(3, 4, seed), _words(seed, 2, 4)
    for prefix in ([], [a], [a, b]):
        expected = _counted(joint, dict(enumerate(prefix)), len(prefix))
        wrong = differs(answer(joint.clone(), list(prefix)), expected, f"for the prefix {prefix}")
        if wrong:
            return wrong
    return None


def _next_longer(answer: Answer, seed: int) -> str | None:
    joint, prefix = _joint(4, 3, seed), _words(seed, 1, 3)
    expected = _counted(joint, dict(enumerate(prefix)), 1)
    return differs(answer(joint.clone(), list(prefix)), expected, f"for four tokens and the prefix {prefix}")


NEXT_CONDITIONAL = Exercise(
    lesson="01",
    task="p(next word | prefix) from the table of a joint distribution",
    minutes=8,
    difficulty=1,
    reference=answers.next_conditional,
    properties=(
        Property(A_TENSOR, _next_tensor, "Return a tensor: torch.stack or torch.tensor makes one of a list."),
        Property(
            "it takes the prefix as a list", _next_list,
            "joint[prefix] with a list picks several entries of the first axis. joint[tuple(prefix)] takes one word "
            "for each axis.",
        ),
        Property(
            "the axis of the next word is left", _next_all_summed,
            "Everything was summed: in PyTorch sum(dim=()) sums over all axes. With the full prefix only the axis of "
            "the next word is left, and nothing is to be summed.",
        ),
        Property(
            ONE_A_WORD, _next_shape,
            "The words that come after the next one are still in the table: sum over all of them.",
        ),
        Property(SUMS_TO_1, _next_total, "Divide by the probability of the prefix, which is the sum of what is left."),
        Property(
            UNCHANGED, _next_leaves,
            "/= and joint[...] = ... write into the caller's table. Make a new tensor.",
        ),
        Property(
            "it is what one counts in the table", _next_counted,
            "The prefix belongs at the first axes, all of it; later words are summed over: not fixed, no maximum, "
            "no softmax.",
        ),
        Property(
            "it works for longer sequences too", _next_longer,
            "The number of axes is joint.ndim; do not count on three.",
        ),
    ),
    hints=(
        "joint[tuple(prefix)] is the part of the table that begins with the prefix. What do its axes mean?",
        "Its first axis is the next word. Sum over all others: part.reshape(len(part), -1).sum(dim=1).",
        "Now the numbers are p(prefix, next word). Divide them by their sum, which is p(prefix).",
    ),
)  # fmt: skip


# --- any_conditional


def _any_tensor(answer: Answer, seed: int) -> str | None:
    return _no_tensor(answer(_joint(3, 4, seed), {2: _words(seed, 1, 4)[0]}, 0))


def _any_shape(answer: Answer, seed: int) -> str | None:
    joint, (a, b) = _joint(3, 4, seed), _words(seed, 2, 4)
    for seen, i in (({}, 1), ({0: a}, 2), ({2: b}, 0)):
        given = f"for a table [4, 4, 4], seen = {seen}, i = {i}"
        wrong = _distribution(answer(joint.clone(), dict(seen), i), 4, given)
        if wrong:
            return wrong
    return None


def _any_total(answer: Answer, seed: int) -> str | None:
    joint, (a,) = _joint(3, 4, seed), _words(seed, 1, 4)
    for seen, i in (({0: a}, 1), ({2: a}, 0)):
        wrong = _total(answer(joint.clone(), dict(seen), i), f"for seen = {seen}, i = {i}")
        if wrong:
            return wrong
    return None


def _any_leaves(answer: Answer, seed: int) -> str | None:
    joint, (a, b) = _joint(3, 4, seed), _words(seed, 2, 4)
    given, seen = joint.clone(), {0: a, 2: b}
    answer(given, seen, 1)
    if seen != {0: a, 2: b}:
        return f"seen was {{0: {a}, 2: {b}}} and became {seen}"
    return None if torch.equal(given, joint) else "the entries of joint were others afterwards"


def _any(answer: Answer, seed: int, tokens: int, cases: tuple[tuple[tuple[int, ...], int], ...]) -> str | None:
    """Compare with counting, for each pair of seen positions and an asked one."""
    joint, words = _joint(tokens, 3, seed), _words(seed, tokens, 3)
    for positions, i in cases:
        seen = {position: words[position] for position in positions}
        expected = _counted(joint, seen, i)
        wrong = differs(answer(joint.clone(), dict(seen), i), expected, f"for seen = {seen}, i = {i}")
        if wrong:
            return wrong
    return None


def _any_before(answer: Answer, seed: int) -> str | None:
    return _any(answer, seed, 3, (((0, 1), 2),))


def _any_after(answer: Answer, seed: int) -> str | None:
    return _any(answer, seed, 3, (((1, 2), 0), ((2, 0), 1)))


def _any_hidden(answer: Answer, seed: int) -> str | None:
    return _any(answer, seed, 4, (((), 1), ((1,), 3), ((3,), 0), ((3, 0), 2)))


ANY_CONDITIONAL = Exercise(
    lesson="01",
    task="p(word at any position | words at any others) from the table of a joint distribution",
    minutes=12,
    difficulty=2,
    reference=answers.any_conditional,
    properties=(
        Property(A_TENSOR, _any_tensor, "Return a tensor: torch.stack or torch.tensor makes one of a list."),
        Property(ONE_A_WORD, _any_shape, "Sum over every position that is neither seen nor asked for."),
        Property(
            SUMS_TO_1, _any_total,
            "Divide by the probability of what is seen: the sum of what is left. (Dividing by p(word at i) gives "
            "p(seen | word): the condition the wrong way round.)",
        ),
        Property(
            "neither the table nor seen is changed", _any_leaves,
            "Setting entries to 0, or taking positions out of seen, changes what the caller has. Make new ones.",
        ),
        Property(
            "words before i count, together", _any_before,
            "Is an axis gone after the first word was chosen? Then the others have moved. joint.narrow(position, "
            "word, 1) keeps it. And the seen words act together, not each on its own.",
        ),
        Property(
            "words after i count as well", _any_after,
            "Only what stands before i is used. There is no direction here: seen may hold any position.",
        ),
        Property(
            "what is neither seen nor asked for is summed over", _any_hidden,
            "A hidden word is fixed, or the largest entry is taken. Hidden means: add up all that could stand there.",
        ),
    ),
    hints=(
        "Three kinds of positions: seen (keep one word of the axis), asked for (keep all), the rest (sum over it).",
        "joint.narrow(position, word, 1) keeps one word of an axis and the axis too, so that the others do not move.",
        "joint.movedim(i, 0).reshape(joint.shape[i], -1).sum(dim=1) sums over all but axis i. Then divide by the sum.",
    ),
)  # fmt: skip
