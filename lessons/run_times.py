"""Run every lesson once and write how long that takes to book/run_times.md: python lessons/run_times.py [NUMBER ...]

With numbers, only those lessons are run, and the times of the others stay.

Time on the clock depends on what else the machine does; the processor's time hardly does. Both stand in the table.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import nbformat
from execute import LESSONS, run
from prose import PACE, read

PAGE = LESSONS.parent / "book" / "run_times.md"
HEAD = f"""# Run times

Every lesson from its first cell to its last, with nothing filled in, by `python lessons/run_times.py`. *Reading* counts
{PACE} words a minute, which leaves time for pictures, code and predictions; *exercises* and *optional* are the minutes
that stand at the exercises. A lesson takes 90 minutes at most, without what is optional.

| lesson | on the clock | processor | stored | reading | exercises | optional |
|---|---|---|---|---|---|---|
"""


def measure(path: Path) -> tuple[float, float]:
    """Seconds on the clock and of the processor, of the lesson's kernel and of all that it started."""
    notebook = nbformat.read(path, as_version=4)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MDMCOURSE_PROGRESS"] = str(Path(folder) / "progress.json")
        run(notebook, Path(folder) / path.name, where=path.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", help="for example 07 09")
    numbers = parser.parse_args().numbers
    table = PAGE.read_text(encoding="utf-8") if numbers else ""
    kept = {
        row[3:5]: [float(cell.strip(" s")) for cell in row.split("|")[2:4]]
        for row in table.splitlines()
        if row.startswith("| [")
    }
    rows, clock, processor = [], 0.0, 0.0
    for path in sorted(LESSONS.glob("[0-9][0-9]_*.ipynb")):
        number = path.name[:2]
        seconds, worked = measure(path) if number in numbers or number not in kept else kept[number]
        size = f"{path.stat().st_size / 1e3:.0f} kB"
        minutes = " | ".join(f"{each} min" for each in read(path).minutes)
        rows.append(f"| [{number}](../lessons/{path.name}) | {seconds:.0f} s | {worked:.0f} s | {size} | {minutes} |")
        clock, processor = clock + round(seconds), processor + round(worked)
        print(rows[-1], flush=True)
    rows.append(f"| together | {clock / 60:.1f} min | {processor / 60:.1f} min | | | | |")
    foot = f"\nOn {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}.\n"
    PAGE.write_text(HEAD + "\n".join(rows) + "\n" + foot, encoding="utf-8")


if __name__ == "__main__":
    main()
