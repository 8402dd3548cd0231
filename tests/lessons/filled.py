"""A lesson as one has it who did every exercise as the course does."""

from __future__ import annotations

import ast
import inspect

import nbformat

from mdmcourse.exercises.catalogue import find
from mdmcourse.exercises.help import without_annotations


def exercise_in(source: str) -> str | None:
    """The name of the exercise that a cell asks for, if it asks for one."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a cell with a line of IPython's own
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and "exercise" in [ast.unparse(each) for each in node.decorator_list]:
            return node.name
    return None


def answer(name: str) -> str:
    """The course's answer as a cell, as solution() shows it."""
    return f"@exercise\n{without_annotations(inspect.getsource(find(name).reference))}"


def filled(lesson: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with the answers in it."""
    lesson = nbformat.from_dict(dict(lesson))
    for cell in lesson.cells:
        if cell.cell_type == "code" and (name := exercise_in(cell.source)):
            cell.source = answer(name)
    return lesson
