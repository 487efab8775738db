"""Objectives against exact values: with the exact denoiser every expected term is an integral known beforehand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from diffutils.datasets import grid_mixture
from diffutils.distributions import GaussianMixture
from diffutils.objectives import Bound, l_simple, prior_term, simple_weight, variational_bound
from diffutils.process import posterior
from diffutils.samplers import reverse_variance
from diffutils.schedule import Schedule

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)
GAUSSIAN = GaussianMixture(torch.ones(1), MEAN[None], COVARIANCE[None])
EYE = torch.eye(2, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Recorder:
    """A denoiser that answers zero and remembers what it was asked."""

    def __init__(self, prediction: str = "eps") -> None:
        self.prediction, self.asked = prediction, []

    def __call__(self, x_t, t):
        self.asked.append((x_t, t))
        return torch.zeros_like(x_t)


def expected_terms(mixture: GaussianMixture, schedule: Schedule, sigma2: torch.Tensor) -> torch.Tensor:
    """E[L_t] for the exact denoiser of a mixture."""
    levels = zip(schedule.alpha_bar[1:].tolist(), schedule.sigma2[1:].tolist())
    noise = [mixture.dim * mixture.bayes_loss(ab, sigma2=s2) for ab, s2 in levels]
    square = torch.trace(mixture.covariance.double()) + mixture.mean.double().square().sum()
    return terms_from_noise(torch.tensor(noise, dtype=torch.float64), schedule, sigma2, square, mixture.dim)


def terms_from_noise(noise, schedule: Schedule, sigma2, square, d: int) -> torch.Tensor:
    """E[L_t], t = 0..T, from E|eps - eps_hat|^2 at t = 1..T and E|x_0|^2, by the papers' formulas."""
    ab, beta = schedule.alpha_bar[1:], schedule.beta[1:]
    sigma2, before = sigma2[1:], schedule.alpha_bar[:-1]
    x0_error = noise[0] * (1 - ab[0]) / ab[0]
    reconstruction = d / 2 * torch.log(2 * math.pi * sigma2[0]) + x0_error / (2 * sigma2[0])
    ratio = (beta * (1 - before) / (1 - ab) / sigma2)[1:]
    matching = (beta**2 / (2 * sigma2 * (1 - beta) * (1 - ab)) * noise)[1:]
    prior = (ab[-1] * square - d * ab[-1] - d * torch.log(1 - ab[-1])) / 2
    return torch.cat([reconstruction[None], d / 2 * (ratio - 1 - ratio.log()) + matching, prior[None]])


def with_decoder(schedule: Schedule, variance: str) -> torch.Tensor:
    sigma2 = reverse_variance(schedule, variance).clone()
    sigma2[1] = schedule.beta[1]
    return sigma2


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_every_term_of_a_gaussians_bound_is_the_analytic_one(variance):
    schedule = Schedule.linear(25, 0.01, 0.3)
    x0 = GAUSSIAN.sample(4000, generator=seeded())
    bound = variational_bound(GAUSSIAN.denoiser(schedule), schedule, x0, variance=variance, generator=seeded(1))
    expected = expected_terms(GAUSSIAN, schedule, with_decoder(schedule, variance))
    assert ((bound.terms - expected) / bound.errors).abs().max() < 5
    assert abs(bound.total - float(expected.sum())) < 5 * bound.total_error


@pytest.mark.parametrize("t", [2, 7, 12])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_a_term_is_the_kl_divergence_of_the_two_gaussians(t, variance):
    schedule, x0 = Schedule.linear(12, 0.05, 0.3), GAUSSIAN.sample(50, generator=seeded())
    denoiser = Recorder("x0")
    bound = variational_bound(denoiser, schedule, x0, variance=variance, generator=seeded(1))
    x_t = next(x for x, asked in denoiser.asked if asked == t)
    mean, tilde = posterior(schedule, x0, x_t, t)
    guessed, _ = posterior(schedule, torch.zeros_like(x0), x_t, t)
    sigma2 = reverse_variance(schedule, variance)[t]
    kl = kl_divergence(MultivariateNormal(mean, tilde[0, 0] * EYE), MultivariateNormal(guessed, sigma2 * EYE))
    torch.testing.assert_close(bound.terms[t - 1], kl.mean())


def test_the_first_and_the_last_term_are_a_density_and_a_kl_divergence():
    schedule, x0 = Schedule.linear(12, 0.05, 0.3), GAUSSIAN.sample(50, generator=seeded())
    bound = variational_bound(Recorder("x0"), schedule, x0, generator=seeded(1))
    decoder = MultivariateNormal(torch.zeros(2, dtype=torch.float64), schedule.beta[1] * EYE)
    assert bound.L_0 == pytest.approx(float(-decoder.log_prob(x0).mean()), rel=1e-10)
    ab = schedule.alpha_bar[-1]
    kl = kl_divergence(MultivariateNormal(ab.sqrt() * x0, (1 - ab) * EYE), MultivariateNormal(0 * MEAN, EYE))
    torch.testing.assert_close(prior_term(schedule, x0), kl)
    assert bound.L_T == pytest.approx(float(kl.mean()), rel=1e-10)


def test_the_prior_term_is_small_but_not_zero():
    one = torch.ones(2, 1)
    assert float(prior_term(Schedule.linear(1000), one)[0]) == pytest.approx(2.02e-5, rel=0.01)
    short = Schedule.linear(50, 1e-4, 0.02)  # the same betas, fewer steps
    assert float(prior_term(short, one)[0]) > 0.2


def test_the_terms_add_up_to_the_bound():
    schedule, x0 = Schedule.cosine(20), GAUSSIAN.sample(64, generator=seeded())
    bound = variational_bound(GAUSSIAN.denoiser(schedule), schedule, x0, generator=seeded(1))
    assert isinstance(bound, Bound) and bound.terms.shape == (21,) and bound.per_example.shape == (64,)
    middle = float(bound.terms[1:-1].sum())
    assert bound.total == pytest.approx(bound.L_0 + middle + bound.L_T, rel=1e-12)
    assert float(bound.per_example.mean()) == pytest.approx(bound.total, rel=1e-12)


def test_the_bound_is_above_the_chains_own_negative_log_likelihood():
    # For exact denoisers of a Gaussian the chain is linear, so p_theta(x_0) is a Gaussian known by recursion.
    schedule = Schedule.linear(25, 0.01, 0.3)
    sigma2 = with_decoder(schedule, "beta")
    mean, covariance = torch.zeros(2, dtype=torch.float64), EYE.clone()
    for t in range(25, 0, -1):
        ab = schedule.alpha_bar[t]
        gain = ab.sqrt() * COVARIANCE @ torch.linalg.inv(ab * COVARIANCE + (1 - ab) * EYE)
        step = schedule.posterior_x0[t] * gain + schedule.posterior_xt[t] * EYE
        mean = step @ mean + schedule.posterior_x0[t] * (MEAN - ab.sqrt() * gain @ MEAN)
        covariance = step @ covariance @ step.T + sigma2[t] * EYE
    data = MultivariateNormal(MEAN, COVARIANCE)
    chain_nll = float(data.entropy() + kl_divergence(data, MultivariateNormal(mean, covariance)))
    bound = float(expected_terms(GAUSSIAN, schedule, sigma2).sum())
    assert float(data.entropy()) < chain_nll < bound < chain_nll + 0.5


def noise_left_on_a_line(means: torch.Tensor, variance: float, schedule: Schedule) -> torch.Tensor:
    """E[Var(eps | x_t)] for t = 1..T of equally weighted Gaussians on the line, by quadrature over x_t at every t."""
    ab, s2 = schedule.alpha_bar[1:, None, None], schedule.sigma2[1:, None, None]
    x = torch.linspace(-6, 6, 1601, dtype=torch.float64)[None, :, None]
    total = ab * variance + s2
    slope = (x - ab.sqrt() * means) / total
    joint = torch.exp(-0.5 * slope.square() * total) / (2 * math.pi * total).sqrt() / len(means)
    density = joint.sum(-1)
    share = joint / density.clamp_min(1e-300)[..., None]
    between = (share * slope.square()).sum(-1) - (share * slope).sum(-1).square()
    return (density * ((ab * variance / total)[..., 0] + s2[..., 0] * between)).sum(-1) * 12 / 1600


@pytest.mark.parametrize(
    ("variance", "ratio", "low", "high"),
    [("beta", 0.1, 0.045, 0.06), ("beta", 0.05, 0.12, 0.13), ("beta_tilde", 0.1, 0.7, 0.8)],
)
def test_a_grids_bound_exceeds_the_entropy_by_what_discretisation_costs(variance, ratio, low, high):
    grid, schedule = grid_mixture(ratio=ratio), Schedule.linear(1000)
    # The grid is a product of two equal laws on the line, so one axis holds half of everything.
    means, spread = grid.means[:5, 1].double(), float(grid.covariances[0, 0, 0])
    line = GaussianMixture(torch.full((5,), 0.2), means[:, None], spread)
    noise = noise_left_on_a_line(means, spread, schedule)
    expected = 2 * terms_from_noise(noise, schedule, with_decoder(schedule, variance), square=1.0, d=1)
    gap = float(expected.sum()) - 2 * line.entropy()
    assert low < gap < high
    x0 = grid.sample(200, generator=seeded())
    bound = variational_bound(grid.denoiser(schedule), schedule, x0, variance=variance, generator=seeded(1))
    surprise = bound.per_example + grid.log_prob(x0).double()
    assert abs(float(surprise.mean()) - gap) < 5 * float(surprise.std()) / math.sqrt(200)


def test_more_draws_make_a_steadier_bound():
    schedule, x0 = Schedule.linear(25, 0.01, 0.3), GAUSSIAN.sample(2000, generator=seeded())
    one, many = (
        variational_bound(GAUSSIAN.denoiser(schedule), schedule, x0, draws=k, generator=seeded(1)) for k in (1, 16)
    )
    # What remains is the spread between the examples themselves, which more draws cannot lower.
    assert float((many.errors[:5] / one.errors[:5]).max()) < 0.5
    assert ((many.terms - one.terms) / one.errors)[:-1].abs().max() < 5


def test_the_bound_of_a_respaced_schedule_asks_for_the_parents_times():
    denoiser = Recorder("x0")
    variational_bound(denoiser, Schedule.linear(1000).respaced(4), torch.zeros(2, 2), generator=seeded())
    assert [t for _, t in denoiser.asked] == [250, 500, 750, 1000]


def test_a_decoder_variance_of_your_own_changes_the_first_term_alone():
    schedule, x0 = Schedule.linear(25), GAUSSIAN.sample(50, generator=seeded())
    usual, own = (
        variational_bound(GAUSSIAN.denoiser(schedule), schedule, x0, decoder_variance=v, generator=seeded(1))
        for v in (None, 0.5)
    )
    assert torch.equal(usual.terms[1:], own.terms[1:]) and usual.L_0 != own.L_0


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_the_simple_weight_is_what_the_bound_gives_to_the_error_in_eps(variance):
    schedule, x0 = Schedule.linear(25, 0.01, 0.3), GAUSSIAN.sample(50, generator=seeded())
    denoiser = Recorder("eps")
    bound = variational_bound(denoiser, schedule, x0, variance=variance, generator=seeded(1))
    weight, sigma2 = simple_weight(schedule, variance), reverse_variance(schedule, variance)
    for x_t, t in denoiser.asked[1:]:
        eps = (x_t - schedule.alpha_bar[t].sqrt() * x0) / (1 - schedule.alpha_bar[t]).sqrt()
        ratio = schedule.beta_tilde[t] / sigma2[t]
        expected = ratio - 1 - ratio.log() + weight[t] * eps.square().sum(1).mean()
        torch.testing.assert_close(bound.terms[t - 1], expected)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_exact_denoiser_reaches_the_bayes_loss(prediction):
    schedule = Schedule.linear(25, 0.01, 0.3)
    denoiser, x0 = GAUSSIAN.denoiser(schedule, prediction), GAUSSIAN.sample(2000, generator=seeded())
    generator = seeded(1)
    losses = torch.stack([l_simple(denoiser, schedule, x0, target="eps", generator=generator) for _ in range(40)])
    levels = zip(schedule.alpha_bar[1:].tolist(), schedule.sigma2[1:].tolist())
    expected = sum(GAUSSIAN.bayes_loss(ab, sigma2=s2) for ab, s2 in levels) / 25
    assert abs(float(losses.mean()) - expected) < 5 * float(losses.std()) / math.sqrt(40)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score"])
def test_a_denoiser_that_knows_the_data_has_no_loss(prediction):
    schedule, x0 = Schedule.linear(25, 0.01, 0.3), torch.full((200, 2), 1.5, dtype=torch.float64)

    def denoiser(x_t, t):
        a, s = schedule.alpha_bar[t][:, None].sqrt(), (1 - schedule.alpha_bar[t])[:, None].sqrt()
        eps = (x_t - a * x0) / s
        return {"eps": eps, "x0": x0, "v": a * eps - s * x0, "score": -eps / s}[prediction]

    denoiser.prediction = prediction
    assert float(l_simple(denoiser, schedule, x0, generator=seeded())) < 1e-24


def test_times_are_uniform_on_1_to_T_one_per_example():
    schedule, denoiser = Schedule.linear(25), Recorder()
    l_simple(denoiser, schedule, torch.zeros(50_000, 1), generator=seeded())
    t = denoiser.asked[0][1]
    assert t.shape == (50_000,) and t.dtype == torch.int64
    counts = torch.bincount(t, minlength=26)
    assert counts[0] == 0 and len(counts) == 26
    chi_square = float(((counts[1:] - 2000.0) ** 2 / 2000.0).sum())
    assert abs(chi_square - 24) < 5 * math.sqrt(48)


def test_the_noisy_points_follow_the_closed_form_at_their_own_times():
    schedule, denoiser = Schedule.linear(25, 0.01, 0.3), Recorder()
    l_simple(denoiser, schedule, torch.full((40_000, 2), 2.0, dtype=torch.float64), generator=seeded())
    x_t, t = denoiser.asked[0]
    ab = schedule.alpha_bar[t][:, None]
    eps = (x_t - 2 * ab.sqrt()) / (1 - ab).sqrt()
    for half in (eps[t <= 3], eps[t >= 23]):
        n = half.numel()
        assert abs(float(half.mean())) * math.sqrt(n) < 5
        assert abs(float(half.square().mean()) - 1) * math.sqrt(n / 2) < 5


def test_the_network_of_a_respaced_schedule_is_trained_on_the_parents_times():
    denoiser = Recorder()
    l_simple(denoiser, Schedule.linear(1000).respaced(4), torch.zeros(200, 2), generator=seeded())
    assert set(denoiser.asked[0][1].tolist()) == {250, 500, 750, 1000}


def test_the_error_is_that_of_the_target_asked_for():
    schedule, x0 = Schedule([0.3]), GAUSSIAN.sample(500, generator=seeded())
    losses = {name: float(l_simple(Recorder("v"), schedule, x0, target=name, generator=seeded(1)))
              for name in ("eps", "x0", "v", "score")}  # fmt: skip
    # The same error in v, seen as an error in eps, in x0 and in the score: factors sqrt(ab), sqrt(1-ab) and so on.
    assert losses["eps"] == pytest.approx(0.7 * losses["v"])
    assert losses["x0"] == pytest.approx(0.3 * losses["v"])
    assert losses["score"] == pytest.approx(losses["eps"] / 0.3)
    assert float(l_simple(Recorder("v"), schedule, x0, generator=seeded(1))) == losses["v"]


def test_the_gradient_reaches_the_network_and_the_seed_fixes_the_loss():
    network = torch.nn.Linear(2, 2)

    def denoiser(x_t, t):
        return network(x_t)

    denoiser.prediction = "eps"
    x0 = torch.randn(20, 2, generator=seeded())
    first, second = (l_simple(denoiser, Schedule.linear(25), x0, generator=seeded(1)) for _ in range(2))
    first.backward()
    assert network.weight.grad.abs().sum() > 0 and first.item() == second.item()


@pytest.mark.parametrize(
    ("x0", "named"),
    [(torch.zeros(3, 2, dtype=torch.uint8), "x0"), (torch.full((3, 2), torch.nan), "x0"), ([[0.0]], "x0")],
)
def test_bad_data_is_named(x0, named):
    for objective in (l_simple, variational_bound):
        with pytest.raises(ValueError, match=named):
            objective(Recorder(), Schedule.linear(25), x0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"variance": "sigma"}, "variance"),
        ({"variance": torch.zeros(26)}, "variance"),
        ({"decoder_variance": 0.0}, "decoder_variance"),
        ({"draws": 0}, "draws"),
    ],
)
def test_bad_arguments_of_the_bound_are_named(arguments, named):
    call = {"x0": torch.zeros(2, 2)} | arguments
    with pytest.raises(ValueError, match=named):
        variational_bound(Recorder(), Schedule.linear(25), call.pop("x0"), **call)


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="target"):
        l_simple(Recorder(), Schedule.linear(25), torch.zeros(2, 2), target="noise")


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_the_simple_loss_waits_for_no_device(kind):
    # Tensors on the device "meta" have no values: whoever looks at one, as a GPU would have to be waited for, fails.
    def denoiser(x_t, t):
        return x_t

    denoiser.prediction = kind
    loss = l_simple(denoiser, Schedule.linear(30), torch.empty(4, 3, device="meta"))
    assert loss.device.type == "meta" and loss.shape == ()


def test_the_errors_of_the_terms_are_standard_errors_of_their_means():
    schedule, x0 = Schedule.linear(25, 0.01, 0.3), GAUSSIAN.sample(400, generator=seeded())
    bound = variational_bound(GAUSSIAN.denoiser(schedule), schedule, x0, generator=seeded(1))
    torch.testing.assert_close(bound.errors[-1], prior_term(schedule, x0).std() / 20)
    assert bound.total_error == pytest.approx(float(bound.per_example.std()) / 20)


def test_a_bound_of_one_example_has_no_standard_error() -> None:
    schedule = Schedule.linear(25)
    bound = variational_bound(grid_mixture().denoiser(schedule), schedule, torch.zeros(1, 2))
    assert bound.per_example.shape == (1,) and torch.isfinite(bound.terms).all()
    assert torch.isnan(bound.errors).all()


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (torch.tensor([0, 1]), "t must be integers in 1..100, got '0..1'"),
        (torch.tensor([-1, 1]), "t must be integers in 1..100, got '-1..1'"),
        (torch.tensor([1, 101]), "t must be integers in 1..100, got '1..101'"),
        (torch.tensor([1.0, 2.0]), "t.dtype must be an integer dtype"),
        (torch.tensor([1]), r"t.shape must be \(2,\)"),
        ([1, 2], r"t.shape must be \(2,\), one time per example, got 'list'"),
    ],
)
def test_times_that_are_given_must_be_times(t, message) -> None:
    schedule = Schedule.linear(100)
    with pytest.raises(ValueError, match=message):
        l_simple(grid_mixture().denoiser(schedule), schedule, torch.zeros(2, 2), t=t)
