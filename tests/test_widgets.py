"""UnmaskingPlayer: what it sends, what it refuses, and that text stays text."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from mdmcourse.diffusion import HIDDEN, Trace, sample_arm, sample_mdm
from mdmcourse.errors import InputError
from mdmcourse.models import load_pair
from mdmcourse.widgets import UnmaskingPlayer
from mdmcourse.widgets.unmasking import states
from mdmcourse.widgets.words import visible

HOSTILE = ["<script>alert(1)</script>", "</div>", '"onload="', "$x^2$", "a" * 10_000, "​", "\x00\x07", "مرحبا"]


class FakeTokenizer:
    """Decodes token n as the n-th hostile string."""

    def decode(self, ids: list[int]) -> str:
        return HOSTILE[ids[0]]


def trace_of(tokens: list[int], **changes: object) -> Trace:
    """One step that writes the last token."""
    final = torch.tensor([tokens])
    start = final.clone()
    start[0, -1] = HIDDEN
    unmasked = start == HIDDEN
    confidence = torch.where(unmasked, 0.5, torch.nan)
    parts = {
        "tokens": torch.stack([start, final]),
        "confidence": confidence[None],
        "unmasked": unmasked[None],
        "remasked": torch.zeros_like(unmasked)[None],
        "alternatives": torch.where(unmasked[..., None], 0, -1)[None],
        "alternative_confidence": confidence[None, ..., None],
        "forward_passes": 1,
        "order": "confidence",
    }
    return Trace(**(parts | changes))


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
    first, *_, last = states(arm)
    assert [word for word, _, _ in first[-5:]] == [None] * 5
    assert [word for word, _, _ in last[-5:]] == ["7", "-", "4", "+", "2"]
    assert [step for _, step, _ in last[-5:]] == [1, 2, 3, 4, 5]
    assert len(states(mdm)) == 3
    at, *thought = map(int, mdm["guesses"][0].split()[0].split(","))
    assert at == 7
    assert len(thought) == 6
    assert mdm["vocab"][thought[0]] == "7"
    assert 0 <= thought[1] <= 100


@pytest.mark.parametrize("remask", [0, 1, 2])
def test_states_are_those_of_the_trace(remask: int):
    pair = load_pair("toy-countdown")
    masked = pair.mdm.append_masks(pair.arm.encode("7 4 2 : 5 ="), 5)
    trace = sample_mdm(pair.mdm, masked, steps=6, remask=remask, temperature=2.0, generator=torch.manual_seed(0))
    (panel,) = UnmaskingPlayer(trace, pair.arm.tokenizer).panels
    for state, words in zip(states(panel), trace.words(pair.arm.tokenizer), strict=True):
        assert [word or "▒" for word, _, _ in state] == words
    for position, (_, step, sure) in enumerate(states(panel)[-1]):
        assert step == trace.written_at[0, position]
        if step:
            assert sure == pytest.approx(float(trace.confidence[step - 1, 0, position]), abs=1e-3)
    assert sum(len(step["hidden"]) for step in panel["steps"]) == int(trace.remasked.sum())
    assert bool(trace.remasked.any()) == bool(remask)


def test_a_long_run_is_small_too():
    """64 tokens written in 64 steps, words of a real tokenizer's length."""
    steps, length = 64, 64
    order = torch.randperm(length, generator=torch.manual_seed(0))
    now = torch.full((1, length), HIDDEN)
    tokens, unmasked = [now], []
    for at in order:
        now = now.clone()
        now[0, at] = at
        tokens.append(now)
        unmasked.append(tokens[-2] != now)
    hidden = torch.stack(tokens[:-1]) == HIDDEN
    confidence = torch.where(hidden, torch.rand(hidden.shape), torch.nan)
    alternatives = torch.where(hidden[..., None], torch.randint(0, 900, (*hidden.shape, 5)), -1)
    trace = Trace(
        torch.stack(tokens), confidence, torch.stack(unmasked), torch.zeros_like(hidden), alternatives,
        confidence[..., None].repeat(1, 1, 1, 5), steps, "random",
    )  # fmt: skip

    class Numbers:
        def decode(self, ids: list[int]) -> str:
            return f" word{ids[0]}"

    player = UnmaskingPlayer({str(run): trace for run in range(4)}, Numbers())
    assert len(json.dumps(player.panels)) < 300_000


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
    for row in (1, -1, True):
        with pytest.raises(InputError, match=f"row={row}"):
            UnmaskingPlayer({"one": trace_of([0, 1])}, FakeTokenizer(), row=row)


def altered(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(trace_of([0, 1])), **changes})


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ("text", "not a Trace"),
        (None, "not a Trace"),
        (altered(tokens=torch.zeros(1, 1, 2)), "no step"),
        (altered(tokens=torch.zeros(2, 1, 0)), "no step"),
        (altered(tokens=torch.zeros(3, 1, 2)), "a row a step"),
        (altered(confidence=torch.zeros(1, 1, 3)), "a row a step"),
        (altered(remasked=torch.zeros(2, 1, 2)), "a row a step"),
        (altered(confidence=torch.full((1, 1, 2), torch.nan)), "without a confidence"),
    ],
)
def test_what_is_no_trace_is_refused(trace, message):
    with pytest.raises(InputError, match=message):
        UnmaskingPlayer({"one": trace}, FakeTokenizer())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" Mary", "␣Mary"), ("\n\n", "⏎⏎"), ("\t", "⇥"), ("", "∅"), ("\x00\x07", "␀␇"), ("\u200b", "‹200B›"),
        ("\u202eabc", "‹202E›abc"), ("\ufeff", "‹FEFF›"), ("\ud800", "‹D800›"), ("مرحبا", "مرحبا"),
        ("日本語", "日本語"),
        ("a" * 10_000, "a" * 31 + "…"), (" " * 33, "␣" * 31 + "…"), ("👩\u200d🚀", "👩\u200d🚀"), ("\u200d", "‹200D›"),
    ],
)  # fmt: skip
def test_tokens_can_be_seen(text: str, shown: str):
    assert visible(text) == shown
