"""What a published checkpoint holds, read from the headers of its files before anything is loaded.

transformers initialises at random what it does not find, and only warns. So the names and shapes of all tensors are
compared with those that config.json asks for, and each way in which they can disagree is told in its own words.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mdmcourse.errors import CheckpointError
from mdmcourse.models.checkpoint import CONSTANT, FAMILIES, WEIGHTS

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
HEAD = "lm_head.weight"
FLOATS = ("F64", "F32", "F16", "BF16")

# Names in the files of DiffuLLaMA's authors -> names in the decoder.
RENAMED = {
    family: {r"^denoise_model\.": f"{base}.", r"^embed_tokens\.": f"{base}.{table}."}
    for family, base, table in (
        ("llama", "model", "embed_tokens"),
        ("qwen2", "model", "embed_tokens"),
        ("qwen3", "model", "embed_tokens"),
        ("gpt2", "transformer", "wte"),
    )
}
# A tensor's name -> what it is a part of.
PARTS = {
    "the embedding": r"embed_tokens|\bw[tp]e\b",
    "attention": r"_attn\.[qkvo]_proj|attn\.c_",
    "MLPs": r"\bmlp\.",
    "norms": r"norm|\bln_",
    "the head": r"^lm_head",
}
# A tensor's name and one of its axes -> the fields of config.json that its size there comes from.
FIELDS = (
    (r"(embed_tokens|wte|lm_head)\.weight", 0, "vocab_size"),
    (r"wpe\.weight", 0, "n_positions"),
    (r"[qkv]_proj\.(weight|bias)", 0, "num_attention_heads, num_key_value_heads or head_dim"),
    (r"[qk]_norm\.weight", 0, "head_dim"),
    (r"o_proj\.weight", 1, "num_attention_heads or head_dim"),
    (r"(gate|up)_proj\.weight", 0, "intermediate_size"),
    (r"down_proj\.weight", 1, "intermediate_size"),
    (r"mlp\.c_fc\.weight", 1, "n_inner"),
    (r"mlp\.c_fc\.bias", 0, "n_inner"),
    (r"mlp\.c_proj\.weight", 0, "n_inner"),
)


@dataclass(frozen=True)
class Tensors:
    """The tensors in the safetensors files of a folder, by the names that they have there: file, shape, and type."""

    directory: Path
    files: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    def read(self, name: str) -> Tensor:
        """One of them, loaded."""
        with safe_open(self.directory / self.files[name], framework="pt") as file:
            return file.get_tensor(name)

    def own_names(self, family: str, expected: set[str]) -> dict[str, str]:
        """Names in the files -> names in the decoder; constants are left out, and unknown names stay as they are."""
        base = "transformer" if family == "gpt2" else "model"
        names = {}
        for name in self.files:
            own = name
            for pattern, replacement in RENAMED[family].items():
                own = re.sub(pattern, replacement, own)
            if f"{base}.{own}" in expected:  # GPT-2's own files leave the prefix out
                own = f"{base}.{own}"
            if not CONSTANT.fullmatch(own):
                names[name] = own
        return names


def weight_files(directory: Path) -> dict[str, set[str] | None]:
    """The safetensors files of a folder, each with the tensors that the index promises in it (None without an index).

    Raises CheckpointError if there are none, if one is missing, or if the index is no index.
    """
    if (directory / WEIGHTS).is_file():
        return {WEIGHTS: None}
    if not (directory / INDEX).is_file():
        pickles = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
        if pickles:
            raise CheckpointError(
                f"{directory} holds its weights as {', '.join(pickles[:3])}: a pickle, and no safetensors.",
                "Reading a pickle can run any program that is hidden in it, so this package does not.",
                "Look for a revision with safetensors; or convert it where you trust it (PyTorch's load with "
                "weights_only=True, then safetensors.torch.save_file) and give that folder: load(NAME, weights=...).",
            )
        raise CheckpointError(
            f"{directory} holds no {WEIGHTS} and no {INDEX}.",
            "There are no weights to load, and none are made up.",
            "Give the folder of a checkpoint in Hugging Face's layout.",
        )
    promised: dict[str, set[str]] = {}
    try:
        for name, file in json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"].items():
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise ValueError(f"{file!r} is not the name of a safetensors file beside it")
            promised.setdefault(file, set()).add(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{directory / INDEX} could not be read: {type(error).__name__}: {error}.",
            "It says which file holds which tensor.",
            "Copy or fetch it again.",
        ) from error
    if missing := sorted(file for file in promised if not (directory / file).is_file()):
        raise CheckpointError(
            f"{directory} lacks {', '.join(missing[:3])}: {len(missing)} of {len(promised)} files in {INDEX}.",
            "A part of the weights is not there: the download was interrupted, or not all was copied.",
            "Copy what is missing, or fetch the checkpoint again: it goes on where it was.",
        )
    return dict(promised)


def read_headers(directory: Path) -> Tensors:
    """Names and shapes of all tensors in a folder, without their contents.

    Raises CheckpointError for what `weight_files` refuses, for a file that is cut short, and for an index that lies.
    """
    files: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for file, promised in weight_files(directory).items():
        try:
            with safe_open(directory / file, framework="pt") as opened:
                slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                held = {name: tuple(part.get_shape()) for name, part in slices.items()}
                dtypes |= {name: part.get_dtype() for name, part in slices.items()}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{directory / file} is cut short, or no safetensors file: {error}.",
                "Its tensors cannot all be read.",
                f"Delete {(directory / file).resolve()}, then copy or fetch it again.",
            ) from error
        if promised is not None and (differ := sorted(promised ^ held.keys())):
            raise CheckpointError(
                f"{directory / file} and {INDEX} disagree about {', '.join(differ[:3])} ({len(differ)} tensors).",
                "The one lists tensors there that the other does not: they are of different checkpoints.",
                "Copy or fetch all files again, from one revision.",
            )
        files |= dict.fromkeys(held, file)
        shapes |= held
    return Tensors(directory, files, shapes, dtypes)


def check_tensors(tensors: Tensors, config: Any) -> dict[str, str]:
    """Do the tensors of a checkpoint make exactly the decoder of this config?

    Returns names in the decoder -> names in the files. Raises CheckpointError, with what disagrees, if they do not.
    """
    import transformers

    directory, family = tensors.directory, config.model_type
    try:
        with torch.device("meta"):
            decoder = getattr(transformers, FAMILIES[family])(config)
    except Exception as error:  # whatever sizes that fit nowhere make transformers raise
        raise CheckpointError(
            f"{directory / 'config.json'} describes no decoder: {' '.join(str(error).split())[:300]}",
            "Its sizes contradict each other.",
            "Copy or fetch it again, from the checkpoint that the weights are of.",
        ) from error
    expected = {name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()}
    own = tensors.own_names(family, set(expected))
    found = {name: tensors.shapes[in_file] for in_file, name in own.items()}
    if config.tie_word_embeddings and HEAD not in found:
        del expected[HEAD]
    _check_layers(directory, config.num_hidden_layers, found)
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    # Two tensors under one name would leave one of them unused.
    extra += sorted(in_file for in_file, name in own.items() if list(own.values()).count(name) > 1)
    if missing or extra:
        lacks = f"{directory} lacks {len(missing)} of {len(expected)} tensors: {_listed(missing)}." if missing else ""
        holds = f"{directory} holds {len(extra)} that the model has not: {_listed(extra)}." if extra else ""
        raise CheckpointError(
            f"{lacks} {holds}".strip(),
            "Missing tensors would be initialised at random, others would be dropped.",
            "Check that the folder holds the checkpoint that you mean, whole, with its own config.json.",
        )
    packed = {in_file: tensors.dtypes[in_file] for in_file in own if tensors.dtypes[in_file] not in FLOATS}
    if packed:
        raise CheckpointError(
            f"{directory} holds {len(packed)} tensors as {', '.join(sorted(set(packed.values())))}: {min(packed)} ...",
            "They are quantised: without what turns them back, they would be read as other numbers.",
            "Use the weights in float32, float16 or bfloat16.",
        )
    wrong = [name for name, shape in expected.items() if found[name] != shape]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"config.json of {directory} makes {name} {list(expected[name])}, the file has {list(found[name])}: "
            f"{_field(name, expected[name], found[name])} does not fit ({len(wrong)} tensors in all).",
            "They are not of the same model, or config.json was changed.",
            "Copy or fetch config.json again, from the checkpoint that the weights are of.",
        )
    return {name: in_file for in_file, name in own.items()}


def _check_layers(directory: Path, said: int, found: dict[str, tuple[int, ...]]) -> None:
    numbers = [int(match[1]) for name in found if (match := re.search(r"\b(?:h|layers)\.(\d+)\.", name))]
    if numbers and max(numbers) + 1 != said:
        raise CheckpointError(
            f"config.json of {directory} says {said} layers, the weights have {max(numbers) + 1}.",
            "Layers would be dropped, or made up at random.",
            "Copy or fetch config.json again, from the checkpoint that the weights are of.",
        )


def _listed(names: list[str]) -> str:
    """The first few names of each part of a decoder."""
    by_part: dict[str, list[str]] = {}
    for name in names:
        part = next((part for part, pattern in PARTS.items() if re.search(pattern, name)), "other")
        by_part.setdefault(part, []).append(name)
    return "; ".join(f"of {part} {', '.join(few[:2])}{' ...' * (len(few) > 2)}" for part, few in by_part.items())


def _field(name: str, expected: tuple[int, ...], found: tuple[int, ...]) -> str:
    """Which field of config.json is to blame for a shape."""
    axes = [i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b]
    fields = [field for pattern, axis, field in FIELDS if axis in axes and re.search(pattern, name)]
    return fields[0] if fields else "hidden_size"
