"""Widgets on the lessons' data: how much they weigh, how soon a page with six is drawn, how smoothly circuits drag.

.venv/bin/python benchmarks/widgets.py

Needs a Chromium and the scripts of the book's pages (`make book`). Without a graphics card Chromium draws on the CPU:
frames a second are then a lower bound of what a reader's machine does.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ipywidgets.embed import dependency_state
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from mdmcourse.widgets import CircuitViewer
from mdmcourse.widgets.packing import unpacked
from tests.browser.gallery import Data, collect, gallery
from tests.browser.pages import FLAGS, Visit, served, write_page

SIX = ["masking", "unmasking", "attention", "lens", "patching", "circuits-400"]
ROUNDS = 5

# Moves the slider at every frame for two seconds, down from all edges. Frames, and how long the longest of them took.
DRAG = """async () => {
    const slider = document.querySelector(".mdm-circuits input[type=range]");
    const gaps = [];
    let last = await new Promise(requestAnimationFrame), value = Number(slider.max);
    const end = last + 2000;
    while (last < end) {
        slider.value = value = value > slider.max * 0.9 ? value - 1 : Number(slider.max);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        const now = await new Promise(requestAnimationFrame);
        gaps.push(now - last);
        last = now;
    }
    return gaps;
}"""
IDLE = """async () => {
    const gaps = [];
    let last = await new Promise(requestAnimationFrame);
    const end = last + 1000;
    while (last < end) {
        const now = await new Promise(requestAnimationFrame);
        gaps.push(now - last);
        last = now;
    }
    return gaps;
}"""
# Milliseconds that the script itself takes for a drawing at each of the slider's stops near its end.
DRAWING = """() => {
    const slider = document.querySelector(".mdm-circuits input[type=range]");
    return new Promise(async (done) => {
        const times = [];
        const original = window.requestAnimationFrame;
        for (let step = 0; step < 20; step++) {
            let drawing = null;
            window.requestAnimationFrame = (draw) => { drawing = draw; return 1; };
            slider.value = Number(slider.max) - step % 5;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            window.requestAnimationFrame = original;
            const started = performance.now();
            drawing?.(started);
            times.push(performance.now() - started);
            await new Promise(original);
        }
        done(times);
    });
}"""


def weights(widgets: dict[str, Any]) -> None:
    print(f"{'state, kilobytes':<24}{'data':>10}{'with script':>14}{'data in a notebook':>22}")
    for name, widget in widgets.items():
        state = next(
            model["state"]
            for model in dependency_state([widget], drop_defaults=False).values()
            if "_esm" in model["state"]
        )
        own = {key: value for key, value in state.items() if not key.startswith("_")}
        sizes = [len(json.dumps(part, separators=(",", ":"), ensure_ascii=False)) / 1000 for part in (own, state)]
        deep = {"metadata": {"widgets": {"application": {"state": {"id": {"state": own}}}}}}  # a line for each number
        stored = len(json.dumps(deep, indent=1, ensure_ascii=False)) / 1000
        print(f"{name:<24}{sizes[0]:>10.1f}{sizes[1]:>14.1f}{stored:>22.1f}")


def drawn(page: Page, address: str) -> float:
    """Seconds from the request of a page until all of its widgets are drawn."""
    started = time.perf_counter()
    page.goto(address)
    page.wait_for_function("count => document.querySelectorAll('.mdm-widget').length === count", arg=len(SIX))
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return time.perf_counter() - started


def frames(gaps: list[float]) -> str:
    return f"{1000 / statistics.mean(gaps):.0f} a second (longest {max(gaps):.0f} ms)"


def pages(folder: Path, data: Data, widgets: dict[str, Any]) -> None:
    write_page(folder, "six", [widgets[name] for name in SIX])
    viewer = CircuitViewer(data.scores, data.comparisons, data.faithfulness, most=2000, k=100)
    edges = min(len(order) for task in map(unpacked, viewer.tasks) for order in task["order"])
    write_page(folder, "circuits", [viewer])
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        times = []
        for _ in range(ROUNDS):
            visit = Visit(browser.new_context(viewport={"width": 1280, "height": 900}).new_page())
            times.append(drawn(visit.page, f"{address}/six.html"))
            visit.check()
        print(f"six widgets on a page drawn in {statistics.median(times):.2f} s (best {min(times):.2f}; aim 2)")
        for dots in (1, 2):  # of the screen, to a dot of CSS; most laptops today have 2
            page = browser.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=dots)
            page.goto(f"{address}/circuits.html")
            page.wait_for_selector(".mdm-node")
            print(f"device pixel ratio {dots}: frames of an idle page: {frames(page.evaluate(IDLE))}")
            print(f"  while the slider is dragged near {edges:,} edges: {frames(page.evaluate(DRAG))} (aim 60)")
            scripts = page.evaluate(DRAWING)
            print(f"  of which the script's part: {statistics.median(scripts):.1f} ms a frame")
            page.close()
        browser.close()


def main() -> None:
    data = collect()
    widgets = gallery(data)
    weights(widgets)
    with tempfile.TemporaryDirectory() as folder:
        pages(Path(folder), data, widgets)


if __name__ == "__main__":
    main()
