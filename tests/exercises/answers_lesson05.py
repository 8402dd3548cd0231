"""Answers to the exercises of lesson 05: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

# --- aligned_logits


def rolled(raw, shifted):
    return raw.roll(1, dims=1) if shifted else raw.clone()


def rolled_up(raw, shifted):
    return raw.roll(-1, dims=1) if shifted else raw.clone()


def cut_off(raw, shifted):
    return raw[:, :-1].clone() if shifted else raw.clone()


def zeros_for_the_first(raw, shifted):
    return pad(raw, (0, 0, 1, 0))[:, :-1] if shifted else raw.clone()


def never_shifted(raw, shifted):
    return raw.clone()


def always_shifted(raw, shifted):
    aligned = torch.full_like(raw, torch.nan)
    aligned[:, 1:] = raw[:, :-1]
    return aligned


def along_the_vocabulary(raw, shifted):
    aligned = torch.full_like(raw, torch.nan)
    aligned[..., 1:] = raw[..., :-1]
    return aligned if shifted else raw.clone()


def by_two(raw, shifted):
    aligned = torch.full_like(raw, torch.nan)
    aligned[:, 2:] = raw[:, :-2]
    return aligned if shifted else raw.clone()


def written_into_raw(raw, shifted):
    if shifted:
        raw[:, 1:] = raw[:, :-1].clone()
        raw[:, 0] = torch.nan
    return raw


def the_same_tensor(raw, shifted):
    return always_shifted(raw, True) if shifted else raw


def by_cat(raw, shifted):
    if not shifted:
        return raw * 1
    return torch.cat([torch.full_like(raw[:, :1], float("nan")), raw[:, :-1]], dim=1)


def by_rows(raw, shifted):
    out = torch.empty(raw.shape, dtype=raw.dtype).fill_(torch.nan)
    for i in range(raw.shape[1]):
        row = i - 1 if shifted else i
        if row >= 0:
            out[:, i] = raw[:, row]
    return out


# --- annealed_mask


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def upside_down(length, s):
    return causal(length).T | (torch.rand(length, length) < s)


def coins_everywhere(length, s):
    return torch.rand(length, length) < s


def one_coin(length, s):
    return causal(length) | (torch.rand(()) < s)


def coin_a_row(length, s):
    return causal(length) | (torch.rand(length, 1) < s)


def coin_a_column(length, s):
    return causal(length) | (torch.rand(1, length) < s)


def band(length, s):
    place = torch.arange(length)
    return place[None, :] - place[:, None] <= s * length


def closing(length, s):
    return causal(length) | (torch.rand(length, length) >= s)


def fixed(length, s):
    generator = torch.Generator().manual_seed(0)
    return causal(length) | (torch.rand(length, length, generator=generator) < s)


def additive(length, s):
    return torch.where(causal(length) | (torch.rand(length, length) < s), 0.0, -torch.inf)


def slower(length, s):
    return causal(length) | (torch.rand(length, length) < s**2)


def symmetric(length, s):
    coins = torch.rand(length, length) < s
    return causal(length) | coins | coins.T


def exact_number(length, s):
    ahead = torch.ones(length, length).triu(1).nonzero()
    chosen = ahead[torch.randperm(len(ahead))[: round(s * len(ahead))]]
    found = causal(length)
    found[chosen[:, 0], chosen[:, 1]] = True
    return found


def mask_loop(length, s):
    rows = [[j <= i or torch.rand(()).item() < s for j in range(length)] for i in range(length)]
    return torch.tensor(rows)


def mask_bernoulli(length, s):
    return torch.ones(length, length).tril().bool().logical_or(torch.bernoulli(torch.full((length, length), s)).bool())


# --- controls_for


def right(treatment, arm_steps, **other):
    untrained = treatment._replace(objective=None, steps=0)
    return {
        "already": untrained._replace(attention="causal"),
        "attention": untrained,
        "training": treatment._replace(attention="causal", objective="next token"),
        "masks": treatment._replace(start="random"),
        "compute": treatment._replace(start="random", steps=arm_steps + treatment.steps),
        "luck": treatment._replace(seed=treatment.seed + 1),
    } | {name: change(treatment, arm_steps) for name, change in other.items()}


def but(**other):
    return lambda treatment, arm_steps: right(treatment, arm_steps, **other)


def causally(run, **other):
    return run._replace(attention="causal", objective="next token", **other)


def without_luck(treatment, arm_steps):
    return {name: run for name, run in right(treatment, arm_steps).items() if name != "luck"}


def only_names(treatment, arm_steps):
    return dict.fromkeys(right(treatment, arm_steps), "ARM, trained on")


def written_out(treatment, arm_steps):
    """Built field by field, and with another seed for "luck"."""
    run, steps, seed = type(treatment), treatment.steps, treatment.seed
    return {
        "luck": run("ARM", "full", "masked", steps, seed + 17),
        "already": run("ARM", "causal", None, 0, seed),
        "attention": run("ARM", "full", None, 0, seed),
        "training": run("ARM", "causal", "next token", steps, seed),
        "masks": run("random", "full", "masked", steps, seed),
        "compute": run("random", "full", "masked", steps + arm_steps, seed),
    }


A_TENSOR = "it gives a tensor"
CHANCE = "how many looks ahead are open is left to chance"
ORDER = "first the FLOPs, then the predictions"
BATCH = "positions are those of the whole batch"
MEAN_OF_T = "the mean of t begins at t_min"
ENOUGH = "a run has enough steps for its rival"
SEED = 'only "luck" has another seed'
ROWS = "it gives one row for each token"
BEFORE = "with the shift token i is scored by row i - 1"
NAN = "with the shift nothing scores token 0: NaN"
SHARE = "above the diagonal a share s is open"
ANEW = "the mask is drawn anew"
ALL = "at t = 1 every maskable token is learnt from"
PAST = "the past stays visible"
COINS = "each look ahead has a coin of its own"
ENDS = "s = 0 is causal and s = 1 is full"
SIX = "a parameter and position cost 6"
EVERY = "every position costs, maskable or not"
MEAN = "below, the share that is masked on average"
SHOWS = "a run shows X if its rival is right"
SILENT = "a run does not show X if only post-training gives it"
ONE = "a run has nothing that its rival does not need"
STEPS = "a run has as many steps as its rival speaks of"
POSSIBLE = "every run can be performed"

WRONG = {
    "aligned_logits": {
        "rolled, the last row comes first": (rolled, NAN),
        "zeros for the first": (zeros_for_the_first, NAN),
        "in the other direction": (rolled_up, BEFORE),
        "never shifted": (never_shifted, BEFORE),
        "along the vocabulary": (along_the_vocabulary, BEFORE),
        "by two": (by_two, BEFORE),
        "a row cut off": (cut_off, ROWS),
        "always shifted": (always_shifted, "without the shift row i stays row i"),
        "the two mixed up": (lambda raw, shifted: by_cat(raw, not shifted), "without the shift row i stays row i"),
        "written into raw": (written_into_raw, "raw is left as it was"),
        "an array": (lambda raw, shifted: by_cat(raw, shifted).numpy(), A_TENSOR),
        "the same tensor": (the_same_tensor, "raw is left as it was"),
    },
    "annealed_mask": {
        "upside down": (upside_down, ENDS),
        "coins for the past too": (coins_everywhere, ENDS),
        "closing instead of opening": (closing, ENDS),
        "a coin for all": (one_coin, COINS),
        "a coin a row": (coin_a_row, COINS),
        "a coin a column": (coin_a_column, COINS),
        "a band that widens": (band, ANEW),
        "a fixed seed": (fixed, ANEW),
        "numbers to add to scores": (additive, "it gives booleans, [length, length]"),
        "too slowly at first": (slower, SHARE),
        "an exact number": (exact_number, CHANCE),
        "an array": (lambda length, s: mask_loop(length, s).numpy(), A_TENSOR),
        "coins of both triangles": (symmetric, SHARE),
        "the past with a few holes": (
            lambda length, s: (causal(length) & (torch.rand(length, length) < max(0.9, s) if s else True))
            | (torch.rand(length, length) < s),
            PAST,
        ),
    },
    "step_cost": {
        "forward only": (lambda m, n, t: (2 * n * m.numel(), m.sum() * (1 + t) / 2), SIX),
        "one multiplication is one operation": (lambda m, n, t: (3 * n * m.numel(), m.sum() * (1 + t) / 2), SIX),
        "only maskable positions cost": (lambda m, n, t: (6 * n * m.sum(), m.sum() * (1 + t) / 2), EVERY),
        "only masked positions cost": (
            lambda m, n, t: (6 * n * m.numel() * (1 + t) / 2, m.sum() * (1 + t) / 2), EVERY,
        ),
        "one sequence": (lambda m, n, t: (6 * n * m.shape[1], m.sum() * (1 + t) / 2), BATCH),
        "one position a text": (lambda m, n, t: (6 * n * len(m), m.sum() * (1 + t) / 2), BATCH),
        "all maskable are learnt from": (lambda m, n, t: (6 * n * m.numel(), m.sum()), MEAN),
        "half of them": (lambda m, n, t: (6 * n * m.numel(), m.sum() / 2), MEAN_OF_T),
        "half of what is above t_min": (
            lambda m, n, t: (6 * n * m.numel(), m.sum() * (1 - t) / 2), MEAN_OF_T,
        ),
        "a share t_min": (lambda m, n, t: (6 * n * m.numel(), m.sum() * t), MEAN),
        "a mean instead of a sum": (
            lambda m, n, t: (6 * n * m.numel(), m.double().mean() * (1 + t) / 2),
            ALL,
        ),
        "learnt from all positions": (
            lambda m, n, t: (6 * n * m.numel(), m.numel() * (1 + t) / 2), ALL,
        ),
        "the two swapped": (lambda m, n, t: (m.sum() * (1 + t) / 2, 6 * n * m.numel()), ORDER),
        "one number": (lambda m, n, t: 6 * n * m.numel(), "it gives two numbers"),
        "one number a sequence": (
            lambda m, n, t: (6 * n * m.numel(), m.sum(dim=1) * (1 + t) / 2), "it gives two numbers",
        ),
    },
    "controls_for": {
        "no other seed": (without_luck, "there is a run for each of the six rivals"),
        "words for runs": (only_names, "there is a run for each of the six rivals"),
        "trained on with the answers in view": (
            but(training=lambda run, arm: run._replace(objective="next token")), POSSIBLE,
        ),
        "untrained, but with an objective": (but(attention=lambda run, arm: run._replace(steps=0)), POSSIBLE),
        "training from random weights": (
            but(training=lambda run, arm: run._replace(start="random", attention="causal", objective="next token")),
            SHOWS,
        ),
        "trained on for half as long": (
            but(training=lambda run, arm: causally(run, steps=run.steps // 2)), ENOUGH,
        ),
        "compute without the ARM's": (but(compute=lambda run, arm: run._replace(start="random")), ENOUGH),
        "compute with the ARM's only": (
            but(compute=lambda run, arm: run._replace(start="random", steps=arm)), ENOUGH,
        ),
        "training with another seed": (but(training=lambda run, arm: causally(run, seed=run.seed + 1)), SEED),
        "masks with another seed": (
            but(masks=lambda run, arm: run._replace(start="random", seed=run.seed + 1)), SEED,
        ),
        "steps written out": (but(training=lambda run, arm: causally(run, steps=100)), STEPS),
        "attention left causal": (
            but(attention=lambda run, arm: run._replace(attention="causal", objective=None, steps=0)), SHOWS,
        ),
        "luck with the same seed": (but(luck=lambda run, arm: run), SHOWS),
        "the treatment as its own control": (but(masks=lambda run, arm: run), SILENT),
        "another seed of another run": (
            but(luck=lambda run, arm: run._replace(start="random", seed=run.seed + 1)), SILENT,
        ),
        "compute from the ARM": (but(compute=lambda run, arm: run._replace(steps=arm + run.steps)), SILENT),
        "already, but opened": (but(already=lambda run, arm: run._replace(objective=None, steps=0)), ONE),
        "already, but trained on": (
            but(already=lambda run, arm: run._replace(attention="causal", objective="next token")), ONE,
        ),
        "trained on with masks, causally": (but(training=lambda run, arm: run._replace(attention="causal")), ONE),
        "masks with all the compute": (
            but(masks=lambda run, arm: run._replace(start="random", steps=arm + run.steps)), ONE,
        ),
        "trained on for longer": (
            but(training=lambda run, arm: causally(run, steps=2 * run.steps)), STEPS,
        ),
        "compute with steps to spare": (
            but(compute=lambda run, arm: run._replace(start="random", steps=2 * arm + run.steps)), STEPS,
        ),
    },
}  # fmt: skip

RIGHT = {
    "aligned_logits": {"by cat": by_cat, "row by row": by_rows},
    "annealed_mask": {"loops": mask_loop, "Bernoulli": mask_bernoulli},
    "step_cost": {
        "a list of tensors": lambda m, n, t: [torch.tensor(6.0 * n * m.numel()), m.double().sum() * (t + (1 - t) / 2)],
        "shape and integral": lambda m, n, t: (
            6.0 * n * m.shape[0] * m.shape[1],
            m.sum().item() * (1 - t**2) / 2 / (1 - t) if t < 1 else int(m.sum()),
        ),
    },
    "controls_for": {"field by field": written_out},
}
