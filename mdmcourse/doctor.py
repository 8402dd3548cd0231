"""Is everything in place? Versions, device, disk, caches, widgets, shipped checkpoints: each problem with its cure."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from mdmcourse.models.registry import registry
from mdmcourse.paths import cache_dir, data_dir
from mdmcourse.storage import sha256

Status = Literal["ok", "note", "problem"]
MARK = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found and, unless all is well, what to do."""

    name: str
    status: Status
    found: str
    do: str = ""


@dataclass(frozen=True)
class Report:
    """All checks. `ok` is False if one of them is a problem; notes are no problems."""

    checks: list[Check]

    @property
    def ok(self) -> bool:
        return all(check.status != "problem" for check in self.checks)

    def to_json(self) -> str:
        return json.dumps({"ok": self.ok, "checks": [asdict(check) for check in self.checks]}, indent=1)

    def __repr__(self) -> str:
        lines = []
        for check in self.checks:
            lines.append(f"{MARK[check.status]} {check.name:<12} {check.found}")
            if check.do:
                lines.append(f"{'':<20} -> {check.do}")
        lines.append("Everything is in place." if self.ok else "Something is wrong: see the lines marked PROBLEM.")
        return "\n".join(lines)


def doctor() -> Report:
    """Look at this installation. Nothing is changed and nothing is downloaded."""
    checks: list[Callable[[], Iterator[Check]]] = [_python, _packages, _device, _disk, _checkpoints, _widgets]
    return Report([found for check in checks for found in check()])


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} on {platform.system()} ({platform.machine()})"
    yield Check("python", "ok", found)


def _packages() -> Iterator[Check]:
    """The installed versions against the ranges that this package itself declares."""
    from packaging.requirements import Requirement

    wrong, seen = [], []
    for line in metadata.requires("mdmcourse") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} is not {requirement.specifier}")
        if requirement.name in ("torch", "transformers", "ipywidgets", "anywidget"):
            seen.append(f"{requirement.name} {installed}")
    if wrong:
        yield Check("packages", "problem", "; ".join(wrong), "Run `make lab` again, or `pip install -e .[lab]`.")
    else:
        yield Check("packages", "ok", ", ".join(seen))


def _device() -> Iterator[Check]:
    import torch

    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    if torch.cuda.is_available():
        yield Check("device", "ok", f"cuda: {torch.cuda.get_device_name()}; {threads}")
    elif torch.backends.mps.is_available():
        yield Check("device", "ok", f"mps (Apple); {threads}")
    else:
        yield Check("device", "ok", f"cpu, {threads}: enough for the whole course")


def _disk() -> Iterator[Check]:
    cache = cache_dir()
    nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(nearest).free
    room = f"{free / 1e9:.1f} GB free"
    if not os.access(nearest, os.W_OK) or not nearest.is_dir():
        yield Check("cache", "problem", f"{cache} cannot be written", "Set MDMCOURSE_CACHE to a folder of yours.")
    elif free < 1e9:
        yield Check("cache", "problem", f"{cache}: only {room}", "Free some space or set MDMCOURSE_CACHE elsewhere.")
    else:
        yield Check("cache", "ok", f"{cache}, {room}")
    for name, about in registry()["models"].items():
        if "package" not in about:
            continue  # `mdmcourse pairs` lists those: no lesson needs them
        if (cache / name / "mdmcourse.json").is_file():
            yield Check(name, "ok", "fetched")
        else:
            size = about["package_bytes"] / 1e6
            yield Check(
                name, "note", "not fetched: lessons leave out what needs it",
                f"mdmcourse fetch {name} (a download of {size:.0f} to {about['bytes_on_disk'] / 1e6:.0f} MB)",
            )  # fmt: skip


def _checkpoints() -> Iterator[Check]:
    count, bad = 0, []
    for about in registry()["pairs"].values():
        for seed in () if "made" in about else about.get("seeds", []):  # not for pairs of your own
            for member in ("arm", "mdm", "mdm-second-seed", "arm-trained-on"):
                folder = data_dir() / about["directory"] / f"seed-{seed}" / member
                count += 1
                if not _intact(folder):
                    bad.append(f"{folder.parent.parent.name}/{folder.parent.name}/{member}")
    if bad:
        yield Check(
            "checkpoints", "problem", f"{len(bad)} of {count} toy models are missing or damaged: {', '.join(bad[:3])}",
            "Get them back with `git checkout -- data`, or install the package again.",
        )  # fmt: skip
    else:
        yield Check("checkpoints", "ok", f"{count} toy models, checksums right")


def _intact(folder: Path) -> bool:
    try:
        about: dict[str, Any] = json.loads((folder / "mdmcourse.json").read_text(encoding="utf-8"))
        return sha256(folder / "model.safetensors") == about["sha256"]
    except (OSError, ValueError, KeyError):
        return False


def _widgets() -> Iterator[Check]:
    """Is what JupyterLab needs to draw widgets installed beside this Python?"""
    try:
        lab = metadata.version("jupyterlab")
    except metadata.PackageNotFoundError:
        yield Check("jupyterlab", "note", "not installed here", "pip install mdmcourse[lab], unless a server has it.")
        return
    yield Check("jupyterlab", "ok", lab)
    extensions = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    needed = {"ipywidgets": "@jupyter-widgets/jupyterlab-manager", "anywidget": "anywidget"}
    missing = [name for name, folder in needed.items() if not (extensions / folder).is_dir()]
    if missing:
        yield Check(
            "widgets", "problem", f"JupyterLab cannot draw widgets: {' and '.join(missing)} lacks its extension",
            f"pip install --force-reinstall jupyterlab_widgets {' '.join(missing)}, then reload the page.",
        )  # fmt: skip
    else:
        yield Check("widgets", "ok", "JupyterLab can draw them")
