"""The oracle against autograd, torch's own mixtures, quadrature and Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from diffutils import quadrature
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.quadrature import normal_nodes
from diffutils.schedule import Schedule

DIMS = (1, 2, 5)


def mixture(dim: int, components: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0) -> GaussianMixture:
    """A mixture with unequal weights and full covariances of unlike shape."""
    generator = make_generator(seed)
    factors = torch.randn(components, dim, dim, generator=generator, dtype=torch.float64)
    covariances = 0.3 * factors @ factors.mT + 0.1 * torch.eye(dim, dtype=torch.float64)
    means = 1.5 * torch.randn(components, dim, generator=generator, dtype=torch.float64)
    weights = torch.arange(1, components + 1, dtype=torch.float64)
    return GaussianMixture(weights / weights.sum(), means.to(dtype), covariances)


def points(n: int, dim: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return 1.5 * torch.randn(n, dim, generator=make_generator(seed), dtype=dtype)


def reference(law: GaussianMixture, alpha_bar: float = 1.0) -> MixtureSameFamily:
    """q_t built from torch.distributions and the definition of the forward process."""
    covariances = alpha_bar * law.covariances + (1.0 - alpha_bar) * torch.eye(law.dim, dtype=law.dtype)
    normals = MultivariateNormal(math.sqrt(alpha_bar) * law.means, covariances)
    return MixtureSameFamily(Categorical(law.weights), normals)


def two_gaussians() -> GaussianMixture:
    """One dimension, unequal everything: the example of most by-hand checks."""
    means = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.3, 0.7]), means, torch.tensor([0.25, 0.09]))


# -- the law ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("alpha_bar", (1.0, 0.7, 1e-3, 0.0))
def test_log_prob_of_the_diffused_mixture_equals_torch(dim, alpha_bar):
    law, x = mixture(dim), points(20, dim)
    torch.testing.assert_close(law.diffused(alpha_bar).log_prob(x), reference(law, alpha_bar).log_prob(x))


def test_moments_are_those_of_torch():
    law = mixture(3)
    torch.testing.assert_close(law.mean, reference(law).mean)
    torch.testing.assert_close(law.covariance.diagonal(), reference(law).variance)
    x = law.sample(200_000, generator=make_generator(3))
    torch.testing.assert_close(x.T.cov(), law.covariance, atol=0.05, rtol=0.0)


@pytest.mark.parametrize("dim", DIMS)
def test_samples_have_the_law(dim):
    """Each component's Mahalanobis-squared is chi^2, its share its weight; the log density averages to -entropy."""
    law, n = mixture(dim), 40_000
    x = law.sample(n, generator=make_generator(4))
    share = law.responsibilities(x).mean(dim=0)
    error = law.responsibilities(x).std(dim=0) / math.sqrt(n)
    assert ((share - law.weights).abs() / error).max() < 5
    mean_error = (x.mean(dim=0) - law.mean).abs() / (law.covariance.diagonal() / n).sqrt()
    assert mean_error.max() < 5
    one = GaussianMixture(torch.ones(1), law.means[:1], law.covariances[:1])
    z2 = one.mahalanobis(one.sample(n, generator=make_generator(5))).square()[:, 0]
    assert abs(z2.mean() - dim) / math.sqrt(2 * dim / n) < 5


def test_a_seed_is_no_generator() -> None:
    with pytest.raises(ValueError, match="generator must be a torch.Generator or None, got 'int'"):
        GaussianMixture(torch.ones(1), torch.zeros(1, 2), 1.0).sample(3, generator=0)


def test_sampling_follows_the_generator_and_leaves_the_global_one_alone():
    law = mixture(2)
    state = torch.get_rng_state()
    a, b, c = (law.sample(50, generator=make_generator(seed)) for seed in (7, 7, 8))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dim", (2, 5))
def test_signs_of_eigenvectors_do_not_matter(dim):
    """Eigenvectors are defined up to sign; and LAPACK's 2 x 2 ones are symmetric, which would hide a transposition."""
    law, flipped, x = mixture(dim), mixture(dim), points(7, dim)
    flipped._basis[..., 0] *= -1
    for name in ("score_t", "expected_x0", "expected_eps"):
        torch.testing.assert_close(getattr(law, name)(x, 0.5), getattr(flipped, name)(x, 0.5))
    torch.testing.assert_close(law.covariances, flipped.covariances)
    sample = flipped.sample(100_000, generator=make_generator(2))
    torch.testing.assert_close(sample.T.cov(), law.covariance, atol=0.1, rtol=0.0)
    if dim == 2:
        assert law.entropy() == pytest.approx(flipped.entropy(), abs=1e-8)
        assert law.bayes_loss(0.5) == pytest.approx(flipped.bayes_loss(0.5), abs=1e-8)


def test_isotropic_and_full_covariances_agree():
    means, weights = points(3, 2), torch.tensor([0.2, 0.3, 0.5])
    variances = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    short = GaussianMixture(weights, means, variances)
    full = GaussianMixture(weights, means, torch.diag_embed(variances[:, None].expand(3, 2)))
    x = points(9, 2, seed=5)
    torch.testing.assert_close(short.covariances, full.covariances)
    for name in ("score_t", "expected_eps", "expected_x0", "responsibilities"):
        torch.testing.assert_close(getattr(short, name)(x, 0.4), getattr(full, name)(x, 0.4))
    assert short.bayes_loss(0.4) == pytest.approx(full.bayes_loss(0.4), abs=1e-12)
    torch.testing.assert_close(GaussianMixture(weights, means, 0.5).covariances[0], 0.5 * torch.eye(2).double())


# -- score, eps and x0 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("alpha_bar", (1.0, 0.9, 0.05))
def test_score_is_the_gradient_of_log_prob(dim, alpha_bar):
    law, x = mixture(dim), points(20, dim).requires_grad_()
    (gradient,) = torch.autograd.grad(reference(law, alpha_bar).log_prob(x).sum(), x)
    torch.testing.assert_close(law.score_t(x.detach(), alpha_bar), gradient)
    torch.testing.assert_close(law.diffused(alpha_bar).score(x.detach()), gradient)


@pytest.mark.parametrize("dim", DIMS)
def test_expected_eps_and_x0_obey_the_forward_process(dim):
    """x_t = sqrt(ab) E[x0 | x_t] + sqrt(1 - ab) E[eps | x_t], and Tweedie's formula links x0 to the score."""
    law, x, alpha_bar = mixture(dim), points(20, dim), 0.37
    eps, x0 = law.expected_eps(x, alpha_bar), law.expected_x0(x, alpha_bar)
    torch.testing.assert_close(math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * eps, x)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reference(law, alpha_bar).log_prob(leaf).sum(), leaf)
    torch.testing.assert_close(eps, -math.sqrt(1 - alpha_bar) * gradient)
    torch.testing.assert_close(x0, (x + (1 - alpha_bar) * gradient) / math.sqrt(alpha_bar))


def test_expected_x0_equals_an_integral_over_the_posterior():
    """E[x0 | x_t] by Bayes' rule on a grid of x0, with no mixture formula in it; the prior's average is refuted."""
    law, alpha_bar, x_t = two_gaussians(), 0.5, 0.4
    x0 = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    prior = law.log_prob(x0[:, None]).exp()
    likelihood = Normal(math.sqrt(alpha_bar) * x0, math.sqrt(1 - alpha_bar)).log_prob(x0.new_tensor(x_t)).exp()
    posterior = prior * likelihood / (prior * likelihood).sum()
    point = torch.tensor([[x_t]], dtype=torch.float64)
    assert float(law.expected_x0(point, alpha_bar)) == pytest.approx(float((posterior * x0).sum()), abs=1e-9)
    conditional = (math.sqrt(alpha_bar) * x0 - x_t) / (1 - alpha_bar)
    assert float(law.score_t(point, alpha_bar)) == pytest.approx(float((posterior * conditional).sum()), abs=1e-9)
    over_prior = float((prior / prior.sum() * conditional).sum())
    assert abs(float(law.score_t(point, alpha_bar)) - over_prior) > 0.1


def test_expected_eps_is_the_regression_of_eps_on_x_t():
    """Orthogonality: (eps - E[eps | x_t]) is uncorrelated with every function of x_t; z-scores over several."""
    law, alpha_bar, n = mixture(2), 0.6, 100_000
    generator = make_generator(6)
    x0 = law.sample(n, generator=generator)
    eps = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x_t = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * eps
    residual = eps - law.expected_eps(x_t, alpha_bar)
    tests = [torch.ones_like(x_t), x_t, x_t.square(), x_t.sin(), x_t.flip(1), law.expected_eps(x_t, alpha_bar)]
    products = torch.cat([residual * test for test in tests], dim=1)
    z = products.mean(dim=0) / products.std(dim=0) * math.sqrt(n)
    assert z.abs().max() < 5


@pytest.mark.parametrize("dtype, tolerance", ((torch.float32, 2e-5), (torch.float64, 1e-12)))
@pytest.mark.parametrize("name", ("score_t", "expected_eps", "expected_x0"))
def test_one_level_per_sample(name, dtype, tolerance):
    law, x = mixture(2), points(6, 2)
    levels = torch.tensor([1.0, 0.99, 0.5, 0.1, 1e-3, 0.0], dtype=torch.float64)
    one_by_one = torch.cat([getattr(law, name)(x[i : i + 1], float(levels[i])) for i in range(6)])
    together = getattr(law, name)(x.to(dtype), levels.to(dtype))
    assert together.dtype == dtype
    torch.testing.assert_close(together.double(), one_by_one, atol=tolerance, rtol=tolerance)


def test_float32_keeps_its_digits_where_alpha_bar_is_nearly_one():
    """With sigma2 passed, a float32 answer at alpha_bar = 1 - 1e-9 (1 in float32) is right; without, it is lost."""
    law, alpha_bar, sigma2 = two_gaussians(), 1.0 - 1e-9, torch.tensor([1e-9])
    x = torch.tensor([[-1.7], [0.1], [2.2]])
    exact = law.expected_eps(x.double(), alpha_bar).float()
    level = torch.tensor([alpha_bar])
    torch.testing.assert_close(law.expected_eps(x, level, sigma2=sigma2), exact, atol=0.0, rtol=1e-4)
    assert law.expected_eps(x, level).abs().max() == 0.0
    torch.testing.assert_close(law.expected_eps(x, alpha_bar), exact, atol=0.0, rtol=1e-4)


def test_the_ends_of_the_diffusion_are_exact():
    law, x = mixture(2), points(5, 2)
    torch.testing.assert_close(law.expected_x0(x, 1.0), x)
    torch.testing.assert_close(law.expected_eps(x, 1.0), torch.zeros_like(x))
    torch.testing.assert_close(law.expected_x0(x, 0.0), law.mean.expand(5, 2))
    torch.testing.assert_close(law.expected_eps(x, 0.0), x)
    torch.testing.assert_close(law.score_t(x, 0.0), -x)


def test_far_points_stay_finite_in_float32():
    law = mixture(2).to(dtype=torch.float32)
    x = torch.tensor([[1e3, -1e3], [0.0, 5e2]])
    for value in (law.log_prob(x), law.score(x), law.expected_x0(x, 0.999), law.expected_eps(x, 0.999)):
        assert torch.isfinite(value).all()


# -- dtypes and devices -----------------------------------------------------------------------------------------------


def test_answers_follow_the_points_and_samples_follow_the_means():
    law = mixture(2, dtype=torch.float32)
    assert law.sample(3, generator=make_generator(0)).dtype == law.means.dtype == torch.float32
    assert law.log_prob(points(3, 2)).dtype == torch.float64
    assert law.to(dtype=torch.float64).sample(3).dtype == torch.float64
    assert law.to(device="meta").means.device.type == "meta"


def test_a_cpu_generator_serves_a_mixture_on_another_device():
    law = mixture(2, dtype=torch.float32).to(device="meta")
    x = law.sample(4, generator=make_generator(0))
    assert x.device.type == "meta" and x.shape == (4, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu():
    law, x = mixture(2), points(50, 2, torch.float32)
    torch.testing.assert_close(law.expected_eps(x.cuda(), 0.5).cpu(), law.expected_eps(x, 0.5), atol=1e-5, rtol=1e-5)
    moved = law.to(device="cuda", dtype=torch.float32)
    assert moved.sample(5, generator=make_generator(0)).is_cuda
    assert moved.sample(5, generator=make_generator(0, "cuda")).is_cuda


# -- the reverse posterior --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha_bar_s, alpha_bar_t", ((1.0, 0.6), (0.8, 0.6), (0.3, 0.05)))
def test_reverse_posterior_is_bayes_rule_pointwise(alpha_bar_s, alpha_bar_t):
    """log q(x_s | x_t) = log q_s(x_s) + log q(x_t | x_s) - log q_t(x_t), at arbitrary x_s, in 1, 2 and 5 dimensions."""
    for dim in DIMS:
        law, x_t, x_s = mixture(dim), points(1, dim, seed=8)[0], points(30, dim, seed=9)
        step = alpha_bar_t / alpha_bar_s
        kernel = MultivariateNormal(math.sqrt(step) * x_s, (1 - step) * torch.eye(dim, dtype=torch.float64))
        expected = reference(law, alpha_bar_s).log_prob(x_s) + kernel.log_prob(x_t)
        expected = expected - reference(law, alpha_bar_t).log_prob(x_t)
        found = law.reverse_posterior(x_t, alpha_bar_s, alpha_bar_t).log_prob(x_s)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_reverse_posterior_at_time_zero_has_the_expected_x0_for_mean():
    law, x = mixture(3), points(1, 3)
    torch.testing.assert_close(law.reverse_posterior(x[0], 1.0, 0.4).mean, law.expected_x0(x, 0.4)[0])


# -- integrals --------------------------------------------------------------------------------------------------------


def test_quadrature_integrates_the_standard_normal():
    for dim in (1, 2):
        z, w = normal_nodes(dim)
        moments = [float((w * z[:, 0] ** power).sum()) for power in (0, 1, 2, 4, 6)]
        assert moments == pytest.approx([1, 0, 1, 3, 15], abs=1e-6)


def test_entropy_and_kl_of_one_gaussian_are_known():
    for dim in (1, 2):
        law = mixture(dim, components=1)
        logdet = float(torch.logdet(law.covariances[0]))
        entropy = 0.5 * dim * math.log(2 * math.pi * math.e) + 0.5 * logdet
        kl = 0.5 * float(law.covariance.trace() + law.mean.square().sum()) - 0.5 * dim - 0.5 * logdet
        assert law.entropy() == pytest.approx(entropy, abs=1e-9)
        assert law.kl_to_standard_normal() == pytest.approx(kl, abs=1e-9)


def test_entropy_and_kl_of_a_mixture_match_monte_carlo():
    law, alpha_bar, n = mixture(2), 0.8, 200_000
    noisy = law.diffused(alpha_bar)
    x = noisy.sample(n, generator=make_generator(10))
    log_q = noisy.log_prob(x)
    log_p = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()).log_prob(x)
    for draws, value in ((-log_q, law.entropy(alpha_bar)), (log_q - log_p, law.kl_to_standard_normal(alpha_bar))):
        assert abs(draws.mean() - value) / (draws.std() / math.sqrt(n)) < 5


def test_kl_to_standard_normal_falls_at_every_step():
    values = [two_gaussians().kl_to_standard_normal(float(level)) for level in Schedule.linear(200).alpha_bar]
    assert all(later < earlier for earlier, later in zip(values, values[1:]))


def test_bayes_loss_of_one_gaussian_is_known():
    """For N(0, lam I): Var(eps | x_t) = ab lam / (ab lam + 1 - ab) in every dimension."""
    for dim in DIMS:
        law = GaussianMixture(torch.ones(1), torch.ones(1, dim, dtype=torch.float64), 0.2)
        for alpha_bar in (1.0, 0.999, 0.5, 0.01, 0.0):
            known = alpha_bar * 0.2 / (alpha_bar * 0.2 + 1 - alpha_bar)
            assert law.bayes_loss(alpha_bar) == pytest.approx(known, abs=1e-10)


@pytest.mark.parametrize("alpha_bar", (0.98, 0.5, 0.05))
def test_bayes_loss_is_the_loss_of_the_oracle(alpha_bar):
    """Simulated E||eps - E[eps | x_t]||^2 / d against quadrature, and against the Monte Carlo method in 5-D."""
    n = 60_000
    for dim in (1, 2, 5):
        law, generator = mixture(dim), make_generator(11)
        x0 = law.sample(n, generator=generator)
        eps = torch.randn(n, dim, generator=generator, dtype=torch.float64)
        x_t = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * eps
        loss = (eps - law.expected_eps(x_t, alpha_bar)).square().mean(dim=1)
        error = float(loss.std()) / math.sqrt(n)
        exact = law.bayes_loss(alpha_bar, samples=n, generator=make_generator(12))
        assert abs(float(loss.mean()) - exact) < 5 * math.sqrt(2) * error
        worse = (eps - law.expected_eps(x_t, alpha_bar) * 1.1 - 0.05).square().mean(dim=1)
        assert float(worse.mean()) > float(loss.mean())


def test_monte_carlo_agrees_with_quadrature():
    law = mixture(2)
    monte_carlo = law.bayes_loss(0.5, method="monte_carlo", samples=40_000, generator=make_generator(0))
    assert monte_carlo == pytest.approx(law.bayes_loss(0.5, method="quadrature"), rel=0.02)


# -- the oracle as a denoiser -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ("eps", "x0", "v", "score"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_denoiser_answers_in_the_networks_place(prediction, dtype):
    from diffutils.process import convert

    law, schedule = mixture(2), Schedule.linear(100)
    x, t = points(4, 2), torch.tensor([1, 2, 50, 100])
    oracle = law.denoiser(schedule, prediction)
    assert oracle.prediction == prediction
    answer = oracle(x.to(dtype), t)
    assert answer.dtype == dtype and answer.shape == x.shape
    expected = torch.cat([law.expected_eps(x[i : i + 1], float(schedule.alpha_bar[t[i]])) for i in range(4)])
    expected = convert(schedule, expected, x, t, "eps", prediction)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(answer.double(), expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(oracle(x[2:3].to(dtype), 50), answer[2:3])
    torch.testing.assert_close(oracle(x.to(dtype).view(4, 1, 2, 1), t), answer.view(4, 1, 2, 1))


def test_a_float32_denoiser_keeps_its_digits_at_the_first_steps():
    """beta_1 = 1e-8 is lost in a float32 alpha_bar; the oracle must take 1 - alpha_bar from the schedule."""
    law, schedule = two_gaussians(), Schedule.linear(100, 1e-8, 0.02)
    x, t = torch.tensor([[-1.7], [0.4], [2.2]]), torch.tensor([1, 1, 2])
    for prediction in ("eps", "score", "x0"):
        oracle = law.denoiser(schedule, prediction)
        torch.testing.assert_close(oracle(x, t), oracle(x.double(), t).float(), rtol=1e-4, atol=0.0)


# -- bad input --------------------------------------------------------------------------------------------------------

ONE, EYE = torch.ones(1), torch.eye(2)[None]


@pytest.mark.parametrize(
    "weights, means, covariances, named",
    (
        (torch.tensor([0.5, 0.6]), torch.zeros(2, 2), 1.0, "weights"),
        (torch.tensor([1.5, -0.5]), torch.zeros(2, 2), 1.0, "weights"),
        (torch.tensor([math.nan, 1.0]), torch.zeros(2, 2), 1.0, "weights"),
        (torch.ones(3) / 3, torch.zeros(2, 2), 1.0, "weights"),
        ([1.0], torch.zeros(1, 2), 1.0, "weights"),
        (ONE, torch.zeros(2), 1.0, "means"),
        (ONE, torch.zeros(1, 2, dtype=torch.int64), 1.0, "means"),
        (ONE, torch.full((1, 2), math.nan), 1.0, "means"),
        (ONE, torch.zeros(1, 2), 0.0, "covariances"),
        (ONE, torch.zeros(1, 2), -1.0, "covariances"),
        (ONE, torch.zeros(1, 2), math.nan, "covariances"),
        (ONE, torch.zeros(1, 2), torch.tensor([-0.1]), "covariances"),
        (ONE, torch.zeros(1, 2), torch.ones(2), "covariances"),
        (ONE, torch.zeros(1, 2), torch.eye(3)[None], "covariances"),
        (ONE, torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]), "covariances"),
        (ONE, torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]), "covariances"),
        (ONE, torch.zeros(1, 2), torch.full((1, 2, 2), math.nan), "covariances"),
    ),
)
def test_bad_parameters_are_refused_by_name(weights, means, covariances, named):
    with pytest.raises(ValueError, match=named):
        GaussianMixture(weights, means, covariances)


@pytest.mark.parametrize(
    "call, named",
    (
        (lambda m: m.sample(0), "n must"),
        (lambda m: m.log_prob(torch.zeros(3)), "x.shape"),
        (lambda m: m.log_prob(torch.zeros(3, 5)), "x.shape"),
        (lambda m: m.log_prob(torch.zeros(3, 2, 2)), "x.shape"),
        (lambda m: m.log_prob(torch.zeros(3, 2, dtype=torch.int64)), "x.dtype"),
        (lambda m: m.log_prob(torch.full((3, 2), math.nan)), "x must"),
        (lambda m: m.score_t(torch.zeros(3, 2), 1.5), "alpha_bar"),
        (lambda m: m.score_t(torch.zeros(3, 2), -0.1), "alpha_bar"),
        (lambda m: m.score_t(torch.zeros(3, 2), math.nan), "alpha_bar"),
        (lambda m: m.score_t(torch.zeros(3, 2), torch.tensor([0.5, 0.5])), "alpha_bar.shape"),
        (lambda m: m.score_t(torch.zeros(3, 2), torch.tensor([0.5, 2.0, 0.1])), "alpha_bar"),
        (lambda m: m.score_t(torch.zeros(3, 2), torch.tensor([0.5, math.nan, 0.1])), "alpha_bar"),
        (lambda m: m.score_t(torch.zeros(3, 2), 0.5, sigma2=-1.0), "sigma2"),
        (lambda m: m.diffused(2.0), "alpha_bar"),
        (lambda m: m.reverse_posterior(torch.zeros(1, 2), 0.9, 0.5), "x_t.shape"),
        (lambda m: m.reverse_posterior(torch.zeros(2), 0.5, 0.9), "alpha_bar_t"),
        (lambda m: m.reverse_posterior(torch.zeros(2), 1.2, 0.9), "alpha_bar_s"),
        (lambda m: m.bayes_loss(1.1), "alpha_bar"),
        (lambda m: m.bayes_loss(0.5, method="exact"), "method"),
        (lambda m: m.bayes_loss(0.5, method="monte_carlo", samples=0), "samples"),
        (lambda m: m.denoiser(Schedule.linear(50), "noise"), "prediction"),
        (lambda m: m.denoiser(Schedule.linear(50))(torch.zeros(3, 2), 51), "t must"),
        (lambda m: m.to(dtype=torch.int64), "dtype"),
    ),
)
def test_bad_calls_are_refused_by_name(call, named):
    with pytest.raises(ValueError, match=named):
        call(mixture(2))


def test_quadrature_is_refused_beyond_two_dimensions():
    with pytest.raises(ValueError, match="dim"):
        mixture(3).entropy()
    with pytest.raises(ValueError, match="dim"):
        mixture(3).bayes_loss(0.5, method="quadrature")


def test_weights_that_sum_to_nearly_one_are_made_to():
    weights = torch.tensor([0.3, 0.700005], dtype=torch.float64)
    rounded = GaussianMixture(weights, torch.zeros(2, 1, dtype=torch.float64), 1.0)
    assert float(rounded.weights.sum()) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(("narrower", "error"), [(3, 1e-9), (5, 1e-6), (20, 1e-3)])
def test_the_quadrature_in_the_plane_is_as_exact_as_it_says(monkeypatch, narrower, error):
    narrow = torch.eye(2, dtype=torch.float64) / narrower**2
    means = torch.tensor([[0.0, 0.0], [0.5, 0.0]], dtype=torch.float64)
    law = GaussianMixture(torch.full((2,), 0.5), means, torch.stack([torch.eye(2, dtype=torch.float64), narrow]))
    plain = law.kl_to_standard_normal()
    normal_nodes.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(quadrature.SPACING, 2, 0.03)
        fine = law.kl_to_standard_normal()
    normal_nodes.cache_clear()
    assert plain == pytest.approx(fine, abs=error)


def test_the_oracle_has_no_variance_to_give_where_there_is_no_noise():
    schedule = Schedule.linear(25)
    with pytest.raises(ValueError, match="t must be an integer in 1..25, got 0"):
        two_gaussians().denoiser(schedule).with_variance(torch.zeros(3, two_gaussians().dim), 0)
