"""Real pairs in miniature: text that a model writes, what is filled in, and members trained after a recipe."""

from __future__ import annotations

import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_close, assert_three_parts

from mdmcourse.errors import CheckpointError, InputError, UnknownNameError
from mdmcourse.models import ARM, MDM, ToyConfig, load_pair, toy_arm
from mdmcourse.models.dtype import faster_dtype
from mdmcourse.models.lowrank import Adapter, is_attached
from mdmcourse.paths import data_dir
from mdmcourse.sequences import Sequences
from mdmcourse.study import text as text_module
from mdmcourse.study.evaluate import wilson
from mdmcourse.study.infilling import infilling, windows
from mdmcourse.study.posttrain import Recipe, posttrain, recipe_path
from mdmcourse.study.text import FORMS, TOPICS, draw_text, read_text, sample_text
from mdmcourse.tasks import TASKS
from mdmcourse.tasks.ioi import NAMES

posttrain_module = importlib.import_module("mdmcourse.study.posttrain")
SMALL = ToyConfig(num_hidden_layers=2, hidden_size=32, intermediate_size=64)
MASK = 2


def small(tokenizer: Any, seed: int = 0) -> ARM:
    return toy_arm(tokenizer, SMALL, seed=seed)


# --- text -----------------------------------------------------------------------------------------------


@pytest.fixture
def few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "FORMS", FORMS[:2])
    monkeypatch.setattr(text_module, "TOPICS", TOPICS[:3])


def interrupted(arm: ARM, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw text, and stop at the second batch."""
    calls = []

    def killed(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw_text(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(text_module, "draw_text", killed)
        with pytest.raises(KeyboardInterrupt):
            sample_text(arm, out, each=2, new_tokens=5, batch_size=3)


def test_text_is_the_same_whether_or_not_it_was_interrupted(
    tmp_path: Path, tokenizer: Any, few_requests: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = small(tokenizer)
    sample_text(arm, tmp_path / "whole.jsonl.gz", each=2, new_tokens=5, batch_size=3)
    interrupted(arm, tmp_path / "killed.jsonl.gz", monkeypatch)
    sample_text(arm, tmp_path / "killed.jsonl.gz", each=2, new_tokens=5, batch_size=3)
    assert (tmp_path / "killed.jsonl.gz").read_bytes() == (tmp_path / "whole.jsonl.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.jsonl.gz", "whole.jsonl.gz"]
    rows = [json.loads(line) for line in gzip.decompress((tmp_path / "whole.jsonl.gz").read_bytes()).splitlines()]
    assert 6 < len(rows) <= 12  # two of each of six requests; some may be empty
    assert all(row.keys() == {"request", "text"} for row in rows)


def test_text_that_was_interrupted_is_not_mixed_with_text_of_other_settings(
    tmp_path: Path, tokenizer: Any, few_requests: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = small(tokenizer)
    interrupted(arm, tmp_path / "text.jsonl.gz", monkeypatch)
    for name in ("text", "alone"):
        sample_text(arm, tmp_path / f"{name}.jsonl.gz", each=1, new_tokens=7, batch_size=2)
    assert (tmp_path / "text.jsonl.gz").read_bytes() == (tmp_path / "alone.jsonl.gz").read_bytes()


def test_drawn_tokens_are_among_the_most_probable(tokenizer: Any) -> None:
    arm = small(tokenizer)
    prompt = torch.randint(5, 100, (2, 4), generator=torch.Generator().manual_seed(0))
    written = draw_text(arm, prompt, 6, torch.Generator().manual_seed(1), top_k=3)
    whole = torch.cat([prompt, written], dim=1)
    best = arm.logits(whole)[:, 4:].topk(3, dim=-1).indices
    assert (best == whole[:, 4:, None]).any(dim=-1).all()
    greedy = draw_text(arm, prompt, 6, torch.Generator(), top_k=1)
    assert torch.equal(greedy[:, 0], arm.next_token_logits(prompt)[0].argmax(dim=-1))


def test_no_request_is_a_prompt_of_a_task() -> None:
    """None holds a name that a task asks for, or its words."""
    requests = [form.format(topic) for form in FORMS for topic in TOPICS]
    assert len(set(requests)) == len(FORMS) * len(TOPICS) == 512
    for request in requests:
        assert not set(request.replace(",", " ").replace(".", " ").split()) & set(NAMES)
        assert not {"gave", "lasted"} & set(request.split())


def test_no_document_is_in_both_splits() -> None:
    file = data_dir() / "text" / "smollm2-135m-answers.jsonl.gz"
    train, test = read_text("train", file), read_text("test", file)
    assert len(train) > 5 * len(test) > 1000
    assert not set(train) & set(test)


@pytest.mark.parametrize("damage", ["cut short", "missing", "not text"])
def test_damaged_text_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl.gz"
    whole = gzip.compress(b'{"request": "a", "text": "b"}\n')
    if damage != "missing":
        path.write_bytes(whole[:-9] if damage == "cut short" else gzip.compress(b"[1]"))
    with pytest.raises(CheckpointError) as caught:
        read_text("train", path)
    assert_three_parts(caught.value, "text.jsonl.gz")
    with pytest.raises(InputError):
        read_text("all", path)


# --- infilling ------------------------------------------------------------------------------------------


def texts(n: int = 7, length: int = 12) -> Sequences:
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(5, 100, (length - i % 3,), generator=generator).tolist() for i in range(n)]
    return Sequences.from_lists(rows, [(0, len(row)) for row in rows], 0)


@pytest.mark.parametrize("kind", ["ARM", "MDM"])
def test_infilling_against_one_token_at_a_time(kind: str, tokenizer: Any) -> None:
    arm = small(tokenizer)
    model = arm if kind == "ARM" else MDM.from_arm(arm, weights="share", mask_id=MASK)
    sequences = texts()
    right, origin = infilling(model, sequences, mask_id=MASK, seed=5, batch_size=4)
    generator = torch.Generator().manual_seed(5)
    expected, rows = [], []
    for start in (0, 4):
        part = sequences.select(torch.arange(start, min(start + 4, 7)))
        drawn = torch.rand(part.tokens.shape, generator=generator) < 0.3
        for row in range(len(part)):
            length = int(part.attention_mask[row].sum())
            tokens = part.tokens[row, :length]
            where = [i for i in range(1, length) if drawn[row, i]]
            seen = tokens.clone()
            seen[where] = MASK
            for i in where:
                # an ARM is shown nothing but what stands before
                logits = model.logits(tokens[None, : i + 1]) if kind == "ARM" else model.logits(seen[None])
                expected.append(bool(logits[0, i].argmax() == tokens[i]))
                rows.append(start + row)
    assert right.tolist() == expected
    assert origin.tolist() == rows


def test_windows_hold_the_text_and_nothing_short(tokenizer: Any) -> None:
    text = " ".join(["Mary", "gave", "John", "a", "book"] * 9)
    found = windows([text, "Mary"], tokenizer, length=20, shortest=5)
    assert found.attention_mask.sum(dim=1).tolist() == [20, 20, 6]  # 46 with <bos>
    joined = torch.cat([row[real] for row, real in zip(found.tokens, found.attention_mask, strict=True)])
    assert joined.tolist() == tokenizer(text).input_ids


def test_windows_of_varied_lengths_hold_all_of_the_text(tokenizer: Any) -> None:
    texts = [" ".join(["Mary", "gave", "John", "a", "book"] * 40)] * 20

    def lengths(seed: int) -> list[int]:
        found = windows(texts, tokenizer, 20, 5, vary=torch.Generator().manual_seed(seed))
        return found.attention_mask.sum(dim=1).tolist()

    assert lengths(0) == lengths(0) != lengths(1)
    assert set(lengths(0)) == set(range(5, 21))
    assert 20 * 201 - 20 * 5 < sum(lengths(0)) <= 20 * 201
    share = lengths(0).count(20) / len(lengths(0))
    assert 0.4 < share < 0.65  # a half, and one of sixteen of the other half


def test_intervals_of_shares() -> None:
    """Against the definition: the shares p that are z standard errors, of p, from what was seen."""
    for right, n in ((0, 10), (3, 10), (50, 100), (499, 500), (500, 500)):
        low, high = wilson(right, n)
        assert 0 <= low <= right / n <= high + 1e-9 <= 1 + 1e-9
        for end in (low, high):
            assert abs(right / n - end) == pytest.approx(1.96 * (end * (1 - end) / n) ** 0.5, abs=1e-6)


# --- recipes --------------------------------------------------------------------------------------------

RECIPE = {
    "base": "tiny", "mask_id": MASK, "dtype": "float32", "implementation": "eager",
    "lowrank": {"rank": 2, "alpha": 4.0},
    "train": {"steps": 4, "batch_size": 8, "log_every": 2, "save_every": 2, "warmup": 1},
    "masked": {"t_min": 0.05},
    "task": "ioi", "examples": 60,
    "members": {
        "arm": {"kind": "ARM", "from": "base", "seed": 0},
        "mdm": {"kind": "MDM", "from": "arm", "seed": 0},
    },
}  # fmt: skip


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> ARM:
    """A tiny ARM in the place of every real one."""
    monkeypatch.setattr(posttrain_module, "load", lambda *_, **__: small(tokenizer))
    monkeypatch.setattr("mdmcourse.models.pairs.load", lambda *_, **__: small(tokenizer))
    return small(tokenizer)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(torch.tensor([[1, 20, 30, MASK, 40]]))[:, 1:]


def test_members_are_trained_and_loaded(base: ARM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "checkpoints" / "mine"
    posttrain(Recipe(**RECIPE), out, runs=tmp_path / "runs", progress=False)
    assert not list((tmp_path / "runs").iterdir())
    about = Adapter.load(out / "mdm.safetensors").about
    assert (about["kind"], about["from"], about["base"]) == ("MDM", "arm", "tiny")
    assert [row["step"] for row in about["log"]] == [2, 4]
    assert all("whole_answer" in row for row in about["log"])
    entry = {"base": "tiny", "directory": "checkpoints/mine", "members": ["arm", "mdm"], "tasks": ["ioi"]}
    monkeypatch.setattr("mdmcourse.models.pairs.entry", lambda kind, name: entry)
    monkeypatch.setattr("mdmcourse.models.pairs.data_dir", lambda: tmp_path)
    pair = load_pair("mine")
    assert list(pair.members) == ["arm", "mdm", "attention-switched"]
    by_hand = small(base.tokenizer)
    Adapter.load(out / "arm.safetensors").merge(by_hand)
    assert torch.equal(logits(pair.arm), logits(by_hand))
    assert not torch.equal(logits(pair.arm), logits(base))
    of_mdm = MDM.from_arm(by_hand, weights="copy", mask_id=MASK)
    Adapter.load(out / "mdm.safetensors").merge(of_mdm)
    assert torch.equal(logits(pair.mdm), logits(of_mdm))
    assert not any(is_attached(model.decoder) for model in pair.members.values())
    with pytest.raises(InputError) as caught:
        load_pair("mine", 1)
    assert_three_parts(caught.value, "no seeds")


def test_a_training_that_was_killed_goes_on(base: ARM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(**RECIPE)
    posttrain(recipe, tmp_path / "whole", runs=tmp_path / "runs", members=["arm"], progress=False)

    def killed(self: Any, model: Any) -> dict[str, float]:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True
        return probe(self, model)

    probe = posttrain_module._Probe.__call__
    with monkeypatch.context() as patch:
        patch.setattr(posttrain_module._Probe, "seen", False, raising=False)
        patch.setattr(posttrain_module._Probe, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            posttrain(recipe, tmp_path / "killed", runs=tmp_path / "runs", members=["arm"], progress=False)
    assert list((tmp_path / "runs").iterdir())
    posttrain(recipe, tmp_path / "killed", runs=tmp_path / "runs", members=["arm"], progress=False)
    one, two = (Adapter.load(tmp_path / name / "arm.safetensors").tensors for name in ("whole", "killed"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_there_is_kept_and_unknown_members_are_refused(base: ARM, tmp_path: Path) -> None:
    (tmp_path / "arm.safetensors").write_bytes(b"mine")
    posttrain(Recipe(**RECIPE), tmp_path, runs=tmp_path / "runs", members=["arm"], progress=False)
    assert (tmp_path / "arm.safetensors").read_bytes() == b"mine"
    with pytest.raises(UnknownNameError):
        posttrain(Recipe(**RECIPE), tmp_path, runs=tmp_path / "runs", members=["amr"], progress=False)


@pytest.mark.parametrize("name", ["smollm2-135m", "smollm2-135m-countdown"])
def test_committed_recipes(name: str) -> None:
    recipe = Recipe.read(recipe_path(name))
    assert recipe.members["mdm"]["kind"] == "MDM"
    assert recipe.task is None or recipe.task in TASKS
    with pytest.raises(UnknownNameError):
        recipe_path(name + "x")


@pytest.mark.parametrize("broken", ["", "base = 1", "nonsense", 'text = "a"\ntask = "b"'])
def test_a_recipe_that_is_none_is_refused(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(broken)
    with pytest.raises(InputError) as caught:
        Recipe.read(path)
    assert_three_parts(caught.value, "mine.toml")
    with pytest.raises(InputError):
        Recipe.read(tmp_path / "absent.toml")


def test_the_faster_type_is_one_of_two() -> None:
    assert faster_dtype(64) in ("float32", "bfloat16")


def test_rows_of_one_window_stay_together(tokenizer: Any) -> None:
    right, origin = infilling(small(tokenizer), texts(), share=1.0, mask_id=MASK)
    assert_close(torch.bincount(origin).float(), texts().attention_mask.sum(dim=1).float() - 1)
    assert len(right) == len(origin)
