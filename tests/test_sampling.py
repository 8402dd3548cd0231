"""Samplers: they draw from the distribution that the model defines, and the trace tells what they did."""

import math
from typing import get_args

import pytest
import torch
from helpers import VOCABULARY, assert_close, random_tokens, tiny_decoder, without_shape_checks
from scipy import stats

from mdmcourse.diffusion import (
    HIDDEN,
    Trace,
    all_sequences,
    distribution,
    exact_arm,
    exact_mdm,
    sample_arm,
    sample_mdm,
)
from mdmcourse.diffusion.sampling import Order
from mdmcourse.errors import InputError
from mdmcourse.models import ARM, MDM, ToyConfig, toy_arm, word_tokenizer

ORDERS = get_args(Order)
MASK = 2
PROMPT, FREE = 3, 8  # tokens of the texts that `blank` makes


@pytest.fixture(scope="module")
def tiny():
    """A toy ARM with 7 tokens, far from uniform; its tokens depend on each other."""
    shape = ToyConfig(
        num_hidden_layers=2, hidden_size=16, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    arm = toy_arm(word_tokenizer("abc"), shape, seed=1)
    with torch.no_grad():
        arm.decoder.get_input_embeddings().weight.mul_(50)
        arm.decoder.get_output_embeddings().weight.mul_(10)
    return arm


@pytest.fixture(scope="module")
def mdm():
    return MDM(tiny_decoder("llama"), mask_id=MASK)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blank(batch=3):
    """Prompts of 3 tokens, and 8 masks behind each."""
    tokens = random_tokens(batch, PROMPT + FREE)
    tokens[:, PROMPT:] = MASK
    return tokens


# Distributions


def chi_square(drawn, texts, nll):
    """The p-value of `drawn` under exp(-nll); cells where fewer than 5 are expected are pooled."""
    number = {tuple(text): index for index, text in enumerate(texts.tolist())}
    counts = torch.bincount(torch.tensor([number[tuple(row)] for row in drawn.tolist()]), minlength=len(texts))
    expected = (-nll).exp() * len(drawn)
    rare = expected < 5
    observed = torch.cat([counts[~rare], counts[rare].sum()[None]]).double()
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    assert len(observed) > 20
    assert expected.min() >= 5
    return stats.chisquare(observed.numpy(), (expected * observed.sum() / expected.sum()).numpy()).pvalue


def draw(mdm, n, steps):
    start = torch.full((n, 4), mdm.mask_id)
    start[:, 0] = 1
    return sample_mdm(mdm, start, steps=steps, order="random", temperature=1.0, generator=seeded(), top=0).final


def test_one_token_a_step_in_random_order_draws_from_the_models_distribution(tiny):
    mdm = MDM.from_arm(tiny, weights="share")
    texts = all_sequences(torch.tensor([1]), [0, 1, 3, 4, 5, 6], 3)
    nll = exact_mdm(mdm, texts, 1).nll
    assert chi_square(draw(mdm, 20_000, steps=3), texts, nll) > 1e-3
    # Several tokens at once, each without knowing the others, is another distribution.
    assert chi_square(draw(mdm, 20_000, steps=2), texts, nll) < 1e-6
    assert chi_square(draw(mdm, 20_000, steps=1), texts, nll) < 1e-6


def test_an_arm_draws_from_its_distribution(tiny):
    texts = all_sequences(torch.tensor([1]), list(range(7)), 3)
    prompt = torch.ones(20_000, 1, dtype=torch.long)
    drawn = sample_arm(tiny, prompt, 3, temperature=1.0, generator=seeded()).final
    colder = sample_arm(tiny, prompt, 3, temperature=0.9, generator=seeded()).final
    nll = exact_arm(tiny, texts, 1)
    assert chi_square(drawn, texts, nll) > 1e-3
    assert chi_square(colder, texts, nll) < 1e-6


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-39, 1e-300, 5e-324])
def test_low_temperatures_are_the_most_probable_token(temperature):
    logits = torch.tensor([[3.0, 1.0, 2.9], [-80.0, 80.0, -math.inf]])
    torch.testing.assert_close(distribution(logits, temperature), distribution(logits, 0.0))


def test_temperature_divides_logits():
    logits = torch.randn(20, 30, generator=seeded())
    assert_close(distribution(logits), logits.softmax(dim=-1))
    assert_close(distribution(logits, 0.5), (2 * logits).softmax(dim=-1))
    most_probable = torch.nn.functional.one_hot(logits.argmax(dim=-1), 30).float()
    assert torch.equal(distribution(logits, 0.0), most_probable)


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_that_is_probable_enough(top_p):
    logits = 2 * torch.randn(50, 30, generator=seeded())
    whole, cut = logits.softmax(dim=-1), distribution(logits, 1.0, top_p)
    assert_close(cut.sum(dim=-1), torch.ones(50))
    for p, kept in zip(whole, cut, strict=True):
        nucleus = p[kept > 0]
        assert nucleus.sum() >= top_p - 1e-6
        assert nucleus.sum() - nucleus.min() < top_p + 1e-6  # with one token less, not enough
        assert (p[kept == 0] <= nucleus.min()).all()
        assert_close(kept[kept > 0], nucleus / nucleus.sum())


def test_the_sampler_draws_from_the_nucleus(mdm):
    start = blank(200)
    with torch.no_grad():
        allowed = distribution(mdm.logits(start)[:, PROMPT:].reshape(-1, VOCABULARY), 2.0, 0.6) > 0
    drawn = sample_mdm(mdm, start, steps=1, temperature=2.0, top_p=0.6, generator=seeded()).final[:, PROMPT:]
    assert allowed.gather(1, drawn.reshape(-1, 1)).all()
    free = sample_mdm(mdm, start, steps=1, temperature=2.0, generator=seeded()).final[:, PROMPT:]
    assert not allowed.gather(1, free.reshape(-1, 1)).all()


# The trace


def check_trace(trace, tokens, counts):
    """Everything that has to hold of every trace. counts[s]: tokens that step s writes, and hides again, in a row."""
    prompt = tokens != MASK
    assert torch.equal(trace.tokens[0], tokens.masked_fill(~prompt, HIDDEN))
    assert torch.equal(trace.generated, ~prompt)
    assert trace.steps == trace.forward_passes == len(counts)
    written_at = torch.zeros_like(tokens)
    for step, (wrote, hid) in enumerate(counts):
        before, after = trace.tokens[step], trace.tokens[step + 1]
        hidden, new, again = before == HIDDEN, trace.unmasked[step], trace.remasked[step]
        assert (new.sum(dim=1) == wrote).all()
        assert (again.sum(dim=1) == hid).all()
        assert torch.equal(before != after, new | again)
        assert (hidden | ~new).all()
        assert (~hidden & ~prompt | ~again).all()
        assert torch.equal(after == HIDDEN, hidden & ~new | again)
        assert torch.equal(trace.confidence[step].isnan(), ~hidden)
        assert torch.equal(trace.alternatives[step] == -1, (~hidden)[..., None].expand(*hidden.shape, 5))
        best = trace.alternative_confidence[step]
        assert torch.equal(best.isnan(), trace.alternatives[step] == -1)
        assert (best[hidden].diff(dim=-1) <= 0).all()
        assert (best[hidden][:, 0] >= trace.confidence[step][hidden]).all()
        written_at[new] = step + 1
    assert torch.equal(trace.written_at, written_at)
    assert (trace.final != HIDDEN).all()
    assert (trace.final[~prompt] != MASK).all()
    assert torch.equal(trace.final[prompt], tokens[prompt])


def due(steps, remask=0, block_length=FREE):
    """What each step has to write and hide again, block after block: masks, and those to come from hiding again after
    every step but the first and the last, over steps left, rounded up."""
    counts = []
    sizes = [min(block_length, FREE - start) for start in range(0, FREE, block_length)]
    for block, size in enumerate(sizes):
        budget, hidden = len(range(block, steps, len(sizes))), size
        most = min(remask, size - 1)
        for left in range(budget, 0, -1):
            if hidden == 0:
                break
            to_come = len(range(max(2, budget - left + 1), budget))
            write = min(hidden, math.ceil((hidden + most * to_come) / left))
            again = min(most, size - hidden) if left > 1 else 0
            counts.append((write, again))
            hidden += again - write
    return counts


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": 8}, {"steps": 3}, {"steps": 1}, {"steps": 20}, {"steps": 12, "remask": 2},
        {"steps": 8, "block_length": 2}, {"steps": 7, "block_length": 3}, {"steps": 4, "block_length": 8},
        {"steps": 14, "remask": 1, "block_length": 4}, {"steps": 8, "block_length": 50}, {"steps": 30, "remask": 1},
        {"steps": 9, "remask": 7}, {"steps": 8, "remask": 3, "block_length": 2}, {"steps": 2, "remask": 4},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("order", ORDERS)
def test_a_run_writes_what_is_due_and_notes_it(mdm, order, setting):
    tokens = blank()
    before = tokens.clone()
    temperature, top_p = (0.7, 0.9) if setting["steps"] % 2 else (0.0, 1.0)
    trace = sample_mdm(mdm, tokens, order=order, temperature=temperature, top_p=top_p, generator=seeded(), **setting)
    assert torch.equal(tokens, before)
    check_trace(trace, tokens, due(**setting))
    assert trace.forward_passes <= setting["steps"]
    assert trace.order == order


def test_with_remasking_the_last_step_writes_no_more_than_is_hidden_again(mdm):
    """It used to write one more: a run with more steps ended with more tokens that nobody could repair."""
    for remask in (1, 2, 3):
        trace = sample_mdm(mdm, blank(), steps=20, remask=remask, temperature=1.0, generator=seeded())
        assert trace.forward_passes == 20
        assert (trace.unmasked[-1].sum(dim=1) <= remask).all()


def test_steps_default_to_one_a_mask(mdm):
    check_trace(sample_mdm(mdm, blank()), blank(), [(1, 0)] * FREE)


def test_probabilities_of_the_trace_are_the_models(mdm):
    trace = sample_mdm(mdm, blank(), steps=4, temperature=1.5, generator=seeded())
    for step in range(trace.steps):
        state = trace.tokens[step]
        with torch.no_grad():
            p = mdm.logits(state.masked_fill(state == HIDDEN, MASK)).softmax(dim=-1)
        new = trace.unmasked[step]
        chosen = p.gather(-1, trace.tokens[step + 1].clamp(min=0)[..., None])[..., 0]
        assert_close(trace.confidence[step][new], chosen[new])
        best = p[state == HIDDEN].topk(5, dim=-1)
        assert torch.equal(trace.alternatives[step][state == HIDDEN], best.indices)
        assert_close(trace.alternative_confidence[step][state == HIDDEN], best.values)


def test_blocks_are_written_from_left_to_right(mdm):
    trace = sample_mdm(mdm, blank(), order="random", block_length=3, generator=seeded())
    written = trace.written_at[:, PROMPT:]
    assert (written[:, :3].amax(dim=1) < written[:, 3:6].amin(dim=1)).all()
    assert (written[:, 3:6].amax(dim=1) < written[:, 6:].amin(dim=1)).all()
    in_order = torch.arange(1, FREE + 1).expand_as(written)
    assert not torch.equal(written, in_order)  # but in any order within
    left_to_right = sample_mdm(mdm, blank(), order="left-to-right").written_at[:, PROMPT:]
    assert torch.equal(left_to_right, in_order)


def test_the_least_confident_of_the_older_tokens_are_hidden_again(mdm):
    trace = sample_mdm(mdm, blank(), steps=14, remask=2, order="random", temperature=1.0, generator=seeded())
    confidence = torch.zeros(blank().shape)
    for step in range(trace.steps):
        older = (trace.tokens[step] != HIDDEN) & trace.generated
        for row in range(len(older)):
            mine = trace.remasked[step, row]
            others = older[row] & ~mine
            if mine.any() and others.any():
                assert confidence[row][mine].max() <= confidence[row][others].min()
        confidence[trace.unmasked[step]] = trace.confidence[step][trace.unmasked[step]]
    assert trace.remasked.any()


# Greedy decoding


def greedy(mdm, row, score, count):
    """One row, `count` tokens at a time, the highest score first: written without the sampler."""
    x = row.clone()
    while hidden := (x == MASK).nonzero()[:, 0].tolist():
        with torch.no_grad():
            p = mdm.logits(x[None])[0].softmax(dim=-1)
        hidden.sort(key=lambda i: -score(p[i]))
        for i in hidden[:count]:
            x[i] = p[i].argmax()
    return x


def margin(p):
    first, second = p.sort(descending=True).values[:2].tolist()
    return first - second


SCORES = {
    "confidence": lambda p: p.max().item(),
    "margin": margin,
    "entropy": lambda p: sum(q * math.log(q) for q in p.tolist() if q > 0),
}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("order", SCORES)
def test_greedy_decoding_equals_a_simple_loop(mdm, order, count):
    tokens = blank(6)
    trace = sample_mdm(mdm, tokens, order=order, steps=FREE // count)
    for row, final in zip(tokens, trace.final, strict=True):
        assert torch.equal(final, greedy(mdm, row, SCORES[order], count))


def test_orders_differ(mdm):
    tokens = blank(20)
    written = {order: sample_mdm(mdm, tokens, order=order).written_at for order in SCORES}
    assert not torch.equal(written["confidence"], written["margin"])
    assert not torch.equal(written["confidence"], written["entropy"])
    assert not torch.equal(written["margin"], written["entropy"])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_greedy_writing_with_an_arm_equals_a_loop_without_cache(family):
    arm = ARM(tiny_decoder(family))
    prompt = random_tokens(4, 5)
    tokens = prompt.clone()
    for _ in range(10):
        with torch.no_grad():
            tokens = torch.cat([tokens, arm.decoder(tokens).logits[:, -1:].argmax(dim=-1)], dim=1)
    before = prompt.clone()
    trace = sample_arm(arm, prompt, 10)
    assert torch.equal(prompt, before)
    assert torch.equal(trace.final, tokens)
    assert trace.forward_passes == trace.steps == 10
    for step, state in enumerate(trace.tokens):
        assert torch.equal(state[:, : 5 + step], tokens[:, : 5 + step])
        assert (state[:, 5 + step :] == HIDDEN).all()
    assert torch.equal(trace.written_at, torch.tensor([0] * 5 + list(range(1, 11))).expand(4, 15))
    assert torch.equal(trace.unmasked, trace.confidence.isfinite())
    assert (trace.alternatives[trace.unmasked][:, 0] == trace.final[:, 5:].T.flatten()).all()


# Batches


def uneven():
    """Rows with 5, 1, 0 and 3 masks, not all side by side."""
    tokens = random_tokens(4, 9)
    for row, where in enumerate([[2, 3, 5, 7, 8], [4], [], [1, 2, 8]]):
        tokens[row, where] = MASK
    return tokens


@pytest.mark.parametrize("steps", [5, 3, 8])
def test_rows_with_different_numbers_of_masks_are_written_as_if_alone(mdm, steps):
    tokens = uneven()
    trace = sample_mdm(mdm, tokens, steps=steps)
    for row in range(4):
        alone = sample_mdm(mdm, tokens[row : row + 1], steps=steps)
        assert torch.equal(trace.final[row], alone.final[0])
        assert torch.equal(trace.written_at[row], alone.written_at[0])
    assert torch.equal(trace.final[2], tokens[2])  # a row without masks stays
    assert not trace.unmasked[:, 2].any()


def test_the_row_with_most_masks_sets_the_number_of_steps(mdm):
    assert sample_mdm(mdm, uneven()).steps == 5


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_row_is_written_as_if_alone(mdm, side):
    tokens = uneven()
    padded, attention_mask = torch.zeros(4, 13, dtype=torch.long), torch.zeros(4, 13, dtype=torch.bool)
    lengths = [9, 7, 8, 9]
    places = [slice(0, n) if side == "right" else slice(13 - n, 13) for n in lengths]
    for row, place in enumerate(places):
        padded[row, place] = tokens[row, : lengths[row]]
        attention_mask[row, place] = True
    final = sample_mdm(mdm, padded, attention_mask=attention_mask).final
    for row, place in enumerate(places):
        alone = sample_mdm(mdm, tokens[row : row + 1, : lengths[row]], steps=5).final[0]
        assert torch.equal(final[row, place], alone)
    assert (final[~attention_mask] == 0).all()


def test_a_batch_without_masks_takes_no_step(mdm):
    tokens = random_tokens()
    trace = sample_mdm(mdm, tokens)
    assert (trace.steps, trace.forward_passes) == (0, 0)
    assert torch.equal(trace.final, tokens)
    assert (trace.written_at == 0).all()


def test_a_seed_decides_everything(mdm):
    def run(seed):
        return sample_mdm(mdm, blank(), order="random", temperature=1.0, generator=seeded(seed))

    first, same, other = run(1), run(1), run(2)
    assert torch.equal(first.tokens, same.tokens)
    assert torch.equal(first.confidence.nan_to_num(), same.confidence.nan_to_num())
    assert not torch.equal(first.tokens, other.tokens)


def test_the_mask_is_never_written(mdm):
    decoder = tiny_decoder("llama")
    with torch.no_grad():
        decoder.get_output_embeddings().weight[MASK] *= 30
        raw = decoder(blank(50), is_causal=False).logits
    assert (raw.argmax(dim=-1) == MASK).any()  # left to itself, the decoder would write it
    eager = MDM(decoder, mask_id=MASK)
    for temperature in (0.0, 0.2, 5.0):
        final = sample_mdm(eager, blank(50), order="random", temperature=temperature, generator=seeded()).final
        assert (final[:, PROMPT:] != MASK).all()


# Traces as text and as files


def test_a_trace_reads_as_text(tiny):
    mdm = MDM.from_arm(tiny, weights="share")
    tokens = mdm.encode("a b a b")
    tokens[:, 2:] = mdm.mask_id
    trace = sample_mdm(mdm, tokens, order="left-to-right")
    words = trace.words(mdm.tokenizer)
    final = [mdm.tokenizer.decode([token]) for token in trace.final[0].tolist()]
    assert words == [final[: 2 + written] + ["▒"] * (3 - written) for written in range(4)]
    assert trace.answers(mdm.tokenizer) == [" ".join(final[2:])]


@pytest.mark.parametrize("tokens", [blank(), random_tokens()], ids=["masks", "no masks"])
def test_a_trace_survives_saving(mdm, tmp_path, tokens):
    trace = sample_mdm(mdm, tokens, steps=9, remask=1, temperature=1.0, generator=seeded())
    trace.save(tmp_path / "trace.safetensors")
    again = Trace.load(tmp_path / "trace.safetensors")
    assert (again.order, again.forward_passes) == (trace.order, trace.forward_passes)
    for name in ("tokens", "confidence", "unmasked", "remasked", "alternatives", "alternative_confidence"):
        found, expected = getattr(again, name), getattr(trace, name)
        assert found.dtype == expected.dtype
        assert_close(found, expected, atol=0)


# Errors


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        ({"order": "alphabetical"}, "order='alphabetical'"),
        ({"steps": 0}, "0 steps for 8 masks"),
        ({"steps": 3, "block_length": 2}, "3 steps for 4 blocks"),
        ({"block_length": 0}, "block_length=0"),
        ({"block_length": -1}, "block_length=-1"),
        ({"remask": -1}, "remask=-1"),
        ({"remask": 8}, "remask=8"),
        ({"temperature": -0.1}, "temperature=-0.1"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"top": -1}, "top=-1"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.1}, "top_p=1.1"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(mdm, setting, seen):
    with without_shape_checks(), pytest.raises(InputError, match=seen):
        sample_mdm(mdm, blank(), **setting)


def test_the_other_kind_of_model_and_text_are_refused(mdm):
    arm = ARM(mdm.decoder)
    with without_shape_checks():
        with pytest.raises(InputError, match="sample_mdm was given ARM"):
            sample_mdm(arm, blank())
        with pytest.raises(InputError, match="sample_arm was given MDM"):
            sample_arm(mdm, random_tokens(1, 3), 2)
        with pytest.raises(InputError, match="of type str"):
            sample_arm(arm, "a text", 2)
        with pytest.raises(InputError, match="of type str"):
            sample_mdm(mdm, "a text")
    with pytest.raises(InputError, match="count=-1 masks"):
        mdm.append_masks(random_tokens(1, 3), -1)


def test_no_more_alternatives_are_kept_than_there_are_tokens(mdm):
    assert sample_mdm(mdm, blank(), top=1000).alternatives.shape[-1] == VOCABULARY
    assert sample_arm(ARM(mdm.decoder), random_tokens(1, 3), 2, top=1000).alternatives.shape[-1] == VOCABULARY
    assert sample_mdm(mdm, blank(), top=0).alternatives.shape[-1] == 0


def test_a_text_that_is_too_long_is_refused(mdm):
    with pytest.raises(InputError, match="65 tokens"):
        sample_mdm(mdm, random_tokens(1, 65))
    arm = ARM(mdm.decoder)
    assert sample_arm(arm, random_tokens(1, 60), 4).final.shape == (1, 64)
    with pytest.raises(InputError, match="5 new tokens"):
        sample_arm(arm, random_tokens(1, 60), 5)
    with pytest.raises(InputError, match="-1 new tokens"):
        sample_arm(arm, random_tokens(1, 60), -1)
    with pytest.raises(InputError, match="temperature=-1"):
        sample_arm(arm, random_tokens(1, 60), 1, temperature=-1.0)


def test_a_mask_at_the_first_token_needs_a_model_without_shift(mdm):
    tokens = blank()
    tokens[1, 0] = MASK
    with pytest.raises(InputError, match="first token of a shifted model"):
        sample_mdm(mdm, tokens)
    unshifted = MDM(mdm.decoder, mask_id=MASK, shift=False)
    assert (sample_mdm(unshifted, tokens).final != MASK).all()


def test_ids_of_32_bits_are_read_too(mdm):
    prompt = mdm.append_masks(torch.tensor([[1, 5, 6]]), 3)
    assert torch.equal(sample_mdm(mdm, prompt.int(), top=0).final, sample_mdm(mdm, prompt, top=0).final)
