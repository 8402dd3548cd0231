"""The project as a whole: one list of requirements, light imports, floors, files in their places."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mdmcourse import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mdmcourse"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

FLOORS = {
    "errors": -1, "own": 0, "storage": 0, "naming": 0, "paths": 0, "sequences": 0,
    "models": 1,
    "diffusion": 2, "tasks": 2,
    "circuits": 3,
    "lens": 4,
    "figures": 4,
    "tables": 1,
    "study": 5,
    "widgets": 6, "doctor": 6,
    "exercises": 7,
    "cli": 8,
    "__main__": 9,
}  # fmt: skip


def imported_by(path: Path) -> set[str]:
    """Rooms of the package that a file imports when it runs (not only for type checkers)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names = [
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    return {name.split(".")[1] for name in names if name.startswith("mdmcourse.")} | {
        name.split(".")[0] for name in names if name.split(".")[0] in ("torch", "transformers")
    }


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path",
    [p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py"],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_a_file_imports_only_from_floors_below(path: Path):
    room = room_of(path)
    for other in imported_by(path) - {room, "torch", "transformers"}:
        assert FLOORS[other] < FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"


def test_widgets_and_figures_import_neither_torch_nor_transformers():
    for path in [*(PACKAGE / "widgets").rglob("*.py"), PACKAGE / "figures.py"]:
        assert not imported_by(path) & {"torch", "transformers"}, path


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, mdmcourse; print(sorted({'torch', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    import mdmcourse

    for name in mdmcourse.__all__:
        assert getattr(mdmcourse, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mdmcourse.nonsense


def test_environment_yml_repeats_no_requirement():
    """conda supplies Python and pip; the rest is the project itself."""
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    entries = [line.strip(" -") for line in lines if re.match(r"\s+- ", line)]
    assert entries == ["conda-forge", "python=3.12", "pip", "pip:", "c constraints.txt", "e .[lab]"]
    assert re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])[1] <= "12"


def requirements() -> list[str]:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    return [*PROJECT["dependencies"], *extras]


def test_constraints_pin_every_requirement_within_its_range():
    from packaging.requirements import Requirement

    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for line in requirements():
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[requirement.name]), line


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert PROJECT["version"] == __version__ == re.search(r"^version: (.*)$", citation, re.MULTILINE)[1]


def test_no_dangerous_loading():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"trust_remote_code\s*=\s*True|torch\.load\(|import pickle|pickle\.load", text), path


def test_files_hold_one_idea():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
