"""A denoiser's own variance: what its output means, in the sampler, in the ledger and in the losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from diffutils.datasets import grid_mixture
from diffutils.distributions import GaussianMixture
from diffutils.objectives import l_bound, l_hybrid, l_simple, prior_term, stochastic, variational_bound
from diffutils.objectives.stochastic import draw_times, time_shares
from diffutils.process import diffuse, posterior
from diffutils.samplers import VARIANCE_OUTPUTS, Ancestral, predict_step, predict_x0
from diffutils.schedule import Schedule

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
VARIANCES = torch.tensor([0.5, 0.05], dtype=torch.float64)
GAUSSIAN = GaussianMixture(torch.ones(1), MEAN[None], torch.diag(VARIANCES)[None])
TILTED = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[1.0, -0.5], [-0.4, 0.2]], dtype=torch.float64),
    torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.1, -0.05], [-0.05, 0.2]]], dtype=torch.float64),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Answer:
    """A denoiser that answers x0_hat = scale * x_t, always the same variance output, and remembers its x_t."""

    prediction = "x0"

    def __init__(self, output: float, kind: str, scale: float = 0.5) -> None:
        self.output, self.variance_output, self.scale, self.asked = output, kind, scale, []

    def __call__(self, x_t, t):
        return self.with_variance(x_t, t)[0]

    def with_variance(self, x_t, t):
        self.asked.append((x_t, t))
        return self.scale * x_t, torch.full_like(x_t, self.output)


@pytest.mark.parametrize("mixture", [GAUSSIAN, TILTED])
@pytest.mark.parametrize("alpha_bar", [0.99, 0.5, 0.05])
def test_the_exact_variance_of_x0_is_the_slope_of_its_expectation(mixture, alpha_bar):
    # Tweedie's second formula: Cov(x_0 | x_t) = (1 - alpha_bar) / sqrt(alpha_bar) dE[x_0 | x_t] / dx_t.
    x = mixture.diffused(alpha_bar).sample(2, generator=seeded())
    slopes = torch.stack([
        torch.autograd.functional.jacobian(lambda p: mixture.expected_x0(p[None], alpha_bar)[0], point).diagonal()
        for point in x
    ])  # fmt: skip
    expected = (1 - alpha_bar) / math.sqrt(alpha_bar) * slopes
    torch.testing.assert_close(mixture.variance_x0(x, alpha_bar), expected)


def test_the_oracles_step_has_the_moments_of_the_exact_reverse_step():
    schedule = Schedule.linear(25, 0.01, 0.3)
    for t in (2, 9, 25):
        x_t = TILTED.diffused(float(schedule.alpha_bar[t])).sample(3, generator=seeded(t))
        x0_hat, log_variance = predict_step(TILTED.denoiser(schedule), schedule, x_t, t)
        for i, point in enumerate(x_t):
            exact = TILTED.reverse_posterior(point, float(schedule.alpha_bar[t - 1]), float(schedule.alpha_bar[t]))
            torch.testing.assert_close(posterior(schedule, x0_hat, x_t, t)[0][i], exact.mean)
            torch.testing.assert_close(log_variance[i].exp(), exact.covariance.diagonal())


@pytest.mark.parametrize("t", [1, 2, 9, 25])
def test_outputs_mean_what_the_papers_say(t):
    schedule, x_t = Schedule.linear(25, 0.01, 0.3), torch.zeros(3, 2, dtype=torch.float64)
    beta, tilde = float(schedule.beta[t]), float(schedule.beta_tilde[max(t, 2)])

    def variance(output, kind):
        return float(predict_step(Answer(output, kind), schedule, x_t, t)[1].exp()[0, 0])

    assert variance(1.0, "range") == pytest.approx(beta)
    assert variance(-1.0, "range") == pytest.approx(tilde)
    assert variance(0.0, "range") == pytest.approx(math.sqrt(beta * tilde))
    assert variance(0.0, "free") == pytest.approx(beta)
    assert variance(1.0, "free") > beta
    own = float(schedule.beta_tilde[t])
    assert variance(-3.0, "free") == pytest.approx(own + math.exp(-3) * (beta - own))
    assert math.isfinite(math.log(variance(-1e4, "free"))) and math.isfinite(variance(1e4, "free"))


@pytest.mark.parametrize("kind", VARIANCE_OUTPUTS)
def test_with_a_constant_variance_the_ledger_is_that_of_the_table(kind):
    schedule, x0 = Schedule.linear(25, 0.01, 0.3), GAUSSIAN.sample(50, generator=seeded())
    x_t = torch.zeros(1, 2, dtype=torch.float64)
    own = [float(predict_step(Answer(0.4, kind), schedule, x_t, t)[1].exp()[0, 0]) for t in range(1, 26)]
    table = torch.tensor([0.0, *own], dtype=torch.float64)
    learned, fixed = (
        variational_bound(Answer(0.4, kind), schedule, x0, variance=v, generator=seeded(1)) for v in ("learned", table)
    )
    torch.testing.assert_close(learned.terms, fixed.terms)
    torch.testing.assert_close(learned.per_example, fixed.per_example)
    torch.testing.assert_close(learned.x0_errors, fixed.x0_errors)


def test_a_term_with_a_variance_for_each_coordinate_is_the_kl_divergence():
    schedule, x0 = Schedule.linear(12, 0.05, 0.3), TILTED.sample(50, generator=seeded())
    denoiser = TILTED.denoiser(schedule)
    bound = variational_bound(denoiser, schedule, x0, variance="learned", generator=seeded(1))
    generator = seeded(1)
    for t in range(1, 13):
        x_t = diffuse(schedule, x0, t, generator=generator)
        x0_hat, log_variance = predict_step(denoiser, schedule, x_t, t)
        mean, tilde = posterior(schedule, x0, x_t, t)
        model = Independent(Normal(posterior(schedule, x0_hat, x_t, t)[0], (0.5 * log_variance).exp()), 1)
        truth = Independent(Normal(mean, tilde.sqrt().expand_as(mean).clamp_min(1e-30)), 1)
        expected = -model.log_prob(x0) if t == 1 else kl_divergence(truth, model)
        torch.testing.assert_close(bound.terms[t - 1], expected.mean())


@pytest.mark.parametrize("schedule", [Schedule.linear(25, 0.01, 0.3), Schedule.cosine(6), Schedule([0.4])], ids=str)
def test_with_exact_steps_the_bound_loses_the_prior_alone(schedule):
    """For a diagonal Gaussian every exact reverse step is Gaussian: the whole gap is KL(q(x_T) || N(0, I))."""
    x0 = GAUSSIAN.sample(4000, generator=seeded())
    bound = variational_bound(GAUSSIAN.denoiser(schedule), schedule, x0, variance="learned", generator=seeded(1))
    surprise = bound.per_example + GAUSSIAN.log_prob(x0)
    gap = GAUSSIAN.kl_to_standard_normal(float(schedule.alpha_bar[-1]))
    assert abs(float(surprise.mean()) - gap) < 5 * float(surprise.std()) / math.sqrt(4000)


def test_a_chain_with_exact_steps_samples_the_law_in_few_steps():
    schedule = Schedule.cosine(4)
    x_T = torch.randn(40_000, 2, dtype=torch.float64, generator=seeded())
    x = Ancestral(GAUSSIAN.denoiser(schedule), schedule, variance="learned").sample(x_T=x_T, generator=seeded(1))
    # The last step returns the mean of q(x_0 | x_1), so its variance is missing.
    left = GAUSSIAN.variance_x0(x[:1], float(schedule.alpha_bar[1]))[0]
    expected = VARIANCES - left
    z = [(x.mean(0) - MEAN) / (expected / 40_000).sqrt(), (x.var(0) / expected - 1) * math.sqrt(20_000)]
    assert torch.cat(z).abs().max() < 5


def test_a_respaced_chain_gets_its_own_variances():
    schedule = Schedule.linear(100)
    short, x_t = schedule.respaced(5), torch.zeros(2, 2, dtype=torch.float64)
    denoiser = Answer(1.0, "range")
    log_variance = predict_step(denoiser, short, x_t, 3)[1]
    assert float(log_variance.exp()[0, 0]) == pytest.approx(float(short.beta[3]))
    assert denoiser.asked[-1][1] == 60


def test_times_are_shared_out_by_the_growth_of_the_noise():
    schedule = Schedule.linear(100)
    shares = time_shares(schedule)
    growth = torch.log(schedule.sigma2[1:] / schedule.sigma2[:-1])[1:]
    assert float(shares.sum()) == pytest.approx(1) and float(shares.min()) > 0
    torch.testing.assert_close(shares[1:] / shares[0], growth)
    assert time_shares(Schedule([0.3])).tolist() == [1.0]


@pytest.mark.parametrize("batch", [1, 7, 40, 1000])
def test_times_follow_their_shares_and_are_spread_evenly(batch):
    shares, generator = time_shares(Schedule.linear(40)), seeded()
    draws = torch.stack([draw_times(shares, torch.zeros(batch, 2), generator) for _ in range(4000 // batch)])
    counts = torch.bincount(draws.flatten(), minlength=41).double()
    assert counts[0] == 0 and len(counts) == 41
    for row in draws[:5]:
        assert (torch.bincount(row, minlength=41)[1:] - batch * shares).abs().max() < 2
    # The first example of a batch sees many times as well: without that the loss would be biased for it.
    assert batch > 40 or draws[:, 0].unique().numel() > 10
    z = (counts[1:] - 4000 * shares) / (4000 * shares * (1 - shares)).sqrt()
    assert z.abs().max() < 5


@pytest.mark.parametrize("law", [TILTED, grid_mixture().to(dtype=torch.float64)])
def test_the_stochastic_bound_is_unbiased_for_every_example(law):
    schedule = Schedule.linear(25, 0.01, 0.3)
    denoiser, x0 = law.denoiser(schedule, "v"), law.sample(8, generator=seeded())
    generator = seeded(1)
    many = x0.repeat(100, 1)
    draws = torch.cat([l_bound(denoiser, schedule, many, generator=generator).view(100, 8) for _ in range(40)])
    full = variational_bound(denoiser, schedule, many, variance="learned", generator=seeded(2)).per_example.view(100, 8)
    z = (draws.mean(0) - full.mean(0)) / (draws.var(0) / 4000 + full.var(0) / 100).sqrt()
    assert z.abs().max() < 5


def test_one_time_of_the_stochastic_bound_is_that_term_times_T():
    schedule, x0 = Schedule([0.4]), TILTED.sample(6, generator=seeded())
    estimate = l_bound(TILTED.denoiser(schedule), schedule, x0, generator=seeded(3))
    generator = seeded(3)
    draw_times(time_shares(schedule), x0, generator)
    x_1 = diffuse(schedule, x0, 1, generator=generator)
    x0_hat, log_variance = predict_step(TILTED.denoiser(schedule), schedule, x_1, 1)
    decoder = Independent(Normal(x0_hat, (0.5 * log_variance).exp()), 1)
    torch.testing.assert_close(estimate, prior_term(schedule, x0) - decoder.log_prob(x0))


def test_the_hybrid_loss_is_a_sum_whose_bound_trains_the_variance_alone(monkeypatch):
    # With the same times the bound of one is that of the other.
    monkeypatch.setattr(stochastic, "time_shares", lambda schedule: torch.full((25,), 0.04, dtype=torch.float64))
    schedule, x0 = Schedule.linear(25, 0.01, 0.3), TILTED.sample(40, generator=seeded())
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    output = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    denoiser = Answer(0.0, "range")
    denoiser.with_variance = lambda x_t, t: (scale * x_t, output.expand_as(x_t))

    def gradients(loss):
        return torch.autograd.grad(loss, (scale, output), allow_unused=True)

    plain = gradients(l_hybrid(denoiser, schedule, x0, weight=0.0, generator=seeded(1)))
    both = gradients(l_hybrid(denoiser, schedule, x0, weight=0.5, generator=seeded(1)))
    bound = gradients(l_bound(denoiser, schedule, x0, generator=seeded(1)).mean())
    assert float(plain[1]) == 0 and both[0] == plain[0]
    torch.testing.assert_close(both[1], 0.5 * bound[1] / 2)
    values = [l_hybrid(denoiser, schedule, x0, weight=w, generator=seeded(1)) for w in (0.0, 0.5)]
    estimate = l_bound(denoiser, schedule, x0, generator=seeded(1)).mean()
    torch.testing.assert_close(values[1] - values[0], 0.25 * estimate)


def test_without_its_bound_the_hybrid_loss_is_l_simple():
    schedule, law = Schedule.linear(25, 0.01, 0.3), TILTED
    generator, denoiser = seeded(), law.denoiser(schedule, "v")
    x0 = law.sample(2000, generator=generator)
    pairs = torch.tensor([
        [float(l_hybrid(denoiser, schedule, x0, weight=0.0, generator=generator)),
         float(l_simple(denoiser, schedule, x0, generator=generator))] for _ in range(40)
    ])  # fmt: skip
    assert abs(float(pairs.diff(dim=1).mean())) < 5 * float(pairs.diff(dim=1).std()) / math.sqrt(40)


def test_a_denoiser_without_a_variance_is_refused_by_name():
    class Fixed:
        prediction = "eps"

        def __call__(self, x_t, t):
            return x_t

    schedule, x0 = Schedule.linear(25), torch.randn(4, 2)
    with pytest.raises(ValueError, match="variance"):
        variational_bound(Fixed(), schedule, x0, variance="learned")
    with pytest.raises(ValueError, match="variance"):
        Ancestral(Fixed(), schedule, variance="learned")
    with pytest.raises(ValueError, match="variance"):
        l_bound(Fixed(), schedule, x0)
    with pytest.raises(ValueError, match="variance_output"):
        l_bound(Answer(0.0, "wide"), schedule, x0)
    with pytest.raises(ValueError, match="weight"):
        l_hybrid(Answer(0.0, "free"), schedule, x0, weight=-1.0)


def test_the_guess_of_x0_is_the_same_with_and_without_the_variance():
    schedule, x_t = Schedule.linear(25), TILTED.sample(4, generator=seeded())
    denoiser = TILTED.denoiser(schedule, "eps")
    assert torch.equal(predict_step(denoiser, schedule, x_t, 7)[0], predict_x0(denoiser, schedule, x_t, 7))


@pytest.mark.parametrize("law", [GAUSSIAN, TILTED])
def test_a_decoder_variance_of_your_own_is_the_same_with_learned_and_fixed_variances(law):
    schedule, x = Schedule.linear(25), law.sample(20, generator=seeded())
    oracle = law.denoiser(schedule, "x0")

    def bound(variance, decoder_variance=None):
        options = {"variance": variance, "decoder_variance": decoder_variance, "generator": seeded(1)}
        return variational_bound(oracle, schedule, x, **options)

    usual, own, fixed = bound("learned"), bound("learned", 0.3), bound("beta", 0.3)
    torch.testing.assert_close(own.terms[0], fixed.terms[0])
    assert torch.equal(own.terms[1:], usual.terms[1:]) and own.L_0 != usual.L_0
    with pytest.raises(ValueError, match="^decoder_variance"):
        bound("learned", 0.0)


def test_the_guess_is_clipped_with_a_learned_variance_too():
    sampler = Ancestral(Answer(0.0, "free", scale=50.0), Schedule.linear(25), variance="learned", clip=(-1.0, 1.0))
    samples = sampler.sample((50, 2), generator=seeded())
    assert float(samples.abs().max()) == 1.0


def test_the_variance_of_a_jump_lies_between_those_of_the_jump():
    schedule, x_t = Schedule.linear(25), torch.zeros(3, 2, dtype=torch.float64)
    for output, name in ((1.0, "beta"), (-1.0, "beta_tilde")):
        log_variance = predict_step(Answer(output, "range"), schedule, x_t, 20, 5)[1]
        torch.testing.assert_close(log_variance.exp(), torch.full_like(x_t, getattr(schedule.transition(20, 5), name)))
