"""A sampling run against its bare forward passes: the decoder called on the very same inputs, and nothing else.

.venv/bin/python benchmarks/sampling.py
"""

from __future__ import annotations

import torch
from timing import alternate, header, report

from mdmcourse import load, load_pair, sample_arm, sample_mdm
from mdmcourse.diffusion import HIDDEN
from mdmcourse.models import MDM, is_fetched
from mdmcourse.tasks import get_task


@torch.no_grad()
def bare_mdm(mdm: MDM, states: list[torch.Tensor]) -> None:
    for state in states:
        mdm.decoder(input_ids=state, is_causal=False, use_cache=False)


@torch.no_grad()
def bare_arm(decoder: torch.nn.Module, tokens: torch.Tensor, start: int) -> None:
    cache, fresh = None, tokens[:, :start]
    for position in range(start, tokens.shape[1]):
        cache = decoder(fresh, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
        fresh = tokens[:, position : position + 1]


def compare(label: str, arm, mdm: MDM, prompt: torch.Tensor, new: int, rounds: int) -> None:
    masked = mdm.append_masks(prompt, new)
    for order in ("random", "confidence", "margin", "entropy"):
        states = sample_mdm(mdm, masked, order=order).tokens[:-1]
        inputs = [state.masked_fill(state == HIDDEN, mdm.mask_id) for state in states]
        ours, bare = alternate(
            lambda order=order: sample_mdm(mdm, masked, order=order),
            lambda inputs=inputs: bare_mdm(mdm, inputs),
            rounds,
        )
        report(f"{label}, MDM, {order}", ours, bare)
    written = sample_arm(arm, prompt, new).final
    ours, bare = alternate(
        lambda: sample_arm(arm, prompt, new), lambda: bare_arm(arm.decoder, written, prompt.shape[1]), rounds
    )
    report(f"{label}, ARM with key-value cache", ours, bare)


def main() -> None:
    header()
    pair = load_pair("toy-countdown")
    for batch in (1, 64):
        prompts = get_task("countdown").prompts(pair.arm.tokenizer, batch).clean[:, :7]
        compare(f"toy-countdown, batch {batch}, 5 new tokens", pair.arm, pair.mdm, prompts, 5, rounds=30)
    if not is_fetched("smollm2-135m"):
        print("SmolLM2-135M left out: run `mdmcourse fetch smollm2-135m` first")
        return
    smollm = load("smollm2-135m")
    switched = MDM.from_arm(smollm, weights="share", mask_id=16)
    prompt = smollm.encode("When Mary and John went to the store, John gave a drink to").expand(4, -1)
    compare("SmolLM2-135M float32, batch 4, 8 new tokens", smollm, switched, prompt, 8, rounds=3)


if __name__ == "__main__":
    main()
