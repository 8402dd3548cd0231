"""What holds for every widget: moved by mouse and keys, heard, readable, undisturbed by others and by any text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page

from tests.browser.examples import examples
from tests.browser.pages import AXE, VENDOR, Visit, contrasts, screenshot, served, settle, write_page
from tests.conftest import do_without
from tests.hostile import HOSTILE

NAMES = ["masking", "unmasking", "attention", "lens", "patching", "circuits", "shift"]
ATTACK = '<img src=x onerror="document.title=1"></script></div><script>document.title=1</script>"onload="'
# What a reader or a screen reader gets from a widget, and what its canvases show.
SEEN = """widget => [widget.innerText, ...[...widget.querySelectorAll("canvas")].map(canvas => canvas.toDataURL()),
    ...["aria-label", "aria-valuetext", "aria-checked", "aria-selected", "style", "class", "cx"].flatMap(name =>
        [...widget.querySelectorAll(`[${name}]`)].map(element => element.getAttribute(name)))].join("|")"""


def drag(widget: Locator) -> None:
    """The slider, to near its end."""
    box = widget.locator("input[type=range]:visible").first.bounding_box()
    assert box
    widget.page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)


def click_map(widget: Locator) -> None:
    """A cell of the first map, half-way up at the right."""
    target = widget.locator("svg[role=slider]").first
    box = target.bounding_box()
    assert box
    target.click(position={"x": box["width"] - 30, "y": box["height"] / 2})


KEYS: dict[str, tuple[str, str]] = {  # name -> what gets the focus, and a key that changes something
    "masking": ("input[type=range]", "ArrowRight"),
    "unmasking": ("input[type=range]", "ArrowRight"),
    "attention": ("svg[role=slider]", "ArrowUp"),
    "lens": ("svg[role=slider]", "ArrowLeft"),
    "patching": ("svg[role=slider]", "ArrowUp"),
    "circuits": ("input[type=range]", "ArrowRight"),
    "shift": ("input[type=range]", "ArrowLeft"),
}
MOUSE: dict[str, Callable[[Locator], None]] = {
    "masking": drag,
    "unmasking": lambda widget: widget.locator("button.mdm-token").nth(1).click(),
    "attention": click_map,
    "lens": click_map,
    "patching": click_map,
    "circuits": drag,
    "shift": drag,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two of each widget on a page of their own, all on one page, and all with texts that attack."""
    if not (VENDOR / "embed-amd.js").is_file() or not AXE.is_file():
        do_without("needs the scripts of the book's pages: run `make book` first")
    folder: Path = tmp_path_factory.mktemp("pages")
    first, second = examples(), examples()
    for name in NAMES:
        write_page(folder, name, [first[name], second[name]])
    write_page(folder, "all", list(first.values()))
    write_page(folder, "attack", list(examples(ATTACK).values()))
    for number, text in enumerate(HOSTILE):
        if text:
            write_page(folder, f"hostile-{number}", list(examples(text).values()))
    with served(folder) as address:
        yield address


def drawn(visit: Visit, address: str, count: int) -> tuple[Page, list[Locator]]:
    page = visit.open(address)
    page.wait_for_function("count => document.querySelectorAll('.mdm-widget').length === count", arg=count)
    settle(page)
    visit.check()
    return page, page.locator(".mdm-widget").all()


@pytest.mark.parametrize("name", NAMES)
def test_mouse_and_keys_move_one_of_two(visit: Visit, site: str, name: str) -> None:
    page, (one, two) = drawn(visit, f"{site}/{name}.html", 2)
    before, other = one.evaluate(SEEN), two.evaluate(SEEN)
    assert before == other
    selector, key = KEYS[name]
    target = one.locator(selector).first
    value = target.get_attribute("aria-valuetext")
    target.focus()
    page.keyboard.press(key)
    settle(page)
    after = one.evaluate(SEEN)
    assert after != before
    assert target.get_attribute("aria-valuetext") != value
    # A screen reader is told once the hand rests.
    page.wait_for_function("widget => widget.querySelector('[aria-live]').textContent", arg=one.element_handle())
    after = one.evaluate(SEEN)
    MOUSE[name](one)
    page.mouse.move(0, 0)
    settle(page)
    assert one.evaluate(SEEN) != after
    assert two.evaluate(SEEN) == other
    page.set_viewport_size({"width": 360, "height": 800})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.check()


@pytest.mark.parametrize("name", ["attention", "lens", "patching"])
def test_keys_may_come_faster_than_frames(visit: Visit, site: str, name: str) -> None:
    """Held down, or on a busy machine, several come before anything is drawn: none of them may be lost."""
    page, (one, two) = drawn(visit, f"{site}/{name}.html", 2)
    keys, press = ["Home", "PageDown", "ArrowUp", "ArrowRight"], "key => new KeyboardEvent('keydown', { key })"
    start = one.evaluate(SEEN)
    for key in keys:
        two.locator("svg[role=slider]").first.evaluate(f"(map, key) => map.dispatchEvent(({press})(key))", key)
        settle(page)
    one.locator("svg[role=slider]").first.evaluate(
        f"(map, keys) => keys.forEach(key => map.dispatchEvent(({press})(key)))", keys
    )
    settle(page)
    assert one.evaluate(SEEN) == two.evaluate(SEEN) != start
    visit.check()


@pytest.mark.parametrize("name", ["unmasking", "attention", "lens", "patching", "circuits"])
def test_what_lies_below_stays_where_it_is(visit: Visit, site: str, name: str) -> None:
    """A panel that tells of what is pointed at grows with its text, and does not shrink again."""
    visit.page.set_viewport_size({"width": 420, "height": 900})
    page, (widget, _) = drawn(visit, f"{site}/{name}.html", 2)
    selectors = {"circuits": ".mdm-node[tabindex='0']", "unmasking": "button.mdm-token"}
    widget.locator(selectors.get(name, "svg[role=slider]")).first.focus()
    heights, texts = [], set()
    for key in 4 * ["ArrowRight", "ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft", "Escape"]:
        page.keyboard.press(key)
        settle(page)
        heights.append(widget.evaluate("widget => widget.offsetHeight"))
        texts.add(widget.inner_text())
    assert len(texts) > 2
    assert heights == sorted(heights)


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_nothing_is_hard_to_read_or_without_a_name(visit: Visit, site: str) -> None:
    visit.page.set_viewport_size({"width": 1100, "height": 7000})  # what is out of view cannot be looked behind
    page, widgets = drawn(visit, f"{site}/all.html", len(NAMES))
    widgets[NAMES.index("unmasking")].locator("input[type=range]").press("End")
    settle(page)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({include: [['.mdm-widget']]}).then(found => found.violations)")
    assert [(each["id"], [node["html"][:150] for node in each["nodes"]]) for each in found] == []
    texts = contrasts(page)
    assert len(texts) > 200
    assert [(each["text"], each["contrast"]) for each in texts if each["contrast"] < 4.5] == []
    visit.check()


def test_a_text_that_attacks_is_shown_and_does_nothing(visit: Visit, site: str) -> None:
    page, widgets = drawn(visit, f"{site}/attack.html", len(NAMES))
    for name, widget in zip(NAMES, widgets, strict=True):
        selector, key = KEYS[name]
        widget.locator(selector).first.press(key)
        assert re.search("<img.src=x", widget.text_content() or ""), name
    settle(page)
    assert page.title() == "attack"
    assert page.locator(".mdm-widget :is(img, script, iframe, [onload], [onerror])").count() == 0
    visit.check()


@pytest.mark.parametrize("number", [number for number, text in enumerate(HOSTILE) if text])
def test_no_text_changes_anything(visit: Visit, site: str, number: int) -> None:
    page, widgets = drawn(visit, f"{site}/hostile-{number}.html", len(NAMES))
    for name, widget in zip(NAMES, widgets, strict=True):
        selector, key = KEYS[name]
        before = widget.evaluate(SEEN)
        widget.locator(selector).first.press(key)
        settle(page)
        assert widget.evaluate(SEEN) != before, name
    assert page.title() == f"hostile-{number}"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.check()


def test_tokens_run_in_their_own_direction(visit: Visit, site: str) -> None:
    """Where most letters run from right to left the line does, and the arrow keys with it."""
    arabic = HOSTILE.index("مرحبا")
    page, widgets = drawn(visit, f"{site}/hostile-{arabic}.html", len(NAMES))
    player = widgets[NAMES.index("unmasking")]
    places = [box.bounding_box() for box in player.locator(".mdm-run").first.locator("button").all()]
    assert all(one and two and one["x"] > two["x"] for one, two in pairwise(places))
    player.locator("button.mdm-token").nth(1).focus()
    page.keyboard.press("ArrowLeft")
    assert player.locator("button.mdm-token").nth(2).evaluate("button => button === document.activeElement")
    _, widgets = drawn(visit, f"{site}/all.html", len(NAMES))
    assert widgets[NAMES.index("unmasking")].locator(".mdm-line").first.get_attribute("dir") == "ltr"


def test_a_player_plays_and_stops_by_itself(visit: Visit, site: str) -> None:
    page, (one, _) = drawn(visit, f"{site}/unmasking.html", 2)
    one.locator("select").select_option("4×")
    one.get_by_role("button", name="Play").click()
    one.get_by_role("button", name="Pause").wait_for()
    page.wait_for_function("widget => widget.innerText.includes('5 of 5')", arg=one.element_handle())
    one.get_by_role("button", name="Play").wait_for()
    tokens = one.locator(".mdm-run").nth(1).locator("button")
    tokens.nth(2).focus()
    settle(page)
    assert "hidden again in step 3" in one.locator(".mdm-about").inner_text()
    assert "It thought of" in one.locator(".mdm-about").inner_text()
    page.keyboard.press("Escape")
    settle(page)
    assert "Point at a token" in one.locator(".mdm-about").inner_text()
    slider = one.locator("input[type=range]")
    slider.press("Home")
    for _ in range(3):
        slider.press("ArrowRight")
    settle(page)
    assert "mdm-again" in (tokens.nth(2).get_attribute("class") or "")
    screenshot(page, "widgets-unmasking")
    visit.check()


def test_the_measure_that_is_chosen_is_said(visit: Visit, site: str) -> None:
    page, (one, _) = drawn(visit, f"{site}/lens.html", 2)
    one.locator("select").select_option(index=1)
    for measure in ("rank", "probability"):
        one.get_by_role("radio", name=measure).click()
        said = f"widget => widget.querySelector('[aria-live]').textContent.startsWith('By {measure}: ')"
        page.wait_for_function(said, arg=one.element_handle())
    visit.check()
