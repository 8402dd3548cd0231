"""Activation patching: what one activation is worth, found by carrying it from one run into the other.

Every prompt is run clean and corrupted. A *cell* is one activation at one token position, or at all of them. To
*denoise* is to repeat the corrupted run with one cell taken from the clean run: what restores the answer is sufficient
for it, the rest being corrupted. To *noise* is to repeat the clean run with one cell taken from the corrupted run: what
destroys the answer is necessary for it. The two need not agree (Heimersheim & Nanda, arXiv 2404.15255).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from mdmcourse.circuits.adapter import Anatomy, anatomy
from mdmcourse.circuits.capture import after, before, before_block, target_logits
from mdmcourse.circuits.metrics import Metric, get_metric, judge
from mdmcourse.errors import InputError
from mdmcourse.models.reading import LanguageModel, need_model
from mdmcourse.storage import Saved
from mdmcourse.tasks.task import Prompts

What = Literal["residual", "attention", "mlps", "heads"]
Direction = Literal["denoise", "noise"]


@dataclass(frozen=True)
class Patching(Saved):
    """What patching every cell made of the metric.

    Attributes
    ----------
    values: the metric with that one cell patched, mean over prompts, in the metric's unit: [layer], [layer pos],
        [layer head] or [layer head pos]. For "residual" there is one row more than layers: row i is the residual
        stream that enters layer i, and the last row the one that enters the final norm.
    clean, corrupted: the metric of the two runs, mean over prompts.
    what: "residual", "attention", "mlps" or "heads".
    direction: "denoise" or "noise".
    about: metric, number of prompts, task, model.
    """

    values: Float[Tensor, "layer ..."]
    clean: float
    corrupted: float
    what: What
    direction: Direction
    about: dict[str, Any]

    @property
    def normalised(self) -> Float[Tensor, "layer ..."]:
        """The share of the distance between the two runs that a cell covers, without unit.

        "denoise": (value - corrupted) / (clean - corrupted); 1 if the cell restores everything.
        "noise": (clean - value) / (clean - corrupted); 1 if the cell destroys everything.
        In both 0 means no effect; values can lie outside of 0 to 1.
        Raises InputError if the metric is the same in both runs.
        """
        if self.clean == self.corrupted:
            raise InputError(
                f"The metric is {self.clean:.3g} in the clean and in the corrupted run.",
                "There is nothing to restore or to destroy, and no share of it.",
                "Use prompts whose corruption alters the answer, or look at `values`.",
            )
        lost = self.clean - self.corrupted
        return (
            (self.values - self.corrupted) / lost if self.direction == "denoise" else (self.clean - self.values) / lost
        )

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.values.shape))
        how = f"{self.direction} {self.what}, {self.about.get('metric', 'metric')}: {shape} cells"
        runs = f"clean {self.clean:.3g}, corrupted {self.corrupted:.3g}"
        if self.clean == self.corrupted:
            return f"Patching({how}; {runs}: no difference to explain)"
        share = self.normalised
        best = torch.unravel_index(share.argmax(), share.shape)
        done = "restores" if self.direction == "denoise" else "destroys"
        return f"Patching({how}; {runs}; {self._name([int(i) for i in best])} {done} {float(share.max()):.0%})"

    def _name(self, cell: list[int]) -> str:
        """A cell in words."""
        layer, rest = cell[0], cell[1:]
        if self.what == "residual":
            name = "the stream into " + (f"layer {layer}" if layer < len(self.values) - 1 else "the final norm")
        else:
            name = f"m{layer}" if self.what == "mlps" else f"a{layer}"
        if self.what == "heads":
            name, rest = f"{name}.h{rest[0]}", rest[1:]
        return f"{name} at position {rest[0]}" if rest else name


@torch.no_grad()
def activation_patching(
    model: LanguageModel,
    prompts: Prompts,
    what: What = "residual",
    *,
    direction: Direction = "denoise",
    by_position: bool = True,
    metric: str | Metric = "logit_diff",
    batch_size: int = 64,
    progress: bool = False,
) -> Patching:
    """The metric with one activation after another carried from one run into the other (Meng et al., arXiv 2202.05262).

    Parameters
    ----------
    model: an ARM or an MDM; it is not changed.
    what: "residual" the residual stream that enters each layer, and the one that enters the final norm; "attention"
        what all heads of a layer together add to the stream; "mlps" what the layer's MLP adds; "heads" what each head
        adds.
    direction: "denoise" patches clean activations into the corrupted run, "noise" corrupted ones into the clean run.
    by_position: one cell for each token position, or one for all positions at once.
    metric: "logit_diff" (in logits), "answer_logprob", "kl" (in nats), or a function (see `metrics`).
    batch_size: prompts computed together. Every cell takes one forward pass a batch.

    Raises InputError for a decoder of an unknown family, no prompts, or a setting that does not exist, and
    UnknownNameError for a metric that does not.
    """
    need_model(model)
    prompts.need_answers(model)
    _check(prompts, what, direction, batch_size)
    metric_name, judged = get_metric(metric)
    parts = anatomy(model.decoder)
    places = _places(parts, what)
    heads, d_head, _ = parts.layers[0].output_weight.shape
    pos = prompts.clean.shape[1]
    of_heads = [slice(head * d_head, (head + 1) * d_head) for head in range(heads)]
    features = of_heads if what == "heads" else [slice(None)]
    positions = [slice(i, i + 1) for i in range(pos)] if by_position else [slice(None)]
    cells = list(product(range(len(places)), features, positions))
    starts = range(0, len(prompts), batch_size)
    # Sums in float64, so that the size of the batches makes no difference.
    clean, corrupted = 0.0, 0.0
    values = torch.zeros(len(cells), dtype=torch.float64)
    with tqdm(total=len(starts) * len(cells), desc="patching", unit="cell", disable=not progress) as bar:
        for start in starts:
            batch = prompts.select(slice(start, start + batch_size)).to(model.device)
            clean_run, clean_logits = _recorded(model, places, batch.clean, batch.target)
            corrupted_run, corrupted_logits = _recorded(model, places, batch.corrupted, batch.target)
            total = partial(_total, judged, batch, clean_logits)
            clean += total(clean_logits)
            corrupted += total(corrupted_logits)
            denoise = direction == "denoise"
            tokens, given = (batch.corrupted, clean_run) if denoise else (batch.clean, corrupted_run)
            for index, (layer, part, at) in enumerate(cells):
                with _hooked([places[layer]], _replacing(given[layer], part, at)):
                    values[index] += total(target_logits(model, tokens, batch.target))
                bar.update()
    shape = [len(places), *([heads] if what == "heads" else []), *([pos] if by_position else [])]
    n = len(prompts)
    return Patching(
        values=(values / n).view(shape),
        clean=clean / n,
        corrupted=corrupted / n,
        what=what,
        direction=direction,
        about={"metric": metric_name, "prompts": n, "task": prompts.task, "model": repr(model)},
    )


Change = Callable[[Tensor], Tensor | None]
Place = Callable[[Change], Any]
"""Hooks a change to one activation of a layer; gives the hook's handle."""


def _places(parts: Anatomy, what: What) -> list[Place]:
    """Where the activations are, in the order in which a forward pass meets them.

    Attention is patched where the heads' results lie side by side, before the output weight: all of them together
    give what attention adds, but for a bias, which is the same in every run.
    """
    if what == "residual":
        return [*(partial(before_block, layer.block) for layer in parts.layers), partial(before, parts.final_norm)]
    if what == "mlps":
        return [partial(after, layer.mlp) for layer in parts.layers]
    return [partial(before, layer.output) for layer in parts.layers]


@contextmanager
def _hooked(places: list[Place], change: Change) -> Iterator[None]:
    """`change` sees, and may replace, the activations at these places while the block runs."""
    with ExitStack() as stack:
        for place in places:
            stack.callback(place(change).remove)
        yield


def _recorded(
    model: LanguageModel, places: list[Place], tokens: Int[Tensor, "batch pos"], target: Int[Tensor, " batch"]
) -> tuple[list[Tensor], Float[Tensor, "batch vocab"]]:
    """The activations at all places, and the logits at the target."""
    activations: list[Tensor] = []
    with _hooked(places, activations.append):
        logits = target_logits(model, tokens, target)
    return activations, logits


def _total(metric: Metric, prompts: Prompts, clean: Tensor, logits: Tensor) -> float:
    """The sum of the metric over the prompts."""
    return float(judge(metric, logits, prompts, clean).cpu().double().sum())


def _replacing(given: Float[Tensor, "batch pos feature"], features: slice, positions: slice) -> Change:
    """A change that takes these features, at these positions, from another run."""

    def put(activation: Tensor) -> Tensor:
        patched = activation.clone()
        patched[:, positions, features] = given[:, positions, features].to(patched)
        return patched

    return put


def _check(prompts: Prompts, what: str, direction: str, batch_size: int) -> None:
    if what not in get_args(What):
        raise InputError(
            f"what={what!r}.", "It is not a kind of activation that can be patched.", f"Use one of {get_args(What)}."
        )
    if direction not in get_args(Direction):
        raise InputError(
            f"direction={direction!r}.",
            "It has to be clear which run is repeated, and which one gives the activation.",
            'Use "denoise" (clean into corrupted) or "noise" (corrupted into clean).',
        )
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}.", "A batch holds at least one prompt.", "Give 1 or more.")
    if not len(prompts):
        raise InputError("There are no prompts.", "A mean over nothing is no number.", "Give at least one prompt.")
