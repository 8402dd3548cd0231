"""What a learner does in a notebook: post-train SmolLM2-135M until it can fill in a name from what comes after it.

The recipe that ships, cut to STEPS steps. It prints, as the training goes, the share right of reversed IOI, which an
ARM cannot do at all, and the minutes.

    .venv/bin/python benchmarks/notebook_posttraining.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from mdmcourse.diffusion.training import TrainConfig, TrainLog
from mdmcourse.models.dtype import faster_dtype
from mdmcourse.study.posttrain import Recipe, recipe_path, start, train_member

STEPS = 200


def main() -> None:
    recipe = Recipe.read(recipe_path("smollm2-135m"))
    dtype = faster_dtype()
    print(f"{torch.get_num_threads()} threads, {dtype}")
    mdm = start(recipe, "mdm", Path("unused"), dtype)

    def tell(log: TrainLog) -> None:
        row = log.rows[-1]
        tokens = row["step"] * recipe.train["batch_size"] * recipe.length
        print(
            f"{row['seconds'] / 60:>5.1f} min, step {row['step']:>4}, {tokens:>7,} tokens: loss {row['loss']:.2f}, "
            f"infilling {row['infilling']:.2f}, IOI {row['ioi']:.2f}, "
            f"reversed IOI {row['ioi-reversed']:.2f} (preferred {row['ioi-reversed preferred']:.2f})",
            flush=True,
        )

    config = TrainConfig(**{**recipe.train, "steps": STEPS, "log_every": 25, "save_every": 25})
    train_member(mdm, recipe, config, on_log=tell, progress=False)


if __name__ == "__main__":
    main()
