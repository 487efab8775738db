"""Errors name the argument, its value and the allowed range."""

import math
import re

import numpy as np
import pytest
import torch

from diffutils.validation import (
    accepts,
    check_bool,
    check_choice,
    check_data,
    check_dtype,
    check_float,
    check_int,
    check_same_shape,
)


@pytest.mark.parametrize("value", [1, 5, np.int64(3), torch.tensor(2)])
def test_check_int_takes_whole_numbers(value):
    assert check_int("steps", value, 1, 5) == int(value)


@pytest.mark.parametrize("value", [0, 6, 2.0, "3", True, None])
def test_check_int_refuses_the_rest(value):
    with pytest.raises(ValueError, match=r"steps must be an integer in 1\.\.5, got"):
        check_int("steps", value, 1, 5)


def test_check_float_is_strict_unless_told_otherwise():
    assert check_float("beta", 0.5, 0, 1) == 0.5
    assert check_float("eta", 1, 0, 1, inclusive=True) == 1.0
    assert check_float("eta", 0, 0, 1, inclusive=True) == 0.0
    for value in (0.0, 1.0, -0.1, math.nan, math.inf, "much", "0.5", True, None):
        with pytest.raises(ValueError, match=r"beta must be a finite number in \(0, 1\), got"):
            check_float("beta", value, 0, 1)


def test_check_bool_takes_no_word_for_it():
    assert check_bool("cosine", True) is True
    for value in ("no", 0, None):
        with pytest.raises(ValueError, match="cosine must be True or False, got"):
            check_bool("cosine", value)


def test_check_choice_lists_the_choices():
    assert check_choice("variance", "beta", ("beta", "beta_tilde")) == "beta"
    with pytest.raises(ValueError, match="variance must be one of 'beta', 'beta_tilde', got 'sigma'"):
        check_choice("variance", "sigma", ("beta", "beta_tilde"))
    with pytest.raises(ValueError, match="variance must be one of 'beta', .* got array"):
        check_choice("variance", torch.ones(3).numpy(), ("beta", "beta_tilde"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0, 2.0]], "x0 must be a torch.Tensor, got 'list'"),
        (torch.zeros(3, 2, dtype=torch.int64), "x0.dtype must be a floating-point dtype"),
        (torch.zeros(3), r"x0.shape must be a shape of at least 2 axes, got \(3,\)"),
        (torch.zeros(0, 2), "x0.shape must be a shape with no empty axis"),
        (torch.zeros(4, 3), "x0.shape must be a shape whose last axis has length 2"),
        (torch.tensor([[0.0, math.nan]]), "x0 must be finite everywhere, got '1 NaN or infinite values'"),
        (torch.tensor([[math.inf, -math.inf]]), "x0 must be finite everywhere, got '2 NaN or infinite values'"),
    ],
)
def test_check_data_names_what_is_wrong(value, message):
    with pytest.raises(ValueError, match=message):
        check_data("x0", value, dim=2)


def test_check_data_returns_good_data_untouched():
    for data in (torch.zeros(3, 2), torch.zeros(3, 5, 2), torch.zeros(1, 2)):
        assert check_data("x0", data, dim=2) is data
    assert check_data("x0", torch.zeros(1, 1)).numel() == 1


def test_the_number_of_axes_may_be_fixed():
    assert check_data("x0", torch.zeros(2, 2, 2), ndim=3).ndim == 3
    with pytest.raises(ValueError, match=r"x0.shape must be a shape of 3 axes, got \(2, 2\)"):
        check_data("x0", torch.zeros(2, 2), ndim=3)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_check_float_refuses_what_is_not_finite_even_without_bounds(value):
    with pytest.raises(ValueError, match="noise must be a finite number"):
        check_float("noise", value, -math.inf, math.inf, inclusive=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_data_pass_even_where_their_sum_is_too_large(dtype) -> None:
    largest = torch.full((2, 3), torch.finfo(dtype).max, dtype=dtype)
    assert check_data("x0", largest) is largest


def test_another_shape_is_refused_by_name() -> None:
    x = torch.zeros(3, 2)
    assert check_same_shape("noise", x, "x0", x) is x
    with pytest.raises(ValueError, match=re.escape("noise.shape must be that of x0, (3, 2), got (2, 3)")):
        check_same_shape("noise", x.T, "x0", x)
    with pytest.raises(ValueError, match="noise must be a torch.Tensor, got 'tuple'"):
        check_same_shape("noise", (x, x), "x0", x)


def test_float64_data_meet_no_smaller_weights() -> None:
    x, model = torch.zeros(2, 3), torch.nn.Linear(3, 3)
    for value, like in ((x, model), (x.double(), model.double()), (x.double(), None), (x.double(), torch.nn.Identity())):
        assert check_dtype("x", value, like) is value
    for dtype in (torch.float32, torch.bfloat16):
        assert check_dtype("x", x, model.to(dtype)) is x
        sentence = rf"x.dtype must be {dtype}, as the model's weights: x.to\({dtype}\), got torch.float64"
        with pytest.raises(ValueError, match=sentence):
            check_dtype("x", x.double(), model.to(dtype))



@pytest.mark.parametrize(
    ("function", "fits"),
    [(lambda x, *, generator: 0, True), (lambda x, generator=None: 0, True), (lambda x, **more: 0, True),
     (lambda x: 0, False), (lambda *, generator: 0, False), (lambda x, y, *, generator: 0, False), (None, False)],
)
def test_whether_a_function_can_be_called_so(function, fits) -> None:
    assert accepts(function, 1, generator=None) is fits
