"""Ancestral sampling against exact answers: a Gaussian's chain is linear, so its law at every T is known without sampling."""

from __future__ import annotations

import math

import pytest
import torch

from diffutils.distributions import GaussianMixture
from diffutils.models.ddpm import DDPM
from diffutils.networks import MLP
from diffutils.process import PREDICTIONS, convert, posterior
from diffutils.samplers import Ancestral, predict_x0, reverse_variance
from diffutils.samplers.denoiser import posterior_variances
from diffutils.schedule import Schedule

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)
GAUSSIAN = GaussianMixture(torch.ones(1), MEAN[None], COVARIANCE[None])
SINGLE = DDPM(MLP(2, width=4, depth=1), Schedule.linear(25))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Answer:
    """A denoiser that always gives the same answer and remembers what it was asked."""

    def __init__(self, value: float, prediction: str = "x0") -> None:
        self.value, self.prediction, self.asked = value, prediction, []

    def __call__(self, x_t, t):
        self.asked.append((x_t, t))
        return torch.full_like(x_t, self.value)


class Given(Answer):
    """A denoiser whose guess of x_0 is this tensor."""

    def __call__(self, x_t, t):
        return self.value


def ancestral(denoiser, schedule, shape=None, *, variance="beta_tilde", clip=None, **walk):
    return Ancestral(denoiser, schedule, variance=variance, clip=clip).sample(shape, **walk)


def ancestral_step(schedule, x_t, t, x0_hat, *, variance="beta_tilde", generator=None):
    return Ancestral(Given(x0_hat), schedule, variance=variance).step(x_t, t, t - 1, generator=generator)


def exact_law(schedule: Schedule, sigma2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the chain's output when the denoiser is exact for GAUSSIAN, written from the papers."""
    mean, covariance = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    for t in range(schedule.T, 0, -1):
        ab, before, beta = schedule.alpha_bar[t], schedule.alpha_bar[t - 1], schedule.beta[t]
        gain = ab.sqrt() * COVARIANCE @ torch.linalg.inv(ab * COVARIANCE + (1 - ab) * torch.eye(2))
        w0, wt = before.sqrt() * beta / (1 - ab), (1 - beta).sqrt() * (1 - before) / (1 - ab)
        step = w0 * gain + wt * torch.eye(2)
        mean = step @ mean + w0 * (MEAN - ab.sqrt() * gain @ MEAN)
        covariance = step @ covariance @ step.T + (sigma2[t] * torch.eye(2) if t > 1 else 0)
    return mean, covariance


def z_scores(samples: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    n, root = len(samples), torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, (samples - mean).T, upper=False).T
    spread = (white.T @ white / n - torch.eye(2)) * math.sqrt(n)
    return torch.stack([*(white.mean(0) * math.sqrt(n)), *(spread.diagonal() / math.sqrt(2)), spread[0, 1]])


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_a_gaussians_chain_has_the_law_that_the_recursion_says(variance):
    schedule = Schedule.linear(25, 0.01, 0.3)
    law = exact_law(schedule, reverse_variance(schedule, variance))
    samples = ancestral(
        GAUSSIAN.denoiser(schedule), schedule, x_T=torch.randn(40_000, 2, dtype=torch.float64, generator=seeded()),
        variance=variance, generator=seeded(1),
    )  # fmt: skip
    assert z_scores(samples, *law).abs().max() < 5
    other = exact_law(schedule, reverse_variance(schedule, {"beta": "beta_tilde", "beta_tilde": "beta"}[variance]))
    assert z_scores(samples, *other).abs().max() > 10


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_a_gaussians_chain_converges_to_the_data_at_first_order(variance):
    errors = []
    for steps in (200, 400, 800):
        schedule = Schedule.linear(2000, 1e-4, 0.02).respaced(steps)  # alpha_bar_T = 2e-9: no error from the start
        mean, covariance = exact_law(schedule, reverse_variance(schedule, variance))
        errors.append(float((covariance - COVARIANCE).norm() + (mean - MEAN).norm()))
    assert all(1.8 < a / b < 2.1 for a, b in zip(errors, errors[1:]))


def test_the_law_of_a_mixture_converges_as_steps_are_added():
    mixture = GaussianMixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.5], [1.0]], dtype=torch.float64), torch.tensor([0.01, 0.04])
    )
    parent = Schedule.linear(1000)
    normal = torch.distributions.Normal(0.0, 1.0)

    def kolmogorov(steps: int) -> float:
        x_T = torch.randn(4000, 1, dtype=torch.float64, generator=seeded(3))
        samples = ancestral(mixture.denoiser(parent), parent.respaced(steps), x_T=x_T, generator=seeded(4))
        x = samples[:, 0].sort().values
        cdf = 0.3 * normal.cdf((x + 1.5) / 0.1) + 0.7 * normal.cdf((x - 1.0) / 0.2)
        return float((cdf - torch.arange(1, 4001) / 4000).abs().max() * math.sqrt(4000))

    few, some, many = kolmogorov(4), kolmogorov(20), kolmogorov(500)
    assert few > 2 * some > 3 * many
    assert many < 2.0  # the 0.07 % point of Kolmogorov's distribution


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_gives_the_same_samples(prediction):
    schedule = Schedule.cosine(12)
    x_T = torch.randn(50, 2, dtype=torch.float64, generator=seeded())
    expected = ancestral(GAUSSIAN.denoiser(schedule, "x0"), schedule, x_T=x_T, generator=seeded(1))
    samples = ancestral(GAUSSIAN.denoiser(schedule, prediction), schedule, x_T=x_T, generator=seeded(1))
    torch.testing.assert_close(samples, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_guess_of_x0_is_what_process_converts_it_to(prediction):
    schedule, x_t = Schedule.linear(50), torch.randn(5, 3, dtype=torch.float64, generator=seeded())
    denoiser = Answer(0.7, prediction)
    for t in (1, 20, 50):
        expected = convert(schedule, torch.full_like(x_t, 0.7), x_t, t, prediction, "x0")
        torch.testing.assert_close(predict_x0(denoiser, schedule, x_t, t), expected)


def test_there_is_no_guess_where_there_is_no_noise():
    schedule, x = Schedule.linear(50), torch.zeros(2, 2)
    for t in (0, 51, -1):
        with pytest.raises(ValueError, match=r"^t must be an integer in 1\.\.50"):
            predict_x0(Answer(0.7), schedule, x, t)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("t", [2, 9, 10])
def test_one_step_has_the_mean_of_the_paper_and_its_variance(variance, t):
    schedule = Schedule.linear(10, 0.05, 0.4)
    eps = torch.tensor([[0.8, -1.1]], dtype=torch.float64)
    x_t = torch.tensor([[0.3, 2.0]], dtype=torch.float64).expand(20_000, 2)
    x0_hat = convert(schedule, eps.expand_as(x_t), x_t, t, "eps", "x0")
    samples = ancestral_step(schedule, x_t, t, x0_hat, variance=variance, generator=seeded(t))
    beta, alpha, ab = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t]
    mean = (x_t[0] - beta / (1 - ab).sqrt() * eps[0]) / alpha.sqrt()  # Ho et al. 2020, equation (11)
    sigma2 = beta if variance == "beta" else beta * (1 - schedule.alpha_bar[t - 1]) / (1 - ab)
    assert z_scores(samples, mean, sigma2 * torch.eye(2, dtype=torch.float64)).abs().max() < 5


def test_one_step_keeps_the_posterior_of_the_forward_process():
    schedule = Schedule.cosine(10)
    x0, x_t = torch.randn(2, 20_000, 2, dtype=torch.float64, generator=seeded())
    mean, variance = posterior(schedule, x0, x_t, 6)
    samples = ancestral_step(schedule, x_t, 6, x0, variance="beta_tilde", generator=seeded(1))
    zero, one = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    assert z_scores((samples - mean) / variance.sqrt(), zero, one).abs().max() < 5


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_the_last_step_adds_no_noise_and_draws_none(variance):
    schedule, generator = Schedule.linear(10, 0.05, 0.4), seeded()
    x0_hat, x_1 = torch.randn(2, 6, 3, generator=generator)
    state = generator.get_state()
    sample = ancestral_step(schedule, x_1, 1, x0_hat, variance=variance, generator=generator)
    torch.testing.assert_close(sample, x0_hat, rtol=0, atol=0)
    assert torch.equal(generator.get_state(), state)


def test_a_chain_of_one_step_is_the_guess():
    schedule = Schedule([0.9])
    samples = ancestral(Answer(0.4), schedule, (3, 2), variance="beta", generator=seeded())
    torch.testing.assert_close(samples, torch.full((3, 2), 0.4))


def test_the_network_is_told_the_times_of_the_schedule_it_was_trained_on():
    denoiser = Answer(0.0)
    ancestral(denoiser, Schedule.linear(1000).respaced(4), (2, 2), generator=seeded())
    assert [t for _, t in denoiser.asked] == [1000, 750, 500, 250]
    assert all(type(t) is int for _, t in denoiser.asked)


def test_clipping_bounds_the_guess_and_derives_the_noise_again():
    schedule, x_T = Schedule.linear(8, 0.05, 0.4), torch.randn(5, 2, dtype=torch.float64, generator=seeded())
    path = ancestral(Answer(3.0), schedule, x_T=x_T, clip=(-1.0, 1.0), trajectory=True, generator=seeded(1))
    noise = torch.randn(x_T.shape, dtype=torch.float64, generator=seeded(1))
    ab, alpha, beta = schedule.alpha_bar[8], schedule.alpha[8], schedule.beta[8]
    eps = (x_T - ab.sqrt()) / (1 - ab).sqrt()  # the noise that leads to the clipped guess, 1
    mean = (x_T - beta / (1 - ab).sqrt() * eps) / alpha.sqrt()
    torch.testing.assert_close(path[7], mean + schedule.beta_tilde[8].sqrt() * noise)
    torch.testing.assert_close(path[0], torch.ones_like(x_T))
    assert ancestral(Answer(3.0), schedule, x_T=x_T).max() == 3.0


def test_samples_may_be_numbers_and_a_batch_may_be_one():
    schedule = Schedule.linear(25)
    assert ancestral(Answer(0.4), schedule, (1,), generator=seeded()).tolist() == pytest.approx([0.4])
    assert ancestral(Answer(0.4), schedule, x_T=torch.ones(3), generator=seeded()).shape == (3,)


def test_a_trajectory_ends_in_the_samples_and_starts_at_the_noise():
    schedule, x_T = Schedule.linear(30), torch.randn(7, 2, dtype=torch.float64, generator=seeded())
    denoiser = GAUSSIAN.denoiser(schedule)
    path = ancestral(denoiser, schedule, x_T=x_T, trajectory=True, generator=seeded(1))
    assert path.shape == (31, 7, 2)
    torch.testing.assert_close(path[30], x_T, rtol=0, atol=0)
    torch.testing.assert_close(path[0], ancestral(denoiser, schedule, x_T=x_T, generator=seeded(1)), rtol=0, atol=0)


def test_without_x_T_the_chain_starts_from_standard_normal_noise():
    denoiser = Answer(0.0)
    ancestral(denoiser, Schedule.linear(25), (20_000, 2), generator=seeded(5))
    first = denoiser.asked[0][0].double()
    assert z_scores(first, torch.zeros(2).double(), torch.eye(2).double()).abs().max() < 5


def test_same_seed_same_samples_and_the_global_generator_is_left_alone():
    schedule = Schedule.linear(25)
    denoiser = GAUSSIAN.denoiser(schedule)
    before = torch.get_rng_state()
    first, second, third = (ancestral(denoiser, schedule, (4, 2), generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_table_of_variances_is_used_as_given():
    schedule, x_T = Schedule.linear(25), torch.randn(4, 2, generator=seeded())
    # All states: the last is the guess itself, whatever the variance.
    walk = {"x_T": x_T, "trajectory": True}
    table = ancestral(Answer(0.2), schedule, variance=schedule.beta.float(), generator=seeded(1), **walk)
    named = ancestral(Answer(0.2), schedule, variance="beta", generator=seeded(1), **walk)
    torch.testing.assert_close(table, named)


def test_a_range_of_variances_has_a_lower_end_at_the_first_step_too():
    for betas, lowest in (([0.3], 0.3), ([0.3, 0.4], float(Schedule([0.3, 0.4]).beta_tilde[2]))):
        schedule = Schedule(betas)
        assert posterior_variances(schedule, "range").tolist() == [0.0, lowest, *schedule.beta_tilde[2:].tolist()]
        assert torch.equal(posterior_variances(schedule, "free"), schedule.beta_tilde)


def test_a_table_of_variances_serves_single_steps_only():
    sampler = Ancestral(Answer(0.2), Schedule.linear(25), variance=Schedule.linear(25).beta)
    with pytest.raises(ValueError, match="s must be t - 1 = 9"):
        sampler.step(torch.zeros(2, 2), 10, 5)


def test_a_network_decides_dtype_and_records_no_gradient():
    class Net(torch.nn.Module):
        prediction = "eps"

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2, dtype=torch.float64)

        def forward(self, x, t):
            return self.layer(x)

    samples = ancestral(Net(), Schedule.linear(25), (3, 2), generator=seeded())
    assert samples.dtype == torch.float64 and not samples.requires_grad


def test_a_stream_gives_all_samples_chunk_by_chunk_from_one_generator():
    sampler, generator = Ancestral(GAUSSIAN.denoiser(Schedule.linear(25), "v"), Schedule.linear(25)), seeded()
    chunks = list(sampler.stream((7, 2), at_most=3, generator=seeded()))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    for chunk in chunks:
        assert torch.equal(chunk, sampler.sample((len(chunk), 2), generator=generator))
    assert [len(chunk) for chunk in sampler.stream((2, 2), at_most=3)] == [2]


@pytest.mark.parametrize(("shape", "at_most", "named"), [((0, 2), 3, "shape"), ((2, 2.5), 3, "shape"), ((2, 2), 0, "at_most"), ((2.5,), 1, "shape")])
def test_a_stream_refuses_bad_sizes_at_once(shape, at_most, named):
    with pytest.raises(ValueError, match=f"{named} must be an integer of at least 1"):
        Ancestral(Answer(0.0), Schedule.linear(25)).stream(shape, at_most=at_most)


@pytest.mark.parametrize("shape", [5, (), None])
def test_sizes_are_a_sequence_that_begins_with_the_batch(shape):
    sampler = Ancestral(Answer(0.0), Schedule.linear(25))
    with pytest.raises(ValueError, match=r"shape must be .*\(B, ...\)"):
        sampler.stream(shape, at_most=3)
    if shape is not None:
        with pytest.raises(ValueError, match=r"shape must be .*\(B, ...\)"):
            sampler.sample(shape)


def test_samples_are_made_where_they_are_asked_for():
    # "meta" is a device that every machine has: tensors there have a shape and no numbers.
    schedule = Schedule.linear(25)
    assert ancestral(Answer(0.0), schedule, (2, 2), device="meta").device.type == "meta"
    assert ancestral(Answer(0.0), schedule, (2, 2)).device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cpu_generator_serves_a_gpu_and_gives_the_same_samples():
    schedule = Schedule.linear(25)
    denoiser = GAUSSIAN.denoiser(schedule, "v")
    cpu = ancestral(denoiser, schedule, (64, 2), generator=seeded())
    gpu = ancestral(denoiser, schedule, (64, 2), generator=seeded(), device="cuda")
    assert gpu.device.type == "cuda"
    torch.testing.assert_close(gpu.cpu(), cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"variance": "sigma"}, "variance"),
        ({"variance": torch.ones(3)}, r"variance.shape must be \(26,\)"),
        ({"variance": -torch.ones(26)}, "variance"),
        ({"variance": torch.eye(26)[3] - torch.eye(26)[4]}, "variance"),
        ({"clip": (1.0, -1.0)}, "clip"),
        ({"clip": 1.0}, "clip"),
        ({"clip": torch.tensor([-1.0, 1.0]).numpy()}, r"clip must be a tuple \(low, high\), got array"),
        ({"variance": torch.ones(26).numpy()}, "variance must be one of"),
        ({"trajectory": "no"}, "trajectory must be True or False"),
        ({"generator": 0}, "generator must be a torch.Generator or None, got 'int'"),
        ({"denoiser": SINGLE, "shape": None, "x_T": torch.zeros(2, 2).double()}, r"x_T.to\(torch.float32\)"),
        ({"x_T": torch.zeros(2, 2)}, "shape"),
        ({"shape": None}, "shape"),
        ({"shape": (0, 2)}, "shape"),
        ({"shape": (2, 0)}, "shape must be an integer of at least 1"),
        ({"shape": None, "x_T": torch.tensor(0.5)}, "x_T.shape"),
        ({"shape": None, "x_T": torch.zeros(2, 2, dtype=torch.long)}, "x_T"),
        ({"shape": None, "x_T": torch.full((2, 2), torch.nan)}, "x_T"),
        ({"denoiser": lambda x, t: x}, "denoiser"),
        ({"denoiser": Answer(0.0, "noise")}, "denoiser.prediction"),
    ],
)
def test_bad_input_is_named(arguments, named):
    call = {"denoiser": Answer(0.0), "schedule": Schedule.linear(25), "shape": (2, 2)} | arguments
    with pytest.raises(ValueError, match=named):
        ancestral(call.pop("denoiser"), call.pop("schedule"), call.pop("shape"), **call)


def test_an_answer_of_another_shape_is_refused():
    class Wide(Answer):
        def __call__(self, x_t, t):
            return x_t[:, :1]

    class Pair(Answer):
        def __call__(self, x_t, t):
            return x_t, x_t

    with pytest.raises(ValueError, match="denoiser"):
        ancestral(Wide(0.0), Schedule.linear(25), (2, 2))
    with pytest.raises(ValueError, match=r"denoiser\(x_t, t\) must be a torch.Tensor, got 'tuple'"):
        ancestral(Pair(0.0), Schedule.linear(25), (2, 2))


@pytest.mark.parametrize("t", [0, 26, 1.5, True])
def test_a_step_outside_the_chain_is_refused(t):
    with pytest.raises(ValueError, match="t must be"):
        ancestral_step(Schedule.linear(25), torch.zeros(2, 2), t, torch.zeros(2, 2))


def test_a_denoiser_may_answer_in_fewer_bits_and_the_states_keep_theirs() -> None:
    def rounded(x_t, t):
        return x_t.to(torch.bfloat16)

    rounded.prediction = "eps"
    assert Ancestral(rounded, Schedule.cosine(3)).sample((2, 2)).dtype == torch.float32
