"""One decoder, two readings: `ARM` and `MDM` against references that share no code with them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from helpers import (
    DECODER_NAMES,
    DECODERS,
    POSITIONS,
    VOCABULARY,
    assert_close,
    assert_three_parts,
    random_tokens,
    tiny_decoder,
    without_shape_checks,
)
from torch import Tensor

from mdmcourse.errors import InputError
from mdmcourse.models import ARM, MDM, ToyConfig, toy_arm

MASK = 2
LENGTH = 9
SMALL = ToyConfig(num_hidden_layers=1, hidden_size=16, intermediate_size=32)
# Every way of reading: all kinds of attention, with and without shift.
READINGS: dict[str, Callable[[Any], ARM | MDM]] = {
    "arm": ARM,
    "full": lambda decoder: MDM(decoder, mask_id=MASK),
    "full-unshifted": lambda decoder: MDM(decoder, mask_id=MASK, shift=False),
    "block": lambda decoder: MDM(decoder, mask_id=MASK, attention="block:3"),
    "block-unshifted": lambda decoder: MDM(decoder, mask_id=MASK, attention="block:3", shift=False),
    "causal-mdm": lambda decoder: MDM(decoder, mask_id=MASK, attention="causal"),
}


@pytest.fixture(params=DECODERS, ids=DECODER_NAMES)
def decoder(request: pytest.FixtureRequest) -> Any:
    return tiny_decoder(*request.param)


@pytest.fixture(params=READINGS)
def read(request: pytest.FixtureRequest) -> Callable[[Any], ARM | MDM]:
    return READINGS[request.param]


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest) -> Any:
    with torch.set_grad_enabled("gradients" in request.node.name):
        yield


def who_sees_whom(attention: str, length: int = LENGTH) -> Tensor:
    """may[i, j]: may position i see position j."""
    i, j = torch.arange(length)[:, None], torch.arange(length)[None]
    if attention == "causal":
        return j <= i
    if attention == "full":
        return torch.ones(length, length, dtype=torch.bool)
    block = int(attention.removeprefix("block:"))
    return j // block <= i // block


def llama_by_hand(decoder: Any, tokens: Tensor, may: Tensor) -> Tensor:
    """Raw logits of a Llama from its weights alone, by the formulas: nothing of transformers runs."""
    weights, config = decoder.state_dict(), decoder.config
    heads, key_heads, size = config.num_attention_heads, config.num_key_value_heads, 8
    angle = torch.arange(tokens.shape[1])[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)

    def norm(x: Tensor, name: str) -> Tensor:
        return weights[name] * x / (x.square().mean(dim=-1, keepdim=True) + config.rms_norm_eps).sqrt()

    def rotate(x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=-1)
        turned = [left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()]
        return torch.cat(turned, dim=-1)

    def project(x: Tensor, name: str, count: int) -> Tensor:
        return (x @ weights[name].T).unflatten(-1, (count, size)).transpose(1, 2)

    stream = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config.num_hidden_layers):
        of = f"model.layers.{layer}."
        x = norm(stream, of + "input_layernorm.weight")
        query = rotate(project(x, of + "self_attn.q_proj.weight", heads))
        key = rotate(project(x, of + "self_attn.k_proj.weight", key_heads))
        value = project(x, of + "self_attn.v_proj.weight", key_heads)
        key, value = (y.repeat_interleave(heads // key_heads, dim=1) for y in (key, value))
        pattern = (query @ key.mT / size**0.5).masked_fill(~may, -torch.inf).softmax(dim=-1)
        mixed = (pattern @ value).transpose(1, 2).flatten(2)
        stream = stream + mixed @ weights[of + "self_attn.o_proj.weight"].T
        x = norm(stream, of + "post_attention_layernorm.weight")
        gate, up = (x @ weights[f"{of}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        stream = stream + (torch.nn.functional.silu(gate) * up) @ weights[of + "mlp.down_proj.weight"].T
    return norm(stream, "model.norm.weight") @ weights["lm_head.weight"].T


def words_of(logits: Tensor) -> Tensor:
    """Logits without the mask token's."""
    return torch.cat([logits[..., :MASK], logits[..., MASK + 1 :]], dim=-1)


def pad(sequences: list[Tensor], side: str, length: int) -> tuple[Tensor, Tensor]:
    """Sequences (vectors) as one padded batch, and where its tokens are real."""
    tokens = torch.zeros(len(sequences), length, dtype=torch.long)
    real = torch.zeros(len(sequences), length, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        where = slice(length - len(sequence), None) if side == "left" else slice(len(sequence))
        tokens[row, where], real[row, where] = sequence, True
    return tokens, real


# --- what is computed ---------------------------------------------------------------------------------------


def test_arm_row_scores_its_own_token(decoder: Any) -> None:
    """Row i is what the decoder says at i-1; row 0 is NaN."""
    tokens = random_tokens()
    aligned = ARM(decoder).logits(tokens)
    assert aligned[:, 0].isnan().all()
    assert_close(aligned[:, 1:], decoder(tokens).logits[:, :-1])


def test_full_attention_is_the_decoder_without_any_mask(decoder: Any) -> None:
    """Under eager attention, an explicit mask of zeros hides nothing from anyone."""
    tokens = random_tokens()
    found = MDM(decoder, mask_id=MASK, shift=False).logits(tokens)
    decoder.set_attn_implementation("eager")
    nothing_hidden = torch.zeros(len(tokens), 1, LENGTH, LENGTH)
    expected = decoder(tokens, attention_mask=nothing_hidden).logits
    assert_close(words_of(found), words_of(expected))


@pytest.mark.parametrize("grouped", [False, True], ids=["plain", "grouped"])
@pytest.mark.parametrize("attention", ["causal", "full", "block:1", "block:3", "block:32"])
def test_a_llama_by_hand_agrees(attention: str, grouped: bool) -> None:
    decoder, tokens = tiny_decoder("llama", grouped), random_tokens()
    expected = llama_by_hand(decoder, tokens, who_sees_whom(attention))
    unshifted = MDM(decoder, mask_id=MASK, shift=False, attention=attention).logits(tokens)
    shifted = MDM(decoder, mask_id=MASK, attention=attention).logits(tokens)
    assert_close(words_of(unshifted), words_of(expected))
    assert_close(words_of(shifted)[:, 1:], words_of(expected)[:, :-1])
    assert words_of(shifted)[:, 0].isnan().all()


@pytest.mark.parametrize("attention", ["causal", "full", "block:1", "block:3", "block:32"])
def test_a_change_reaches_those_who_may_see_it_and_nobody_else(decoder: Any, attention: str) -> None:
    """Change token j: the logits at position i change if, and only if, i may see j."""
    model, tokens = MDM(decoder, mask_id=MASK, shift=False, attention=attention), random_tokens(1)
    changed = tokens.repeat(LENGTH, 1)
    changed.diagonal().copy_(torch.where(tokens[0] == 3, 4, 3))
    difference = (model.logits(changed) - model.logits(tokens)).abs().amax(dim=-1)
    assert torch.equal(difference.T > 1e-5, who_sees_whom(attention))


def test_an_arm_row_depends_on_earlier_tokens_only(decoder: Any) -> None:
    """Row i scores token i: neither token i itself nor a later one may move it; every earlier one does."""
    model, tokens = ARM(decoder), random_tokens(1)
    changed = tokens.repeat(LENGTH, 1)
    changed.diagonal().copy_(torch.where(tokens[0] == 3, 4, 3))
    difference = (model.logits(changed) - model.logits(tokens)).abs().amax(dim=-1)
    assert torch.equal(difference.T > 1e-5, torch.ones(LENGTH, LENGTH).tril(-1).bool())


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(decoder: Any, read: Callable, side: str) -> None:
    """Padded rows equal those of the sequence alone; padding, and the first token if shifted, is NaN."""
    model = read(decoder)
    sequences = [random_tokens(1, length, seed=length)[0] for length in (5, 8, 1)]
    tokens, real = pad(sequences, side, 10)
    padded = model.logits(tokens, real)
    for row, sequence in enumerate(sequences):
        assert_close(padded[row, real[row]], model.logits(sequence[None])[0])
    assert words_of(padded)[~real].isnan().all()
    has_row = model.predicts(tokens, real)
    assert torch.equal(~words_of(padded).isnan().any(dim=-1), has_row)
    assert has_row.sum(dim=1).tolist() == [len(sequence) - model.shift for sequence in sequences]


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_at_are_the_rows_of_logits(decoder: Any, read: Callable, side: str) -> None:
    model = read(decoder)
    tokens, real = pad([random_tokens(1, length, seed=length)[0] for length in (6, 9)], side, 10)
    where = model.predicts(tokens, real) & (torch.arange(10) % 2 == 0)
    assert where.sum() >= 6
    assert_close(model.logits_at(tokens, where, real), model.logits(tokens, real)[where])
    nowhere = torch.zeros_like(where)
    assert model.logits_at(tokens, nowhere, real).shape == (0, VOCABULARY)


def test_the_mask_is_never_an_answer(decoder: Any) -> None:
    """Its logit is the lowest number there is, its probability exactly zero; an ARM knows no such token."""
    tokens = random_tokens()
    model = MDM(decoder, mask_id=MASK)
    at = model.logits_at(tokens, model.predicts(tokens))
    for logits in (model.logits(tokens)[:, 1:], at):
        assert (logits[..., MASK] == torch.finfo(logits.dtype).min).all()
        assert (logits.softmax(dim=-1)[..., MASK] == 0).all()
        assert logits.log_softmax(dim=-1).isfinite().all()
    assert (ARM(decoder).logits(tokens)[:, 1:].softmax(dim=-1)[..., MASK] > 0).all()


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_visible_replaces_the_attention(decoder: Any, read: Callable, padding: str) -> None:
    """All-True is full attention, a lower triangle is causal, whatever the model's own attention is."""
    model = read(decoder)
    tokens, real = random_tokens(), None
    if padding != "none":
        tokens, real = pad([random_tokens(1, length, seed=length)[0] for length in (6, 9)], padding, 10)
    square = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool)
    for visible, attention in ((square, "full"), (square.tril(), "causal")):
        same = MDM(decoder, mask_id=MASK, shift=model.shift, attention=attention).logits(tokens, real)
        found = model.logits(tokens, real, visible)
        assert_close(words_of(found), words_of(same))
        where = model.predicts(tokens, real)
        assert_close(model.logits_at(tokens, where, real, visible), found[where])


@pytest.mark.parametrize("side", ["left", "right"])
def test_sdpa_and_eager_agree(decoder: Any, read: Callable, side: str) -> None:
    tokens, real = pad([random_tokens(1, length, seed=length)[0] for length in (6, 9)], side, 10)
    model, logits = read(decoder), {}
    for implementation in ("sdpa", "eager"):
        decoder.set_attn_implementation(implementation)
        assert decoder.config._attn_implementation == implementation
        logits[implementation] = model.logits(tokens, real)
    assert_close(logits["sdpa"], logits["eager"])


def test_a_cache_changes_nothing(decoder: Any) -> None:
    """Token by token with a cache gives what one pass gives."""
    model, tokens = ARM(decoder), random_tokens()
    raw = decoder(tokens).logits
    found, cache = model.next_token_logits(tokens[:, :4])
    assert_close(found, raw[:, 3])
    for position in range(4, LENGTH):
        found, cache = model.next_token_logits(tokens[:, position : position + 1], cache)
        assert_close(found, raw[:, position])


def test_reading_as_mdm_leaves_no_trace(decoder: Any) -> None:
    """Neither the decoder's settings nor its later causal reading, by us or by transformers, know of it."""
    tokens = random_tokens()
    config = copy.deepcopy(decoder.config.to_dict())
    implementation = decoder.config._attn_implementation
    before, raw = ARM(decoder).logits(tokens), decoder(tokens).logits
    for attention in ("full", "block:3"):
        model = MDM(decoder, mask_id=MASK, attention=attention)
        model.logits(tokens)
        model.logits_at(tokens, model.predicts(tokens))
    assert decoder.config.to_dict() == config
    assert decoder.config._attn_implementation == implementation
    assert torch.equal(decoder(tokens).logits, raw)
    assert_close(ARM(decoder).logits(tokens), before, atol=0)


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_gradients_are_finite_and_the_same_either_way(decoder: Any, read: Callable, side: str) -> None:
    """Through `logits_at`, and through the rows of `logits` with its NaN."""
    model = read(decoder)
    tokens, real = pad([random_tokens(1, length, seed=length)[0] for length in (6, 9)], side, 10)
    where = model.predicts(tokens, real)
    gradients = []
    for logits in (model.logits_at(tokens, where, real), model.logits(tokens, real)[where]):
        decoder.zero_grad()
        torch.nn.functional.cross_entropy(logits, tokens[where]).backward()
        gradients.append({name: parameter.grad for name, parameter in decoder.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.isfinite().all(), name
        assert_close(gradients[1][name], gradient)
    assert sum(gradient.abs().sum() for gradient in gradients[0].values()) > 0.1


@pytest.mark.parametrize(("weights", "arm_stays"), [("copy", True), ("share", False)])
def test_from_arm_gradients_reach_the_arm_only_if_shared(weights: Any, arm_stays: bool) -> None:
    arm, tokens = ARM(tiny_decoder("llama", grouped=True)), random_tokens()
    before = arm.logits(tokens).detach()
    mdm = MDM.from_arm(arm, weights=weights, mask_id=MASK)
    untrained = mdm.logits(tokens).detach()
    optimizer = torch.optim.SGD(mdm.decoder.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(mdm.logits_at(tokens, mdm.predicts(tokens)), tokens[:, 1:].flatten()).backward()
    optimizer.step()
    assert not torch.allclose(mdm.logits(tokens)[:, 1:], untrained[:, 1:], atol=1e-3)
    assert torch.equal(arm.logits(tokens)[:, 1:], before[:, 1:]) == arm_stays


def test_from_arm_takes_the_tokenizer_and_its_mask(tokenizer: Any) -> None:
    mdm = MDM.from_arm(toy_arm(tokenizer, SMALL), weights="share", shift=False, attention="block:4")
    assert (mdm.mask_id, mdm.shift, mdm.attention) == (tokenizer.mask_token_id, False, "block:4")
    assert mdm.tokenizer is tokenizer


# --- text ---------------------------------------------------------------------------------------------------


def test_text_and_tokens(tokenizer: Any) -> None:
    """A toy's text begins with <bos>; every word and sign is one token."""
    model = toy_arm(tokenizer, SMALL)
    tokens = model.encode("Mary went to the store, John")
    assert tokens.shape == (1, 8)
    assert tokens[0, 0] == tokenizer.bos_token_id
    assert model.decode(tokens[0, 1:]) == "Mary went to the store , John"


def test_an_unknown_word_is_named_and_no_known_one(tokenizer: Any) -> None:
    """Punctuation that touches a known word does not make it unknown."""
    with pytest.raises(InputError) as caught:
        toy_arm(tokenizer, SMALL).encode("When Zelda and Bob went to the store, Bob gave a sandwich.")
    assert_three_parts(caught.value, "'Zelda'", "'sandwich'")
    assert "store" not in caught.value.happened


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mary gave ▒ a book", "<bos> Mary gave <mask> a book"),
        ("Mary gave ▒▒▒", "<bos> Mary gave <mask> <mask> <mask>"),
        ("▒ ▒ gave John", "<bos> <mask> <mask> gave John"),
        ("Mary gave John a ▒.", "<bos> Mary gave John a <mask> ."),
        ("Mary gave John", "<bos> Mary gave John"),
    ],
)
def test_blanks_are_masks(text: str, words: str, tokenizer: Any) -> None:
    mdm = MDM.from_arm(toy_arm(tokenizer, SMALL), weights="share")
    assert tokenizer.convert_ids_to_tokens(mdm.encode_blanks(text)[0].tolist()) == words.split()


def test_the_space_before_a_blank_belongs_to_what_is_filled_in(smollm2: Any) -> None:
    mdm = MDM.from_arm(smollm2, weights="share", mask_id=16)
    whole = mdm.encode("They swam in the sea until noon.")
    blank = mdm.encode_blanks("They swam in the ▒ until noon.")
    assert (blank != whole).nonzero().tolist() == [[0, 4]]
    assert mdm.decode(whole[0, 4:5]) == " sea"


def test_an_unknown_word_beside_a_blank_is_named(tokenizer: Any) -> None:
    with pytest.raises(InputError) as caught:
        MDM.from_arm(toy_arm(tokenizer, SMALL), weights="share").encode_blanks("Mary gave ▒ a sandwich")
    assert_three_parts(caught.value, "sandwich")


def test_without_a_tokenizer_there_is_no_text() -> None:
    with pytest.raises(InputError) as caught:
        ARM(tiny_decoder("llama")).encode("Mary")
    assert_three_parts(caught.value, "no tokenizer")


def test_repr_says_how_it_is_read() -> None:
    shown = repr(MDM(tiny_decoder("qwen3"), mask_id=MASK, attention="block:3"))
    for piece in ("MDM", "qwen3", "2 layers", "4 heads", "block:3", "shifted"):
        assert piece in shown


# --- what is refused ----------------------------------------------------------------------------------------

TOKENS = random_tokens()
BAD_TOKENS = {
    "a vector": (TOKENS[0], ["(9,)"]),
    "three axes": (TOKENS[None], ["(1, 2, 9)"]),
    "floating": (TOKENS.float(), ["torch.float32"]),
    "no sequence": (TOKENS[:0], ["(0, 9)"]),
    "no token": (TOKENS[:, :0], ["(2, 0)"]),
    "too long": (TOKENS.repeat(1, 8), ["72", str(POSITIONS)]),
    "id too high": (torch.tensor([[3, VOCABULARY]]), [f"3 to {VOCABULARY}", f"0 to {VOCABULARY - 1}"]),
    "id below zero": (torch.tensor([[-1, 7]]), ["-1 to 7"]),
}


@pytest.mark.parametrize("bad", BAD_TOKENS)
def test_tokens_that_are_none_are_refused(bad: str) -> None:
    tokens, seen = BAD_TOKENS[bad]
    decoder = tiny_decoder("llama")
    arm, mdm = ARM(decoder), MDM(decoder, mask_id=MASK)
    where = torch.ones_like(tokens, dtype=torch.bool)
    calls = [
        lambda: arm.logits(tokens),
        lambda: arm.next_token_logits(tokens),
        lambda: mdm.logits(tokens),
        lambda: mdm.logits_at(tokens, where),
    ]
    for call in calls:
        with without_shape_checks(), pytest.raises(InputError) as caught:
            call()
        assert_three_parts(caught.value, *seen)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_cache_counts_towards_the_length(family: str) -> None:
    """60 tokens in the cache and 9 more are too many for 64 positions."""
    model = ARM(tiny_decoder(family))
    _, cache = model.next_token_logits(random_tokens(1, 60))
    model.next_token_logits(random_tokens(1, 4), copy.deepcopy(cache))
    with pytest.raises(InputError) as caught:
        model.next_token_logits(random_tokens(1, 9), cache)
    assert_three_parts(caught.value, "69", str(POSITIONS))


@pytest.mark.parametrize(
    ("attention_mask", "seen"),
    [
        (torch.ones(2, 8, dtype=torch.bool), ["(2, 8)", "(2, 9)"]),
        (torch.ones(9, dtype=torch.bool), ["(9,)", "(2, 9)"]),
        (torch.ones(2, 9, dtype=torch.long), ["torch.int64"]),  # as tokenizers give it; ~1 would be -2
    ],
    ids=["too short", "a vector", "integers"],
)
def test_an_attention_mask_that_is_none_is_refused(attention_mask: Tensor, seen: list[str]) -> None:
    model = MDM(tiny_decoder("llama"), mask_id=MASK)
    with without_shape_checks(), pytest.raises(InputError) as caught:
        model.logits(TOKENS, attention_mask)
    assert_three_parts(caught.value, *seen)


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_at_refuses_rows_that_are_not_there(read: Callable, side: str) -> None:
    """Padding, for everyone; the first token, for a shifted model."""
    model = read(tiny_decoder("llama"))
    tokens, real = pad([random_tokens(1, length, seed=length)[0] for length in (6, 9)], side, 10)
    missing = ~model.predicts(tokens, real)
    assert missing.sum() == (~real).sum() + (2 if model.shift else 0)
    for place in missing.nonzero():
        where = torch.zeros_like(real)
        where[tuple(place)] = True
        with pytest.raises(InputError) as caught:
            model.logits_at(tokens, where, real)
        assert_three_parts(caught.value)


@pytest.mark.parametrize("attention", ["block:0", "blok:3", "block:-1", "block", "block:", "block:2.5", "both", ""])
def test_unknown_attention_is_refused(attention: str) -> None:
    with pytest.raises(InputError) as caught:
        MDM(tiny_decoder("llama"), mask_id=MASK, attention=attention)
    assert_three_parts(caught.value, repr(attention))


@pytest.mark.parametrize("mask_id", [-1, VOCABULARY])
def test_a_mask_outside_the_vocabulary_is_refused(mask_id: int) -> None:
    with pytest.raises(InputError) as caught:
        MDM(tiny_decoder("llama"), mask_id=mask_id)
    assert_three_parts(caught.value, str(mask_id), f"0 to {VOCABULARY - 1}")


@pytest.mark.parametrize(
    "config",
    [
        transformers.MistralConfig(sliding_window=4),
        transformers.Qwen2Config(use_sliding_window=True, sliding_window=4, max_window_layers=0),
        transformers.Gemma3TextConfig(sliding_window=4),
        transformers.GPTNeoConfig(num_layers=2, attention_types=[[["global", "local"], 1]], window_size=4),
    ],
    ids=lambda config: config.model_type,
)
def test_attention_that_cannot_be_opened_is_refused(config: Any) -> None:
    """A window stays where it is, whatever is asked of attention: the model would not see what it is said to see."""
    small = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    for name, value in {**small, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}.items():
        if hasattr(config, name):
            setattr(config, name, value)
    if hasattr(config, "layer_types") and config.layer_types:
        config.layer_types = config.layer_types[:2]
    decoder = transformers.AutoModelForCausalLM.from_config(config)
    ARM(decoder)  # from left to right it is what it says
    with pytest.raises(InputError) as caught:
        MDM(decoder, mask_id=MASK)
    assert_three_parts(caught.value, config.model_type)


def test_what_is_no_language_model_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        ARM(torch.nn.Linear(2, 2))
    assert_three_parts(caught.value, "Linear")


def test_a_tokenizer_of_another_model_is_refused(tokenizer: Any) -> None:
    """It has more tokens than the decoder has rows, or another mask."""
    with pytest.raises(InputError) as caught:
        ARM(tiny_decoder("llama"), tokenizer)
    assert_three_parts(caught.value, str(len(tokenizer)), str(VOCABULARY))
    decoder = toy_arm(tokenizer, SMALL).decoder
    with pytest.raises(InputError) as caught:
        MDM(decoder, tokenizer, mask_id=7)
    assert_three_parts(caught.value, "mask_id=7", f"id {tokenizer.mask_token_id}")


def test_from_arm_refuses_to_guess(tokenizer: Any) -> None:
    """Neither what becomes of the ARM nor which token is the mask."""
    with without_shape_checks(), pytest.raises(InputError) as caught:
        MDM.from_arm(toy_arm(tokenizer, SMALL), weights="clone")  # type: ignore[arg-type]
    assert_three_parts(caught.value, "'clone'")
    with pytest.raises(InputError) as caught:
        MDM.from_arm(ARM(tiny_decoder("llama")), weights="share")
    assert_three_parts(caught.value, "no mask token")
