"""LensViewer: probabilities, ranks and order are those of the logits; what is no lens is refused."""

from __future__ import annotations

import json

import pytest
import torch

from mdmcourse.errors import InputError
from mdmcourse.widgets import LensViewer
from tests.helpers import without_shape_checks
from tests.hostile import HOSTILE, assert_harmless

LAYERS, POS, VOCAB = 4, 3, 50
WORDS = ["a", " b", " c"]


class Numbers:
    def decode(self, ids: list[int]) -> str:
        return f" t{ids[0]}"


class Hostile:
    def decode(self, ids: list[int]) -> str:
        return HOSTILE[ids[0] % len(HOSTILE)]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*(shape or (LAYERS, POS, VOCAB)), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_cells_say_what_the_logits_say(dtype):
    logits = drawn().to(dtype)
    viewer = LensViewer({"ARM": logits}, WORDS, Numbers(), {"answer": 7, "own": [1, 2, 3]}, top=4)
    (model,) = viewer.models
    chances = logits.double().softmax(dim=-1)
    for layer, row in enumerate(viewer._top(model)):
        for pos, cell in enumerate(row):
            best = chances[layer, pos].topk(4)
            assert [chance for _, chance in cell] == pytest.approx(best.values.tolist(), abs=6e-4)
            assert cell[0][0] == f"␣t{best.indices[0]}"
    for follow, ids in zip(model["follow"], ([7] * 3, [1, 2, 3]), strict=True):
        for layer, line in enumerate(follow["lines"]):
            for pos, cell in enumerate(line.split(" ")):
                chance, rank = map(int, cell.split(","))
                assert chance / 1000 == pytest.approx(float(chances[layer, pos, ids[pos]]), abs=6e-4)
                assert rank == 1 + int((chances[layer, pos] > chances[layer, pos, ids[pos]]).sum())
        assert follow["words"] == [f"␣t{each}" for each in ids]


def test_positions_without_a_prediction_and_forbidden_tokens():
    logits = drawn()
    logits[:, :, 9] = torch.finfo(torch.float32).min
    logits[0, 1, 9] = -torch.inf
    logits[:, 0] = torch.nan
    (model,) = LensViewer({"MDM": logits}, WORDS, Numbers(), {"mask": 9}).models
    assert all(line.startswith("- ") for line in model["top"])
    assert all(line == f"- 0,{VOCAB} 0,{VOCAB}" for line in model["follow"][0]["lines"])


def test_fallback_says_since_when_a_token_is_on_top():
    logits = torch.zeros(LAYERS, POS, VOCAB)
    logits[1:, 0, 5] = 9.0
    logits[3, 1, 6] = 9.0
    logits[0, 2, 4] = logits[2:, 2, 4] = 9.0  # it was on top before, and lost it
    viewer = LensViewer({"ARM": logits}, WORDS, Numbers())
    assert [row[2:] for row in viewer._rows()] == [
        ("␣t5", "0.99", "layer 0"), ("␣t6", "0.99", "layer 2"), ("␣t4", "0.99", "layer 1"),
    ]  # fmt: skip
    data, _ = viewer._repr_mimebundle_()
    assert "<td>␣t6</td><td>0.99</td><td>layer 2</td>" in data["text/html"]
    assert repr(viewer) == "LensViewer(ARM: 4 x 3 cells)"
    assert "0x" not in data["text/plain"]


def test_its_state_is_small_for_real_models():
    """31 rows, 16 positions, two models, as of SmolLM2-135M but for the size of the vocabulary."""
    given = {name: drawn(31, 16, 2000, seed=seed) for seed, name in enumerate(("ARM", "MDM"))}
    viewer = LensViewer(given, ["word"] * 16, Numbers(), {"answer": 3, "distractor": 4})
    assert len(json.dumps(viewer.models, allow_nan=False)) < 300_000


def test_text_stays_text(tmp_path):
    pos = len(HOSTILE)
    viewer = LensViewer({HOSTILE[0]: drawn(2, pos, 60)}, HOSTILE, Hostile(), {HOSTILE[1]: 3})
    assert_harmless(viewer.as_html())
    viewer.figure().savefig(tmp_path / "figure.png", dpi=30)


def partly_nan() -> torch.Tensor:
    logits = drawn()
    logits[1, 2, 3] = torch.nan
    return logits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, WORDS, Numbers()), "logits are empty"),
        (({"a": drawn()[0]}, WORDS, Numbers()), "shapes"),
        (({"a": drawn()[:0]}, WORDS, Numbers()), "shapes"),
        (({"a": drawn(), "b": drawn(3, POS, VOCAB)}, WORDS, Numbers()), "as many layers"),
        (({"a": partly_nan()}, WORDS, Numbers()), "NaN or infinity"),
        (({"a": drawn() * torch.nan}, WORDS, Numbers()), "NaN everywhere"),
        (({"a": drawn() * torch.inf}, WORDS, Numbers()), "NaN or infinity"),
        (({"a": drawn()}, WORDS[:2], Numbers()), "3 positions"),
        (({"a": drawn()}, {"b": WORDS}, Numbers()), "tokens of 'a' are 0"),
        (({"a": drawn()}, WORDS, Numbers(), {"x": VOCAB}), "no token id below 50"),
        (({"a": drawn()}, WORDS, Numbers(), {"x": -1}), "no token id"),
        (({"a": drawn()}, WORDS, Numbers(), {"x": [1, 2]}), "no token id"),
        (({"a": drawn()}, WORDS, Numbers(), None, 0), "top=0"),
        (({"a": drawn()}, WORDS, Numbers(), None, VOCAB + 1), "top=51"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, message):
    with without_shape_checks(), pytest.raises(InputError, match=message):
        LensViewer(*arguments)
