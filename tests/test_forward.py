"""The forward process does what its formula says."""

import math

import pytest
import torch
from scipy import stats

from mdmcourse.diffusion import COSINE, LINEAR, forward_process, sample_t
from mdmcourse.errors import InputError

MASK = 2
SCHEDULES = pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=repr)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def text(batch, pos):
    return torch.randint(3, 50, (batch, pos), generator=seeded(1))


@SCHEDULES
@pytest.mark.parametrize("t", [0.05, 0.3, 0.5, 0.9])
def test_a_token_is_masked_with_probability_one_minus_alpha(schedule, t):
    x = text(200, 100)
    x_t = forward_process(x, torch.full((200,), t), MASK, schedule=schedule, generator=seeded())
    rate = 1 - schedule.alpha(torch.tensor(t)).item()
    low, high = stats.binom.interval(0.999, x.numel(), rate)
    assert low <= (x_t == MASK).sum().item() <= high


def test_the_rates_are_those_of_the_formulas():
    t = torch.linspace(0, 1, 11)
    assert torch.allclose(LINEAR.alpha(t), 1 - t)
    assert torch.allclose(COSINE.alpha(t), torch.tensor([1 - math.cos(math.pi / 2 * (1 - u)) for u in t.tolist()]))


@SCHEDULES
def test_nothing_is_masked_at_0_and_everything_at_1(schedule):
    x = text(20, 500)
    assert torch.equal(forward_process(x, torch.zeros(20), MASK, schedule=schedule), x)
    assert (forward_process(x, torch.ones(20), MASK, schedule=schedule) == MASK).all()


@SCHEDULES
def test_alpha_falls_from_1_to_0(schedule):
    alpha = schedule.alpha(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert alpha[0].item() == pytest.approx(1)
    assert alpha[-1].item() == pytest.approx(0)
    assert (alpha.diff() < 0).all()


@SCHEDULES
def test_the_weight_is_minus_the_slope_of_alpha_over_the_rate_of_masking(schedule):
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    h = 1e-6
    slope = (schedule.alpha(t + h) - schedule.alpha(t - h)) / (2 * h)
    assert torch.allclose(schedule.weight(t), -slope / (1 - schedule.alpha(t)), rtol=1e-6)


def test_x_is_not_changed_and_only_masks_are_written():
    x = text(50, 40)
    before = x.clone()
    x_t = forward_process(x, torch.full((50,), 0.5), MASK, generator=seeded())
    assert torch.equal(x, before)
    assert ((x_t == x) | (x_t == MASK)).all()
    assert (x_t == x).any()
    assert (x_t == MASK).any()


def test_what_is_not_maskable_is_left_alone():
    x = text(50, 40)
    x[:, 0] = MASK  # a prompt may hold the mask token
    maskable = torch.zeros_like(x, dtype=torch.bool)
    maskable[:, 10:] = True
    x_t = forward_process(x, torch.ones(50), MASK, maskable=maskable)
    assert torch.equal(x_t[:, :10], x[:, :10])
    assert (x_t[:, 10:] == MASK).all()


def test_tokens_are_masked_independently_of_each_other():
    batch = 20_000
    x_t = forward_process(text(batch, 4), torch.full((batch,), 0.4), MASK, generator=seeded())
    correlation = torch.corrcoef((x_t == MASK).float().T)
    off_diagonal = correlation[~torch.eye(4, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 4 / math.sqrt(batch)


def test_each_row_has_its_own_noise_level():
    t = torch.tensor([0.0, 0.25, 0.75, 1.0])
    masked = forward_process(text(4, 4000), t, MASK, generator=seeded()) == MASK
    assert torch.allclose(masked.float().mean(dim=1), t, atol=0.03)


def test_the_same_seed_gives_the_same_masks():
    x, t = text(10, 20), torch.full((10,), 0.5)
    first = forward_process(x, t, MASK, generator=seeded(3))
    assert torch.equal(first, forward_process(x, t, MASK, generator=seeded(3)))
    assert not torch.equal(first, forward_process(x, t, MASK, generator=seeded(4)))


@pytest.mark.parametrize("stratified", [True, False])
def test_noise_levels_are_uniform(stratified):
    t = torch.cat([sample_t(16, seeded(seed), t_min=0.0, stratified=stratified)[:1] for seed in range(2000)])
    assert stats.kstest(t.numpy(), "uniform").pvalue > 1e-3


def test_stratified_noise_levels_lie_one_in_each_slice():
    t = sample_t(64, seeded(), t_min=0.2)
    slices = ((t - 0.2) / 0.8 * 64).floor().long()
    assert slices.sort().values.tolist() == list(range(64))
    assert slices.tolist() != list(range(64))  # in random order


@pytest.mark.parametrize("stratified", [True, False])
def test_noise_levels_stay_between_t_min_and_1(stratified):
    t = sample_t(10_000, seeded(), t_min=0.3, stratified=stratified)
    assert t.min() >= 0.3
    assert t.max() <= 1
    assert t.min() < 0.301  # and they reach down to it


@pytest.mark.parametrize("t", [-0.01, 1.01, math.nan])
def test_a_noise_level_out_of_range_is_refused(t):
    with pytest.raises(InputError, match="noise level"):
        forward_process(text(2, 5), torch.tensor([0.5, t]), MASK)


def test_a_text_that_is_masked_already_is_refused():
    x = text(2, 5)
    x[1, 3] = MASK
    with pytest.raises(InputError, match="already holds the mask"):
        forward_process(x, torch.full((2,), 0.5), MASK)
