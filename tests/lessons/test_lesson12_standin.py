"""Lesson 12 runs with another pair by changing its first cell only: here on small stand-ins for published pairs, in the
layouts in which those are published, and with toys where nothing can be fetched."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
LESSON = nbformat.read(ROOT / "lessons" / "12_real_checkpoints.ipynb", as_version=4)
MAKE = """
import json, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from helpers import tiny_decoder
from layouts import LAYOUTS, byte_tokenizer, plain
from mdmcourse.models.registry import entry
from mdmcourse.tasks.ioi import NAMES

folder, pair, family = Path({folder!r}), {pair!r}, {family!r}
for seed, member in enumerate(("arm", "mdm")):
    name = entry("pairs", pair)[member]
    decoder = tiny_decoder(family, seed=seed, vocabulary=entry("models", name)["vocabulary"])
    LAYOUTS.get(name, plain)(decoder, folder / member)
byte_tokenizer(folder / "arm", 300, mask_token="<|a token|>", whole=True)
about = folder / "arm" / "tokenizer_config.json"
about.write_text(json.dumps({{**json.loads(about.read_text()), "mask_token": None}}))
whole = folder / "arm" / "tokenizer.json"
read = json.loads(whole.read_text())
# Each name of IOI has to be one token.
flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
read["added_tokens"] += [dict(id=301 + i, content=" " + name, **flags) for i, name in enumerate(NAMES)]
whole.write_text(json.dumps(read))
"""


def as_script(lesson: nbformat.NotebookNode, parameters: str) -> str:
    """The code of the lesson, with another first cell, as a file for Python: a kernel would take longer to start."""
    cells = [cell for cell in copy.deepcopy(lesson.cells) if cell.cell_type == "code"]
    assert cells[0].id == "parameters"
    cells[0].source = parameters
    head = "import matplotlib\nmatplotlib.use('agg')\nfrom IPython.display import display\n"
    return head + "\n".join(cell.source for cell in cells)


def run(code: str, folder: Path, **environment: str) -> str:
    (folder / "lesson.py").write_text(code, encoding="utf-8")
    settings = {"OMP_NUM_THREADS": "1", "MDMCOURSE_PROGRESS": str(folder / "progress.json"), **environment}
    done = subprocess.run(
        [sys.executable, "lesson.py"], cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("pair", "family", "tasks"), [("diffugpt-s", "gpt2", 3), ("diffugpt-m", "gpt2", 3), ("dream-7b", "qwen2", 3)]
)
def test_with_a_published_pair_in_folders(pair: str, family: str, tasks: int, tmp_path: Path):
    make = MAKE.format(tests=str(ROOT / "tests"), folder=str(tmp_path), pair=pair, family=family)
    run(make, tmp_path)
    weights = {member: str(tmp_path / member) for member in ("arm", "mdm")}
    said = run(as_script(LESSON, f"PAIR = {pair!r}\nWEIGHTS = {json.dumps(weights)}\nDEVICE = 'cpu'"), tmp_path)
    assert f"studied here: {pair}\n" in said
    table = next(line for line in said.splitlines() if line.startswith("share right"))
    assert len(table.split()) - 2 == tasks


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_where_nothing_can_be_fetched_toys_stand_in_and_it_says_so(tmp_path: Path):
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty"), "HF_HUB_CACHE": str(tmp_path / "empty")}
    said = run(as_script(LESSON, "PAIR = 'diffugpt-s'\nWEIGHTS = None\nDEVICE = 'cpu'"), tmp_path, **offline)
    assert "the toys stand in for diffugpt-s" in said
    assert "studied here: toy-countdown\n" in said
