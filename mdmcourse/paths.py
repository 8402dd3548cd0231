"""Where things lie: what is shipped with the course, and what is fetched to this machine."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def data_dir() -> Path:
    """The course's data: `data/` of a clone, or the copy that an installed package brings."""
    installed = PACKAGE / "data"
    return installed if installed.is_dir() else PACKAGE.parent / "data"


def cache_dir() -> Path:
    """Where fetched checkpoints are kept: `MDMCOURSE_CACHE`, or the user's cache folder of this operating system."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("MDMCOURSE_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("mdmcourse", appauthor=False)
