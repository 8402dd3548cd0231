"""The built book in a real browser: it needs no other host, its figures move, its formulas are drawn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.conftest import do_without

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "book" / "_build" / "html"
SCREENSHOTS = ROOT / "tests" / "screenshots"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

LESSON = "lessons/00_start_here.html"
NAMES = ["index.html", LESSON, "book/instructor.html", "book/glossary.html", "book/references.html"]
DRAWN = ".widget-subarea > .lm-Widget"  # where the widget manager puts a widget
# What a reader, or a screen reader, gets from a widget. Its slider's own value would change whether it works or not.
SHOWN = """widget => [widget.innerText, ...[...widget.querySelectorAll("*")]
    .filter(element => element.tagName != "INPUT").map(element => element.getAttribute("aria-label"))].join("|")"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address at which the book is served while the tests run."""
    if not (PAGES / "index.html").is_file():
        do_without("needs the built book: run `make book` first")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(PAGES))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page, and what went wrong while it was open."""

    page: Page
    elsewhere: list[str] = field(default_factory=list)  # requests to other hosts, all refused
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.route("**/*", self._only_loopback)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def _only_loopback(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.hostname == "127.0.0.1" or url.scheme in ("data", "blob"):
            route.continue_()
        else:
            self.elsewhere.append(route.request.url)
            route.abort()

    def open(self, url: str) -> Page:
        self.page.goto(url)
        self.page.wait_for_selector("article h1")  # index.html leads to another page
        self.page.wait_for_load_state("networkidle")
        self.check()
        return self.page

    def check(self) -> None:
        assert not self.elsewhere, f"asks other hosts for {self.elsewhere}"
        assert not self.errors, self.errors


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Visit]:
    """A fresh browser profile, of a reader with a light theme unless the test says otherwise."""
    scheme = getattr(request, "param", "light")
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(100_000)  # ms: enough for a machine that is busy with something else
    yield Visit(context.new_page())
    context.close()


def screenshot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
@pytest.mark.parametrize("name", NAMES)
def test_a_page_needs_no_other_host(visit: Visit, site: str, name: str) -> None:
    page = visit.open(f"{site}/{name}")
    if page.locator(".math").count():
        page.wait_for_selector("mjx-container svg")
        assert page.locator(".math").count() == page.locator(".math mjx-container").count()
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    screenshot(page, f"book-{Path(name).stem}-{'dark' if dark else 'light'}")
    visit.check()


def test_the_widgets_of_a_lesson_are_alive(visit: Visit, site: str) -> None:
    page = visit.open(f"{site}/{LESSON}")
    widget = page.locator(f"{DRAWN}:has(input[type=range])").first
    widget.wait_for()
    slider = widget.locator("input[type=range]").first
    before = widget.evaluate(SHOWN)
    key = "ArrowLeft" if slider.evaluate("slider => slider.value == slider.max") else "ArrowRight"
    slider.press(key)
    page.wait_for_function(f"([widget, before]) => ({SHOWN})(widget) != before", arg=[widget.element_handle(), before])
    visit.check()


def test_every_stored_widget_is_drawn(visit: Visit, site: str) -> None:
    page = visit.open(f"{site}/{LESSON}")
    views = page.locator("script[type='application/vnd.jupyter.widget-view+json']").count()
    assert views > 0
    page.wait_for_function(
        """([drawn, views]) =>
        [...document.querySelectorAll(drawn)].filter(widget => widget.childElementCount).length == views""",
        arg=[DRAWN, views],
    )
    visit.check()


def test_every_figure_of_a_lesson_is_described(visit: Visit, site: str) -> None:
    page = visit.open(f"{site}/{LESSON}")
    alts = page.locator(".cell_output img").evaluate_all("images => images.map(image => image.alt)")
    assert all(len(alt.split()) > 2 for alt in alts), f"a figure without a description: {alts}"
