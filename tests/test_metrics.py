"""The metrics against closed forms, scipy and each other, and the floors they stand on."""

from __future__ import annotations

import math
from functools import partial

import pytest
import scipy.stats
import torch

from diffutils.datasets import grid_mixture, swiss_roll
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.metrics import (
    Floor,
    coverage,
    energy_distance,
    expected_coverage,
    median_bandwidth,
    mmd,
    mode_coverage,
    over_floor,
    real_floor,
    sliced_wasserstein,
)

METRICS = [partial(sliced_wasserstein, projections=50), energy_distance, mmd]


def normal(n, d=2, *, seed, shift=0.0, scale=1.0, dtype=torch.float32):
    return shift + scale * torch.randn(n, d, generator=make_generator(seed), dtype=dtype)


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_zero_between_equal_sets_symmetric_and_grows_with_the_shift(metric):
    x = normal(300, seed=0)
    y = normal(200, seed=1)
    assert metric(x, x) == pytest.approx(0.0, abs=1e-6)
    assert metric(x, y) == pytest.approx(metric(y, x), rel=1e-9)
    distances = [metric(x, y + shift) for shift in (0.5, 1.0, 2.0)]
    assert metric(x, y) < distances[0] < distances[1] < distances[2]


def test_sliced_wasserstein_of_a_shift_is_the_shift_over_sqrt_d():
    # Every direction u sees W_2 = |u.c|, and E (u.c)^2 = |c|^2 / d: a mean of W_2, or W_1, would give 2/pi |c| in 2-D.
    x = normal(500, seed=0)
    shift = torch.tensor([3.0, 4.0])
    # (u.c)^2 has relative standard deviation 1/sqrt 2, so 2,000 directions leave 0.8% on the root.
    assert sliced_wasserstein(x, x + shift, projections=2000) == pytest.approx(5 / math.sqrt(2), rel=0.04)


def test_sliced_wasserstein_of_a_scaling_in_one_dimension():
    # In 1-D W_2(x, c x)^2 = (c - 1)^2 mean(x^2), exactly, for the two empirical laws.
    x = normal(1000, 1, seed=0, dtype=torch.float64)
    expected = 2.0 * x.square().mean().sqrt().item()
    assert sliced_wasserstein(x, 3 * x) == pytest.approx(expected, rel=1e-9)


def test_sliced_wasserstein_repeats_for_a_seed_and_differs_between_seeds():
    x, y = normal(200, seed=0), normal(200, seed=1, shift=0.3)
    assert sliced_wasserstein(x, y, seed=3) == sliced_wasserstein(x, y, seed=3)
    assert sliced_wasserstein(x, y, seed=3) != sliced_wasserstein(x, y, seed=4)


def test_energy_distance_in_one_dimension_is_scipys():
    x, y = normal(200, 1, seed=0), normal(150, 1, seed=1, shift=0.4, scale=1.5)
    expected = scipy.stats.energy_distance(x.flatten().numpy(), y.flatten().numpy())
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_mmd_between_gaussians_has_its_closed_form():
    # E k(X, Y) for X - Y ~ N(c, v I) in d dimensions: (b^2 / (b^2 + v))^(d/2) exp(-|c|^2 / (2 (b^2 + v))).
    b, c, d = 1.3, 2.0, 2
    x, y = normal(4000, seed=0), normal(4000, seed=1) + torch.tensor([c, 0.0])
    within = (b**2 / (b**2 + 2)) ** (d / 2)
    exact = math.sqrt(2 * within * (1 - math.exp(-(c**2) / (2 * (b**2 + 2)))))
    # Ten seeds gave a standard deviation of 0.007 at most; the kernel exp(-|x - y|^2 / b^2) would be off by 0.07.
    assert mmd(x, y, bandwidth=b) == pytest.approx(exact, abs=0.04)


def test_the_median_heuristic_is_the_median_distance():
    x, y = normal(3000, seed=0), normal(2000, seed=1)
    # |X - X'| / sqrt 2 is Rayleigh in 2-D: its median is sqrt(2 log 2).
    assert median_bandwidth(x, y) == pytest.approx(math.sqrt(2) * math.sqrt(2 * math.log(2)), rel=0.03)
    assert mmd(x, y) == mmd(x, y, bandwidth=median_bandwidth(x, y))


def test_the_median_is_over_pairs_of_different_points():
    points = torch.tensor([[0.0], [1.0], [3.0]])
    assert median_bandwidth(points[:1], points[1:]) == 2.0


def test_images_are_flattened_and_other_dtypes_accepted():
    x, y = normal(40, 16, seed=0), normal(50, 16, seed=1)
    for metric in METRICS:
        assert metric(x.view(40, 1, 4, 4), y.view(50, 1, 4, 4)) == pytest.approx(metric(x, y), rel=1e-12)
        assert metric(x.double(), y) == pytest.approx(metric(x, y), rel=1e-12)


def test_pairs_of_5000_points_stay_within_their_memory():
    # Nothing of n x n is ever held: what is checked is the size of every block.
    from diffutils import metrics

    x = normal(5000, seed=0, dtype=torch.float64)
    sizes = [block.numel() for block in metrics._blocks(x, x)]
    assert sum(sizes) == 5000**2
    assert max(sizes) <= metrics._BLOCK


def test_blocks_change_nothing(monkeypatch):
    x, y = normal(90, seed=0), normal(70, seed=1)
    whole = energy_distance(x, y), mmd(x, y)
    monkeypatch.setattr("diffutils.metrics._BLOCK", 100)
    # Above 25 rows torch.cdist makes a matrix product: on some processors a point is 1e-8 away from itself then, which
    # is 6e-11 of this energy distance. A block that is left out or counted twice changes it by percents.
    assert (energy_distance(x, y), mmd(x, y)) == pytest.approx(whole, rel=1e-9)


# -- mode coverage -------------------------------------------------------------------------------------------------


def test_real_samples_cover_every_mode():
    mixture = grid_mixture()
    coverage = mode_coverage(mixture.sample(5000, generator=make_generator(0)), mixture)
    assert coverage.found == coverage.modes == 25
    share = 1 - math.exp(-4.5)  # P(chi_2 <= 3)
    assert coverage.real_share_within == pytest.approx(share, abs=1e-12)
    error = math.sqrt(share * (1 - share) / 5000)
    assert abs(coverage.share_within - share) < 5 * error
    assert coverage.histogram.sum() == pytest.approx(1.0)
    # 2 n KL is about chi-squared with 24 degrees of freedom.
    assert 2 * 5000 * coverage.kl < scipy.stats.chi2.ppf(1 - 1e-6, 24)
    assert coverage.total_variation < 0.1


def test_missing_modes_are_missed_and_counted_in_the_distances():
    mixture = grid_mixture()
    half = mixture.means[:10].repeat(50, 1)
    coverage = mode_coverage(half, mixture)
    assert coverage.found == 10
    assert coverage.share_within == 1.0
    assert coverage.total_variation == pytest.approx(0.6)
    assert coverage.kl == pytest.approx(math.log(2.5))


def test_a_mode_with_less_than_its_share_is_not_found():
    mixture = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[0.0], [10.0]]), 1.0)
    samples = torch.cat([torch.zeros(90, 1), torch.full((10, 1), 10.0)])
    assert mode_coverage(samples, mixture).found == 1  # 10 of the 50 due: under a half
    assert mode_coverage(samples, mixture, least=0.15).found == 2


def test_points_near_a_mode_but_outside_it_do_not_find_it():
    mixture = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[0.0], [10.0]]), 1.0)
    coverage = mode_coverage(torch.tensor([[0.0], [13.5]]).repeat(50, 1), mixture)
    assert coverage.found == 1
    assert coverage.histogram.tolist() == [0.5, 0.5]


def test_points_spread_evenly_over_the_grid_find_no_mode():
    # A disc of three standard deviations is 28% of a cell, so an even spread holds 28% of a mode's due.
    mixture = grid_mixture()
    reach = float(mixture.means.max()) * 1.25
    even = reach * (2 * torch.rand(5000, 2, generator=make_generator(0)) - 1)
    assert mode_coverage(even, mixture).found == 0


def test_three_sigma_is_measured_in_each_modes_own_shape():
    covariances = torch.stack([torch.diag(torch.tensor([4.0, 0.01])), torch.eye(2)])
    mixture = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[0.0, 0.0], [20.0, 0.0]]), covariances)
    # 2.5 standard deviations along the long axis, 5 along the short one, 2.9 and 3.1 of the round mode.
    samples = torch.tensor([[5.0, 0.0], [0.0, 0.5], [20.0, 2.9], [20.0, 3.1]])
    assert mode_coverage(samples, mixture).share_within == 0.5


# -- coverage of real points ---------------------------------------------------------------------------------------


def test_coverage_counts_the_real_points_with_a_sample_within_their_ball():
    # Among 0, 1, 3, 7 the nearest other point is 1, 1, 2, 4 away and the second nearest 3, 2, 3, 6 away.
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert coverage(torch.tensor([[-0.9]]), real, k=1) == 0.25
    assert coverage(torch.tensor([[-0.9]]), real, k=2) == 0.5
    assert coverage(torch.tensor([[-0.9], [9.0]]), real, k=2) == 0.75
    assert coverage(torch.tensor([[100.0]]), real, k=3) == 0.0
    # The ball is closed: a sample at its edge counts.
    assert coverage(torch.tensor([[11.0]]), real, k=1) == 0.25


def test_a_point_is_not_its_own_neighbour_and_a_duplicate_is():
    real = torch.tensor([[0.0], [0.0], [5.0]])
    # The duplicates have balls of radius 0, the third one of radius 5.
    assert coverage(torch.tensor([[4.0]]), real, k=1) == pytest.approx(1 / 3)
    assert coverage(torch.tensor([[0.0]]), real, k=1) == 1.0


def test_coverage_of_copies_is_one_and_of_half_the_modes_about_half():
    mixture = grid_mixture()
    real = mixture.sample(2000, generator=make_generator(0))
    assert coverage(real, real, k=1) == 1.0
    left = mixture.sample(4000, generator=make_generator(1))
    left = left[left[:, 0] < -0.3]  # ten of the 25 modes
    full = expected_coverage(len(left), int(0.4 * 2000))
    # The same density of samples and reals there, and nothing elsewhere: ten seeds lay within 0.02.
    assert coverage(left, real) == pytest.approx(0.4 * full, abs=0.04)


@pytest.mark.parametrize(("n", "m", "k"), [(400, 400, 5), (200, 600, 3), (900, 300, 1)])
def test_the_expected_coverage_of_one_law_holds_whatever_the_law(n, m, k):
    exact = expected_coverage(n, m, k=k)
    for draw in (lambda seed, size: normal(size, 3, seed=seed), lambda seed, size: swiss_roll(size, seed=seed)):
        values = torch.tensor([coverage(draw(2 * s, n), draw(2 * s + 1, m), k=k) for s in range(20)])
        assert abs(float(values.mean()) - exact) < 5 * float(values.std()) / math.sqrt(20)
    assert abs(exact - coverage(normal(n, seed=0), normal(m, seed=1, shift=0.7), k=k)) > 0.03


def test_the_expected_coverage_in_small_cases_and_in_the_limit():
    # Two real points and one sample: either of the other two is as likely the nearest.
    assert expected_coverage(1, 2, k=1) == pytest.approx(0.5)
    assert expected_coverage(5000, 5000) == pytest.approx(1 - 2**-5, abs=1e-4)
    assert expected_coverage(10**6, 10, k=1) == pytest.approx(1.0, abs=1e-4)


def test_coverage_takes_images_any_dtype_and_any_block(monkeypatch):
    samples, real = normal(70, 16, seed=0), normal(90, 16, seed=1)
    whole = coverage(samples, real, k=3)
    assert 0 < whole < 1
    assert coverage(samples.view(70, 1, 4, 4).double(), real.view(90, 1, 4, 4), k=3) == whole
    monkeypatch.setattr("diffutils.metrics._BLOCK", 1000)
    assert coverage(samples, real, k=3) == whole


def test_unfit_sets_and_neighbours_are_refused():
    x = normal(10, seed=0)
    for k in (0, 10):
        with pytest.raises(ValueError, match="k must"):
            coverage(x, x, k=k)
        with pytest.raises(ValueError, match="k must"):
            expected_coverage(10, 10, k=k)
    with pytest.raises(ValueError, match="samples must"):
        expected_coverage(0, 10)
    with pytest.raises(ValueError, match="NaN"):
        coverage(torch.full((5, 2), math.nan), x)
    with pytest.raises(ValueError, match="numbers per sample"):
        coverage(normal(10, 3, seed=0), x)


# -- floors --------------------------------------------------------------------------------------------------------


def test_the_floor_of_real_data_is_one_floor():
    mixture = grid_mixture()
    metric = partial(sliced_wasserstein, projections=50)
    floor = real_floor(metric, mixture, 1000, repeats=8)
    assert len(floor.values) == 8 and len(set(floor.values)) == 8
    assert floor.std > 0
    assert floor.mean == pytest.approx(sum(floor.values) / 8)
    real = mixture.sample(1000, generator=make_generator(123))
    ratio = over_floor(metric, real, mixture, floor=floor, repeats=8)
    # One set of reals against eight others; ten seeds gave ratios of 0.86 to 1.14.
    assert 0.6 < ratio < 1.5
    assert over_floor(metric, real + 0.5, mixture, floor=floor, repeats=2) > 5


def test_a_floor_falls_with_the_number_of_samples():
    metric = partial(sliced_wasserstein, projections=20)
    small, large = (real_floor(metric, swiss_roll, n, repeats=4).mean for n in (100, 6400))
    # Like 1 / sqrt(n): 8 times lower; ten seeds gave 4.7 to 10.3.
    assert 2.5 < small / large < 20


def test_a_floors_spread_is_that_of_a_sample_and_its_sets_are_its_own():
    drawn = []

    def draw(n, seed):
        drawn.append(seed)
        return torch.zeros(n, 1)

    values = iter([1.0, 2.0, 4.0, 4.0])
    floor = real_floor(lambda x, y: next(values), draw, 3, repeats=2)
    assert floor.mean == 1.5 and floor.std == pytest.approx(math.sqrt(0.5))
    over_floor(lambda x, y: next(values), torch.zeros(3, 1), draw, floor=floor, repeats=2)
    assert len(drawn) == len(set(drawn)) == 6


def test_a_floor_repeats_for_a_seed():
    first, second, third = (real_floor(energy_distance, swiss_roll, 100, repeats=2, seed=s) for s in (0, 0, 1))
    assert first == second != third


def test_a_draw_may_be_a_function_of_n_and_seed_or_a_mixture():
    mixture = grid_mixture()
    drawn = real_floor(energy_distance, lambda n, seed: mixture.sample(n, generator=make_generator(seed)), 50)
    assert drawn == real_floor(energy_distance, mixture, 50)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_unfit_sets_are_refused(metric):
    x = normal(10, seed=0)
    with pytest.raises(ValueError, match="NaN"):
        metric(x, torch.full((5, 2), math.nan))
    with pytest.raises(ValueError, match="numbers per sample"):
        metric(x, normal(10, 3, seed=0))
    with pytest.raises(ValueError, match="dtype"):
        metric(torch.zeros(4, 2, dtype=torch.int64), x)
    with pytest.raises(ValueError, match="empty"):
        metric(x, torch.empty(0, 2))


def test_unfit_settings_are_refused():
    x = normal(10, seed=0)
    with pytest.raises(ValueError, match="projections"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(ValueError, match="bandwidth"):
        mmd(x, x, bandwidth=0.0)
    with pytest.raises(ValueError, match="median distance"):
        mmd(torch.zeros(10, 2), torch.zeros(10, 2))
    with pytest.raises(ValueError, match="least"):
        mode_coverage(x, grid_mixture(), least=0.0)
    with pytest.raises(ValueError, match="samples"):
        mode_coverage(normal(10, 3, seed=0), grid_mixture())
    with pytest.raises(ValueError, match="repeats"):
        real_floor(energy_distance, swiss_roll, 10, repeats=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_input_gives_the_same_numbers():
    x, y, mixture = normal(300, seed=0), normal(200, seed=1), grid_mixture()
    for metric in METRICS:
        assert metric(x.cuda(), y.cuda()) == metric(x, y)
    assert mode_coverage(x.cuda(), mixture).kl == mode_coverage(x, mixture).kl
    assert over_floor(energy_distance, x.cuda(), mixture, repeats=2) > 1


def test_a_mode_without_weight_is_never_found() -> None:
    law = GaussianMixture(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([[0.0], [5.0], [10.0]]), 0.1)
    assert mode_coverage(law.sample(1000, generator=make_generator(0)), law).found == 2


@pytest.mark.parametrize("seed", [None, -1])
def test_directions_need_a_seed(seed) -> None:
    with pytest.raises(ValueError, match="seed"):
        sliced_wasserstein(torch.zeros(3, 2), torch.zeros(3, 2), seed=seed)


@pytest.mark.parametrize("offset", [1e8, 1.7e9])
@pytest.mark.parametrize("metric", [*METRICS, partial(mmd, bandwidth=0.5)])
def test_distances_are_the_same_far_from_the_origin(metric, offset) -> None:
    x, y = (normal(300, 3, seed=seed, scale=scale, dtype=torch.float64) for seed, scale in ((0, 1.0), (1, 1.2)))
    assert metric(x + offset, y + offset) == pytest.approx(metric(x, y), rel=1e-5)


def test_one_wild_sample_does_not_spoil_the_distances_of_the_others() -> None:
    x, y = normal(300, seed=0, dtype=torch.float64), normal(300, seed=1, shift=0.5, dtype=torch.float64)
    wild = x.index_fill(0, torch.tensor([0]), 1e12)
    assert mmd(wild, y, bandwidth=1.0) == pytest.approx(mmd(x, y, bandwidth=1.0), rel=0.05)


def test_what_draws_no_sets_and_a_floor_of_zero_are_refused_before_any_work() -> None:
    x = normal(30, seed=0)

    def never(x, y):
        pytest.fail("the metric was asked")

    for call in (partial(over_floor, never, x, x), partial(real_floor, never, x, 30)):
        with pytest.raises(ValueError, match="draw must be a function .n, seed=....* got 'Tensor'"):
            call()
    with pytest.raises(ValueError, match="floor.mean must be positive"):
        over_floor(never, x, swiss_roll, floor=Floor(0.0, 0.0, (0.0, 0.0)))
