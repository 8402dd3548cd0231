"""Small checkpoints in the layouts in which real ones are published, written from random decoders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mdmcourse.models import ARM, MDM

Tensors = dict[str, Tensor]
BYTES = 256  # tokens of the byte-level tokenizers below, before merges and special tokens


def tensors_of(decoder: Any) -> Tensors:
    """The weights of a decoder, a tied head left out, as published files have them."""
    tensors = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    if decoder.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    return tensors


def write(directory: Path, tensors: Tensors, config: dict[str, Any], shards: int = 1) -> None:
    """Files of tensors, in one or with an index, and config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = sorted(tensors), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def config_of(decoder: Any, **changes: Any) -> dict[str, Any]:
    """A config as published ones are, in the spelling of older versions of transformers."""
    fields = json.loads(decoder.config.to_json_string(use_diff=False))
    fields.pop("layer_types", None)
    fields["torch_dtype"] = fields.pop("dtype")
    if rotations := fields.pop("rope_parameters", None):
        fields |= {"rope_theta": rotations["rope_theta"], "rope_scaling": None}
    return {**fields, **changes}


def gpt2(decoder: Any, directory: Path) -> None:
    """Without the prefix, and with the causal masks that older versions stored."""
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors_of(decoder).items()}
    for layer in range(decoder.config.n_layer):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    write(directory, tensors, config_of(decoder))


def diffugpt(decoder: Any, directory: Path, **changes: Any) -> None:
    """With other names, no head, and a class of tokenizer that is nowhere."""
    tensors = {}
    for name, tensor in tensors_of(decoder).items():
        renamed = name.replace("transformer.wte.", "embed_tokens.").replace("transformer.", "denoise_model.")
        tensors[renamed] = tensor
    write(directory, tensors, config_of(decoder, architectures=["DiscreteDiffusionModel"], **changes))


def diffugpt_m(decoder: Any, directory: Path) -> None:
    """One row more than its config says."""
    diffugpt(decoder, directory, vocab_size=decoder.config.vocab_size - 1)


def llama(decoder: Any, directory: Path) -> None:
    """In two files with an index, and with the constants of rotations."""
    tensors = tensors_of(decoder)
    for layer in range(decoder.config.num_hidden_layers):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    write(directory, tensors, config_of(decoder), shards=2)


def diffullama_renamed(decoder: Any, directory: Path) -> None:
    """As DiffuGPT's names would be for a Llama."""
    tensors = {}
    for name, tensor in tensors_of(decoder).items():
        renamed = name.replace("model.embed_tokens.", "embed_tokens.").replace("model.", "denoise_model.")
        tensors[renamed] = tensor
    write(directory, tensors, config_of(decoder))


def dream(decoder: Any, directory: Path) -> None:
    """A type of model that transformers does not know, with code of its own, in three files."""
    auto_map = {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"}
    config = config_of(decoder, model_type="Dream", architectures=["DreamModel"], auto_map=auto_map)
    write(directory, tensors_of(decoder), config, shards=3)


def a2d(decoder: Any, directory: Path) -> None:
    """A type of model that transformers does not know, and a head of its own although the config says tied."""
    family = decoder.config.model_type
    config = config_of(decoder, model_type=f"a2d-{family}", tie_word_embeddings=True)
    write(directory, tensors_of(decoder), config)


def tied_twice(decoder: Any, directory: Path) -> None:
    """A head that is the embedding once more, as in Qwen3-0.6B."""
    tensors = tensors_of(decoder)
    tensors["model.embed_tokens.weight"] = decoder.lm_head.weight.detach().clone()
    write(directory, tensors, config_of(decoder, tie_word_embeddings=True))


def plain(decoder: Any, directory: Path) -> None:
    write(directory, tensors_of(decoder), config_of(decoder))


LAYOUTS: dict[str, Callable[[Any, Path], None]] = {
    "gpt2": gpt2,
    "gpt2-medium": gpt2,
    "llama-2-7b": llama,
    "diffugpt-s": diffugpt,
    "diffugpt-m": diffugpt_m,
    "diffullama": llama,
    "dream-7b-base": dream,
    "dream-7b-instruct": dream,
    "dream-coder-7b-instruct": dream,
    "diffucoder-7b-base": dream,
    "qwen3-0.6b-mdlm": a2d,
    "qwen3-0.6b-bd3lm": a2d,
    "qwen2.5-coder-0.5b-mdlm": a2d,
}
"""How each model of the registry is published; all others are plain."""


def read_as(about: dict[str, Any], decoder: Any) -> ARM | MDM:
    """A decoder read as an entry of the registry says."""
    if about["kind"] == "ARM":
        return ARM(decoder)
    return MDM(decoder, mask_id=about["mask_id"], shift=about["shift"], attention=about["attention"])


def byte_tokenizer(
    directory: Path, mask_id: int, *, mask_token: str = "<|mask|>", more: int = 0, whole: bool = False
) -> None:
    """A byte-level tokenizer as Dream publishes it: vocab.json, merges.txt, and a class that needs code of its own.

    `mask_token` has id `mask_id`, from 258 on, and `more` tokens follow it; `whole` writes tokenizer.json in the place
    of the first two files.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2TokenizerFast

    vocabulary = {character: i for i, character in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary["Ġt"] = BYTES
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("#version: 0.2\nĠ t\n")
    special = ["<|endoftext|>", *(f"<|{i}|>" for i in range(BYTES + 2, mask_id)), mask_token]
    special += [f"<|{mask_id + i}|>" for i in range(1, more + 1)]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    about = {
        "tokenizer_class": "DreamTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "mask_token": mask_token,
        "pad_token": "<|endoftext|>",
        "added_tokens_decoder": {str(BYTES + 1 + i): {"content": token, **flags} for i, token in enumerate(special)},
    }
    config = directory / "tokenizer_config.json"
    config.write_text(json.dumps(about))
    if whole:
        Qwen2TokenizerFast.from_pretrained(directory).save_pretrained(directory)
        config.write_text(json.dumps({**json.loads(config.read_text()), "tokenizer_class": "DreamTokenizer"}))
        for file in ("vocab.json", "merges.txt"):
            (directory / file).unlink(missing_ok=True)
