"""Fixtures for all tests. Those that need something heavy skip, and say how to have it.

MDMCOURSE_REQUIRE_ALL=1 turns such a skip into a failure: a full run has to be full.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import torch

MARKED = {"smollm2": "smollm2", "chromium": "browser"}  # fixture -> marker of every test that uses it


def pytest_configure() -> None:
    torch.set_num_threads(1)  # the models are tiny: threads would only wait for one another


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Processes share out files, whose tests share what is costly to make; and whole lessons, which are long."""
    from xdist.scheduler import LoadFileScheduling

    class Sharing(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "test_filled" in nodeid else super()._split_scope(nodeid)

    return Sharing(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in MARKED.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKED[name])


def do_without(message: str) -> None:
    """Skip the test, or fail it where everything is required."""
    if os.environ.get("MDMCOURSE_REQUIRE_ALL") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The toys' tokenizer."""
    from mdmcourse.tasks.vocabulary import toy_tokenizer

    return toy_tokenizer()


@pytest.fixture(scope="session")
def smollm2() -> Any:
    """The real SmolLM2-135M, an ARM. It is never fetched here."""
    from mdmcourse.models import is_fetched, load

    if not is_fetched("smollm2-135m"):
        do_without("needs SmolLM2-135M: run `mdmcourse fetch smollm2-135m`")
    return load("smollm2-135m", progress=False)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium browser."""
    chosen = os.environ.get("CHROMIUM")
    names = [chosen] if chosen else ["chromium", "chromium-browser", "google-chrome", "chrome"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        do_without(
            f"needs a Chromium browser, found none as {', '.join(names)}: set CHROMIUM=/path/to/chromium"
            " (on Debian: `apt-get install chromium`)"
        )
    return str(path)
