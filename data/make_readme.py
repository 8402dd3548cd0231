"""Write data/README.md from what lies here: sizes, checksums, and accuracies measured anew.

.venv/bin/python data/make_readme.py            about half an hour on two cores
.venv/bin/python data/make_readme.py --toys     leaves the figures of the real pairs as they are
.venv/bin/python data/make_readme.py --real     leaves those of the toys as they are
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mdmcourse.models import load, registry
from mdmcourse.models.lowrank import Adapter
from mdmcourse.storage import sha256, write_text
from mdmcourse.study.evaluate import evaluate_pair, share
from mdmcourse.study.posttrain import Recipe, recipe_path

HERE = Path(__file__).parent
PROMPTS = 500
CANDIDATES = 50
MARK = "## The real pairs"

HEAD = f"""# Data

Everything here was made by this project's own commands. `python data/make_readme.py` writes this page: it measures the
accuracies and lists the files.

- `registry.toml`: what can be loaded by name, with origins and licences.
- `checkpoints/toy/`: tiny Llamas (float16, safetensors, a folder each in Hugging Face's layout), trained by `mdmcourse
  train-toys PAIR --seed N` on prompts that the tasks in `mdmcourse/tasks/` generate. Licence: MIT. Each folder's
  `mdmcourse.json` keeps the recipe, the log of the training, the versions and the checksum.
- `checkpoints/smollm2-135m*/`: low-rank changes of SmolLM2-135M-Instruct, eight bits a number, made by `mdmcourse
  posttrain NAME` after the recipes in `recipes/`. Licence: Apache-2.0, as that of the model. Each file's header keeps
  the recipe, the log and the versions.
- `text/smollm2-135m-answers.jsonl.gz`: what SmolLM2-135M-Instruct answered to 512 plain requests, eight times each,
  made by `mdmcourse sample-text smollm2-135m` (the forms and topics are in `mdmcourse/study/text.py`). A tenth of the
  requests, with all their answers, is held out. Licence: Apache-2.0. A model of this size invents things: nothing in it
  is true.

## The toys

`mdmcourse evaluate PAIR --prompts {PROMPTS}`: {PROMPTS} prompts a task that share nothing with the training.

*First token*: the analysed token, with the whole answer from there on masked. *Whole answer*: as the model writes
it, an ARM from left to right, an MDM one token a step, most confident first. *Each token*: in a single pass, an ARM
with the right tokens before it in view, an MDM with the whole answer masked. An ARM cannot know the first token of
`chain` from what it was taught: it is at chance there, one in ten, and lesson 00 shows why. In `path` two ways leave
the start, and trained for long enough it takes the right one half of the time.

| pair | seed | member | task | first token | whole answer | each token |
|---|---|---|---|---|---|---|
"""

REAL = f"""
{MARK}

`mdmcourse evaluate PAIR --prompts {PROMPTS} --dtype float32 --by-bayes {CANDIDATES}`. Shares, with 95 % intervals over
prompts: of {PROMPTS} held-out prompts a task that are answered right, and of those at which the answer scores higher
than the distractor (*preferred*: the sign of the logit difference, for which circuits are found); and of the tokens of
held-out text, 30 % of which an ARM is asked for from left to right, and an MDM all at once. *attention-switched* is the
ARM read as an MDM, with no training: what the training itself did is the difference from there. *arm-by-bayes* is
the ARM asked the long way: with which of {CANDIDATES} words in the blank (those most probable from what stands before
it, the answer and the distractor) is the whole text most probable? An MDM that had learnt the ARM's own distribution of
texts without error would answer that. In bfloat16, which some machines are faster with, single prompts come out
otherwise: figures that differ by .02 or less may be the same model's.

"""

WHOLE, PREFERRED = ("whole_answer", "interval"), ("preferred", "preferred_interval")


def toys() -> Iterator[str]:
    for name, about in registry()["pairs"].items():
        for seed in about.get("seeds", []):
            for member, tasks in evaluate_pair(name, seed, n=PROMPTS)["members"].items():
                for task, row in tasks.items():
                    each = " ".join(f"{value:.3f}" for value in row["each_token"])
                    yield (
                        f"| {name} | {seed} | {member} | {task} | {row['first_token']:.3f} "
                        f"| {row['whole_answer']:.3f} | {each} |"
                    )


def real() -> Iterator[str]:
    for name, about in registry()["pairs"].items():
        if "base" not in about:
            continue
        result = evaluate_pair(name, n=PROMPTS, dtype=torch.float32, by_bayes=CANDIDATES)
        yield f"### {name}\n"
        yield f"{about['title']}.\n"
        yield "| member | task | right | preferred |\n|---|---|---|---|"
        for member, tasks in result["members"].items():
            for task, row in tasks.items():
                right, preferred = (share(row[a], row[b]) for a, b in (WHOLE, PREFERRED))
                yield f"| {member} | {task} | {right} | {preferred} |"
            if member in result.get("infilling", {}):
                found = result["infilling"][member]
                yield f"| {member} | 30 % of text | {share(found['share'], found['interval'])} | |"
        yield "\nOn the way, on few prompts:\n"
        yield from curves(name, about)
        yield ""


def curves(name: str, about: dict[str, Any]) -> Iterator[str]:
    """What the log of every member says, every hundred steps."""
    recipe = Recipe.read(recipe_path(name))
    sequences = recipe.sequences(load(recipe.base, progress=False).tokenizer, "train")
    length = sequences.attention_mask.sum().item() / len(sequences)
    logs = {
        member: Adapter.load(HERE / about["directory"] / f"{member}.safetensors").about["log"]
        for member in about["members"]
    }
    measured = [column for column in next(iter(logs.values()))[0] if column not in ("step", "seconds")]
    yield f"| member | tokens seen | {' | '.join(measured)} |"
    yield "|---" * (2 + len(measured)) + "|"
    for member, rows in logs.items():
        for row in rows:
            if row["step"] % 100 == 0 or row is rows[-1]:
                seen = row["step"] * recipe.train["batch_size"] * length
                yield f"| {member} | {seen:,.0f} | {' | '.join(f'{row[column]:.3f}' for column in measured)} |"


def files() -> Iterator[str]:
    yield "\n## Files\n\n| model | bytes | SHA-256 |\n|---|---|---|"
    for weights in sorted(HERE.glob("checkpoints/**/*.safetensors")):
        about = weights.parent / "mdmcourse.json"
        if about.is_file():
            shown, checksum = weights.parent, json.loads(about.read_text(encoding="utf-8"))["sha256"]
        else:
            shown, checksum = weights, sha256(weights)
        yield f"| {shown.relative_to(HERE)} | {weights.stat().st_size:,} | `{checksum}` |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toys", action="store_true", help="leave the figures of the real pairs as they are")
    parser.add_argument("--real", action="store_true", help="leave the figures of the toys as they are")
    options = parser.parse_args()
    page = HERE / "README.md"
    old = page.read_text(encoding="utf-8")
    rows = [line for line in old.splitlines() if line.startswith("| toy-")] if options.real else toys()
    of_toys = HEAD + "\n".join(rows) + "\n"
    of_real = f"\n{MARK}" + old.partition(f"\n{MARK}")[2].partition("\n## Files")[0]
    if not options.toys:
        of_real = REAL + "\n".join(real())
    write_text(page, of_toys + of_real + "\n".join(files()) + "\n")


if __name__ == "__main__":
    main()
