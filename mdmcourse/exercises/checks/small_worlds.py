"""Lesson 04, worlds that can be enumerated: what a plan of unmasking writes, and choosing under a budget of passes."""

from __future__ import annotations

import itertools
import math
from functools import cache

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson04 as answers
from mdmcourse.exercises.checks.tools import differs, generator, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- written_by


def _joint(seed: int, tokens: int = 4, words: int = 3) -> Tensor:
    """A table of probabilities, one axis a token, far from independence."""
    weights = numbers(*[words] * tokens, seed=seed, low=0.02).double() ** 3
    return weights / weights.sum()


def _counted(joint: Tensor, groups: list[list[int]]) -> Tensor:
    """By going through the table: for each entry the product of the conditionals, each summed entry by entry."""
    entries = list(itertools.product(*map(range, joint.shape)))
    weights = {y: float(joint[y]) for y in entries}
    found = torch.zeros_like(joint)
    for x in entries:
        probability = 1.0
        seen: list[int] = []
        for group in groups:
            fits = [y for y in entries if all(y[k] == x[k] for k in seen)]
            before = sum(weights[y] for y in fits)
            for i in group:
                here = sum(weights[y] for y in fits if y[i] == x[i])
                probability *= here / before if before else 1 / joint.shape[i]
            seen += group
        found[x] = probability
    return found


def _compare(answer: Answer, joint: Tensor, *plans: list[list[int]]) -> str | None:
    for groups in plans:
        found = answer(joint.clone(), [list(group) for group in groups])
        wrong = differs(found, _counted(joint, groups), f"for the groups {groups}")
        if wrong:
            return wrong
    return None


def _table(answer: Answer, seed: int) -> str | None:
    found = answer(_joint(seed), [[0, 1], [2, 3]])
    if isinstance(found, Tensor) and found.shape == (3, 3, 3, 3):
        return None
    return f"for a table [3, 3, 3, 3] it gave {shape_of(found)}"


def _sums_to_one(answer: Answer, seed: int) -> str | None:
    for groups in ([[0, 1, 2, 3]], [[0, 1], [2, 3]], [[3], [0], [2], [1]]):
        total = float(answer(_joint(seed), groups).sum())
        if abs(total - 1) > 1e-4:
            return f"for the groups {groups} the sum is {total:.4f}"
    return None


def _one_a_pass(answer: Answer, seed: int) -> str | None:
    joint = _joint(seed)
    for groups in ([[0], [1], [2], [3]], [[2], [0], [3], [1]]):
        wrong = differs(answer(joint.clone(), groups), joint, f"with one position a pass, {groups},")
        if wrong:
            return wrong
    return None


def _all_at_once(answer: Answer, seed: int) -> str | None:
    return _compare(answer, _joint(seed), [[0, 1, 2, 3]])


def _some_at_once(answer: Answer, seed: int) -> str | None:
    return _compare(answer, _joint(seed), [[0, 1], [2, 3]], [[3, 1], [0], [2]], [[2], [0, 1, 3]])


def _impossible(answer: Answer, seed: int) -> str | None:
    """Two tokens that agree, and a third of three words that follows from them."""
    joint = torch.zeros(2, 2, 3, dtype=torch.float64)
    joint[0, 0, 0], joint[1, 1, 1] = 0.6, 0.4
    found = answer(joint.clone(), [[0, 1], [2]])
    if not torch.isfinite(found).all():
        return "where two words that never go together were written, it gave NaN"
    total = float(found.sum())
    if abs(total - 1) > 1e-4:
        return f"where two words that never go together can be written, the sum of the table is {total:.3f}"
    expected = _counted(joint, [[0, 1], [2]])
    given = "the three texts that begin with words 0 and 1, which never go together: for these"
    return differs(found[0, 1], expected[0, 1], given) or differs(found, expected, "for the whole table")


def _leaves_table(answer: Answer, seed: int) -> str | None:
    joint, groups = _joint(seed), [[0, 1], [2], [3]]
    given = joint.clone()
    answer(given, groups)
    if groups != [[0, 1], [2], [3]]:
        return f"groups was [[0, 1], [2], [3]] and became {groups}"
    return None if torch.equal(given, joint) else "the entries of joint were others afterwards"


WRITTEN_BY = Exercise(
    lesson="04",
    task="the exact distribution of what is written, group of positions after group",
    minutes=15,
    difficulty=3,
    reference=answers.written_by,
    properties=(
        Property("it gives a table of the same shape", _table, "One probability for each text: keepdim=True helps."),
        Property(
            "the table sums to 1", _sums_to_one,
            "Each factor has to be a conditional: p(seen, x_i) divided by p(seen).",
        ),
        Property(
            "one position a pass gives the joint itself", _one_a_pass,
            "What an earlier pass wrote is seen by all later ones: keep all of it, not only the last group.",
        ),
        Property(
            "all in one pass gives the product of the marginals", _all_at_once,
            "Tokens of one pass do not see each other. If you condition within the group, you have the chain rule.",
        ),
        Property(
            "a group sees the groups before it, and nothing of itself", _some_at_once,
            "Positions are added to what is seen when the whole group is done, not one by one.",
        ),
        Property(
            "what is impossible in the table does no harm", _impossible,
            "p(seen) can be 0 once tokens disagree, and 0/0 is NaN. There the conditional is uniform, "
            "1 / joint.shape[i] for each word of axis i, with torch.where. Not 0, nor division by the sum at the end.",
        ),
        Property("neither the table nor groups is changed", _leaves_table, "*= on joint, or pop on groups?"),
    ),
    hints=(
        "For each group and each i in it you need p(x_i | seen) as a table. Both p(seen, x_i) and p(seen) are sums of "
        "joint over what is not in them; with keepdim=True they multiply with everything.",
        "joint.sum(dim=[positions that are neither seen nor i], keepdim=True) is p(seen, x_i); summed over i, p(seen). "
        "(sum(dim=[]) sums over everything: leave it out if the list is empty.)",
        "written = written * torch.where(before > 0, together / before, 1 / joint.shape[i]); after the group, "
        "seen = seen + group.",
    ),
)  # fmt: skip


# --- choose_now

World = dict[tuple[int, ...], float]
State = tuple[int | None, ...]


def cities(seed: int) -> World:
    """Two different cities of four, with "to" between them: lesson 04's world, with other weights for each seed."""
    words = [(0, 2), (0, 3), (1, 4), (1, 5)]
    weights = numbers(4, seed=seed, low=0.5, high=1.5).tolist()
    world = {
        (*words[a], 6, *words[b]): weights[a] * weights[b] for a, b in itertools.permutations(range(4), 2)
    }  # fmt: skip
    total = sum(world.values())
    return {x: weight / total for x, weight in world.items()}


def echo(seed: int) -> World:
    """Two tokens that are equal, and two of which each is nearly sure."""
    sure = numbers(2, seed=seed, low=0.95, high=0.99).tolist()
    return {
        (a, b, a, c): 0.25 * (sure[0] if b == 0 else 1 - sure[0]) * (sure[1] if c == 0 else 1 - sure[1])
        for a in range(4) for b in range(2) for c in range(2)
    }  # fmt: skip


def conditionals(world: World, state: State, words: int = 7) -> Tensor:
    """What an ideal model says: for each position the distribution of its word, [pos, vocab]."""
    found = [[0.0] * words for _ in state]
    total = 0.0
    for x, p in world.items():
        if all(seen is None or seen == word for seen, word in zip(state, x, strict=True)):
            total += p
            for position, word in enumerate(x):
                found[position][word] += p
    return torch.tensor(found) / total


def plan_nats(answer: Answer, world: World, passes: int) -> float | str:
    """KL(truth || what is written), in nats; or what was wrong. The choice depends on nothing but what is written."""
    memory: dict[tuple[State, int], tuple[Tensor, Tensor]] = {}
    nats = 0.0
    for x, p in world.items():
        state: State = (None,) * len(x)
        log_written = 0.0
        for left in range(passes, 0, -1):
            if None not in state:
                break
            if (state, left) not in memory:
                hidden = torch.tensor([seen is None for seen in state])
                model = conditionals(world, state)
                memory[state, left] = model, answer(model.clone(), hidden.clone(), left)
            model, now = memory[state, left]
            log_written += sum(math.log(float(model[i, x[i]])) for i in now.nonzero()[:, 0].tolist())
            state = tuple(word if now[i] else state[i] for i, word in enumerate(x))
        if None in state:
            return f"with {passes} passes masks were left"
        nats += p * (math.log(p) - log_written)
    return nats


def random_nats(world: World, passes: int) -> float:
    """The same if each pass writes as many as are due, at random: the average over all choices is what is written."""
    nats = 0.0
    for x, p in world.items():
        after: dict[tuple[frozenset[int], int], float] = {}

        def written(seen: frozenset[int], left: int, x: tuple[int, ...] = x, after: dict = after) -> float:
            hidden = [i for i in range(len(x)) if i not in seen]
            if not hidden:
                return 1.0
            if (seen, left) not in after:
                state = tuple(word if i in seen else None for i, word in enumerate(x))
                model = conditionals(world, state).tolist()
                groups = list(itertools.combinations(hidden, -(-len(hidden) // left)))
                after[seen, left] = sum(
                    math.prod(model[i][x[i]] for i in group) * written(seen | set(group), left - 1) for group in groups
                ) / len(groups)
            return after[seen, left]

        nats += p * (math.log(p) - math.log(written(frozenset(), passes)))
    return nats


def _one_choice(answer: Answer, seed: int) -> str | None:
    probabilities, hidden = _question(seed, 6)
    found = answer(probabilities, hidden, 3)
    if isinstance(found, Tensor) and found.shape == hidden.shape and found.dtype == torch.bool:
        return None
    kind = f" of {found.dtype}" if isinstance(found, Tensor) else ""
    return f"for 6 positions it gave {shape_of(found)}{kind}"


def _question(seed: int, positions: int) -> tuple[Tensor, Tensor]:
    probabilities = (3 * torch.randn(positions, 5, generator=generator(seed))).softmax(dim=-1)
    hidden = torch.rand(positions, generator=generator(seed + 1)) < 0.7
    hidden[seed % positions] = True
    return probabilities, hidden


def _only_masks(answer: Answer, seed: int) -> str | None:
    for number in range(20):
        probabilities, hidden = _question(100 * seed + number, 6)
        found = answer(probabilities, hidden.clone(), 3)
        if (found & ~hidden).any():
            return "it chose a position that is written already"
        if not found.any():
            return f"of {int(hidden.sum())} masks it chose none: a pass without effect"
    return None


def _within_budget(answer: Answer, seed: int) -> str | None:
    for number in range(20):
        for passes in (1, 2, 3, 5):
            probabilities, hidden = _question(100 * seed + number, 8)
            # Unsure everywhere in every other case: a threshold alone then writes too little.
            if number % 2:
                probabilities = torch.full_like(probabilities, 0.2)
            count = int(hidden.sum())
            for left in range(passes, 0, -1):
                if hidden.any():
                    hidden = hidden & ~answer(probabilities.clone(), hidden.clone(), left)
            if hidden.any():
                return f"of {count} masks, {int(hidden.sum())} were left after {passes} passes"
    return None


def _same_again(answer: Answer, seed: int) -> str | None:
    probabilities, hidden = _question(seed, 10)
    choices = {tuple(answer(probabilities.clone(), hidden.clone(), 3).tolist()) for _ in range(20)}
    return None if len(choices) == 1 else f"asked the same 20 times, it chose {len(choices)} different sets of masks"


@cache
def _yardstick(name: str, seed: int, passes: int) -> float:
    return random_nats({"echo": echo, "cities": cities}[name](seed), passes)


def _against_random(answer: Answer, name: str, world: World, seed: int) -> str | None:
    for passes in range(1, len(next(iter(world))) + 1):
        found, yardstick = plan_nats(answer, world, passes), _yardstick(name, seed, passes)
        if isinstance(found, str):
            return f"in the world {name!r} {found}"
        if found > yardstick + 1e-6:
            return (
                f"in the world {name!r} with {passes} passes: {found:.3f} nats from the truth, random {yardstick:.3f}"
            )
    return None


def _cities(answer: Answer, seed: int) -> str | None:
    return _against_random(answer, "cities", cities(seed), seed)


def _echo(answer: Answer, seed: int) -> str | None:
    return _against_random(answer, "echo", echo(seed), seed)


CHOOSE_NOW = Exercise(
    lesson="04",
    task="a sampler of your own: which masks to write now, with so many passes left",
    minutes=20,
    optional=True,
    difficulty=3,
    reference=answers.choose_now,
    properties=(
        Property(
            "it gives True or False for each position", _one_choice,
            "A tensor of booleans like hidden. Indices? torch.zeros_like(hidden), and set those to True.",
        ),
        Property(
            "it chooses masks, at least one", _only_masks,
            "& hidden at the end. And a threshold that nothing reaches chooses nothing: then take the best one.",
        ),
        Property(
            "no mask is left when the budget is spent", _within_budget,
            "At least hidden positions over passes left, rounded UP. With one pass left that is all of them.",
        ),
        Property(
            "the same question gets the same answer", _same_again,
            "There is chance in it. Random choice is the yardstick here: do better with what the probabilities say.",
        ),
        Property(
            "in the world of cities it is never further from the truth than random choice", _cities,
            "Tokens that are written together should not have much to say to each other. Neighbours have, tokens of "
            "high entropy may have, a token that is nearly sure has not. And of the unsure ones write no more at once "
            "than you must.",
        ),
        Property(
            "in the world of echoes it is never further from the truth than random choice", _echo,
            "Of four masks two are nearly sure, and two must agree. If the sure ones use up the first pass, the two "
            "that must agree are left for the same one. Which masks should be spread evenly over the passes?",
        ),
    ),
    hints=(
        "Two tokens share at most as many nats as the smaller of their entropies. So a token of low entropy can be "
        "written together with anything: it costs nothing, and it should not use up the place of another one.",
        "So there are two kinds of masks: the nearly sure ones, of an entropy below 0.25 nats, say, which are written "
        "at once, and the unsure ones, which are spread evenly: -(-unsure // passes_left) in this pass.",
        "entropy = torch.special.entr(probabilities).sum(-1).masked_fill(~hidden, torch.inf); of the unsure ones take "
        "those with the lowest entropy.",
    ),
)  # fmt: skip
