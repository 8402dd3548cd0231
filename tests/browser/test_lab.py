"""Widgets in a live JupyterLab: a notebook is run, arrow keys move a widget, and what was chosen survives a reload."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Page, TimeoutError

from tests.browser.pages import Visit, screenshot, settle

CELLS = [
    'from mdmcourse.widgets import MaskingExplorer\n\nMaskingExplorer(["The", " cat", " sat", " down"], t=0.4)',
    "import numpy as np\nfrom mdmcourse.widgets import AttentionViewer\n\n"
    'AttentionViewer({"MDM": np.full((3, 2, 4, 4), 0.25)}, ["a", "b", "c", "d"])',
    'from mdmcourse.exercises import predict\n\npredict("How much?", unit="nats")',
]
SETTINGS = {
    "@jupyter-widgets/jupyterlab-manager/plugin.jupyterlab-settings": {"saveState": True},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab that stores the state of widgets, and the notebook that it shows."""
    home = tmp_path_factory.mktemp("lab")
    notebook = home / "work" / "widgets.ipynb"
    notebook.parent.mkdir()
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in CELLS],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        ),
        notebook,
    )
    for name, settings in SETTINGS.items():
        (home / "user" / name).parent.mkdir(parents=True)
        (home / "user" / name).write_text(json.dumps(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "JUPYTERLAB_SETTINGS_DIR": str(home / "user"),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=",
        f"--ServerApp.root_dir={notebook.parent}",
        "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with (home / "log.txt").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/api", server, home / "log.txt")
            yield address, notebook
        finally:
            server.terminate()
            try:
                server.wait(timeout=60)
            except subprocess.TimeoutExpired:  # how fast JupyterLab stops on a busy machine is not what is tested
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
    pytest.fail(log.read_text())


def opened(visit: Visit, address: str) -> Page:
    page = visit.page
    page.goto(f"{address}/lab/tree/widgets.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    return page


def run_all(page: Page) -> None:
    """A kernel that is still starting forgets what it is asked to run, though its sign says idle: ask again."""
    page.wait_for_selector(".jp-KernelName:has-text('Python 3')")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    for _ in range(8):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with suppress(TimeoutError):
            page.wait_for_selector(".mdm-masking .mdm-slider", timeout=15_000)
            return
    pytest.fail(page.locator(".jp-Notebook").inner_text())


def stored(path: Path) -> list[dict[str, Any]]:
    """The states of the widgets in a notebook, which may be half written."""
    with suppress(json.JSONDecodeError, KeyError):
        kept = json.loads(path.read_text(encoding="utf-8"))["metadata"]["widgets"]
        return [model["state"] for model in kept["application/vnd.jupyter.widget-state+json"]["state"].values()]
    return []


def counter(page: Page) -> str:
    return page.locator(".mdm-masking .mdm-counter").inner_text()


def test_a_notebook_keeps_what_was_chosen(visit: Visit, lab: tuple[str, Path]) -> None:
    address, path = lab
    page = opened(visit, address)
    run_all(page)
    page.wait_for_selector(".mdm-attention svg[role=slider]")
    assert counter(page) == "t = 0.40"

    def active() -> int:
        return page.locator(".jp-Cell.jp-mod-active").evaluate("cell => [...cell.parentElement.children].indexOf(cell)")

    # JupyterLab takes the arrow keys of what it does not know.
    slider = page.locator(".mdm-masking .mdm-slider")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    settle(page)
    assert counter(page) == "t = 0.415"
    heads = page.locator(".mdm-attention svg[role=slider]").first
    heads.focus()
    settle(page)
    before = active()  # what has the focus may choose its cell; a key may not
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert (heads.get_attribute("aria-valuetext") or "").startswith("layer 1, head 1")
    assert active() == before

    # It takes Enter too, which sends a form elsewhere.
    question = page.locator(".mdm-question")
    question.get_by_label("Your number").fill("1.5")
    page.keyboard.press("Enter")
    assert question.get_by_role("status").inner_text() == "Kept. Now look."
    assert question.get_by_label("Your number").is_disabled()

    page.locator(".jp-CodeCell .jp-InputPrompt").first.click()
    page.keyboard.press("Control+s")
    for _ in range(180):
        page.wait_for_timeout(500)  # not time.sleep: requests of the page pass through this process
        if states := stored(path):
            break
    assert 0.415 in [state.get("t") for state in states]
    assert [1, 1] in [[state.get("layer"), state.get("head")] for state in states]
    screenshot(page, "lab-light")

    page = opened(visit, address)
    page.wait_for_selector(".mdm-masking .mdm-slider")
    page.wait_for_selector(".mdm-attention svg[role=slider]")
    settle(page)
    assert counter(page) == "t = 0.415"
    heads = page.locator(".mdm-attention svg[role=slider]").first
    assert (heads.get_attribute("aria-valuetext") or "").startswith("layer 1, head 1")
    assert not visit.elsewhere
    assert [error for error in visit.errors if "mdm" in error.lower()] == []
