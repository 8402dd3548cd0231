"""Who may see whom: the one thing, beside its weights and its masks, that makes a decoder an ARM or an MDM.

- ``"causal"``: a position sees itself and what stands before it.
- ``"full"``: every position sees every position.
- ``"block:B"``: the sequence is cut into blocks of B positions; a position sees its own block and all earlier ones.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, dtype, finfo

from mdmcourse.errors import InputError


def block_length(attention: str) -> int | None:
    """The B of ``"block:B"``, or None for ``"causal"`` and ``"full"``.

    Raises InputError for anything else.
    """
    if attention in ("causal", "full"):
        return None
    kind, _, size = attention.partition(":")
    if kind == "block" and size.isdecimal() and int(size) > 0:
        return int(size)
    raise InputError(
        f"attention={attention!r} is not a kind of attention.",
        "The model would not know which positions may see which.",
        'Use "causal", "full", or "block:B" with a positive B, for example "block:32".',
    )


def block_visible(positions: Int[Tensor, "batch pos"], block: int) -> Bool[Tensor, "batch pos pos"]:
    """visible[b, i, j]: may position i see position j, with block-causal attention.

    `positions` counts from the first token that is not padding.
    """
    index = positions // block
    return index[:, None, :] <= index[:, :, None]


def additive_mask(
    visible: Bool[Tensor, "batch pos pos"], attention_mask: Bool[Tensor, "batch pos"] | None, float_type: dtype
) -> Float[Tensor, "batch 1 pos pos"]:
    """`visible` as numbers added to the attention scores: 0 where allowed, the lowest number where not.

    Padding is hidden from everyone. It is a float mask because a boolean one is silently wrong under
    transformers' "eager" attention.
    """
    if attention_mask is not None:
        visible = visible & attention_mask[:, None, :]
    return (~visible)[:, None].to(float_type) * finfo(float_type).min
