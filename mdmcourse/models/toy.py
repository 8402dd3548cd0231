"""Toy models: a tiny Llama, so that what is learnt on a toy runs unchanged on a real checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from mdmcourse.models.reading import ARM


@dataclass(frozen=True)
class ToyConfig:
    """The shape of a toy decoder. The field names are those of `transformers.LlamaConfig`."""

    num_hidden_layers: int = 4
    hidden_size: int = 64  # d_model, features of the residual stream
    num_attention_heads: int = 4  # query heads
    num_key_value_heads: int = 4  # fewer than query heads: grouped-query attention
    intermediate_size: int = 192  # d_ff, neurons of an MLP
    max_position_embeddings: int = 64  # longest sequence, in tokens
    tie_word_embeddings: bool = False


def toy_arm(tokenizer: Any, config: ToyConfig | None = None, *, seed: int = 0) -> ARM:
    """An untrained toy ARM whose vocabulary is the tokenizer's. The same seed gives the same weights.

    PyTorch's global random state is left as it was.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        **asdict(config or ToyConfig()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARM(LlamaForCausalLM(llama).eval(), tokenizer)
