"""What a learner gets back and reads, whatever they write; and that nothing they write hangs or spoils what follows."""

from __future__ import annotations

import ast
import inspect
import json
import threading
import time
from functools import partial
from typing import Any

import pytest
import torch

from mdmcourse.errors import UnknownNameError
from mdmcourse.exercises import credit, exercise, hint, progress, solution
from mdmcourse.exercises.answers import lesson02 as answers
from mdmcourse.exercises.catalogue import exercises
from mdmcourse.exercises.checks.lesson02 import FORWARD_MASK
from mdmcourse.exercises.exercise import Exercise, ExerciseError, check
from mdmcourse.exercises.limits import TimeUp, undisturbed, within


def right(x: Any, t: Any, mask_id: int) -> Any:
    return torch.where(torch.rand(x.shape) < t[:, None], mask_id, x)


def called(answer: Any) -> Any:
    answer.__name__ = "forward_mask"
    return answer


def test_a_right_answer_is_used(capsys: pytest.CaptureFixture[str]):
    answer = called(right)
    assert exercise(answer) is answer
    assert capsys.readouterr().out == "✓ forward_mask: right. Your function is used from here on.\n"
    assert credit(answer) == ""


def test_what_is_not_attempted_is_to_do_and_the_course_goes_on(capsys: pytest.CaptureFixture[str]):
    @exercise
    def forward_mask(x: Any, t: Any, mask_id: int) -> Any:
        raise NotImplementedError

    said = capsys.readouterr().out
    assert said.startswith("○ forward_mask: to do, about 8 minutes.")
    assert said.count("\n") == 1
    assert forward_mask(torch.tensor([[5, 6]]), torch.ones(1), 0).tolist() == [[0, 0]]
    assert credit(forward_mask) == "drawn with the course's own forward_mask"
    assert progress("02").rows[0]["attempts"] == 0


def test_what_is_optional_is_said_to_be(capsys: pytest.CaptureFixture[str]):
    @exercise
    def bound_by_count(*anything: Any) -> Any:
        raise NotImplementedError

    assert capsys.readouterr().out.startswith("○ bound_by_count: optional, about 15 minutes.")


def test_a_wrong_answer_is_told_what_does_not_hold_and_why(capsys: pytest.CaptureFixture[str]):
    @exercise
    def forward_mask(x: Any, t: Any, mask_id: int) -> Any:
        print("in here")
        x[torch.rand(x.shape) < t[:, None]] = mask_id
        return x

    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("✗ forward_mask: not yet. The course's own answer stands in")
    assert said[1] == "  What does not hold: the input is not changed."
    assert "200 tokens of x were others afterwards" in said[2]
    assert "torch.where" in said[3]
    assert said[-3:] == ["  While it was checked it printed:", "    in here", "    in here"]
    assert credit(forward_mask)


def test_of_much_that_is_printed_the_beginning_is_shown(capsys: pytest.CaptureFixture[str]):
    @exercise
    def forward_mask(x: Any, t: Any, mask_id: int) -> Any:
        print(*range(50), sep="\n")
        return x

    said = capsys.readouterr().out.splitlines()
    assert said[-6:] == ["  While it was checked it printed, among other lines:", *(f"    {n}" for n in range(5))]


def in_a_notebook(text: str, **names: Any) -> dict[str, Any]:
    """A cell of its own, with what earlier cells left."""
    names |= {"exercise": exercise, "torch": torch}
    exec(compile(text, "a cell", "exec"), names)
    return names


@pytest.mark.parametrize("earlier", [{}, {"forward_mask": lambda x, t, mask_id: x}], ids=["first try", "again"])
def test_an_answer_that_calls_itself_is_not_helped_by_the_one_that_stands_in(earlier: Any, capsys: Any):
    names = in_a_notebook(
        "@exercise\ndef forward_mask(x, t, mask_id):\n    return forward_mask(x, t, mask_id)", **earlier
    )
    said = capsys.readouterr().out
    assert said.startswith("✗ forward_mask")
    assert "RecursionError" in said
    assert credit(names["forward_mask"])
    right = """
@exercise
def forward_mask(x, t, mask_id, again=True):
    if again:
        return forward_mask(x, t, mask_id, again=False)
    return torch.where(torch.rand(x.shape) < t[:, None], mask_id, x)
"""
    names = in_a_notebook(right, **earlier)
    assert capsys.readouterr().out.startswith("✓ forward_mask")
    assert not credit(names["forward_mask"])


def test_a_forgotten_return_is_told(capsys: pytest.CaptureFixture[str]):
    @exercise
    def forward_mask(x: Any, t: Any, mask_id: int) -> Any:
        torch.where(torch.rand(x.shape) < t[:, None], mask_id, x)

    said = capsys.readouterr().out
    assert "Seen: it gave None." in said
    assert "Is `return` missing" in said


def test_arguments_that_were_left_out_are_told(capsys: pytest.CaptureFixture[str]):
    @exercise
    def forward_mask(x: Any) -> Any:
        return x

    said = capsys.readouterr().out
    assert "What does not hold: it takes the arguments that the exercise names." in said
    assert "takes 1 positional argument but 3 were given" in said


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (lambda x, t, mask_id: x[0, 99999], "IndexError"),
        (lambda x, t, mask_id: None, "it gave None"),
        (lambda x: x, "TypeError"),
        (lambda x, t, mask_id: 1 / 0, "in the line `(lambda x, t, mask_id: 1 / 0"),
        (lambda x, t, mask_id: "tokens", "a str"),
        (lambda x, t, mask_id: ..., "a ellipsis"),
    ],
)
def test_what_raises_or_returns_something_else_is_told(body: Any, seen: str):
    verdict = check(FORWARD_MASK, body)
    assert verdict.state == "wrong"
    assert seen in verdict.seen


@pytest.mark.parametrize("leave", [exit, lambda: (_ for _ in ()).throw(SystemExit(0))], ids=["exit", "SystemExit"])
def test_to_leave_python_is_wrong_like_any_other_error(leave: Any):
    verdict = check(FORWARD_MASK, lambda x, t, mask_id: leave())
    assert verdict.state == "wrong"
    assert "SystemExit" in verdict.seen


def test_what_torch_has_not_implemented_is_not_to_do():
    def forward_mask(x: Any, t: Any, mask_id: int) -> Any:
        return torch.arange(5).softmax(0)

    verdict = check(FORWARD_MASK, forward_mask)
    assert verdict.state == "wrong"
    assert "in the line `return torch.arange(5).softmax(0)`" in verdict.seen


def test_a_part_of_an_answer_may_be_to_do():
    def part() -> Any:
        raise NotImplementedError("later")

    assert check(FORWARD_MASK, lambda x, t, mask_id: part()).state == "to do"


def test_the_default_dtype_is_afterwards_what_it_was():
    def forward_mask(x: Any, t: Any, mask_id: int) -> Any:
        torch.set_default_dtype(torch.float64)
        return right(x, t, mask_id)

    check(FORWARD_MASK, forward_mask)
    assert torch.get_default_dtype() == torch.float32


def test_a_result_that_breaks_the_check_is_not_the_check_s_fault():
    class Strange(torch.Tensor):
        def __eq__(self, other: object) -> Any:
            raise ValueError("not comparable")

    verdict = check(FORWARD_MASK, lambda x, t, mask_id: x.clone().as_subclass(Strange))
    assert verdict.state == "wrong"
    assert "ValueError" in verdict.seen or "not comparable" in verdict.seen


def test_an_endless_loop_is_stopped():
    def forever(x: Any, t: Any, mask_id: int) -> Any:
        while True:
            pass

    started = time.monotonic()
    verdict = check(FORWARD_MASK, forever, seconds=0.3)
    assert time.monotonic() - started < 20
    assert verdict.state == "wrong"
    assert verdict.failed is not None
    assert verdict.failed.name == "it comes to an end"


def test_a_loop_that_catches_everything_is_stopped_too():
    seen = []

    def stubborn(x: Any, t: Any, mask_id: int) -> Any:
        for _ in range(3):
            try:
                while True:
                    pass
            except BaseException as error:
                seen.append(type(error))
        return x

    verdict = check(FORWARD_MASK, stubborn, seconds=0.2)
    assert verdict.state == "wrong"
    assert TimeUp in seen


def test_a_time_limit_never_strikes_afterwards():
    """Calls that end just when the time is over: the result comes, or TimeUp does, and nothing comes later."""

    def busy(until: float) -> str:
        while time.perf_counter() < until:
            pass
        return "done"

    outcomes, threads = [], threading.active_count()
    for n in range(200):
        try:
            outcomes.append(within(0.002, partial(busy, time.perf_counter() + 0.002 + (n % 5 - 2) * 2e-4)))
        except TimeUp:
            outcomes.append("stopped")
    for _ in range(200):  # over before it begins: nothing strikes while the watch is still being set up
        try:
            outcomes.append(within(0.0, lambda: "done"))
        except TimeUp:
            outcomes.append("stopped")
    sum(range(100_000))
    time.sleep(0.1)
    assert len(outcomes) == 400
    assert threading.active_count() == threads


def test_random_numbers_gradients_and_prints_are_put_back(capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with undisturbed() as printed:
        torch.manual_seed(99)
        torch.set_grad_enabled(False)
        print("heard by nobody")
    assert torch.is_grad_enabled()
    assert torch.equal(torch.rand(2), expected)
    assert printed.getvalue() == "heard by nobody\n"
    assert capsys.readouterr().out == ""


def test_an_answer_cannot_change_the_reference():
    @exercise
    def forward_mask(x: Any, t: Any, mask_id: int) -> Any:
        x[:] = 0
        t[:] = 0
        return x

    assert forward_mask.__wrapped__ is answers.forward_mask
    x = torch.tensor([[5, 6, 7]])
    assert forward_mask(x, torch.zeros(1), 0).tolist() == [[5, 6, 7]]


def test_strict_mode_asks_for_every_exercise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MDMCOURSE_STRICT", "1")
    assert exercise(called(right)) is right
    for answer in (lambda x, t, mask_id: x, _todo):
        with pytest.raises(ExerciseError) as caught:
            exercise(called(answer))
        assert "forward_mask of lesson 02" in caught.value.happened


def _todo(x: Any, t: Any, mask_id: int) -> Any:
    raise NotImplementedError


def test_an_unknown_exercise_is_refused():
    def forward_musk(x: Any) -> Any:
        return x

    with pytest.raises(UnknownNameError) as caught:
        exercise(forward_musk)
    assert "forward_mask" in caught.value.do


def test_hints_come_one_after_the_other_and_are_counted():
    said = [repr(hint("forward_mask")) for _ in range(4)]
    assert [text.startswith(given) for text, given in zip(said, FORWARD_MASK.hints, strict=False)] == [True] * 3
    assert said[3] == said[2]
    assert "hint 1 of 3" in said[0]
    assert 'solution("forward_mask")' in said[2]
    assert repr(hint("forward_mask", 1)) == said[0]
    assert progress("02").rows[0]["hints"] == 3
    for number in (0, 4, "2"):
        with pytest.raises((ValueError, TypeError)):
            hint("forward_mask", number)  # type: ignore[arg-type]


def test_the_solution_is_source_that_is_right():
    shown = solution("forward_mask")
    space: dict[str, Any] = {"torch": torch, **vars(answers)}
    exec(repr(shown), space)
    assert repr(shown).startswith("def forward_mask(x, t, mask_id")
    assert check(FORWARD_MASK, space["forward_mask"]).state == "right"
    assert "<pre>" in shown._repr_html_()
    assert "&quot;" in shown._repr_html_()
    assert progress("02").rows[0]["solution"] == 1


@pytest.mark.parametrize("task", exercises().values(), ids=lambda task: task.name)
def test_a_solution_needs_no_names_of_types_and_is_else_the_same(task: Exercise):
    whole, shown = (ast.parse(text) for text in (inspect.getsource(task.reference), repr(solution(task.name))))
    for node in ast.walk(whole):
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef):
            node.returns = None
    assert ast.dump(shown) == ast.dump(whole)


def test_what_was_right_once_stays_right(progress_path: Any):
    exercise(called(right))
    exercise(called(lambda x, t, mask_id: x))
    exercise(called(_todo))
    kept = json.loads(progress_path.read_text())["exercises"]["forward_mask"]
    assert kept["state"] == "right"
    assert kept["attempts"] == 2
