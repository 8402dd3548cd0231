"""Pages of the book that a program writes say what it would write today."""

from __future__ import annotations

import importlib.util
from pathlib import Path

BOOK = Path(__file__).parent.parent / "book"


def test_the_page_on_large_models_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_large_models", BOOK / "make_large_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run book/make_large_models.py"
