"""PatchingViewer: its shares are those of the patching, its prompt is the one that was patched."""

from __future__ import annotations

import json

import pytest
import torch

from mdmcourse.circuits import Patching
from mdmcourse.errors import InputError
from mdmcourse.tasks import Prompts
from mdmcourse.widgets import PatchingViewer
from tests.helpers import without_shape_checks
from tests.hostile import HOSTILE, assert_harmless

POS = 5
PROMPTS = Prompts(
    torch.arange(15).view(3, POS), torch.arange(15).view(3, POS).index_fill(1, torch.tensor([2]), 99),
    torch.tensor([7, 8, 9]), torch.tensor([17, 18, 19]), torch.tensor([4, 4, 4]), "made up",
)  # fmt: skip


class Numbers:
    def decode(self, ids: list[int]) -> str:
        return f" t{ids[0]}"


class Hostile:
    def decode(self, ids: list[int]) -> str:
        return HOSTILE[ids[0] % len(HOSTILE)]


def made_up(what: str, *shape: int, direction: str = "denoise", seed: int = 0, clean: float = 3.0) -> Patching:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Patching(values, clean, -1.0, what, direction, {"metric": "logit_diff", "prompts": 3})


SHAPES = [
    ("residual", 4, POS),
    ("attention", 3, POS),
    ("mlps", 3),
    ("residual", 4),
    ("heads", 3, 2),
    ("heads", 3, 2, POS),
]


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize(("what", "shape"), [(what, shape) for what, *shape in SHAPES])
def test_shares_are_those_of_the_patching(what, shape, direction, tmp_path):
    patching = made_up(what, *shape, direction=direction)
    viewer = PatchingViewer({"ARM": patching}, PROMPTS, Numbers())
    sent = torch.tensor(viewer._shares(viewer.tabs[0], 0)).view(shape)
    torch.testing.assert_close(sent, patching.normalised, rtol=6e-3, atol=1e-9)
    viewer.figure().savefig(tmp_path / "figure.png", dpi=30)
    most = patching.normalised.flatten()[patching.normalised.abs().argmax()]
    assert f"{most:+.0%}" in viewer.as_text()


def test_it_starts_at_the_cell_that_does_most():
    values = torch.full((3, 2, POS), -1.0)
    values[2, 1, 3] = 2.0
    viewer = PatchingViewer(Patching(values, 3.0, -1.0, "heads", "denoise", {}), PROMPTS, Numbers())
    assert (viewer.row, viewer.column, viewer.pos) == (2, 1, 3)
    assert "layer 2 h1 at ␣t3 (3) +75%" in viewer.as_text()


def test_the_prompt_is_the_one_that_was_asked_for():
    viewer = PatchingViewer(made_up("residual", 4, POS), PROMPTS, Numbers(), row=1)
    assert viewer.prompt == {
        "clean": ["␣t5", "␣t6", "␣t7", "␣t8", "␣t9"], "corrupted": ["␣t5", "␣t6", "␣t99", "␣t8", "␣t9"],
        "answer": "␣t8", "distractor": "␣t18", "target": 4,
    }  # fmt: skip
    assert repr(viewer) == "PatchingViewer(residual: residual)"


def test_tabs_and_fallback():
    maps = {
        "streams": {"ARM": made_up("residual", 4, POS), "MDM": made_up("residual", 4, POS, direction="noise", seed=1)},
        "heads": {"ARM": made_up("heads", 3, 2)},
    }
    viewer = PatchingViewer(maps, PROMPTS, Numbers())
    assert repr(viewer) == "PatchingViewer(streams: ARM, MDM; heads: ARM)"
    data, _ = viewer._repr_mimebundle_()
    assert data["text/html"].count("<tr>") == 4
    assert "0x" not in data["text/plain"]
    viewer.figure("heads")
    with pytest.raises(InputError, match="tab='no'"):
        viewer.figure("no")


def test_its_state_is_small_for_real_models():
    """Streams and heads by position of SmolLM2-135M, two models."""
    pos = 16
    prompts = Prompts(*[torch.zeros(1, pos, dtype=torch.long)] * 2, *[torch.zeros(1, dtype=torch.long)] * 3)
    maps = {
        "streams": {name: made_up("residual", 31, pos) for name in ("ARM", "MDM")},
        "heads": {name: made_up("heads", 30, 9, pos) for name in ("ARM", "MDM")},
    }
    assert len(json.dumps(PatchingViewer(maps, prompts, Numbers()).tabs)) < 300_000


def test_text_stays_text(tmp_path):
    prompts = Prompts(
        torch.arange(len(HOSTILE))[None], torch.arange(len(HOSTILE)).flip(0)[None],
        torch.tensor([0]), torch.tensor([1]), torch.tensor([2]),
    )  # fmt: skip
    viewer = PatchingViewer({HOSTILE[0]: {HOSTILE[3]: made_up("residual", 4, len(HOSTILE))}}, prompts, Hostile())
    assert_harmless(viewer.as_html())
    viewer.figure().savefig(tmp_path / "figure.png", dpi=30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, PROMPTS, Numbers()), "patchings are empty"),
        (({"a": {}}, PROMPTS, Numbers()), "patchings of 'a' are empty"),
        (({"a": 3}, PROMPTS, Numbers()), "not a Patching"),
        (({"a": made_up("residual", 4, POS)}, torch.zeros(2), Numbers()), "not a Prompts"),
        (({"a": made_up("residual", 4, POS + 1)}, PROMPTS, Numbers()), "6 positions, the prompts have 5"),
        (({"a": made_up("heads", 3, 2, POS - 1)}, PROMPTS, Numbers()), "4 positions"),
        (({"a": made_up("heads", 3)}, PROMPTS, Numbers()), "shape"),
        (({"a": made_up("mlps", 3, 2, POS)}, PROMPTS, Numbers()), "shape"),
        (({"a": made_up("mlps", 3), "b": made_up("mlps", 4)}, PROMPTS, Numbers()), "One cell is chosen"),
        (({"a": made_up("mlps", 3), "b": made_up("attention", 3)}, PROMPTS, Numbers()), "One cell is chosen"),
        (({"a": made_up("mlps", 3, clean=-1.0)}, PROMPTS, Numbers()), "no share of it"),
        (({"a": made_up("mlps", 3, clean=float("nan"))}, PROMPTS, Numbers()), "no share of it"),
        (({"a": Patching(torch.tensor([torch.nan]), 3.0, 0.0, "mlps", "noise", {})}, PROMPTS, Numbers()), "NaN"),
        (({"a": made_up("mlps", 3)}, PROMPTS, Numbers(), 3), "row=3"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, message):
    with without_shape_checks(), pytest.raises(InputError, match=message):
        PatchingViewer(*arguments)
