"""The built book in a real browser: it needs no other host, its figures move, its formulas are drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.pages import ROOT, Visit, screenshot, served
from tests.conftest import do_without

PAGES = ROOT / "book" / "_build" / "html"

LESSON = "lessons/00_start_here.html"
NAMES = ["index.html", LESSON, "book/instructor.html", "book/glossary.html", "book/references.html"]
DRAWN = ".widget-subarea > .lm-Widget"  # where the widget manager puts a widget
# What a reader, or a screen reader, gets from a widget. Its slider's own value would change whether it works or not.
SHOWN = """widget => [widget.innerText, ...[...widget.querySelectorAll("*")]
    .filter(element => element.tagName != "INPUT").map(element => element.getAttribute("aria-label"))].join("|")"""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address at which the book is served while the tests run."""
    if not (PAGES / "index.html").is_file():
        do_without("needs the built book: run `make book` first")
    with served(PAGES) as address:
        yield address


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


def test_what_a_cell_displays_as_a_table_is_one(visit: Visit, site: str) -> None:
    """Tables of Markdown in stored outputs, which a stricter reader of Markdown would leave as bars and dashes."""
    page = visit.open(f"{site}/lessons/12_real_checkpoints.html")
    assert page.locator(".cell_output table", has_text="not settled").count() > 0
    assert page.locator(".cell_output p", has_text=re.compile(r"^\s*\||\|:?--")).count() == 0
    visit.check()


def test_a_question_is_no_heading(visit: Visit, site: str) -> None:
    """The book's Bootstrap has rules for the element that holds it."""
    page = visit.open(f"{site}/lessons/01_two_ways_to_model_text.html")
    question = page.locator(".mdm-question legend").first
    question.wait_for()
    size = "element => parseFloat(getComputedStyle(element).fontSize)"
    assert question.evaluate(size) <= page.locator("article p, .bd-article p").first.evaluate(size)
