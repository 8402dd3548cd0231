"""Two ways to model text: the course's own answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def next_conditional(joint: Float[Tensor, "*tokens"], prefix: Sequence[int]) -> Float[Tensor, " words"]:
    """p(next word | the words of `prefix`, which stand at the first positions), from the table of a joint."""
    following = joint[tuple(prefix)]
    weight = following.reshape(len(following), -1).sum(dim=1)
    return weight / weight.sum()


def any_conditional(joint: Float[Tensor, "*tokens"], seen: Mapping[int, int], i: int) -> Float[Tensor, " words"]:
    """p(word at position i | the words of `seen`, {position: word}), everything else being summed over."""
    for position, word in seen.items():
        joint = joint.narrow(position, word, 1)  # of this axis only that word; the axis stays, with length 1
    weight = joint.movedim(i, 0).reshape(joint.shape[i], -1).sum(dim=1)
    return weight / weight.sum()


def sequence_nll(
    raw: Float[Tensor, "batch pos vocab"], x: Int[Tensor, "batch pos"], prompt_length: int
) -> Float[Tensor, " batch"]:
    """- log p of all tokens after the prompt, in nats per sequence, from a decoder whose row i scores token i + 1."""
    log_p = raw.log_softmax(dim=-1)[:, prompt_length - 1 : -1]
    return -log_p.gather(-1, x[:, prompt_length:, None])[..., 0].sum(dim=1)


def can_depend(length: int, causal: bool, shifted: bool) -> Bool[Tensor, "pos pos"]:
    """Entry [i, j]: can the scores of token i depend on token j? A token without scores depends on nothing."""
    table = torch.ones(length, length, dtype=torch.bool)
    if causal:
        table = table.tril()
    if shifted:
        table = torch.cat([torch.zeros(1, length, dtype=torch.bool), table[:-1]])
    return table


def forced_and_free(
    next_token: Callable[[Tensor], Tensor], x: Int[Tensor, "batch pos"], start: int
) -> tuple[Float[Tensor, " answer"], Float[Tensor, " answer"]]:
    """For each token from `start` on, the share that is right: with the right tokens before it, and with the model's
    own."""
    written = x.clone()
    forced, free = [], []
    for i in range(start, x.shape[1]):
        forced.append(next_token(x[:, :i]) == x[:, i])
        written[:, i] = next_token(written[:, :i])
        free.append(written[:, i] == x[:, i])
    return torch.stack(forced).double().mean(dim=1), torch.stack(free).double().mean(dim=1)
