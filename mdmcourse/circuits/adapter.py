"""Where the parts of a Hugging Face decoder are: one small function per family.

Everything else in this folder works on `Anatomy` and does not know which family it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdmcourse.errors import InputError
from mdmcourse.models.lowrank import is_attached
from mdmcourse.models.reading import LanguageModel, need_model


@dataclass(frozen=True)
class Projection:
    """The query, key or value projection of a layer: some rows of a module's output.

    Attributes
    ----------
    module: a Linear, or GPT-2's Conv1D that computes q, k and v at once.
    rows: which features of its output.
    weight: from the normed residual stream to one head's features.
    bias: or None.
    """

    module: nn.Module
    rows: slice
    weight: Float[Tensor, "head d_head d_model"]
    bias: Float[Tensor, "head d_head"] | None


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes
    ----------
    block: the whole layer; its first argument is the residual stream.
    attention: the attention module.
    attention_norm, mlp_norm: the norms through which attention and MLP read the residual stream.
    q, k, v: the projections.
    output: its input holds the heads' results side by side.
    output_weight: from one head's result to the residual stream. (A bias, if there is one, belongs to no head.)
    mlp: its output is added to the residual stream.
    """

    block: nn.Module
    attention: nn.Module
    attention_norm: nn.Module
    mlp_norm: nn.Module
    q: Projection
    k: Projection
    v: Projection
    output: nn.Module
    output_weight: Float[Tensor, "head d_head d_model"]
    mlp: nn.Module

    @property
    def projections(self) -> dict[str, Projection]:
        return {"q": self.q, "k": self.k, "v": self.v}


@dataclass(frozen=True)
class Anatomy:
    """The parts of a decoder. final_norm is the norm through which the logits read the residual stream."""

    layers: tuple[Layer, ...]
    final_norm: nn.Module
    groups: int  # query heads that share one key-value head


def anatomy_of(model: LanguageModel) -> Anatomy:
    """The parts of a model's decoder. Raises InputError for what is no ARM or MDM, and what `anatomy` raises."""
    need_model(model)
    return anatomy(model.decoder)


def anatomy(decoder: Any) -> Anatomy:
    """The parts of a decoder.

    Raises InputError, with the reason, for a decoder whose computation the edges would not describe.
    """
    config = decoder.config
    family = config.model_type
    if family not in _FAMILIES or _slides(config):
        raise _refused(family, _why_not(config))
    if getattr(config, "add_cross_attention", False):
        raise _refused(family, "it has cross-attention, a second stream that no edge stands for")
    if decoder.training:
        raise InputError(
            "The decoder is in training mode.",
            "Dropout would make every run another one.",
            "Call model.decoder.eval() first.",
        )
    if any(parameter.is_meta for parameter in decoder.parameters()):
        raise InputError(
            "Some weights of the decoder are on the meta device: offloaded, or never loaded.",
            "Circuits read the weights outside the forward pass, where they are not at hand.",
            "Load the model so that it fits the devices, without offloading to CPU or disk.",
        )
    codes = not all(parameter.is_floating_point() for parameter in decoder.parameters())
    if codes or getattr(decoder, "is_quantized", False):
        raise InputError(
            "The weights of the decoder are quantised.",
            "Circuits compute with the weights themselves, and these are codes of them.",
            "Load the model without quantisation, in bfloat16 if float32 does not fit.",
        )
    if is_attached(decoder):
        raise InputError(
            "The decoder has low-rank changes attached that are not merged into its weights.",
            "Circuits read the weights, and would leave the changes out.",
            "Merge them first: Adapter.of(decoder, {}), detach(decoder), then its merge(model).",
        )
    with torch.no_grad():
        return _FAMILIES[family](decoder, config)


def _llama(decoder: Any, config: Any) -> Anatomy:
    """Llama, and Qwen2 (biases on q, k, v) and Qwen3 (norms on q and k, inside the module), which share its names."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    layers = []
    for block in decoder.model.layers:
        attention = block.self_attn
        q, k, v = (
            _linear(module, count)
            for module, count in ((attention.q_proj, heads), (attention.k_proj, kv_heads), (attention.v_proj, kv_heads))
        )
        out = attention.o_proj.weight.detach()
        layers.append(
            Layer(
                block, attention, block.input_layernorm, block.post_attention_layernorm, q, k, v,
                attention.o_proj, out.T.unflatten(0, (heads, -1)), block.mlp,
            )
        )  # fmt: skip
    return Anatomy(tuple(layers), decoder.model.norm, heads // kv_heads)


def _gpt2(decoder: Any, config: Any) -> Anatomy:
    """GPT-2: one Conv1D (weights transposed) for q, k and v; LayerNorm; the input holds position embeddings too."""
    heads, width = config.num_attention_heads, config.hidden_size
    layers = []
    for block in decoder.transformer.h:
        attention = block.attn
        weight, bias = attention.c_attn.weight.detach(), attention.c_attn.bias.detach()
        q, k, v = (
            Projection(
                attention.c_attn,
                rows := slice(part * width, (part + 1) * width),
                weight[:, rows].T.unflatten(0, (heads, -1)),
                bias[rows].unflatten(0, (heads, -1)),
            )
            for part in range(3)
        )
        layers.append(
            Layer(
                block, attention, block.ln_1, block.ln_2, q, k, v,
                attention.c_proj, attention.c_proj.weight.detach().unflatten(0, (heads, -1)), block.mlp,
            )
        )  # fmt: skip
    return Anatomy(tuple(layers), decoder.transformer.ln_f, 1)


_FAMILIES = {"llama": _llama, "qwen2": _llama, "qwen3": _llama, "gpt2": _gpt2}


def _linear(module: nn.Linear, heads: int) -> Projection:
    bias = None if module.bias is None else module.bias.detach().unflatten(0, (heads, -1))
    return Projection(module, slice(None), module.weight.detach().unflatten(0, (heads, -1)), bias)


def _slides(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None) or []
    return "sliding_attention" in kinds or bool(getattr(config, "use_sliding_window", False))


def _why_not(config: Any) -> str:
    if any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        return "it is a mixture of experts: which of them read is decided anew in every run, and no edge stands for it"
    if _slides(config) or getattr(config, "sliding_window", None):
        return "its attention has a sliding window, so that heads do not see all that they could"
    return "nobody has written down where its heads and norms are"


def _refused(family: str, why: str) -> InputError:
    return InputError(
        f"Circuits of a {family} decoder cannot be computed: {why}.",
        "Its scores would not describe what it computes.",
        f"Use a decoder of one of the families {', '.join(_FAMILIES)}, with full attention.",
    )


# Norms


def normed(norm: nn.Module, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
    """What a norm makes of x, without calling the hooks on it."""
    forward: Any = norm.forward
    return forward(x)


# The Jacobian of a norm, in closed form. RMSNorm is y = w u with u = x / r and r = sqrt(mean(x^2) + eps), so that
#     J^T g = (w g - u mean(u w g)) / r.
# LayerNorm (y = w u + b) is the same with x - mean(x) for x, and the mean taken out of the result.


def norm_weight(norm: nn.Module, dtype: torch.dtype) -> Float[Tensor, " d_model"]:
    """The w of a norm."""
    parameters: Any = norm
    return parameters.weight.detach().to(dtype)


def unit_and_scale(
    norm: nn.Module, x: Float[Tensor, "*batch d_model"]
) -> tuple[Float[Tensor, "*batch d_model"], Float[Tensor, "*batch 1"]]:
    """u and 1/r for a norm's input x."""
    parameters: Any = norm
    x = centred(norm, x)
    eps = parameters.eps if isinstance(norm, nn.LayerNorm) else parameters.variance_epsilon
    scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps)
    return x * scale, scale


def centred(norm: nn.Module, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """x without its mean, if the norm is one that takes it out."""
    return x - x.mean(dim=-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x


def through_norm(
    norm: nn.Module, g: Float[Tensor, "batch reader pos d_model"], unit: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch reader pos d_model"]:
    """r J^T g: gradients at a norm's output, mapped to its input but for the scale, for many g at once."""
    weighted = g * norm_weight(norm, g.dtype)
    along = torch.linalg.vecdot(weighted, unit[:, None]) / g.shape[-1]
    return centred(norm, weighted) - unit[:, None] * along[..., None]


@contextmanager
def frozen(decoder: nn.Module) -> Iterator[None]:
    """No gradients for the weights while the block runs: they are not needed, and they would cost memory."""
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
