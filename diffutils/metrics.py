r"""Distances between two sets of samples, what a set covers, and how good each number can be.

Home chapter: 1, overview of generative models.

Three distances between samples x_1..x_n of p and y_1..y_m of q. Each is zero in the limit only if p = q, and each is
given as the distance itself, not its square:

- sliced Wasserstein, SW_2(p, q) = sqrt( E_u[ W_2(u.p, u.q)^2 ] ), u uniform on the unit sphere: the root mean square
  over directions of the exact 1-D distance, in the units of the data;
- energy distance, sqrt( 2 E|X - Y| - E|X - X'| - E|Y - Y'| );
- maximum mean discrepancy, sqrt( E k(X, X') + E k(Y, Y') - 2 E k(X, Y) ), k a Gaussian kernel.

Between two finite sets none of these is zero, not even when both sets come from the same law. So a distance is read
against its floor: the same metric between two independent sets of real data of the same size (``real_floor``), and a
model's result is best given in floors (``over_floor``). One floor is as good as real data.

Two numbers say what a set of samples covers: ``mode_coverage`` where the modes are known, and ``coverage`` where there
are real points only, the share of them that have a sample nearby. For samples as good as real data its expected value
is known in closed form (``expected_coverage``).

All of them compute in float64 on the CPU whatever the device and dtype of the input, so that a number does not depend
on either, and take pairs of points block by block, so that 5,000 against 5,000 need well under 200 MB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import ot
import torch
from scipy.stats import chi2
from torch import Tensor

from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.validation import check_data, check_float, check_int, require

# Entries of one block of pairwise distances: 2 million float64 are 16 MB.
_BLOCK = 2_000_000

Metric = Callable[[Tensor, Tensor], float]
Draw = Callable[..., Tensor] | GaussianMixture


def _pair(x: Tensor, y: Tensor, names: tuple[str, str] = ("x", "y")) -> tuple[Tensor, Tensor]:
    """Return both sets as float64 CPU tensors (n, d), moved so that x lies about 0; ``names`` are the callers'."""
    x, y = (check_data(*both).detach().cpu().double().flatten(1) for both in zip(names, (x, y)))
    as_many = f"as many numbers per sample as {names[0]} has: {x.shape[1]}"
    require(x.shape[1] == y.shape[1], f"{names[1]}.shape[1:]", y.shape[1], as_many)
    # Distances stay as they are, but far from the origin the matrix product of cdist would lose their digits. Medians,
    # not means: one wild sample would carry a mean far off.
    origin = x.median(dim=0).values
    return x - origin, y - origin


def sliced_wasserstein(x: Tensor, y: Tensor, *, projections: int = 200, seed: int = 0) -> float:
    """Return the sliced 2-Wasserstein distance between two sets of samples, in the units of the data.

    The 1-D distances along the random directions are exact and are computed by the POT library.

    Args:
        x: samples (n, ...); images are flattened.
        y: samples (m, ...) with as many numbers each.
        projections: how many random directions are averaged.
        seed: seed of the directions; the same seed gives the same directions for every pair of sets.

    Raises:
        ValueError: for data that is not finite, sets of different dimension, no projection or a seed below 0.

    Source: Bonneel, Rabin, Peyre and Pfister, 2015, Sliced and Radon Wasserstein barycenters of measures, section 3.
    """
    x, y = _pair(x, y)
    check_int("projections", projections, 1)
    check_int("seed", seed, 0)
    directions = np.random.default_rng(seed).standard_normal((x.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    distance = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=directions, p=2)
    return float(distance)


def _blocks(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    for rows in x.split(max(1, _BLOCK // len(y))):
        yield torch.cdist(rows, y)


def _mean_over_pairs(x: Tensor, y: Tensor, function: Callable[[Tensor], Tensor]) -> float:
    return sum(function(distances).sum().item() for distances in _blocks(x, y)) / (len(x) * len(y))


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return the energy distance between two sets of samples, in the square root of the units of the data.

    The sums run over all pairs, a point with itself included, which makes it a distance between the two empirical
    laws: never negative, and zero for equal sets. In one dimension it is what ``scipy.stats.energy_distance`` gives.

    Args:
        x: samples (n, ...); images are flattened.
        y: samples (m, ...) with as many numbers each.

    Raises:
        ValueError: for data that is not finite, or sets of different dimension.

    Source: Szekely and Rizzo, 2013, Energy statistics: a class of statistics based on distances, equation 2.5.
    """
    x, y = _pair(x, y)
    between, within_x, within_y = (_mean_over_pairs(a, b, lambda r: r) for a, b in ((x, y), (x, x), (y, y)))
    return math.sqrt(max(0.0, 2 * between - within_x - within_y))


def median_bandwidth(x: Tensor, y: Tensor, *, at_most: int = 2000) -> float:
    """Return the median distance between two different points of the pooled sets, in the units of the data.

    Args:
        x: samples (n, ...).
        y: samples (m, ...).
        at_most: pool at most this many points, evenly spaced in each set, so that memory stays bounded.

    Raises:
        ValueError: for data that is not finite, or sets of different dimension, or when most points are equal.

    Source: Gretton et al., 2012, A kernel two-sample test, section 8.
    """
    x, y = _pair(x, y)
    check_int("at_most", at_most, 4)
    stride = math.ceil((len(x) + len(y)) / at_most)
    distances = torch.nn.functional.pdist(torch.cat([x[::stride], y[::stride]]))
    require(len(distances) > 0, "x and y", f"{len(x) + len(y)} points", "at least two points together")
    median = distances.median().item()
    require(median > 0, "median distance", median, "positive (most points are equal: give a bandwidth)")
    return median


def mmd(x: Tensor, y: Tensor, *, bandwidth: float | None = None) -> float:
    """Return the maximum mean discrepancy with the kernel exp(-|x - y|^2 / (2 bandwidth^2)), a number without units.

    The biased estimate, all pairs included: never negative, and zero for equal sets.

    Args:
        x: samples (n, ...); images are flattened.
        y: samples (m, ...) with as many numbers each.
        bandwidth: of the kernel, in the units of the data; None takes the median heuristic (``median_bandwidth``). A
            kernel as wide as the data sees where mass lies and is nearly blind to detail much finer than itself.

    Raises:
        ValueError: for data that is not finite, or sets of different dimension, or a bandwidth that is not positive.

    Source: Gretton et al., 2012, A kernel two-sample test, equation 5.
    """
    x, y = _pair(x, y)
    width = median_bandwidth(x, y) if bandwidth is None else check_float("bandwidth", bandwidth, 0.0)

    def kernel(distances: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distances / width) ** 2)

    between, within_x, within_y = (_mean_over_pairs(a, b, kernel) for a, b in ((x, y), (x, x), (y, y)))
    return math.sqrt(max(0.0, within_x + within_y - 2 * between))


@dataclass(frozen=True)
class ModeCoverage:
    """Which modes of a known mixture a set of samples reaches, and how evenly.

    Attributes:
        found: how many modes hold at least ``least`` of the samples they should hold.
        modes: how many modes there are.
        share_within: share of the samples within three standard deviations of some mode (precision).
        real_share_within: what ``share_within`` is for real data where the modes do not overlap.
        histogram: (modes,) share of the samples whose nearest mode this is; sums to 1.
        total_variation: between that histogram and the mixture's weights, 0 to 1.
        kl: KL(histogram || weights) in nats; an empty mode adds nothing to it.
    """

    found: int
    modes: int
    share_within: float
    real_share_within: float
    histogram: Tensor
    total_variation: float
    kl: float


def mode_coverage(
    samples: Tensor, mixture: GaussianMixture, *, least: float = 0.5, radius: float = 3.0
) -> ModeCoverage:
    """Count the modes of a mixture that samples reach.

    A mode counts as found when the samples within ``radius`` standard deviations of it (Mahalanobis distance, no other
    mode nearer) number at least ``least`` of what real data would put there on average, n w_k P(chi_d <= radius). Keep
    ``least`` high enough that points spread evenly find nothing: on the 5x5 grid an even spread puts 0.28 of its due in
    every mode.

    Args:
        samples: (n, d).
        mixture: the law the samples should follow, K modes in d dimensions.
        least: the share of its due that a mode must hold, in (0, 1].
        radius: in standard deviations.

    Raises:
        ValueError: for samples that are not finite or of the wrong dimension, or a share or radius out of range.

    Source: the modes and high-quality samples of Srivastava et al., 2017, VEEGAN, section 5.1, with a stricter "found".
    """
    check_data("samples", samples, dim=mixture.dim)
    check_float("least", least, 0.0, 1.0, inclusive=True)
    require(least > 0, "least", least, "a number in (0, 1]")
    check_float("radius", radius, 0.0)
    weights = mixture.weights.cpu().double()
    distance, nearest = mixture.mahalanobis(samples.detach().cpu().double()).min(dim=1)
    within = distance <= radius
    real_share = float(chi2.cdf(radius**2, df=mixture.dim))
    held = torch.bincount(nearest[within], minlength=mixture.components) / len(samples)
    histogram = torch.bincount(nearest, minlength=mixture.components).double() / len(samples)
    return ModeCoverage(
        found=int(((held >= least * real_share * weights) & (weights > 0)).sum()),
        modes=mixture.components,
        share_within=float(within.double().mean()),
        real_share_within=real_share,
        histogram=histogram,
        total_variation=float(0.5 * (histogram - weights).abs().sum()),
        kl=float(torch.special.xlogy(histogram, histogram / weights).sum()),
    )


def coverage(samples: Tensor, real: Tensor, *, k: int = 5) -> float:
    """Return the share of real points that have a sample nearby, from 0 to 1.

    Nearby means within the distance to the k-th nearest other real point. Samples far from all data neither help nor
    hurt, so coverage judges diversity only; it does not reach 1 for perfect samples (``expected_coverage``).

    Args:
        samples: what a model made, (n, ...); images are flattened.
        real: real points (m, ...) with as many numbers each, more than k of them.
        k: which neighbour sets the radius.

    Raises:
        ValueError: for data that is not finite, sets of different dimension, or k outside 1..m-1.

    Source: Naeem, Oh, Uh, Choi and Yoo, 2020, Reliable fidelity and diversity metrics for generative models.
    """
    samples, real = _pair(samples, real, ("samples", "real"))
    require(len(real) > 1, "real.shape", tuple(real.shape), "at least two points, so that one has a neighbour")
    check_int("k", k, 1, len(real) - 1)
    rows = max(1, _BLOCK // max(len(real), len(samples)))
    # Exact zeros between equal points: the matrix product that cdist uses for large sets would round them.
    distances = partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    covered = 0
    for first in range(0, len(real), rows):
        block = real[first : first + rows]
        among_real = distances(block, real)
        # A point is no neighbour of itself, though its duplicates are.
        among_real[torch.arange(len(block)), torch.arange(first, first + len(block))] = math.inf
        radius = among_real.kthvalue(k, dim=1).values
        covered += int((distances(block, samples).amin(dim=1) <= radius).sum())
    return covered / len(real)


def expected_coverage(samples: int, real: int, *, k: int = 5) -> float:
    """Return the expected ``coverage`` when samples and real points follow one law with a density, whatever it is.

    Around a real point, rank the other real points and the samples by distance: every order is equally likely. The
    point is missed when the k nearest are all real, so

        E[coverage] = 1 - (m-1)(m-2)...(m-k) / ((n+m-1)(n+m-2)...(n+m-k)),     about 1 - 2^-k for n = m.

    Args:
        samples: how many samples n.
        real: how many real points m.
        k: which neighbour sets the radius.

    Raises:
        ValueError: for n below 1, or k outside 1..m-1.

    Source: Naeem, Oh, Uh, Choi and Yoo, 2020, where the same expectation is derived.
    """
    check_int("samples", samples, 1)
    check_int("k", k, 1, check_int("real", real, 2) - 1)
    missed = 1.0
    for j in range(1, k + 1):
        missed *= (real - j) / (samples + real - j)
    return 1.0 - missed


@dataclass(frozen=True)
class Floor:
    """A metric between independent sets of real data: ``mean`` and ``std`` over ``values``, one per repeat."""

    mean: float
    std: float
    values: tuple[float, ...]


def _real_sets(draw: Draw, n: int, count: int, seed: int) -> Iterator[Tensor]:
    good = hasattr(draw, "sample") or callable(draw)
    require(good, "draw", type(draw).__name__, "a function (n, seed=...) or an object with a method sample")
    seeds = torch.randint(2**31, (count,), generator=make_generator(seed)).tolist()
    for each in seeds:
        if hasattr(draw, "sample"):
            yield draw.sample(n, generator=make_generator(each))
        else:
            yield draw(n, seed=each)


def real_floor(metric: Metric, draw: Draw, n: int, *, repeats: int = 5, seed: int = 0) -> Floor:
    """Measure a metric between two independent sets of ``n`` real samples: the least a model can be asked for.

    Args:
        metric: a function of two sets, ``sliced_wasserstein`` say; arguments are bound with ``functools.partial``.
        draw: where real data comes from: called as ``draw(n, seed=...)`` (every toy set of ``diffutils.datasets`` can
            be), or anything with ``.sample(n, generator=...)``, a ``GaussianMixture`` say.
        n: samples in each set; a floor holds for its n only.
        repeats: how many fresh pairs are measured, at least 2.
        seed: of the sets drawn.

    Raises:
        ValueError: for n below 1, fewer than 2 repeats, or a ``draw`` of another kind.
    """
    check_int("n", n, 1)
    check_int("repeats", repeats, 2)
    sets = _real_sets(draw, n, 2 * repeats, seed)
    values = tuple(metric(first, next(sets)) for first in sets)
    return Floor(float(np.mean(values)), float(np.std(values, ddof=1)), values)


def over_floor(
    metric: Metric, samples: Tensor, draw: Draw, *, floor: Floor | None = None, repeats: int = 5, seed: int = 0
) -> float:
    """Return a metric between samples and real data, in floors: 1 is as good as real data.

    Args:
        metric: a function of two sets.
        samples: (n, ...), what a model generated.
        draw: where real data comes from, as for ``real_floor``.
        floor: ``real_floor(metric, draw, n, ...)`` where it is known already; None measures it.
        repeats: how many fresh real sets of size n the samples are compared with; the mean is taken.
        seed: of the sets drawn; they differ from those of ``real_floor`` with the same seed.

    Raises:
        ValueError: for samples that are not finite, fewer than 1 repeat, a ``draw`` of another kind or a floor of 0.
    """
    check_data("samples", samples)
    check_int("repeats", repeats, 1)
    floor = floor or real_floor(metric, draw, len(samples), repeats=max(2, repeats), seed=seed)
    require(floor.mean > 0, "floor.mean", floor.mean, "positive: a result in floors is a ratio to it")
    distances = [metric(samples, real) for real in _real_sets(draw, len(samples), repeats, seed + 1)]
    return float(np.mean(distances)) / floor.mean
