"""What is shipped is what is described: sizes, checksums, origins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mdmcourse.models import registry
from mdmcourse.storage import sha256

DATA = Path(__file__).parents[1] / "data"
WEIGHTS = sorted(DATA.glob("checkpoints/**/model.safetensors"))


def test_every_shipped_model_is_listed_with_its_checksum_and_nothing_else():
    page = (DATA / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (checkpoints\S+) \| [\d,]+ \| `(\w{64})` \|$", page, re.MULTILINE))
    assert listed == {str(path.parent.relative_to(DATA)): sha256(path) for path in WEIGHTS}


def test_the_registry_names_exactly_what_is_there():
    expected = {
        DATA / about["directory"] / f"seed-{seed}" / member / "model.safetensors"
        for about in registry()["pairs"].values()
        for seed in about["seeds"]
        for member in ("arm", "mdm", "mdm-second-seed", "arm-trained-on")
    }
    assert set(WEIGHTS) == expected
    assert all(len(about["seeds"]) >= 3 for about in registry()["pairs"].values())


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: str(path.parent.relative_to(DATA)))
def test_a_shipped_model_is_small_and_knows_its_origin(path: Path):
    assert path.stat().st_size <= 1_000_000
    about = json.loads((path.parent / "mdmcourse.json").read_text(encoding="utf-8"))
    assert about["origin"]["command"].startswith("mdmcourse train-toys ")
    assert about["origin"]["member"] == path.parent.name
    assert about["training"]["log"][-1]["step"] == about["training"]["config"]["steps"]


def test_all_data_stays_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 60e6
