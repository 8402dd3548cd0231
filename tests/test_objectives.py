"""The losses agree with loops over single tokens."""

import pytest
import torch
from helpers import assert_close, random_tokens, tiny_decoder, without_shape_checks
from scipy import stats

from mdmcourse.diffusion import (
    COSINE,
    LINEAR,
    elbo,
    forward_process,
    masked_loss,
    masked_objective,
    next_token_loss,
    next_token_objective,
    sample_t,
)
from mdmcourse.diffusion.objective import annealed
from mdmcourse.errors import InputError
from mdmcourse.models import ARM, MDM
from mdmcourse.sequences import Sequences

MASK, PAD = 2, 0
CAUSAL = torch.ones(9, 9, dtype=torch.bool).tril()


@pytest.fixture(scope="module")
def decoder():
    return tiny_decoder("llama")


@pytest.fixture(scope="module")
def arm(decoder):
    return ARM(decoder)


@pytest.fixture(scope="module")
def mdm(decoder):
    return MDM(decoder, mask_id=MASK)


@pytest.fixture(scope="module")
def batch():
    """Three texts of 9, 6 and 4 tokens; the answers are their last 4, 2 and 1."""
    rows = random_tokens(3, 9).tolist()
    return Sequences.from_lists([rows[0], rows[1][:6], rows[2][:4]], [(5, 9), (4, 6), (3, 4)], PAD)


@pytest.fixture(scope="module")
def noisy(batch):
    """Noise levels, and the batch with some of its answers masked: in the second row none."""
    x_t = batch.tokens.clone()
    x_t[0, [5, 7, 8]] = MASK
    x_t[2, 3] = MASK
    return torch.tensor([0.8, 0.1, 0.4]), x_t


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def minus_log_p(model, batch, x_t, row, position, **options):
    logits = model.logits(x_t, batch.attention_mask, **options)[row, position]
    return -logits.detach().double().log_softmax(dim=-1)[batch.tokens[row, position]].item()


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=repr)
@pytest.mark.parametrize("divisor", ["maskable", "masked", "sequences"])
@pytest.mark.parametrize("weight", ["elbo", "none"])
def test_the_masked_loss_is_a_sum_over_masked_tokens(mdm, batch, noisy, weight, divisor, schedule):
    t, x_t = noisy
    total = 0.0
    for row in range(3):
        w = schedule.weight(t[row]).item() if weight == "elbo" else 1.0
        for position in range(9):
            if x_t[row, position] == MASK:
                total += w * minus_log_p(mdm, batch, x_t, row, position)
    expected = total / {"maskable": 7, "masked": 4, "sequences": 3}[divisor]
    loss = masked_loss(
        mdm, batch.tokens, x_t, t, batch.answer, batch.attention_mask,
        weight=weight, divisor=divisor, schedule=schedule,
    )  # fmt: skip
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_masks_outside_the_maskable_positions_are_input_only(mdm, batch, noisy):
    t, x_t = noisy
    x_t = x_t.clone()
    x_t[0, 2] = MASK
    loss = masked_loss(mdm, batch.tokens, x_t, t, batch.answer, batch.attention_mask, weight="none")
    expected = sum(minus_log_p(mdm, batch, x_t, row, i) for row, i in [(0, 5), (0, 7), (0, 8), (2, 3)]) / 7
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_masks_has_loss_zero_and_a_gradient(mdm, batch):
    loss = masked_loss(mdm, batch.tokens, batch.tokens, torch.zeros(3), batch.answer, batch.attention_mask)
    assert loss.item() == 0
    assert loss.requires_grad


@pytest.mark.parametrize("where", ["answer", "predicted"])
def test_the_next_token_loss_is_a_mean_over_tokens(arm, batch, where):
    chosen = batch.answer if where == "answer" else arm.predicts(batch.tokens, batch.attention_mask)
    each = [minus_log_p(arm, batch, batch.tokens, row, i) for row, i in chosen.nonzero().tolist()]
    assert len(each) == {"answer": 7, "predicted": 16}[where]
    loss = next_token_loss(arm, batch.tokens, chosen, batch.attention_mask)
    assert loss.item() == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_padding_contributes_nothing(arm, mdm, batch, noisy):
    t, x_t = noisy
    other = torch.where(batch.attention_mask, batch.tokens, 17)
    other_t = torch.where(batch.attention_mask, x_t, 17)

    def losses(tokens, tokens_t):
        return torch.stack(
            [
                masked_loss(mdm, tokens, tokens_t, t, batch.answer, batch.attention_mask),
                next_token_loss(arm, tokens, batch.answer, batch.attention_mask),
            ]
        )

    assert_close(losses(other, other_t), losses(batch.tokens, x_t))


def test_a_padded_sequence_has_the_loss_that_it_has_alone(mdm, batch, noisy):
    t, x_t = noisy
    together = masked_loss(mdm, batch.tokens, x_t, t, batch.answer, batch.attention_mask, divisor="sequences")
    alone = [
        masked_loss(
            mdm,
            batch.tokens[row : row + 1, :length],
            x_t[row : row + 1, :length],
            t[row : row + 1],
            batch.answer[row : row + 1, :length],
        )
        * batch.answer[row].sum()
        for row, length in enumerate([9, 6, 4])
    ]
    assert_close(together * 3, torch.stack(alone).sum())


def test_estimates_of_the_bound_are_masked_losses(mdm):
    x, maskable = random_tokens(1, 9), torch.ones(1, 9, dtype=torch.bool)
    maskable[:, :3] = False
    estimates = elbo(mdm, x, maskable, samples=3, generator=seeded(5))
    generator = seeded(5)
    for estimate in estimates:
        t = 1 - torch.rand(1, generator=generator)
        x_t = forward_process(x, t, MASK, maskable=maskable, generator=generator)
        assert_close(estimate[0], masked_loss(mdm, x, x_t, t, maskable, divisor="sequences"))


def test_padding_is_no_context_of_the_bound(mdm, batch):
    [together] = elbo(mdm, batch.tokens, batch.answer, batch.attention_mask, samples=1, generator=seeded(5))
    generator = seeded(5)
    t = 1 - torch.rand(3, generator=generator)
    x_t = forward_process(batch.tokens, t, MASK, maskable=batch.answer, generator=generator)
    for row, length in enumerate([9, 6, 4]):
        x, noisy, answer = (each[row : row + 1, :length] for each in (batch.tokens, x_t, batch.answer))
        assert_close(together[row], masked_loss(mdm, x, noisy, t[row : row + 1], answer, divisor="sequences"))
    assert ((x_t == MASK) & batch.answer).any(dim=1)[1:].any()  # in a row with padding


def test_opening_attention_begins_causal_and_ends_full():
    assert torch.equal(annealed(9, 0, 10, seeded()), CAUSAL)
    assert annealed(9, 10, 10, seeded()).all()


def test_opening_attention_never_hides_what_stands_before():
    assert all((annealed(9, step, 10, seeded(step)) | ~CAUSAL).all() for step in range(11))


@pytest.mark.parametrize("step", [1, 5, 9])
def test_attention_opens_with_the_probability_of_the_step(step):
    later = ~torch.ones(150, 150, dtype=torch.bool).tril()
    opened = annealed(150, step, 10, seeded())[later]
    low, high = stats.binom.interval(0.999, opened.numel(), step / 10)
    assert low <= opened.sum().item() <= high


@pytest.mark.parametrize("on", ["answer", "all"])
def test_the_masked_objective_masks_and_scores_the_chosen_tokens(mdm, batch, on):
    maskable = batch.answer if on == "answer" else batch.attention_mask & (torch.arange(9) > 0)
    generator = seeded(7)
    t = sample_t(3, generator, t_min=0.2)
    x_t = forward_process(batch.tokens, t, MASK, maskable=maskable, schedule=COSINE, generator=generator)
    expected = masked_loss(
        mdm, batch.tokens, x_t, t, maskable, batch.attention_mask,
        weight="none", divisor="masked", schedule=COSINE,
    )  # fmt: skip
    objective = masked_objective(on, weight="none", divisor="masked", schedule=COSINE, t_min=0.2)
    assert (x_t == MASK).any()
    assert torch.equal(objective(mdm, batch, 0, seeded(7)), expected)


def test_the_masked_objective_opens_attention_in_time(mdm, batch):
    def loss(step, anneal_steps):
        return masked_objective("all", anneal_steps=anneal_steps)(mdm, batch, step, seeded(3)).item()

    causal = MDM(mdm.decoder, mask_id=MASK, attention="causal")
    as_causal = masked_objective("all")(causal, batch, 0, seeded(3)).item()
    assert loss(0, 10) == pytest.approx(as_causal, rel=1e-5)
    assert loss(10, 10) == loss(0, 0)
    assert loss(5, 10) != pytest.approx(as_causal, rel=1e-3)
    assert loss(5, 10) != pytest.approx(loss(0, 0), rel=1e-3)


def test_the_next_token_objective_scores_the_chosen_tokens(arm, batch):
    everything = batch.attention_mask & (torch.arange(9) > 0)
    for on, where in [("answer", batch.answer), ("all", everything)]:
        expected = next_token_loss(arm, batch.tokens, where, batch.attention_mask)
        assert torch.equal(next_token_objective(on)(arm, batch, 0, seeded()), expected)


def test_unknown_choices_are_refused(arm, mdm, batch, noisy):
    t, x_t = noisy
    with without_shape_checks():
        with pytest.raises(InputError, match="weight='flat'"):
            masked_loss(mdm, batch.tokens, x_t, t, batch.answer, weight="flat")
        with pytest.raises(InputError, match="divisor='tokens'"):
            masked_loss(mdm, batch.tokens, x_t, t, batch.answer, divisor="tokens")
        with pytest.raises(InputError, match="on='prompt'"):
            masked_objective("prompt")(mdm, batch, 0, seeded())
        with pytest.raises(InputError, match="on='prompt'"):
            next_token_objective("prompt")(arm, batch, 0, seeded())


def test_a_loss_of_the_other_kind_of_model_is_refused(arm, mdm, batch):
    with pytest.raises(InputError, match="masked_objective was given ARM"):
        masked_objective()(arm, batch, 0, seeded())
    with pytest.raises(InputError, match="next_token_objective was given MDM"):
        next_token_objective()(mdm, batch, 0, seeded())


def test_a_text_that_holds_the_mask_is_refused(mdm, batch, noisy):
    _, x_t = noisy
    masked = Sequences(x_t, batch.attention_mask, batch.answer)
    with pytest.raises(InputError, match="already holds the mask"):
        masked_objective()(mdm, masked, 0, seeded())
