"""Write book/large_models.md: the figures in it are those of the memory plan, computed when this is run.

.venv/bin/python book/make_large_models.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, Qwen2Config

from mdmcourse.circuits import MACHINES, Machine, plan
from mdmcourse.storage import write_text

PAGE = Path(__file__).parent / "large_models.md"
PROMPTS, TOKENS = 256, 40
CONFIGS = {
    "Llama-2-7B / DiffuLLaMA": LlamaConfig(vocab_size=32000),
    "Qwen2.5-7B / Dream": Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, tie_word_embeddings=False,
    ),
}  # fmt: skip
TWO = Machine("two 24 GB cards, layers divided", 2 * 24e9, MACHINES["24 GB card (RTX 4090)"].flops)


def table() -> str:
    lines = [
        "| model | dtype | machine | prompts a batch | memory at most | of it weights | time, estimated |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, config in CONFIGS.items():
        for dtype, machines in (
            (torch.bfloat16, [MACHINES["80 GB card (H100)"], MACHINES["24 GB card (RTX 4090)"], TWO]),
            (torch.float32, [MACHINES["80 GB card (H100)"], TWO]),
        ):
            for machine in machines:
                found = plan(config, PROMPTS, TOKENS, machine=machine, dtype=dtype)
                # The data sheets' rates are those of bfloat16.
                seconds = f"{found.seconds:.0f} s" if dtype == torch.bfloat16 else "not estimated"
                lines.append(
                    f"| {name} | {str(dtype).removeprefix('torch.')} | {machine.name} | {found.batch_size} "
                    f"| {found.peak / 1e9:.0f} GB | {found.weights / 1e9:.0f} GB | {seconds} |"
                )
    return "\n".join(lines)


TEXT = """# Models of seven billion

The course needs none of this: its models run on two CPU cores. If you have a GPU, the same commands and the same
notebooks work on the pairs that the paper studied. This page says what they need, and what of it has been tried.

## What it takes

Attribution holds the weights, one forward and backward pass of a batch, and sums from run to run. `plan` counts that
before anything is loaded, chooses the largest batch that fits, and estimates the time from the number of
floating-point operations; `attribute` asks it by itself when you give no batch size. For {prompts} prompts of {tokens}
tokens, EAP-IG with five steps, one model:

{table}

The memory is twice what is counted, because that is how far processes were seen to exceed the count on a CPU. The time
supposes that the card does 30 % of the operations a second on its data sheet. Neither has been measured on a GPU. If
memory runs out all the same, the batch is halved and the run goes on, with a warning.

Add the download: both models of a pair, about two bytes a parameter each. `mdmcourse pairs` lists what a pair takes
and whether it fits the machine you are on; `mdmcourse fetch NAME` says how much it will download before it begins, and
goes on where it was interrupted. Where there is no network, copy the folders that it prints
(`cp -rL`: they hold links), and give them: `load_pair("dream-7b", weights={{"arm": FOLDER, "mdm": FOLDER}})`.

## One 80 GB card

```python
import torch
from mdmcourse import get_task, load_pair
from mdmcourse.circuits import attribute

pair = load_pair("dream-7b", device="cuda", dtype=torch.bfloat16)
prompts = get_task("ioi").prompts(pair.arm.tokenizer, {prompts}, mask_id=pair.mdm.mask_id)
scores = attribute(pair.arm, prompts, keep_prompts=True, save_to="dream-arm-ioi.safetensors")
```

Two models of seven billion parameters in bfloat16 fit beside each other. Each is read into the machine's own memory,
15 GB, before it goes to the card. If memory is short, load one at a time with `load`. With `save_to` what is done is
saved after every batch: after an interruption, run the cell again.

## Two 24 GB cards

In bfloat16 each card holds the whole model, so let each do half the prompts. Put the lines above into a file, leave out
`device`, call `model.decoder.to(f"cuda:{{local_rank}}")`, and start it twice:

```bash
torchrun --nproc_per_node 2 my_attribution.py
```

`attribute` sees that there are two processes and divides the prompts among them; each gets the whole result. In float32
the weights do not fit one of these cards: `load("dream-7b-base", device_map="auto")` divides the layers between both,
and the two take turns.

## Several nodes

Prompts are independent and scores are sums, so that nothing but the sums crosses the network, once, at the end:

```bash
accelerate launch --multi_gpu --num_machines 4 --num_processes 16 \\
    --machine_rank $RANK --main_process_ip $HOST --main_process_port 29500 my_attribution.py
```

## What has been tried, and what has not

{claims}
"""


CLAIMS = {
    "Checkpoints in the published layouts load, and compute exactly what their source computes.":
        "Yes: small stand-ins, written by the tests in each layout.",
    "Damaged or mislabelled checkpoints are refused.":
        "Yes: on the same stand-ins.",
    "The released files of seven billion parameters load.":
        "**No**: they were not at hand. Shapes, keys and mask tokens are checked when you load them.",
    "Attribution is exact for these families.":
        "Yes: random small models of each, against finite differences in double precision.",
    "Memory of attribution is within a factor of two of the plan.":
        "Yes: small models, on a CPU.",
    "Several processes give the scores of one.":
        "Yes: two processes on a CPU, to 1e-6.",
    "Memory and time on a GPU; several nodes; layers divided over several cards (`device_map`).":
        "**No.**",
}  # fmt: skip


def page() -> str:
    """The whole page."""
    claims = "\n".join(["| claim | tried? |", "|---|---|", *(f"| {what} | {said} |" for what, said in CLAIMS.items())])
    return TEXT.format(table=table(), claims=claims, prompts=PROMPTS, tokens=TOKENS)


if __name__ == "__main__":
    write_text(PAGE, page())
