"""Long runs of `attribute`: killed and gone on with, in several processes, out of memory; and what `plan` promises."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from circuits_helpers import MASK, random_prompts
from helpers import assert_three_parts, tiny_decoder
from torch import Tensor

from mdmcourse.circuits import MACHINES, Machine, Scores, attribute, plan
from mdmcourse.circuits.attribution import BatchScores, Settings, attribute_batch
from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models import ARM, MDM
from mdmcourse.tasks import Prompts

HERE = Path(__file__).parent
# The package has a function of the same name, which hides the module from `import ... as`.
MODULE = sys.modules["mdmcourse.circuits.attribute"]


def tiny() -> MDM:
    return MDM(tiny_decoder("llama", grouped=True), mask_id=MASK)


def run(model: Any, prompts: Prompts, **settings: Any) -> Scores:
    """`attribute`, with one step if nothing else is said: checking shapes makes every step slow."""
    return attribute(model, prompts, **{"steps": 1, **settings})


def watch(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None] = lambda count: None) -> list[int]:
    """The sizes of all batches that are computed from now on; `before` sees each first, and may raise."""
    sizes: list[int] = []

    def watched(model: Any, prompts: Prompts, settings: Settings) -> BatchScores:
        before(len(prompts))
        sizes.append(len(prompts))
        return attribute_batch(model, prompts, settings)

    monkeypatch.setattr(MODULE, "attribute_batch", watched)
    return sizes


def stop_after(batches: int) -> Callable[[int], None]:
    """Raises KeyboardInterrupt instead of computing one more batch."""
    left = batches

    def before(count: int) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1

    return before


def interrupted(model: Any, prompts: Prompts, save_to: Any, **settings: Any) -> None:
    """A run that ends after its first prompt."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        watch(monkeypatch, stop_after(1))
        with pytest.raises(KeyboardInterrupt):
            run(model, prompts, **{"batch_size": 1, "save_to": save_to, **settings})


def assert_same(found: Scores, expected: Scores, atol: float = 0.0) -> None:
    for name in ("values", "by_prompt", "by_position"):
        one, two = getattr(found, name), getattr(expected, name)
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, atol=atol, rtol=0)
    assert (found.clean, found.corrupted) == pytest.approx((expected.clean, expected.corrupted), abs=atol, rel=0)
    assert (found.prompts, found.about) == (expected.prompts, expected.about)


def partials(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*.partial*"))


def start(script: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Another process of Python, with this one's modules."""
    (folder / "script.py").write_text(script)
    paths = os.pathsep.join(map(str, (HERE, HERE.parent)))
    fixed = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, str(folder / "script.py")],
        cwd=folder, env={**os.environ, **fixed, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


# Killed, and gone on with

SLOWLY = """
import time
import test_attribute_runs as tests
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
    settings: dict[str, Any] = {"keep_prompts": True, "batch_size": 2, "save_to": final}
    expected = run(model, prompts, keep_prompts=True, batch_size=2)
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


def test_two_metrics_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    model, prompts, final = tiny(), random_prompts(2), tmp_path / "scores.safetensors"
    found = run(model, prompts, metric=lambda logits, batch, clean: 0.5 * logits[:, 0], save_to=final)
    again = run(model, prompts, metric=lambda logits, batch, clean: 0.5 * logits[:, 0], save_to=final)
    assert_same(again, found)
    for other in (lambda logits, batch, clean: 0.7 * logits[:, 0], lambda logits, batch, clean: logits.sum(dim=1)):
        with pytest.raises(CheckpointError):
            run(model, prompts, metric=other, save_to=final)


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


# Several processes

IN_PARALLEL = """
import os
import test_attribute_runs as tests

rank = os.environ["RANK"]
for n in tests.IN_PARALLEL_PROMPTS:
    found = tests.run(tests.tiny(), tests.random_prompts(n), save_to=f"{n}.safetensors", **tests.KEEP)
    found.save(f"{n}-{rank}.safetensors")

# Interrupted in both processes, and gone on with
tests.interrupted(tests.tiny(), tests.random_prompts(5), "again.safetensors", **tests.KEEP)
with tests.pytest.MonkeyPatch.context() as monkeypatch:
    sizes = tests.watch(monkeypatch)
    found = tests.run(tests.tiny(), tests.random_prompts(5), save_to="again.safetensors", **tests.KEEP)
assert len(sizes) == (2 if rank == "0" else 1), sizes
found.save(f"again-{rank}.safetensors")
"""
IN_PARALLEL_PROMPTS = (5, 1)
# In batches of 1: those of other sizes differ in the last digits.
KEEP: dict[str, Any] = {"keep_prompts": True, "positions": True, "batch_size": 1}


@pytest.fixture(scope="module")
def in_parallel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    processes = [start(IN_PARALLEL, folder, RANK=rank, LOCAL_RANK=rank, **rendezvous) for rank in "01"]
    try:
        outputs = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return folder


@pytest.mark.slow
def test_two_processes_find_what_one_finds(in_parallel: Path) -> None:
    for name, n in (("5", 5), ("1", 1), ("again", 5)):  # 1: the second process has no prompt
        expected = run(tiny(), random_prompts(n), **KEEP)
        for end in ("", "-0", "-1"):
            found = Scores.load(in_parallel / f"{name}{end}.safetensors")
            assert_same(found, expected, atol=1e-6)
    assert not partials(in_parallel)


def test_processes_that_accelerate_does_not_know_of_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone:
        num_processes, process_index = 1, 0

        def __init__(self, cpu: bool) -> None:
            assert cpu

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", Alone)
    with pytest.raises(InputError) as error:
        run(tiny(), random_prompts(2))
    assert_three_parts(error.value, "2 processes", "knows of 1")


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


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(batch_size: int) -> None:
    with pytest.raises(InputError) as error:
        run(tiny(), random_prompts(2), batch_size=batch_size)
    assert_three_parts(error.value, f"batch_size={batch_size}")


# Plans

BIG = Machine("a big machine", 1e12, 1e12)


def llama_2_7b() -> Any:
    from transformers import LlamaConfig

    return LlamaConfig()  # its defaults


def qwen_2_5_7b() -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, tie_word_embeddings=False,
    )  # fmt: skip


def tiny_config(family: str = "llama") -> Any:
    return tiny_decoder(family).config


def test_a_plan_grows_with_the_prompts() -> None:
    config = tiny_config()
    plans = [plan(config, 100, positions, machine=BIG) for positions in (5, 10, 20, 40)]
    for shorter, longer in pairwise(plans):
        assert longer.per_prompt > shorter.per_prompt
        assert longer.seconds == pytest.approx(2 * shorter.seconds)
        assert longer.weights == shorter.weights
    assert plan(config, 300, 5, machine=BIG).seconds == pytest.approx(3 * plans[0].seconds)


def test_a_plan_grows_with_what_is_kept_and_with_the_type() -> None:
    config = tiny_config()
    plain = plan(config, 10, 9, machine=BIG)
    assert plan(config, 10, 9, machine=BIG, settings=Settings(positions=True)).per_prompt > plain.per_prompt
    double = plan(config, 10, 9, machine=BIG, dtype=torch.float64)
    half = plan(config, 10, 9, machine=BIG, dtype=torch.bfloat16)
    assert double.weights == 2 * plain.weights == 4 * half.weights
    assert double.per_prompt > plain.per_prompt >= half.per_prompt
    grouped = tiny_decoder("llama", grouped=True).config
    few, many = (plan(grouped, 10, 9, machine=BIG, settings=Settings(readers=readers)) for readers in ("kv", "query"))
    assert many.per_prompt > few.per_prompt


def test_more_steps_take_longer() -> None:
    def seconds(**settings: Any) -> float:
        return plan(tiny_config(), 10, 9, machine=BIG, settings=Settings(**settings)).seconds

    in_order = [
        seconds(method="eap"), seconds(steps=2), seconds(steps=5), seconds(steps=20),
        seconds(method="eap-ig-activations", steps=20),
    ]  # fmt: skip
    assert in_order == sorted(in_order)
    assert len(set(in_order)) == len(in_order)
    assert seconds(method="exact") > seconds(steps=20)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("loaded", [False, True])
def test_the_batch_is_the_largest_that_fits(family: str, loaded: bool) -> None:
    config = tiny_config(family)
    for memory in (3e6, 1e7, 1e8):
        found = plan(config, 10**6, 9, machine=Machine("small", memory, 1e9), loaded=loaded)
        taken = 0 if loaded else found.weights
        assert taken + found.batch_size * found.per_prompt <= memory
        assert taken + (found.batch_size + 1) * found.per_prompt > 0.9 * memory
    assert plan(config, 3, 9, machine=BIG).batch_size == 3  # and no larger than there are prompts


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2"])
def test_what_cannot_fit_is_refused(family: str) -> None:
    config = tiny_config(family)
    with pytest.raises(InputError) as error:
        plan(config, 10, 9, machine=Machine("a thimble", 1e4, 1e9))
    assert_three_parts(error.value, "a thimble", "10.0 kB")
    least = plan(config, 1, 9, machine=BIG).peak
    plan(config, 1, 9, machine=Machine("just enough", 1.001 * least / 0.9, 1e9))
    with pytest.raises(InputError):
        plan(config, 1, 9, machine=Machine("too small", 0.999 * least / 0.9, 1e9))


@pytest.mark.parametrize(("prompts", "positions"), [(0, 9), (-1, 9), (3, 0)])
def test_a_plan_for_nothing_is_refused(prompts: int, positions: int) -> None:
    with pytest.raises(InputError) as error:
        plan(tiny_config(), prompts, positions, machine=BIG)
    assert_three_parts(error.value, f"prompts={prompts}, positions={positions}")


def test_the_plan_of_this_machine() -> None:
    found = plan(tiny_config(), 4, 9)
    assert "this machine" in found.machine.name
    assert found.batch_size == 4
    assert 0 < found.seconds < 60


@pytest.mark.parametrize(
    ("make", "billions"), [(llama_2_7b, 6.738), (qwen_2_5_7b, 7.616)], ids=["Llama-2-7B", "Qwen2.5-7B"]
)
def test_plans_for_models_that_are_not_here(make: Callable[[], Any], billions: float, capsys: Any) -> None:
    """Sizes as their cards give them; nothing of that size is allocated. The prints are for `pytest -s`."""
    config = make()
    batches = []
    for machine in MACHINES.values():
        found = plan(config, 1000, 20, machine=machine, dtype=torch.bfloat16)
        with capsys.disabled():
            print(f"\n{found}", end="")
        assert found.weights == pytest.approx(2e9 * billions, rel=1e-3)
        assert found.peak <= 0.9 * machine.memory
        assert machine.name in repr(found)
        assert "GB weights" in repr(found)
        assert f"batches of {found.batch_size}," in repr(found)
        batches.append(found.batch_size)
    assert batches[0] == batches[1] > batches[2] >= 1
    card = MACHINES["24 GB card (RTX 4090)"]
    with pytest.raises(InputError) as error:
        plan(config, 1000, 20, machine=card, dtype=torch.float32)
    assert_three_parts(error.value, f"{4 * billions:.1f} GB of weights", "24.0 GB")


MEASURED = """
import pathlib, torch
from transformers import LlamaConfig, LlamaForCausalLM
from mdmcourse.circuits import attribute, plan
from mdmcourse.models import ARM
from mdmcourse.tasks import Prompts

def high_water():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

torch.set_num_threads(1)
config = LlamaConfig(
    vocab_size=500, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
    num_key_value_heads=2,
)
clean, corrupted = torch.randint(0, 500, (2, 24, 30))
prompts = Prompts(clean, corrupted, clean[:, 0], corrupted[:, 0], torch.full((24,), 29))
model = ARM(LlamaForCausalLM(config).eval())
attribute(model, prompts.select(slice(0, 1)), steps=1)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = high_water()
attribute(model, prompts, batch_size=24)
planned = plan(config, 24, 30)
print((high_water() - before) / (24 * planned.per_prompt))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads a process's peak as Linux tells it")
def test_what_is_planned_is_what_is_taken() -> None:
    told = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True).stdout
    assert 0.2 < float(told) < 1.2
