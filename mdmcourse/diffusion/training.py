"""Training that survives being killed: the same seed gives the same weights, whether or not it was interrupted.

Every step draws its batch and its noise from a generator seeded with the run's seed and the number of the step; so
does dropout, from PyTorch's own generator, which is put back afterwards.
So a step is a function of the weights, the optimiser's state and the step's number, and a checkpoint needs no more.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdmcourse.diffusion.objective import Objective, masked_objective
from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models.reading import ARM, MDM, LanguageModel
from mdmcourse.sequences import Sequences
from mdmcourse.storage import read_tensors, write_tensors


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes
    ----------
    steps: optimiser steps in all.
    batch_size: sequences a step.
    learning_rate: its peak; it rises linearly for `warmup` steps and falls along a cosine to 1 % of the peak.
    betas, weight_decay: of AdamW.
    clip: largest norm of the gradient.
    seed: of the batches and the noise.
    log_every: steps between rows of the log (and calls of `evaluate`).
    save_every: steps between checkpoints.
    """

    steps: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    log_every: int = 100
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.steps < 0 or min(self.batch_size, self.log_every, self.save_every) < 1:
            raise InputError(
                f"{self}.",
                "There would be nothing to train on, or no end to it.",
                "Give 0 or more steps, and a batch_size, log_every and save_every of at least 1.",
            )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, a function of nothing else."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


@dataclass
class TrainLog:
    """What a training reported: a row each `log_every` steps, with step, loss (mean since the last row), seconds."""

    config: TrainConfig
    rows: list[dict[str, float]] = field(default_factory=list)

    def __repr__(self) -> str:
        if not self.rows:
            return "TrainLog(empty)"
        last = ", ".join(f"{name} {value:.4g}" for name, value in self.rows[-1].items())
        return f"TrainLog({len(self.rows)} rows; last: {last})"


def train(
    model: LanguageModel,
    sequences: Sequences,
    objective: Objective,
    config: TrainConfig,
    *,
    evaluate: Callable[[LanguageModel], dict[str, float]] | None = None,
    on_log: Callable[[TrainLog], None] | None = None,
    checkpoint: str | Path | None = None,
    identity: str = "",
    until: Callable[[dict[str, float]], bool] | None = None,
    progress: bool = True,
) -> TrainLog:
    """Train `model` in place on batches drawn from `sequences`, and return the log.

    With `checkpoint`, the state is written there at the beginning, every `save_every` steps (where a row of the log
    ends) and at the end. If the file exists already, the training goes on from it and ends with the same weights as
    one that was never stopped (on the same machine, to the last bit). It is refused if it was begun with another
    configuration, on other texts, with another kind of model, or under another `identity`: say there what else makes
    this training what it is, such as its objective. `evaluate(model)` adds columns to the
    log; `on_log` sees the log as it grows, for a live plot. The training ends early with the first row of the log of
    which `until(row)` is true: at a target accuracy, for instance. The learning rate still falls as if it went on.

    Raises CheckpointError if the checkpoint belongs to another run or cannot be written, and InputError if the
    loss stops being a number.
    """
    from tqdm.auto import tqdm

    parameters = [parameter for parameter in model.decoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, config.betas, weight_decay=config.weight_decay)
    log = TrainLog(config)
    path = Path(checkpoint) if checkpoint is not None else None
    done, run = 0, _fingerprint(model, sequences, identity) if path is not None else ""
    if path is not None and path.exists():
        done = _restore(path, parameters, optimizer, log, run)
    elif path is not None:
        # The weights to begin with: an early interruption loses nothing, and a bad path is found before any work.
        _save(path, parameters, optimizer, log, done, run)
    started = time.monotonic() - (log.rows[-1]["seconds"] if log.rows else 0)
    losses: list[Tensor] = []
    model.decoder.train()
    bar = tqdm(total=config.steps, initial=done, desc="training", unit="step", disable=not progress)
    try:
        for step in range(done, config.steps):
            if until is not None and log.rows and not losses and until(log.rows[-1]):
                break
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            index = torch.randint(len(sequences), (config.batch_size,), generator=generator)
            batch = _to(sequences.select(index), model.device)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step)
            with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
                torch.manual_seed(config.seed * 1_000_003 + step)
                loss = objective(model, batch, step, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.clip)
            optimizer.step()
            losses.append(loss.detach())
            done = step + 1
            bar.update()
            if done % config.log_every == 0 or done == config.steps:
                row = {"step": done, "loss": torch.stack(losses).mean().item(), "seconds": time.monotonic() - started}
                losses.clear()
                _refuse_nan(row["loss"], done)
                if evaluate is not None:
                    model.decoder.eval()
                    row |= evaluate(model)
                    model.decoder.train()
                log.rows.append(row)
                bar.set_postfix(
                    {name: f"{value:.3g}" for name, value in row.items() if name not in ("step", "seconds")}
                )
                if on_log is not None:
                    on_log(log)
            # A checkpoint is written only where a row of the log ends, so that no loss is counted twice or never.
            if path is not None and done % config.save_every == 0 and not losses:
                _save(path, parameters, optimizer, log, done, run)
    finally:
        bar.close()
        model.decoder.eval()
    if path is not None:
        _save(path, parameters, optimizer, log, done, run)
    return log


def post_train(
    arm: ARM,
    sequences: Sequences,
    config: TrainConfig,
    *,
    mask_id: int | None = None,
    objective: Objective | None = None,
    **options: Any,
) -> tuple[MDM, TrainLog]:
    """Turn an ARM into an MDM: copy its weights, open its attention, keep its shift, train with masks.

    The ARM is not changed. `objective` defaults to `masked_objective()`: the bound, on the answer's tokens, attention
    open from the first step. `options` are those of `train`.
    """
    mdm = MDM.from_arm(arm, weights="copy", mask_id=mask_id)
    return mdm, train(mdm, sequences, objective or masked_objective(), config, **options)


def _to(batch: Sequences, device: torch.device) -> Sequences:
    if device.type == "cpu":
        return batch
    return Sequences(batch.tokens.to(device), batch.attention_mask.to(device), batch.answer.to(device))


def _refuse_nan(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"The loss was {loss} at step {step}.",
            "The weights are no longer numbers; training on would not mend them.",
            "Lower learning_rate, or look for texts that hold the mask token.",
        )


def _fingerprint(model: LanguageModel, sequences: Sequences, identity: str) -> str:
    """Of what a training is, beside its configuration. Not of the weights it began with: who runs a cell again has a
    model that is trained in part already."""
    read = (type(model).__name__, model.attention, model.shift, getattr(model, "mask_id", None), identity)
    digest = hashlib.sha256(repr(read).encode())
    for column in (sequences.tokens, sequences.attention_mask, sequences.answer):
        digest.update(column.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _save(
    path: Path,
    parameters: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    log: TrainLog,
    done: int,
    run: str,
) -> None:
    tensors: dict[str, Tensor] = {f"weight.{i}": parameter for i, parameter in enumerate(parameters)}
    for i, parameter in enumerate(parameters):
        for name, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{i}.{name}"] = value
    write_tensors(path, tensors, {"step": done, "run": run, "config": asdict(log.config), "rows": log.rows})


def _restore(
    path: Path, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, log: TrainLog, run: str
) -> int:
    tensors, about = read_tensors(path)
    shapes = [list(tensors[name].shape) for name in (f"weight.{i}" for i in range(len(parameters))) if name in tensors]
    config = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(log.config).items()}
    if about.get("config") != config or shapes != [list(parameter.shape) for parameter in parameters]:
        raise CheckpointError(
            f"{path} was written by a training with another configuration or another model.",
            "Going on from it would give a result that neither configuration describes.",
            "Delete the file to start anew, or use the configuration it was begun with.",
        )
    if about.get("run") != run:
        raise CheckpointError(
            f"{path} was written by another training: another kind of model, other texts, or another recipe.",
            "Going on from it would give a model that neither of the two trainings describes.",
            "Delete the file to start anew, or name another one.",
        )
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"weight.{i}"])
            prefix = f"optimizer.{i}."
            state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            # AdamW keeps its count of steps on the CPU and its averages beside the weights.
            optimizer.state[parameter] = {
                name: value if name == "step" else value.to(parameter) for name, value in state.items()
            }
    log.rows[:] = about["rows"]
    return about["step"]
