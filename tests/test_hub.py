"""Fetching published checkpoints: sizes first, then the download, then a look at what came. The hub is a stand-in."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import VOCABULARY, assert_close, assert_three_parts, random_tokens, tiny_decoder
from layouts import dream, plain, read_as

from mdmcourse.cli import main
from mdmcourse.errors import CheckpointError, FetchError
from mdmcourse.models import MDM, fetch, is_fetched, load, load_pair, registry
from mdmcourse.study.evaluate import evaluate_pair

pytestmark = pytest.mark.filterwarnings("ignore:.*holds no tokenizer")
SIZES = {"layers": 2, "heads": 4, "kv_heads": 2, "d_model": 32, "d_mlp": 64, "vocabulary": VOCABULARY}
COMMON = {
    "family": "qwen2",
    "revision": "",
    "licence": "MIT",
    "parameters": 10**9,
    "verified": "",
    "unverified": "",
    **SIZES,
}
ENTRIES: dict[str, dict[str, Any]] = {
    "tiny-arm": {"kind": "ARM", "title": "Tiny", "hub": "nobody/arm", **COMMON},
    "tiny-mdm": {
        "kind": "MDM", "title": "Tiny MDM", "hub": "nobody/mdm", "mask_id": VOCABULARY - 1, "shift": True,
        "attention": "full", **COMMON,
    },
}  # fmt: skip
PAIR = {
    "title": "Tiny and its MDM", "arm": "tiny-arm", "mdm": "tiny-mdm", "tasks": ["ioi"], "trained_on": "",
    "objective": "", "differences": [],
}  # fmt: skip


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: Any) -> SimpleNamespace:
    """A hub with two repositories, and the cache that it fills.

    `asked`: what was downloaded; `error`: raised by whatever asks it over the network; `files`: names and sizes.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    for name, about in ENTRIES.items():
        monkeypatch.setitem(registry()["models"], name, dict(about))
    monkeypatch.setitem(registry()["pairs"], "tiny", PAIR)
    there, cache = tmp_path / "hub", tmp_path / "cache"
    plain(tiny_decoder("qwen2", True), there / "nobody" / "arm")
    dream(tiny_decoder("qwen2", True, seed=1), there / "nobody" / "mdm")
    files = {
        "model.safetensors": 10**9,
        "config.json": 1000,
        "pytorch_model.bin": 10**9,
        "onnx/model.safetensors": 10**9,
    }
    found = SimpleNamespace(asked=[], error=None, files=files, there=there, cache=cache)

    def snapshot_download(repository: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            if not (cache / repository).is_dir():
                raise LocalEntryNotFoundError("nothing in the cache")
        elif found.error is not None:
            raise found.error
        else:
            found.asked.append((repository, options))
            shutil.copytree(there / repository, cache / repository, dirs_exist_ok=True)
        return str(cache / repository)

    class HfApi:
        def model_info(self, repository: str, **_: Any) -> SimpleNamespace:
            if found.error is not None:
                raise found.error
            return SimpleNamespace(
                siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in found.files.items()]
            )

    def try_to_load_from_cache(repository: str, name: str, **_: Any) -> str | None:
        path = cache / repository / name
        return str(path) if path.is_file() else None

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", HfApi)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", try_to_load_from_cache)
    return found


def full_disk(monkeypatch: Any, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_a_model_is_fetched_once_and_loaded_from_the_hubs_own_cache(hub: SimpleNamespace, capfd: Any) -> None:
    assert not is_fetched("tiny-mdm")
    loaded = load("tiny-mdm")
    assert "Tiny MDM from the hub, 1.00 GB" in capfd.readouterr().err
    assert is_fetched("tiny-mdm")
    assert isinstance(loaded, MDM)
    expected = read_as(ENTRIES["tiny-mdm"], tiny_decoder("qwen2", True, seed=1))
    assert_close(loaded.logits(random_tokens()), expected.logits(random_tokens()), atol=0)
    hub.error = OSError(101, "Network is unreachable")
    assert isinstance(load("tiny-mdm", progress=False), MDM)
    assert fetch("tiny-mdm") == hub.cache / "nobody" / "mdm"
    assert len(hub.asked) == 1


def test_only_harmless_files_from_the_top_are_asked_for(hub: SimpleNamespace) -> None:
    fetch("tiny-arm", progress=False)
    ((repository, options),) = hub.asked
    assert repository == "nobody/arm"
    assert options["allow_patterns"] == ["*.safetensors", "*.json", "merges.txt"]
    assert options["ignore_patterns"] == ["*/*"]
    assert options["revision"] is None


def test_offline_it_is_said_what_to_do(hub: SimpleNamespace) -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    hub.error = OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    with pytest.raises(FetchError) as caught:
        load("tiny-arm", progress=False)
    assert_three_parts(caught.value, "Tiny could not be fetched", "OfflineModeIsEnabled")
    assert "mdmcourse fetch tiny-arm" in caught.value.do
    assert 'load("tiny-arm", weights=FOLDER)' in caught.value.do
    assert not is_fetched("tiny-arm")


def test_a_licence_that_was_not_accepted_is_named(hub: SimpleNamespace) -> None:
    import httpx
    from huggingface_hub.errors import GatedRepoError

    hub.error = GatedRepoError("403: ask for access", response=httpx.Response(403, request=httpx.Request("GET", "x:")))
    with pytest.raises(FetchError) as caught:
        fetch("tiny-arm", progress=False)
    assert_three_parts(caught.value, "nobody/arm", "accepted its licence")
    assert "https://huggingface.co/nobody/arm" in caught.value.do
    assert "hf auth login" in caught.value.do


@pytest.mark.parametrize("reachable", [True, False])
def test_a_full_disk_is_named_before_anything_is_fetched(
    reachable: bool, hub: SimpleNamespace, monkeypatch: Any
) -> None:
    """By the sizes that the hub states (of what is wanted), else by two bytes a parameter."""
    hub.error = None if reachable else OSError(101, "Network is unreachable")
    full_disk(monkeypatch, 900_000_000)
    with pytest.raises(FetchError) as caught:
        fetch("tiny-arm", progress=False)
    assert_three_parts(caught.value, "0.9 GB free", "1.0 GB" if reachable else "2.0 GB")
    assert "HF_HOME" in caught.value.do
    assert hub.asked == []


def test_what_has_arrived_already_needs_no_room(hub: SimpleNamespace, monkeypatch: Any) -> None:
    """An interrupted download goes on."""
    fetch("tiny-arm", progress=False)
    (hub.cache / "nobody" / "arm" / "config.json").unlink()
    assert not is_fetched("tiny-arm")
    full_disk(monkeypatch, 2000)
    fetch("tiny-arm", progress=False)
    assert is_fetched("tiny-arm")
    assert len(hub.asked) == 2


def test_a_repository_of_pickles_is_refused_before_anything_is_fetched(hub: SimpleNamespace) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(FetchError) as caught:
        fetch("tiny-arm", progress=False)
    assert_three_parts(caught.value, "nobody/arm", "pickles and no safetensors")
    assert "weights=" in caught.value.do
    assert hub.asked == []


def test_what_came_is_looked_at(hub: SimpleNamespace) -> None:
    shard = hub.there / "nobody" / "mdm" / "model-00003-of-00003.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-50])
    with pytest.raises(CheckpointError) as caught:
        fetch("tiny-mdm", progress=False)
    assert_three_parts(caught.value, shard.name, "cut short")
    assert str(hub.cache / "nobody" / "mdm" / shard.name) in caught.value.do
    # A damaged file is told of as such also when there is no network any more.
    hub.error = OSError(101, "Network is unreachable")
    with pytest.raises(CheckpointError, match="cut short"):
        load("tiny-mdm", progress=False)
    # The way out works: without that file the model is not whole, and fetching goes on.
    (hub.cache / "nobody" / "mdm" / shard.name).unlink()
    hub.error = None
    shard.write_bytes(whole)
    assert not is_fetched("tiny-mdm")
    assert isinstance(load("tiny-mdm", progress=False), MDM)


def test_another_model_than_the_registry_means_is_refused(hub: SimpleNamespace) -> None:
    registry()["models"]["tiny-arm"]["heads"] = 8
    with pytest.raises(CheckpointError) as caught:
        load("tiny-arm", progress=False)
    assert_three_parts(caught.value, "num_attention_heads 4", "Tiny has 8")


def test_a_pair_is_fetched_and_loaded(hub: SimpleNamespace, capsys: Any) -> None:
    assert main(["fetch", "tiny"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(hub.cache / "nobody" / name) for name in ("arm", "mdm")]
    pair = load_pair("tiny", dtype=torch.bfloat16)
    assert pair.arm.decoder.dtype == torch.bfloat16
    assert list(pair.members) == ["arm", "mdm", "attention-switched"]
    assert len(hub.asked) == 2


def test_there_has_to_be_room_for_a_whole_pair(hub: SimpleNamespace, monkeypatch: Any, capsys: Any) -> None:
    full_disk(monkeypatch, 1_500_000_000)
    assert main(["fetch", "tiny"]) == 1
    assert "2.0 GB are to be downloaded" in capsys.readouterr().err
    assert hub.asked == []


def test_half_a_pair_may_come_from_a_folder(hub: SimpleNamespace) -> None:
    pair = load_pair("tiny", weights={"mdm": hub.there / "nobody" / "mdm"})
    assert [repository for repository, _ in hub.asked] == ["nobody/arm"]
    assert isinstance(pair.mdm, MDM)


def test_an_mdm_without_a_tokenizer_has_that_of_its_arm_if_that_is_here(hub: SimpleNamespace, tokenizer: Any) -> None:
    words = len(tokenizer)
    for name in ("arm", "mdm"):
        registry()["models"][f"tiny-{name}"] |= {"vocabulary": words, "mask_id" if name == "mdm" else "any": 2}
        (plain if name == "arm" else dream)(tiny_decoder("qwen2", True, vocabulary=words), hub.there / "nobody" / name)
    tokenizer.save_pretrained(hub.there / "nobody" / "arm")
    assert load("tiny-mdm", progress=False).tokenizer is None
    fetch("tiny-arm", progress=False)
    assert load("tiny-mdm", progress=False).tokenizer.get_vocab() == tokenizer.get_vocab()


def test_a_pair_whose_arm_lacks_the_mask_is_measured_too(hub: SimpleNamespace, tokenizer: Any) -> None:
    """As GPT-2 medium does: an ARM does not see what stands at the answer, and gets something else there."""
    words = len(tokenizer)
    registry()["models"]["tiny-arm"] |= {"vocabulary": words}
    registry()["models"]["tiny-mdm"] |= {"vocabulary": words + 1, "mask_id": words}
    plain(tiny_decoder("qwen2", True, vocabulary=words), hub.there / "nobody" / "arm")
    dream(tiny_decoder("qwen2", True, vocabulary=words + 1), hub.there / "nobody" / "mdm")
    without_mask = copy.deepcopy(tokenizer)
    without_mask.mask_token = None
    without_mask.save_pretrained(hub.there / "nobody" / "arm")
    members = evaluate_pair("tiny", n=10)["members"]
    assert {member: set(tasks) for member, tasks in members.items()} == {"arm": {"ioi"}, "mdm": {"ioi"}}


def test_what_comes_with_the_course_is_not_fetched(capsys: Any) -> None:
    assert main(["fetch", "toy-chain"]) == 0
    assert "nothing to fetch" in capsys.readouterr().out


def test_with_no_network_at_all_nothing_but_what_to_do_is_printed(tmp_path: Path) -> None:
    """Nobody listens there: not a stand-in for an error, but the error itself."""
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path)}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "mdmcourse.cli", "fetch", "gpt2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "What to do" in done.stderr
