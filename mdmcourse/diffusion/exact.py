"""Exact quantities by enumeration, for sequences so short that everything can be tried.

An MDM that unmasks one token a step, in an order sigma drawn uniformly, writes x with probability

    p(x) = E_sigma [ prod_k p(x_sigma(k) | x_sigma(<k)) ].

By Jensen's inequality - log p(x) <= E_sigma [ - sum_k log p(x_sigma(k) | x_sigma(<k)) ], and the right-hand side is the
negative evidence lower bound of the masking process (Ou et al., arXiv 2406.03736; Hoogeboom et al., arXiv 2110.02037).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdmcourse.errors import InputError
from mdmcourse.models.reading import ARM, MDM, need_repeatable


@dataclass(frozen=True)
class Exact:
    """Exact values for a batch of sequences, in nats per sequence.

    Attributes
    ----------
    nll: - log p(x), with p the model's own distribution when it unmasks one token a step in random order.
    bound: E_sigma [ - sum_k log p(x_sigma(k) | x_sigma(<k)) ], never below `nll`.
    """

    nll: Float[Tensor, " batch"]
    bound: Float[Tensor, " batch"]


@torch.no_grad()
def exact_mdm(mdm: MDM, x: Int[Tensor, "batch pos"], prompt_length: int, *, limit: int = 8) -> Exact:
    """Exact likelihood and bound of everything after the first `prompt_length` tokens, over all orders. Sequences are
    of one length, without padding.

    2^n masked inputs are run and n! orders summed (n tokens after the prompt), the orders without listing them: with
    S a set of revealed positions, the sum over orders that reveal S first is a sum over which of them came last.
    Raises InputError if n is above `limit`.
    """
    need_repeatable(mdm)
    n = _free(x, prompt_length, limit)
    log_p = torch.zeros(2**n, len(x), n, dtype=torch.float64)  # [revealed set, batch, position]
    for revealed in range(2**n):
        hidden = torch.tensor([not revealed >> i & 1 for i in range(n)])
        if not hidden.any():
            continue
        x_t = x.clone()
        x_t[:, prompt_length:][:, hidden] = mdm.mask_id
        where = torch.zeros_like(x, dtype=torch.bool)
        where[:, prompt_length:] = hidden
        rows = mdm.logits_at(x_t, where).cpu().double().log_softmax(dim=-1).view(len(x), int(hidden.sum()), -1)
        targets = x[:, prompt_length:][:, hidden, None].cpu()
        log_p[revealed][:, hidden] = rows.gather(-1, targets)[..., 0]
    # log_mean[S]: log of the mean, over orders of S, of the product; mean_log[S]: mean of the log of the product.
    log_mean = torch.full((2**n, len(x)), -torch.inf, dtype=torch.float64)
    mean_log = torch.zeros(2**n, len(x), dtype=torch.float64)
    log_mean[0] = 0
    for revealed in range(1, 2**n):
        last = [i for i in range(n) if revealed >> i & 1]
        before = [revealed ^ (1 << i) for i in last]
        steps = torch.stack([log_p[b][:, i] for b, i in zip(before, last, strict=True)])
        log_mean[revealed] = (log_mean[before] + steps).logsumexp(dim=0) - math.log(len(last))
        mean_log[revealed] = (mean_log[before] + steps).mean(dim=0)
    return Exact(-log_mean[-1], -mean_log[-1])


@torch.no_grad()
def exact_arm(arm: ARM, x: Int[Tensor, "batch pos"], prompt_length: int) -> Float[Tensor, " batch"]:
    """- log p(x) of everything after the first `prompt_length` tokens, by the chain rule, in nats per sequence.
    Sequences are of one length, without padding.

    Raises InputError if `prompt_length` is 0: nothing scores the first token.
    """
    if not 1 <= prompt_length < x.shape[1]:
        raise InputError(
            f"prompt_length={prompt_length}, and sequences of {x.shape[1]} tokens.",
            "An ARM does not score its first token, and something has to be left to score.",
            "Begin with a token that is given, such as <bos>, and count it as the prompt.",
        )
    need_repeatable(arm)
    rows = arm.logits(x)[:, prompt_length:].cpu().double().log_softmax(dim=-1)
    return -rows.gather(-1, x[:, prompt_length:, None].cpu())[..., 0].sum(dim=1)


def all_sequences(prompt: Int[Tensor, " pos"], words: list[int], length: int) -> Int[Tensor, "n total"]:
    """The prompt followed by every sequence of `length` tokens from `words`."""
    rest = torch.tensor(list(itertools.product(words, repeat=length)))
    return torch.cat([prompt.expand(len(rest), -1), rest], dim=1)


def _free(x: Tensor, prompt_length: int, limit: int) -> int:
    n = x.shape[1] - prompt_length
    if not 1 <= n <= limit:
        raise InputError(
            f"{n} tokens after the prompt.",
            f"Enumeration runs the model on 2^n masked inputs; it is limited to n = 1 to {limit}.",
            "Shorten the sequences, or estimate the bound with mdmcourse.diffusion.elbo.",
        )
    return n
