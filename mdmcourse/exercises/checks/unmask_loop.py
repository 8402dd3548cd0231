"""Lesson 04, the loop: what has to be true of a sampler, whatever model it asks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson04 as answers
from mdmcourse.exercises.checks.tools import generator
from mdmcourse.exercises.exercise import Answer, Exercise, Property

MASK = 0


@dataclass
class Model:
    """Something to look with: its answers are random, and it remembers what it was shown and what it said."""

    seed: int
    shown: list[Tensor] = field(default_factory=list)
    said: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if len(self.shown) > 200:
            raise RuntimeError("look was called more than 200 times")
        source = generator(10_000 * self.seed + len(self.shown))
        self.shown.append(tokens.clone())
        chosen = torch.randint(10, 99, tokens.shape, generator=source)
        confidence, score = torch.rand(2, *tokens.shape, generator=source)
        self.said.append((chosen, confidence, score))
        return chosen.clone(), confidence.clone(), score.clone()


START = torch.tensor([1, 2, MASK, MASK, 3, MASK, MASK, MASK, MASK, MASK, MASK, 4])  # eight masks
TO_WRITE = START == MASK


def _run(answer: Answer, seed: int, passes: int, **options: int) -> tuple[Any, Model]:
    model = Model(seed)
    return answer(model, START.clone(), MASK, passes, **options), model


SETTINGS: tuple[tuple[int, dict[str, int]], ...] = ((8, {}), (3, {}), (1, {}), (20, {}), (8, {"block_length": 4}))


def _said(passes: int, options: dict[str, int]) -> str:
    return ", ".join([f"8 masks, passes={passes}", *(f"{name}={value}" for name, value in options.items())])


def _gives_states(answer: Answer, seed: int) -> str | None:
    states, model = _run(answer, seed, 4)
    if not isinstance(states, list) or not all(
        isinstance(each, Tensor) and each.shape == START.shape for each in states
    ):
        return f"it gave a {type(states).__name__}, expected was a list of tensors [12]"
    if len(states) != len(model.shown) + 1 or not torch.equal(states[0], START):
        return f"after {len(model.shown)} passes it gave {len(states)} states, the first {states[0].tolist()}"
    for number, seen in enumerate(model.shown):
        if not torch.equal(seen, states[number]):
            return f"pass {number + 1} was shown {seen.tolist()}, but state {number} is {states[number].tolist()}"
    return None


def _leaves_tokens(answer: Answer, seed: int) -> str | None:
    given = START.clone()
    answer(Model(seed), given, MASK, 4)
    return None if torch.equal(given, START) else "tokens were others afterwards"


def _only_masks(answer: Answer, seed: int) -> str | None:
    for passes, options in SETTINGS:
        states, _ = _run(answer, seed, passes, **options)
        for number, (before, after) in enumerate(itertools.pairwise(states), start=1):
            changed = ((before != MASK) & (after != before)).nonzero()[:, 0].tolist()
            if changed:
                return f"{_said(passes, options)}: pass {number} changed position {changed[0]}, which was no mask"
    return None


def _budget(answer: Answer, seed: int) -> str | None:
    for passes, options in SETTINGS:
        states, model = _run(answer, seed, passes, **options)
        if len(model.shown) > passes:
            return f"{_said(passes, options)}: it looked {len(model.shown)} times"
        if left := int((states[-1] == MASK).sum()):
            return f"{_said(passes, options)}: at the end {left} masks were left"
    return None


def _prompt(answer: Answer, seed: int) -> str | None:
    for passes, options in SETTINGS:
        for state in _run(answer, seed, passes, **options)[0]:
            if (state != START)[~TO_WRITE].any():
                return f"{_said(passes, options)}: the prompt became {state.tolist()}"
    return None


def _counts(answer: Answer, seed: int) -> str | None:
    for passes, expected in ((8, [1] * 8), (3, [3, 3, 2]), (5, [2, 2, 2, 1, 1]), (1, [8]), (20, [1] * 8)):
        states, _ = _run(answer, seed, passes)
        found = [int(((a == MASK) & (b != MASK)).sum()) for a, b in itertools.pairwise(states)]
        if found != expected:
            return f"{_said(passes, {})}: it wrote {found} tokens in its passes, expected {expected}"
    return None


def _best_first(answer: Answer, seed: int) -> str | None:
    states, model = _run(answer, seed, 3)
    for number, (chosen, _, score) in enumerate(model.said):
        hidden = states[number] == MASK
        written = hidden & (states[number + 1] != MASK)
        if score[written].min() < (score[hidden & ~written].max() if (hidden & ~written).any() else -1):
            return f"pass {number + 1} left a mask that had a higher score than one that it wrote"
        if not torch.equal(states[number + 1][written], chosen[written]):
            return (
                f"pass {number + 1} wrote {states[number + 1][written].tolist()}, chosen was {chosen[written].tolist()}"
            )
    return None


def _blocks(answer: Answer, seed: int) -> str | None:
    positions = TO_WRITE.nonzero()[:, 0]
    cases = ((8, 4, [4, 4]), (6, 3, [2, 2, 2]), (7, 3, [3, 2, 2]), (3, 3, [1, 1, 1]), (8, 1, [1] * 8))
    for passes, length, budgets in cases:
        states, model = _run(answer, seed, passes, block_length=length)
        if len(model.shown) != sum(budgets):
            return f"{_said(passes, {'block_length': length})}: it looked {len(model.shown)} times"
        number = 0
        for block, budget in zip(positions.split(length), budgets, strict=True):
            for left in range(budget, 0, -1):
                before, after = states[number], states[number + 1]
                wrote = ((before == MASK) & (after != MASK)).nonzero()[:, 0].tolist()
                due = -(-int((before[block] == MASK).sum()) // left)
                number += 1
                if not set(wrote) <= set(block.tolist()):
                    return f"{_said(passes, {'block_length': length})}: pass {number} wrote the positions {wrote}"
                if len(wrote) != due:
                    return (
                        f"{_said(passes, {'block_length': length})}: pass {number} wrote {len(wrote)}, due were {due}"
                    )
    return None


def _hides(answer: Answer, seed: int) -> str | None:
    positions = TO_WRITE.nonzero()[:, 0]
    return _hides_with(answer, seed, 12, {"remask": 2}, [positions]) or _hides_with(
        answer, seed, 12, {"remask": 1, "block_length": 4}, positions.split(4)
    )


def _hides_with(
    answer: Answer, seed: int, passes: int, options: dict[str, int], blocks: Sequence[Tensor]
) -> str | None:
    states, model = _run(answer, seed, passes, **options)
    last_confidence = torch.full(START.shape, torch.nan)
    share, said = passes // len(blocks), _said(passes, options)
    for number, (_, confidence, _) in enumerate(model.said):
        before, after = states[number], states[number + 1]
        inside = torch.zeros_like(TO_WRITE)
        inside[blocks[min(number // share, len(blocks) - 1)]] = True
        older = inside & (before != MASK)
        strange = (~inside & (before != MASK) & (after == MASK)).nonzero()[:, 0].tolist()
        if strange:
            where = "a block that is finished" if TO_WRITE[strange[0]] else "the prompt"
            return f"{said}: pass {number + 1} hid position {strange[0]}, which belongs to {where}"
        again = older & (after == MASK)
        last = (number + 1) % share == 0
        expected = 0 if last else min(options["remask"], int(older.sum()))
        if int(again.sum()) != expected:
            which = f"{number + 1}, the last of {'its block' if len(blocks) > 1 else 'all'}," if last else number + 1
            return f"{said}: pass {which} hid {int(again.sum())} again, expected {expected}"
        kept = older & ~again
        if again.any() and kept.any() and last_confidence[again].max() > last_confidence[kept].min():
            return f"pass {number + 1} hid a token again that was surer when it was written than one that stayed"
        wrote = (before == MASK) & (after != MASK)
        last_confidence[wrote] = confidence[wrote]
    return None


def _spread(answer: Answer, seed: int) -> str | None:
    for passes, remask in ((12, 1), (20, 2), (5, 1)):
        states, _ = _run(answer, seed, passes, remask=remask)
        expected, hidden = [], 8
        for left in range(passes, 0, -1):
            first, last = left == passes, left == 1
            to_come = remask * max(0, left - 2 if first else left - 1)
            write = min(hidden, -(-(hidden + to_come) // left))
            expected.append(write)
            hidden += (0 if last else min(remask, 8 - hidden)) - write
        # What is written in a pass was hidden before it.
        found = [int(((a == MASK) & (b != MASK)).sum()) for a, b in itertools.pairwise(states)]
        if found != expected:
            return f"{_said(passes, {'remask': remask})}: it wrote {found} tokens in its passes, expected {expected}"
    return None


UNMASK = Exercise(
    lesson="04",
    task="the loop of a sampler, with blocks and remasking",
    minutes=18,
    difficulty=3,
    reference=answers.unmask,
    properties=(
        Property(
            "it gives the states, and each pass looks at the last one", _gives_states,
            "A list: the tokens at the start, then one tensor a pass. Append a new tensor each time, now = "
            "states[-1].clone(): one that is changed later changes everywhere.",
        ),
        Property("the caller's tokens are not changed", _leaves_tokens, "Begin with tokens.clone()."),
        Property(
            "the prompt stays as it is", _prompt,
            "Only positions that were masked at the start are written: choose among `hidden`.",
        ),
        Property(
            "without remasking a pass changes nothing but masks", _only_masks,
            "Choose among `hidden`, not among all positions of the block (`inside`): what is written stays.",
        ),
        Property(
            "the budget is kept, and no mask is left", _budget,
            "Round up: hidden positions over passes left. Rounded down, something is left at the end.",
        ),
        Property(
            "each pass writes as many as are due", _counts,
            "Masks over passes LEFT, rounded up: what is left changes from pass to pass, and so does the quotient.",
        ),
        Property(
            "the highest scores are written, with the chosen tokens", _best_first,
            "Choose by score, the third thing that look gives, and write what was chosen. Confidence is for remasking.",
        ),
        Property(
            "blocks are filled from left to right, each with its share of the passes", _blocks,
            "Only masks of the block count for what is due, and `left` is what is left of the block's own budget.",
        ),
        Property(
            "remasking hides the least sure of the tokens written before this pass", _hides,
            "Only `older`: not those written in this very pass, not the prompt, not earlier blocks. Nothing after the "
            "block's last pass (if left > 1), or it stays hidden. And the confidence is that "
            "of the pass which wrote the token: keep it in `sure` for those only that are written.",
        ),
        Property(
            "with remasking, the work is spread evenly over the passes", _spread,
            "What will be hidden again has to be written again: it belongs to what is due. After the first pass and "
            "after the last one nothing is hidden.",
        ),
    ),
    hints=(
        "Gap 1: the masks of the block and `to_come`, together, over `left`, rounded up: -(-a // b) rounds up.",
        "Gap 2: keep = pick(score, hidden, due); then now[keep] = chosen[keep] and sure[keep] = confidence[keep].",
        "Gap 3: if left > 1: now[pick(-sure, older, again)] = mask_id. `older` is from before this pass.",
    ),
)  # fmt: skip
