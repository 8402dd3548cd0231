"""How much memory and time attribution takes, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mdmcourse.circuits.attribution import Settings
from mdmcourse.circuits.gradients import WRITTEN_OUT, contracted_in, groups
from mdmcourse.circuits.graph import Graph
from mdmcourse.errors import InputError


@dataclass(frozen=True)
class Machine:
    """Where it would run.

    Attributes
    ----------
    name: for the reader.
    memory: bytes that the model and its attribution may take together.
    flops: floating-point operations a second that a forward pass really gets.
    flops_float32: the same in float32 and float64, if that is slower.
    """

    name: str
    memory: float
    flops: float
    flops_float32: float | None = None


# Data-sheet rates, bf16 (dense) and float32, times .3, a common share for batches as small as these.
MACHINES = {
    "80 GB card (H100)": Machine("80 GB card (H100)", 80e9, 0.3 * 989e12, 0.3 * 67e12),
    "80 GB card (A100)": Machine("80 GB card (A100)", 80e9, 0.3 * 312e12, 0.3 * 19.5e12),
    "24 GB card (RTX 4090)": Machine("24 GB card (RTX 4090)", 24e9, 0.3 * 165e12, 0.3 * 82.6e12),
}


MARGIN = 2.0
"""Between the bytes that are counted here and those that a process is seen to hold. Measured on a CPU: 1.3 to 2.0, most
of it memory that the C library keeps back after it was freed (with MALLOC_MMAP_THRESHOLD_=65536 it is below 1)."""


@dataclass(frozen=True)
class Plan:
    """What attribution takes.

    Attributes
    ----------
    machine: where.
    weights: bytes of the model.
    per_prompt: bytes that every prompt of a batch adds.
    batch_size: the largest batch that fits.
    seconds: for all prompts.
    """

    machine: Machine
    weights: float
    per_prompt: float
    batch_size: int
    seconds: float

    @property
    def peak(self) -> float:
        """Bytes at the highest point."""
        return self.weights + self.batch_size * self.per_prompt

    def __repr__(self) -> str:
        return (
            f"Plan({self.machine.name}: batches of {self.batch_size}, {_size(self.peak)} at most "
            f"({_size(self.weights)} weights + {_size(self.per_prompt)} a prompt), about {_time(self.seconds)})"
        )


def plan(
    config: Any,
    prompts: int,
    positions: int,
    *,
    settings: Settings | None = None,
    machine: Machine | None = None,
    dtype: torch.dtype = torch.float32,
    loaded: bool = False,
) -> Plan:
    """Memory and time for `prompts` prompts of `positions` tokens, on a machine (default: this one).

    config: of a Hugging Face decoder. It is arithmetic on shapes: no weights are loaded.
    loaded: the weights are on the machine already, so that `machine.memory` is what is left beside them.
    Raises InputError if not even one prompt at a time fits, or if there are no prompts or no tokens.
    """
    if prompts < 1 or positions < 1:
        raise InputError(
            f"prompts={prompts}, positions={positions}.",
            "Without prompts, or without tokens, there is nothing to compute.",
            "Give at least one prompt of at least one token.",
        )
    settings = settings or Settings()
    machine = machine or this_machine(dtype=dtype)
    shape = _Shape(config)
    weights = float(shape.parameters * dtype.itemsize)
    per_prompt = shape.bytes_per_prompt(positions, settings, dtype)
    room = 0.9 * machine.memory - (0 if loaded else weights)
    fits = int(room // per_prompt)
    if fits < 1:
        raise InputError(
            f"{_size(weights)} of weights and {_size(per_prompt)} for a prompt do not fit {machine.name} with "
            f"{_size(machine.memory)}.",
            "Attribution would run out of memory on the first prompt.",
            "Use a smaller dtype (bfloat16), several devices (device_map), or shorter prompts.",
        )
    graph = Graph.of(config, settings.readers)
    backward = {"eap": 1, "eap-ig": settings.steps, "eap-ig-activations": settings.steps * len(groups(graph))}
    # A forward pass is 2 operations a weight and token; a backward pass to activations only is as much again. Mapping
    # and contracting gradients is measured to add about a half (benchmarks/circuits.py).
    passes = 2 + (graph.n_edges if settings.method == "exact" else 2 * backward[settings.method])
    flops = machine.flops if dtype.itemsize < 4 else machine.flops_float32 or machine.flops
    seconds = 1.5 * passes * 2 * shape.parameters * prompts * positions / flops
    return Plan(machine, weights, per_prompt, min(fits, prompts), seconds)


def this_machine(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Machine:
    """This machine as it is now: free memory, and the rate of a quick matrix product in `dtype`."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"this machine ({device.type})"
    return Machine(name, free_memory(device), _measured_flops(device, dtype))


def free_memory(device: torch.device) -> float:
    """Bytes that are free now: of a CUDA device, else of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(psutil.virtual_memory().available)


def _measured_flops(device: torch.device, dtype: torch.dtype, n: int = 1024) -> float:
    import time

    one = torch.ones(n, n, device=device, dtype=dtype)  # no random numbers: the caller's stay as they were
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        float((one @ one)[0, 0])  # reading a number waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


class _Shape:
    """The sizes of a decoder, from its config."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.d_model, self.layers = config.hidden_size, config.num_hidden_layers
        self.heads = config.num_attention_heads
        self.kv_heads = getattr(config, "num_key_value_heads", None) or self.heads
        self.d_head = getattr(config, "head_dim", None) or self.d_model // self.heads
        self.d_ff = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * self.d_model
        self.gated = config.model_type != "gpt2"

    @property
    def parameters(self) -> int:
        attention = self.d_model * self.d_head * (2 * self.heads + 2 * self.kv_heads)
        mlp = (3 if self.gated else 2) * self.d_model * self.d_ff
        rows = self.config.vocab_size * (1 if self.config.tie_word_embeddings else 2)
        return self.layers * (attention + mlp) + rows * self.d_model

    def bytes_per_prompt(self, positions: int, settings: Settings, dtype: torch.dtype) -> float:
        graph = Graph.of(self.config, settings.readers)
        itemsize, narrow = dtype.itemsize, contracted_in(dtype).itemsize
        wide = max(4, itemsize)  # sums are kept in float32 at least
        read = self.d_head * (self.heads + 2 * graph.kv_heads)  # by all heads of a layer
        readers = graph.readers_per_layer - 1
        # From run to run: the difference of the sources, and the factored sums of `gradients._OfAttention`.
        units = min(settings.steps, readers)
        sums = wide * self.layers * (read + self.d_model + units * readers)
        sums += narrow * self.layers * ((1 + units) * self.d_model + self.heads * self.d_head)
        # While a run goes on, what autograd keeps of a layer: the input of both norms (in float32 beside it, if that is
        # not the dtype), what attention reads and gives, and the inner activations of the MLP.
        inner = (3 if self.gated else 6) * self.d_ff
        kept = itemsize * (2 * self.d_model + read + self.heads * self.d_head + inner)
        kept += 0 if itemsize >= 4 else 4 * 4 * self.d_model
        run = positions * self.layers * kept
        # When all runs are done: the gradients of the readers written out, for as many tokens at a time as there is
        # room for, and a layer's readers on their way there.
        written = positions * narrow * (graph.n_readers + 2 * readers + units) * self.d_model
        once = wide * graph.n_sources * graph.n_readers * (positions if settings.positions else 1)
        logits = 4 * 4 * self.config.vocab_size
        return MARGIN * (positions * sums + max(run, min(written, WRITTEN_OUT)) + once + logits)


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
