"""What all widgets do with what they are given: plain data of it, or a clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdmcourse.errors import InputError
from mdmcourse.widgets.data import array, need, numbers, titled, words
from mdmcourse.widgets.packing import packed, read, unpacked


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.bool])
def test_tensors_of_all_types_are_arrays(dtype):
    given = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    assert array(given.float().requires_grad_()).tolist() == array(given).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("given", [[[1, 2]], np.ones((1, 2)), torch.ones(1, 2, dtype=torch.bfloat16)])
def test_numbers_have_the_axes_that_were_asked_for(given):
    assert numbers("It", given, "layer", "pos").shape == (1, 2)
    assert numbers("It", given, "[step]", "layer", "pos").shape == (1, 2)
    with pytest.raises(InputError, match=r"shape \(1, 2\)"):
        numbers("It", given, "pos")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1, 2], [3]], "rows of unequal length"),
        ("text", "of type str"),
        (None, "shape"),
        ([], r"shape \(0,\)"),
        (np.zeros((0, 3)), "shape"),
        ([[1, float("nan")]], "NaN"),
        ([[1, float("inf")]], "NaN or infinity"),
        (object(), "of type object"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        numbers("It", given, "layer", "pos")


@pytest.mark.parametrize("given", [[], "text", [1, 2], None, ["a", None], ["a"]])
def test_what_are_no_tokens_is_refused(given):
    with pytest.raises(InputError, match="The tokens are"):
        words("The tokens", given, 2)


@pytest.mark.parametrize("given", [{}, None, [1], {1: 2}])
def test_what_has_no_titles_is_refused(given):
    with pytest.raises(InputError, match="Pass one"):
        titled("The things", given, "one")


def test_things_are_known_by_what_they_have():
    need("It", np.zeros(2), "array", ["shape", "dtype"], "")
    with pytest.raises(InputError, match="It is of type list, not a array"):
        need("It", [1], "array", ["shape"], "Give one.")


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, ">f4", ">u4"])
@pytest.mark.parametrize("values", [[], [0], [1, 255], [256, 7], [65_536, 1, 0]])
def test_packed_numbers_come_back(values, kind):
    given = np.array(values).astype(kind)
    np.testing.assert_array_equal(read(packed(given)), given)
    assert len(packed(given)) <= 3 + 4 * -(-4 * len(given) // 3)


def test_packed_numbers_are_float32():
    values = np.random.default_rng(0).normal(size=1000) ** 9
    np.testing.assert_array_equal(read(packed(values)), values.astype(np.float32))
    np.testing.assert_array_equal(read(packed(np.array([[1, 2], [3, 4]]).T)), [1, 3, 2, 4])


def test_what_was_not_packed_stays_as_it_was():
    state = {
        "title": "u2:AAAA",
        "packed": {"names": packed(["input", "a0.h0<q>"]), "both": [packed(np.array([2]))] * 2},
    }
    assert unpacked(state) == {"title": "u2:AAAA", "names": ["input", "a0.h0<q>"], "both": [[2], [2]]}
