"""Measures of likeness and choosiness, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from mdmcourse.errors import InputError
from mdmcourse.lens import cosine_similarity, linear_cka, resampled_cka, selectivity


def test_similarity_and_selectivity_by_hand():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert math.isclose(linear_cka(x, 3 * x @ rotation + 1), 1, abs_tol=1e-6)
    assert linear_cka(x, torch.randn(400, 6, generator=generator)) < 0.1
    # Against the definition by kernels: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))
    y = torch.randn(400, 5, generator=generator) + x[:, :5]
    centre = torch.eye(400) - 1 / 400
    k, l = (centre @ (z @ z.T) @ centre for z in (x, y))  # noqa: E741
    by_kernels = float((k * l).sum() / (k.norm() * l.norm()))
    assert math.isclose(linear_cka(x, y), by_kernels, rel_tol=1e-4)
    assert math.isclose(cosine_similarity(x, 2 * x), 1, abs_tol=1e-6)
    assert math.isclose(cosine_similarity(x, -x), -1, abs_tol=1e-6)
    for bad in (lambda: linear_cka(x, x[:3]), lambda: linear_cka(x[:1], x[:1]), lambda: linear_cka(x, 0 * x)):
        with pytest.raises(InputError):
            bad()
    one, same = torch.zeros(1, 8, 1), torch.ones(1, 8, 1)
    one[0, 3] = -2
    assert math.isclose(float(selectivity(one)), 1, abs_tol=1e-6)
    assert math.isclose(float(selectivity(same)), 0, abs_tol=1e-6)
    with pytest.raises(InputError):
        selectivity(one[:, :1])


def test_resampled_cka_is_that_of_repeated_tokens():
    """Where a few giants dwarf all others too, as in real residual streams."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator) + 100
    x[:2] *= 1000
    y = torch.randn(40, 5, generator=generator) + x[:, :5]
    drawn = [torch.arange(40), *(torch.randint(40, (n,), generator=generator) for n in (40, 40, 25))]
    counts = torch.stack([each.bincount(minlength=40).float() for each in drawn])
    found = resampled_cka(x, y, counts)
    for each, value in zip(drawn, found.tolist(), strict=True):
        assert math.isclose(value, linear_cka(x[each], y[each]), rel_tol=1e-6)
    assert resampled_cka(x, y, torch.eye(40)[:1]).isnan().all()
    with pytest.raises(InputError):
        resampled_cka(x, y[:3], counts)
