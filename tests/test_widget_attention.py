"""AttentionViewer: what it sends is what it was given, sinks are where they are, what is no attention is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mdmcourse.errors import InputError
from mdmcourse.widgets import AttentionViewer
from mdmcourse.widgets.attention import sinks
from mdmcourse.widgets.packing import read
from tests.helpers import without_shape_checks
from tests.hostile import HOSTILE, assert_harmless

WORDS = ["<bos>", " a", " b", " c", " d"]


def drawn(*shape: int, causal: bool = False, seed: int = 0) -> torch.Tensor:
    """Random attention with these axes, the last two of equal length."""
    scores = 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    if causal:
        scores = scores.masked_fill(~torch.ones(shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return scores.softmax(dim=-1)


ARM, MDM = drawn(3, 2, 5, 5, causal=True), drawn(3, 2, 5, 5)


def test_weights_are_those_given_to_a_byte():
    viewer = AttentionViewer({"ARM": ARM, "MDM": MDM}, WORDS)
    for model, given in zip(viewer.models, (ARM, MDM), strict=True):
        sent = read(model["weights"][0]) / 255
        np.testing.assert_allclose(sent.reshape(given.shape), given, atol=0.5 / 255 + 1e-6)
    assert [model["causal"] for model in viewer.models] == [True, False]
    assert viewer.models[0]["tokens"] == [["<bos>", "␣a", "␣b", "␣c", "␣d"]]


def test_a_sink_is_what_others_look_at():
    pattern = np.full((1, 2, 6, 6), 1 / 6)
    pattern[0, 1] = 0.1
    pattern[0, 1, :, 2] = 0.5
    pattern[0, 1, 2] = [0, 0, 0, 0, 0, 1]  # what the sink itself looks at does not count
    assert sinks(pattern) == {"0.1": [2]}
    causal = np.tri(6)[None, None] / np.arange(1, 7)[:, None]
    assert sinks(causal) == {}  # the first key gets 1/2, 1/3, ..., 1/6: 0.29 on average
    causal[0, 0, 1:, 0] += 0.02
    assert sinks(causal) == {"0.0": [0]}  # the last two keys have fewer than three queries behind them
    assert AttentionViewer({"MDM": pattern}, ["x"] * 6).models[0]["sinks"] == [{"0.1": [2]}]


def test_steps_have_their_own_patterns_and_tokens():
    steps = drawn(4, 3, 2, 5, 5)
    tokens = [[f"{step}{position}" for position in range(5)] for step in range(4)]
    viewer = AttentionViewer({"MDM": steps, "ARM": ARM}, {"MDM": tokens, "ARM": WORDS})
    assert len(viewer.models[0]["weights"]) == len(viewer.models[0]["tokens"]) == 4
    assert len(viewer.models[1]["weights"]) == 1
    assert repr(viewer) == "AttentionViewer(MDM, ARM: 3 x 2 heads, 4 steps)"
    viewer.figure(step=3)


def test_its_state_is_small_for_real_models():
    """30 layers of 9 heads, 16 tokens, two models: SmolLM2-135M."""
    given = {"ARM": drawn(30, 9, 16, 16, causal=True), "MDM": drawn(30, 9, 16, 16)}
    assert len(json.dumps(AttentionViewer(given, ["word"] * 16).models)) < 300_000


def test_fallback_names_the_strongest_look():
    pattern = torch.full((1, 1, 3, 3), 1 / 3)
    pattern[0, 0, 1] = torch.tensor([0.9, 0.05, 0.05])
    data, _ = AttentionViewer({"MDM": pattern}, ["x", "y", "z"])._repr_mimebundle_()
    assert "from y (1) to x (0): 0.90" in data["text/plain"]
    assert "from y (1) to x (0): 0.90" in data["text/html"]
    assert "0x" not in data["text/plain"]


def test_text_stays_text(tmp_path):
    viewer = AttentionViewer({HOSTILE[0]: drawn(1, 1, len(HOSTILE), len(HOSTILE))}, HOSTILE)
    assert_harmless(viewer.as_html())
    viewer.figure().savefig(tmp_path / "figure.png", dpi=30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, WORDS), "patterns are empty"),
        (({"a": MDM[0]}, WORDS), "shape"),
        (({"a": MDM[:, :, :4]}, WORDS), "4 queries and 5 keys"),
        (({"a": MDM[:0]}, WORDS), "shape"),
        (({"a": MDM * torch.nan}, WORDS), "NaN"),
        (({"a": MDM * 3}, WORDS), "after the softmax"),
        (({"a": MDM - 0.5}, WORDS), "after the softmax"),
        (({"a": MDM.transpose(-1, -2)}, WORDS), "swapped"),
        (({"a": drawn(1, 1, 97, 97)}, ["x"] * 97), "more than 96"),
        (({"a": ARM, "b": drawn(2, 2, 5, 5)}, WORDS), "as many layers and heads"),
        (({"a": ARM}, WORDS[:4]), "5 positions"),
        (({"a": ARM}, {"b": WORDS}), "no tokens for 'a'"),
        (({"a": ARM}, [WORDS, WORDS]), "tokens for 2 steps"),
        (({"a": ARM}, WORDS, 3), "layer=3"),
        (({"a": ARM}, WORDS, 0, -1), "head=-1"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, message):
    with without_shape_checks(), pytest.raises(InputError, match=message):
        AttentionViewer(*arguments)
