"""What ARMs and MDMs are trained to minimise, in nats.

ARM, next-token loss:                      - log p(x) = - sum_i log p(x_i | x_<i)

MDM, negative evidence lower bound: - log p(x) <= E_t E_{x_t} [ w(t) sum_{i masked in x_t} - log p(x_i | x_t) ],
with t uniform on [0, 1] and w(t) = -alpha'(t) / (1 - alpha(t)), which is 1/t for the linear schedule
(Sahoo et al., arXiv 2406.07524; Shi et al., arXiv 2406.04329; Ou et al., arXiv 2406.03736).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from mdmcourse.diffusion.forward import LINEAR, Schedule, forward_process, sample_t
from mdmcourse.errors import InputError
from mdmcourse.models.reading import ARM, MDM, LanguageModel
from mdmcourse.sequences import Sequences

Weight = Literal["elbo", "none"]
Divisor = Literal["maskable", "masked", "sequences"]
LossOn = Literal["answer", "all"]
Objective = Callable[[LanguageModel, Sequences, int, Generator], Float[Tensor, ""]]


def next_token_loss(
    arm: ARM,
    tokens: Int[Tensor, "batch pos"],
    where: Bool[Tensor, "batch pos"],
    attention_mask: Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of -log p(x_i | x_<i) over the positions `where`."""
    return cross_entropy(arm.logits_at(tokens, where, attention_mask).float(), tokens[where])


def masked_loss(
    mdm: MDM,
    x: Int[Tensor, "batch pos"],
    x_t: Int[Tensor, "batch pos"],
    t: Float[Tensor, " batch"],
    maskable: Bool[Tensor, "batch pos"],
    attention_mask: Bool[Tensor, "batch pos"] | None = None,
    *,
    weight: Weight = "elbo",
    divisor: Divisor = "maskable",
    schedule: Schedule = LINEAR,
    visible: Bool[Tensor, "pos pos"] | None = None,
) -> Float[Tensor, ""]:
    """sum_n w(t_n) sum_{i masked in x_t[n]} -log p(x_i | x_t[n]), over the divisor.

    weight: "elbo" for w(t) = -alpha'(t) / (1 - alpha(t)) (1/t for the linear schedule), "none" for 1.
    divisor: the number of "maskable" tokens (with the weight "elbo": the bound in nats per token), of "masked" tokens
        (what DiffuLLaMA does), or of "sequences" (the bound in nats per sequence).
    """
    masked = (x_t == mdm.mask_id) & maskable
    logits = mdm.logits_at(x_t, masked, attention_mask, visible)
    losses = cross_entropy(logits.float(), x[masked], reduction="none")  # bfloat16 has too few digits for a logarithm
    if weight == "elbo":
        losses = losses * schedule.weight(t).to(losses)[:, None].expand(x.shape)[masked]
    elif weight != "none":
        raise InputError(f"weight={weight!r}.", "It is not a weight of the loss.", 'Use "elbo" or "none".')
    if divisor not in ("maskable", "masked", "sequences"):
        raise InputError(
            f"divisor={divisor!r}.", "It is not a divisor of the loss.", 'Use "maskable", "masked" or "sequences".'
        )
    count = {"maskable": maskable.sum(), "masked": masked.sum(), "sequences": torch.tensor(len(x))}[divisor]
    return losses.sum() / count.clamp(min=1)


def elbo(
    mdm: MDM,
    x: Int[Tensor, "batch pos"],
    maskable: Bool[Tensor, "batch pos"],
    attention_mask: Bool[Tensor, "batch pos"] | None = None,
    *,
    samples: int,
    generator: Generator | None = None,
    schedule: Schedule = LINEAR,
) -> Float[Tensor, "samples batch"]:
    """Independent one-sample estimates of the bound on -log p(x), in nats per sequence.

    attention_mask: True at real tokens, False at padding.

    Their mean over samples is unbiased; their spread says how far to trust it.
    """
    estimates = []
    with torch.no_grad():
        for _ in range(samples):
            # t on (0, 1]; not cut off at t_min, which would bias the estimate
            t = 1 - torch.rand(len(x), generator=generator)
            x_t = forward_process(x, t, mdm.mask_id, maskable=maskable, schedule=schedule, generator=generator)
            masked = (x_t == mdm.mask_id) & maskable
            losses = torch.zeros(x.shape, device=x.device)
            logits = mdm.logits_at(x_t, masked, attention_mask)
            losses[masked] = cross_entropy(logits.float(), x[masked], reduction="none")
            estimates.append(schedule.weight(t).to(losses) * losses.sum(dim=1))
    return torch.stack(estimates)


def next_token_objective(on: LossOn = "answer") -> Objective:
    """The next-token loss as an objective for `train`, on the answer's tokens or on all but the first."""

    def objective(arm: LanguageModel, batch: Sequences, step: int, generator: Generator) -> Tensor:
        if not isinstance(arm, ARM):
            raise _wrong_kind("next_token_objective", "an ARM", arm)
        return next_token_loss(arm, batch.tokens, _loss_positions(arm, batch, on), batch.attention_mask)

    return objective


def masked_objective(
    on: LossOn = "answer",
    *,
    weight: Weight = "elbo",
    divisor: Divisor = "maskable",
    schedule: Schedule = LINEAR,
    t_min: float = 1e-3,
    anneal_steps: int = 0,
) -> Objective:
    """The masked diffusion loss as an objective for `train`.

    `anneal_steps` > 0 opens attention little by little: at step s each entry above the diagonal is visible with
    probability min(1, s / anneal_steps), drawn anew at every step (DiffuLLaMA: Gong et al., arXiv 2410.17891).
    """

    def objective(mdm: LanguageModel, batch: Sequences, step: int, generator: Generator) -> Tensor:
        if not isinstance(mdm, MDM):
            raise _wrong_kind("masked_objective", "an MDM", mdm)
        maskable = _loss_positions(mdm, batch, on)
        t = sample_t(len(batch), generator, t_min=t_min)
        x_t = forward_process(batch.tokens, t, mdm.mask_id, maskable=maskable, schedule=schedule, generator=generator)
        return masked_loss(
            mdm, batch.tokens, x_t, t, maskable, batch.attention_mask,
            weight=weight, divisor=divisor, schedule=schedule,
            visible=annealed(batch.tokens.shape[1], step, anneal_steps, generator).to(x_t.device)
            if step < anneal_steps else None,
        )  # fmt: skip

    return objective


def annealed(length: int, step: int, anneal_steps: int, generator: Generator) -> Bool[Tensor, "pos pos"]:
    """Attention on its way from causal to full: one random mask for the batch and all layers."""
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return causal | (torch.rand(length, length, generator=generator) < step / anneal_steps)


def _wrong_kind(objective: str, kind: str, model: LanguageModel) -> InputError:
    return InputError(
        f"{objective} was given {model!r}.",
        f"It is a loss of {kind}.",
        "ARMs are trained with next_token_objective, MDMs with masked_objective; MDM.from_arm makes an MDM of an ARM.",
    )


def _loss_positions(model: LanguageModel, batch: Sequences, on: LossOn) -> Bool[Tensor, "batch pos"]:
    if on not in ("answer", "all"):
        raise InputError(f"on={on!r}.", "It is not a choice of tokens.", 'Use "answer" or "all".')
    return batch.answer if on == "answer" else model.predicts(batch.tokens, batch.attention_mask)
