"""What you bring yourself: pairs and tasks, in a TOML file that the environment variable MDMCOURSE_OWN names.

    tasks = ["largest.py"]            # Python files; they are run, and every Task in them is known by its name

    [pairs.mine]                      # known as "mine", to load_pair and to every command that takes a pair
    title = "A model that finds the largest number"
    directory = "mine"                # holds seed-0/arm, seed-0/mdm, ...: a folder each, as save_model writes it
    members = ["arm", "mdm"]          # and "mdm-second-seed", "arm-trained-on", if there are such controls
    tasks = ["largest"]
    seeds = [0]

Files and folders are looked for beside it.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from mdmcourse.errors import InputError

NEEDED = {"title": str, "directory": str, "tasks": list, "seeds": list}
OPTIONAL = {"members": list, "trained_on": str, "objective": str, "differences": list, "licence": str}


def own_file() -> Path | None:
    """The file that MDMCOURSE_OWN names, if it names one."""
    given = os.environ.get("MDMCOURSE_OWN")
    return Path(given).expanduser().resolve() if given else None


def own_pairs() -> dict[str, dict[str, Any]]:
    """Your pairs, as the registry has its own. Raises InputError for a file that cannot be read, or says too little."""
    file, read = own_file(), _read()
    pairs = {}
    for name, about in read.get("pairs", {}).items():
        known = NEEDED | OPTIONAL
        wrong = [
            key
            for key, kind in known.items()
            if (key in NEEDED or key in about) and not isinstance(about.get(key), kind)
        ] + [key for key in about if key not in known]
        if wrong:
            raise InputError(
                f"The pair {name} in {file}: {', '.join(wrong)} missing, unknown or of the wrong type.",
                "It cannot be told what the pair is, or where.",
                f"A pair has {', '.join(NEEDED)}, and may have {', '.join(OPTIONAL)}.",
            )
        assert file is not None
        pairs[name] = {
            "licence": "yours", **about, "directory": str(file.parent / about["directory"]),
            "made": f"A pair of your own, from {file}.",
        }  # fmt: skip
    return pairs


def own_task_files() -> list[Path]:
    """The Python files with your tasks. Raises InputError if one is not there."""
    file = own_file()
    files = [file.parent / each for each in _read().get("tasks", [])] if file else []
    for each in files:
        if not each.is_file():
            raise InputError(
                f"{each} is not there.",
                f"{file} says that it holds tasks.",
                "Correct the name: it is looked for there.",
            )
    return files


def _read() -> dict[str, Any]:
    file = own_file()
    if file is None:
        return {}
    try:
        read = tomllib.loads(file.read_text(encoding="utf-8"))
        if set(read) - {"tasks", "pairs"} or not isinstance(read.get("tasks", []), list):
            raise ValueError("it may hold a list called tasks, and pairs")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} could not be read: {error}.",
            "The environment variable MDMCOURSE_OWN names it as the file with your own pairs and tasks.",
            "Correct it, or unset MDMCOURSE_OWN.",
        ) from error
    return read
