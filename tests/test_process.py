"""The forward process against exact Gaussian answers, in law and in numbers, and against bad input."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from diffutils.device import make_generator
from diffutils.process import PREDICTIONS, convert, diffuse, draw_noise, forward_chain, forward_step, posterior
from diffutils.schedule import Schedule

SHAPES = [(5,), (5, 2), (5, 3, 4), (5, 1, 8, 8), (5, 2, 3, 4, 5)]
STEPS = {
    "linear": Schedule.linear(),
    "cosine": Schedule.cosine(),
    "sigmoid": Schedule.sigmoid(),
    "respaced": Schedule.linear().respaced(7),
    "gentle": Schedule([1e-14, 1e-12, 1e-9, 1e-5]),
}


def moment_z_scores(x: torch.Tensor, mean: float, variance: float) -> list[float]:
    """z-scores of the mean and of the variance of Gaussian numbers."""
    n = x.numel()
    of_mean = (float(x.double().mean()) - mean) / math.sqrt(variance / n)
    of_variance = (float((x.double() - mean).square().mean()) - variance) / (variance * math.sqrt(2 / n))
    return [of_mean, of_variance]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("t", [1, 4, 12])
def test_chain_and_closed_form_have_the_same_law(t, seed):
    schedule = Schedule.linear(12, 0.02, 0.5)
    x0 = torch.full((40_000,), 1.5)
    a = float(schedule.alpha_bar[t])
    path = forward_chain(schedule, x0, steps=t, generator=make_generator(seed))
    jump = diffuse(schedule, x0, t, generator=make_generator(seed + 100))
    for sample in (path[-1], jump):
        z = moment_z_scores(sample, math.sqrt(a) * 1.5, 1 - a)
        assert max(map(abs, z)) < 5, z


def test_one_step_has_the_law_of_equation_2():
    schedule = Schedule.constant(3, 0.3)
    x1 = forward_step(schedule, torch.full((100_000,), -2.0), 2, generator=make_generator(1))
    z = moment_z_scores(x1, -2 * math.sqrt(0.7), 0.3)
    assert max(map(abs, z)) < 5, z


def test_chain_is_correlated_along_the_path_as_a_chain_is():
    # Cov(x_s, x_t | x_0) = sqrt(alpha_bar_t / alpha_bar_s) (1 - alpha_bar_s): independent jumps would have none.
    schedule = Schedule.linear(12, 0.02, 0.5)
    n = 100_000
    path = forward_chain(schedule, torch.zeros(n), generator=make_generator(2)).double()
    s, t = 4, 9
    ratio, spread = float(schedule.alpha_bar[t] / schedule.alpha_bar[s]), float(schedule.sigma2[s])
    expected = math.sqrt(ratio) * spread
    z = (float((path[s] * path[t]).mean()) - expected) / float((path[s] * path[t]).std() / math.sqrt(n))
    assert abs(z) < 5


def test_chain_starts_with_the_data_and_is_reproducible():
    schedule, x0 = Schedule.constant(6, 0.1), torch.randn(3, 2, generator=make_generator(0))
    path = forward_chain(schedule, x0, generator=make_generator(5))
    assert path.shape == (7, 3, 2) and torch.equal(path[0], x0)
    again = forward_chain(schedule, x0, generator=make_generator(5))
    assert torch.equal(path, again)
    assert torch.equal(forward_chain(schedule, x0, steps=2, generator=make_generator(5)), path[:3])
    assert torch.equal(forward_chain(schedule, x0, steps=0), x0[None])


def test_noise_without_a_generator_is_torchs_own_in_the_order_of_the_axes():
    like = torch.empty(3, 4, 5).transpose(0, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noise = draw_noise(like)
        torch.manual_seed(0)
        assert torch.equal(noise, torch.randn(5, 4, 3)) and noise.is_contiguous()


def test_given_noise_is_used_as_it_is():
    schedule = Schedule.linear()
    x, eps = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    t = torch.tensor([1, 10, 500, 1000])
    a, b = schedule.alpha_bar[t][:, None], schedule.beta[t][:, None]
    assert_close(diffuse(schedule, x, t, noise=eps), a.sqrt() * x + (1 - a).sqrt() * eps)
    assert_close(forward_step(schedule, x, t, noise=eps), (1 - b).sqrt() * x + b.sqrt() * eps)
    assert torch.equal(diffuse(schedule, x, 0, noise=eps), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_and_per_sample_times(shape):
    schedule = Schedule.linear()
    x, eps = (torch.randn(shape, generator=make_generator(i)) for i in range(2))
    times = [1, 2, 77, 500, 1000]
    for function in (
        lambda x, e, t: diffuse(schedule, x, t, noise=e),
        lambda x, e, t: forward_step(schedule, x, t, noise=e),
        lambda x, e, t: posterior(schedule, x, e, t)[0],
        lambda x, e, t: convert(schedule, e, x, t, "v", "score"),
    ):
        together = function(x, eps, torch.tensor(times))
        apart = torch.cat([function(x[i : i + 1], eps[i : i + 1], t) for i, t in enumerate(times)])
        assert together.shape == shape
        assert_close(together, apart, rtol=1e-6, atol=1e-7)
    variance = posterior(schedule, x, eps, torch.tensor(times))[1]
    assert variance.shape == (5,) + (1,) * (len(shape) - 1)
    assert posterior(schedule, x, eps, 3)[1].shape == (1,) * len(shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_follows_the_data(dtype):
    schedule, x = Schedule.linear(), torch.zeros(3, 2, dtype=dtype)
    for t in (5, torch.tensor([1, 2, 3])):
        mean, variance = posterior(schedule, x, x, t)
        made = [forward_step(schedule, x, t), diffuse(schedule, x, t), mean, variance]
        made += [convert(schedule, x, x, t, s, g) for s, g in itertools.permutations(PREDICTIONS, 2)]
        assert {m.dtype for m in made} == {dtype}
    assert forward_chain(schedule, x, steps=2).dtype == dtype


def test_noise_comes_from_the_generator_alone():
    like = torch.empty(1000, 2)
    torch.manual_seed(0)
    first = draw_noise(like, generator=make_generator(3))
    torch.manual_seed(1)
    assert torch.equal(first, draw_noise(like, generator=make_generator(3)))
    assert not torch.equal(first, draw_noise(like, generator=make_generator(4)))
    assert max(map(abs, moment_z_scores(first, 0.0, 1.0))) < 5


@pytest.mark.parametrize("t", [2, 5, 12])
@pytest.mark.parametrize("x0, x_t", [(-1.5, 0.3), (0.2, -2.0)])
def test_posterior_is_bayes_rule_on_a_grid(t, x0, x_t):
    schedule = Schedule.linear(12, 0.02, 0.5)
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    prior_mean, prior_variance = schedule.sqrt_alpha_bar[t - 1] * x0, schedule.sigma2[t - 1]
    log_density = -((grid - prior_mean) ** 2) / (2 * prior_variance)
    log_density -= (x_t - schedule.alpha[t].sqrt() * grid) ** 2 / (2 * schedule.beta[t])
    density = log_density.softmax(0)
    grid_mean = (density * grid).sum()
    grid_variance = (density * (grid - grid_mean) ** 2).sum()
    mean, variance = posterior(schedule, torch.tensor([x0], dtype=grid.dtype), torch.tensor([x_t], dtype=grid.dtype), t)
    assert_close(mean[0], grid_mean, rtol=1e-9, atol=1e-9)
    assert_close(variance[0], grid_variance, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("schedule", STEPS.values(), ids=STEPS)
def test_posterior_times_marginal_is_the_joint_at_every_t(schedule):
    # q(x_{t-1} | x_t, x_0) q(x_t | x_0) and q(x_t | x_{t-1}) q(x_{t-1} | x_0) are Gaussian in (x_{t-1}, x_t):
    # the slope, the offset and the variances of one must be those of the other.
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for t in range(1, schedule.T + 1, max(1, schedule.T // 97)):
        w0, variance = posterior(schedule, one, zero, t)
        wt = posterior(schedule, zero, one, t)[0]
        a, a_prev, keep = schedule.sqrt_alpha_bar[t], schedule.sqrt_alpha_bar[t - 1], schedule.alpha[t].sqrt()
        assert_close(w0 + wt * a, a_prev[None], rtol=1e-12, atol=0.0)
        assert_close(wt * schedule.sigma2[t], keep * schedule.sigma2[t - 1][None], rtol=1e-12, atol=0.0)
        assert_close(variance + wt**2 * schedule.sigma2[t], schedule.sigma2[t - 1][None], rtol=1e-12, atol=0.0)


def test_posterior_agrees_with_regression_on_samples():
    # Among chains from one x_0, the residual of x_{t-1} about the posterior mean has variance beta_tilde_t and is
    # uncorrelated with x_t.
    schedule, t, n = Schedule.linear(12, 0.02, 0.5), 7, 100_000
    x0 = torch.full((n,), 0.8, dtype=torch.float64)
    path = forward_chain(schedule, x0, steps=t, generator=make_generator(0))
    mean, variance = posterior(schedule, x0, path[t], t)
    residual = path[t - 1] - mean
    assert max(map(abs, moment_z_scores(residual, 0.0, float(variance)))) < 5
    product = residual * path[t]
    assert abs(float(product.mean() / product.std())) * math.sqrt(n) < 5


def test_posterior_at_the_first_step_is_the_data():
    awkward = [Schedule([beta]) for beta in (0.08740822491721156, 0.23921235302429322, 0.3)]
    for schedule in [*STEPS.values(), *awkward]:
        x0, x1 = (torch.randn(4, 2, generator=make_generator(i), dtype=torch.float64) for i in range(2))
        mean, variance = posterior(schedule, x0, x1, 1)
        assert torch.equal(mean, x0) and float(variance) == 0.0


@pytest.mark.parametrize("schedule", STEPS.values(), ids=STEPS)
def test_conversions_are_right_and_return_at_every_t(schedule):
    t = torch.arange(1, schedule.T + 1)
    x0, eps = (torch.randn(schedule.T, 2, generator=make_generator(i), dtype=torch.float64) for i in range(2))
    x_t = diffuse(schedule, x0, t, noise=eps)
    a, s = schedule.sqrt_alpha_bar[t][:, None], schedule.sqrt_one_minus_alpha_bar[t][:, None]
    truth = {"eps": eps, "x0": x0, "v": a * eps - s * x0, "score": -eps / s}
    # Rounding x_t moves x0 by about 1e-16 / a and eps by 1e-16 / s: no formula can do better.
    unit = {"eps": 1 / s, "x0": 1 / a, "v": 1 / torch.minimum(a, s), "score": 1 / s**2}
    for source, target in itertools.product(PREDICTIONS, repeat=2):
        made = convert(schedule, truth[source], x_t, t, source, target)
        assert float(((made - truth[target]).abs() / unit[target]).max()) < 1e-14, (source, target)
        back = convert(schedule, made, x_t, t, target, source)
        worst = unit[source] * torch.maximum(unit["x0"], unit["eps"])
        assert float(((back - truth[source]).abs() / worst).max()) < 1e-14, (source, target)


def test_short_routes_lose_nothing_in_float32():
    # eps and score, v and (x0, eps) are one step apart: no division by a small number, so all digits stay.
    schedule = Schedule.sigmoid()
    t = torch.arange(1, 1001)
    x_t, value = (torch.randn(1000, 2, generator=make_generator(i)) for i in range(2))
    back = convert(schedule, convert(schedule, value, x_t, t, "eps", "score"), x_t, t, "score", "eps")
    assert_close(back, value, rtol=1e-6, atol=0.0)
    a, s = schedule.sqrt_alpha_bar[t][:, None], schedule.sqrt_one_minus_alpha_bar[t][:, None]
    x0 = convert(schedule, value, x_t, t, "v", "x0").double()
    eps = convert(schedule, value, x_t, t, "v", "eps").double()
    assert_close(a * eps - s * x0, value.double(), rtol=0.0, atol=2e-6)
    assert_close(a * x0 + s * eps, x_t.double(), rtol=0.0, atol=2e-6)


def test_score_is_the_gradient_of_the_log_density():
    schedule, t = Schedule.linear(), 300
    x0, eps = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    x_t = diffuse(schedule, x0, t, noise=eps).requires_grad_()
    law = torch.distributions.Normal(schedule.sqrt_alpha_bar[t] * x0, schedule.sqrt_one_minus_alpha_bar[t])
    (gradient,) = torch.autograd.grad(law.log_prob(x_t).sum(), x_t)
    assert_close(convert(schedule, eps, x_t.detach(), t, "eps", "score"), gradient)


def test_gradients_flow_through_the_closed_form_and_conversions():
    schedule, x0 = Schedule.linear(), torch.randn(3, 2, requires_grad=True)
    x_t = diffuse(schedule, x0, torch.tensor([1, 500, 1000]), generator=make_generator(0))
    convert(schedule, x_t * 2, x_t, 500, "eps", "v").sum().backward()
    assert bool((x0.grad != 0).all())


def test_x0_cannot_be_asked_of_eps_where_no_signal_is_left():
    schedule, x = Schedule.constant(1000, 0.9), torch.ones(2, 2)
    for source, target in itertools.product(("eps", "score"), ("x0", "v")):
        with pytest.raises(ValueError, match="alpha_bar_t > 0"):
            convert(schedule, x, x, 1000, source, target)
        assert bool(torch.isfinite(convert(schedule, x, x, 10, source, target)).all())
    for target in PREDICTIONS:
        assert bool(torch.isfinite(convert(schedule, x, x, 1000, "v", target)).all())


def test_x0_cannot_be_asked_of_eps_where_the_last_step_alone_leaves_no_signal():
    schedule, x = Schedule([0.1, 0.2, 1.0]), torch.ones(2, 2)
    for t in (3, torch.tensor([3, 2])):
        with pytest.raises(ValueError, match="alpha_bar_t > 0"):
            convert(schedule, x, x, t, "eps", "x0")
    assert bool(torch.isfinite(convert(schedule, x, x, torch.tensor([2, 1]), "eps", "x0")).all())


def calls(schedule: Schedule):
    """Every public function as a call of data and time."""
    return {
        "forward_step": lambda x, t: forward_step(schedule, x, t),
        "diffuse": lambda x, t: diffuse(schedule, x, t),
        "posterior": lambda x, t: posterior(schedule, x, x, t),
        "convert": lambda x, t: convert(schedule, x, x, t, "eps", "x0"),
        "forward_chain": lambda x, t: forward_chain(schedule, x, steps=t),
    }


@pytest.mark.parametrize("name", ["forward_step", "diffuse", "posterior", "convert", "forward_chain"])
@pytest.mark.parametrize(
    "x, word",
    [
        (torch.tensor([[1.0, math.nan]]), "NaN"),
        (torch.tensor([[math.inf, 1.0]]), "NaN"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), "dtype"),
        (torch.zeros(2, 2, dtype=torch.long), "dtype"),
        (torch.zeros(0, 2), "shape"),
        (torch.tensor(1.0), "shape"),
        ([[1.0, 2.0]], "Tensor"),
    ],
)
def test_bad_data_is_refused(name, x, word):
    with pytest.raises(ValueError, match=word):
        calls(Schedule.linear())[name](x, 5)


@pytest.mark.parametrize("name, lowest", [("forward_step", 1), ("diffuse", 0), ("posterior", 1), ("convert", 1)])
def test_bad_times_are_refused(name, lowest):
    call, x = calls(Schedule.linear(30))[name], torch.zeros(2, 3)
    for t in (lowest - 1, 31, 1.0, "1", torch.tensor([1.0, 2.0]), torch.tensor([lowest - 1, 3]), torch.tensor([3, 31])):
        with pytest.raises(ValueError, match="^t"):
            call(x, t)
    for t in (torch.tensor([1, 2, 3]), torch.tensor([1]), torch.ones(2, 1, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"^t\.shape"):
            call(x, t)
    call(x, lowest), call(x, 30), call(x, torch.tensor([lowest, 30]))


def test_other_bad_input_is_refused():
    schedule, x = Schedule.linear(), torch.zeros(2, 3)
    cases = {
        "noise": lambda: diffuse(schedule, x, 1, noise=torch.zeros(3, 2)),
        r"noise\.shape": lambda: diffuse(schedule, x, 1, noise=torch.tensor(0.5)),
        "x_t": lambda: posterior(schedule, x, x.double(), 1),
        "value": lambda: convert(schedule, torch.full((2, 3), math.nan), x, 1, "eps", "x0"),
        "source": lambda: convert(schedule, x, x, 1, "epsilon", "x0"),
        "target": lambda: convert(schedule, x, x, 1, "eps", "x"),
        "steps must be .* got 1001": lambda: forward_chain(schedule, x, steps=1001),
        "steps must be .* got -1": lambda: forward_chain(schedule, x, steps=-1),
        "generator": lambda: diffuse(schedule, x, 1, generator=0),
    }
    for argument, call in cases.items():
        with pytest.raises(ValueError, match=argument):
            call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_serves_data_on_a_gpu():
    schedule, x = Schedule.linear(), torch.zeros(4, 2, device="cuda")
    for t in (5, torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 4], device="cuda")):
        on_gpu = diffuse(schedule, x, t, generator=make_generator(0))
        on_cpu = diffuse(schedule, x.cpu(), t if isinstance(t, int) else t.cpu(), generator=make_generator(0))
        assert on_gpu.device.type == "cuda"
        assert_close(on_gpu.cpu(), on_cpu)


def test_betas_are_no_schedule_and_an_array_is_no_time() -> None:
    x = torch.zeros(5, 2)
    for call in (
        lambda betas: forward_step(betas, x, 1),
        lambda betas: forward_chain(betas, x),
        lambda betas: diffuse(betas, x, 1),
        lambda betas: posterior(betas, x, x, 1),
        lambda betas: convert(betas, x, x, 1, "v", "x0"),
    ):
        with pytest.raises(ValueError, match="schedule must be a Schedule, got 'list'"):
            call([0.1, 0.2])
    for times in (torch.arange(1, 6).numpy(), [1, 2, 3, 4, 5]):
        with pytest.raises(ValueError, match="t must be an integer in 0..10, got"):
            diffuse(Schedule.cosine(10), x, times)
