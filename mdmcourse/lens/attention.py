"""What the heads look at."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdmcourse.models.reading import LanguageModel, need_repeatable


@torch.no_grad()
def attention_patterns(
    model: LanguageModel, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "layer batch head query key"]:
    """Every head's attention: row i says how position i divides its attention among all positions; it sums to 1.

    The decoder is asked for its patterns under transformers' "eager" attention, the only kind that gives them, and left
    as it was. Raises InputError for one in training mode with dropout.
    """
    need_repeatable(model)
    decoder = model.decoder
    implementation = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        output = decoder.base_model(**model.inputs(tokens), output_attentions=True, use_cache=False)
    finally:
        decoder.set_attn_implementation(implementation)
    return torch.stack(output.attentions)


def attention_distance(
    patterns: Float[Tensor, "layer batch head query key"],
) -> Float[Tensor, "layer batch head query"]:
    """How far, in positions, each query looks on average: the mean of |query - key| under its attention."""
    place = torch.arange(patterns.shape[-1], dtype=patterns.dtype, device=patterns.device)
    return (patterns * (place[:, None] - place).abs()).sum(dim=-1)
