"""Pages of the book, and tables in README, that are computed say what would be computed now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from mdmcourse.study.verdicts import judge_criterion

BOOK = Path(__file__).parents[1] / "book"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BOOK / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_on_large_models_is_up_to_date() -> None:
    module = script("make_large_models")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run book/make_large_models.py"


def test_what_studies_found_stands_in_the_book_and_in_readme() -> None:
    module = script("make_study")
    assert module.plans()
    for plan in module.plans():
        page = BOOK / f"study_{plan.name}.md"
        assert page.read_text(encoding="utf-8") == module.page(plan), "run book/make_study.py"
    text = module.README.read_text(encoding="utf-8")
    assert text == module.readme(text), "run book/make_study.py"


def test_readme_says_in_words_what_the_criteria_say() -> None:
    """Of toys with 8 layers: fewer shared edges on both tasks alike, work later, the ARM's circuit doing most of the
    work; more edges on the global task by three ARMs, and open by five."""
    module = script("make_study")
    plan = next(plan for plan in module.plans() if plan.name == "toys")
    results = module.load_results(plan)
    title = plan.groups[0].title
    found = {(verdict.group, verdict.finding.name): verdict.criteria for verdict in module.verdicts(plan, results)}
    fewer_local, fewer_global, as_many = found[title, "F1"][0], *found[title, "F2"][:2]
    assert max(fewer_local.high, fewer_global.high) < 0
    assert as_many.low < 0 < as_many.high
    assert found[title, "F3"][0].low > 0
    units = [unit for unit in results["units"] if unit["group"] == title]
    assert min(unit["statistics"]["cross/mdms"] for unit in units) > 0.5
    more_edges = found[title, "F4"][0]
    assert len(more_edges.each) == 5
    assert more_edges.state == "open"
    assert judge_criterion(more_edges.criterion, [unit for unit in units if unit["seed"] < 3]).state == "met"
    never_saw = next(group.title for group in plan.groups if group.pair == "toy-countdown-new")
    no_fewer = found[never_saw, "F2"][0]
    assert no_fewer.low < 0 < no_fewer.high


def test_readme_says_in_words_what_was_found_of_smollm2() -> None:
    """Work later on the global task, over more edges on both."""
    module = script("make_study")
    plan = next(plan for plan in module.plans() if plan.name == "smollm2")
    local, global_ = (group.title for group in plan.groups)
    found = {
        (verdict.group, verdict.finding.name): verdict.criteria
        for verdict in module.verdicts(plan, module.load_results(plan))
    }
    assert min(judged.low for judged in found[global_, "F3"]) > 0
    assert found[global_, "F4"][0].state == found[local, "F4"][1].state == "met"


def test_the_map_leads_to_every_lesson() -> None:
    """And calls none that is there one in the making; so do the table in README and the table of contents."""
    names = {path.name[:2]: path.stem for path in sorted((BOOK.parent / "lessons").glob("[0-9][0-9]_*.ipynb"))}
    for page in (BOOK / "index.md", BOOK.parent / "README.md", BOOK / "_toc.yml"):
        text = page.read_text(encoding="utf-8")
        for number, name in names.items():
            assert f"lessons/{name}" in text, (page.name, name)
            assert not re.search(rf"^\| \[?{number}\]?.*in the making", text, re.MULTILINE), (page.name, number)
    assert not [number for number in names if f"*{number}*" in (BOOK / "instructor.md").read_text(encoding="utf-8")]


def test_readme_says_of_smollm2_what_was_measured() -> None:
    """Work later on the global task, more edges on both; the ARM's local circuit works in the MDMs, and differs."""
    module = script("make_study")
    plan = next(plan for plan in module.plans() if plan.name == "smollm2")
    results = module.load_results(plan)
    untaught, taught = (group.title for group in plan.groups)
    found = {(verdict.group, verdict.finding.name): verdict.criteria for verdict in module.verdicts(plan, results)}
    assert found[taught, "F3"][0].low > 0
    assert found[taught, "F4"][0].state == found[untaught, "F4"][1].state == "met"
    fewer, works = found[untaught, "F1"]
    assert (fewer.state, works.state) == ("contradicted", "met")
    ioi = next(unit["statistics"] for unit in results["units"] if unit["task"] == "ioi")
    assert min(ioi["cross/mdm"], ioi["cross/mdm-second-seed"]) > 0.95
