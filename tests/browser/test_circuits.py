"""CircuitViewer on static pages in a real browser, without a kernel: nodes, tabs, themes, widths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page

from mdmcourse.circuits import compare
from mdmcourse.widgets import CircuitViewer
from tests.browser.examples import GRAPH, made_up
from tests.browser.pages import VENDOR, Visit, screenshot, served, settle, write_page
from tests.conftest import do_without

HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=1</script>'
# What a reader or a screen reader gets from a widget, and what its canvas shows.
SEEN = """widget => [widget.innerText, widget.querySelector("canvas").toDataURL(),
    ...[...widget.querySelectorAll("[aria-label]")].map(element => element.getAttribute("aria-label"))].join("|")"""


def viewer(first: int, k: int, other: str = "other") -> CircuitViewer:
    one, two = made_up(first), made_up(first + 1)
    compared = compare(one, two, ks=[5, 20, 80], bootstrap=4, halvings=2)
    return CircuitViewer({"main": {"ARM": one, "MDM": two}, other: {"ARM": two, "MDM": one}}, {"main": compared}, k=k)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Pages with circuits, served while the tests run."""
    if not (VENDOR / "embed-amd.js").is_file():
        do_without("needs the scripts of the book's pages: run `make book` first")
    folder: Path = tmp_path_factory.mktemp("pages")
    write_page(folder, "circuits", [viewer(1, 20), viewer(5, 20)])
    write_page(folder, "dark", [viewer(1, 60)], theme="dark")
    write_page(folder, "hostile", [viewer(1, 20, HOSTILE)])
    with served(folder) as address:
        yield address


def widgets(visit: Visit, address: str) -> tuple[Page, list[Locator]]:
    page = visit.open(address)
    page.wait_for_selector(".mdm-node")
    found = page.locator(".mdm-widget").all()
    settle(page)
    return page, found


def test_two_viewers_are_drawn_and_do_not_disturb_each_other(visit: Visit, site: str) -> None:
    page, (one, two) = widgets(visit, f"{site}/circuits.html")
    assert one.locator(".mdm-node").count() == GRAPH.n_sources + 1
    before, other = one.evaluate(SEEN), two.evaluate(SEEN)
    one.locator("input[type=range]").press("ArrowRight")
    settle(page)
    after = one.evaluate(SEEN)
    assert after != before
    assert "K = 21" in one.inner_text()
    one.locator(".mdm-node").nth(2).hover()
    settle(page)
    assert one.evaluate(SEEN) != after
    assert "head 1 of layer 0" in one.inner_text()
    assert two.evaluate(SEEN) == other
    screenshot(page, "widgets-circuits")
    visit.check()


def test_a_click_chooses_a_node_and_escape_lets_go(visit: Visit, site: str) -> None:
    page, (one, _) = widgets(visit, f"{site}/circuits.html")
    one.locator(".mdm-node").nth(2).click()
    page.mouse.move(0, 0)
    settle(page)
    assert "head 1 of layer 0" in one.inner_text()
    page.keyboard.press("Escape")
    settle(page)
    assert "Point at a node" in one.inner_text()


def test_arrow_keys_walk_over_the_nodes(visit: Visit, site: str) -> None:
    page, (one, _) = widgets(visit, f"{site}/circuits.html")
    assert one.locator(".mdm-node[tabindex='0']").count() == 1
    one.locator(".mdm-node[tabindex='0']").focus()
    path = []
    for key in ("ArrowUp", "Home", "ArrowRight", "ArrowUp", "End", "ArrowDown", "ArrowLeft", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
        path.append(page.evaluate("document.activeElement.getAttribute('aria-label').split(/[:,]/)[0]"))
    assert path == ["a0.h1", "a0.h0", "a0.h1", "a1.h1", "m1", "m0", "a0.h3", "input", "input"]
    settle(page)
    assert "input: the embedding" in one.inner_text()
    assert one.locator(".mdm-node[tabindex='0']").count() == 1
    visit.check()


def test_tabs_and_toggles_answer_to_keys(visit: Visit, site: str) -> None:
    page, (one, two) = widgets(visit, f"{site}/circuits.html")
    assert "Measured at K = 20" in one.inner_text()
    one.get_by_role("tab", name="main").press("ArrowRight")
    settle(page)
    assert one.get_by_role("tab", name="other").get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.textContent") == "other"
    assert "Measured at" not in one.inner_text()  # it has no comparison
    assert two.get_by_role("tab", name="main").get_attribute("aria-selected") == "true"
    before = one.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    lost = one.get_by_role("button", name="lost")
    lost.press("Space")
    settle(page)
    assert lost.get_attribute("aria-pressed") == "false"
    assert one.locator("canvas").evaluate("canvas => canvas.toDataURL()") != before
    visit.check()


def test_what_changes_is_said_to_a_screen_reader(visit: Visit, site: str) -> None:
    page, (one, _) = widgets(visit, f"{site}/circuits.html")
    slider = one.locator("input[type=range]")
    slider.press("Home")
    page.wait_for_function("document.querySelector('[aria-live]').textContent.includes('of 1 edges')")
    assert slider.get_attribute("aria-valuetext") == "1 edges"


def test_a_narrow_page_needs_no_sideways_scrolling(visit: Visit, site: str) -> None:
    visit.page.set_viewport_size({"width": 360, "height": 800})
    page, (one, _) = widgets(visit, f"{site}/circuits.html")
    assert page.evaluate("document.documentElement.scrollWidth <= 360")
    assert one.locator(".mdm-frame").evaluate("frame => frame.scrollWidth <= frame.clientWidth")
    screenshot(page, "widgets-circuits-narrow")
    page.set_viewport_size({"width": 1000, "height": 800})
    page.wait_for_function("document.querySelector('.mdm-stage').clientWidth > 500")
    visit.check()


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_the_page_s_theme_comes_before_the_reader_s(visit: Visit, site: str) -> None:
    page, (one,) = widgets(visit, f"{site}/dark.html")
    assert one.evaluate("widget => getComputedStyle(widget).backgroundColor") == "rgb(22, 25, 29)"
    before = one.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    settle(page)
    assert one.evaluate("widget => getComputedStyle(widget).backgroundColor") == "rgb(255, 255, 255)"
    assert one.locator("canvas").evaluate("canvas => canvas.toDataURL()") != before
    visit.check()


def test_hostile_titles_are_text(visit: Visit, site: str) -> None:
    page, (one,) = widgets(visit, f"{site}/hostile.html")
    one.get_by_role("tab").nth(1).click()
    settle(page)
    assert one.get_by_role("tab").nth(1).inner_text() == HOSTILE
    assert page.title() == "hostile"
    assert page.locator(".mdm-widget img").count() == 0
    visit.check()
