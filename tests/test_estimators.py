"""Gradient estimators against exact gradients and exact variances; merging of independent noises."""

from __future__ import annotations

import math

import pytest
import torch

from diffutils.device import make_generator
from diffutils.estimators import merge_gaussians, pathwise_gradient, reparameterize, score_function_gradient

N = 40_000
SIGMA = 0.7


def square(x):
    return x.square().sum(dim=1)


def cosine(x):
    return x.cos().sum(dim=1)


def mean_vector(dim: int) -> torch.Tensor:
    return torch.linspace(-1.0, 1.5, dim, dtype=torch.float64)


def exact_gradient(f, mu: torch.Tensor, sigma: float):
    """E|x|^2 = |mu|^2 + d sigma^2 and E sum cos x_i = exp(-sigma^2 / 2) sum cos mu_i, differentiated."""
    if f is square:
        return 2 * mu, 2 * len(mu) * sigma
    damped = math.exp(-(sigma**2) / 2)
    return -damped * mu.sin(), -sigma * damped * float(mu.cos().sum())


def largest_z(estimates, mu: torch.Tensor, sigma: float, f) -> float:
    grad_mu, grad_sigma = exact_gradient(f, mu, sigma)
    columns = torch.cat([estimates.mu - grad_mu, (estimates.sigma - grad_sigma)[:, None]], dim=1)
    return float((columns.mean(dim=0) / columns.std(dim=0) * math.sqrt(len(columns))).abs().max())


@pytest.mark.parametrize("dim", (1, 4))
@pytest.mark.parametrize("f", (square, cosine))
@pytest.mark.parametrize("estimator", (pathwise_gradient, score_function_gradient))
def test_estimators_are_unbiased(estimator, f, dim):
    mu = mean_vector(dim)
    estimates = estimator(f, mu, SIGMA, N, generator=make_generator(0))
    assert estimates.mu.shape == (N, dim) and estimates.sigma.shape == (N,)
    assert largest_z(estimates, mu, SIGMA, f) < 5


def test_a_baseline_changes_the_variance_and_not_the_mean():
    mu = mean_vector(4)
    plain = score_function_gradient(square, mu, SIGMA, N, generator=make_generator(1))
    value = float(mu.square().sum() + 4 * SIGMA**2)
    based = score_function_gradient(square, mu, SIGMA, N, baseline=value, generator=make_generator(1))
    assert largest_z(based, mu, SIGMA, square) < 5
    assert based.mu.var(dim=0).sum() < 0.6 * plain.mu.var(dim=0).sum()


@pytest.mark.parametrize("dim", (1, 3, 10))
def test_variances_for_the_square_are_the_derived_ones(dim):
    """At mu = 0, per coordinate of mu: pathwise 4 sigma^2; score function sigma^2 (d^2 + 6 d + 8) = E|x|^4 eps_i^2."""
    mu, n = torch.zeros(dim, dtype=torch.float64), 200_000
    path = pathwise_gradient(square, mu, SIGMA, n, generator=make_generator(2)).mu[:, 0]
    score = score_function_gradient(square, mu, SIGMA, n, generator=make_generator(3)).mu[:, 0]
    for draws, variance in ((path, 4 * SIGMA**2), (score, SIGMA**2 * (dim + 2) * (dim + 4))):
        squares = draws.square()
        assert abs(float(squares.mean()) - variance) / (float(squares.std()) / math.sqrt(n)) < 5


def test_both_estimators_draw_the_same_noise_from_the_same_generator():
    mu = mean_vector(3)
    path = pathwise_gradient(square, mu, SIGMA, 50, generator=make_generator(4))
    score = score_function_gradient(square, mu, SIGMA, 50, generator=make_generator(4))
    x = path.mu / 2
    torch.testing.assert_close(score.mu, square(x)[:, None] * (x - mu) / SIGMA**2)
    torch.testing.assert_close(path.sigma, (path.mu * (x - mu) / SIGMA).sum(dim=1))


def test_score_function_needs_no_derivative_and_pathwise_says_it_does():
    def step(x):
        return (x[:, 0] > 0).to(x.dtype)

    mu = torch.tensor([0.3], dtype=torch.float64)
    estimates = score_function_gradient(step, mu, SIGMA, N, generator=make_generator(5)).mu[:, 0]
    exact = math.exp(-0.5 * (0.3 / SIGMA) ** 2) / (SIGMA * math.sqrt(2 * math.pi))
    assert abs(float(estimates.mean()) - exact) / (float(estimates.std()) / math.sqrt(N)) < 5
    with pytest.raises(ValueError, match="f must"):
        pathwise_gradient(step, mu, SIGMA, 10)


def test_dtype_follows_mu_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    for estimator in (pathwise_gradient, score_function_gradient):
        estimates = estimator(square, torch.zeros(2), 1.0, 5, generator=make_generator(0))
        assert estimates.mu.dtype == estimates.sigma.dtype == torch.float32
    assert torch.equal(state, torch.get_rng_state())


def test_estimates_work_where_gradients_are_switched_off():
    with torch.no_grad():
        estimates = pathwise_gradient(square, torch.ones(2), 1.0, 5, generator=make_generator(0))
    assert not estimates.mu.requires_grad and estimates.mu.abs().sum() > 0


def test_reparameterize_uses_a_standard_deviation_and_passes_gradients():
    noise = torch.randn(N, generator=make_generator(6), dtype=torch.float64)
    mu, sigma = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.4, 0.5))
    x = reparameterize(mu, sigma, noise)
    variance = float(x.detach().var())
    assert abs(variance - 0.25) / (0.25 * math.sqrt(2 / N)) < 5
    x.sum().backward()
    assert float(mu.grad) == N and float(sigma.grad) == pytest.approx(float(noise.sum()))


def test_merged_noise_is_standard_normal_and_depends_on_both():
    """corr(merged, e_a) = sqrt(a / (a + b)), exactly; z-scores with the standard error of a correlation."""
    a, b = 0.3, 0.1
    e_a, e_b = (torch.randn(N, generator=make_generator(seed), dtype=torch.float64) for seed in (7, 8))
    scale, merged = merge_gaussians(a, b, e_a, e_b)
    torch.testing.assert_close(scale * merged, math.sqrt(a) * e_a + math.sqrt(b) * e_b)
    assert float(scale) == pytest.approx(math.sqrt(a + b))
    assert abs(float(merged.mean())) * math.sqrt(N) < 5
    assert abs(float(merged.var()) - 1.0) / math.sqrt(2 / N) < 5
    assert abs(float((merged**4).mean()) - 3.0) / math.sqrt(96 / N) < 5
    for noise, share in ((e_a, a), (e_b, b)):
        exact = math.sqrt(share / (a + b))
        found = float(torch.corrcoef(torch.stack([merged, noise]))[0, 1])
        assert abs(found - exact) / ((1 - exact**2) / math.sqrt(N)) < 5


def test_merging_with_one_variance_zero_returns_the_other_noise():
    e_a, e_b = torch.randn(2, 10, generator=make_generator(9))
    scale, merged = merge_gaussians(0.0, 0.25, e_a, e_b)
    assert float(scale) == 0.5
    torch.testing.assert_close(merged, e_b)


@pytest.mark.parametrize("estimator", (pathwise_gradient, score_function_gradient))
@pytest.mark.parametrize(
    "f, mu, sigma, n, named",
    (
        (square, torch.zeros(2, 2), 1.0, 5, "mu.shape"),
        (square, torch.zeros(2, dtype=torch.int64), 1.0, 5, "mu.dtype"),
        (square, torch.tensor([math.nan]), 1.0, 5, "mu must"),
        (square, torch.zeros(2), 0.0, 5, "sigma"),
        (square, torch.zeros(2), -1.0, 5, "sigma"),
        (square, torch.zeros(2), math.nan, 5, "sigma"),
        (square, torch.zeros(2), 1.0, 0, "n must"),
        (torch.square, torch.zeros(2), 1.0, 5, "shape"),
    ),
)
def test_bad_arguments_are_refused_by_name(estimator, f, mu, sigma, n, named):
    with pytest.raises(ValueError, match=named):
        estimator(f, mu, sigma, n)


def test_other_bad_arguments_are_refused_by_name():
    e = torch.zeros(3)
    with pytest.raises(ValueError, match="baseline"):
        score_function_gradient(square, torch.zeros(2), 1.0, 5, baseline=math.nan)
    with pytest.raises(ValueError, match="a must"):
        merge_gaussians(-0.1, 0.2, e, e)
    with pytest.raises(ValueError, match="b must"):
        merge_gaussians(0.1, math.nan, e, e)
    with pytest.raises(ValueError, match="positive"):
        merge_gaussians(0.0, 0.0, e, e)
    with pytest.raises(ValueError, match="noise_b.shape"):
        merge_gaussians(0.1, 0.1, e, torch.zeros(1))
    with pytest.raises(ValueError, match="sigma"):
        reparameterize(e, 0.0, e)
    with pytest.raises(ValueError, match="sigma must be positive everywhere, got -1.0"):
        reparameterize(e, torch.tensor([1.0, -1.0]), e)
