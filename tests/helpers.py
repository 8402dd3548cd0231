"""What several test files need: tiny decoders of every family, and what every error has to look like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

FAMILIES = ("llama", "qwen2", "qwen3", "gpt2")
VOCABULARY = 50
POSITIONS = 64
# Every family, with as many key-value heads as query heads and with fewer. GPT-2 has no such option.
DECODERS = [
    (family, grouped) for family in FAMILIES for grouped in (False, True) if (family, grouped) != ("gpt2", True)
]
DECODER_NAMES = [f"{family}{'-grouped' if grouped else ''}" for family, grouped in DECODERS]


def tiny_decoder(family: str, grouped: bool = False, seed: int = 0, vocabulary: int = VOCABULARY) -> Any:
    """A random decoder of 2 layers and 4 heads in 32 dimensions, in evaluation mode; one seed, one decoder.

    Its weights are far larger than those of an untrained model, so that attention is uneven, norms and biases
    do something, and a wrong mask or position shows in the logits. PyTorch's random state is left as it was.
    """
    import transformers

    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "bos_token_id": 1,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    if family != "gpt2":
        shape |= {"num_key_value_heads": 2 if grouped else 4, "intermediate_size": 64}
    if family == "qwen3":
        shape |= {"head_dim": 8}
    config, model = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    }[family]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        decoder = model(config(**shape)).eval()
        for parameter in decoder.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return decoder


def random_tokens(batch: int = 2, length: int = 9, seed: int = 0) -> Tensor:
    """Token ids of the tiny decoders, without the first three."""
    return torch.randint(3, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def assert_close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    """Equal up to rounding; NaN equals NaN."""
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-5, equal_nan=True)


def assert_three_parts(error: Any, *seen: str) -> None:
    """The error says what happened (with `seen` in it), what it means and what to do, and shows all three."""
    for part in (error.happened, error.means, error.do):
        assert part.strip()
        assert part in str(error)
    for piece in seen:
        assert piece in error.happened


@contextmanager
def without_shape_checks() -> Iterator[None]:
    """As readers run the package: only tests check the shapes in signatures, before it can complain itself."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
