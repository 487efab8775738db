"""The doctor against the library's own integrals, closed forms, inequalities that must hold, and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from diffutils.datasets import digits_8x8, grid_mixture
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.doctor import Diagnosis, Moments, diagnose, reference_law
from diffutils.objectives import bayes_x0_errors, optimal_variance
from diffutils.schedule import Schedule

F64 = dict(dtype=torch.float64)
SHORT = Schedule.linear(50, 1e-4, 0.02)
UNEQUAL = GaussianMixture(
    torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[-2.0], [0.5], [1.5]], **F64), torch.tensor([0.01, 0.25, 0.04])
)
AXIS = GaussianMixture(torch.full((5,), 0.2), grid_mixture().means[:5, 1:].double(), 0.005)
LAWS = {"reference": reference_law(), "axis": AXIS, "unequal": UNEQUAL}
SPREADS = torch.diag(torch.tensor([2.0, 1.0, 0.1]))
BALL = GaussianMixture(torch.ones(1), torch.tensor([[0.6, 0.0, -0.2]], **F64), SPREADS[None])


@pytest.fixture(scope="module", name="report")
def _report() -> Diagnosis:
    return diagnose(SHORT)


def test_the_reference_law_is_standardised_and_lopsided():
    law = reference_law()
    assert float(law.mean) == pytest.approx(0.0, abs=1e-15) and float(law.covariance) == pytest.approx(1.0)
    assert law.weights.tolist() == [0.7, 0.3]


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("schedule", [SHORT, Schedule.cosine(30), SHORT.with_zero_terminal_snr()], ids=repr)
def test_tables_of_a_mixture_are_the_librarys_integrals(name, schedule):
    law, found = LAWS[name], diagnose(schedule, LAWS[name])
    variance = float(law.covariance)
    for t in (1, 2, 20, schedule.T - 1, schedule.T):
        a, s = float(schedule.alpha_bar[t]), float(schedule.sigma2[t])
        information = law.entropy(a, sigma2=s) - 0.5 * math.log(2 * math.pi * math.e * s)
        assert float(found.information[t]) == pytest.approx(information, abs=1e-10)
        assert float(found.start_at[t]) == pytest.approx(law.kl_to_standard_normal(a, sigma2=s), abs=1e-10)
        error = law.bayes_loss(a, sigma2=s) * s / a if a else variance
        assert float(found.explained[t]) == pytest.approx(1 - error / variance, abs=1e-9)
    assert float(found.start_at[0]) == pytest.approx(law.kl_to_standard_normal(), abs=1e-10)
    assert float(found.information[0]) == math.inf and float(found.explained[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("data", [None, AXIS, UNEQUAL, BALL], ids=["reference", "axis", "unequal", "ball"])
@pytest.mark.parametrize("schedule", [SHORT, Schedule.linear(300, 1e-4, 0.02), Schedule([0.3])], ids=repr)
def test_the_last_term_is_what_is_remembered_and_what_the_start_costs(data, schedule):
    found = diagnose(schedule, data)
    law = reference_law() if data is None else data
    square = float(law.covariance.diagonal().sum() + law.mean.square().sum())
    a = found.alpha_bar_T
    assert found.L_T == pytest.approx(0.5 * (a * square - found.dim * (a + math.log(1 - a))), rel=1e-12)
    assert found.L_T == pytest.approx(float(found.information[-1]) + found.start, abs=1e-11)


def test_one_gaussian_has_closed_forms():
    found = diagnose(SHORT, BALL)
    assert found.dim == 3 and found.exact
    normal = torch.distributions.MultivariateNormal
    for t in (1, 25, 50):
        a, s = float(SHORT.alpha_bar[t]), float(SHORT.sigma2[t])
        noisy = normal(math.sqrt(a) * BALL.mean, a * BALL.covariance + s * torch.eye(3, **F64))
        kl = torch.distributions.kl_divergence(noisy, normal(torch.zeros(3, **F64), torch.eye(3, **F64)))
        assert float(found.start_at[t]) == pytest.approx(float(kl), rel=1e-10)
        remembered = noisy.entropy() - 1.5 * math.log(2 * math.pi * math.e * s)
        assert float(found.information[t]) == pytest.approx(float(remembered), rel=1e-10)
        # Var(x_0 | x_t) = V - a V (a V + s)^-1 V, whose trace the three axes share unequally
        gain = a * BALL.covariance @ torch.linalg.inv(noisy.covariance_matrix)
        share = float((gain @ BALL.covariance).trace() / BALL.covariance.trace())
        assert float(found.explained[t]) == pytest.approx(share, rel=1e-10)
    # The same law as a mixture of two equal halves takes the other road.
    one = GaussianMixture(torch.ones(1), torch.tensor([[0.4]], **F64), 0.7)
    two = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[0.4], [0.4]], **F64), 0.7)
    closed, integrated = diagnose(SHORT, one), diagnose(SHORT, two)
    for name in ("information", "explained", "start_at", "step_at"):
        assert_close(getattr(closed, name), getattr(integrated, name), rtol=1e-9, atol=1e-10)
    assert closed.steps < 1e-10 and closed.dead_from == integrated.dead_from and closed.wasted == integrated.wasted


@pytest.mark.parametrize("name", LAWS)
def test_moments_alone_give_bounds(name):
    law = LAWS[name]
    known, bounded = diagnose(SHORT, law), diagnose(SHORT, Moments.of(law))
    assert known.exact and not bounded.exact
    assert bounded.L_T == pytest.approx(known.L_T, rel=1e-12)
    assert bool((bounded.information[1:] >= known.information[1:] - 1e-12).all())
    assert bool((bounded.start_at <= known.start_at + 1e-12).all())
    assert bool((bounded.explained <= known.explained + 1e-12).all())


def test_samples_are_seen_through_their_moments():
    points = BALL.sample(50_000, generator=make_generator(0))
    found, truth = diagnose(SHORT, points), diagnose(SHORT, BALL)
    assert found.start == pytest.approx(truth.start, rel=0.05) and not found.exact
    images, _ = digits_8x8()
    moments = Moments.of(images)
    flat = images.flatten(1).double()
    assert moments.mean_square == pytest.approx(float(flat.mean(0).square().sum()))
    assert float(moments.spread.sum()) == pytest.approx(float(flat.var(0).sum()))
    assert diagnose(SHORT, images).start == pytest.approx(diagnose(SHORT, moments).start) and len(moments.spread) == 64


def test_a_step_costs_the_divergence_from_the_true_reverse_step(report):
    # directly: KL(q(x_{t-1} | x_t) || the best Gaussian step), integrated over x_{t-1} and x_t
    law, t = reference_law(), 30
    best = optimal_variance(SHORT, bayes_x0_errors(law, SHORT))[t]
    before, now = float(SHORT.alpha_bar[t - 1]), float(SHORT.alpha_bar[t])
    x, z, values = torch.linspace(-6, 6, 241, **F64), torch.linspace(-8, 8, 401, **F64), []
    for point in x:
        step = law.reverse_posterior(point[None], before, now)
        mean, sd = float(step.mean), float(step.covariance) ** 0.5
        log_p = step.log_prob((mean + sd * z)[:, None])
        log_model = -0.5 * (sd * z) ** 2 / best - 0.5 * torch.log(2 * math.pi * best)
        values.append(sd * torch.trapezoid(log_p.exp() * (log_p - log_model), z))
    weight = law.diffused(now).log_prob(x[:, None]).exp()
    direct = float(torch.trapezoid(weight * torch.stack(values), x))
    assert float(report.step_at[t]) == pytest.approx(direct, rel=1e-3)
    assert report.step_at[:2].tolist() == [0.0, 0.0] and report.steps == pytest.approx(float(report.step_at.sum()))


def test_the_start_bounds_what_the_sampler_gets_wrong():
    # One Gaussian: every reverse step is exact, so the law of the samples can be wrong through its start alone.
    law = GaussianMixture(torch.ones(1), torch.tensor([[1.5]], **F64), 0.3)
    found = diagnose(SHORT, law)
    mean, variance = 0.0, 1.0  # of N(0, 1), walked back to x_0
    for t in range(SHORT.T, 0, -1):
        a, b, s = (float(table[t]) for table in (SHORT.sqrt_alpha, SHORT.beta, SHORT.alpha_bar))
        before = float(SHORT.alpha_bar[t - 1])
        old_mean, old = math.sqrt(before) * 1.5, before * 0.3 + 1 - before
        gain = a * old / (a * a * old + b)
        mean, variance = old_mean + gain * (mean - math.sqrt(s) * 1.5), gain**2 * variance + old * b / (a * a * old + b)
    q, p = torch.distributions.Normal(1.5, math.sqrt(0.3)), torch.distributions.Normal(mean, math.sqrt(variance))
    wrong = float(torch.distributions.kl_divergence(q, p))
    assert 0 < wrong <= found.start + found.steps + 1e-12
    assert wrong > 0.1 * found.start  # and the bound is not idle


def test_no_test_with_fewer_samples_notices():
    shift = GaussianMixture(torch.ones(1), torch.tensor([[1.0]], **F64), 1.0)
    found = diagnose(Schedule([0.9, 0.9]), shift)
    step = math.sqrt(found.alpha_bar_T)  # q_T = N(step, 1): the best of all tests is known
    assert found.start == pytest.approx(step**2 / 2)
    for n in (0.25, 0.5, 1.0):
        advantage = math.erf(math.sqrt(n * found.unnoticed_below) * step / 2 / math.sqrt(2))
        assert advantage < 0.5 * math.sqrt(n) + 1e-12
    assert found.unnoticed_below == pytest.approx(1 / (2 * found.start))
    few = int(found.unnoticed_below)
    assert diagnose(found.schedule, shift, samples=few).honest
    assert not diagnose(found.schedule, shift, samples=few + 1).honest


def test_the_signal_of_normal_data_dies_where_alpha_bar_does():
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1, **F64), 1.0)
    schedule = Schedule.linear()
    found = diagnose(schedule, normal)
    assert_close(found.explained, schedule.alpha_bar, rtol=1e-9, atol=1e-12)
    assert found.dead_from == int((schedule.alpha_bar >= 0.01).sum()) == 674
    assert found.start == pytest.approx(0.0, abs=1e-15) and found.honest
    assert diagnose(schedule, normal, dead_below=0.5).dead_from < 300 and diagnose(SHORT, normal).dead_from is None


def test_wasted_steps_do_no_work():
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1, **F64), 1.0)
    # I_t = -log(sigma2_t) / 2 for normal data: equal work at every step after the first
    sigma2 = 0.01 ** (torch.arange(50, -1, -1, **F64)[1:] / 50)
    even = Schedule.from_alpha_bar(1 - sigma2[:-1])
    assert diagnose(even, normal).wasted == 0.0
    tail = even.alpha_bar[-1] - torch.arange(1, 50, **F64) * 1e-7
    idle = Schedule.from_alpha_bar(torch.cat([even.alpha_bar[1:], tail]))
    assert diagnose(idle, normal).wasted == pytest.approx(49 / 98)
    assert diagnose(idle, normal, idle_share=0.0).wasted == 0.0
    assert diagnose(Schedule([0.5]), normal).wasted == 0.0


def test_a_share_of_the_work_is_a_share_of_it():
    # Work at every step after the first, 1 : 1 : 1 : 0.1 in nats: the last is 3 % of it, however many nats there are.
    for nats in (0.01, 1.0):
        information = nats * torch.tensor([4.1, 3.1, 2.1, 1.1, 1.0], **F64)
        spread = Schedule.from_alpha_bar(-torch.expm1(-2 * information))
        normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1, **F64), 1.0)
        assert diagnose(spread, normal, idle_share=0.04).wasted == pytest.approx(1 / 5)
        assert diagnose(spread, normal, idle_share=0.03).wasted == 0.0


def test_betas_that_stay_rise_and_directions_without_data_have_no_variance():
    assert diagnose(Schedule.constant(5, 0.1)).betas_rise
    line = torch.linspace(-1, 1, 40, **F64)[:, None] * torch.tensor([[1.0, 1 / 3, 0.1, 0.7]], **F64)
    assert bool((Moments.of(line).spread >= 0).all())


def test_betas_as_libraries_keep_them(report):
    betas = torch.linspace(1e-4, 0.02, 50, dtype=torch.float64)
    for listed in (betas, betas.tolist(), betas.numpy()):
        found = diagnose(listed)
        assert found.schedule.T == 50 and found.start == pytest.approx(report.start)
    products = Schedule.from_alpha_bar((1 - betas).cumprod(0))
    assert diagnose(products).start == pytest.approx(report.start, rel=1e-9)
    assert report.largest_beta == (pytest.approx(0.02), 50) and report.betas_rise
    assert not diagnose(betas.flip(0)).betas_rise


def test_pure_noise_at_the_end_is_an_honest_start():
    for data in (None, BALL, digits_8x8()[0]):
        found = diagnose(SHORT.with_zero_terminal_snr(), data)
        assert (found.alpha_bar_T, found.snr_T, found.L_T, found.start) == (0, 0, 0, 0)
        assert found.honest and found.unnoticed_below == math.inf and float(found.information[-1]) == 0
        assert float(found.explained[-1]) == pytest.approx(0.0, abs=1e-12) and found.dead_from is not None
        for table in (found.information[1:], found.explained, found.start_at[1:], found.step_at):
            assert bool(torch.isfinite(table).all())


def test_the_report_reads():
    text = str(diagnose(SHORT))
    assert "linear, T = 50" in text and "not honest, 0.0376 nats" in text and "fewer than 13 samples" in text
    assert "at least" in str(diagnose(SHORT, digits_8x8()[0]))
    assert "no test notices" in str(diagnose(SHORT.with_zero_terminal_snr()))
    assert "start_at" not in repr(diagnose(SHORT))


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda: diagnose([0.1, 1.2]), r"beta\[1\]"),
        (lambda: diagnose([0.0, 0.1]), r"beta\[0\]"),
        (lambda: diagnose("linear"), "beta"),
        (lambda: diagnose(SHORT, grid_mixture()), "data.dim"),
        (lambda: diagnose(SHORT, torch.ones(5, 2)), "data"),
        (lambda: diagnose(SHORT, torch.randn(1, 2)), "data.shape"),
        (lambda: diagnose(SHORT, torch.tensor([[1, 2], [3, 4]])), "data.dtype"),
        (lambda: diagnose(SHORT, "digits"), "data"),
        (lambda: diagnose(SHORT, dead_below=0.0), "dead_below"),
        (lambda: diagnose(SHORT, idle_share=1.5), "idle_share"),
        (lambda: diagnose(SHORT, samples=0), "samples"),
    ],
)
def test_bad_input_names_the_argument(call, argument):
    with pytest.raises(ValueError, match="^" + argument):
        call()


def test_a_component_without_weight_changes_nothing() -> None:
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 1), 0.3)
    two = GaussianMixture(torch.tensor([1.0, 0.0]), torch.tensor([[0.0], [5.0]]), 0.3)
    schedule = Schedule.linear(50)
    for name in ("start_at", "step_at", "information", "explained"):
        assert_close(getattr(diagnose(schedule, two), name), getattr(diagnose(schedule, one), name))


def test_alpha_bars_in_the_place_of_betas_are_asked_about() -> None:
    assert "signal dead from t = 1, the first step (are these betas?)" in str(diagnose(Schedule.linear(50).alpha_bar[1:]))
    assert "are these betas" not in str(diagnose(Schedule.linear(1000)))
    assert "not honest" in (short := str(diagnose([0.1]))) and "a single sample may tell" not in short
