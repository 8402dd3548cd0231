"""How well a model fills in words of ordinary text."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

from mdmcourse.diffusion.forward import forward_process
from mdmcourse.models.reading import MDM, LanguageModel
from mdmcourse.sequences import Sequences


def windows(
    texts: list[str], tokenizer: object, length: int, shortest: int = 16, *, vary: Generator | None = None
) -> Sequences:
    """Texts as token ids, cut into windows of up to `length` tokens; ends shorter than `shortest` are left out.

    With `vary`, every second window on average is shorter: of any length from `shortest`, drawn from that generator.
    """
    cut = []
    for ids in tokenizer(texts).input_ids:  # type: ignore[operator]
        start = 0
        while len(ids) - start >= shortest:
            size = length
            if vary is not None and torch.rand((), generator=vary) < 0.5:
                size = int(torch.randint(shortest, length + 1, (), generator=vary))
            cut.append(ids[start : start + size])
            start += size
    return Sequences.from_lists(cut, [(0, len(ids)) for ids in cut], 0)


@torch.no_grad()
def infilling(
    model: LanguageModel, sequences: Sequences, *, share: float = 0.3, mask_id: int, seed: int = 0, batch_size: int = 64
) -> tuple[Bool[Tensor, " n"], Int[Tensor, " n"]]:
    """Is the most probable token the right one, at `share` of the positions?

    An MDM sees all those positions masked, and everything else. An ARM is asked for the same tokens from left to right:
    it sees everything before each, without a mask. The positions depend on `seed` and on nothing else.
    Returns for every token whether it is right, and the number of the window it is from.
    """
    right, origin = [], []
    generator = Generator().manual_seed(seed)
    for start in range(0, len(sequences), batch_size):
        index = torch.arange(start, min(start + batch_size, len(sequences)))
        part = sequences.select(index)
        maskable = part.attention_mask.clone()
        maskable[:, 0] = False  # a shifted model has no prediction there
        t = torch.full((len(index),), share)
        masked = forward_process(part.tokens, t, mask_id, maskable=maskable, generator=generator)
        where = (masked == mask_id) & maskable
        seen = masked if isinstance(model, MDM) else part.tokens
        device = model.device
        logits = model.logits_at(seen.to(device), where.to(device), part.attention_mask.to(device))
        right.append(logits.argmax(dim=-1).cpu() == part.tokens[where])
        origin.append(index[:, None].expand(where.shape)[where])
    return torch.cat(right), torch.cat(origin)
