"""Every widget on data of the shipped toys, as the lessons show it: for screenshots and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mdmcourse import load_pair, sample_arm, sample_mdm
from mdmcourse.circuits import attribute, compare, faithfulness_curve
from mdmcourse.tasks import get_task
from mdmcourse.widgets import CircuitViewer, MaskingExplorer, UnmaskingPlayer

SENTENCE = [
    "The",
    " quick",
    " brown",
    " fox",
    " jumps",
    " over",
    " the",
    " lazy",
    " dog",
    " and",
    " runs",
    " away",
    ".",
]


@dataclass
class Data:
    """What the widgets are made of."""

    tokenizer: Any
    traces: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    comparisons: dict[str, Any]
    faithfulness: dict[str, dict[str, Any]]


@torch.no_grad()
def traces(pair: Any) -> dict[str, Any]:
    """The same Countdown answer written in four ways; the last one remasks."""
    prompt = pair.arm.encode("7 4 2 : 5 =")
    masked = pair.mdm.append_masks(prompt, 5)
    return {
        "ARM, left to right": sample_arm(pair.arm, prompt, 5),
        "MDM, most confident first": sample_mdm(pair.mdm, masked, order="confidence"),
        "MDM, two steps, by entropy": sample_mdm(pair.mdm, masked, order="entropy", steps=2),
        "MDM, remasking": sample_mdm(pair.mdm, masked, steps=4, remask=1),
    }


def collect(prompts: int = 64) -> Data:
    pair = load_pair("toy-countdown")
    scores, comparisons, curves = {}, {}, {}
    for name in pair.tasks:
        given = get_task(name).prompts(pair.arm.tokenizer, prompts, mask_id=pair.mdm.mask_id)
        both = {"ARM": pair.arm, "MDM": pair.mdm}
        scores[name] = {title: attribute(model, given, keep_prompts=True) for title, model in both.items()}
        comparisons[name] = compare(*scores[name].values(), bootstrap=50, halvings=5)
        curves[name] = {title: faithfulness_curve(model, given, scores[name][title]) for title, model in both.items()}
    return Data(pair.arm.tokenizer, traces(pair), scores, comparisons, curves)


def gallery(data: Data) -> dict[str, Any]:
    """A widget for each name."""
    return {
        "masking": MaskingExplorer(SENTENCE, t=0.4),
        "unmasking": UnmaskingPlayer(data.traces, data.tokenizer),
        "circuits-20": CircuitViewer(data.scores, data.comparisons, data.faithfulness, k=20),
        "circuits-400": CircuitViewer(data.scores, data.comparisons, data.faithfulness, k=400),
    }
