"""Questions on a static page: answered once, by mouse or keys, marked where there is something right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mdmcourse.widgets.question import Question
from tests.browser.pages import AXE, VENDOR, Visit, contrasts, screenshot, served, write_page
from tests.conftest import do_without

ATTACK = '<img src=x onerror="document.title=1"></script></div>"onload="'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (VENDOR / "embed-amd.js").is_file() or not AXE.is_file():
        do_without("needs the scripts of the book's pages: run `make book` first")
    folder: Path = tmp_path_factory.mktemp("pages")
    questions = [
        Question("Which is written last?", ["a number", "an operator"]),
        Question("What does an MDM see?", ["what stands before", "all else"], right=1, why=["An ARM does.", "Yes."]),
        Question("How much?", unit="nats"),
        Question(ATTACK, [ATTACK, "other"], right=0, why=[ATTACK, "no"]),
    ]
    write_page(folder, "questions", questions)
    with served(folder) as address:
        yield address


def test_a_prediction_can_be_made_once_with_the_keyboard(visit: Visit, site: str) -> None:
    page = visit.open(f"{site}/questions.html")
    page.wait_for_selector(".mdm-question")
    one, two = page.locator(".mdm-question").nth(0), page.locator(".mdm-question").nth(1)
    assert one.get_by_role("button").is_disabled()
    one.get_by_role("radio").nth(0).focus()
    page.keyboard.press("ArrowDown")
    assert one.get_by_role("radio", name="an operator").is_checked()
    assert not two.get_by_role("radio").nth(1).is_checked()  # questions do not share their choices
    page.keyboard.press("Enter")
    assert one.get_by_role("status").inner_text() == "Kept. Now look."
    assert one.get_by_role("radio").nth(0).is_disabled()
    assert one.get_by_role("button").count() == 0
    visit.check()


def test_a_number_is_answered_with_enter(visit: Visit, site: str) -> None:
    page = visit.open(f"{site}/questions.html")
    number = page.locator(".mdm-question").nth(2)
    number.get_by_label("Your number").focus()
    page.keyboard.press("Enter")
    assert number.get_by_role("status").inner_text() == ""  # there is no number yet
    page.keyboard.type("0.5")
    page.keyboard.press("Enter")
    assert number.get_by_role("status").inner_text() == "Kept. Now look."
    visit.check()


def test_an_answer_is_marked_and_explained(visit: Visit, site: str) -> None:
    page = visit.open(f"{site}/questions.html")
    page.wait_for_selector(".mdm-question")
    question = page.locator(".mdm-question").nth(1)
    question.get_by_text("what stands before").click()
    question.get_by_role("button", name="This is my answer").click()
    assert question.get_by_role("status").inner_text() == 'No. Right is: "all else". An ARM does.'
    number = page.locator(".mdm-question").nth(2)
    number.get_by_label("Your number").fill("-2.5")
    number.get_by_role("button").click()
    assert number.get_by_role("status").inner_text() == "Kept. Now look."
    screenshot(page, "widgets-questions")
    visit.check()


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_questions_are_readable_and_hold_text_only(visit: Visit, site: str) -> None:
    page = visit.open(f"{site}/questions.html")
    page.wait_for_selector(".mdm-question")
    attacked = page.locator(".mdm-question").nth(3)
    attacked.get_by_text(ATTACK).nth(1).click()
    attacked.get_by_role("button").click()
    assert attacked.get_by_role("status").inner_text() == f"Right. {ATTACK}"
    assert page.title() == "questions"
    assert page.locator(".mdm-question :is(img, script, [onload], [onerror])").count() == 0
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({include: [['.mdm-widget']]}).then(found => found.violations)")
    assert [(each["id"], [node["html"][:150] for node in each["nodes"]]) for each in found] == []
    assert [each for each in contrasts(page) if each["contrast"] < 4.5] == []
    visit.check()
