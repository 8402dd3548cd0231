"""The same prompts for two models that do not share all their tokens."""

from __future__ import annotations

from dataclasses import replace

import torch

from mdmcourse.models.reading import ARM, LanguageModel
from mdmcourse.tasks.task import Prompts


def readable(model: LanguageModel, prompts: Prompts) -> Prompts:
    """`prompts` as this model can read them: the same, but for an ARM that has no row for the mask token of its MDM.

    There token 0 takes the place of the masks from the target on. An ARM that predicts the target sees nothing of
    that. Ids without a row before the target are left alone: no model can read them, and each says so.
    """
    if not isinstance(model, ARM):
        return prompts
    unseen = torch.arange(prompts.clean.shape[1], device=prompts.target.device) >= prompts.target[:, None]
    clean, corrupted = (
        tokens.masked_fill(unseen & (tokens >= model.vocab_size), 0) for tokens in (prompts.clean, prompts.corrupted)
    )
    return replace(prompts, clean=clean, corrupted=corrupted)
