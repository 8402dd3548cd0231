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
