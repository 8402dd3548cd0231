"""Progress of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def progress_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MDMCOURSE_STRICT", raising=False)
    path = tmp_path / "kept" / "progress.json"
    monkeypatch.setenv("MDMCOURSE_PROGRESS", str(path))
    return path
