"""The registry is complete and consistent; cards say what it knows, and nothing in them runs in a page."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from mdmcourse import describe, load_pair
from mdmcourse.cli import main
from mdmcourse.errors import UnknownNameError
from mdmcourse.models import registry
from mdmcourse.models.attention import block_length
from mdmcourse.models.cards import Card, amount
from mdmcourse.models.listing import fits
from mdmcourse.tasks import TASKS

MODELS, PAIRS = registry()["models"], registry()["pairs"]
PUBLISHED = {name: about for name, about in PAIRS.items() if "mdm" in about}
TEXTS = ("title", "licence", "verified", "unverified")


# --- the registry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_model_states_all_that_loading_it_needs(name: str) -> None:
    about = MODELS[name]
    assert all(about[field].strip() for field in (*TEXTS, "hub", "family", "shape"))
    assert about["hub"].count("/") == 1
    assert isinstance(about["revision"], str)
    assert about["kind"] in ("ARM", "MDM")
    assert about.keys() >= {"layers", "heads", "kv_heads", "d_model", "d_mlp", "vocabulary", "tied", "parameters"}
    assert set(about.get("open", [])) <= about.keys()
    if about["kind"] == "MDM":
        assert isinstance(about["shift"], bool)
        assert about["attention"] == "full" or block_length(about["attention"])
        assert 0 <= about["mask_id"] < about["vocabulary"]
        assert name in {pair["mdm"] for pair in PUBLISHED.values()}
    else:
        assert not about.keys() & {"mask_id", "mask_token", "shift", "attention"}


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_parameters_is_that_of_the_sizes(name: str) -> None:
    """Counted on a decoder of these sizes that has no memory."""
    import transformers

    about = MODELS[name]
    if about["family"] == "gpt2":
        config: Any = transformers.GPT2Config(
            vocab_size=about["vocabulary"], n_layer=about["layers"], n_head=about["heads"], n_embd=about["d_model"],
            n_inner=about["d_mlp"], n_positions=about["positions"],
        )  # fmt: skip
        decoder_class: Any = transformers.GPT2LMHeadModel
    else:
        label = about["family"].capitalize()
        decoder_class = getattr(transformers, f"{label}ForCausalLM")
        config = getattr(transformers, f"{label}Config")(
            vocab_size=about["vocabulary"], num_hidden_layers=about["layers"], num_attention_heads=about["heads"],
            num_key_value_heads=about["kv_heads"], hidden_size=about["d_model"], intermediate_size=about["d_mlp"],
            head_dim=about.get("head_dim", about["d_model"] // about["heads"]), tie_word_embeddings=about["tied"],
        )  # fmt: skip
    with torch.device("meta"):
        decoder = decoder_class(config)
    decoder.tie_weights()
    assert sum(parameter.numel() for parameter in decoder.parameters()) == about["parameters"]


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_states_what_its_card_needs(name: str) -> None:
    about = PAIRS[name]
    assert all(about[field].strip() for field in ("title", "trained_on", "objective"))
    assert about["differences"]
    assert set(about["tasks"]) <= TASKS.keys()
    assert sum(kind in about for kind in ("seeds", "base", "mdm")) == 1
    assert all(link.startswith("https://") for link in about.get("links", []))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_two_of_a_published_pair_belong_together(name: str) -> None:
    arm, mdm = MODELS[PUBLISHED[name]["arm"]], MODELS[PUBLISHED[name]["mdm"]]
    assert (arm["kind"], mdm["kind"]) == ("ARM", "MDM")
    for size in ("family", "layers", "heads", "kv_heads", "d_model", "d_mlp"):
        assert arm[size] == mdm[size]


def test_all_checkpoints_that_the_course_knows_are_there() -> None:
    """The MDMs by repository, each with its ARM's, mask, shift and attention, typed once more."""
    found = {
        (MODELS[pair["arm"]]["hub"], mdm["hub"], mdm["mask_id"], mdm["shift"], mdm["attention"])
        for pair in PUBLISHED.values()
        if (mdm := MODELS[pair["mdm"]])
    }
    coder = "Qwen/Qwen2.5-Coder"
    assert found == {
        ("openai-community/gpt2", "diffusionfamily/diffugpt-s", 10541, True, "full"),
        ("openai-community/gpt2-medium", "diffusionfamily/diffugpt-m", 50257, True, "full"),
        ("meta-llama/Llama-2-7b-hf", "diffusionfamily/diffullama", 811, True, "full"),
        ("Qwen/Qwen2.5-7B", "Dream-org/Dream-v0-Base-7B", 151666, True, "full"),
        ("Qwen/Qwen2.5-7B", "Dream-org/Dream-v0-Instruct-7B", 151666, True, "full"),
        (f"{coder}-7B", "Dream-org/Dream-Coder-v0-Instruct-7B", 151666, True, "full"),
        (f"{coder}-7B", "apple/DiffuCoder-7B-Base", 151666, True, "full"),
        ("Qwen/Qwen3-0.6B", "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1", 151669, False, "full"),
        ("Qwen/Qwen3-0.6B", "dllm-hub/Qwen3-0.6B-diffusion-bd3lm-v0.1", 151669, False, "block:32"),
        (f"{coder}-0.5B-Instruct", "dllm-hub/Qwen2.5-Coder-0.5B-Instruct-diffusion-mdlm-v0.1", 151665, False, "full"),
        (f"{coder}-0.5B", "fredzzp/open-dcoder-0.5B", 151665, True, "full"),
        ("Qwen/Qwen3-4B", "divelab/Qwen3-4B-a2d-init", 151669, False, "full"),
    }


# --- cards ----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", sorted(PAIRS.keys() | MODELS.keys()))
def test_everything_has_a_card(name: str) -> None:
    card = describe(name)
    assert card.name in repr(card)
    assert max(map(len, repr(card).splitlines())) <= 130
    page = Page(card._repr_html_())
    for _, said in card.rows():
        assert all(line in page.text for line in said)
    assert card.memory(4) == 2 * card.memory(2) == 4 * sum(card.parameters) > 0
    assert {tag for tag, _ in page.tags} <= {"table", "caption", "b", "code", "tr", "th", "td", "br", "a"}


def test_the_card_of_a_published_pair() -> None:
    card = describe("diffullama-7b")
    text = repr(card)
    for piece in (
        "ARM: Llama 2 7B. MDM, made from it: DiffuLLaMA; full attention, shift, mask 811 (ти).",
        "65 billion tokens", "1/t-weighted", "Llama 2 community", "53.9 GB in float32, 27 GB in bfloat16",
        "Not verified:", "not at hand", "https://huggingface.co/diffusionfamily/diffullama",
    ):  # fmt: skip
        assert piece in text
    assert card.models == ("llama-2-7b", "diffullama")


def test_a_pair_itself_has_a_card_and_an_unknown_name_has_none() -> None:
    assert describe(load_pair("toy-chain")).state == "shipped"
    with pytest.raises(UnknownNameError, match="dream-7b"):
        describe("dream7b")


HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def test_nothing_in_a_card_runs_in_a_page() -> None:
    """Not its texts, and not an address that is a program."""
    card = describe("toy-chain")
    links = ("javascript:alert(1)", 'https://a" onclick="alert(1)', "https://x/<b>", "https://fine.example/page")
    changes: dict[str, Any] = {
        field.name: (HOSTILE,) if field.type == "tuple[str, ...]" else HOSTILE
        for field in dataclasses.fields(Card)
        if field.type in ("str", "tuple[str, ...]")
    }
    page = Page(dataclasses.replace(card, **changes | {"links": links})._repr_html_())
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert HOSTILE in page.text
    followed = [attributes for tag, attributes in page.tags if tag == "a"]
    assert all(set(attributes) == {"href"} for attributes in followed)
    assert [attributes["href"] for attributes in followed] == ["https://x/<b>", "https://fine.example/page"]


# --- the command ----------------------------------------------------------------------------------------


def test_all_pairs_are_listed(capsys: Any) -> None:
    assert main(["pairs"]) == 0
    listed = capsys.readouterr().out
    for name in PAIRS:
        card = describe(name)
        (line,) = [line for line in listed.splitlines() if line.startswith(f"{name} ")]
        for piece in (card.state, amount(card.memory(4)), amount(card.memory(2))):
            assert piece in line
        assert card.title in listed
        assert all(licence in listed for licence in card.licences)
    assert "free on cpu" in listed


def test_one_pair_is_described(capsys: Any) -> None:
    assert main(["pairs", "dream-7b"]) == 0
    assert capsys.readouterr().out.strip() == repr(describe("dream-7b"))
    assert main(["pairs", "dream7b"]) == 1
    assert "dream-7b" in capsys.readouterr().err


def test_what_fits_is_what_there_is_room_for() -> None:
    card = describe("dream-7b")  # 30.5 GB in bfloat16, 60.9 in float32
    assert fits(card, {"cpu": 16 * 10**9}) == "no"
    assert fits(card, {"cpu": 32 * 10**9}) == "bfloat16"
    assert fits(card, {"cpu": 16 * 10**9, "cuda": 80 * 10**9}) == "float32 (cuda)"


@pytest.mark.parametrize(
    ("count", "shown"), [(15_231_000_000, "15.2 GB"), (538_123_456, "538 MB"), (925_000, "925 kB"), (12, "12 B")]
)
def test_amounts_are_short(count: int, shown: str) -> None:
    assert amount(count) == shown
