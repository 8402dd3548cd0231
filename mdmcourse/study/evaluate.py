"""How often a model is right."""

from __future__ import annotations

import torch

from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks.task import Prompts


@torch.no_grad()
def first_token_accuracy(model: LanguageModel, prompts: Prompts, batch_size: int = 256) -> float:
    """Share of prompts at whose target the answer has the highest logit, everything of the answer from there on masked."""
    right = 0
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        where = torch.zeros_like(prompts.clean[part], dtype=torch.bool)
        where.scatter_(1, prompts.target[part, None], True)
        logits = model.logits_at(prompts.clean[part].to(model.device), where.to(model.device))
        right += int((logits.argmax(dim=-1).cpu() == prompts.answer[part]).sum())
    return right / len(prompts)
