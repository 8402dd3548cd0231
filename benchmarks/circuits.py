"""Attribution and circuits against bare passes of the same batch: time, and the highest memory.

The bare forward and backward pass is the plain Hugging Face model on the same prompts: logits of the analysed token
only, gradients to the input embedding only. (The usual pass, with all logits and gradients for all weights, costs
more: it stands beside it.) Memory is what the process holds at the highest, less what it held before.

    .venv/bin/python benchmarks/circuits.py                 time and memory on SmolLM2-135M, float32 and bfloat16
    .venv/bin/python benchmarks/circuits.py --integration   rules of integration, toys and SmolLM2-135M
    .venv/bin/python benchmarks/circuits.py --processes     one process against two on the same prompts
    .venv/bin/python benchmarks/circuits.py --shapes        objects of Llama-2-7B's size, and memory plans for 7B pairs
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mdmcourse import load, load_pair
from mdmcourse.circuits import FRACTIONS, MACHINES, Graph, Scores, attribute, faithfulness_curve, plan
from mdmcourse.circuits.adapter import frozen
from mdmcourse.circuits.capture import target_logits
from mdmcourse.circuits.plan import this_machine
from mdmcourse.circuits.quadrature import Rule
from mdmcourse.models import ARM
from mdmcourse.models.reading import LanguageModel
from mdmcourse.tasks import get_task
from mdmcourse.tasks.task import Prompts

STEPS = 5
UNSEEN = 16  # stands for masked tokens of an ARM without a mask token: they come after what it reads


def bare_forward(model: ARM, prompts: Prompts) -> None:
    with torch.no_grad():
        target_logits(model, prompts.clean, prompts.target)


def bare_backward(model: ARM, prompts: Prompts) -> None:
    """Forward and backward, gradients to the embedding only."""
    with frozen(model.decoder):
        embedded = model.decoder.get_input_embeddings()(prompts.clean).detach().requires_grad_()
        hidden = model.decoder.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        rows = hidden[torch.arange(len(prompts)), prompts.target - 1]
        logits = model.decoder.get_output_embeddings()(rows)
        difference = logits.gather(1, prompts.answer[:, None]) - logits.gather(1, prompts.distractor[:, None])
        torch.autograd.grad(difference.sum(), embedded)


def usual_backward(model: ARM, prompts: Prompts) -> None:
    """Forward and backward as in training: all logits, gradients for all weights."""
    logits = model.decoder(prompts.clean, use_cache=False).logits[torch.arange(len(prompts)), prompts.target - 1]
    difference = logits.gather(1, prompts.answer[:, None]) - logits.gather(1, prompts.distractor[:, None])
    difference.sum().backward()
    model.decoder.zero_grad(set_to_none=True)


def curve(model: ARM, prompts: Prompts) -> None:
    """A curve at MIB's ten sizes, of circuits from scores of a few prompts, which are made once."""
    if "scores" not in MADE:
        MADE["scores"] = attribute(model, prompts.select(slice(0, 2)), "eap")
    faithfulness_curve(model, prompts, MADE["scores"], batch_size=len(prompts))


MADE: dict[str, Scores] = {}
WORK: dict[str, Callable[[ARM, Prompts], object]] = {
    "bare forward": bare_forward,
    "bare forward + backward": bare_backward,
    "usual forward + backward": usual_backward,
    "attribute": lambda model, prompts: attribute(model, prompts, steps=STEPS, batch_size=len(prompts)),
    "curve": curve,
}


def high_water() -> float:
    """Bytes this process held at most since `reset` (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("no VmHWM: memory can be measured on Linux only")


def reset() -> float:
    """Forget the high-water mark; returns what the process holds now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return high_water()


def measure(dtype: str, name: str, rounds: int, count: int) -> dict[str, float]:
    """Seconds (median) and peak bytes of one kind of work. In a process of its own: see `main`."""
    model = load("smollm2-135m", dtype=getattr(torch, dtype))
    assert isinstance(model, ARM)
    prompts = get_task("ioi").prompts(model.tokenizer, count, mask_id=UNSEEN)
    work = WORK[name]
    work(model, prompts.select(slice(0, 2)))  # warm-up
    before = reset()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work(model, prompts)
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "bytes": high_water() - before, "tokens": prompts.clean.numel()}


def time_and_memory(dtypes: list[str], rounds: int, count: int) -> None:
    for dtype in dtypes:
        found = {}
        for name in WORK:
            command = [sys.executable, __file__, "--measure", dtype, name, str(rounds), str(count)]
            found[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(
                f"{dtype}, {name:<26} {found[name]['seconds']:>7.2f} s {found[name]['bytes'] / 1e6:>9,.0f} MB",
                flush=True,
            )
        for bare in ("bare forward + backward", "usual forward + backward"):
            time_ratio = found["attribute"]["seconds"] / (STEPS * found[bare]["seconds"])
            memory_ratio = found["attribute"]["bytes"] / found[bare]["bytes"]
            print(f"{dtype}, attribute (m = {STEPS}) / m x {bare}: time {time_ratio:.2f}, memory {memory_ratio:.2f}")
        # A curve runs all edges and no edges beside its own points, and records the corrupted run.
        points = len(FRACTIONS) + 3
        point = found["curve"]["seconds"] / found["bare forward"]["seconds"] / points
        print(f"{dtype}, faithfulness curve, each of its {points} runs / bare forward: time {point:.2f}", flush=True)


RULES: list[tuple[Rule, int]] = [
    ("left", 5), ("right", 5), ("midpoint", 5), ("gauss-legendre", 5), ("gauss-legendre", 10), ("gauss-legendre", 20),
]  # fmt: skip


def integration() -> None:
    """Sum of the scores of the embedding's edges, by rule and number of points: how far it is off, as a share of what
    200 Gauss-Legendre points give. The exact value stands beside it: m(clean) - m(corrupted)."""
    cases: list[tuple[str, LanguageModel, str, int]] = []
    for name, tasks in (("toy-countdown", ("ioi", "countdown")), ("toy-chain", ("ioi", "chain"))):
        pair = load_pair(name)
        cases += [(f"{name} {kind} {task}", pair.members[kind], task, 64) for task in tasks for kind in ("arm", "mdm")]
    cases.append(("smollm2-135m arm ioi", load("smollm2-135m"), "ioi", 8))
    heads = "".join(f"{rule.replace('gauss-legendre', 'g.-leg.'):>9} {steps:>2}" for rule, steps in RULES)
    print(f"{'':<28}{'exact':>9}{'200':>9}{heads}")
    for label, model, task, count in cases:
        prompts = get_task(task).prompts(model.tokenizer, count, mask_id=getattr(model, "mask_id", UNSEEN))
        many = attribute(model, prompts, steps=200)
        total, exact = float(many.values[0].sum()), many.clean - many.corrupted
        row = ""
        for rule, steps in RULES:
            found = float(attribute(model, prompts, steps=steps, rule=rule).values[0].sum())
            # Where corruption costs nothing there is no share of it.
            row += f"{found / total - 1:>+12.1%}" if abs(exact) > 0.1 else f"{'-':>12}"
        print(f"{label:<28}{exact:>9.3f}{total:>9.3f}{row}", flush=True)


def attribute_in_this_process(count: int) -> None:
    """One attribution, divided among as many processes as this one was started with: a line of JSON from each."""
    torch.set_num_threads(1)
    arm = load_pair("toy-countdown").arm
    prompts = get_task("countdown").prompts(arm.tokenizer, count)
    attribute(arm, prompts.select(slice(0, 2)), steps=1, batch_size=1)  # warm-up; and processes meet
    started, worked = time.perf_counter(), time.process_time()
    scores = attribute(arm, prompts, steps=STEPS, batch_size=64)
    seconds, work = time.perf_counter() - started, time.process_time() - worked
    line = json.dumps({"seconds": seconds, "work": work, "sum": float(scores.values.sum())})
    sys.stdout.write(f"{line}\n")  # in one piece: the other process writes too


def processes(rounds: int, count: int) -> None:
    """The same prompts in one process and in two, one thread each, by turns.

    Beside the time on the clock stands that of the processor, of whichever process had more of it: where other programs
    run too, two processes get a larger share of the machine than one, and the clock alone would flatter them.
    """
    launchers = {1: [], 2: ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]}
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for number, launcher in launchers.items():
            command = [sys.executable, *launcher, __file__, "--in-this-process", "--prompts", str(count)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
            each = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
            slowest = {name: max(one[name] for one in each) for name in each[0]}
            found[number].append(slowest)
            print(f"in {number}: {slowest['seconds']:.2f} s, processor {slowest['work']:.2f} s", flush=True)
    clock, work = (
        statistics.median(one[name] for one in found[1]) / statistics.median(two[name] for two in found[2])
        for name in ("seconds", "work")
    )
    print(
        f"toy-countdown ARM, countdown, {count} prompts, m = {STEPS}, one thread a process: one process / two: "
        f"clock {clock:.2f}, processor {work:.2f}; sums of scores {found[1][0]['sum']:.6f}, {found[2][0]['sum']:.6f}"
    )


def shapes() -> None:
    from transformers import LlamaConfig, Qwen2Config

    llama = LlamaConfig(vocab_size=32000)
    qwen = Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4,
    )  # fmt: skip
    before = reset()
    started = time.perf_counter()
    graph = Graph.of(llama, "query")
    values = torch.zeros(graph.n_sources, graph.n_readers)
    scores = Scores(values, graph.layers, graph.heads, graph.kv_heads, 1.0, 0.0, 1, {})
    _ = scores.exists, scores.sources, scores.readers
    seconds = time.perf_counter() - started
    print(f"Llama-2-7B, {graph.n_edges:,} edges: {seconds:.2f} s, {(high_water() - before) / 1e6:.0f} MB")
    for name, config in (("Llama-2-7B / DiffuLLaMA", llama), ("Qwen2.5-7B / Dream", qwen)):
        for machine in (*MACHINES.values(), this_machine()):
            needed = plan(config, 256, 40, machine=machine, dtype=torch.bfloat16)
            print(f"{name}, 256 prompts of 40 tokens, bfloat16: {needed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--integration", action="store_true")
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--dtype", action="append", choices=("float32", "bfloat16"), help="default: both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, help="default: 64, with --processes 512")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        dtype, name, rounds, count = options.measure
        print(json.dumps(measure(dtype, name, int(rounds), int(count))))
    elif options.integration:
        integration()
    elif options.in_this_process:
        attribute_in_this_process(options.prompts)
    elif options.processes:
        processes(options.rounds, options.prompts or 512)
    elif options.shapes:
        shapes()
    else:
        time_and_memory(options.dtype or ["float32", "bfloat16"], options.rounds, options.prompts or 64)


if __name__ == "__main__":
    main()
