"""Every widget on data of the shipped toys, as the lessons show it: for screenshots and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mdmcourse import load_pair, sample_arm, sample_mdm
from mdmcourse.circuits import activation_patching, attribute, compare, faithfulness_curve
from mdmcourse.lens import attention_patterns, logit_lens
from mdmcourse.tasks import get_task
from mdmcourse.widgets import (
    AttentionViewer,
    CircuitViewer,
    LensViewer,
    MaskingExplorer,
    PatchingViewer,
    ShiftSummary,
    UnmaskingPlayer,
)

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

VERDICTS = {
    "A picture, not a result": "one seed and few prompts: see the lessons for what reproduces.",
    "What to look at": "whether the pair falls below its ceilings further than the control does.",
}


@dataclass
class Data:
    """What the widgets are made of."""

    tokenizer: Any
    tokens: dict[str, list[str]]
    attention: dict[str, Any]
    prompts: Any
    patchings: dict[str, dict[str, Any]]
    shift: dict[str, dict[str, Any]]
    lens: dict[str, Any]
    follow: dict[str, int]
    tokens_of_steps: dict[str, list[list[str]]]
    steps: dict[str, Any]
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


def words(tokenizer: Any, tokens: Any) -> list[str]:
    return [tokenizer.decode([token]) for token in tokens.tolist()]


def collect() -> Data:
    """A minute's work on two quiet cores."""
    torch.set_num_threads(1)  # the models are tiny: threads would only wait for one another
    pair = load_pair("toy-countdown")
    both = {"ARM": pair.arm, "MDM": pair.mdm}
    scores, comparisons, curves, shift = {}, {}, {}, {}
    for name in pair.tasks:
        given = get_task(name).prompts(pair.arm.tokenizer, 64, mask_id=pair.mdm.mask_id)
        scores[name] = {title: attribute(model, given, keep_prompts=True) for title, model in both.items()}
        comparisons[name] = compare(*scores[name].values(), bootstrap=50, halvings=5)
        control = attribute(pair.controls["arm-trained-on"], given, keep_prompts=True)
        shift[name] = {
            "ARM and MDM": comparisons[name],
            "control: the ARM trained on": compare(scores[name]["ARM"], control, bootstrap=50, halvings=5),
        }
        curves[name] = {title: faithfulness_curve(model, given, scores[name][title]) for title, model in both.items()}
    given = get_task("ioi").prompts(pair.arm.tokenizer, 16, mask_id=pair.mdm.mask_id)
    few = given.select(slice(0, 4))
    return Data(
        pair.arm.tokenizer,
        tokens={title: words(pair.arm.tokenizer, given.clean[0]) for title in both},
        attention={title: attention_patterns(model, given.clean[:1])[:, 0] for title, model in both.items()},
        prompts=given,
        patchings={
            "residual": {title: activation_patching(model, given) for title, model in both.items()},
            "heads": {
                title: activation_patching(model, few, "heads", direction="noise") for title, model in both.items()
            },
            "MLPs": {
                title: activation_patching(model, given, "mlps", by_position=False) for title, model in both.items()
            },
        },
        shift=shift,
        lens={title: logit_lens(model, given.clean[:1])[:, 0] for title, model in both.items()},
        follow={"answer": int(given.answer[0]), "distractor": int(given.distractor[0])},
        **by_step(pair),
        traces=traces(pair),
        scores=scores,
        comparisons=comparisons,
        faithfulness=curves,
    )


def by_step(pair: Any) -> dict[str, Any]:
    """What the MDM looks at in every step of its writing, and what stands there then."""
    masked = pair.mdm.append_masks(pair.arm.encode("7 4 2 : 5 ="), 5)
    trace = sample_mdm(pair.mdm, masked)
    states = [state.masked_fill(state < 0, pair.mdm.mask_id) for state in trace.tokens[:-1]]
    return {
        "steps": {"MDM": torch.stack([attention_patterns(pair.mdm, state)[:, 0] for state in states])},
        "tokens_of_steps": {"MDM": [words(pair.arm.tokenizer, state[0]) for state in states]},
    }


def gallery(data: Data) -> dict[str, Any]:
    """A widget for each name."""
    return {
        "masking": MaskingExplorer(SENTENCE, t=0.4),
        "attention": AttentionViewer(data.attention, data.tokens, layer=0, head=2),
        "attention-steps": AttentionViewer(data.steps, data.tokens_of_steps, layer=2, head=1),
        "lens": LensViewer(data.lens, data.tokens, data.tokenizer, data.follow),
        "patching": PatchingViewer(data.patchings, data.prompts, data.tokenizer),
        "shift": ShiftSummary(data.shift, verdicts=VERDICTS),
        "unmasking": UnmaskingPlayer(data.traces, data.tokenizer),
        "circuits-20": CircuitViewer(data.scores, data.comparisons, data.faithfulness, k=20),
        "circuits-100": CircuitViewer(data.scores, data.comparisons, data.faithfulness, k=100),
        "circuits-400": CircuitViewer(data.scores, data.comparisons, data.faithfulness, k=400),
    }
