"""From ARM to MDM: what has to be true of an answer."""

from __future__ import annotations

import torch
from torch import Tensor

from mdmcourse.exercises.answers import lesson05 as answers
from mdmcourse.exercises.checks.given import gives_a_tensor
from mdmcourse.exercises.checks.rival_runs import (
    each_is_possible,
    each_rival_has_a_run,
    enough_steps,
    one_explanation_each,
    right_number_of_steps,
    same_seed,
    shows_x_if_the_rival_is_right,
    silent_if_only_post_training_does_it,
)
from mdmcourse.exercises.checks.step_costs import STEP_COST
from mdmcourse.exercises.checks.tools import differs, numbers, shape_of
from mdmcourse.exercises.exercise import Answer, Exercise, Property

# --- aligned_logits


def _one_row_a_token(answer: Answer, seed: int) -> str | None:
    raw = numbers(2, 5, 3, seed=seed)
    for shifted in (True, False):
        found = answer(raw.clone(), shifted)
        if not isinstance(found, Tensor) or found.shape != raw.shape:
            return f"for logits of shape (2, 5, 3) and shifted={shifted} it gave {shape_of(found)}"
    return None


def _as_they_are(answer: Answer, seed: int) -> str | None:
    raw = numbers(2, 5, 3, seed=seed)
    return differs(answer(raw.clone(), False), raw, "with shifted=False")


def _from_the_row_before(answer: Answer, seed: int) -> str | None:
    raw = torch.arange(5.0)[None, :, None].expand(2, 5, 3).clone()  # every number says which row it is from
    raw[1] += 10
    found = answer(raw.clone(), True)[:, 1:]
    if torch.equal(found.double(), raw[:, :-1].double()):
        return None
    rows = found[0, :, 0].tolist()
    return (
        f"with shifted=True the scores of the tokens 1 to 4 came from the rows {', '.join(f'{row:g}' for row in rows)}"
    )


def _nothing_for_the_first(answer: Answer, seed: int) -> str | None:
    found = answer(numbers(2, 5, 3, seed=seed), True)[:, 0]
    return None if found.isnan().all() else f"with shifted=True the scores of token 0 were {found[0].tolist()}"


def _raw_unchanged(answer: Answer, seed: int) -> str | None:
    raw = numbers(2, 5, 3, seed=seed)
    for shifted in (True, False):
        given = raw.clone()
        found = answer(given, shifted)
        if not torch.equal(given, raw):
            return f"with shifted={shifted} the tensor `raw` was changed"
        found[:, 1:] = -1
        if not torch.equal(given, raw):
            return f"with shifted={shifted} what was returned shares its memory with `raw`: change one, and both change"
    return None


ALIGNED_LOGITS = Exercise(
    lesson="05",
    task="line up a decoder's rows with the tokens that they score, with and without the shift",
    minutes=8,
    difficulty=1,
    reference=answers.aligned_logits,
    properties=(
        gives_a_tensor(lambda seed: (numbers(2, 5, 3, seed=seed), True)),
        Property(
            "it gives one row for each token", _one_row_a_token,
            "A row cut off moves the others, but then the table is one row short. Fill a new one of the same shape.",
        ),
        Property(
            "without the shift row i stays row i", _as_they_are,
            "Look at `shifted` first: if it is False there is nothing to move.",
        ),
        Property(
            "with the shift token i is scored by row i - 1", _from_the_row_before,
            "Row i of the decoder scores the token after it: its scores belong one place further down, along axis 1.",
        ),
        Property(
            "with the shift nothing scores token 0: NaN", _nothing_for_the_first,
            "torch.roll brings the last row to the front, and zeros look like scores. NaN says that there are none.",
        ),
        Property(
            "raw is left as it was", _raw_unchanged,
            "raw itself, and slices of it, share its memory: writing into them writes into raw. Begin with raw.clone() "
            "or torch.full_like.",
        ),
    ),
    hints=(
        "With the shift, row 0 scores token 1, row 1 token 2, and so on. Which rows of the result can you fill?",
        "Make a new table, torch.full_like(raw, torch.nan). Its rows 1, 2, ... come from the rows 0, 1, ... of raw.",
        "aligned[:, 1:] = raw[:, :-1]. Without the shift: raw.clone().",
    ),
)  # fmt: skip


# --- annealed_mask


def _booleans(answer: Answer, seed: int) -> str | None:
    for length, s in ((1, 0.5), (6, 0.3)):
        found = answer(length, s)
        if not isinstance(found, Tensor) or found.shape != (length, length):
            return f"for length={length} it gave {shape_of(found)}"
        if found.dtype != torch.bool:
            return f"it gave numbers of type {found.dtype}"
    return None


def _ends(answer: Answer, seed: int) -> str | None:
    causal, found = torch.ones(7, 7, dtype=torch.bool).tril(), answer(7, 0.0)
    if torch.equal(found, causal.T):
        return "with s = 0 and 7 positions the upper 28 entries were True, in causal attention the lower 28 are"
    if not torch.equal(found, causal):
        return f"with s = 0 and 7 positions {int(found.sum())} entries were True, in causal attention the lower 28 are"
    seen = int(answer(7, 1.0).sum())
    return None if seen == 49 else f"with s = 1 and 7 positions {seen} of 49 entries were True"


def _past_stays(answer: Answer, seed: int) -> str | None:
    torch.manual_seed(seed)
    for s in (0.1, 0.5, 0.9):
        hidden = ~answer(30, s) & torch.ones(30, 30, dtype=torch.bool).tril()
        if hidden.any():
            i, j = hidden.nonzero()[0].tolist()
            return (
                f"with s = {s} position {i} could not see position {j}, and in {int(hidden.sum())} cases more or less"
            )
    return None


def _fresh(answer: Answer, seed: int) -> str | None:
    torch.manual_seed(seed)
    first = answer(30, 0.5)
    return "20 masks were all the same" if all(torch.equal(first, answer(30, 0.5)) for _ in range(20)) else None


def _own_coins(answer: Answer, seed: int) -> str | None:
    torch.manual_seed(seed)
    ahead = torch.ones(5, 5, dtype=torch.bool).triu(1)
    drawn = torch.stack([answer(5, 0.5)[ahead] for _ in range(600)]).double()  # ten entries
    if (drawn.std(dim=0) == 0).any():
        return "with s = 0.5 some entries came out the same in 600 masks"
    off = torch.corrcoef(drawn.T) - torch.eye(10, dtype=torch.float64)
    pair = off.abs().amax().item()
    return f"two entries agreed or disagreed far too often (correlation {pair:.2f})" if pair > 0.25 else None


def _count_varies(answer: Answer, seed: int) -> str | None:
    """Of 28 independent fair coins the number of heads has a standard deviation of 2.6."""
    torch.manual_seed(seed)
    ahead = torch.ones(8, 8, dtype=torch.bool).triu(1)
    counts = torch.stack([answer(8, 0.5)[ahead].sum() for _ in range(200)])
    if counts.double().std() < 1.5:
        low, high = int(counts.min()), int(counts.max())
        how_many = f"always {low}" if low == high else f"never fewer than {low} or more than {high}"
        return f"with s = 0.5 of 28 looks ahead {how_many} were open, in 200 masks"
    return None


def _share(answer: Answer, seed: int) -> str | None:
    torch.manual_seed(seed)
    ahead = torch.ones(30, 30, dtype=torch.bool).triu(1)
    for s in (0.2, 0.5, 0.7):
        found = torch.stack([answer(30, s)[ahead] for _ in range(60)]).double().mean().item()
        if abs(found - s) > 0.03:
            return f"with s = {s} the share of looks ahead that are open was {found:.2f}, over 60 masks"
    return None


ANNEALED_MASK = Exercise(
    lesson="05",
    task="attention on its way from causal to full",
    minutes=10,
    difficulty=2,
    reference=answers.annealed_mask,
    properties=(
        gives_a_tensor(lambda seed: (6, 0.3)),
        Property(
            "it gives booleans, [length, length]", _booleans,
            "Say who may see whom: True and False. To turn that into numbers for the scores is the package's work.",
        ),
        Property(
            "s = 0 is causal and s = 1 is full", _ends,
            "At s = 0 the lower triangle with its diagonal is True and nothing else; at s = 1 everything is. "
            "torch.rand gives numbers from 0 up to, but without, 1: compare with <.",
        ),
        Property(
            "the past stays visible", _past_stays,
            "Only looks ahead are drawn. What causal attention allows is allowed at every s: combine the two with |. "
            "Row i is the position that looks, column j what it looks at.",
        ),
        Property(
            "the mask is drawn anew", _fresh,
            "At s = 0.5 two calls give two masks: no seed inside, and no band that widens with s.",
        ),
        Property(
            "each look ahead has a coin of its own", _own_coins,
            "One coin for the whole mask, a row or a column opens many entries at once: torch.rand(length, length).",
        ),
        Property(
            "how many looks ahead are open is left to chance", _count_varies,
            "Opening just a share s of them ties the coins together: where one opens, another must not. Each entry has "
            "a coin of its own, and their number varies from mask to mask.",
        ),
        Property(
            "above the diagonal a share s is open", _share,
            "Each entry above the diagonal is True with probability s, not 1 - s and not s of the whole square.",
        ),
    ),
    hints=(
        "There are two tables: the causal one, and one of random coins. An entry is open if either says so.",
        "Causal attention: torch.ones(length, length, dtype=torch.bool).tril(). Coins: torch.rand(length, length) < s.",
        "Return causal | coins.",
    ),
)  # fmt: skip


# --- controls_for

CONTROLS_FOR = Exercise(
    lesson="05",
    task="design: for each rival explanation, the run that tests it",
    minutes=20,
    difficulty=3,
    reference=answers.controls_for,
    properties=(
        Property(
            "there is a run for each of the six rivals", each_rival_has_a_run,
            'Return a dictionary with the keys "already", "attention", "training", "masks", "compute" and "luck".',
        ),
        Property(
            "every run can be performed", each_is_possible,
            'start is "ARM" or "random"; attention "causal" or "full"; objective "next token", "masked" or None, which '
            'goes with 0 steps. "next token" needs causal attention: with full attention the answer is in view.',
        ),
        Property(
            "a run has enough steps for its rival", enough_steps,
            'Fewer steps make a control that fails too easily. "compute" gets the steps of the ARM\'s training and '
            "those of the post-training together, all others that are trained as many as the treatment.",
        ),
        Property(
            "a run shows X if its rival is right", shows_x_if_the_rival_is_right,
            "Think of a world in which this explanation is the whole truth. The control has to have what it names. "
            'Only for "luck" it is the other way round: the run must not have the lucky seed.',
        ),
        Property(
            "a run does not show X if only post-training gives it", silent_if_only_post_training_does_it,
            "A control that has all that the treatment has is the treatment once more. Leave out what the rival does "
            'not need. Only "luck" is the treatment again, with another seed.',
        ),
        Property(
            "a run has nothing that its rival does not need", one_explanation_each,
            "If this run shows X, you cannot tell which of two things did it. Change what the rival does without.",
        ),
        Property(
            'only "luck" has another seed', same_seed,
            "With another seed two things are changed at once, and nobody can say which of them made the difference.",
        ),
        Property(
            "a run has as many steps as its rival speaks of", right_number_of_steps,
            "More steps make a control that wins too easily. The check calls your function with treatments of its own: "
            "a number that is written out is right for one of them at most. Use treatment.steps and arm_steps.",
        ),
    ),
    hints=(
        "Take the treatment and go through its fields: start, attention, objective, steps, seed. Which of them does "
        "each explanation need? All others go back to what they were before post-training.",
        '"already" and "attention" are not trained: objective=None, steps=0. "training" keeps the ARM\'s own attention '
        'and objective. "masks" and "compute" start from random weights and are trained like the treatment.',
        'treatment._replace(attention="causal", objective="next token") is "training"; '
        'treatment._replace(start="random", steps=arm_steps + treatment.steps) is "compute"; '
        '"luck" is treatment._replace(seed=treatment.seed + 1).',
    ),
)  # fmt: skip

EXERCISES = (ALIGNED_LOGITS, ANNEALED_MASK, STEP_COST, CONTROLS_FOR)
