"""What an ARM knows of a blank in the midst of a text, by Bayes' rule: the long way that an MDM spares.

For a word w in the blank, between the tokens before and after it,

    p(w | before, after) = p(before, w, after) / sum over all words v of p(before, v, after),

and an ARM has the probability of every whole text. An MDM gives all of that in one pass.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from mdmcourse.errors import InputError
from mdmcourse.models.reading import ARM, need_repeatable
from mdmcourse.tasks import readable
from mdmcourse.tasks.task import Prompts


@torch.no_grad()
def scores_by_bayes(
    arm: ARM, prompts: Prompts, candidates: int | None = None, *, batch_size: int = 128
) -> Float[Tensor, "prompt vocab"]:
    """log p(w, after | before) in nats for each word w at the target of each prompt: log p(w | before, after) up to one
    number a prompt, which is the same for all words. Minus infinity for words that were not tried.

    candidates: how many words are tried, those that are most probable after what stands before the blank; the answer
        and the distractor always are. All words if None: as many texts a prompt as the vocabulary has words. A word
        that is left out might have been the best one.
    batch_size: texts a forward pass.

    Raises InputError if more than the target is masked: with m blanks there are V^m texts.
    """
    if candidates is not None and candidates < 1:
        raise InputError(f"candidates={candidates}.", "No word would be tried.", "Give 1 or more, or None for all.")
    scores = torch.full((len(prompts), arm.vocab_size), -torch.inf)
    if (_blanks(prompts) > 1).any():
        raise InputError(
            f"Prompt {int((_blanks(prompts) > 1).int().argmax())} has more than one blank.",
            "Every combination of words would have to be tried: V^m texts for m blanks and V words.",
            "Give prompts in which the target alone is masked, whose answers are one token.",
        )
    prompts = readable(arm, prompts)
    prompts.need_answers(arm)
    need_repeatable(arm)
    for n in range(len(prompts)):
        text, target = prompts.clean[n], int(prompts.target[n])
        words = torch.arange(arm.vocab_size)
        if candidates is not None:
            first = arm.next_token_logits(text[None, :target].to(arm.device))[0][0].cpu()
            tried = [
                first.topk(min(candidates, len(first))).indices,
                prompts.answer[n, None],
                prompts.distractor[n, None],
            ]
            words = torch.cat(tried).unique()
        texts = text.repeat(len(words), 1)
        texts[:, target] = words
        for part in torch.arange(len(words)).split(batch_size):
            scores[n, words[part]] = _log_p_from(arm, texts[part].to(arm.device), target).cpu()
    return scores


def _log_p_from(arm: ARM, texts: Tensor, start: int) -> Float[Tensor, " batch"]:
    """log p(x_start, ..., x_last | x_0, ..., x_(start - 1)): what `exact_arm` gives, for thousands of texts of a real
    model: the head is computed only where it is needed, and not in float64."""
    where = torch.zeros_like(texts, dtype=torch.bool)
    where[:, start:] = True
    losses = cross_entropy(arm.logits_at(texts, where).float(), texts[where], reduction="none")
    return -losses.view(len(texts), -1).sum(dim=1)


def one_blank_within(prompts: Prompts) -> bool:
    """Is one token of each prompt masked, with text after it? Then Bayes' rule says more than the ARM by itself."""
    return bool((_blanks(prompts) == 1).all() and (prompts.target < prompts.clean.shape[1] - 1).all())


def _blanks(prompts: Prompts) -> Int[Tensor, " prompt"]:
    """How many tokens are masked: those that are what the target shows."""
    return (prompts.clean == prompts.clean.gather(1, prompts.target[:, None])).sum(dim=1)
