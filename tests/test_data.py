"""What is shipped is what is described: sizes, checksums, origins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mdmcourse.models import registry
from mdmcourse.models.lowrank import Adapter
from mdmcourse.models.pairs import TOY_MEMBERS
from mdmcourse.storage import sha256
from mdmcourse.study.posttrain import Recipe, recipe_path

DATA = Path(__file__).parents[1] / "data"
WEIGHTS = sorted(DATA.glob("checkpoints/**/*.safetensors"))
TOYS = [path for path in WEIGHTS if path.name == "model.safetensors"]
CHANGES = [path for path in WEIGHTS if path.name != "model.safetensors"]
PAIRS = registry()["pairs"]


def shown(path: Path) -> str:
    """As the README lists it: a toy by its folder."""
    return str((path.parent if path in TOYS else path).relative_to(DATA))


def test_every_shipped_model_is_listed_with_its_checksum_and_nothing_else():
    page = (DATA / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| (checkpoints\S+) \| [\d,]+ \| `(\w{64})` \|$", page, re.MULTILINE))
    assert listed == {shown(path): sha256(path) for path in WEIGHTS}


def test_the_registry_names_exactly_what_is_there():
    toys = {
        DATA / about["directory"] / f"seed-{seed}" / member / "model.safetensors"
        for about in PAIRS.values()
        for seed in about.get("seeds", [])
        for member in TOY_MEMBERS
    }
    changes = {
        DATA / about["directory"] / f"{member}.safetensors"
        for about in PAIRS.values()
        if "base" in about
        for member in about["members"]
    }
    assert set(TOYS) == toys
    assert set(CHANGES) == changes
    assert changes
    assert all(about["seeds"] or "parameters" in about for name, about in PAIRS.items() if name.startswith("toy-"))


@pytest.mark.parametrize("path", TOYS, ids=shown)
def test_a_shipped_toy_is_small_and_knows_its_origin(path: Path):
    assert path.stat().st_size <= 1_500_000
    about = json.loads((path.parent / "mdmcourse.json").read_text(encoding="utf-8"))
    assert about["origin"]["command"].startswith("mdmcourse train-toys ")
    assert about["origin"]["member"] == path.parent.name
    assert about["training"]["log"][-1]["step"] == about["training"]["config"]["steps"]


@pytest.mark.parametrize("path", CHANGES, ids=shown)
def test_a_shipped_change_is_small_and_made_after_the_committed_recipe(path: Path):
    assert path.stat().st_size <= 6_000_000
    about = Adapter.load(path).about
    recipe = Recipe.read(recipe_path(path.parent.name))
    member = recipe.members[path.stem]
    assert about["command"] == f"mdmcourse posttrain {path.parent.name}"
    assert {name: about[name] for name in ("kind", "from", "seed")} == member
    for name in ("base", "mask_id", "lowrank", "train", "masked", "dtype"):
        assert about[name] == getattr(recipe, name)
    assert about["log"][-1]["step"] == recipe.train["steps"]


def test_all_data_stays_small():
    assert sum(path.stat().st_size for path in CHANGES) <= 25e6
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 60e6
