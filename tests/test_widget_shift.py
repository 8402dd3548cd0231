"""ShiftSummary: its curves and measures are those of the comparisons; what is no comparison is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from mdmcourse.circuits import Graph, Scores, compare
from mdmcourse.errors import InputError
from mdmcourse.widgets import ShiftSummary
from tests.helpers import without_shape_checks
from tests.hostile import HOSTILE, assert_harmless

GRAPH = Graph(layers=3, heads=2, kv_heads=2)


def made_up(seed: int) -> Scores:
    drawn = torch.randn(8, *GRAPH.exists.shape, generator=torch.Generator().manual_seed(seed)) ** 3 * GRAPH.exists
    return Scores(drawn.mean(dim=0), GRAPH.layers, GRAPH.heads, GRAPH.kv_heads, 1.0, 0.0, 8, {"task": "made up"}, drawn)


ONE, TWO, THREE = (made_up(seed) for seed in range(3))
KS = [5, 10, 20, 40]
PAIR = compare(ONE, TWO, ks=KS, bootstrap=6, halvings=3)
CONTROL = compare(ONE, THREE, ks=KS, bootstrap=0, halvings=3)


def test_curves_and_measures_are_those_of_the_comparison():
    summary = ShiftSummary({"IOI": {"ARM and MDM": PAIR, "control": CONTROL}})
    (task,) = summary.tasks
    pair, control = task["pairs"]
    assert pair["ks"] == control["ks"] == KS
    assert pair["halves"] == pytest.approx(PAIR.overlap_of_halves.tolist(), rel=6e-3)
    assert pair["overlap"] == pytest.approx(PAIR.overlap[:, 0].tolist(), rel=6e-3)
    assert pair["high"] == pytest.approx(PAIR.overlap[:, 2].tolist(), rel=6e-3)
    assert control["low"] == [None] * 4
    assert control["label"] == "control"
    torch.testing.assert_close(torch.tensor(task["sent"]), PAIR.source_profile, rtol=6e-3, atol=1e-4)
    torch.testing.assert_close(torch.tensor(task["read"]), PAIR.reader_profile, rtol=6e-3, atol=1e-4)
    assert task["measures"]["Gini of edges"]["two"] == pytest.approx(PAIR.measures["gini_edges"]["two"], rel=6e-3)
    assert summary.k == 20


@pytest.mark.parametrize("given", [PAIR, {"made up": PAIR}, {"made up": {"ARM and MDM": PAIR}}])
def test_a_single_comparison_needs_no_titles(given):
    summary = ShiftSummary(given, verdicts={"It shifts": "undecided"})
    assert repr(summary) == "ShiftSummary(made up: ARM and MDM, 0 controls, 1 verdicts)"
    assert summary.tasks[0]["pairs"][0]["label"] == "ARM and MDM"
    assert summary.verdicts == [["It shifts", "undecided"]]


def test_fallback_and_figure(tmp_path):
    summary = ShiftSummary({"IOI": {"pair": PAIR, "control": CONTROL}, "other": CONTROL}, verdicts={"a": "b"})
    data, _ = summary._repr_mimebundle_()
    value, low, high = PAIR.overlap[2].tolist()
    assert f"overlap {value:.2f} [{low:.2f}, {high:.2f}]" in data["text/plain"]
    assert f"<td>{value:.2f} [{low:.2f}, {high:.2f}]</td>" in data["text/html"]
    assert "0x" not in data["text/plain"]
    summary.figure().savefig(tmp_path / "figure.png", dpi=40)
    assert len(json.dumps(summary.tasks, allow_nan=False)) < 300_000


def test_text_stays_text(tmp_path):
    tasks = {title: {title: PAIR, f"{title} 2": CONTROL} for title in HOSTILE}
    summary = ShiftSummary(tasks, (HOSTILE[0], HOSTILE[4]), verdicts={text: text for text in HOSTILE})
    assert_harmless(summary.as_html())
    assert "$" not in summary.models[0]
    ShiftSummary({HOSTILE[4]: PAIR}, verdicts={HOSTILE[4]: HOSTILE[0]}).figure().savefig(
        tmp_path / "figure.png", dpi=30
    )


def altered(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(PAIR), **changes})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "comparisons are empty"),
        ((None,), "not a Comparison"),
        (({"IOI": {}},), "empty"),
        (({"IOI": 3},), "not a Comparison"),
        (({"IOI": {1: PAIR}},), "of type dict"),
        (({"IOI": altered(ks=torch.tensor([]))},), "shape"),
        (({"IOI": altered(chance=PAIR.chance[:2])},), "4 sizes and 2 values"),
        (({"IOI": altered(ceiling_one=PAIR.chance * torch.nan)},), "NaN"),
        (({"IOI": altered(overlap=PAIR.overlap[:, :2])},), "overlap has the shape"),
        (({"IOI": altered(overlap=PAIR.overlap * torch.nan)},), "NaN"),
        (({"IOI": altered(source_profile=PAIR.source_profile[0])},), "shape"),
        (({"IOI": {str(n): PAIR for n in range(8)}},), "7 controls"),
        ((PAIR, ("ARM", "MDM"), {"a": 1}), "not a text"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, message):
    with without_shape_checks(), pytest.raises(InputError, match=message):
        ShiftSummary(*arguments)
