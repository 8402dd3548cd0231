"""Pages of the book, and tables in README, that are computed say what would be computed now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

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
    """Of toys with 8 layers: fewer shared edges on both tasks alike, work later, more edges on the global task
    only, and the ARM's circuit doing most of the work."""
    module = script("make_study")
    plan = next(plan for plan in module.plans() if plan.name == "toys")
    results = module.load_results(plan)
    title = plan.groups[0].title
    found = {
        verdict.finding.name: verdict.criteria for verdict in module.verdicts(plan, results) if verdict.group == title
    }
    fewer_local, fewer_global, as_many = found["F1"][0], found["F2"][0], found["F2"][1]
    assert max(fewer_local.high, fewer_global.high) < 0
    assert as_many.low < 0 < as_many.high
    assert found["F3"][0].low > 0
    assert [each.state for each in found["F4"][:2]] == ["met", "open"]
    units = [unit["statistics"] for unit in results["units"] if unit["group"] == title]
    assert min(statistics["cross/mdms"] for statistics in units) > 0.5
