"""CircuitViewer on static pages in a real browser, without a kernel: nodes, tabs, themes, widths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Locator, Page

from mdmcourse.circuits import Scores, compare
from mdmcourse.widgets import CircuitViewer
from mdmcourse.widgets.circuits_state import measured_near
from mdmcourse.widgets.packing import unpacked
from tests.browser.examples import GRAPH, made_up
from tests.browser.pages import VENDOR, Visit, screenshot, served, settle, write_page
from tests.conftest import do_without

HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=1</script>'
ROLES = {"ARM": {"a1.h0": "name mover", "m2": HOSTILE}, "MDM": {"a1.h0": "name mover"}}
# What a reader or a screen reader gets from a widget, and what its canvas shows.
SEEN = """widget => [widget.innerText, widget.querySelector("canvas").toDataURL(),
    ...[...widget.querySelectorAll("[aria-label]")].map(element => element.getAttribute("aria-label"))].join("|")"""


def viewer(first: int, k: int, other: str = "other") -> CircuitViewer:
    one, two = made_up(first), made_up(first + 1)
    compared = compare(one, two, ks=[5, 20, 80], bootstrap=4, halvings=2)
    tasks = {"main": {"ARM": one, "MDM": two}, other: {"ARM": two, "MDM": one}}
    return CircuitViewer(tasks, {"main": compared}, k=k, roles={"main": ROLES})


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


def test_a_node_says_its_role_when_it_is_pointed_at_or_focused(visit: Visit, site: str) -> None:
    page, (one, _) = widgets(visit, f"{site}/circuits.html")
    node = one.locator(".mdm-node").nth(GRAPH.sources.index("a1.h0"))
    node.hover()
    settle(page)
    assert one.locator(".mdm-role").all_inner_texts() == ["Role: name mover"]
    page.mouse.move(0, 0)
    settle(page)
    assert one.locator(".mdm-role").count() == 0
    node.focus()
    settle(page)
    assert one.locator(".mdm-role").all_inner_texts() == ["Role: name mover"]
    assert (node.get_attribute("aria-label") or "").endswith(". Role: name mover")
    one.locator(".mdm-node").nth(GRAPH.sources.index("m2")).hover()
    settle(page)
    given, derived = one.locator(".mdm-role").all_inner_texts()
    assert given.startswith("ARM: <img src=x onerror=")
    assert derived.startswith("MDM: ")
    assert page.locator(".mdm-widget img").count() == 0
    one.get_by_role("tab", name="other").click()  # it has no roles
    settle(page)
    one.locator(".mdm-node").nth(GRAPH.sources.index("a1.h0")).hover()
    settle(page)
    assert [text[:5] for text in one.locator(".mdm-role").all_inner_texts()] == ["ARM: ", "MDM: "]
    visit.check()


@pytest.mark.parametrize("name", ["input", "a0.h1", "a2.h3", "m3", "logits"])
def test_without_a_role_the_strongest_edges_speak(visit: Visit, site: str, name: str) -> None:
    page, (_, two) = widgets(visit, f"{site}/circuits.html")
    node = [*GRAPH.sources, "logits"].index(name)
    two.locator(".mdm-node").nth(node).hover()
    settle(page)
    for model, scores, said in zip(
        ("ARM", "MDM"), (made_up(5), made_up(6)), two.locator(".mdm-role").all(), strict=True
    ):
        assert said.inner_text() == f"{model}: {expected_role(scores, node)}"


def expected_role(scores: Scores, node: int) -> str:
    """From the whole matrix: rank, what is read most, and what reads most."""
    size = scores.values.abs()
    last = node == GRAPH.n_sources
    every = torch.arange(GRAPH.n_sources)
    own = [GRAPH.readers_of(every == each, logits=False) for each in range(GRAPH.n_sources)]
    own.append(GRAPH.readers_of(every < 0))
    parts = []
    if node and not last:
        all_of = [float(size[each].sum() + size[:, own[each]].sum()) for each in range(1, GRAPH.n_sources)]
        rank = 1 + sum(each > all_of[node - 1] for each in all_of)
        ending = {1: "st", 2: "nd", 3: "rd"}.get(rank % 10 if rank // 10 != 1 else 0, "th")
        parts.append(f"{rank}{ending} of {len(all_of)} heads and MLPs in size")
    if node:
        read = size * own[node]
        source, reader = divmod(int(read.argmax()), GRAPH.n_readers)
        part = re.search("<(.)>", GRAPH.readers[reader])
        through = f" through {part[1]}" if part else ""
        share = 100 * read.max() / read.sum()
        parts.append(f"reads most from {GRAPH.sources[source]}{through} ({share:.0f} %)")
    if not last:
        reader, share = int(size[node].argmax()), 100 * size[node].max() / size[node].sum()
        parts.append(f"is read most by {GRAPH.readers[reader]} ({share:.0f} %)")
    return "; ".join(parts)


def test_tabs_and_toggles_answer_to_keys(visit: Visit, site: str) -> None:
    page, (one, two) = widgets(visit, f"{site}/circuits.html")
    (measured,) = measured_near(unpacked(viewer(1, 20).tasks[0]), ["ARM", "MDM"], 20)
    assert measured in one.inner_text()  # the still picture says the same
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
