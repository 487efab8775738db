"""Properties of the mixture's exact answers, for any mixture, noise level and point, looked for by hypothesis."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from properties import examples, normal
from torch import Tensor
from torch.testing import assert_close

from diffutils.distributions import GaussianMixture
from diffutils.process import PREDICTIONS, convert
from diffutils.schedule import Schedule

SCHEDULE = Schedule.cosine(40)


@st.composite
def mixtures(draw: st.DrawFn) -> GaussianMixture:
    """One to four Gaussians in one to three dimensions, with covariances of every form that is taken."""
    components, dim, seed = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 10**6))
    weights = normal((components,), seed).abs() + 0.05
    means = draw(st.floats(0, 3)) * normal((components, dim), seed + 1)
    form = draw(st.sampled_from(["matrices", "variances", "one"]))
    size = draw(st.floats(0.05, 2))
    if form == "one":
        return GaussianMixture(weights / weights.sum(), means, size)
    if form == "variances":
        return GaussianMixture(weights / weights.sum(), means, size * (normal((components,), seed + 2).abs() + 0.1))
    roots = normal((components, dim, dim), seed + 2)
    covariances = size * (roots @ roots.mT + 0.1 * torch.eye(dim, dtype=torch.float64))
    return GaussianMixture(weights / weights.sum(), means, covariances)


def points(mixture: GaussianMixture, seed: int, alpha_bar: float = 1.0) -> Tensor:
    """Five points where the mixture at that noise level has its mass."""
    noisy = mixture.diffused(alpha_bar)
    return noisy.mean + noisy.covariance.diagonal().sqrt() * normal((5, mixture.dim), seed)


@examples(50)
@given(mixtures(), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 10**6))
def test_noise_upon_noise_is_noise(mixture, first, second, seed):
    twice, once = mixture.diffused(first).diffused(second), mixture.diffused(first * second)
    x = points(mixture, seed, first * second)
    assert_close(twice.log_prob(x), once.log_prob(x), rtol=1e-9, atol=1e-9)
    assert_close(once.mean, math.sqrt(first * second) * mixture.mean)
    noise = (1 - first * second) * torch.eye(mixture.dim, dtype=torch.float64)
    assert_close(once.covariance, first * second * mixture.covariance + noise, rtol=1e-9, atol=1e-9)


@examples(50)
@given(mixtures(), st.floats(0.01, 0.99), st.integers(0, 10**6))
def test_what_is_expected_adds_up_to_the_point(mixture, alpha_bar, seed):
    # x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps, and expectations given x_t are linear.
    x = points(mixture, seed, alpha_bar)
    a, s = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    x0, eps = mixture.expected_x0(x, alpha_bar), mixture.expected_eps(x, alpha_bar)
    assert_close(a * x0 + s * eps, x, rtol=1e-9, atol=1e-9)
    assert_close(-s * mixture.score_t(x, alpha_bar), eps, rtol=1e-9, atol=1e-9)
    several = torch.full((5,), alpha_bar, dtype=torch.float64)
    assert_close(mixture.expected_x0(x, several), x0, rtol=1e-9, atol=1e-9)


@examples(50)
@given(mixtures(), st.floats(0.01, 1), st.integers(0, 10**6))
def test_the_score_is_the_gradient_and_its_slope_the_variance(mixture, alpha_bar, seed):
    x = points(mixture, seed, alpha_bar).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.diffused(alpha_bar).log_prob(x).sum(), x)
    assert_close(mixture.score_t(x.detach(), alpha_bar), gradient, rtol=1e-8, atol=1e-8)
    if alpha_bar == 1:
        return
    # the derivative of E[x_0 | x_t] is sqrt(alpha_bar) / (1 - alpha_bar) times Cov(x_0 | x_t)
    expected = mixture.expected_x0(x, alpha_bar)
    slopes = [torch.autograd.grad(expected[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(mixture.dim)]
    variance = mixture.variance_x0(x.detach(), alpha_bar)
    assert_close(variance * math.sqrt(alpha_bar) / (1 - alpha_bar), torch.stack(slopes, dim=1), rtol=1e-7, atol=1e-7)


@examples(50)
@given(mixtures(), st.floats(0.02, 0.98), st.floats(0.02, 0.98), st.integers(0, 10**6))
def test_the_exact_reverse_step_times_the_marginal_is_the_joint(mixture, alpha_bar_s, share, seed):
    # log q(x_s | x_t) + log q(x_t) = log q(x_t | x_s) + log q(x_s)
    alpha_bar_t = alpha_bar_s * share
    x_t, x_s = points(mixture, seed, alpha_bar_t)[0], points(mixture, seed + 5, alpha_bar_s)
    reverse = mixture.reverse_posterior(x_t, alpha_bar_s, alpha_bar_t)
    step = torch.distributions.Normal(math.sqrt(share) * x_s, math.sqrt(1 - share))
    left = reverse.log_prob(x_s) + mixture.diffused(alpha_bar_t).log_prob(x_t[None])
    right = step.log_prob(x_t).sum(dim=1) + mixture.diffused(alpha_bar_s).log_prob(x_s)
    assert_close(left, right, rtol=1e-8, atol=1e-8)


@examples(40)
@given(mixtures(), st.integers(1, 40), st.integers(0, 10**6))
def test_the_oracle_says_one_thing_in_four_ways(mixture, t, seed):
    x = points(mixture, seed, float(SCHEDULE.alpha_bar[t]))
    answers = {name: mixture.denoiser(SCHEDULE, name)(x, t) for name in PREDICTIONS}
    for source in PREDICTIONS:
        for target in PREDICTIONS:
            # at T, where sqrt(alpha_bar) is 1/800, x0 from eps keeps 13 digits
            made = convert(SCHEDULE, answers[source], x, t, source, target)
            assert_close(made, answers[target], rtol=1e-9, atol=1e-9)


@examples(40)
@given(mixtures(), st.integers(0, 10**6))
def test_the_order_of_components_does_not_matter(mixture, seed):
    order = torch.randperm(mixture.components, generator=torch.Generator().manual_seed(seed))
    shuffled = GaussianMixture(mixture.weights[order], mixture.means[order], mixture.covariances[order])
    x = points(mixture, seed)
    assert_close(shuffled.log_prob(x), mixture.log_prob(x), rtol=1e-9, atol=1e-9)
    assert_close(shuffled.responsibilities(x, 0.5), mixture.responsibilities(x, 0.5)[:, order], rtol=1e-8, atol=1e-9)
