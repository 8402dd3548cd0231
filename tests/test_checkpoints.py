"""Models in folders and tensors in files: what is saved comes back; what is damaged is refused, with the cause."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import FAMILIES, assert_close, assert_three_parts, random_tokens, tiny_decoder
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdmcourse import storage
from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models import ARM, MDM, ToyConfig, load_model, save_model, toy_arm
from mdmcourse.models.checkpoint import load_decoder
from mdmcourse.models.lowrank import attach

SMALL = ToyConfig(num_hidden_layers=2, hidden_size=32, intermediate_size=64)


def no_space(path: Path) -> None:
    """A disk that fills up in the middle of a file."""
    path.write_bytes(b"half a fi")
    raise OSError(28, "No space left on device")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rewrite_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite_weights(directory: Path, tensors: dict[str, Tensor]) -> None:
    """Other tensors, with a checksum that is right."""
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    rewrite_json(directory / "mdmcourse.json", sha256=storage.sha256(directory / "model.safetensors"))


@pytest.fixture
def arm(tokenizer: Any) -> ARM:
    return toy_arm(tokenizer, SMALL)


@pytest.fixture
def saved(arm: ARM, tmp_path: Path) -> Path:
    """The folder of a saved MDM, alone in its parent."""
    directory = tmp_path / "models" / "mdm"
    save_model(MDM.from_arm(arm, weights="share"), directory)
    return directory


# --- what is saved comes back ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip(family: str, tmp_path: Path) -> None:
    """ARM and MDM of every family: the same logits, the same reading, in evaluation mode."""
    decoder, tokens = tiny_decoder(family, grouped=family != "gpt2"), random_tokens()
    for model in (ARM(decoder), MDM(decoder, mask_id=2, shift=False, attention="block:3")):
        save_model(model, tmp_path / "model", about={"origin": "a test"})
        loaded = load_model(tmp_path / "model")
        assert type(loaded) is type(model)
        assert (loaded.shift, loaded.attention) == (model.shift, model.attention)
        assert getattr(loaded, "mask_id", None) == getattr(model, "mask_id", None)
        assert loaded.tokenizer is None
        assert not loaded.decoder.training
        assert_close(loaded.logits(tokens), model.logits(tokens), atol=0)
    assert json.loads((tmp_path / "model" / "mdmcourse.json").read_text())["origin"] == "a test"


def test_half_precision_is_stored_and_read_as_float32(arm: ARM, tmp_path: Path) -> None:
    """The file holds float16, a CPU gets float32 unless asked otherwise, and what was saved stays as it is."""
    before = {name: tensor.clone() for name, tensor in arm.decoder.state_dict().items()}
    save_model(arm, tmp_path / "arm", dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "arm" / "model.safetensors").values()} == {torch.float16}
    loaded = load_model(tmp_path / "arm").decoder.state_dict()
    for name, tensor in arm.decoder.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == torch.float32
        assert torch.equal(loaded[name], tensor.half().float())
    assert load_model(tmp_path / "arm", dtype=torch.float16).decoder.dtype == torch.float16


def test_the_tokenizer_comes_along(saved: Path, tokenizer: Any) -> None:
    loaded = load_model(saved)
    text = "When Mary and John went to the store, John gave a drink to <mask>"
    assert loaded.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert loaded.tokenizer(text).input_ids == tokenizer(text).input_ids
    assert loaded.tokenizer.mask_token_id == loaded.mask_id == tokenizer.mask_token_id


def test_transformers_alone_can_read_it(saved: Path, arm: ARM, tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    decoder = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(saved)("Mary gave a ring to", return_tensors="pt").input_ids
    assert tokens.tolist() == [tokenizer("Mary gave a ring to").input_ids]
    assert_close(decoder(tokens).logits, arm.decoder(tokens).logits, atol=0)


def test_a_model_replaces_the_one_before(saved: Path, tokenizer: Any) -> None:
    other = toy_arm(tokenizer, SMALL, seed=1)
    save_model(other, saved)
    tokens = random_tokens()
    assert_close(load_model(saved).logits(tokens), other.logits(tokens), atol=0)
    assert names_in(saved.parent) == ["mdm"]


def test_what_one_says_about_a_model_cannot_break_it(arm: ARM, tmp_path: Path) -> None:
    """`about` has no say in what kind of model it is, or in its checksum."""
    save_model(arm, tmp_path / "arm", about={"kind": "cat", "sha256": "0", "origin": "a test"})
    assert isinstance(load_model(tmp_path / "arm"), ARM)


# --- what is damaged is refused -------------------------------------------------------------------------


def cut_short(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def flip_a_byte(directory: Path) -> None:
    weights = directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1
    weights.write_bytes(content)


def cut_short_with_right_checksum(directory: Path) -> None:
    cut_short(directory)
    rewrite_json(directory / "mdmcourse.json", sha256=storage.sha256(directory / "model.safetensors"))


def drop_a_tensor(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    rewrite_weights(directory, tensors)


def add_a_tensor(directory: Path) -> None:
    rewrite_weights(directory, load_file(directory / "model.safetensors") | {"model.extra": torch.ones(2)})


def only_a_pickle(directory: Path) -> None:
    """Even where mdmcourse.json vouches for it."""
    tensors = load_file(directory / "model.safetensors")
    torch.save(tensors, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    rewrite_json(directory / "mdmcourse.json", sha256=storage.sha256(directory / "pytorch_model.bin"))


def forget_the_mask(directory: Path) -> None:
    about = json.loads((directory / "mdmcourse.json").read_text())
    del about["mask_id"]
    (directory / "mdmcourse.json").write_text(json.dumps(about))


DAMAGE = {
    "cut short": (cut_short, ["model.safetensors", "checksum"]),
    "one byte": (flip_a_byte, ["model.safetensors", "checksum"]),
    "cut short, checksum right": (cut_short_with_right_checksum, ["could not be loaded"]),
    "no folder": (shutil.rmtree, ["mdmcourse.json", "could not be read"]),
    "no weights": (lambda at: (at / "model.safetensors").unlink(), ["holds no model.safetensors"]),
    "a pickle instead": (only_a_pickle, ["holds no model.safetensors"]),
    "no mdmcourse.json": (lambda at: (at / "mdmcourse.json").unlink(), ["mdmcourse.json", "could not be read"]),
    "garbage": (lambda at: (at / "mdmcourse.json").write_bytes(b"\xff{"), ["mdmcourse.json", "could not be read"]),
    "other JSON": (lambda at: (at / "mdmcourse.json").write_text("[]"), ["mdmcourse.json", "could not be read"]),
    "no kind": (lambda at: (at / "mdmcourse.json").write_text("{}"), ["mdmcourse.json", "kind"]),
    "unknown kind": (lambda at: rewrite_json(at / "mdmcourse.json", kind="cat"), ["mdmcourse.json", "kind"]),
    "no mask_id": (forget_the_mask, ["mdmcourse.json", "mask_id"]),
    "no config.json": (lambda at: (at / "config.json").unlink(), ["config.json", "could not be read"]),
    "garbage config": (lambda at: (at / "config.json").write_text("{"), ["config.json", "could not be read"]),
    "other JSON as config": (lambda at: (at / "config.json").write_text("[]"), ["config.json", "could not be read"]),
    "other family": (lambda at: rewrite_json(at / "config.json", model_type="mamba"), ["of type 'mamba'"]),
    "other shape": (lambda at: rewrite_json(at / "config.json", hidden_size=48), ["embed_tokens", "32", "48"]),
    "no number": (lambda at: rewrite_json(at / "config.json", hidden_size="wide"), ["hidden_size"]),
    "five heads in 32": (lambda at: rewrite_json(at / "config.json", num_attention_heads=5), ["32", "5"]),
    "a layer too few": (drop_a_tensor, ["missing keys", "model.layers.1.mlp.up_proj.weight"]),
    "a tensor too many": (add_a_tensor, ["unexpected keys", "model.extra"]),
    "garbage tokenizer": (lambda at: (at / "tokenizer.json").write_text('{"version": '), ["tokenizer.json"]),
    "no tokenizer": (lambda at: (at / "tokenizer.json").write_text('{"version": "1.0"}'), ["tokenizer.json"]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_and_named(damage: str, saved: Path) -> None:
    do, seen = DAMAGE[damage]
    assert isinstance(load_model(saved), MDM)
    do(saved)
    with pytest.raises(CheckpointError) as caught:
        load_model(saved)
    assert_three_parts(caught.value, str(saved), *seen)


def test_a_decoder_is_never_read_from_a_pickle(saved: Path) -> None:
    """Not by the part that reads folders from elsewhere, which have no mdmcourse.json, either."""
    only_a_pickle(saved)
    (saved / "mdmcourse.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_decoder(saved)
    assert_three_parts(caught.value, str(saved), "safetensors")


# --- what cannot be written leaves no trace -------------------------------------------------------------


def test_a_full_disk_leaves_the_earlier_model(saved: Path, tokenizer: Any, monkeypatch: Any) -> None:
    before = load_model(saved).decoder.state_dict()
    other = toy_arm(tokenizer, SMALL, seed=1)
    monkeypatch.setattr(other.decoder, "save_pretrained", lambda folder: no_space(folder / "model.safetensors"))
    with pytest.raises(CheckpointError) as caught:
        save_model(other, saved)
    assert_three_parts(caught.value, str(saved), "No space left on device")
    assert names_in(saved.parent) == ["mdm"]
    for name, tensor in load_model(saved).decoder.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_interruption_leaves_the_earlier_model(saved: Path, arm: ARM, monkeypatch: Any) -> None:
    """Ctrl-C while the new one is written is passed on."""

    def interrupt(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half a fi")
        raise KeyboardInterrupt

    monkeypatch.setattr(arm.decoder, "save_pretrained", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_model(arm, saved)
    assert names_in(saved.parent) == ["mdm"]
    assert isinstance(load_model(saved), MDM)


def test_a_place_that_cannot_be_written_is_named(arm: ARM, tmp_path: Path) -> None:
    """Below a file there are no folders, not even for root."""
    (tmp_path / "file").write_text("a file")
    with pytest.raises(CheckpointError) as caught:
        save_model(arm, tmp_path / "file" / "arm")
    assert_three_parts(caught.value, str(tmp_path / "file" / "arm"), "could not be written")
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_model_is_not_replaced(kind: str, arm: ARM, tmp_path: Path) -> None:
    """Saving to a folder of other things must not delete them."""
    target = tmp_path / "thesis"
    text = target / "chapter.tex" if kind == "folder" else target
    text.parent.mkdir(exist_ok=True)
    text.write_text("years of work")
    with pytest.raises(CheckpointError) as caught:
        save_model(arm, target)
    assert_three_parts(caught.value, str(target))
    assert text.read_text() == "years of work"
    assert names_in(tmp_path) == ["thesis"]


@pytest.mark.parametrize("beside", ["arm", "notes.md"])
def test_what_lies_beside_a_model_is_not_lost(beside: str, saved: Path, arm: ARM) -> None:
    """Another model in a folder below, a text: saving replaces the whole folder."""
    if beside == "arm":
        save_model(arm, saved / beside)
    else:
        (saved / beside).write_text("what I found")
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError) as caught:
        save_model(arm, saved)
    assert_three_parts(caught.value, str(saved), beside)
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before


def test_a_model_with_changes_attached_is_not_saved_as_a_folder(arm: ARM, tmp_path: Path) -> None:
    attach(arm, 2, 4.0, seed=0)
    with pytest.raises(InputError) as caught:
        save_model(arm, tmp_path / "arm")
    assert_three_parts(caught.value, "low-rank changes")
    assert not names_in(tmp_path)


def test_an_empty_folder_may_be_used(arm: ARM, tmp_path: Path, monkeypatch: Any) -> None:
    """Also when it is the current one."""
    (tmp_path / "arm").mkdir()
    monkeypatch.chdir(tmp_path / "arm")
    save_model(arm, ".")
    assert isinstance(load_model(tmp_path / "arm"), ARM)


# --- files of tensors -----------------------------------------------------------------------------------


def test_tensors_round_trip(tmp_path: Path) -> None:
    """Views, transposes and tensors that share memory too."""
    table = torch.arange(12.0).reshape(3, 4)
    tensors = {"table": table, "again": table, "row": table[1], "turned": table.T, "empty": torch.ones(0, 2)}
    path = tmp_path / "new" / "tensors.safetensors"
    storage.write_tensors(path, tensors, {"name": "Σ", "sizes": [1, 2], "nothing": None})
    found, about = storage.read_tensors(path)
    assert about == {"name": "Σ", "sizes": [1, 2], "nothing": None}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "tensors.safetensors"
    storage.write_tensors(path, {"x": torch.ones(2)}, {"version": 1})
    monkeypatch.setattr(storage, "save_file", lambda _, path, metadata: no_space(path))
    with pytest.raises(CheckpointError) as caught:
        storage.write_tensors(path, {"x": torch.zeros(2)}, {"version": 2})
    assert_three_parts(caught.value, str(path), "No space left on device")
    assert names_in(tmp_path) == [path.name]
    found, about = storage.read_tensors(path)
    assert about == {"version": 1}
    assert torch.equal(found["x"], torch.ones(2))


def test_a_file_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(CheckpointError) as caught:
        storage.write_text(tmp_path / "file" / "text", "text")
    assert_three_parts(caught.value, str(tmp_path / "file" / "text"))


@pytest.mark.parametrize("damage", ["missing", "garbage", "cut short", "another kind of safetensors"])
def test_a_file_that_is_none_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "tensors.safetensors"
    if damage == "garbage":
        path.write_bytes(b"garbage" * 100)
    elif damage == "cut short":
        storage.write_tensors(path, {"x": torch.ones(100)}, {})
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "another kind of safetensors":
        save_file({"x": torch.ones(2)}, path)
    with pytest.raises(CheckpointError) as caught:
        storage.read_tensors(path)
    assert_three_parts(caught.value, str(path))


@dataclass(frozen=True)
class Measurement(storage.Saved):
    values: Tensor
    mask: Tensor | None
    name: str
    count: int = 3


@dataclass(frozen=True)
class Other(storage.Saved):
    values: Tensor


def test_a_dataclass_saves_and_loads_itself(tmp_path: Path) -> None:
    values = torch.tensor([1.5, torch.nan])
    Measurement(values, None, "chain").save(tmp_path / "it.safetensors")
    found = Measurement.load(str(tmp_path / "it.safetensors"))
    assert_close(found.values, values, atol=0)
    assert (found.mask, found.name, found.count) == (None, "chain", 3)


def test_a_dataclass_of_another_kind_is_refused(tmp_path: Path) -> None:
    Measurement(torch.ones(2), None, "chain").save(tmp_path / "it.safetensors")
    with pytest.raises(CheckpointError) as caught:
        Other.load(tmp_path / "it.safetensors")
    assert_three_parts(caught.value, str(tmp_path / "it.safetensors"), "Measurement", "Other")


def test_a_dataclass_of_an_older_version_is_refused(tmp_path: Path) -> None:
    """With a field less, and one that is not known any more."""
    path = tmp_path / "it.safetensors"
    storage.write_tensors(path, {"values": torch.ones(2)}, {"kind": "Measurement", "mask": None, "title": "chain"})
    with pytest.raises(CheckpointError) as caught:
        Measurement.load(path)
    assert_three_parts(caught.value, str(path), "count", "name", "title")


def test_a_device_that_is_not_there_is_refused(saved: Path):
    for device in ("cuda:0" if not torch.cuda.is_available() else "xpu", "gpu"):
        with pytest.raises(InputError, match="no device"):
            load_model(saved, device=device)
