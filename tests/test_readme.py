"""What README shows of the package runs, and gives what README says that it gives."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from mdmcourse.models import is_fetched

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code: str, space: dict[str, Any]) -> int:
    """Run line by line what can be run so; compare with what a comment promises. Returns how many were compared."""
    promised, lines = 0, code.splitlines()
    for statement in ast.parse(code).body:
        comment = re.search(r"# (\[.*\])$", lines[(statement.end_lineno or 1) - 1])
        source = ast.unparse(statement)
        if isinstance(statement, ast.Expr):
            found = eval(source, space)
            if comment:
                assert found == ast.literal_eval(comment[1]), source
                promised += 1
        else:
            exec(source, space)
    return promised


@pytest.mark.timeout(300)
def test_the_code_in_readme_does_what_it_says():
    assert len(BLOCKS) == 2
    first, second = BLOCKS
    toys, real = first.split("\nreal = ")
    space: dict[str, Any] = {}
    assert run(toys, space) == 2
    run(second, space)
    assert abs(space["arm"].integration_error) < 0.15
    assert abs(space["mdm"].integration_error) < 0.15
    if is_fetched("smollm2-135m"):
        assert run("real = " + real, space) == 1
