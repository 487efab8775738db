"""Tests of the likelihood by the probability-flow ODE, against laws whose densities are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.likelihood import ode_log_prob, velocity_and_divergence
from diffutils.models.ddpm import DDPM
from diffutils.networks import MLP
from diffutils.process import PREDICTIONS
from diffutils.schedule import Schedule
from diffutils.unet import UNet


def plane_mixture(dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """Three components, none of them round, none of them alike."""
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.5], [0.3, 1.2]], dtype=torch.float64)
    covariances = [[[0.3, 0.1], [0.1, 0.2]], [[0.15, -0.05], [-0.05, 0.4]], [[0.1, 0.0], [0.0, 0.3]]]
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return GaussianMixture(weights, means, torch.tensor(covariances, dtype=torch.float64)).to(dtype=dtype)


def even_angles(steps: int, end: float = 1.5) -> Schedule:
    """A schedule whose angles arctan(nu_t) lie in equal steps from 0 to ``end``: alpha_bar_T is not small."""
    return Schedule.from_noise_levels(torch.linspace(0, end, steps + 1, dtype=torch.float64)[1:].tan())


def true_prior(mixture: GaussianMixture, schedule: Schedule):
    """The log-density of x_T itself."""
    return mixture.diffused(float(schedule.alpha_bar[-1]), sigma2=float(schedule.sigma2[-1])).log_prob


def worst_error(mixture: GaussianMixture, schedule: Schedule, x: torch.Tensor) -> float:
    found = ode_log_prob(mixture.denoiser(schedule, "v"), schedule, x, prior=true_prior(mixture, schedule))
    return float((found - mixture.log_prob(x)).abs().max())


@pytest.mark.parametrize("name", ["even angles", "cosine", "linear", "geometric"])
def test_log_prob_is_that_of_the_mixture(name):
    # Bounds: about twice what ten seeds of x gave. The error is that of 100 steps and falls as 1 / T^2 (next test).
    schedules = {
        "even angles": (even_angles(100), 3e-3),
        "cosine": (Schedule.cosine(100), 3e-3),
        "linear": (Schedule.linear(100), 1.2e-2),
        "geometric": (Schedule.geometric(100, 0.01, 20.0), 4e-3),
    }
    schedule, bound = schedules[name]
    mixture = plane_mixture()
    assert worst_error(mixture, schedule, mixture.sample(60, generator=make_generator(0))) < bound


def test_the_error_falls_with_the_square_of_the_step():
    mixture = plane_mixture()
    x = mixture.sample(60, generator=make_generator(1))
    exact = mixture.log_prob(x)
    steps = [15, 30, 60, 120]
    errors = []
    for count in steps:
        schedule = even_angles(count)
        found = ode_log_prob(mixture.denoiser(schedule, "v"), schedule, x, prior=true_prior(mixture, schedule))
        errors.append(float((found - exact).square().mean().sqrt()))
    slopes = [math.log2(coarse / fine) for coarse, fine in zip(errors, errors[1:])]
    assert all(abs(slope - 2) < 0.15 for slope in slopes), (errors, slopes)


def test_without_the_true_prior_the_terminal_mismatch_is_what_remains():
    # The end of the flow is the same, so the two answers differ by log N(x_T; 0, I) - log q(x_T) there, and on average
    # over the data that is -KL(q_T || N(0, I)).
    mixture, schedule = plane_mixture(), even_angles(40, 1.2)
    x = mixture.sample(1000, generator=make_generator(2))
    denoiser = mixture.denoiser(schedule, "v")
    honest = ode_log_prob(denoiser, schedule, x, prior=true_prior(mixture, schedule))
    naive = ode_log_prob(denoiser, schedule, x)
    gap = naive - honest
    z = (float(gap.mean()) + mixture.kl_to_standard_normal(float(schedule.alpha_bar[-1]))) / float(
        gap.std() / math.sqrt(len(x))
    )
    assert abs(z) < 5
    assert float((naive - mixture.log_prob(x)).abs().mean()) > 10 * float((honest - mixture.log_prob(x)).abs().mean())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_gives_the_same(prediction):
    mixture, schedule = plane_mixture(), Schedule.cosine(40)
    x = mixture.sample(20, generator=make_generator(3))
    found = ode_log_prob(mixture.denoiser(schedule, prediction), schedule, x)
    # v from eps loses a factor 1 / sqrt(alpha_bar_T), about 800, of the 16 digits
    assert_close(found, ode_log_prob(mixture.denoiser(schedule, "v"), schedule, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("dim", [1, 3])
def test_a_standard_normal_law_is_exact(dim, dtype, tolerance):
    # v is 0 everywhere, so no step has an error, however long
    mixture = GaussianMixture(torch.ones(1), torch.zeros(1, dim, dtype=dtype), 1.0)
    schedule, x = Schedule.cosine(5), torch.randn(8, dim, generator=make_generator(4), dtype=dtype)
    for prediction in ("x0", "v"):
        found = ode_log_prob(mixture.denoiser(schedule, prediction), schedule, x)
        assert found.dtype == dtype
        assert_close(found, mixture.log_prob(x), rtol=tolerance, atol=tolerance)


def test_a_gaussian_law_off_centre_and_stretched():
    covariance = torch.tensor([[[0.5, 0.3], [0.3, 2.0]]], dtype=torch.float64)
    mixture = GaussianMixture(torch.ones(1), torch.tensor([[2.0, -1.0]], dtype=torch.float64), covariance)
    x = torch.tensor([[2.0, -1.0], [0.0, 0.0], [3.5, 3.0]], dtype=torch.float64)
    assert worst_error(mixture, even_angles(150), x) < 6e-4


def test_the_density_integrates_to_one():
    means = torch.tensor([[-1.0], [0.8]], dtype=torch.float64)
    mixture = GaussianMixture(torch.tensor([0.3, 0.7]), means, torch.tensor([0.1, 0.3], dtype=torch.float64))
    schedule = Schedule.cosine(60)
    grid = torch.linspace(-4.5, 4.5, 1801, dtype=torch.float64)[:, None]
    found = ode_log_prob(mixture.denoiser(schedule, "eps"), schedule, grid, prior=true_prior(mixture, schedule))
    assert abs(float(found.exp().sum() * 0.005) - 1) < 1e-3


def test_hutchinson_is_unbiased_and_its_spread_falls_with_the_probes():
    mixture, schedule = plane_mixture(), even_angles(12)
    denoiser = mixture.denoiser(schedule, "v")
    x = plane_mixture().sample(1, generator=make_generator(5))
    exact = float(ode_log_prob(denoiser, schedule, x))
    many = x.expand(4000, 2).contiguous()
    one = ode_log_prob(denoiser, schedule, many, probes=1, generator=make_generator(6))
    four = ode_log_prob(denoiser, schedule, many, probes=4, generator=make_generator(7))
    for estimate in (one, four):
        z = (float(estimate.mean()) - exact) / float(estimate.std() / math.sqrt(len(many)))
        assert abs(z) < 5
    # a ratio of two variances from 4000 draws each has a relative spread of about 5 %
    assert abs(float(one.var() / four.var()) / 4 - 1) < 0.25


def test_one_dimension_leaves_hutchinson_nothing_to_guess():
    mixture = GaussianMixture(torch.ones(1), torch.tensor([[0.5]], dtype=torch.float64), 0.3)
    schedule, x = Schedule.cosine(10), torch.tensor([[0.1], [1.0]], dtype=torch.float64)
    denoiser = mixture.denoiser(schedule, "x0")
    guessed = ode_log_prob(denoiser, schedule, x, probes=1, generator=make_generator(8))
    assert_close(guessed, ode_log_prob(denoiser, schedule, x), rtol=0, atol=1e-13)


def test_velocity_and_divergence_are_those_of_finite_differences():
    mixture, schedule, t = plane_mixture(), Schedule.cosine(20), 9
    x = mixture.sample(6, generator=make_generator(9))
    for prediction in PREDICTIONS:
        denoiser = mixture.denoiser(schedule, prediction)
        v, divergence = velocity_and_divergence(denoiser, schedule, x, t)
        assert not v.requires_grad and not divergence.requires_grad and divergence.shape == (6,)
        assert_close(v, mixture.denoiser(schedule, "v")(x, t), rtol=0, atol=1e-12)
        numeric = torch.zeros(6, dtype=torch.float64)
        for axis in torch.eye(2, dtype=torch.float64):
            ahead = velocity_and_divergence(denoiser, schedule, x + 1e-5 * axis, t)[0]
            behind = velocity_and_divergence(denoiser, schedule, x - 1e-5 * axis, t)[0]
            numeric += ((ahead - behind) / 2e-5) @ axis
        assert_close(divergence, numeric, rtol=0, atol=1e-8)


def test_a_respaced_schedule_asks_the_denoiser_about_the_times_of_its_parent():
    mixture, parent = plane_mixture(), Schedule.cosine(400)
    x = mixture.sample(20, generator=make_generator(10))
    asked = []

    def denoiser(x_t: torch.Tensor, t: int) -> torch.Tensor:
        asked.append(t)
        return oracle(x_t, t)

    oracle = mixture.denoiser(parent, "v")
    denoiser.prediction = "v"
    short = parent.respaced(50)
    found = ode_log_prob(denoiser, short, x, prior=true_prior(mixture, parent))
    assert float((found - mixture.log_prob(x)).abs().max()) < 1e-2
    assert asked == [8] + [time for t in range(1, 50) for time in (8 * t, 8 * t + 8)]


def test_no_signal_at_the_end_is_served_by_v_and_x0_and_refused_for_eps_and_score():
    mixture = plane_mixture()
    schedule = Schedule.cosine(100).with_zero_terminal_snr()
    assert float(schedule.alpha_bar[-1]) == 0.0
    x = mixture.sample(10, generator=make_generator(11))
    for prediction in ("v", "x0"):
        found = ode_log_prob(mixture.denoiser(schedule, prediction), schedule, x)
        assert float((found - mixture.log_prob(x)).abs().max()) < 3e-3
    for prediction in ("eps", "score"):
        with pytest.raises(ValueError, match=rf"alpha_bar_T is 0.*got '{prediction}'"):
            ode_log_prob(mixture.denoiser(schedule, prediction), schedule, x)


def test_what_rounding_leaves_of_the_signal_depends_on_the_dtype():
    schedule = Schedule.from_noise_levels([0.1, 1.0, 1e8])
    x = torch.zeros(2, 2)
    oracle = plane_mixture().denoiser(schedule, "eps")
    with pytest.raises(ValueError, match="alpha_bar_T"):
        ode_log_prob(oracle, schedule, x)
    assert ode_log_prob(oracle, schedule, x.double()).dtype == torch.float64


@pytest.mark.parametrize("probes", [None, 2])
def test_networks_of_points_and_of_images(probes):
    generator = make_generator(12)
    for network, shape in ((MLP(3, width=16, depth=1), (3,)), (UNet(1, 8), (1, 4, 4))):
        for parameter in network.parameters():
            # a new network answers 0: give every weight something to say
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        model = DDPM(network, Schedule.cosine(6), "v", shape=shape).eval()
        x = torch.randn(4, *shape, generator=generator)
        found = ode_log_prob(model, model.schedule, x, probes=probes, generator=make_generator(13))
        assert found.shape == (4,) and not found.requires_grad and bool(torch.isfinite(found).all())
        assert all(parameter.grad is None for parameter in model.parameters())
        with torch.no_grad():
            again = ode_log_prob(model, model.schedule, x, probes=probes, generator=make_generator(13))
        assert torch.equal(found, again)


def test_bad_arguments_are_refused_before_any_work():
    mixture, schedule, x = plane_mixture(), Schedule.cosine(10), torch.zeros(3, 2, dtype=torch.float64)

    def call(denoiser=None, data=x, **options):
        return ode_log_prob(denoiser or mixture.denoiser(schedule), schedule, data, **options)

    def flat(x_t, t):
        return x_t[:, 0]

    @torch.no_grad()
    def deaf(x_t, t):
        return 1 * x_t

    def never(x_t, t):
        pytest.fail("the denoiser was asked")

    flat.prediction = deaf.prediction = never.prediction = "eps"
    cases = {
        "denoiser must": lambda: call(lambda x_t, t: x_t),
        r"denoiser\(x_t, t\).shape": lambda: call(flat),
        "differentiable": lambda: call(deaf),
        "^x must": lambda: call(data=torch.full((2, 2), math.nan)),
        "x.dtype": lambda: call(data=torch.zeros(2, 2, dtype=torch.long)),
        "probes": lambda: call(probes=0),
        "prior must": lambda: call(prior=1.0),
        r"prior\(x\).shape": lambda: call(never, prior=lambda x: x.sum()),
        "generator must": lambda: call(never, probes=1, generator=0),
        "schedule must be a Schedule, got 'list'": lambda: ode_log_prob(never, [0.1, 0.2], x),
        "^t must": lambda: velocity_and_divergence(mixture.denoiser(schedule), schedule, x, 0),
    }
    for message, run in cases.items():
        with pytest.raises(ValueError, match=message):
            run()


def test_inference_mode_is_named_where_gradients_are_needed_and_does_no_harm_before() -> None:
    mixture, schedule, x = plane_mixture(torch.float32), even_angles(4), torch.zeros(3, 2)
    with torch.inference_mode():
        mixture.denoiser(schedule)(x, 2)
        with pytest.raises(ValueError, match="torch.inference_mode must be off here"):
            ode_log_prob(mixture.denoiser(schedule), schedule, x)
    found = ode_log_prob(mixture.denoiser(schedule), schedule, x)
    fresh = plane_mixture(torch.float32)
    assert torch.equal(found, ode_log_prob(fresh.denoiser(schedule), schedule, x))
