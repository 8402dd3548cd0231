"""Loading the checkpoints that others published, in the layouts in which they published them, without their code.

An entry of the registry says what a checkpoint is meant to be; its files say what it is. Both are compared first, and
only then weights are loaded, by transformers' own classes. See `mdmcourse.models.layout` for the tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mdmcourse.errors import CheckpointError
from mdmcourse.models.checkpoint import FAMILIES, load_decoder, load_tokenizer, need_device, quiet_transformers
from mdmcourse.models.checkpoint import read_config as read_fields
from mdmcourse.models.layout import HEAD, RENAMED, Tensors, check_tensors, read_headers
from mdmcourse.models.reading import ARM, MDM

CONFIGS = {"llama": "LlamaConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config", "gpt2": "GPT2Config"}
TOKENIZERS = {"qwen2": "Qwen2TokenizerFast", "qwen3": "Qwen2TokenizerFast", "gpt2": "GPT2TokenizerFast"}
# What config.json has to state, in any of these spellings: transformers would fill in a default, which may be another.
NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "gpt2": (("n_layer",), ("n_head",), ("n_embd",), ("vocab_size",)),
    "llama": (
        ("num_hidden_layers",), ("num_attention_heads",), ("hidden_size",), ("intermediate_size",), ("vocab_size",),
        ("rms_norm_eps",),
    ),
}  # fmt: skip
NEEDED["qwen2"] = (*NEEDED["llama"], ("num_key_value_heads",), ("rope_theta", "rope_parameters"))
NEEDED["qwen3"] = (*NEEDED["qwen2"], ("head_dim",))
# Sizes in the registry -> in a config. GPT-2 has neither key-value heads nor, as a rule, a field for its MLPs.
SIZES = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "d_model": "hidden_size",
    "d_mlp": "intermediate_size",
    "vocabulary": "vocab_size",
}


def load_published(
    about: dict[str, Any],
    directory: Path,
    *,
    from_hub: bool = False,
    spare: Callable[[], Any] = lambda: None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    device_map: Any = None,
) -> ARM | MDM:
    """A published checkpoint in a folder, read as its entry in the registry says.

    about: the entry. Its sizes are enforced if the files came `from_hub`; a folder of one's own may hold a smaller
        model of the same layout.
    spare: gives a tokenizer, or None, if the folder has none.

    Raises CheckpointError if anything is missing, damaged, too much, or not as the entry says. What cannot be seen
    from a file: with as many key-value heads as query heads, and in GPT-2, their number leaves no trace in any shape.
    """
    need_device(device)
    if not directory.is_dir():
        raise CheckpointError(
            f"{directory} is no folder.",
            "There are no weights to load, and none are made up.",
            "Give the folder of the checkpoint, with config.json in it.",
        )
    config = published_config(about, directory)
    tensors = read_headers(directory)
    names = _count_rows(about, config, tensors)
    if from_hub:
        _compare_with_registry(about, directory, config)
    # A head of its own, whatever the config says; where it equals the embedding, the two stay one.
    if config.tie_word_embeddings and HEAD in names and not _same(tensors, names):
        config.tie_word_embeddings = False
    tokenizer = read_tokenizer(directory, about["family"]) or spare()
    if about["kind"] == "MDM":
        check_mask(about, directory, config.vocab_size, tokenizer)
    _check_tokenizer(about, directory, config.vocab_size, tokenizer)
    decoder = load_decoder(
        directory,
        device=device,
        dtype=dtype,
        device_map=device_map,
        config=config,
        key_mapping=RENAMED[about["family"]],
    )
    if about["kind"] == "ARM":
        return ARM(decoder, tokenizer)
    return MDM(decoder, tokenizer, **{name: about[name] for name in ("mask_id", "shift", "attention")})


def published_config(about: dict[str, Any], directory: Path) -> Any:
    """The config of a folder as one of transformers' own, whatever name its authors gave to their model's type."""
    import transformers

    family, fields = about["family"], read_fields(directory)
    model_type = fields.get("model_type")
    if model_type != family and (model_type in FAMILIES or model_type in transformers.CONFIG_MAPPING):
        raise CheckpointError(
            f"{directory} holds a model of type {model_type!r}; {about['title']} is a {family}.",
            "It is another model than the one that was asked for.",
            "Check the folder, or ask for the model by its own name.",
        )
    lacking = [" or ".join(names) for names in NEEDED[family] if not any(name in fields for name in names)]
    if lacking:
        raise CheckpointError(
            f"config.json of {directory} does not state {', '.join(lacking)}.",
            "transformers would take its own default, which may not be this model's.",
            "Copy or fetch config.json again.",
        )
    # What names other people's code, or another class, is left out.
    left_out = ("auto_map", "architectures", "model_type")
    try:
        with quiet_transformers():
            config = getattr(transformers, CONFIGS[family]).from_dict(
                {name: value for name, value in fields.items() if name not in left_out}
            )
    except Exception as error:  # transformers checks the types of fields, and raises errors of its own
        raise CheckpointError(
            f"config.json of {directory} describes no {family}: {' '.join(str(error).split())[:300]}",
            "Its fields are not what this class of model needs.",
            "Copy or fetch config.json again.",
        ) from error
    return config


def read_tokenizer(directory: Path, family: str) -> Any:
    """The tokenizer in a folder, whatever class its authors say, or None. Raises CheckpointError if it is damaged."""
    import transformers

    if (directory / "tokenizer.json").is_file():
        return load_tokenizer(directory)
    if family not in TOKENIZERS or not all((directory / file).is_file() for file in ("vocab.json", "merges.txt")):
        return None
    try:
        with quiet_transformers():
            return getattr(transformers, TOKENIZERS[family]).from_pretrained(directory, local_files_only=True)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise CheckpointError(
            f"vocab.json and merges.txt in {directory} could not be read: {error}.",
            "Text cannot be turned into this model's tokens.",
            "Copy or fetch them again.",
        ) from error


def check_mask(about: dict[str, Any], directory: Path, rows: int, tokenizer: Any) -> None:
    """Is the mask token that the registry states one that this checkpoint has? Raises CheckpointError if not."""
    mask_id, title = about["mask_id"], about["title"]
    if mask_id >= rows:
        raise CheckpointError(
            f"The mask token of {title} has id {mask_id}; the embedding in {directory} has rows 0 to {rows - 1}.",
            "The mask token would have no embedding.",
            "The folder holds another model, or one whose vocabulary was cut: get the whole one.",
        )
    if tokenizer is None:
        return
    stated = getattr(tokenizer, "mask_token_id", None)
    if stated is not None and stated != mask_id:
        raise CheckpointError(
            f"The mask token of {title} has id {mask_id}; the tokenizer in {directory} says {stated} "
            f"({tokenizer.mask_token!r}).",
            "The model would see a mask where the text has a word, or the other way round.",
            "The tokenizer is another model's, or the registry is wrong: compare with the model card.",
        )
    token = about.get("mask_token")
    found = tokenizer.convert_ids_to_tokens(mask_id) if mask_id < len(tokenizer) else None
    if token is not None and found is not None and token not in (found, tokenizer.convert_tokens_to_string([found])):
        raise CheckpointError(
            f"The mask token of {title} is {token!r}, id {mask_id}; the tokenizer in {directory} has {found!r} there.",
            "The tokenizer counts its tokens in another way than this model.",
            "Use the tokenizer that was published with it, or with its ARM.",
        )


def _check_tokenizer(about: dict[str, Any], directory: Path, rows: int, tokenizer: Any) -> None:
    if tokenizer is None:
        warnings.warn(
            f"{directory} holds no tokenizer that transformers can read without other people's code, and the ARM's is "
            f"not on this machine: this {about['title']} takes token ids and no text (model.tokenizer is None).",
            stacklevel=4,
        )
    elif len(tokenizer) > rows:
        raise CheckpointError(
            f"The tokenizer in {directory} has {len(tokenizer)} tokens, the embedding {rows} rows.",
            "They do not belong together: some tokens would have no embedding.",
            "Use the tokenizer that was published with these weights.",
        )


def _count_rows(about: dict[str, Any], config: Any, tensors: Tensors) -> dict[str, str]:
    """Check all tensors; first let the config count the rows that its authors are known to have left out."""
    names = tensors.own_names(about["family"], set())
    table = next((n for n, own in names.items() if own.endswith(("embed_tokens.weight", "wte.weight"))), None)
    if table is not None and tensors.shapes[table][0] == config.vocab_size + about.get("rows_beyond_config", 0):
        config.vocab_size = tensors.shapes[table][0]
    return check_tensors(tensors, config)


def _compare_with_registry(about: dict[str, Any], directory: Path, config: Any) -> None:
    for name, field in SIZES.items():
        said = getattr(config, field, None)
        if name in about and name not in about.get("open", []) and said is not None and said != about[name]:
            raise CheckpointError(
                f"config.json of {directory} says {field} {said}; {about['title']} has {about[name]}.",
                "What the hub gave is another model than the one that the registry means, or one of the two is wrong.",
                "Compare with the model card. To load it all the same, give the folder: load(NAME, weights=...).",
            )


def _same(tensors: Tensors, names: dict[str, str]) -> bool:
    """Does the head equal the embedding?"""
    table = "transformer.wte.weight" if "transformer.wte.weight" in names else "model.embed_tokens.weight"
    return torch.equal(tensors.read(names[HEAD]), tensors.read(names[table]))
