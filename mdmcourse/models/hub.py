"""The Hugging Face hub: what a repository weighs, bringing it into the hub's own cache, and finding it there again."""

from __future__ import annotations

import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mdmcourse.errors import CheckpointError, FetchError
from mdmcourse.models.checkpoint import read_config
from mdmcourse.models.layout import PICKLES, read_headers, weight_files

# Weights, configs and tokenizers from the top of a repository: no pickles, no code, no other frameworks' copies.
WANTED = ["*.safetensors", "*.json", "merges.txt"]
LEFT_OUT = ["*/*"]


def snapshot(about: dict[str, Any]) -> Path | None:
    """The folder of a model in the hub's cache, or None if it is not there, or only a part of it is.

    Nothing is asked of the network. Whether the files are sound is seen when they are loaded.
    """
    try:
        folder = bring(about, local_files_only=True)
        weight_files(folder)
    except (FetchError, CheckpointError):
        return None
    return folder if (folder / "config.json").is_file() else None


def download(name: str, about: dict[str, Any], *, progress: bool = True) -> Path:
    """The folder of a model in the hub's cache, after bringing what is missing of it.

    Raises FetchError, before anything is downloaded if that can be known (no room, no safetensors), or CheckpointError
    if what came is incomplete or damaged.
    """
    size = missing_bytes(about)
    need_room(size)
    if progress:
        print(f"Fetching {about['title']} from the hub, {size / 1e9:.2f} GB ...", file=sys.stderr, flush=True)
    try:
        folder = bring(about)
    except FetchError as error:
        raise FetchError(
            f"{about['title']} could not be fetched. {error.happened}",
            error.means,
            f"{error.do} Or run `mdmcourse fetch {name}` where there is a network, copy the folder that it prints to "
            f'this machine (cp -rL: it holds links), and give it: load("{name}", weights=FOLDER).',
        ) from error
    read_headers(folder)
    read_config(folder)
    return folder


def bring(about: dict[str, Any], **options: Any) -> Path:
    """The hub's own downloader, which goes on where it was interrupted. Whatever it raises becomes a FetchError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    options = {"allow_patterns": WANTED, "ignore_patterns": LEFT_OUT, "etag_timeout": 5, **options}
    try:
        return Path(snapshot_download(about["hub"], revision=about["revision"] or None, **options))
    except GatedRepoError as error:
        raise FetchError(
            f"{about['hub']} is given only to those who accepted its licence ({' '.join(str(error).split())[:160]}).",
            f"Its licence: {about['licence']}.",
            f"Accept it at {url(about)}, log in with `hf auth login`, and fetch again.",
        ) from error
    except http_errors() as error:
        raise FetchError(
            f"{type(error).__name__} ({' '.join(str(error).split())[:160]}).",
            "The hub is out of reach, or the download was interrupted.",
            "Check the network and try again: what has arrived is kept.",
        ) from error


def http_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises when something is wrong with the network or with what came: its own errors, and
    those of the HTTP library below it, which was httpx and is another since huggingface_hub 2. Its own tell which."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    below = (kind for kind in HfHubHTTPError.__mro__ if kind.__name__ in ("HTTPError", "RequestException"))
    return (OfflineModeIsEnabled, HfHubHTTPError, OSError, ValueError, *below)


def missing_bytes(about: dict[str, Any]) -> int:
    """What is still to be downloaded: asked of the hub, else estimated from the registry.

    Raises FetchError if the repository holds pickles and no safetensors.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    repository, revision = about["hub"], about["revision"] or None
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=10)
    except http_errors():
        return download_bytes(about)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
    if not any(name.endswith(".safetensors") for name in sizes) and any(
        fnmatch(name, pattern) for name in sizes for pattern in PICKLES
    ):
        raise FetchError(
            f"{repository} holds pickles and no safetensors.",
            "Reading a pickle can run any program that is hidden in it, so this package does not.",
            f"Ask its authors for safetensors, at {url(about)}/discussions; or convert it where you trust it, and give "
            "the folder: load(NAME, weights=...).",
        )
    wanted = {name: size for name, size in sizes.items() if any(fnmatch(name, pattern) for pattern in WANTED)}
    return sum(
        size
        for name, size in wanted.items()
        if not isinstance(try_to_load_from_cache(repository, name, revision=revision), str)
    )


def download_bytes(about: dict[str, Any]) -> int:
    """About how large a download is: two bytes a parameter, unless the registry knows better."""
    return about.get("bytes_on_disk", 2 * about["parameters"])


def need_room(needed: int) -> None:
    """Raise FetchError before a long download that could not be stored."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    if free < needed:
        raise FetchError(
            f"{cache} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are to be downloaded.",
            "The disk would fill up before the checkpoint is complete.",
            "Free some disk space, or set HF_HOME to a folder on another disk.",
        )


def url(about: dict[str, Any]) -> str:
    """The page of a model on the hub."""
    return f"https://huggingface.co/{about['hub']}"
