"""The wheel alone, outside the clone, brings the toy checkpoints with it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and unpacked in an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_pair_loads_and_writes_from_the_wheel_alone(unpacked: Path):
    code = (
        "import mdmcourse; from mdmcourse.paths import data_dir; "
        "assert str(data_dir()).startswith(mdmcourse.__path__[0]), data_dir(); "
        "from mdmcourse import load_pair, sample_mdm; pair = load_pair('toy-chain'); "
        "prompt = pair.arm.encode('4 7 1 9 3 ='); "
        "print(sample_mdm(pair.mdm, pair.mdm.append_masks(prompt, 5)).answers(pair.mdm.tokenizer))"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=unpacked, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "['4 0 3 2 3']", done.stderr


def test_the_wheel_holds_what_is_shipped_and_nothing_else(unpacked: Path):
    top = {path.name.split("-")[0] for path in unpacked.iterdir()}
    assert top == {"mdmcourse"}
    shipped = {path.relative_to(ROOT / "data") for path in (ROOT / "data").rglob("*") if path.is_file()}
    shipped = {path for path in shipped if "__pycache__" not in path.parts and not path.name.startswith(".")}
    packed = {
        path.relative_to(unpacked / "mdmcourse" / "data")
        for path in unpacked.rglob("mdmcourse/data/**/*")
        if path.is_file()
    }
    assert shipped <= packed
    assert (unpacked / "mdmcourse" / "py.typed").is_file()
    scripts = {path.name for path in (ROOT / "mdmcourse" / "widgets").iterdir() if path.suffix in (".js", ".css")}
    assert len(scripts) > 10
    assert scripts <= {path.name for path in (unpacked / "mdmcourse" / "widgets").iterdir()}
    (info,) = unpacked.glob("*.dist-info")
    assert {path.name for path in (info / "licenses").iterdir()} == {"LICENSE", "LICENSE-lessons"}
