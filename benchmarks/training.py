"""Training against the bare loop of forward, backward and optimiser step on batches of the same shape.

The bare loop knows its batches beforehand, computes all logits, and does no clipping, no logging, no schedule.

    .venv/bin/python benchmarks/training.py
"""

from __future__ import annotations

from functools import partial

import torch
from timing import alternate, header, report
from torch.nn.functional import cross_entropy

from mdmcourse import load_pair
from mdmcourse.diffusion import TrainConfig, masked_objective, next_token_objective, train
from mdmcourse.models import ARM, MDM, ToyConfig, toy_arm
from mdmcourse.sequences import Sequences
from mdmcourse.study.toys import RECIPES, training_sequences
from mdmcourse.tasks import toy_tokenizer

STEPS = 20


def bare_loop(model: ARM | MDM, batches: list[Sequences]) -> None:
    optimizer = torch.optim.AdamW(model.decoder.parameters(), 1e-4)
    model.decoder.train()
    for batch in batches:
        mask = batch.attention_mask.long()
        logits = model.decoder(
            input_ids=batch.tokens, attention_mask=mask, is_causal=isinstance(model, ARM), use_cache=False
        ).logits
        loss = cross_entropy(logits[:, :-1][batch.answer[:, 1:]], batch.tokens[batch.answer])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def main() -> None:
    header()
    tokenizer = toy_tokenizer()
    for name, recipe in RECIPES.items():
        sequences = training_sequences(recipe, "mdm")
        config = TrainConfig(steps=STEPS, learning_rate=1e-4, log_every=STEPS)
        generator = torch.Generator().manual_seed(0)
        batches = [
            sequences.select(torch.randint(len(sequences), (config.batch_size,), generator=generator))
            for _ in range(STEPS)
        ]
        arm = toy_arm(tokenizer, ToyConfig(num_hidden_layers=recipe.layers))
        mdm = MDM.from_arm(load_pair(name).arm, weights="copy")
        for model, objective in ((arm, next_token_objective()), (mdm, masked_objective())):
            ours, bare = alternate(
                partial(train, model, sequences, objective, config, progress=False),
                partial(bare_loop, model, batches),
                rounds=5,
            )
            report(f"{name}, {type(model).__name__}, {STEPS} steps of {config.batch_size}", ours, bare)


if __name__ == "__main__":
    main()
