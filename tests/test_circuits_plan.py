"""What `plan` promises before an attribution starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from circuits_helpers import random_prompts
from helpers import assert_three_parts, tiny_decoder

from mdmcourse.circuits import MACHINES, Machine, Settings, attribute, plan
from mdmcourse.errors import InputError
from mdmcourse.models import ARM
from mdmcourse.models.dtype import faster_dtype

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


def test_planning_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    plan(tiny_config(), 4, 9)
    faster_dtype(64)
    attribute(ARM(tiny_decoder("llama")), random_prompts(2))
    assert torch.equal(torch.rand(1), expected)


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
import pathlib, sys, torch
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
dtype = getattr(torch, sys.argv[1])
model = ARM(LlamaForCausalLM(config).to(dtype).eval())
attribute(model, prompts.select(slice(0, 1)), steps=1)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = high_water()
attribute(model, prompts, batch_size=24)
planned = plan(config, 24, 30, dtype=dtype)
print((high_water() - before) / (24 * planned.per_prompt))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads a process's peak as Linux tells it")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_planned_is_what_is_taken(dtype: str) -> None:
    told = subprocess.run([sys.executable, "-c", MEASURED, dtype], capture_output=True, text=True, check=True).stdout
    assert 0.2 < float(told) < 1.2
