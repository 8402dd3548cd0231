"""A model in a folder: Hugging Face's own layout, and one small file that says how the decoder is read.

    config.json, model.safetensors, tokenizer.json, ...    loadable with transformers alone
    mdmcourse.json                                         ARM or MDM, mask, shift, attention, checksum, origin

Nothing is initialised at random in silence: every tensor of the model has to come from the file, every tensor of the
file has to be used, and the file has to be the one that was written.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models.lowrank import is_attached
from mdmcourse.models.reading import ARM, MDM, LanguageModel
from mdmcourse.storage import sha256

# model_type in config.json -> class in transformers. No remote code is ever run.
FAMILIES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
# Tensors that some files hold although they are no weights: the causal mask of GPT-2, the frequencies of Llama's
# rotations. A decoder makes them anew from its config.
CONSTANT = re.compile(
    r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)|(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"
)
ABOUT = "mdmcourse.json"
WEIGHTS = "model.safetensors"
MADE = (".json", ".safetensors", ".txt", ".jinja")  # what saving a decoder and its tokenizer leaves


def save_model(
    model: LanguageModel, directory: str | Path, *, dtype: torch.dtype | None = None, about: dict | None = None
) -> None:
    """Write a model to `directory`, whole or not at all; a model that was there before is replaced.

    `dtype` stores the weights in another precision than they have. `about` is kept in mdmcourse.json (origin,
    training, whatever JSON can hold). Raises CheckpointError if the folder cannot be written or holds anything but a
    model, and InputError for a model with low-rank changes attached: `Adapter` saves those.
    """
    if is_attached(model.decoder):
        raise InputError(
            f"{model!r} has low-rank changes attached.",
            "Its folder could not be loaded again: no decoder has such weights by itself.",
            "Save the changes alone, Adapter.of(model.decoder, about).save(path), or detach them first.",
        )
    decoder = model.decoder if dtype is None else copy.deepcopy(model.decoder).to(dtype)
    reading: dict[str, Any] = {"kind": type(model).__name__}
    if isinstance(model, MDM):
        reading |= {"mask_id": model.mask_id, "shift": model.shift, "attention": model.attention}
    directory = Path(directory).resolve()
    _refuse_to_overwrite(directory)
    with replacing_directory(directory) as temporary:
        with quiet_transformers():
            decoder.save_pretrained(temporary)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(temporary)
        reading = {**(about or {}), **reading, "sha256": sha256(temporary / WEIGHTS)}
        (temporary / ABOUT).write_text(json.dumps(reading, indent=1) + "\n", encoding="utf-8")


def load_model(
    directory: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    device_map: Any = None,
) -> ARM | MDM:
    """Read what `save_model` wrote, and check it.

    `device`, `dtype` and `device_map` are those of `load_decoder`. Raises CheckpointError, with the cause, for anything
    that is missing, damaged or altered.
    """
    directory = Path(directory)
    need_device(device)
    about = read_about(directory)
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(
            f"{directory} holds no {WEIGHTS}.",
            "There are no weights to load, and none are made up.",
            "Delete the folder, then copy or fetch the checkpoint again.",
        )
    if (found := sha256(weights)) != about["sha256"]:
        raise CheckpointError(
            f"{weights} has the checksum {found[:12]}..., {ABOUT} says {str(about['sha256'])[:12]}....",
            "The file was cut short or altered after it was written.",
            "Delete the folder, then copy or fetch the checkpoint again.",
        )
    decoder = load_decoder(directory, device=device, dtype=dtype, device_map=device_map)
    tokenizer = load_tokenizer(directory)
    if about["kind"] == "ARM":
        return ARM(decoder, tokenizer)
    return MDM(decoder, tokenizer, **{name: about[name] for name in ("mask_id", "shift", "attention")})


def need_device(device: str | torch.device | None) -> None:
    """Raise InputError for a device that this machine, or this build of PyTorch, does not have."""
    kinds = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    kind = str(device or "cpu").partition(":")[0]
    if kind not in (*kinds, "meta"):
        raise InputError(
            f"There is no device {device!s} here.",
            "PyTorch sees no such hardware, or was built without it.",
            f"Use {' or '.join(kinds)}; `mdmcourse doctor` says more.",
        )


def read_about(directory: Path) -> dict[str, Any]:
    """The mdmcourse.json of a folder. Raises CheckpointError if it is missing or no such file."""
    try:
        about = json.loads((directory / ABOUT).read_text(encoding="utf-8"))
        if not isinstance(about, dict) or about.get("kind") not in ("ARM", "MDM"):
            raise ValueError("its kind is neither ARM nor MDM")
        needed = ("sha256", "mask_id", "shift", "attention") if about["kind"] == "MDM" else ("sha256",)
        if missing := [name for name in needed if name not in about]:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{directory / ABOUT} could not be read: {error}.",
            "It is not known how the model in this folder is to be read.",
            "Give the folder of a model that mdmcourse saved; for other checkpoints use ARM(...) or MDM(...).",
        ) from error
    return about


def read_config(directory: Path) -> dict[str, Any]:
    """The config.json of a folder. Raises CheckpointError if it is missing or damaged."""
    try:
        fields = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ValueError("it holds no fields")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{directory / 'config.json'} could not be read: {error}.",
            "Without it the shape of the model is unknown.",
            "Delete the folder, then copy or fetch the checkpoint again.",
        ) from error
    return fields


def load_decoder(
    directory: Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    device_map: Any = None,
    config: Any = None,
    key_mapping: dict[str, str] | None = None,
) -> Any:
    """The decoder in a folder of Hugging Face's layout, in evaluation mode. Raises CheckpointError as `load_model`.

    device: the CPU by default.
    dtype: float32 by default on a CPU, where half precision is slow, and that of the file elsewhere.
    device_map: accelerate's, in the place of `device`: "auto" divides the layers between all devices, and what does
        not fit them waits in the CPU's memory.
    config: to be used in the place of config.json.
    key_mapping: how names in the file become the decoder's own: pattern -> replacement.
    """
    import transformers

    if device is not None and device_map is not None:
        raise InputError(
            f"device={device!s} and device_map={device_map!r}.",
            "Both say where the weights go.",
            "Give one of the two.",
        )
    device = torch.device(device or "cpu")
    model_type = read_config(directory).get("model_type") if config is None else config.model_type
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"{directory} holds a model of type {model_type!r}.",
            "This package knows how to read only " + ", ".join(FAMILIES) + ", and runs nobody's remote code.",
            "Use a model of one of these families.",
        )
    try:
        with quiet_transformers():
            decoder, info = getattr(transformers, FAMILIES[model_type]).from_pretrained(
                directory,
                config=config,
                key_mapping=key_mapping,
                device_map=device_map,
                dtype=dtype or (torch.float32 if device.type == "cpu" and device_map is None else "auto"),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, and refused below, by name
            )
    except Exception as error:  # whatever a damaged config.json makes transformers raise
        raise CheckpointError(
            f"The weights in {directory} could not be loaded: {' '.join(str(error).split())[:600]}",
            "The file is damaged, or config.json and the weights do not belong together.",
            "Delete the folder, then copy or fetch the checkpoint again.",
        ) from error
    keys_of = {what: sorted(map(str, keys)) for what, keys in info.items() if what.endswith("keys")}
    wrong = {what: bad for what, keys in keys_of.items() if (bad := [k for k in keys if not CONSTANT.fullmatch(k)])}
    if wrong:
        listed = "; ".join(f"{what.replace('_', ' ')}: {', '.join(keys[:3])}" for what, keys in wrong.items())
        raise CheckpointError(
            f"The tensors in {directory} are not those of the model ({listed}).",
            "Missing tensors would be initialised at random, unexpected ones would be dropped.",
            "Check that config.json and the weights belong together.",
        )
    return decoder.eval() if device_map is not None else decoder.to(device).eval()


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer in a folder, or None if it holds none. Raises CheckpointError if it is damaged."""
    from transformers import PreTrainedTokenizerFast

    file = directory / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        with quiet_transformers():  # a tokenizer_class that it does not know does not matter
            return PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise CheckpointError(
            f"{file} could not be read: {error}.",
            "Text cannot be turned into this model's tokens.",
            "Delete the folder, then copy or fetch the checkpoint again.",
        ) from error


def _refuse_to_overwrite(directory: Path) -> None:
    """Only a model, or an empty folder, may be replaced by a model: files as a save leaves them, and nothing beside."""
    there = list(directory.iterdir()) if directory.is_dir() else []
    strange = [each.name for each in there if each.is_dir() or each.suffix not in MADE]
    if directory.is_file() or strange or (there and not (directory / ABOUT).is_file()):
        raise CheckpointError(
            f"{directory} is there already and holds something else than a model{': ' * bool(strange)}"
            f"{', '.join(strange[:3])}.",
            "Saving replaces the folder; what it holds would be lost.",
            "Choose a new folder, or delete this one yourself.",
        )


@contextmanager
def replacing_directory(directory: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `directory` if the block ends well, and vanishes if it does not."""
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    old = directory.with_name(f".{directory.name}.{os.getpid()}.old.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed and had the same number
        temporary.mkdir(parents=True)
        yield temporary
        if directory.exists():
            directory.rename(old)
        temporary.rename(directory)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{directory} could not be written: {error}.",
            "Nothing was saved there; what was there before is unchanged.",
            "Free some disk space, or choose a folder that you may write to.",
        ) from error
    finally:
        if old.exists() and not directory.exists():
            old.rename(directory)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bar for loads of a few milliseconds, and no warning where an error follows; as before afterwards."""
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
