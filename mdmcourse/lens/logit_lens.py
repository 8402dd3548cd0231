"""The logit lens: what the model would say if it stopped after some layer (nostalgebraist, 2020).

The residual stream is read straight through the final norm and the output embedding. *Place* 0 is what enters the
first layer, place i what layer i - 1 leaves; the last place gives the model's own logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdmcourse.circuits.adapter import anatomy_of, normed
from mdmcourse.circuits.capture import before, before_block
from mdmcourse.errors import InputError
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts


@torch.no_grad()
def residual_stream(model: LanguageModel, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "place batch pos d_model"]:
    """The residual stream at every place of the decoder. Position i is the decoder's own: no shift is undone.

    Raises InputError for a decoder of an unknown family.
    """
    parts = anatomy_of(model)
    found: list[Tensor] = []
    with ExitStack() as stack:
        for layer in parts.layers:
            stack.callback(before_block(layer.block, lambda x: found.append(x.detach())).remove)
        stack.callback(before(parts.final_norm, lambda x: found.append(x.detach())).remove)
        model.decoder.base_model(**model.inputs(tokens), use_cache=False)
    return torch.stack(found)


@torch.no_grad()
def logit_lens(model: LanguageModel, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "place batch pos vocab"]:
    """Aligned logits at every place: position i scores token i, and is NaN where the model has no prediction.

    The last place equals `model.logits(tokens)`. Raises InputError for a decoder of an unknown family.
    """
    stream = residual_stream(model, tokens)
    raw = model._forbid(model.decoder.get_output_embeddings()(normed(anatomy_of(model).final_norm, stream)))
    aligned = torch.full_like(raw, torch.nan)
    where = model.predicts(tokens)
    aligned[:, where] = raw[:, :, :-1][:, where[:, 1:]] if model.shift else raw[:, where]
    return aligned


@dataclass(frozen=True)
class AnswerLens:
    """What the logit lens shows of the answer, at the position that predicts it: one row for each place of the residual
    stream (`answer_lens`), or for each source alone (`component_lens`).

    Attributes
    ----------
    probability: of the answer.
    rank: how many tokens have a higher logit.
    entropy: of the whole distribution, in nats.
    logit_diff: logit(answer) - logit(distractor).
    """

    probability: Float[Tensor, "place prompt"]
    rank: Int[Tensor, "place prompt"]
    entropy: Float[Tensor, "place prompt"]
    logit_diff: Float[Tensor, "place prompt"]


@torch.no_grad()
def answer_lens(model: LanguageModel, prompts: Prompts, batch_size: int = 64) -> AnswerLens:
    """The logit lens at the analysed token of every clean prompt.

    Raises InputError for a decoder of an unknown family, and if there are no prompts.
    """
    norm, head = anatomy_of(model).final_norm, model.decoder.get_output_embeddings()
    found: list[tuple[Tensor, ...]] = []
    for part in batches(prompts, batch_size, model):
        stream = residual_stream(model, part.clean)[:, torch.arange(len(part)), part.target - int(model.shift)]
        logits = model._forbid(head(normed(norm, stream))).float()
        found.append(of_answer(logits, part))
    return AnswerLens(*(torch.cat(column, dim=1).cpu() for column in zip(*found, strict=True)))


def of_answer(logits: Float[Tensor, "place batch vocab"], prompts: Prompts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The fields of `AnswerLens`, each [place, batch]. Logits are those of the analysed token. Raises InputError if
    some are no numbers: they would rank first."""
    if logits.isnan().any():
        raise InputError(
            "Some logits are not a number.",
            "The model's weights are damaged, or float16 has overflowed.",
            "Load the model anew, or in bfloat16 or float32.",
        )
    answer = logits.gather(-1, prompts.answer.expand(len(logits), -1)[..., None])
    distractor = logits.gather(-1, prompts.distractor.expand(len(logits), -1)[..., None])
    log_p = logits.log_softmax(dim=-1)
    return (
        (answer - logits.logsumexp(dim=-1, keepdim=True)).exp()[..., 0],
        (logits > answer).sum(dim=-1),
        -(log_p.exp() * log_p).sum(dim=-1),
        (answer - distractor)[..., 0],
    )


def batches(prompts: Prompts, batch_size: int, model: LanguageModel) -> Iterator[Prompts]:
    """Some prompts at a time, on the model's device. Raises InputError if there are none."""
    if not len(prompts) or batch_size < 1:
        raise InputError(
            f"There are {len(prompts) or 'no'} prompts, and batch_size={batch_size}.",
            "Nothing can be looked at.",
            "Give at least one prompt, and a batch_size of 1 or more.",
        )
    prompts.need_answers(model)
    for start in range(0, len(prompts), batch_size):
        yield prompts.select(slice(start, start + batch_size)).to(model.device)
