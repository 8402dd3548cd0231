"""The logit lens by component: what the input, one head or one MLP would say if nobody else spoke.

The logits read the residual stream through the final norm, which divides it by its size. A component alone has another
size, so one has to say what it is divided by. Either by what the *whole* stream is divided by on this prompt: then
components add up, and one that writes little says little, which is a distribution near uniform. Or by its own size,
as if it stood alone in the stream: then only its direction counts, and one that writes hardly anything can sound sure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mdmcourse.circuits.adapter import anatomy_of, centred, norm_weight, normed, unit_and_scale
from mdmcourse.circuits.capture import before, head_outputs, recording, target_logits
from mdmcourse.errors import InputError
from mdmcourse.lens.logit_lens import AnswerLens, batches, of_answer
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts

Size = Literal["whole", "own"]


@torch.no_grad()
def component_lens(
    model: LanguageModel, prompts: Prompts, divide_by: Size = "whole", batch_size: int = 64
) -> AnswerLens:
    """What each source alone says of the answer, at the position that predicts it, on the clean prompts.

    Every field of the result is [source, prompt]; the rows are `Graph.sources`.

    divide_by: "whole" by the size that the final norm divides the whole stream by: then `logit_diff` is
        `direct_attribution`. "own" by the source's own size: the final norm and the output embedding of what it writes
        (nostalgebraist, 2020, for one component in the place of the stream).

    A bias of the final norm (GPT-2) belongs to no source: it is left out with "whole" and is part of the norm with
    "own". Raises InputError for a decoder of an unknown family, for another `divide_by`, and if there are no prompts.
    """
    if divide_by not in get_args(Size):
        raise InputError(
            f"divide_by={divide_by!r}.",
            "A component has to be brought to some size before its logits are read.",
            f"Use one of {', '.join(map(repr, get_args(Size)))}.",
        )
    norm, head = anatomy_of(model).final_norm, model.decoder.get_output_embeddings()
    found: list[list[Tensor]] = []
    for part, written, scale in written_by_sources(model, prompts, batch_size):
        if divide_by == "own":
            ready = normed(norm, written)
        else:
            ready = centred(norm, written) * norm_weight(norm, written.dtype) * scale[:, None].to(written)
        rows = (of_answer(model._forbid(head(source[None])).float(), part) for source in ready.unbind(dim=1))
        found.append([torch.cat(column) for column in zip(*rows, strict=True)])
    return AnswerLens(*(torch.cat(column, dim=1).cpu() for column in zip(*found, strict=True)))


def written_by_sources(
    model: LanguageModel, prompts: Prompts, batch_size: int
) -> Iterator[tuple[Prompts, Float[Tensor, "batch source d_model"], Float[Tensor, "batch 1"]]]:
    """Some prompts at a time: what every source adds to the residual stream at the position that predicts the analysed
    token, and what the final norm multiplies that stream with.

    Raises InputError for a decoder of an unknown family, and if there are no prompts.
    """
    parts = anatomy_of(model)
    for part in batches(prompts, batch_size, model):
        last: list[Tensor] = []
        hook = before(parts.final_norm, last.append)
        try:
            with recording(parts) as written:
                target_logits(model, part.clean, part.target)
        finally:
            hook.remove()
        each, at = torch.arange(len(part), device=model.device), part.target - int(model.shift)
        sources = [written.input[each, at][:, None]]
        for layer, heads, mlp in zip(parts.layers, written.heads, written.mlps, strict=True):
            sources += [head_outputs(layer, heads[each, at][:, None])[:, :, 0], mlp[each, at][:, None]]
        _, scale = unit_and_scale(parts.final_norm, last[0][each, at].float())
        yield part, torch.cat(sources, dim=1), scale
