"""Writing with an ARM, from left to right, and with an MDM, in any order. Both return a `Trace` of every step."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from mdmcourse.diffusion.trace import HIDDEN, Recorder, Trace
from mdmcourse.errors import InputError
from mdmcourse.models.reading import ARM, MDM, LanguageModel, need_repeatable

Order = Literal["random", "confidence", "margin", "entropy", "left-to-right"]


def distribution(
    logits: Float[Tensor, "n vocab"], temperature: float = 1.0, top_p: float = 1.0
) -> Float[Tensor, "n vocab"]:
    """The distribution that a token is drawn from.

    temperature: 0 for the most probable token, 1 for the model's own distribution.
    top_p: only the most probable tokens that together have at least this probability (nucleus sampling, Holtzman et
        al., arXiv 1904.09751).
    Raises InputError if they are out of range.
    """
    if not 0 <= temperature < math.inf or not 0 < top_p <= 1:
        raise InputError(
            f"temperature={temperature}, top_p={top_p}.",
            "A temperature is a finite number, 0 or more; top_p is above 0 and at most 1.",
            "temperature=0 gives the most probable token; temperature=1, top_p=1 the model's own distribution.",
        )
    if temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, best, 1.0)
    below = logits.float() - logits.float().amax(dim=-1, keepdim=True)  # so that no temperature is too low to divide by
    probabilities = (below / max(temperature, torch.finfo(torch.float32).tiny)).softmax(dim=-1)
    if top_p < 1:
        ordered, index = probabilities.sort(dim=-1, descending=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= top_p  # what stands before it is enough already
        probabilities = probabilities.masked_fill(beyond.scatter(-1, index, beyond), 0.0)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return probabilities


def _draw(
    logits: Float[Tensor, "n vocab"], temperature: float, top_p: float, generator: Generator | None
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, "n vocab"]]:
    """A token for each row, the probability that the model itself gives it, and the model's distribution."""
    model = logits.float().softmax(dim=-1)
    if not model.isfinite().all():
        raise InputError(
            "The model's logits are infinite or not a number.",
            "There is no token to draw: its weights are damaged, or float16 has overflowed.",
            "Load the model anew, or in bfloat16 or float32.",
        )
    if temperature == 0:
        confidence, chosen = model.max(dim=-1)
        return chosen, confidence, model
    # Random numbers come from the generator's device, so that a seed means the same everywhere.
    chances = distribution(logits, temperature, top_p)
    chosen = torch.multinomial(chances.to(generator.device if generator else chances.device), 1, generator=generator)
    chosen = chosen.to(logits.device)
    return chosen[:, 0], model.gather(-1, chosen)[:, 0], model


@torch.no_grad()
def sample_arm(
    arm: ARM,
    prompt: Int[Tensor, "batch pos"],
    new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: Generator | None = None,
    top: int = 5,
) -> Trace:
    """Write `new_tokens` after each prompt, from left to right, one forward pass a token, with a key-value cache.

    `temperature` and `top_p` as in `distribution`. `top` alternatives are kept for each step. Prompts have one length
    and no padding.
    """
    if not isinstance(arm, ARM):
        raise InputError(f"sample_arm was given {arm!r}.", "It writes with an ARM.", "Use sample_mdm for an MDM.")
    arm._check(prompt, None)
    need_repeatable(arm)
    _check_lengths(arm.max_length, prompt, new_tokens)
    distribution(torch.zeros(1, 1), temperature, top_p)  # refuses values out of range before any work
    batch, length = prompt.shape
    prompt = prompt.to(arm.device)
    tokens = torch.cat([prompt, torch.full((batch, new_tokens), HIDDEN, device=arm.device)], dim=1)
    recorder = Recorder(tokens, _alternatives(top, arm), "left-to-right")
    fresh, cache = prompt, None
    for position in range(length, length + new_tokens):
        logits, cache = arm.next_token_logits(fresh, cache)
        chosen, confidence, probabilities = _draw(logits, temperature, top_p, generator)
        here = torch.zeros_like(tokens, dtype=torch.bool)
        here[:, position] = True
        tokens = tokens.masked_scatter(here, chosen)
        recorder.step(tokens, here, confidence, probabilities, here)
        fresh = chosen[:, None]
    return recorder.trace(forward_passes=new_tokens)


@torch.no_grad()
def sample_mdm(
    mdm: MDM,
    tokens: Int[Tensor, "batch pos"],
    *,
    steps: int | None = None,
    order: Order = "confidence",
    temperature: float = 0.0,
    top_p: float = 1.0,
    remask: int = 0,
    block_length: int | None = None,
    attention_mask: Bool[Tensor, "batch pos"] | None = None,
    generator: Generator | None = None,
    top: int = 5,
) -> Trace:
    """Fill in every mask of `tokens`, in `steps` forward passes.

    Each step predicts all hidden positions at once, draws a token for each, and keeps as many as are due: hidden
    positions and those that will be hidden again, over steps left, rounded up. So the last step always finishes.

    Parameters
    ----------
    tokens: token ids, with `mdm.mask_id` where something is to be written. Not changed.
    steps: defaults to one a mask (of the row that has most). Fewer steps write several tokens at once, each without
        knowing the others. More are of use only with `remask`: a run ends when nothing is masked.
    order: which hidden positions are kept first:
        "random"         any;
        "confidence"     where the drawn token is most probable (MaskGIT, Chang et al., arXiv 2202.04200);
        "margin"         where the best token is furthest ahead of the second (Kim et al., arXiv 2502.06768);
        "entropy"        where the distribution has the lowest entropy (Ye et al., Dream, arXiv 2508.15487);
        "left-to-right"  the leftmost.
    temperature, top_p: as in `distribution`.
    remask: after every step but the first and the last of a block, this many of the tokens written *before* this step
        are hidden again, those with the lowest confidence when they were written (in the spirit of ReMDM, Wang et al.,
        arXiv 2503.00307). They count as masks to come, so that each step writes as many as the others. The last step
        writes up to this many at once, and nothing repairs those.
    block_length: semi-autoregressive: the masks are filled in blocks of this many, from left to right, the steps
        divided evenly among the blocks (Nie et al., LLaDA, arXiv 2502.09992).
    attention_mask: True at real tokens, False at padding.
    generator: where random numbers come from; without it, PyTorch's own, which differ from run to run.
    top: alternatives kept for each hidden position and step.

    Raises InputError if there are fewer steps than blocks, or a setting is out of range.
    """
    if not isinstance(mdm, MDM):
        raise InputError(f"sample_mdm was given {mdm!r}.", "It writes with an MDM.", "Use sample_arm for an ARM.")
    mdm._check(tokens, attention_mask)
    need_repeatable(mdm)
    tokens = tokens.to(mdm.device, torch.long, copy=True)
    attention_mask = None if attention_mask is None else attention_mask.to(mdm.device)
    hidden = tokens == mdm.mask_id
    most = int(hidden.sum(dim=1).max())
    steps = most if steps is None else steps
    if block_length is not None and block_length < 1:
        raise InputError(
            f"block_length={block_length}.",
            "A block is a number of masks, at least one.",
            "Leave block_length out to fill all masks as one block.",
        )
    block_length = block_length or max(most, 1)
    blocks = -(-most // block_length)
    _check_settings(order, steps, blocks, most, remask)
    distribution(torch.zeros(1, 1), temperature, top_p)
    generated = hidden.clone()
    block_of = (generated.cumsum(dim=1) - 1) // block_length  # of each generated position, counted in its row
    last_confidence = torch.full(tokens.shape, torch.inf, device=tokens.device)
    recorder = Recorder(tokens.masked_fill(hidden, HIDDEN), _alternatives(top, mdm), order)
    passes = 0
    for block, budget in enumerate(_split(steps, blocks)):
        in_block = generated & (block_of == block)
        for left in range(budget, 0, -1):
            hidden = tokens == mdm.mask_id
            if not (hidden & in_block).any():
                break
            chosen, confidence, probabilities = _draw(
                mdm.logits_at(tokens, hidden, attention_mask), temperature, top_p, generator
            )
            passes += 1
            rank = _rank(order, hidden, confidence, probabilities, generator)
            candidates, older = hidden & in_block, in_block & ~hidden
            again = (in_block.sum(dim=1, keepdim=True) - 1).clamp(min=0, max=remask)
            to_come = again * (left - 2 + older.any(dim=1, keepdim=True)).clamp(min=0)  # the first step hides nothing
            due = -(-(candidates.sum(dim=1, keepdim=True) + to_come) // left)
            keep = _first(rank.masked_fill(~candidates, -torch.inf), due) & candidates
            proposal = tokens.masked_scatter(hidden, chosen)
            spread = last_confidence.masked_scatter(hidden, confidence)
            tokens = torch.where(keep, proposal, tokens)
            last_confidence = torch.where(keep, spread, last_confidence)
            hide = None
            if remask and left > 1:
                hide = _first((-last_confidence).masked_fill(~older, -torch.inf), again) & older
                tokens = tokens.masked_fill(hide, mdm.mask_id)
            state = tokens.masked_fill(tokens == mdm.mask_id, HIDDEN)
            recorder.step(state, hidden, confidence, probabilities, keep, hide)
    return recorder.trace(forward_passes=passes)


def _rank(
    order: Order,
    hidden: Bool[Tensor, "batch pos"],
    confidence: Float[Tensor, " n"],
    probabilities: Float[Tensor, "n vocab"],
    generator: Generator | None,
) -> Float[Tensor, "batch pos"]:
    """How early each hidden position should be kept: the highest first."""
    if order == "left-to-right":
        return -torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape).float()
    if order == "random":
        device = generator.device if generator else hidden.device
        return torch.rand(hidden.shape, generator=generator, device=device).to(hidden.device)
    if order == "confidence":
        value = confidence
    elif order == "margin":
        best, second = probabilities.topk(2, dim=-1).values.unbind(dim=-1)
        value = best - second
    else:
        value = -torch.special.entr(probabilities).sum(dim=-1)
    return hidden.float().masked_scatter_(hidden, value)


def _first(rank: Float[Tensor, "batch pos"], count: Int[Tensor, "batch 1"]) -> Bool[Tensor, "batch pos"]:
    """The `count[row]` positions of highest rank in each row."""
    place = rank.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return place < count


def _split(steps: int, blocks: int) -> list[int]:
    """`steps` divided among `blocks` as evenly as possible, the first ones getting what is over."""
    return [steps // blocks + (block < steps % blocks) for block in range(blocks)] if blocks else []


def _alternatives(top: int, model: LanguageModel) -> int:
    """How many alternatives can be kept: no more than there are tokens."""
    if top < 0:
        raise InputError(
            f"top={top}.", "It is the number of alternatives kept for each step.", "Give 0 to keep none, or more."
        )
    return min(top, model.vocab_size)


def _check_settings(order: str, steps: int, blocks: int, most: int, remask: int) -> None:
    if order not in get_args(Order):
        raise InputError(
            f"order={order!r}.", "It is not an order of unmasking.", f"Use one of {', '.join(get_args(Order))}."
        )
    if steps < 0 or (most and steps == 0):
        raise InputError(
            f"{steps} steps for {most} masks.", "Each step is a forward pass; none would be made.", "Give 1 or more."
        )
    if steps < blocks:
        raise InputError(
            f"{steps} steps for {blocks} blocks.",
            "Each block needs at least one forward pass.",
            "Give more steps, or make block_length larger.",
        )
    if remask < 0 or (most and remask >= most):
        raise InputError(
            f"remask={remask} with {most} masks.",
            "So many tokens cannot be hidden again after each step.",
            "Use a number from 0 to the number of masks less one.",
        )


def _check_lengths(longest: int, prompt: Tensor, new_tokens: int) -> None:
    if new_tokens < 0 or prompt.shape[1] + new_tokens > longest:
        raise InputError(
            f"A prompt of {prompt.shape[1]} tokens and {new_tokens} new tokens.",
            f"This decoder has {longest} positions.",
            "Shorten the prompt, or write fewer tokens.",
        )
