"""Answers to the exercises of lesson 02: wrong ones, the mistakes that people make, and right ones done otherwise."""

from __future__ import annotations

import math

import torch


def time_reversed(x, t, mask_id):
    return torch.where(torch.rand(x.shape) < t[:, None], x, mask_id)


def one_coin_a_row(x, t, mask_id):
    return torch.where(torch.rand(len(x), 1) < t[:, None], mask_id, x)


def same_coins_for_every_row(x, t, mask_id):
    return torch.where(torch.rand(x.shape[1]) < t[:, None], mask_id, x)


def fixed_seed(x, t, mask_id):
    torch.manual_seed(0)
    return torch.where(torch.rand(x.shape) < t[:, None], mask_id, x)


def in_place(x, t, mask_id):
    x[torch.rand(x.shape) < t[:, None]] = mask_id
    return x


def exact_number(x, t, mask_id):
    """The t[n] * length smallest of the random numbers: never one mask more or less."""
    rank = torch.rand(x.shape).argsort(dim=1).argsort(dim=1)
    return torch.where(rank < (t * x.shape[1]).round()[:, None], mask_id, x)


def first_t_for_all(x, t, mask_id):
    return torch.where(torch.rand(x.shape) < t[0], mask_id, x)


def random_tokens(x, t, mask_id):
    return torch.where(torch.rand(x.shape) < t[:, None], torch.randint_like(x, 1, 100), x)


def gives_the_mask(x, t, mask_id):
    return torch.rand(x.shape) < t[:, None]


def loop_forward(x, t, mask_id):
    out = x.clone()
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            if torch.rand(()) < t[row]:
                out[row, column] = mask_id
    return out


def other_draws(x, t, mask_id):
    keep = torch.rand(x.shape, dtype=torch.float64) >= t.double()[:, None]
    return x * keep + mask_id * ~keep


def slope(alpha, t):
    return (alpha(t + 1e-3) - alpha(t - 1e-3)) / 2e-3


def changes_t(alpha, t):
    t.requires_grad_()
    return (-slope(alpha, t) / (1 - alpha(t))).detach()


def integral(mean_loss):
    """Over 1,000 noise levels: k masks have a binomial distribution, their losses are weighted with 1/t."""
    n, t = len(mean_loss), (torch.arange(1000) + 0.5) / 1000
    k = torch.arange(1, n + 1)
    ways = torch.tensor([math.comb(n, int(each)) for each in k])
    share = ways * t[:, None] ** k * (1 - t[:, None]) ** (n - k)
    return (share * k * mean_loss / t[:, None]).sum(dim=1)[2:].sum() / 1000


ENDS = "it is 1 if nothing is masked at s, and 0 if no time passes"
GUESS = "with a model that guesses it is n log(words)"
WRONG = {
    "forward_mask": {
        "time reversed": (time_reversed, "nothing is masked at t = 0, everything at t = 1"),
        "one coin for a whole row": (one_coin_a_row, "the tokens of a sequence do not all go together"),
        "the same coins for every row": (same_coins_for_every_row, "each token has a coin of its own"),
        "a fixed seed": (fixed_seed, "two calls differ"),
        "in-place change": (in_place, "the input is not changed"),
        "an exact number of masks": (exact_number, "each token has a coin of its own"),
        "one t for the whole batch": (first_t_for_all, "nothing is masked at t = 0, everything at t = 1"),
        "random tokens for masks": (random_tokens, "every token is the original or the mask"),
        "booleans for tokens": (gives_the_mask, "it gives token ids of the shape of x"),
    },
    "unmask_probability": {
        "no condition": (lambda s, t: s - t, "the condition is divided by"),
        "staying masked": (lambda s, t: (1 - s) / (1 - t), "it is the probability of coming back"),
        "the forward step": (lambda s, t: 1 - t / s, "it is a step back"),
        "times swapped": (lambda s, t: (t - s) / (1 - s), "s is the earlier time"),
        "divided by 1 - alpha_s": (
            lambda s, t: (s - t) / (1 - s), "the condition is at time t",
        ),
        "alpha_s": (lambda s, t: s, "the two events depend on each other"),
        "as if independent, not divided": (
            lambda s, t: s * (1 - t), "there at s and masked at t is not a product",
        ),
        "alpha_t for 1 - alpha_t": (lambda s, t: (s - t) / t, ENDS),
        "squared": (lambda s, t: ((s - t) / (1 - t)) ** 2, "it is the share that one counts"),
        "alpha for t": (lambda s, t: torch.where(s > t, s, 0), "the two events depend on each other"),
    },
    "loss_weight": {
        "sign": (lambda alpha, t: slope(alpha, t) / (1 - alpha(t)), "it is 1/t for the linear schedule"),
        "not divided": (lambda alpha, t: -slope(alpha, t), "it is 1/t for the linear schedule"),
        "divided by alpha": (lambda alpha, t: -slope(alpha, t) / alpha(t), "it is 1/t for the linear schedule"),
        "1/t for all": (lambda alpha, t: 1 / t, "it is right for alpha = 1 - t^p"),
        "1/(1 - alpha)": (lambda alpha, t: 1 / (1 - alpha(t)), "it is right for alpha = 1 - t^p"),
        "one-sided, a wide step": (
            lambda alpha, t: -(alpha(t + 0.05) - alpha(t)) / 0.05 / (1 - alpha(t)), "the slope is exact enough",
        ),
        "one-sided, h = .01": (
            lambda alpha, t: -(alpha(t + 0.01) - alpha(t)) / 0.01 / (1 - alpha(t)), "the slope is exact enough",
        ),
        "rounding, h = 1e-7": (
            lambda alpha, t: -(alpha(t + 1e-7) - alpha(t)) / 1e-7 / (1 - alpha(t)), "it is right in single precision",
        ),
        "cosine's weight for all": (
            lambda alpha, t: torch.pi / 2 / torch.tan(torch.pi / 2 * t), "it is 1/t for the linear schedule",
        ),
        "changes t": (changes_t, "t is left as it was"),
    },
    "bound_sample": {
        "mean instead of sum": (
            lambda losses, masked, t: (losses * masked).sum(1) / masked.sum(1) / t, "losses are summed, not averaged",
        ),
        "masked positions not selected": (lambda losses, masked, t: losses.sum(1) / t, "only masked positions count"),
        "the others selected": (lambda losses, masked, t: (losses * ~masked).sum(1) / t, "only masked positions count"),
        "sum over the batch": (
            lambda losses, masked, t: (losses * masked).sum(0) / t.mean(), "it gives one number for each sequence",
        ),
        "one number for all": (
            lambda losses, masked, t: (losses * masked).sum() / t.mean(), "it gives one number for each sequence",
        ),
        "times t": (lambda losses, masked, t: (losses * masked).sum(1) * t, "the sum is weighted with 1/t"),
        "no weight": (lambda losses, masked, t: (losses * masked).sum(1), "the sum is weighted with 1/t"),
        "weighted with the mean t": (
            lambda losses, masked, t: (losses * masked).sum(1) / t.mean(), "the sum is weighted with 1/t",
        ),
        "0 times NaN": (
            lambda losses, masked, t: (losses * masked).sum(1) / t, "NaN where nothing is predicted does no harm",
        ),
    },
    "bound_by_count": {
        "mean": (lambda losses: losses.mean(), GUESS),
        "times the number of masks": (
            lambda losses: (losses * torch.arange(1, len(losses) + 1)).sum(), "it is not more than n tokens cost",
        ),
        "1/k": (
            lambda losses: (losses / torch.arange(1, len(losses) + 1)).sum(), GUESS,
        ),
        "a numerical integral": (integral, "it is exact"),
        "the last left out": (lambda losses: losses[:-1].sum(), "with one token it is the token's loss"),
        "everything masked": (lambda losses: len(losses) * losses[-1], "each number of masks counts once"),
        "one mask": (lambda losses: len(losses) * losses[0], "each number of masks counts once"),
        "trapezoid": (
            lambda losses: len(losses) * torch.trapezoid(losses) / max(1, len(losses) - 1),
            "with one token it is the token's loss",
        ),
    },
}  # fmt: skip

RIGHT = {
    "forward_mask": {"loops": loop_forward, "draws in double, arithmetic": other_draws},
    "unmask_probability": {"one minus staying": lambda s, t: 1 - (1 - s) / (1 - t)},
    "loss_weight": {
        "central difference": lambda alpha, t: -(alpha(t + 1e-3) - alpha(t - 1e-3)) / 2e-3 / (1 - alpha(t)),
        "of a logarithm, in double": lambda alpha, t: (
            (torch.log(1 - alpha(t.double() + 1e-5)) - torch.log(1 - alpha(t.double() - 1e-5))) / 2e-5
        ),
    },
    "bound_sample": {
        "loop": lambda losses, masked, t: torch.stack([losses[n][masked[n]].sum() / t[n] for n in range(len(t))]),
        "where, in double": lambda losses, masked, t: torch.where(masked, losses, 0).double().sum(-1) / t,
    },
    "bound_by_count": {"python's sum": lambda losses: torch.tensor(sum(losses.tolist()))},
}
