"""MaskingExplorer: its masks and weights are those of the forward process."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mdmcourse.diffusion import COSINE, LINEAR
from mdmcourse.errors import InputError
from mdmcourse.widgets import MaskingExplorer
from tests.helpers import without_shape_checks
from tests.hostile import HOSTILE, assert_harmless

WORDS = ["The", " cat", " sat", " on", " the", " mat"]


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
def test_rate_and_weight_are_those_of_the_schedule(schedule):
    (found,) = (each for each in MaskingExplorer(WORDS).schedules if each["name"] == schedule.name)
    t = torch.linspace(0, 1, len(found["rate"]), dtype=torch.float64)
    np.testing.assert_allclose(found["rate"], 1 - schedule.alpha(t), atol=1e-4)
    np.testing.assert_allclose(found["weight"][1:], schedule.weight(t)[1:], rtol=6e-3, atol=1e-9)
    assert found["weight"][0] is None


def test_a_given_schedule_has_the_weight_of_its_slope():
    t = np.linspace(0, 1, 1001)
    explorer = MaskingExplorer(WORDS, schedules={"mine": 1 - t**2})
    np.testing.assert_allclose(explorer.schedules[0]["weight"][5:-1], (2 / np.linspace(0, 1, 201)[1:])[4:-1], rtol=0.01)


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_masks_have_the_right_rate(t: float):
    explorer = MaskingExplorer(["x"] * 200, seed=3)
    shares = []
    for draw in range(len(explorer.draws)):
        explorer.draw = draw
        rate, masked, _ = explorer.at(t)
        assert rate == pytest.approx(t)
        shares.append(np.mean(masked))
    assert np.mean(shares) == pytest.approx(t, abs=0.02)
    if t in (0.0, 1.0):
        assert set(shares) == {t}


def test_masks_only_come_as_t_grows_and_spare_what_may_not_be_masked():
    explorer = MaskingExplorer(WORDS, maskable=[False, True, True, True, True, True])
    before = np.zeros(len(WORDS), dtype=bool)
    for t in np.linspace(0, 1, 21).tolist():
        masked = np.array(explorer.at(t)[1])
        assert (masked >= before).all()
        before = masked
    assert before.tolist() == [False, True, True, True, True, True]


def test_a_seed_gives_the_same_masks():
    assert MaskingExplorer(WORDS, seed=1).draws == MaskingExplorer(WORDS, seed=1).draws
    assert MaskingExplorer(WORDS, seed=1).draws != MaskingExplorer(WORDS, seed=2).draws


def test_its_state_is_small_json():
    state = MaskingExplorer(["word"] * 200).get_state()
    assert len(json.dumps({key: state[key] for key in ("tokens", "schedules", "draws")}, allow_nan=False)) < 100_000


def test_repr_and_fallback():
    explorer = MaskingExplorer(WORDS, t=0.25)
    assert repr(explorer) == "MaskingExplorer(6 tokens, linear, t = 0.25)"
    data, _ = explorer._repr_mimebundle_()
    assert "1.5" in data["text/plain"]  # masks expected
    assert "4.00" in data["text/html"]  # weight
    assert "0x" not in data["text/plain"]


def test_text_stays_text(tmp_path):
    explorer = MaskingExplorer(HOSTILE, schedules={HOSTILE[0]: [1, 0.5, 0], "$\\frac$": [1, 1, 0]})
    assert_harmless(explorer.as_html())
    explorer.figure().savefig(tmp_path / "figure.png", dpi=30)
    assert max(map(len, explorer.tokens)) <= 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "tokens are 0"),
        (("a sentence",), "of type str"),
        (([1, 2],), "of type list"),
        ((["x"] * 201,), "201 tokens"),
        ((WORDS, [True]), "maskable has 1"),
        ((WORDS, [False] * 6), "0 of them True"),
        ((WORDS, None, {}), "schedules is empty"),
        ((WORDS, None, {"a": [1, 0]}), "2 values"),
        ((WORDS, None, {"a": [0, 0.5, 1]}), "falls, or stays"),
        ((WORDS, None, {"a": [1, 0.5, -0.1]}), "falls, or stays"),
        ((WORDS, None, {"a": [1, float("nan"), 0]}), "NaN"),
        ((WORDS, None, {"a": [[1, 0.5, 0]]}), "shape"),
        ((WORDS, None, {"a": "text"}), "not an array"),
        ((WORDS, None, None, 1.5), "t=1.5"),
        ((WORDS, None, None, float("nan")), "t=nan"),
        ((WORDS, None, None, "0.5"), "t='0.5'"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, message):
    with without_shape_checks(), pytest.raises(InputError, match=message):
        MaskingExplorer(*arguments)
