"""Files that are whole or absent, and dataclasses of tensors that save themselves: safetensors and JSON, no pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mdmcourse.errors import CheckpointError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place if the block ends well, and vanishes if it does not.

    A process that is killed, or a disk that fills up, never leaves half a file under the final name.
    Raises CheckpointError if the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} could not be written: {error}.",
            "Nothing was saved there; a file that was there before is unchanged.",
            "Free some disk space, or choose a folder that you may write to.",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors, and `about` as JSON in the file's header, whole or not at all."""
    with replacing(path) as temporary:
        # Copies: views and tensors that share memory are saved each for itself.
        copies = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
        }
        save_file(copies, temporary, metadata={"mdmcourse": json.dumps(about)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote. Raises CheckpointError if the file is missing, damaged or another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["mdmcourse"])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} could not be read: {type(error).__name__}: {error}.",
            "The file is missing, cut short, or was not written by mdmcourse.",
            "Make it anew, or copy it again from where it came.",
        ) from error


def sha256(path: Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


T = TypeVar("T", bound="Saved")


class Saved:
    """Gives a dataclass `save` and `load`: tensor fields as tensors, all others as JSON in the header."""

    def save(self, path: str | Path) -> None:
        """Write to `path` (safetensors). Raises CheckpointError if that fails."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        tensors = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
        about = {name: value for name, value in fields.items() if name not in tensors}
        write_tensors(Path(path), tensors, {"kind": type(self).__name__, **about})

    @classmethod
    def load(cls: type[T], path: str | Path) -> T:
        """Read what `save` wrote. Raises CheckpointError if it is damaged or holds something else."""
        tensors, about = read_tensors(Path(path))
        if (kind := about.pop("kind", None)) != cls.__name__:
            raise CheckpointError(
                f"{path} holds a {kind}, not a {cls.__name__}.",
                "Its fields would be misread.",
                f"Load it with {kind}.load, or check the path.",
            )
        given, known = {*tensors, *about}, {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if given != known:
            raise CheckpointError(
                f"{path} is no {cls.__name__} as this version writes it: {', '.join(sorted(given ^ known)[:5])}.",
                "These fields are missing, or are too many: another version of mdmcourse wrote it.",
                "Make it anew.",
            )
        return cls(**tensors, **about)
