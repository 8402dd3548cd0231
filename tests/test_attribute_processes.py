"""`attribute` in several processes, started as its docstring says: what one finds, to 1e-6."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from attribute_helpers import MODULE, assert_same, partials, run, start, tiny
from circuits_helpers import random_prompts
from helpers import assert_three_parts

from mdmcourse.circuits import Machine, Scores, attribute, plan
from mdmcourse.circuits.plan import Plan
from mdmcourse.errors import InputError

# In batches of 1: those of other sizes differ in the last digits.
KEEP: dict[str, Any] = {"keep_prompts": True, "positions": True, "batch_size": 1}

IN_PARALLEL = f"""
import os
import pytest
from attribute_helpers import interrupted, run, tiny, watch
from circuits_helpers import random_prompts

rank = os.environ["RANK"]
for n in (5, 1):  # 1: the second process has no prompt
    found = run(tiny(), random_prompts(n), save_to=f"{{n}}.safetensors", **{KEEP})
    found.save(f"{{n}}-{{rank}}.safetensors")

# Interrupted in both processes, and gone on with
interrupted(tiny(), random_prompts(5), "again.safetensors", **{KEEP})
with pytest.MonkeyPatch.context() as monkeypatch:
    sizes = watch(monkeypatch)
    found = run(tiny(), random_prompts(5), save_to="again.safetensors", **{KEEP})
assert len(sizes) == (2 if rank == "0" else 1), sizes
found.save(f"again-{{rank}}.safetensors")
"""


@pytest.fixture(scope="module")
def in_parallel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes found, started as the docstring of `attribute` says."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = "accelerate launch --multi_gpu --num_processes 2"
    assert f"{command} script.py" in (attribute.__doc__ or "")
    _, _, *options = command.split()
    process = start(IN_PARALLEL, folder, "-m", "accelerate.commands.launch", *options, "--main_process_port", port)
    try:
        output = process.communicate(timeout=300)[0]
    finally:
        process.terminate()  # it ends the two that it started
    assert process.returncode == 0, output
    return folder


@pytest.mark.slow
def test_two_processes_find_what_one_finds(in_parallel: Path) -> None:
    for name, n in (("5", 5), ("1", 1), ("again", 5)):
        expected = run(tiny(), random_prompts(n), **KEEP)
        for end in ("", "-0", "-1"):
            found = Scores.load(in_parallel / f"{name}{end}.safetensors")
            assert_same(found, expected, atol=1e-6)
    assert not partials(in_parallel)


def test_processes_of_one_machine_plan_with_their_part_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[float] = []

    def noted(*args: Any, machine: Machine, **settings: Any) -> Plan:
        planned.append(machine.memory)
        return plan(*args, machine=machine, **settings)

    monkeypatch.setattr(MODULE, "plan", noted)
    monkeypatch.setattr(MODULE, "free_memory", lambda device: 8e9)
    run(tiny(), random_prompts(1))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    run(tiny(), random_prompts(1))
    assert planned == [8e9, 2e9]


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
