"""Attribution and circuits against bare passes of the same batch: time, and the highest memory.

The bare forward and backward pass is the plain Hugging Face model on the same prompts: logits of the analysed token
only, gradients to the input embedding only. (The usual pass, with all logits and gradients for all weights, costs
more: it stands beside it.) Memory is what the process holds at the highest, less what it held before.

    .venv/bin/python benchmarks/circuits.py                 time and memory on SmolLM2-135M, float32 and bfloat16
    .venv/bin/python benchmarks/circuits.py --integration   rules of integration, toys and SmolLM2-135M
    .venv/bin/python benchmarks/circuits.py --shapes        objects of Llama-2-7B's size, and memory plans for 7B pairs
"""

from __future__ import annotations

import argparse
import json
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
from mdmcourse.models import ARM
from mdmcourse.tasks import get_task
from mdmcourse.tasks.task import Prompts

STEPS = 5


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
    """A curve at MIB's ten sizes, of circuits from scores of a few prompts."""
    scores = SCORES.get("scores") or SCORES.setdefault("scores", attribute(model, prompts.select(slice(0, 2)), "eap"))
    faithfulness_curve(model, prompts, scores, batch_size=len(prompts))


SCORES: dict[str, Scores] = {}
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
    prompts = get_task("ioi").prompts(model.tokenizer, count, mask_id=16)
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
        # A curve runs all edges and no edges beside its own points, and records the clean and the corrupted run.
        points = len(FRACTIONS) + 4
        point = found["curve"]["seconds"] / found["bare forward"]["seconds"] / points
        print(f"{dtype}, faithfulness curve, each of its {points} runs / bare forward: time {point:.2f}", flush=True)


def integration() -> None:
    """Sum of the embedding's edges by rule, against 200 Gauss-Legendre points and the exact m(clean) - m(corrupted)."""
    cases = []
    for name, tasks in (("toy-countdown", ("ioi", "countdown")), ("toy-chain", ("ioi", "chain"))):
        pair = load_pair(name)
        cases += [(f"{name} {kind} {task}", pair.members[kind], task, 64) for task in tasks for kind in ("arm", "mdm")]
    smollm = load("smollm2-135m")
    cases.append(("smollm2-135m arm ioi", smollm, "ioi", 8))
    print(f"{'':<30} {'200 points':>11} {'exact':>8}   relative error with 5 points")
    print(f"{'':<51}   {'left':>8} {'right':>8} {'midpoint':>8} {'g.-leg.':>8}   with 10: {'left':>8} {'g.-leg.':>8}")
    for label, model, task, count in cases:
        prompts = get_task(task).prompts(model.tokenizer, count, mask_id=getattr(model, "mask_id", 16))
        many = attribute(model, prompts, steps=200)
        total = float(many.values[0].sum())
        exact = many.clean - many.corrupted
        error = {
            (rule, steps): float(attribute(model, prompts, steps=steps, rule=rule).values[0].sum()) / total - 1
            for rule, steps in [
                ("left", 5), ("right", 5), ("midpoint", 5), ("gauss-legendre", 5), ("left", 10), ("gauss-legendre", 10),
            ]
        }  # fmt: skip
        row = " ".join(f"{value:>+8.1%}" for (_, steps), value in error.items() if steps == 5)
        ten = " ".join(f"{value:>+8.1%}" for (_, steps), value in error.items() if steps == 10)
        print(f"{label:<30} {total:>11.3f} {exact:>8.3f}   {row}            {ten}", flush=True)


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
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--dtype", action="append", choices=("float32", "bfloat16"), help="default: both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        dtype, name, rounds, count = options.measure
        print(json.dumps(measure(dtype, name, int(rounds), int(count))))
    elif options.integration:
        integration()
    elif options.shapes:
        shapes()
    else:
        time_and_memory(options.dtype or ["float32", "bfloat16"], options.rounds, options.prompts)


if __name__ == "__main__":
    main()
