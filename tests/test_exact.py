"""Exact likelihoods agree with brute force, and the estimates of the bound with the exact bound."""

import itertools
import math

import pytest
import torch

from mdmcourse.diffusion import COSINE, LINEAR, all_sequences, elbo, exact_arm, exact_mdm
from mdmcourse.errors import InputError
from mdmcourse.models import MDM, ToyConfig, toy_arm, word_tokenizer

PROMPT = 1  # <bos>


@pytest.fixture(scope="module")
def arm():
    shape = ToyConfig(
        num_hidden_layers=2, hidden_size=16, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    arm = toy_arm(word_tokenizer("abc"), shape, seed=1)
    with torch.no_grad():  # far from uniform, and far from independent
        arm.decoder.get_input_embeddings().weight.mul_(50)
        arm.decoder.get_output_embeddings().weight.mul_(20)
    return arm


@pytest.fixture(scope="module")
def mdm(arm):
    return MDM.from_arm(arm, weights="copy")


def every_text(model, length, without=()):
    words = [word for word in range(model.vocab_size) if word not in without]
    return all_sequences(torch.tensor([1]), words, length)


def some_texts(mdm, length, n):
    texts = every_text(mdm, length, without=[mdm.mask_id])
    return texts[torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))[:n]]


def log_p(mdm, x, hidden):
    """log p(x_i | the rest of x) at every position, with the positions `hidden` masked."""
    x_t = x.clone()
    x_t[:, list(hidden)] = mdm.mask_id
    with torch.no_grad():
        rows = mdm.logits(x_t).double().log_softmax(dim=-1)
    return rows.gather(-1, x[..., None])[..., 0]


def over_all_orders(mdm, x):
    """log p of every order of writing x, one row an order."""
    rows = []
    for order in itertools.permutations(range(PROMPT, x.shape[1])):
        total = torch.zeros(len(x), dtype=torch.float64)
        for k, position in enumerate(order):
            total += log_p(mdm, x, order[k:])[:, position]
        rows.append(total)
    return torch.stack(rows)


@pytest.mark.parametrize("free", [1, 3, 4])
def test_likelihood_and_bound_agree_with_listing_all_orders(mdm, free):
    x = some_texts(mdm, free, 6)
    orders = over_all_orders(mdm, x)
    exact = exact_mdm(mdm, x, PROMPT)
    assert len(orders) == math.factorial(free)
    assert torch.allclose(exact.nll, -(orders.exp().mean(dim=0)).log(), atol=1e-5)
    assert torch.allclose(exact.bound, -orders.mean(dim=0), atol=1e-5)


def test_a_longer_prompt_is_not_counted(mdm):
    x = some_texts(mdm, 4, 6)
    orders = torch.stack(
        [log_p(mdm, x, (3, 4))[:, first] + log_p(mdm, x, (second,))[:, second] for first, second in [(3, 4), (4, 3)]]
    )
    assert torch.allclose(exact_mdm(mdm, x, 3).bound, -orders.mean(dim=0), atol=1e-5)


def test_probabilities_of_all_texts_sum_to_one(mdm):
    exact = exact_mdm(mdm, every_text(mdm, 3, without=[mdm.mask_id]), PROMPT)
    assert (-exact.nll).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_the_bound_is_never_below_the_likelihood(mdm):
    exact = exact_mdm(mdm, every_text(mdm, 3, without=[mdm.mask_id]), PROMPT)
    assert (exact.bound >= exact.nll - 1e-9).all()
    assert (exact.bound - exact.nll).max() > 0.1  # here the order matters, so that there is a gap


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=repr)
def test_estimates_of_the_bound_are_unbiased(mdm, schedule):
    x = some_texts(mdm, 4, 4)
    exact = exact_mdm(mdm, x, PROMPT)
    copies, maskable = x.repeat(2500, 1), torch.ones(10_000, 5, dtype=torch.bool)
    maskable[:, :PROMPT] = False
    estimates = elbo(mdm, copies, maskable, samples=4, generator=torch.Generator().manual_seed(0), schedule=schedule)
    estimates = estimates.double().reshape(-1, len(x))  # [sample, text]
    error = estimates.std(dim=0) / math.sqrt(len(estimates))
    assert ((estimates.mean(dim=0) - exact.bound).abs() < 4 * error).all()
    # The error is small enough for the test to mean something: the bound is told from the likelihood.
    assert (estimates.mean(dim=0) > exact.nll + 4 * error).any()


def test_the_bound_is_a_mean_over_the_number_of_masks(mdm):
    """E_k [ n/k sum_{masked} -log p ], k uniform on 1..n, the k masks any k of the n tokens."""
    n = 4
    x = some_texts(mdm, n, 6)
    total = torch.zeros(len(x), dtype=torch.float64)
    for k in range(1, n + 1):
        choices = list(itertools.combinations(range(PROMPT, PROMPT + n), k))
        for hidden in choices:
            loss = -log_p(mdm, x, hidden)[:, list(hidden)].sum(dim=1)
            total += n / k * loss / len(choices) / n
    assert torch.allclose(exact_mdm(mdm, x, PROMPT).bound, total, atol=1e-5)


def test_an_arms_likelihood_is_the_product_of_its_conditionals(arm):
    x = every_text(arm, 3)[::7]
    total = torch.zeros(len(x), dtype=torch.float64)
    for position in range(PROMPT, 4):
        logits, _ = arm.next_token_logits(x[:, :position])
        total -= logits.detach().double().log_softmax(dim=-1).gather(-1, x[:, position, None])[:, 0]
    assert torch.allclose(exact_arm(arm, x, PROMPT), total, atol=1e-5)


def test_an_arms_probabilities_of_all_texts_sum_to_one(arm):
    assert (-exact_arm(arm, every_text(arm, 3), PROMPT)).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_all_sequences_are_different_and_begin_with_the_prompt():
    texts = all_sequences(torch.tensor([1, 9]), [4, 5, 6], 2)
    assert texts.shape == (9, 4)
    assert len(texts.unique(dim=0)) == 9
    assert (texts[:, :2] == torch.tensor([1, 9])).all()
    assert set(texts[:, 2:].flatten().tolist()) == {4, 5, 6}


def test_too_many_or_too_few_free_tokens_are_refused(mdm):
    x = torch.ones(1, 10, dtype=torch.long)
    for prompt_length in (1, 10, 11):
        with pytest.raises(InputError, match="after the prompt"):
            exact_mdm(mdm, x, prompt_length)
    with pytest.raises(InputError, match="limited to n = 1 to 3"):
        exact_mdm(mdm, x, 6, limit=3)
    with pytest.raises(InputError, match="first token of a shifted model"):
        exact_mdm(mdm, x[:, :4], 0)


def test_an_arms_likelihood_of_its_first_token_is_refused(arm):
    with pytest.raises(InputError):
        exact_arm(arm, torch.ones(1, 4, dtype=torch.long), 0)
