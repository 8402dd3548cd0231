"""Long runs of `attribute`: killed and gone on with, in several processes, out of memory; and what they leave."""

from __future__ import annotations

import functools
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from attribute_helpers import assert_same, interrupted, partials, run, start, stop_after, tiny, watch
from circuits_helpers import MASK, READINGS, leaves_no_trace, random_prompts
from helpers import assert_three_parts, tiny_decoder
from torch import Tensor

from mdmcourse.circuits import Circuit, Scores, attribute
from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models import ARM, MDM
from mdmcourse.tasks import Prompts

# Killed, and gone on with

SLOWLY = """
import time
import attribute_helpers as tests
from circuits_helpers import random_prompts

computed = tests.MODULE.attribute_batch

def slowly(*args):
    time.sleep(0.5)
    return computed(*args)

tests.MODULE.attribute_batch = slowly
tests.run(
    tests.tiny(), random_prompts(20), keep_prompts=True, positions=True, batch_size=1, save_to="scores.safetensors"
)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final, partial = tmp_path / "scores.safetensors", tmp_path / ".scores.safetensors.0-of-1.partial"
    process = start(SLOWLY, tmp_path)
    try:
        until = time.monotonic() + 120
        while not partial.exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert partial.exists()
    assert not final.exists()
    settings: dict[str, Any] = {"keep_prompts": True, "positions": True, "batch_size": 1}
    model, prompts = tiny(), random_prompts(20)
    sizes = watch(monkeypatch)
    found = run(model, prompts, save_to=final, **settings)
    assert 0 < len(sizes) < 20  # some were done before
    assert final.exists()
    assert not partials(tmp_path)
    assert_same(found, run(model, prompts, **settings))


def test_an_interrupted_run_goes_on_in_any_number_of_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts, final = tiny(), random_prompts(7), tmp_path / "scores.safetensors"
    settings: dict[str, Any] = {"keep_prompts": True, "positions": True, "batch_size": 2}
    expected = run(model, prompts, **settings)
    settings["save_to"] = final
    for batches in (0, 1, 2):
        sizes = watch(monkeypatch, stop_after(batches))
        with pytest.raises(KeyboardInterrupt):
            run(model, prompts, **settings)
        assert sizes == [2] * batches
        assert not final.exists()
    sizes = watch(monkeypatch)
    assert_same(run(model, prompts, **settings), expected)
    assert sizes == [1]  # 3 batches of 2 were done
    assert sorted(path.name for path in tmp_path.iterdir()) == [final.name]


def test_a_run_killed_between_its_last_batch_and_its_end_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts, final = tiny(), random_prompts(3), tmp_path / "scores.safetensors"

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Scores, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(model, prompts, save_to=final)
    assert partials(tmp_path)
    sizes = watch(monkeypatch)
    found = run(model, prompts, save_to=final)
    assert (sizes, partials(tmp_path)) == ([], [])
    assert_same(found, run(model, prompts))


def test_a_complete_run_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts, final = tiny(), random_prompts(3), tmp_path / "new" / "folder" / "scores.safetensors"
    found = run(model, prompts, positions=True, save_to=final)
    written = final.stat().st_mtime_ns
    sizes = watch(monkeypatch, stop_after(0))
    for where in (final, str(final)):
        assert_same(run(model, prompts, positions=True, save_to=where), found)
    assert (sizes, final.stat().st_mtime_ns) == ([], written)
    assert_same(Scores.load(final), found)


def other_model() -> MDM:
    return MDM(tiny_decoder("llama", grouped=True, seed=1), mask_id=MASK)


def half(logits: Tensor, prompts: Prompts, clean: Tensor) -> Tensor:
    return 0.5 * logits[:, 0]


CHANGES: dict[str, Callable[[Any, Prompts], tuple[Any, Prompts, dict[str, Any]]]] = {
    "weights": lambda model, prompts: (other_model(), prompts, {}),
    "reading": lambda model, prompts: (ARM(model.decoder), prompts, {}),
    "attention": lambda model, prompts: (MDM(model.decoder, mask_id=MASK, attention="block:3"), prompts, {}),
    "mask": lambda model, prompts: (MDM(model.decoder, mask_id=MASK + 1), prompts, {}),
    "dtype": lambda model, prompts: (MDM(tiny().decoder.double(), mask_id=MASK), prompts, {}),
    "other prompts": lambda model, prompts: (model, random_prompts(len(prompts), seed=1), {}),
    "fewer prompts": lambda model, prompts: (model, prompts.select(slice(0, 2)), {}),
    "order": lambda model, prompts: (model, prompts.select(torch.tensor([2, 1, 0])), {}),
    "distractor": lambda model, prompts: (model, replace(prompts, distractor=prompts.distractor.flip(0)), {}),
    "method": lambda model, prompts: (model, prompts, {"method": "eap"}),
    "steps": lambda model, prompts: (model, prompts, {"steps": 4}),
    "rule": lambda model, prompts: (model, prompts, {"rule": "left"}),
    "metric": lambda model, prompts: (model, prompts, {"metric": "kl"}),
    "own metric": lambda model, prompts: (model, prompts, {"metric": half}),
    "readers": lambda model, prompts: (model, prompts, {"readers": "query"}),
    "positions": lambda model, prompts: (model, prompts, {"positions": True}),
    "keep_prompts": lambda model, prompts: (model, prompts, {"keep_prompts": True}),
}


@pytest.fixture(scope="module")
def finished_and_unfinished(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A finished run of 3 prompts, and one that was interrupted after its first."""
    finished, unfinished = (tmp_path_factory.mktemp("runs") / f"{name}.safetensors" for name in ("done", "not"))
    run(tiny(), random_prompts(3), batch_size=1, save_to=finished)
    interrupted(tiny(), random_prompts(3), unfinished)
    return [finished, unfinished]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_of_another_run_is_refused(
    change: str, finished_and_unfinished: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts, settings = CHANGES[change](tiny(), random_prompts(3))
    sizes = watch(monkeypatch)
    for path in finished_and_unfinished:
        before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
        with pytest.raises(CheckpointError) as error:
            run(model, prompts, batch_size=1, save_to=path, **settings)
        assert_three_parts(error.value, path.name, "another model, other prompts or other settings")
        assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before
    assert sizes == []


def test_the_same_run_is_known_again_in_other_batches_and_from_another_object(
    finished_and_unfinished: list[Path],
) -> None:
    for path in finished_and_unfinished[:1]:
        found = run(tiny(), random_prompts(3), batch_size=3, save_to=path)
        assert_same(found, run(tiny(), random_prompts(3)), atol=1e-6)


def test_metrics_are_told_apart_by_what_they_look_up_in_their_module(tmp_path: Path) -> None:
    """A number, looked up by another function."""
    model, prompts = tiny(), random_prompts(3)
    text = "K = {}\ndef helper(x): return x[:, K]\ndef metric(logits, batch, clean): return helper(logits)"
    made = []
    for number in (5, 5, 6):
        names: dict[str, Any] = {"__name__": "a notebook"}
        exec(text.format(number), names)
        made.append(names["metric"])
    first, same, other = made
    run(model, prompts, metric=first, save_to=tmp_path / "scores")
    run(model, prompts, metric=same, save_to=tmp_path / "scores")
    with pytest.raises(CheckpointError):
        run(model, prompts, metric=other, save_to=tmp_path / "scores")


def test_two_metrics_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    model, prompts, final = tiny(), random_prompts(2), tmp_path / "scores.safetensors"
    found = run(model, prompts, metric=lambda logits, batch, clean: 0.5 * logits[:, 0], save_to=final)
    again = run(model, prompts, metric=lambda logits, batch, clean: 0.5 * logits[:, 0], save_to=final)
    assert_same(again, found)
    for other in (lambda logits, batch, clean: 0.7 * logits[:, 0], lambda logits, batch, clean: logits.sum(dim=1)):
        with pytest.raises(CheckpointError):
            run(model, prompts, metric=other, save_to=final)


def of_token(token: Any) -> Callable:
    """One function that closes over what it is given."""
    return lambda logits, batch, clean: logits[:, token].reshape(len(logits), -1).sum(dim=1)


def of_tokens(logits: Tensor, batch: Prompts, clean: Tensor, tokens: tuple[int, ...] = ()) -> Tensor:
    return logits[:, list(tokens)].sum(dim=1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (of_token(5), of_token(6)),
        (of_token((5, 6)), of_token((5, 7))),
        (of_token(torch.tensor([5, 6])), of_token(torch.tensor([5, 7]))),
        (functools.partial(of_tokens, tokens=(5, 6)), functools.partial(of_tokens, tokens=(5, 7))),
        (
            lambda logits, batch, clean: logits[:, [5, 6, 7]].sum(1),
            lambda logits, batch, clean: logits[:, [5, 6, 8]].sum(1),
        ),
        (lambda logits, batch, clean, n=5: logits[:, n], lambda logits, batch, clean, n=6: logits[:, n]),
    ],
    ids=["closure", "tuple", "tensor", "partial", "constants", "default"],
)
def test_metrics_of_one_code_are_told_apart_by_what_they_were_given(
    one: Callable, other: Callable, tmp_path: Path
) -> None:
    model, prompts, final = tiny(), random_prompts(2), tmp_path / "scores.safetensors"
    found = run(model, prompts, metric=one, save_to=final)
    assert_same(run(model, prompts, metric=one, save_to=final), found)
    with pytest.raises(CheckpointError):
        run(model, prompts, metric=other, save_to=final)


def with_keyword(token: int) -> Callable:
    return lambda logits, batch, clean, *, n=token: logits[:, n]


def decorated(token: int) -> Callable:
    inner = of_token(token)

    @functools.wraps(inner)
    def outer(*arguments: Any) -> Any:
        return inner(*arguments)

    return outer


@pytest.mark.parametrize("make", [with_keyword, decorated], ids=["keyword-only default", "decorated"])
def test_what_a_metric_was_given_is_seen_also_further_inside(make: Callable, tmp_path: Path) -> None:
    test_metrics_of_one_code_are_told_apart_by_what_they_were_given(make(5), make(6), tmp_path)


def test_a_closure_that_is_still_empty_and_one_that_holds_itself(tmp_path: Path) -> None:
    def recursive(logits: Tensor, batch: Prompts, clean: Tensor, again: bool = True) -> Tensor:
        return recursive(logits, batch, clean, False) if again else logits[:, 5]

    def make() -> Callable:
        def metric(logits: Tensor, batch: Prompts, clean: Tensor) -> Tensor:
            return logits[:, 5] if len(logits) else later

        if not tmp_path:
            later = torch.zeros(0)
        return metric

    for number, metric in enumerate((recursive, make())):
        run(tiny(), random_prompts(2), metric=metric, save_to=tmp_path / f"{number}.safetensors")


class OfToken:
    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, logits: Tensor, batch: Prompts, clean: Tensor) -> Tensor:
        return logits[:, self.token]

    def method(self, logits: Tensor, batch: Prompts, clean: Tensor) -> Tensor:
        return logits[:, self.token]


@pytest.mark.parametrize(
    "metric",
    [
        OfToken(5),
        OfToken(5).method,
        functools.partial(OfToken(5).method),
        functools.partial(lambda given, *rest: given(*rest), OfToken(5)),
    ],
    ids=["object", "method", "partial of a method", "given"],
)
def test_a_metric_that_cannot_be_told_from_others_is_refused_with_a_file(metric: Callable, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        run(tiny(), random_prompts(2), metric=metric, save_to=tmp_path / "scores.safetensors")
    assert_three_parts(error.value)
    assert "save_to" in error.value.do
    assert not list(tmp_path.iterdir())
    run(tiny(), random_prompts(2), metric=metric)


def test_prompts_and_weights_of_any_layout_and_type_have_a_fingerprint(tmp_path: Path) -> None:
    """One prompt whose answer is a number out of a column; weights in bfloat16, of which numpy knows nothing."""
    prompts = random_prompts(3)
    column = replace(prompts, answer=prompts.clean[:, 0]).select(slice(0, 1))
    model = ARM(tiny_decoder("gpt2").bfloat16())
    found = run(model, column, save_to=tmp_path / "scores.safetensors")
    again = run(model, replace(column, answer=column.answer.clone()), save_to=tmp_path / "scores.safetensors")
    assert_same(again, found)


def test_a_change_in_the_middle_of_a_weight_is_seen(tmp_path: Path) -> None:
    model, prompts, final = tiny(), random_prompts(2), tmp_path / "scores.safetensors"
    run(model, prompts, save_to=final)
    with torch.no_grad():
        model.decoder.model.layers[0].self_attn.q_proj.weight[8:16] = 0  # one head of four
    with pytest.raises(CheckpointError):
        run(model, prompts, save_to=final)


def test_a_metric_that_keeps_a_record_can_go_on(tmp_path: Path) -> None:
    """What it has written down so far is not part of what it computes."""
    model, prompts, final, record = tiny(), random_prompts(3), tmp_path / "scores.safetensors", list[int]()

    def metric(logits: Tensor, batch: Prompts, clean: Tensor) -> Tensor:
        record.append(len(batch))
        return logits[:, 5]

    interrupted(model, prompts, final, metric=metric)
    before = len(record)
    run(model, prompts, metric=metric, batch_size=1, save_to=final)
    assert len(record) == before + 2 * 3  # two prompts: clean, corrupted, and one step


def test_what_other_tries_left_goes_when_the_result_is_there(tmp_path: Path) -> None:
    """A run that was started with more processes and killed; but not what belongs to another file."""
    final = tmp_path / "scores.safetensors"
    interrupted(tiny(), random_prompts(3), final, keep_prompts=True)
    for name in partials(tmp_path):
        (tmp_path / name).rename(tmp_path / name.replace("0-of-1", "1-of-2"))
    interrupted(tiny(), random_prompts(3), tmp_path / "other.safetensors")
    others = [name for name in partials(tmp_path) if "other" in name]
    run(tiny(), random_prompts(3), batch_size=1, save_to=final)
    assert partials(tmp_path) == others == [".other.safetensors.0-of-1.partial"]


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_damaged_file_is_refused_in_words(kept: int, tmp_path: Path) -> None:
    model, prompts, final = tiny(), random_prompts(2), tmp_path / "scores.safetensors"
    interrupted(model, prompts, final)
    [name] = partials(tmp_path)
    partial = tmp_path / name
    whole = partial.read_bytes()
    partial.write_bytes(whole[:kept])
    with pytest.raises(CheckpointError) as error:
        run(model, prompts, batch_size=1, save_to=final)
    assert_three_parts(error.value, name, "could not be read")
    assert "cut short" in error.value.means
    partial.unlink()
    run(model, prompts, batch_size=1, save_to=final)
    final.write_bytes(final.read_bytes()[:kept])
    with pytest.raises(CheckpointError) as error:
        run(model, prompts, batch_size=1, save_to=final)
    assert_three_parts(error.value, final.name)


@pytest.mark.parametrize("damage", ["cut short", "missing", "of another run"])
def test_a_damaged_batch_is_refused_in_words(damage: str, tmp_path: Path) -> None:
    """With the scores of single prompts every batch has a file of its own."""
    model, prompts, final = tiny(), random_prompts(2), tmp_path / "scores.safetensors"
    interrupted(model, prompts, final, keep_prompts=True)
    sums, batch = (tmp_path / name for name in partials(tmp_path))
    if damage == "cut short":
        batch.write_bytes(batch.read_bytes()[:-1])
    elif damage == "missing":
        batch.unlink()
    else:
        other = tmp_path / "other.safetensors"
        interrupted(model, random_prompts(2, seed=7), other, keep_prompts=True)
        (tmp_path / batch.name.replace("scores", "other")).replace(batch)
    with pytest.raises(CheckpointError) as error:
        run(model, prompts, batch_size=1, save_to=final, keep_prompts=True)
    assert_three_parts(error.value)
    sums.unlink()
    found = run(model, prompts, batch_size=1, save_to=final, keep_prompts=True)
    assert_same(found, run(model, prompts, batch_size=1, keep_prompts=True))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    model, prompts, final = tiny(), random_prompts(2), tmp_path / "scores.safetensors"
    partial = tmp_path / f".{final.name}.0-of-1.partial"
    run(model, prompts).save(partial)
    with pytest.raises(CheckpointError):
        run(model, prompts, save_to=final)
    partial.unlink()
    prompts.save(final)
    with pytest.raises(CheckpointError) as error:
        run(model, prompts, save_to=final)
    assert_three_parts(error.value, "Prompts")


def test_a_folder_that_cannot_be_written_is_told_before_or_with_the_first_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    sizes = watch(monkeypatch)
    with pytest.raises(CheckpointError) as error:
        run(tiny(), random_prompts(4), batch_size=1, save_to=tmp_path / "file" / "scores.safetensors")
    assert_three_parts(error.value, "could not be written")
    assert len(sizes) <= 1


# Out of memory

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
]


def raising(error: BaseException, above: int) -> Callable[[int], None]:
    """Raises for batches of more than so many prompts."""

    def before(count: int) -> None:
        if count > above:
            raise error

    return before


@pytest.mark.parametrize(
    ("error", "batch_size"), [*((error, 7) for error in OUT_OF_MEMORY), (OUT_OF_MEMORY[0], 4), (OUT_OF_MEMORY[2], None)]
)
def test_batches_that_do_not_fit_are_halved(
    error: Exception, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts = tiny(), random_prompts(7)
    expected = run(model, prompts, batch_size=2, keep_prompts=True)
    sizes = watch(monkeypatch, raising(error, above=2))
    with pytest.warns(UserWarning, match="Out of memory with") as warned:
        found = run(model, prompts, batch_size=batch_size, keep_prompts=True)
    assert max(sizes) <= 2
    assert sum(sizes) == 7
    first, then = (7, 3) if batch_size != 4 else (4, 2)
    assert str(warned[0].message) == f"Out of memory with {first} prompts at a time: going on with {then}."
    assert_same(found, expected, atol=1e-6)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu on Windows", "cpu", "python"])
def test_one_prompt_that_does_not_fit_is_the_end_of_it(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "scores.safetensors"
    sizes = watch(monkeypatch, raising(error, above=0))
    with pytest.warns(UserWarning, match="going on with 1"), pytest.raises(type(error)) as raised:
        run(tiny(), random_prompts(3), batch_size=3, save_to=final)
    assert raised.value is error
    assert (sizes, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("no"), ZeroDivisionError()])
def test_other_errors_pass_at_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def before(count: int) -> None:
        tried.append(count)
        raise error

    watch(monkeypatch, before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(type(error)) as raised:
            run(tiny(), random_prompts(4), batch_size=4)
    assert raised.value is error
    assert tried == [4]


def test_a_batch_that_runs_out_of_memory_in_the_middle_is_halved() -> None:
    """Every prompt is still counted once, and no hook of the batch that failed is left."""
    model, prompts = tiny(), random_prompts(5)

    def metric(logits: Tensor, part: Prompts, clean: Tensor) -> Tensor:
        if torch.is_grad_enabled() and len(part) > 2:
            raise torch.OutOfMemoryError
        return logits[:, 5] - logits[:, 6]

    with pytest.warns(UserWarning, match="memory"), leaves_no_trace(model.decoder):
        found = run(model, prompts, metric=metric, batch_size=5, keep_prompts=True)
    assert_same(found, run(model, prompts, metric=metric, batch_size=2, keep_prompts=True), atol=1e-6)


def test_memory_that_runs_out_between_a_layers_projections_halves_the_batch_too(monkeypatch: Any) -> None:
    """When gradients of some of q, k and v have come, and those of the others have not."""
    model, prompts, einsum, calls = tiny(), random_prompts(4), torch.einsum, []

    def fails_once(pattern: str, *operands: Tensor) -> Tensor:
        if pattern == "bpd,hed->bphe" and len(operands[0]) > 2:
            calls.append(pattern)
            if len(calls) == 2:
                raise torch.OutOfMemoryError
        return einsum(pattern, *operands)

    monkeypatch.setattr(torch, "einsum", fails_once)
    with pytest.warns(UserWarning, match="Out of memory with 4"), leaves_no_trace(model.decoder):
        found = run(model, prompts, batch_size=4, steps=1)
    assert len(calls) == 2
    assert_same(found, run(model, prompts, batch_size=2, steps=1), atol=1e-6)


# Files


def test_scores_come_back_from_their_file(tmp_path: Any) -> None:
    model = READINGS["block"](tiny_decoder("qwen3", True))
    scores = attribute(model, random_prompts(), steps=2, positions=True, keep_prompts=True)
    scores.save(tmp_path / "scores")
    read = Scores.load(tmp_path / "scores")
    for name in ("values", "by_prompt", "by_position"):
        assert torch.equal(getattr(read, name), getattr(scores, name)), name
    for name in ("graph", "clean", "corrupted", "prompts", "about"):
        assert getattr(read, name) == getattr(scores, name), name
    assert repr(read) == repr(scores)
    with pytest.raises(CheckpointError) as caught:
        Circuit.load(tmp_path / "scores")
    assert_three_parts(caught.value, "Scores")
