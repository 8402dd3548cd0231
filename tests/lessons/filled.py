"""A lesson as one has it who did every exercise as the course does."""

from __future__ import annotations

import ast
import inspect
import textwrap

import nbformat

from mdmcourse.exercises.catalogue import find


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
    """The course's answer as a cell, without annotations: their names are not imported in a lesson."""
    function = ast.parse(textwrap.dedent(inspect.getsource(find(name).reference))).body[0]
    assert isinstance(function, ast.FunctionDef)
    function.returns = None
    for each in (*function.args.args, *function.args.kwonlyargs):
        each.annotation = None
    return f"@exercise\n{ast.unparse(function)}\n"


def filled(lesson: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with the answers in it."""
    lesson = nbformat.from_dict(dict(lesson))
    for cell in lesson.cells:
        if cell.cell_type == "code" and (name := exercise_in(cell.source)):
            cell.source = answer(name)
    return lesson
