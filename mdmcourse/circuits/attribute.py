"""`attribute`: scores of all edges for any number of prompts, in batches that fit, resumable, over many processes."""

from __future__ import annotations

import glob
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mdmcourse.circuits.attribution import BatchScores, Method, Settings, attribute_batch
from mdmcourse.circuits.fingerprint import fingerprint, which_prompts
from mdmcourse.circuits.graph import Graph, Readers
from mdmcourse.circuits.metrics import Metric
from mdmcourse.circuits.plan import Machine, free_memory, plan
from mdmcourse.circuits.processes import wait_for_all, which_process
from mdmcourse.circuits.quadrature import Rule
from mdmcourse.circuits.scores import Scores
from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models.reading import LanguageModel, need_model
from mdmcourse.storage import read_tensors, write_tensors
from mdmcourse.tasks.task import Prompts


def attribute(
    model: LanguageModel,
    prompts: Prompts,
    method: Method = "eap-ig",
    steps: int = 5,
    rule: Rule = "gauss-legendre",
    metric: str | Metric = "logit_diff",
    readers: Readers = "kv",
    batch_size: int | None = None,
    *,
    positions: bool = False,
    keep_prompts: bool = False,
    save_to: str | Path | None = None,
    progress: bool = False,
) -> Scores:
    """How much every edge of a model matters for a metric, mean over prompts.

    Parameters
    ----------
    model: an ARM or an MDM; it is not changed.
    method, steps, rule, metric, readers, positions: see `mdmcourse.circuits.attribution`.
    batch_size: prompts computed together; by default as many as fit. If memory runs out it is halved, with a warning.
    keep_prompts: keep the scores of every single prompt, for bootstraps and split halves.
    save_to: a file for the result. What is done is saved after every batch beside it, and a run that was killed goes
        on from there, started with as many processes as before; a run that is already complete is read. A metric of
        your own has to be a function then, and not an object or a method: those cannot be told from each other. It is
        known by its code and by the numbers and functions that it closes over, was given by `functools.partial`, or
        looks up in its own module.
    progress: show a bar.

    Prompts have one length, and all their tokens are part of the input: none is taken for padding.

    With several processes the prompts are divided among them, and every process gets the whole result. Start a script
    that calls `attribute` with one of

        accelerate launch --multi_gpu --num_processes 2 script.py
        torchrun --nproc_per_node 2 script.py

    Both work without a GPU too, whatever the first one's flag is called: with `--cpu` instead, Accelerate (1.15) starts
    one process only, however many are asked for. `save_to` has to be on a disk that all processes see.

    Raises InputError for a model, a prompt, a setting or a metric that does not fit, UnknownNameError for a metric that
    does not exist, and CheckpointError if `save_to` holds the result of something else, is damaged, or cannot be
    written.
    """
    need_model(model)
    prompts.need_answers(model)
    if torch.is_inference_mode_enabled():
        raise InputError(
            "This is within torch.inference_mode().",
            "What is computed there has no gradient, and attribution needs one.",
            "Leave it, or use torch.no_grad() in its place, which attribution lifts for itself.",
        )
    settings = Settings(method, steps, rule, metric, readers, positions)
    if not len(prompts):
        raise InputError("There are no prompts.", "A mean over nothing is no number.", "Give at least one prompt.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size={batch_size}.", "A batch holds at least one prompt.", "Give 1 or more, or none.")
    rank, world = which_process(model.device)
    mine = prompts.select(torch.arange(len(prompts)).tensor_split(world)[rank]).to(model.device)
    final = None if save_to is None else Path(save_to)
    # Only with a file: all weights are read for it.
    record = "" if final is None else fingerprint(model, prompts, settings, keep_prompts)
    if final is not None and final.exists():
        return _read_final(final, record)
    partial = None if final is None else final.with_name(f".{final.name}.{rank}-of-{world}.partial")
    sums = _Sums() if partial is None else _Sums.resume(partial, record)
    left = mine.select(slice(sums.done, None))
    with tqdm(total=len(mine), initial=sums.done, desc="attribution", unit="prompt", disable=not progress) as bar:
        for batch in _batches(model, left, settings, batch_size):
            sums.add(batch, keep_prompts)
            bar.update(len(batch.clean))
            if partial is not None:
                sums.save(partial, record)
    total = _Sums.joined(_gather(sums, world))
    graph = Graph.of(model, readers)
    about = {**settings.about, "task": prompts.task, "model": repr(model), "which_prompts": which_prompts(prompts)}
    if final is not None:
        about["run"] = record
    scores = total.scores(graph, about)
    if final is not None:
        if rank == 0:
            scores.save(final)
        wait_for_all(world)
        # Those of this run, and what earlier tries with another number of processes may have left.
        for file in final.parent.glob(f".{glob.escape(final.name)}.[0-9]*-of-[0-9]*.partial*"):
            file.unlink(missing_ok=True)
    return scores


def _batches(
    model: LanguageModel, prompts: Prompts, settings: Settings, batch_size: int | None
) -> Iterator[BatchScores]:
    """Batch after batch. If memory runs out, the batch is halved and tried again."""
    if not len(prompts):
        return
    size = _planned_size(model, prompts, settings) if batch_size is None else batch_size
    done = 0
    while done < len(prompts):
        count = min(size, len(prompts) - done)
        try:
            batch = attribute_batch(model, prompts.select(slice(done, done + count)), settings)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error) or count == 1:
                raise
            size = count // 2
        else:
            yield batch
            done += count
            continue
        # Out of the except block, so that the failed batch's tensors can go.
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(f"Out of memory with {count} prompts at a time: going on with {size}.", stacklevel=3)


def _planned_size(model: LanguageModel, prompts: Prompts, settings: Settings) -> int:
    """How many prompts fit at a time."""
    memory = free_memory(model.device)
    if model.device.type == "cpu":  # all processes here share it
        memory /= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return plan(
        model.decoder.config,
        len(prompts),
        prompts.clean.shape[1],
        settings=settings,
        machine=Machine(f"this machine ({model.device.type})", memory, math.inf),  # no time is asked for
        dtype=model.decoder.dtype,
        loaded=True,
    ).batch_size


def _out_of_memory(error: BaseException) -> bool:
    """Is it that? On a CPU PyTorch raises a plain RuntimeError that says so."""
    told = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return told or "not enough memory" in str(error) or "can't allocate memory" in str(error)


@dataclass
class _Sums:
    """Sums over the prompts that are done. In float64, so that the order of batches and processes makes no difference
    that anybody sees."""

    done: int = 0
    values: Tensor | None = None
    by_position: Tensor | None = None
    by_prompt: list[Tensor] = field(default_factory=list)
    clean: float = 0.0
    corrupted: float = 0.0

    def add(self, batch: BatchScores, keep_prompts: bool) -> None:
        scores = batch.scores
        if scores.ndim == 4:
            share = scores.double().sum(dim=0)
            self.by_position = share if self.by_position is None else self.by_position + share
            scores = scores.sum(dim=1)
        total = scores.double().sum(dim=0)
        self.values = total if self.values is None else self.values + total
        if keep_prompts:
            self.by_prompt.append(scores.float())
        self.clean += float(batch.clean.double().sum())
        self.corrupted += float(batch.corrupted.double().sum())
        self.done += len(batch.clean)

    def save(self, path: Path, record: str) -> None:
        """Save the sums, and the last batch's scores of single prompts in a file of their own: what the batches before
        it left is not written again. That file first: the sums count only what is there."""
        if self.by_prompt:
            write_tensors(
                _batch_file(path, len(self.by_prompt) - 1), {"by_prompt": self.by_prompt[-1]}, {"run": record}
            )
        tensors = {"values": self.values, "by_position": self.by_position}
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        about = {"done": self.done, "clean": self.clean, "corrupted": self.corrupted}
        write_tensors(path, present, {"run": record, "batches": len(self.by_prompt), **about})

    @classmethod
    def resume(cls, path: Path, record: str) -> _Sums:
        """What an earlier run of the same saved, or nothing yet."""
        if not path.exists():
            return cls()
        tensors, about = read_tensors(path)
        if about.pop("run", None) != record:
            raise _other_run(path)
        by_prompt = []
        for index in range(about.pop("batches")):
            of_batch, batch_about = read_tensors(_batch_file(path, index))
            if batch_about.get("run") != record:
                raise _other_run(path)
            by_prompt.append(of_batch["by_prompt"])
        return cls(values=tensors["values"], by_position=tensors.get("by_position"), by_prompt=by_prompt, **about)

    @classmethod
    def joined(cls, parts: list[_Sums]) -> _Sums:
        """The sums of all processes, in their order."""
        parts = [part for part in parts if part.values is not None]

        def total(tensors: list[Tensor | None]) -> Tensor | None:
            found = [tensor for tensor in tensors if tensor is not None]
            return torch.stack(found).sum(dim=0) if found else None

        return cls(
            done=sum(part.done for part in parts),
            values=total([part.values for part in parts]),
            by_position=total([part.by_position for part in parts]),
            by_prompt=[tensor for part in parts for tensor in part.by_prompt],
            clean=sum(part.clean for part in parts),
            corrupted=sum(part.corrupted for part in parts),
        )

    def scores(self, graph: Graph, about: dict[str, Any]) -> Scores:
        assert self.values is not None
        return Scores(
            values=(self.values / self.done).float(),
            layers=graph.layers,
            heads=graph.heads,
            kv_heads=graph.kv_heads,
            clean=self.clean / self.done,
            corrupted=self.corrupted / self.done,
            prompts=self.done,
            about=about,
            by_prompt=torch.cat(self.by_prompt) if self.by_prompt else None,
            by_position=None if self.by_position is None else (self.by_position / self.done).float(),
        )


def _batch_file(partial: Path, index: int) -> Path:
    """Where the scores of single prompts of one batch are kept while a run goes on."""
    return partial.with_name(f"{partial.name}.{index}")


def _read_final(path: Path, record: str) -> Scores:
    scores = Scores.load(path)
    if scores.about.get("run") != record:
        raise _other_run(path)
    return scores


def _other_run(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} holds scores of another model, other prompts or other settings.",
        "Going on from it would mix two results.",
        "Give another save_to, or delete that file.",
    )


# Many processes


def _gather(sums: _Sums, world: int) -> list[_Sums]:
    if world == 1:
        return [sums]
    from accelerate.utils import gather_object

    return gather_object([sums])
