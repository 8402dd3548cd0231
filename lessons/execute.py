"""Execute lessons and store their outputs: `make lessons` (those whose code changed), `make lessons ALL=1` (all).

A lesson remembers, in its metadata, the checksum of the code that its outputs came from. Ids of cells are kept; widget
state is stored, so that the book can show live widgets without a kernel. With the state a widget's script and style are
stored: where these have changed since, they are renewed in lessons that need not be executed again; and so is what is
said of exercises that nobody did.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import re
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from mdmcourse.exercises.catalogue import find
from mdmcourse.exercises.exercise import Verdict, told
from mdmcourse.exercises.progress import progress

LESSONS = Path(__file__).parent
STATE = "application/vnd.jupyter.widget-state+json"
TIMEOUT = 300  # seconds for a cell: kernels have been seen to hang


def checksum(notebook: nbformat.NotebookNode) -> str:
    """Of the code that makes the outputs."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def stored(notebook: nbformat.NotebookNode) -> str | None:
    return notebook.metadata.get("mdmcourse", {}).get("outputs_of")


def execute(path: Path) -> float:
    """Run a lesson from top to bottom and write it back with its outputs. Returns seconds."""
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as nobody:
        os.environ["MDMCOURSE_PROGRESS"] = str(
            Path(nobody) / "progress.json"
        )  # the outputs of one who has done nothing
        run(notebook, path)
    return time.monotonic() - started


def run(notebook: nbformat.NotebookNode, path: Path, where: Path | None = None) -> None:
    """Run a notebook as if it lay in the folder `where` (default: that of `path`), and write it to `path`."""
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        store_widget_state=True,
        record_timing=False,
        resources={"metadata": {"path": str(where or path.parent)}},
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            join_streams(cell)
    # The kernel's exact version and what only bars of progress left behind say nothing to a reader.
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["mdmcourse"] = {"outputs_of": checksum(notebook)}
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def join_streams(cell: nbformat.NotebookNode) -> None:
    """What is printed between two other outputs is one output, however it was cut on its way; and of a line that was
    written over, what stood there last."""
    joined: list[nbformat.NotebookNode] = []
    for output in cell.outputs:
        if joined and output.output_type == joined[-1].output_type == "stream" and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = re.sub(r".*\r(?=.)", "", output.text)
    cell.outputs = joined


def renew_scripts(notebook: nbformat.NotebookNode) -> bool:
    """Give stored widgets the scripts and styles that their classes have now. Returns whether any was another."""
    changed = False
    for each in notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {}).values():
        if not (name := each["state"].get("_anywidget_id")):
            continue
        module, _, kind = name.rpartition(".")
        widget = getattr(importlib.import_module(module), kind)
        for what in ("_esm", "_css"):
            now = str(getattr(widget, what))
            changed |= each["state"].get(what) != now
            each["state"][what] = now
    return changed


def renew_exercises(notebook: nbformat.NotebookNode) -> bool:
    """Let stored outputs say of exercises that nobody did what the package says now. Returns whether any said else."""
    changed = False
    with tempfile.TemporaryDirectory() as nobody:
        os.environ["MDMCOURSE_PROGRESS"] = str(Path(nobody) / "progress.json")
        for cell in notebook.cells:
            if cell.cell_type != "code":
                continue
            if name := re.search(r"^@exercise\ndef (\w+)", cell.source, re.MULTILINE):
                now = nbformat.v4.new_output("stream", name="stdout", text=told(find(name[1]), Verdict("to do")) + "\n")
            elif lesson := re.fullmatch(r'progress\("(\d\d)"\)', cell.source):
                of = progress(lesson[1])
                data = {"text/html": of._repr_html_(), "text/plain": repr(of)}
                now = nbformat.v4.new_output("execute_result", data, execution_count=cell.execution_count)
            else:
                continue
            changed |= cell.outputs != [now]
            cell.outputs = [now]
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="also lessons whose code did not change")
    parser.add_argument("lesson", nargs="*", type=Path, help="default: all lessons")
    options = parser.parse_args()
    for path in options.lesson or sorted(LESSONS.glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if options.all or options.lesson or stored(notebook) != checksum(notebook):
            print(f"{path.name}: {execute(path):.0f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)
        elif renew_scripts(notebook) | renew_exercises(notebook):
            nbformat.write(notebook, path)
            print(f"{path.name}: unchanged, but for the scripts of its widgets, or what is said of exercises")
        else:
            print(f"{path.name}: unchanged")


if __name__ == "__main__":
    main()
