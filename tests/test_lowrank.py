"""Low-rank changes: attached, trained, rounded to eight bits, merged, refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import POSITIONS, VOCABULARY, assert_close, assert_three_parts, random_tokens, tiny_decoder
from torch import nn

from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models import ARM, MDM
from mdmcourse.models.lowrank import Adapter, LowRank, MaskVector, attach, changes, detach, is_attached
from mdmcourse.storage import write_tensors

MASK = 2
LAYERS = 2 * 7  # q, k, v, o, gate, up, down of two layers
WITH_LINEAR = pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])


def arm(family: str = "llama") -> ARM:
    return ARM(tiny_decoder(family, True))


def mdm(family: str = "llama") -> MDM:
    return MDM(tiny_decoder(family, True), mask_id=MASK)


def changed(model: Any, seed: int = 0) -> Any:
    """The model with changes attached that do something."""
    attach(model, 3, 6.0, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, _, change in changes(model.decoder):
            for parameter in change.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def logits(model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
    tokens = random_tokens() if tokens is None else tokens
    with torch.no_grad():
        return model.logits(tokens)


def masked() -> torch.Tensor:
    tokens = random_tokens()
    tokens[:, 3:5] = MASK
    return tokens


@WITH_LINEAR
def test_before_training_nothing_is_different(family: str) -> None:
    model = mdm(family)
    before = logits(model, masked())
    attach(model, 3, 6.0)
    assert torch.equal(logits(model, masked())[:, 1:], before[:, 1:])


@WITH_LINEAR
def test_only_the_changes_are_trained(family: str) -> None:
    model = mdm(family)
    attach(model, 3, 6.0)
    trained = {name for name, parameter in model.decoder.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * LAYERS + 1
    assert all(".lowrank." in name for name in trained)
    model.logits(masked())[:, 1:].square().sum().backward()
    for name, parameter in model.decoder.named_parameters():
        # a gets a gradient only once b is no longer zero
        assert (parameter.grad is not None) == (name in trained)
    vector = model.decoder.get_input_embeddings().lowrank.vector
    assert vector.grad.abs().sum() > 0


def test_the_change_is_what_its_definition_says() -> None:
    layer = nn.Linear(5, 4)
    change = LowRank(layer, 2, 8.0, torch.Generator())
    assert change(torch.randn(3, 5)).abs().sum() == 0
    with torch.no_grad():
        change.b.normal_()
    x = torch.randn(3, 5)
    assert_close(change(x), x @ (8 / 2 * change.b @ change.a).T)


def test_the_vector_of_the_mask_replaces_that_of_the_table_and_no_other() -> None:
    model = mdm()
    attach(model, 1, 1.0)
    vector = model.decoder.get_input_embeddings().lowrank.vector
    plain, with_masks = logits(model), logits(model, masked())
    with torch.no_grad():
        vector += 1
    assert torch.equal(logits(model)[:, 1:], plain[:, 1:])
    assert not torch.allclose(logits(model, masked())[:, 1:], with_masks[:, 1:])
    by_hand = mdm()
    with torch.no_grad():
        by_hand.decoder.get_input_embeddings().weight[MASK] = vector
    # The table may be the head too: then the logits of the mask differ, which can never be an answer.
    assert_close(logits(model, masked())[:, 1:], logits(by_hand, masked())[:, 1:])


def test_detached_the_decoder_is_what_it_was() -> None:
    model = changed(mdm())
    assert is_attached(model.decoder)
    detach(model.decoder)
    assert not is_attached(model.decoder)
    assert torch.equal(logits(model, masked())[:, 1:], logits(mdm(), masked())[:, 1:])
    assert {name for name, _ in model.decoder.named_parameters()} == {n for n, _ in mdm().decoder.named_parameters()}
    assert all(parameter.requires_grad for parameter in model.decoder.parameters())
    assert not any(module._forward_hooks for module in model.decoder.modules())


@WITH_LINEAR
@pytest.mark.parametrize("make", [arm, mdm])
def test_merged_it_computes_what_the_rounded_changes_compute(make: Any, family: str, tmp_path: Path) -> None:
    """Exactly (to 1e-5) the changes as they are stored; and those differ from the trained ones by their rounding."""
    model = changed(make(family))
    Adapter.of(model.decoder, {"base": "tiny"}).save(tmp_path / "a.safetensors")
    stored = Adapter.load(tmp_path / "a.safetensors")
    merged = make(family)
    stored.merge(merged)
    trained = logits(model, masked())
    with torch.no_grad():
        for name, _, change in changes(model.decoder):
            if isinstance(change, LowRank):
                a, b = (stored.tensors[f"{name}.{p}"] * stored.tensors[f"{name}.{p}_scale"][:, None] for p in "ab")
                assert (a - change.a).abs().max() <= 0.5001 * stored.tensors[f"{name}.a_scale"].max()
                change.a.copy_(a)
                change.b.copy_(b.T / change.scale)
    assert_close(logits(merged, masked()), logits(model, masked()), atol=1e-4)
    assert not torch.allclose(logits(merged, masked())[:, 1:], logits(make(family), masked())[:, 1:], atol=0.1)
    assert (trained - logits(merged, masked()))[:, 1:].abs().max() < 0.2  # of logits that spread over tens
    assert not any(hasattr(module, "lowrank") for module in merged.decoder.modules())


def test_a_copy_of_a_changed_decoder_stands_alone() -> None:
    model = changed(arm())
    other = ARM(copy.deepcopy(model.decoder))
    detach(other.decoder)
    assert torch.equal(logits(other)[:, 1:], logits(arm())[:, 1:])
    assert is_attached(model.decoder)
    assert not torch.allclose(logits(model)[:, 1:], logits(arm())[:, 1:])


def test_eight_bits_a_number() -> None:
    adapter = Adapter.of(changed(mdm()).decoder, {})
    numbers = sum(change.a.numel() + change.b.numel() for _, _, change in changes(changed(mdm()).decoder)
                  if isinstance(change, LowRank))  # fmt: skip
    stored = sum(tensor.numel() for tensor in adapter.tensors.values() if tensor.dtype == torch.int8)
    assert stored == numbers
    assert f"{LAYERS} layers" in repr(adapter)


@pytest.mark.parametrize("what", ["gpt2", "twice", "rank 0"])
def test_what_cannot_be_changed_is_refused(what: str) -> None:
    model = ARM(tiny_decoder("gpt2")) if what == "gpt2" else arm()
    if what == "twice":
        attach(model, 1, 1.0)
    with pytest.raises(InputError) as caught:
        attach(model, 0 if what == "rank 0" else 1, 1.0)
    assert_three_parts(caught.value, "cannot be attached")


def larger() -> ARM:
    import transformers

    config = tiny_decoder("llama", True).config.to_dict() | {"hidden_size": 48, "head_dim": 12}
    return ARM(transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval())


@pytest.mark.parametrize("what", ["an MDM's for an ARM", "an ARM's for an MDM", "other sizes", "a layer less", "empty"])
def test_changes_that_do_not_fit_are_refused_and_change_nothing(what: str) -> None:
    adapter = Adapter.of(changed(arm() if what == "an ARM's for an MDM" else mdm()).decoder, {})
    if what in ("other sizes", "a layer less", "empty"):
        adapter = Adapter.of(changed(arm()).decoder, {})
    model: Any = larger() if what == "other sizes" else mdm() if what == "an ARM's for an MDM" else arm()
    if what == "a layer less":
        del adapter.tensors["model.layers.0.mlp.up_proj.b"]
    if what == "empty":
        adapter = Adapter({}, {})
    before = {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        adapter.merge(model)
    assert_three_parts(caught.value, "do not fit")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.decoder.state_dict().items())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    Adapter.of(changed(arm()).decoder, {}).save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError) as caught:
        Adapter.load(path)
    assert_three_parts(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """Merged, it would change nothing, and nobody would notice."""
    write_tensors(tmp_path / "a.safetensors", {"values": torch.ones(3)}, {"kind": "Scores"})
    with pytest.raises(CheckpointError) as caught:
        Adapter.load(tmp_path / "a.safetensors")
    assert_three_parts(caught.value, "no low-rank changes")


def test_a_mask_vector_begins_as_the_token_it_replaces() -> None:
    table = nn.Embedding(VOCABULARY, POSITIONS)
    assert torch.equal(MaskVector(table, MASK).vector, table.weight[MASK])
