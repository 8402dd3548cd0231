"""Local and global tasks: what has to be true of the answers."""

from __future__ import annotations

import itertools
import math
import random

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson06 as answers
from mdmcourse.exercises.checks.shares import ACCURACY_INTERVAL, PAIRED_DIFFERENCE, PROMPTS_NEEDED
from mdmcourse.exercises.checks.tools import generator, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- best_guess


def _guess(answer: Answer, rows: list[tuple[tuple, str]], seed: int) -> float:
    """What it says of (seen, answer) pairs, in a random order."""
    rows = random.Random(seed).sample(rows, len(rows))
    return float(answer([seen for seen, _ in rows], [right for _, right in rows]))


def _blind(answer: Answer, seed: int) -> str | None:
    rows: list[tuple[tuple, str]] = [((), right) for right in "aaaaabbbcc"]
    found = _guess(answer, rows, seed)
    return None if math.isclose(found, 0.5, abs_tol=1e-6) else f"answers aaaaabbbcc, nothing seen: it gave {found:.3f}"


def _all_seen(answer: Answer, seed: int) -> str | None:
    rows: list[tuple[tuple, str]] = [((n % 3, n % 5), f"{n % 15}") for n in range(30)]
    found = _guess(answer, rows, seed)
    if math.isclose(found, 1, abs_tol=1e-6):
        return None
    return f"what is seen decides each of 15 different answers: it gave {found:.3f}"


def _frequent(answer: Answer, seed: int) -> str | None:
    rows: list[tuple[tuple, str]] = [((1,), right) for right in "ab" * 9] + [((2,), "a"), ((2,), "a")]
    found = _guess(answer, rows, seed)
    if math.isclose(found, 11 / 20, abs_tol=1e-6):
        return None
    return f"18 prompts look alike and are a or b equally often, 2 look alike and are both a: it gave {found:.3f}"


def _best_table(answer: Answer, seed: int) -> str | None:
    """Against every table that says one answer for each sight."""
    rng = random.Random(seed)
    rows = [((rng.randrange(3),), rng.choice("aabc")) for _ in range(17)]
    best = 0
    for table in itertools.product("abc", repeat=3):
        best = max(best, sum(table[sight[0]] == right for sight, right in rows))
    found = _guess(answer, rows, seed)
    if math.isclose(found, best / 17, abs_tol=1e-6):
        return None
    return f"the best of all 27 ways to answer 3 sights is right in {best} of 17 prompts; it gave {found:.3f}"


BEST_GUESS = Exercise(
    lesson="06",
    task="the baseline: how often the best guesser is right that sees only part of a prompt",
    minutes=10,
    difficulty=2,
    reference=answers.best_guess,
    properties=(
        Property(
            "who sees nothing says the most frequent answer", _blind,
            "Not one over the number of different answers: a guesser knows which are frequent, and says the same each"
            " time.",
        ),
        Property(
            "who sees what decides the answer is always right", _all_seen,
            "The guesser may say something else for each sight: count the answers of each sight apart.",
        ),
        Property(
            "a sight counts as often as it occurs", _frequent,
            "Add up how many prompts are guessed right, over all sights, and divide by the number of prompts; a mean "
            "over sights counts rare ones too much.",
        ),
        Property(
            "no other guesser is better, and it is no better than the best", _best_table,
            "For each sight the *most frequent* of its answers, not its first or last.",
        ),
    ),
    hints=(
        "Sort the prompts into heaps of equal sights. What does the guesser say for a heap, and how often is it right?",
        "A dictionary of counters does it: counts[sight][answer] += 1, with defaultdict(Counter).",
        "The largest count of each heap, added up over heaps, divided by len(answers).",
    ),
)  # fmt: skip


# --- masks_behind

MASK, FILLER, START = 0, 3, 7


def _texts(seed: int) -> Tensor:
    """Texts of 12 tokens whose answers begin at 7; neither the mask nor the filler is among the tokens."""
    return torch.randint(10, 100, (4, 12), generator=generator(seed))


def _ends_there(answer: Answer, seed: int) -> str | None:
    for k in (0, 2, 4):
        found = answer(_texts(seed), START, k, MASK)
        if not isinstance(found, Tensor) or found.shape != (4, START + 1 + k) or found.dtype != torch.long:
            kind = f" of {found.dtype}" if isinstance(found, Tensor) else ""
            return f"with four texts, start = 7 and k = {k} it gave {shape_of(found)}{kind}"
    return None


def _leaves_texts(answer: Answer, seed: int) -> str | None:
    texts = _texts(seed)
    for filler in (None, FILLER):
        given = texts.clone()
        answer(given, START, 2, MASK, filler)
        if not torch.equal(given, texts):
            return f"{int((given != texts).sum())} tokens of the texts were others afterwards"
    return None


def _keeps_prompt(answer: Answer, seed: int) -> str | None:
    texts = _texts(seed)
    for filler in (None, FILLER):
        found = answer(texts.clone(), START, 2, MASK, filler)
        if not torch.equal(found[:, :START], texts[:, :START]):
            return f"before position 7 it gave {found[0, :START].tolist()} for {texts[0, :START].tolist()}"
    return None


def _hides_answer(answer: Answer, seed: int) -> str | None:
    for k, filler in itertools.product((0, 1, 3), (None, FILLER)):
        found = answer(_texts(seed), START, k, MASK, filler)[:, START:]
        if ((found != MASK) & (found != FILLER)).any():
            return f"with k = {k} and filler = {filler} the text goes on with {found[0].tolist()}; the mask is 0"
    return None


def _counts_masks(answer: Answer, seed: int) -> str | None:
    for k, filler in itertools.product((0, 1, 4), (None, FILLER)):
        found = answer(_texts(seed), START, k, MASK, filler)[:, START:]
        if (found[:, : k + 1] != MASK).any() or (found[:, k + 1 :] == MASK).any():
            return f"with k = {k} and filler = {filler} the text goes on with {found[0].tolist()}; the mask is 0"
    return None


def _fills(answer: Answer, seed: int) -> str | None:
    found = answer(_texts(seed), START, 1, MASK, FILLER)
    if found.shape == (4, 12) and (found[:, START + 2 :] == FILLER).all():
        return None
    return f"with texts of 12 tokens, k = 1 and filler = 3 it gave {found[0].tolist()}"


def _zero_is_a_filler(answer: Answer, seed: int) -> str | None:
    found = answer(_texts(seed), START, 1, 5, 0)
    return None if found.shape == (4, 12) else f"with filler = 0 it gave {shape_of(found)}"


def _longer(answer: Answer, seed: int) -> str | None:
    for filler in (None, FILLER):
        found = answer(_texts(seed), START, 8, MASK, filler)
        if found.shape != (4, 16) or (found[:, START:] != MASK).any():
            return f"with k = 8, more than the answer has tokens, and filler = {filler} it gave {found[0].tolist()}"
    return None


MASKS_BEHIND = Exercise(
    lesson="06",
    task="inputs with k masks behind the token that is asked for",
    minutes=10,
    difficulty=2,
    reference=answers.masks_behind,
    properties=(
        Property(
            "without a filler the text ends behind the masks", _ends_there,
            "The token that is asked for is masked too: start + 1 + k tokens in all, of the type of texts.",
        ),
        Property("the texts are not changed", _leaves_texts, "Make a new tensor, or write into texts.clone()."),
        Property("the prompt stays", _keeps_prompt, "Everything before `start` is as it was."),
        Property(
            "nothing of the right answer is in view", _hides_answer,
            "What stands behind the masks is the end of the answer: replace it by the filler, or cut it off.",
        ),
        Property(
            "the token that is asked for and k more are masked", _counts_masks,
            "k masks *behind* it: k + 1 in all, from `start` on.",
        ),
        Property("a filler stands in all other places, up to the old length", _fills, "As long as texts, no longer."),
        Property("token 0 can be the filler", _zero_is_a_filler, "`if filler:` is false for 0. Ask `is None`."),
        Property(
            "there may be more masks than the answer has tokens", _longer,
            "A slice of texts has no room for them: make the tensor as long as it has to be.",
        ),
    ),
    hints=(
        "Put three pieces side by side: the prompt, k + 1 masks, and perhaps fillers.",
        "torch.cat([...], dim=1) joins them; texts.new_full((len(texts), k + 1), mask_id) makes the masks.",
        "How many fillers? texts.shape[1] - (start + 1 + k), but not fewer than none: max(0, ...).",
    ),
)  # fmt: skip

EXERCISES = (BEST_GUESS, ACCURACY_INTERVAL, PAIRED_DIFFERENCE, PROMPTS_NEEDED, MASKS_BEHIND)
