"""From localised to distributed: the course's own answers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def effective_number(scores: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """As how many equal ones these are spread out: exp of the entropy of |score| as a distribution."""
    p = scores.abs() / scores.abs().sum(dim=-1, keepdim=True)
    return torch.special.entr(p).sum(dim=-1).exp()


def disagreement() -> tuple[Tensor, Tensor]:
    """Two lists of weights: by the effective number the first is the more spread out, by Gini the second."""
    alike = torch.zeros(20)
    alike[:6] = 1  # six that count the same: effective number 6; but 14 have nothing, Gini .7
    spike = torch.full((20,), 0.35 / 19)
    spike[0] = 0.65  # one large one, and everybody else has a little: effective number 5.4, Gini .6
    return alike, spike


def few_prompts(scores: Float[Tensor, "prompt edge"], n: int, draws: int) -> float:
    """The effective number of edges that n prompts show: mean over random choices of n of the prompts."""
    found = []
    for _ in range(draws):
        chosen = scores[torch.randperm(len(scores))[:n]]
        size = chosen.mean(dim=0).abs()
        found.append(torch.special.entr(size / size.sum()).sum().exp())
    return float(torch.stack(found).mean())


def there_and_back(one: Float[Tensor, " neuron"], two: Float[Tensor, " neuron"], k: int) -> tuple[float, float]:
    """How much blunter the k choosiest neurons of each model are in the other: (those of one, those of two)."""
    found = []
    for chosen_by, looked_at in ((one, two), (two, one)):
        known = chosen_by.isfinite() & looked_at.isfinite()
        here, there = chosen_by[known], looked_at[known]
        top = here.topk(k).indices
        found.append(float((here[top] - there[top]).mean()))
    return found[0], found[1]


def edges_needed(ks: Float[Tensor, " size"], faithfulness: Float[Tensor, " size"], level: float) -> float:
    """The number of edges from which on the faithfulness stays at `level` or above, on straight lines between sizes;
    infinity if it never does."""
    below = (faithfulness < level).nonzero()
    if len(below) == 0:
        return float(ks[0])
    last = int(below[-1])
    if last == len(ks) - 1:
        return float("inf")
    share = (level - faithfulness[last]) / (faithfulness[last + 1] - faithfulness[last])
    return float(ks[last] + share * (ks[last + 1] - ks[last]))
