"""Activation patching, against hooks of its own on the library's modules, and against what has to hold anyway."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, get_args

import pytest
import torch
from helpers import assert_close, assert_three_parts, random_tokens, tiny_decoder
from torch import Tensor, nn

from mdmcourse.circuits import Patching, activation_patching
from mdmcourse.circuits.patching import Direction, What
from mdmcourse.errors import InputError
from mdmcourse.models import ARM, MDM
from mdmcourse.tasks import Prompts

MASK = 2
LENGTH = 7
TARGET = 4  # and two masked positions after it


def make_model(kind: str, family: str = "llama", grouped: bool = False) -> Any:
    decoder = tiny_decoder(family, grouped)
    return ARM(decoder) if kind == "arm" else MDM(decoder, mask_id=MASK)


def make_prompts(n: int = 3) -> Prompts:
    """Prompts whose clean and corrupted texts differ everywhere before the target, and end in masks."""
    clean, corrupted = random_tokens(n, LENGTH, seed=1), random_tokens(n, LENGTH, seed=2)
    clean[:, TARGET:] = corrupted[:, TARGET:] = MASK
    answers = random_tokens(n, 2, seed=3)
    answers[:, 1] = 3 + (answers[:, 0] - 3 + 1 + answers[:, 1] % 40) % 47  # another token
    return Prompts(clean, corrupted, answers[:, 0], answers[:, 1], torch.full((n,), TARGET), "made up")


def patch(model: Any, prompts: Prompts, what: str, **settings: Any) -> Patching:
    return activation_patching(model, prompts, what, **settings)  # type: ignore[arg-type]


# An implementation of its own: other hooks, another place for attention, the metric from all logits


def modules(model: Any, what: str) -> list[tuple[nn.Module, str]]:
    """The modules, and which side of them is patched."""
    decoder = model.decoder
    llama = hasattr(decoder, "model")
    blocks = decoder.model.layers if llama else decoder.transformer.h
    final = decoder.model.norm if llama else decoder.transformer.ln_f
    attentions = [block.self_attn if llama else block.attn for block in blocks]
    return {
        "residual": [*((block, "input") for block in blocks), (final, "input")],
        "attention": [(attention, "output") for attention in attentions],
        "mlps": [(block.mlp, "output") for block in blocks],
        "heads": [(attention.o_proj if llama else attention.c_proj, "input") for attention in attentions],
    }[what]


def hook(module: nn.Module, side: str, change: Callable[[Tensor], Tensor]) -> Any:
    """Attach `change`; attention modules give a tuple, and blocks and norms are called by position."""

    def on_input(module: nn.Module, args: tuple) -> tuple:
        return (change(args[0]), *args[1:])

    def on_output(module: nn.Module, args: tuple, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return module.register_forward_pre_hook(on_input) if side == "input" else module.register_forward_hook(on_output)


def metric_of(model: Any, tokens: Tensor, prompts: Prompts) -> Tensor:
    """logit(answer) - logit(distractor) of every prompt, from the logits of all positions."""
    with torch.no_grad():
        logits = model.logits(tokens)
    rows = torch.arange(len(prompts))
    return logits[rows, prompts.target, prompts.answer] - logits[rows, prompts.target, prompts.distractor]


def patched(
    model: Any, prompts: Prompts, what: str, direction: str, layer: int, cells: list[tuple[slice, slice]]
) -> list[float]:
    """The mean metric with one cell (positions, features) of a layer patched, for each of some cells."""
    module, side = modules(model, what)[layer]
    giver, taker = prompts.clean, prompts.corrupted
    if direction == "noise":
        giver, taker = taker, giver
    seen: list[Tensor] = []

    def run(change: Callable[[Tensor], Tensor], tokens: Tensor) -> float:
        handle = hook(module, side, change)
        value = metric_of(model, tokens, prompts)
        handle.remove()
        return float(value.double().mean())

    def note(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x

    def put(at: tuple[slice, slice], x: Tensor) -> Tensor:
        mixed = torch.zeros_like(x, dtype=torch.bool)
        mixed[(slice(None), *at)] = True
        return torch.where(mixed, seen[0], x)

    run(note, giver)
    return [run(partial(put, cell), taker) for cell in cells]


KINDS = [(kind, family) for kind in ("arm", "mdm") for family in ("llama", "gpt2")]
# Each model and each family in both directions.
EACH_WAY = [(*pair, direction) for pair, direction in zip(KINDS, ("denoise", "noise", "noise", "denoise"), strict=True)]


@pytest.mark.parametrize("what", get_args(What))
@pytest.mark.parametrize(("kind", "family", "direction"), EACH_WAY)
def test_every_cell_equals_an_independent_implementation(kind: str, family: str, direction: str, what: str) -> None:
    model, prompts = make_model(kind, family, grouped=family == "llama"), make_prompts()
    width = 8  # of a head
    found = patch(model, prompts, what, direction=direction)
    assert found.what == what
    assert found.direction == direction
    assert found.values.dtype == torch.float64
    assert found.values.shape == (3 if what == "residual" else 2, *((4,) if what == "heads" else ()), LENGTH)
    everywhere = patch(model, prompts, what, direction=direction, by_position=False)
    assert everywhere.values.shape == found.values.shape[:-1]
    baseline = found.corrupted if direction == "denoise" else found.clean
    assert (found.values - baseline).abs().max() > 0.05  # there is something to see
    heads = [slice(h * width, (h + 1) * width) for h in range(4)] if what == "heads" else [slice(None)]
    positions = [slice(i, i + 1) for i in range(LENGTH)]
    for layer in range(len(found.values)):
        single = patched(model, prompts, what, direction, layer, list(product(positions, heads)))
        whole = patched(model, prompts, what, direction, layer, [(slice(None), head) for head in heads])
        assert_close(found.values[layer].reshape(len(heads), -1).T.flatten(), torch.tensor(single).double())
        assert_close(everywhere.values[layer].flatten(), torch.tensor(whole).double())


@pytest.mark.parametrize(("kind", "family"), [*KINDS, ("arm", "qwen2"), ("mdm", "qwen3")])
def test_the_whole_residual_stream_is_the_whole_run(kind: str, family: str) -> None:
    """Every layer's whole input decides what comes after it: to the last bit."""
    model, prompts = make_model(kind, family), make_prompts()
    clean = float(metric_of(model, prompts.clean, prompts).double().mean())
    corrupted = float(metric_of(model, prompts.corrupted, prompts).double().mean())
    for direction in get_args(Direction):
        found = patch(model, prompts, "residual", direction=direction, by_position=False)
        assert (found.clean, found.corrupted) == pytest.approx((clean, corrupted), abs=1e-6)
        assert found.clean != found.corrupted
        assert found.values.tolist() == [found.clean if direction == "denoise" else found.corrupted] * 3
        assert found.normalised.tolist() == [1.0] * 3


@pytest.mark.parametrize("kind", ["arm", "mdm"])
def test_before_the_final_norm_only_the_scored_position_counts(kind: str) -> None:
    model, prompts = make_model(kind), make_prompts()
    last = patch(model, prompts, "residual").normalised[-1]
    expected = torch.zeros(LENGTH, dtype=torch.float64)
    expected[TARGET - 1] = 1.0  # both models are shifted
    torch.testing.assert_close(last, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_all_heads_of_a_layer_together_are_its_attention(family: str) -> None:
    model, prompts = make_model("mdm", family), make_prompts()
    found = patch(model, prompts, "attention", by_position=False)
    for layer in range(2):
        [expected] = patched(model, prompts, "heads", "denoise", layer, [(slice(None), slice(None))])
        assert float(found.values[layer]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("direction", get_args(Direction))
@pytest.mark.parametrize("what", get_args(What))
def test_an_arm_ignores_what_comes_after_the_target_and_an_mdm_does_not(what: str, direction: str) -> None:
    prompts = make_prompts()
    for kind in ("arm", "mdm"):
        found = patch(make_model(kind), prompts, what, direction=direction)
        tail = found.values[..., TARGET:]  # the scored position is TARGET - 1
        baseline = found.corrupted if direction == "denoise" else found.clean
        before_last = tail[:-1] if what == "residual" else tail[:1]  # the last place no longer mixes positions
        if kind == "arm":
            assert (tail == baseline).all()
        elif what == "residual":
            # Layer 0: the masks themselves are the same in both runs; later they carry something.
            assert (before_last[0] == baseline).all()
            assert ((before_last[1:] - baseline).abs() > 1e-4).all()
        else:
            assert ((before_last - baseline).abs() > 1e-4).any()


def test_normalised_says_what_a_cell_restores_and_destroys() -> None:
    values = torch.tensor([[-1.0, 3.0], [1.0, 5.0]], dtype=torch.float64)
    about: dict[str, Any] = {}
    denoise = Patching(values, 3.0, -1.0, "mlps", "denoise", about)
    noise = Patching(values, 3.0, -1.0, "mlps", "noise", about)
    assert denoise.normalised.tolist() == [[0.0, 1.0], [0.5, 1.5]]
    assert noise.normalised.tolist() == [[1.0, 0.0], [0.5, -0.5]]


def test_equal_runs_have_no_share() -> None:
    prompts = make_prompts()
    same = Prompts(prompts.clean, prompts.clean, prompts.answer, prompts.distractor, prompts.target)
    found = patch(make_model("arm"), same, "mlps")
    assert "no difference" in repr(found)
    with pytest.raises(InputError) as error:
        _ = found.normalised
    assert_three_parts(error.value, "in the clean and in the corrupted run")


@pytest.mark.parametrize("metric", ["answer_logprob", "kl"])
def test_other_metrics(metric: str) -> None:
    found = patch(make_model("mdm"), make_prompts(), "residual", by_position=False, metric=metric)
    assert found.about["metric"] == metric
    assert found.values.tolist() == [found.clean] * 3
    if metric == "kl":
        assert found.clean == pytest.approx(0.0, abs=1e-6)
        assert found.corrupted < 0


def test_a_metric_of_ones_own_is_given_the_clean_run_and_the_prompts() -> None:
    model, prompts = make_model("arm"), make_prompts()

    def distance(logits: Tensor, batch: Prompts, clean: Tensor) -> Tensor:
        assert len(batch) == len(logits)
        return -(logits - clean).square().sum(dim=1)

    found = patch(model, prompts, "residual", by_position=False, metric=distance, batch_size=2)
    assert found.about["metric"] == "distance"
    assert (found.clean, found.values.tolist()) == (0.0, [0.0] * 3)
    assert found.corrupted < 0


@pytest.mark.parametrize("what", ["residual", "mlps"])
def test_the_batch_size_makes_no_difference(what: str) -> None:
    model, prompts = make_model("mdm", "gpt2"), make_prompts(5)
    whole = patch(model, prompts, what)
    for batch_size in (1, 2, 5):
        parts = patch(model, prompts, what, batch_size=batch_size)
        torch.testing.assert_close(parts.values, whole.values, atol=1e-6, rtol=1e-6)
        assert (parts.clean, parts.corrupted) == pytest.approx((whole.clean, whole.corrupted), abs=1e-6)
        assert parts.about == whole.about


def test_one_forward_pass_a_cell_and_two_to_begin_with() -> None:
    model, prompts = make_model("arm"), make_prompts()
    calls = []
    model.decoder.model.register_forward_hook(lambda *_: calls.append(1))
    patch(model, prompts, "heads")
    assert len(calls) == 2 + 2 * 4 * LENGTH


def test_float64_and_gradients() -> None:
    """A decoder in double precision stays in it, and no graph is kept."""
    model = make_model("mdm")
    model.decoder.double()
    found = patch(model, make_prompts(), "heads")
    assert found.values.dtype == torch.float64
    assert not found.values.requires_grad
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.decoder.parameters())


# The result


@pytest.mark.parametrize("what", get_args(What))
@pytest.mark.parametrize("by_position", [True, False])
def test_saved_and_loaded_again(what: str, by_position: bool, tmp_path: Any) -> None:
    found = patch(make_model("mdm"), make_prompts(), what, by_position=by_position, direction="noise")
    found.save(tmp_path / "patching.safetensors")
    again = Patching.load(tmp_path / "patching.safetensors")
    assert torch.equal(again.values, found.values)
    for name in ("clean", "corrupted", "what", "direction", "about"):
        assert getattr(again, name) == getattr(found, name)
    assert repr(again) == repr(found)


def test_its_repr_names_the_strongest_cell() -> None:
    values = torch.zeros(2, 4, 5, dtype=torch.float64)
    values[1, 3, 2] = 0.75
    about = {"metric": "logit_diff"}
    heads = repr(Patching(values, 1.0, 0.0, "heads", "denoise", about))
    assert "2 x 4 x 5 cells" in heads
    assert "a1.h3 at position 2 restores 75%" in heads
    assert "clean 1" in heads
    assert "a1 at position 4 destroys 0%" not in heads
    rows = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    assert "the stream into the final norm destroys 100%" in repr(Patching(rows, 1.0, 0.0, "residual", "noise", about))
    assert "the stream into layer 0 restores 100%" in repr(Patching(rows, 1.0, 0.0, "residual", "denoise", about))
    assert "m0 restores 100%" in repr(Patching(rows[1:], 1.0, 0.0, "mlps", "denoise", about))
    assert "a1 destroys 100%" in repr(Patching(rows[1:], 1.0, 0.0, "attention", "noise", about))
