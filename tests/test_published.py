"""Published checkpoints: each layout loads exactly, and whatever is missing, damaged or mislabelled is refused by name.

The released files are not at hand: small stand-ins in their layouts take their places (see `layouts`).
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import POSITIONS, VOCABULARY, assert_close, assert_three_parts, random_tokens, tiny_decoder
from layouts import (
    LAYOUTS,
    a2d,
    byte_tokenizer,
    config_of,
    diffugpt,
    diffullama_renamed,
    dream,
    gpt2,
    plain,
    read_as,
    tensors_of,
    tied_twice,
    write,
)
from safetensors.torch import load_file, save_file

from mdmcourse.errors import CheckpointError, InputError
from mdmcourse.models import ARM, MDM, load, load_pair, registry
from mdmcourse.models.published import load_published
from mdmcourse.paths import cache_dir

pytestmark = pytest.mark.filterwarnings("ignore:.*holds no tokenizer")
MODELS = registry()["models"]
ROWS = 300  # of the stand-ins that have a tokenizer
MASK = 260
DREAM = {**MODELS["dream-7b-base"], "mask_id": MASK}


def tiny_entry(name: str) -> dict[str, Any]:
    """The registry's entry with a mask that the tiny decoders have: their last row."""
    about = dict(MODELS[name])
    return about if about["kind"] == "ARM" else about | {"mask_id": VOCABULARY - 1}


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- every layout loads exactly -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_stand_in_computes_exactly_what_its_source_computes(name: str, tmp_path: Path) -> None:
    """Kind, mask, shift and attention are the registry's; the weights are those of the file, every one."""
    about = tiny_entry(name)
    source = tiny_decoder(about["family"], grouped=about["kv_heads"] < about["heads"])
    LAYOUTS.get(name, plain)(source, tmp_path)
    loaded = load_published(about, tmp_path)
    expected = read_as(about, source)
    assert type(loaded) is type(expected)
    assert (loaded.shift, loaded.attention) == (expected.shift, expected.attention)
    assert not loaded.decoder.training
    tokens = random_tokens()
    if isinstance(loaded, MDM):
        tokens[:, 3:5] = loaded.mask_id
    assert_close(loaded.logits(tokens), expected.logits(tokens), atol=0)
    for ours, theirs in zip(loaded.decoder.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["diffugpt-m", "qwen3-0.6b-bd3lm"])
def test_by_name_with_the_true_vocabulary_and_small_sizes(name: str, tmp_path: Path) -> None:
    """As a lesson does it, with one name changed: the mask is the real one."""
    about = MODELS[name]
    source = tiny_decoder(about["family"], grouped=about["family"] != "gpt2", vocabulary=about["vocabulary"])
    LAYOUTS[name](source, tmp_path)
    tokens = random_tokens()
    tokens[:, 3] = about["mask_id"]
    loaded = load(name, tmp_path)
    assert_close(loaded.logits(tokens), read_as(about, source).logits(tokens), atol=0)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_speed_of_rotations_is_that_of_the_config(family: str, tmp_path: Path) -> None:
    """It leaves no trace in any tensor, and older configs spell it in another way than transformers now does."""
    source = tiny_decoder(family)
    source.config.rope_parameters = {"rope_type": "default", "rope_theta": 1e6}
    faster = type(source)(source.config).eval()
    faster.load_state_dict(source.state_dict())
    plain(faster, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["rope_theta"] == 1e6
    about = {"llama": "llama-2-7b", "qwen2": "qwen2.5-7b", "qwen3": "qwen3-0.6b"}[family]
    loaded = load_published(tiny_entry(about), tmp_path).decoder(random_tokens()).logits
    assert_close(loaded, faster(random_tokens()).logits, atol=0)
    assert not torch.allclose(loaded, source(random_tokens()).logits)


def test_a_llama_with_the_names_of_diffugpt(tmp_path: Path) -> None:
    source = tiny_decoder("llama")
    diffullama_renamed(source, tmp_path)
    loaded = load_published(tiny_entry("diffullama"), tmp_path)
    assert_close(loaded.decoder(random_tokens()).logits, source(random_tokens()).logits, atol=0)


def test_the_one_real_checkpoint_at_hand(smollm2: ARM) -> None:
    """With the registry's sizes enforced, as for what comes from the hub."""
    directory = cache_dir() / "smollm2-135m"
    loaded = load_published(MODELS["smollm2-135m"], directory, from_hub=True)
    assert loaded.tokenizer.get_vocab() == smollm2.tokenizer.get_vocab()
    for ours, theirs in zip(loaded.decoder.parameters(), smollm2.decoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_head_that_equals_the_embedding_stays_one_with_it(tmp_path: Path) -> None:
    """And one that does not is kept apart, whatever the config says."""
    source = tiny_decoder("qwen3", True)
    tied_twice(source, tmp_path / "same")
    a2d(source, tmp_path / "other")
    same = load_published(tiny_entry("qwen3-0.6b"), tmp_path / "same").decoder
    assert same.lm_head.weight is same.model.embed_tokens.weight
    other = load_published(tiny_entry("qwen3-0.6b-mdlm"), tmp_path / "other").decoder
    assert not torch.equal(other.lm_head.weight, other.model.embed_tokens.weight)
    assert other.config.tie_word_embeddings is False


def test_precision_and_place(tmp_path: Path) -> None:
    """Half precision in the file is read as float32 on a CPU, and as it is when the layers are to be divided."""
    source = tiny_decoder("qwen2", True).bfloat16()
    dream(source, tmp_path)
    about = tiny_entry("dream-7b-base")
    assert load_published(about, tmp_path).decoder.dtype == torch.float32
    assert load_published(about, tmp_path, dtype=torch.bfloat16).decoder.dtype == torch.bfloat16
    divided = load_published(about, tmp_path, device_map={"": "cpu"}).decoder
    assert divided.dtype == torch.bfloat16
    assert all(torch.equal(*both) for both in zip(divided.parameters(), source.parameters(), strict=True))
    with pytest.raises(InputError) as caught:
        load_published(about, tmp_path, device="cpu", device_map="auto")
    assert_three_parts(caught.value, "device_map='auto'")


# --- tokenizers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True], ids=["vocab.json and merges.txt", "tokenizer.json"])
def test_a_tokenizer_is_read_whatever_its_class_is_called(whole: bool, tmp_path: Path) -> None:
    dream(tiny_decoder("qwen2", vocabulary=ROWS), tmp_path)
    byte_tokenizer(tmp_path, MASK, whole=whole)
    loaded = load_published(DREAM, tmp_path)
    assert isinstance(loaded, MDM)
    assert loaded.tokenizer.mask_token_id == loaded.mask_id == MASK
    assert len(loaded.tokenizer) == MASK + 1
    assert loaded.encode("a tee<|mask|>")[0, -1] == MASK
    assert loaded.decode(loaded.encode("Zoë, a  tee")[0]) == "Zoë, a  tee"


def test_without_a_tokenizer_one_is_told(tmp_path: Path) -> None:
    dream(tiny_decoder("qwen2"), tmp_path)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        loaded = load_published(tiny_entry("dream-7b-base"), tmp_path)
    assert loaded.tokenizer is None
    assert any("holds no tokenizer" in str(warning.message) for warning in seen)


# --- what is not right is refused, and named ------------------------------------------------------------


def rewrite(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Other tensors in the place of a stand-in's, in one file."""
    tensors: dict[str, Any] = {}
    for file in directory.glob("*.safetensors"):
        tensors |= load_file(file)
        file.unlink()
    (directory / "model.safetensors.index.json").unlink(missing_ok=True)
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def without(*names: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        rewrite(directory, lambda tensors: [tensors.pop(name) for name in names] and None)

    return damage


def with_tensor(name: str) -> Callable[[Path], None]:
    return lambda directory: rewrite(directory, lambda tensors: tensors.update({name: torch.ones(2)}))


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda directory: edit(directory / "config.json", **changes)


def quantise(directory: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    rewrite(directory, lambda tensors: tensors.update({name: tensors[name].to(torch.int8)}))


def only_a_pickle(directory: Path) -> None:
    for file in directory.glob("model*"):
        file.unlink()
    torch.save({}, directory / "pytorch_model.bin")


def no_weights(directory: Path) -> None:
    for file in directory.glob("model*"):
        file.unlink()


def shard(directory: Path) -> Path:
    return directory / "model-00002-of-00003.safetensors"


def cut_short(directory: Path) -> None:
    shard(directory).write_bytes(shard(directory).read_bytes()[:-100])


def swap_names(directory: Path) -> None:
    """An index of another checkpoint."""
    index = directory / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    files = sorted(set(weight_map.values()))
    edit(index, weight_map={name: files[(files.index(file) + 1) % 3] for name, file in weight_map.items()})


def outside(directory: Path) -> None:
    edit(directory / "model.safetensors.index.json", weight_map={"model.norm.weight": "../model.safetensors"})


def forget(field: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        fields = json.loads((directory / "config.json").read_text())
        del fields[field]
        (directory / "config.json").write_text(json.dumps(fields))

    return damage


def tokenizer(mask_id: int, token: str = "<|mask|>", more: int = 0, **changes: Any) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        byte_tokenizer(directory, mask_id, mask_token=token, more=more)
        edit(directory / "tokenizer_config.json", **changes)

    return damage


def broken_vocabulary(directory: Path) -> None:
    byte_tokenizer(directory, MASK)
    (directory / "vocab.json").write_text("[")


LAYER = "model.layers.1"
DAMAGE: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no folder": (shutil.rmtree, ["is no folder"]),
    "only a pickle": (only_a_pickle, ["pytorch_model.bin", "a pickle"]),
    "no weights": (no_weights, ["holds no model.safetensors and no"]),
    "garbage index": (lambda at: (at / "model.safetensors.index.json").write_text("{"), ["index.json could not be"]),
    "an index that leads elsewhere": (outside, ["index.json could not be read", "../model.safetensors"]),
    "a file missing": (lambda at: shard(at).unlink(), ["lacks model-00002-of-00003", "1 of 3 files"]),
    "a file cut short": (cut_short, ["model-00002-of-00003", "cut short"]),
    "no safetensors inside": (lambda at: shard(at).write_bytes(b"garbage"), ["model-00002", "no safetensors file"]),
    "an index of another checkpoint": (swap_names, ["safetensors.index.json disagree about"]),
    "no config": (lambda at: (at / "config.json").unlink(), ["config.json could not be read"]),
    "another family": (config(model_type="llama"), ["of type 'llama'", "is a qwen2"]),
    "a family that only transformers knows": (config(model_type="mistral"), ["of type 'mistral'"]),
    "a field missing": (forget("rope_theta"), ["does not state rope_theta or rope_parameters"]),
    "no number": (config(hidden_size="wide"), ["describes no qwen2", "hidden_size"]),
    "no such activation": (config(hidden_act="nonsense"), ["describes no decoder", "nonsense"]),
    "a row too few": (config(vocab_size=ROWS - 1), ["[299, 32], the file has [300, 32]", "vocab_size does not fit"]),
    "a row too many": (config(vocab_size=ROWS + 1), ["[301, 32], the file has [300, 32]", "vocab_size does not fit"]),
    "a layer too few": (config(num_hidden_layers=1), ["says 1 layers, the weights have 2"]),
    "a layer too many": (config(num_hidden_layers=3), ["says 3 layers, the weights have 2"]),
    "another width": (config(hidden_size=48), ["[300, 48], the file has [300, 32]", "hidden_size does not fit"]),
    "other heads": (config(num_attention_heads=8), ["k_proj", "num_attention_heads, num_key_value_heads or head_dim"]),
    "other key-value heads": (config(num_key_value_heads=4), ["k_proj", "num_key_value_heads or head_dim"]),
    "other MLPs": (config(intermediate_size=60), ["mlp.gate_proj", "intermediate_size does not fit"]),
    "no embedding": (without("model.embed_tokens.weight"), ["lacks 1", "of the embedding model.embed_tokens.weight"]),
    "no queries": (without(f"{LAYER}.self_attn.q_proj.weight"), ["of attention", "q_proj"]),
    "no keys": (without(f"{LAYER}.self_attn.k_proj.bias"), ["of attention", "k_proj"]),
    "no values": (without(f"{LAYER}.self_attn.v_proj.weight"), ["of attention", "v_proj"]),
    "no output": (without(f"{LAYER}.self_attn.o_proj.weight"), ["of attention", "o_proj"]),
    "no MLP": (without(f"{LAYER}.mlp.up_proj.weight", f"{LAYER}.mlp.down_proj.weight"), ["lacks 2", "of MLPs"]),
    "no norms": (without(f"{LAYER}.input_layernorm.weight", "model.norm.weight"), ["lacks 2", "of norms"]),
    "no head": (without("lm_head.weight"), ["lacks 1", "of the head lm_head.weight"]),
    "quantised": (quantise, ["as I8", "model.layers.0.mlp.up_proj.weight"]),
    "a tensor too many": (with_tensor("model.extra.weight"), ["holds 1 that the model has not", "model.extra.weight"]),
    "a tensor that is nearly a constant": (with_tensor("model.layers.0.attn.bias"), ["model.layers.0.attn.bias"]),
    "two names for one": (with_tensor("embed_tokens.weight"), ["holds 2", "embed_tokens.weight"]),
    "the mask at another place": (tokenizer(MASK + 1), [f"has id {MASK}", f"says {MASK + 1}"]),
    "another token for the mask": (tokenizer(MASK, "<|pad|>", mask_token=None), ["'<|mask|>'", "'<|pad|>'"]),
    "more tokens than rows": (tokenizer(MASK, more=44), ["305 tokens, the embedding 300 rows"]),
    "a broken vocabulary": (broken_vocabulary, ["vocab.json", "could not be read"]),
}  # fmt: skip


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A small Dream: grouped heads, three files, no tokenizer."""
    dream(tiny_decoder("qwen2", True, vocabulary=ROWS), tmp_path / "dream")
    return tmp_path / "dream"


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_and_named(damage: str, stand_in: Path) -> None:
    do, seen = DAMAGE[damage]
    about = {**DREAM, "mask_token": "<|mask|>"}
    assert isinstance(load_published(about, stand_in), MDM)
    do(stand_in)
    with pytest.raises(CheckpointError) as caught:
        load_published(about, stand_in)
    assert_three_parts(caught.value, str(stand_in), *seen)


def test_every_kind_of_damage_has_its_own_message() -> None:
    told = [" ".join(seen) for _, seen in DAMAGE.values()]
    assert len(set(told)) == len(told)


def test_a_mask_outside_the_rows_is_refused(stand_in: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_published({**DREAM, "mask_id": ROWS}, stand_in)
    assert_three_parts(caught.value, str(stand_in), "id 300", "rows 0 to 299")


@pytest.mark.parametrize("name", [f"transformer.{of}" for of in ("h.0.attn.c_attn.bias", "wpe.weight", "ln_f.bias")])
def test_gpt2_lacks_nothing_in_silence(name: str, tmp_path: Path) -> None:
    """Its constants are called much like its biases; transformers itself does not tell of a tensor like these."""
    source = tiny_decoder("gpt2")
    tensors = tensors_of(source)
    del tensors[name]
    write(tmp_path, tensors, config_of(source))
    with pytest.raises(CheckpointError) as caught:
        load_published(tiny_entry("gpt2"), tmp_path)
    assert_three_parts(caught.value, name, "lacks 1 of")
    tensors = tensors_of(source) | {"transformer.extra.attn.bias": torch.ones(2)}
    write(tmp_path, tensors, config_of(source))
    with pytest.raises(CheckpointError) as caught:
        load_published(tiny_entry("gpt2"), tmp_path)
    assert_three_parts(caught.value, "transformer.extra.attn.bias")


def test_only_where_a_row_more_is_known_it_is_taken(tmp_path: Path) -> None:
    """DiffuGPT-M has one row that its config does not count; two are too many, and so is one elsewhere."""
    source = tiny_decoder("gpt2")
    for beyond, name in ((2, "diffugpt-m"), (1, "diffugpt-s")):
        diffugpt(source, tmp_path, vocab_size=VOCABULARY - beyond)
        with pytest.raises(CheckpointError) as caught:
            load_published(tiny_entry(name), tmp_path)
        assert_three_parts(caught.value, "vocab_size does not fit", f"[{VOCABULARY}, 32]")
    diffugpt(source, tmp_path)  # as if its authors had mended the config
    assert load_published(tiny_entry("diffugpt-m"), tmp_path).vocab_size == VOCABULARY


SIZES = {"layers": 2, "heads": 4, "kv_heads": 2, "d_model": 32, "d_mlp": 64, "vocabulary": ROWS}


def test_what_the_hub_gives_is_what_the_registry_means(stand_in: Path) -> None:
    """Heads too, whose number often leaves no trace in any shape."""
    assert load_published({**DREAM, **SIZES}, stand_in, from_hub=True).vocab_size == ROWS
    for size in SIZES:
        with pytest.raises(CheckpointError) as caught:
            load_published({**DREAM, **SIZES, size: 7}, stand_in, from_hub=True)
        assert_three_parts(caught.value, str(stand_in), f"{SIZES[size]}", "has 7")
    supposed = {**DREAM, **SIZES, "vocabulary": 7, "open": ["vocabulary"]}
    assert load_published(supposed, stand_in, from_hub=True).vocab_size == ROWS


# --- pairs ----------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """GPT-2 and its MDM with a row more."""
    rows = MODELS["diffugpt-m"]["vocabulary"]
    gpt2(tiny_decoder("gpt2", vocabulary=rows - 1), tmp_path / "arm")
    byte_tokenizer(tmp_path / "arm", MASK, mask_token="<|a token|>")
    edit(tmp_path / "arm" / "tokenizer_config.json", mask_token=None)
    LAYOUTS["diffugpt-m"](tiny_decoder("gpt2", seed=1, vocabulary=rows), tmp_path / "mdm")
    return {"arm": tmp_path / "arm", "mdm": tmp_path / "mdm"}


def test_a_control_that_cannot_be_is_not_made_up(folders: dict[str, Path]) -> None:
    """The ARM has no row for the mask of DiffuGPT-M; the MDM, which comes without a tokenizer, has the ARM's."""
    pair = load_pair("diffugpt-m", weights=folders)
    assert pair.controls == {}
    assert "50257" in pair.absent["attention-switched"]
    assert "attention-switched  none" in repr(pair)
    assert pair.mdm.tokenizer is pair.arm.tokenizer is not None
    assert pair.tasks == tuple(registry()["pairs"]["diffugpt-m"]["tasks"])


def test_where_the_arm_has_the_row_the_control_is_its_weights_read_as_the_mdm_is(folders: dict[str, Path]) -> None:
    diffugpt(tiny_decoder("gpt2", seed=1, vocabulary=50257), folders["mdm"])
    pair = load_pair("diffugpt-s", weights=folders)
    switched = pair.controls["attention-switched"]
    assert isinstance(switched, MDM)
    assert switched.decoder is pair.arm.decoder
    assert (switched.mask_id, switched.shift, switched.attention) == (10541, True, "full")
    assert pair.absent == {}


def test_two_models_that_do_not_belong_together_are_no_pair(folders: dict[str, Path]) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50258, n_layer=1, n_embd=32, n_head=4, n_positions=POSITIONS)
    LAYOUTS["diffugpt-m"](GPT2LMHeadModel(config), folders["mdm"])
    with pytest.raises(CheckpointError) as caught:
        load_pair("diffugpt-m", weights=folders)
    assert_three_parts(caught.value, "('gpt2', 2, 4, 32)", "('gpt2', 1, 4, 32)")


@pytest.mark.parametrize(
    ("name", "weights"), [("diffugpt-s", {"amr": "x"}), ("toy-chain", {"arm": "x"}), ("smollm2-135m", {"mdm": "x"})]
)
def test_folders_for_what_takes_none_are_refused(name: str, weights: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        load_pair(name, weights=weights)
    assert_three_parts(caught.value, name, *map(repr, weights))


def test_a_published_pair_has_no_seeds() -> None:
    with pytest.raises(InputError) as caught:
        load_pair("dream-7b", 1)
    assert_three_parts(caught.value, "dream-7b has no seeds")
