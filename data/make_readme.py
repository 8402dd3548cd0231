"""Write data/README.md from what lies here: sizes, checksums, and accuracies measured anew.

.venv/bin/python data/make_readme.py
"""

from __future__ import annotations

import json
from pathlib import Path

from mdmcourse.models import registry
from mdmcourse.storage import write_text
from mdmcourse.study.evaluate import evaluate_pair

HERE = Path(__file__).parent
PROMPTS = 500

HEAD = f"""# Data

Everything here was made by this project's own commands. `python data/make_readme.py` writes this page: it measures the
accuracies and lists the files.

- `registry.toml`: what can be loaded by name, with origins and licences.
- `checkpoints/toy/`: tiny Llamas (float16, safetensors, a folder each in Hugging Face's layout), trained by `mdmcourse
  train-toys PAIR --seed N` on prompts that the tasks in `mdmcourse/tasks/` generate. Licence: MIT. Each folder's
  `mdmcourse.json` keeps the recipe, the log of the training, the versions and the checksum.

## How often the toys are right

`mdmcourse evaluate PAIR --prompts {PROMPTS}`: {PROMPTS} prompts a task that share nothing with the training.

*First token*: the analysed token, with the whole answer from there on masked. *Whole answer*: as the model writes
it, an ARM from left to right, an MDM one token a step, most confident first. *Each token*: in a single pass, an ARM
with the right tokens before it in view, an MDM with the whole answer masked. An ARM cannot know the first token of
`chain` from what it was taught: it is at chance there, one in ten, and lesson 00 shows why.

| pair | seed | member | task | first token | whole answer | each token |
|---|---|---|---|---|---|---|
"""

FILES = """
## Files

| model | bytes | SHA-256 of `model.safetensors` |
|---|---|---|
"""


def main() -> None:
    rows = []
    for name, about in registry()["pairs"].items():
        for seed in about["seeds"]:
            for member, tasks in evaluate_pair(name, seed, n=PROMPTS)["members"].items():
                for task, row in tasks.items():
                    each = " ".join(f"{value:.3f}" for value in row["each_token"])
                    rows.append(
                        f"| {name} | {seed} | {member} | {task} | {row['first_token']:.3f} "
                        f"| {row['whole_answer']:.3f} | {each} |"
                    )
    files = []
    for weights in sorted(HERE.glob("checkpoints/**/model.safetensors")):
        checksum = json.loads((weights.parent / "mdmcourse.json").read_text(encoding="utf-8"))["sha256"]
        files.append(f"| {weights.parent.relative_to(HERE)} | {weights.stat().st_size:,} | `{checksum}` |")
    write_text(HERE / "README.md", HEAD + "\n".join(rows) + "\n" + FILES + "\n".join(files) + "\n")


if __name__ == "__main__":
    main()
