"""UnmaskingPlayer: what it sends, what it refuses, and that text stays text."""

from __future__ import annotations

import json

import pytest
import torch

from mdmcourse.diffusion import HIDDEN, Trace, sample_arm, sample_mdm
from mdmcourse.errors import InputError
from mdmcourse.models import load_pair
from mdmcourse.widgets import UnmaskingPlayer

HOSTILE = ["<script>alert(1)</script>", "</div>", '"onload="', "$x^2$", "a" * 10_000, "​", "\x00\x07", "مرحبا"]


class FakeTokenizer:
    """Decodes token n as the n-th hostile string."""

    def decode(self, ids: list[int]) -> str:
        return HOSTILE[ids[0]]


def trace_of(tokens: list[int]) -> Trace:
    """One step that writes the last token."""
    final = torch.tensor([tokens])
    start = final.clone()
    start[0, -1] = HIDDEN
    unmasked = start == HIDDEN
    confidence = torch.where(unmasked, 0.5, torch.nan)
    return Trace(
        torch.stack([start, final]),
        confidence[None],
        unmasked[None],
        torch.zeros_like(unmasked)[None],
        torch.where(unmasked[..., None], 0, -1)[None],
        confidence[None, ..., None],
        1,
        "confidence",
    )


@pytest.fixture(scope="module")
def player() -> UnmaskingPlayer:
    pair = load_pair("toy-countdown")
    prompt = pair.arm.encode("7 4 2 : 5 =")
    traces = {
        "ARM": sample_arm(pair.arm, prompt, 5),
        "MDM": sample_mdm(pair.mdm, pair.mdm.append_masks(prompt, 5), steps=2),
    }
    return UnmaskingPlayer(traces, pair.arm.tokenizer)


def test_its_state_is_json_without_nan_and_small(player: UnmaskingPlayer):
    state = json.dumps(player.panels, allow_nan=False)
    assert len(state) < 300_000


def test_its_state_says_what_the_trace_says(player: UnmaskingPlayer):
    arm, mdm = player.panels
    assert arm["words"][0][-5:] == ["▒"] * 5
    assert arm["words"][-1][-5:] == ["7", "-", "4", "+", "2"]
    assert arm["writtenAt"][-5:] == [1, 2, 3, 4, 5]
    assert len(mdm["words"]) == 3
    assert mdm["passes"] == 2
    assert all(len(guesses) == 3 for guesses in mdm["guesses"][0][-5:])
    assert mdm["guesses"][0][0] == []


def test_text_stays_text():
    player = UnmaskingPlayer({"<b>title</b>": trace_of(list(range(len(HOSTILE))))}, FakeTokenizer())
    data, _ = player._repr_mimebundle_()
    assert "<script" not in data["text/html"]
    assert "<b>" not in data["text/html"]
    assert "</div>" not in data["text/html"]
    assert "&lt;script&gt;" in data["text/html"]
    source = player._esm
    assert "innerHTML" not in str(source)
    assert "insertAdjacentHTML" not in str(source)


def test_hostile_text_can_be_drawn_as_a_still_picture(tmp_path):
    figure = UnmaskingPlayer({"$\\frac$": trace_of([0, 1, 2, 3])}, FakeTokenizer()).figure()
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_repr_is_stable_and_there_is_a_fallback(player: UnmaskingPlayer):
    assert repr(player) == "UnmaskingPlayer(ARM, MDM)"
    data, _ = player._repr_mimebundle_()
    assert "0x" not in data["text/plain"]
    assert "7 - 4 + 2" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data


def test_nothing_to_show_and_rows_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="No traces"):
        UnmaskingPlayer({}, FakeTokenizer())
    with pytest.raises(InputError, match="row=1"):
        UnmaskingPlayer({"one": trace_of([0, 1])}, FakeTokenizer(), row=1)
    with pytest.raises(InputError, match="row=-1"):
        UnmaskingPlayer({"one": trace_of([0, 1])}, FakeTokenizer(), row=-1)
