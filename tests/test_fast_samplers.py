"""The samplers of a denoiser against exact answers: orders, equal methods, laws, and what each refuses.

A Gaussian's samplers are affine maps, so pushing the origin and the unit vectors through one gives its law without
sampling. The order of convergence is measured on a mixture, against a solution by a method that diffutils has not.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import pytest
import torch

from diffutils.distributions import GaussianMixture
from diffutils.process import PREDICTIONS
from diffutils.samplers import DDIM, Ancestral, AnnealedLangevin, DPMSolver2M, Euler, Heun, PredictorCorrector, Sampler
from diffutils.schedule import Schedule

F64 = torch.float64
MEAN = torch.tensor([1.0, -0.5], dtype=F64)
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=F64)
GAUSSIAN = GaussianMixture(torch.ones(1), MEAN[None], COVARIANCE[None])
TRIO = GaussianMixture(
    torch.tensor([0.3, 0.3, 0.4]), torch.tensor([[-1.2, 0.4], [0.9, 0.9], [0.3, -1.1]], dtype=F64),
    torch.tensor([0.09, 0.16, 0.25]),
)  # fmt: skip
PAIR = GaussianMixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.5], [1.0]], dtype=F64), torch.tensor([0.01, 0.04]))

EULER_NOISE, HEUN_NOISE = partial(Euler, variable="noise_level"), partial(Heun, variable="noise_level")
DETERMINISTIC = {
    "DDIM": DDIM, "Euler": EULER_NOISE, "Euler, log": Euler, "Heun": HEUN_NOISE, "Heun, log": Heun, "2M": DPMSolver2M,
}  # fmt: skip
NOISY = {
    "ancestral, beta": partial(Ancestral, variance="beta"),
    "ancestral": Ancestral,
    "DDIM, half": partial(DDIM, eta=0.5),
    "corrected DDIM": lambda *a, **k: PredictorCorrector(DDIM(*a, **k), corrections=2, step=0.1),
    "corrected Heun": lambda *a, **k: PredictorCorrector(HEUN_NOISE(*a, **k)),
    "annealed": partial(AnnealedLangevin, steps_per_level=3),
}
ALL = DETERMINISTIC | NOISY
every = pytest.mark.parametrize("make", ALL.values(), ids=ALL)
deterministic = pytest.mark.parametrize("make", DETERMINISTIC.values(), ids=DETERMINISTIC)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


class Answer:
    """A denoiser that gives one answer, a number or a tensor, and remembers when it was asked."""

    def __init__(self, value, prediction: str = "x0") -> None:
        self.value, self.prediction, self.times = value, prediction, []

    def __call__(self, x_t, t):
        self.times.append(t)
        return self.value if isinstance(self.value, torch.Tensor) else torch.full_like(x_t, self.value)


def rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())


# -- orders --------------------------------------------------------------------------------------------------------


def runge_kutta(mixture: GaussianMixture, y: torch.Tensor, high: float, low: float, steps: int) -> torch.Tensor:
    """Solve dy / d log nu = -nu^2 score(y), the flow of x_0 + nu z, by the classical method of fourth order."""
    h = math.log(low / high) / steps

    def slope(y: torch.Tensor, u: float) -> torch.Tensor:
        spread = mixture.covariances.diagonal(dim1=1, dim2=2)[:, 0] + math.exp(2 * u)
        return -math.exp(2 * u) * GaussianMixture(mixture.weights, mixture.means, spread).score(y)

    for k in range(steps):
        u = math.log(high) + k * h
        k1 = slope(y, u)
        k2 = slope(y + h / 2 * k1, u + h / 2)
        k3 = slope(y + h / 2 * k2, u + h / 2)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(y + h * k3, u + h))
    return y


STARTS = normal(30, 2)
ORDERS = {"DDIM": 1, "Euler": 1, "Euler, log": 1, "Heun": 2, "Heun, log": 2, "2M": 2}


@lru_cache
def fine_solution(high: float, low: float, steps: int) -> torch.Tensor:
    y = runge_kutta(TRIO, STARTS * math.sqrt(1 + high**2), high, low, steps)
    return y / math.sqrt(1 + low**2)


def errors(make, schedules: list[Schedule], parent: Schedule | None, end: int, fine: torch.Tensor) -> list[float]:
    """Mean distances."""
    ends = [make(TRIO.denoiser(parent or s), s).sample(x_T=STARTS, trajectory=True)[end] for s in schedules]
    return [float((x - fine).norm(dim=1).mean()) for x in ends]


def slopes(found: list[float]) -> list[float]:
    return [math.log2(a / b) for a, b in zip(found, found[1:])]


@pytest.mark.parametrize("name", ORDERS)
def test_the_measured_order_of_convergence_is_the_theoretical_one(name):
    """On a geometric ladder down to the noise level 0.01: every doubling of the steps divides the error by 2^order."""
    ladders = [Schedule.geometric(n + 1, 0.01, 20.0) for n in (64, 128, 256)]
    fine = fine_solution(20.0, 0.01, 200)
    found = slopes(errors(DETERMINISTIC[name], ladders, None, 1, fine))
    assert all(abs(slope - ORDERS[name]) < 0.15 for slope in found), found


@pytest.mark.parametrize(("name", "low", "high"), [("Heun, log", 1.85, 2.15), ("Heun", 1.0, 1.5)])
def test_down_to_no_noise_the_last_step_decides(name, low, high):
    """Euler's last step errs by the square of its length: nu_1^2 in the noise level, nu_1^4 in log(alpha_bar)."""
    parent = Schedule.linear(5000)
    fine = fine_solution(float(parent.noise_levels[-1]), 1e-5, 400)
    found = slopes(errors(DETERMINISTIC[name], [parent.respaced(n) for n in (64, 128, 256)], parent, 0, fine))
    assert all(low < slope < high for slope in found), found


@pytest.mark.parametrize("kind", [Euler, Heun, DDIM, DPMSolver2M])
def test_what_a_sampler_does_by_default_fits_the_packages_own_schedule(kind):
    """Respaced, a cosine schedule falls by a factor of thousands in its first step, too far for Heun in the noise level."""
    parent = Schedule.cosine(100)
    fine = Heun(TRIO.denoiser(parent, "v"), parent).sample(x_T=STARTS)
    for steps, bound in ((10, 0.5), (20, 0.25)):
        x = kind(TRIO.denoiser(parent, "v"), parent.respaced(steps)).sample(x_T=STARTS)
        assert float((x - fine).norm(dim=1).mean()) < bound
    far = Heun(TRIO.denoiser(parent, "v"), parent.respaced(10), variable="noise_level").sample(x_T=STARTS)
    assert float((far - fine).norm(dim=1).mean()) > 2.0


def flow(x_T: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """The exact flow of GAUSSIAN from T to 0: along each axis of the ellipse a change of width."""
    values, basis = torch.linalg.eigh(COVARIANCE)
    nu2 = float(schedule.noise_levels[-1]) ** 2
    off = (x_T * math.sqrt(1 + nu2) - MEAN) @ basis * (values / (values + nu2)).sqrt()
    return MEAN + off @ basis.T


@deterministic
def test_the_ode_samplers_arrive_where_the_exact_flow_of_a_gaussian_does(make):
    parent = Schedule.linear(2000)
    x_T = normal(30, 2)
    few, many = (
        rms(make(GAUSSIAN.denoiser(parent), parent.respaced(n)).sample(x_T=x_T) - flow(x_T, parent)) for n in (50, 400)
    )
    assert many < 8e-3 and many < few / 6


# -- equal methods -------------------------------------------------------------------------------------------------

JUMPS = [(30, 29), (30, 7), (12, 1), (2, 1), (9, 4), (30, 0), (5, 0), (1, 0)]
SCHEDULES = [Schedule.linear(30), Schedule.cosine(30), Schedule.geometric(30, 0.05, 30.0)]
jumps = pytest.mark.parametrize(("t", "s"), JUMPS)
schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)


@schedules
@jumps
@pytest.mark.parametrize("clip", [None, (-0.5, 0.5)])
def test_equal_methods_are_equal_for_jumps_of_any_length(schedule, t, s, clip):
    x_t, denoiser = normal(40, 2), TRIO.denoiser(schedule, "v")

    def step(make, **arguments):
        return make(denoiser, schedule, clip=clip, **arguments).step(x_t, t, s, generator=seeded(3))

    close = partial(torch.testing.assert_close, rtol=0, atol=1e-9)
    close(step(DDIM, eta=1.0), step(Ancestral, variance="beta_tilde"))
    close(step(DDIM), step(EULER_NOISE))
    close(step(DDIM), step(DPMSolver2M))  # its first step
    if s > 0:
        assert rms(step(DDIM, eta=0.5) - step(DDIM)) > 1e-4 and rms(step(EULER_NOISE) - step(Euler)) > 1e-6


def test_ddim_at_eta_1_is_ancestral_sampling_at_every_step_of_a_walk():
    schedule, x_T = Schedule.cosine(50), normal(100, 2)
    paths = [
        make(TRIO.denoiser(schedule), schedule).sample(x_T=x_T, trajectory=True, generator=seeded(1))
        for make in (partial(DDIM, eta=1.0), Ancestral)
    ]
    torch.testing.assert_close(*paths, rtol=0, atol=1e-6)


def test_a_step_of_dpm_solver_is_the_line_through_two_guesses_integrated_exactly():
    """The integral of the linear guess over the exponential kernel, by quadrature; no formula of the solver is used."""
    schedule = Schedule.geometric(4, 0.5, 4.0)
    x_T, guesses = normal(6, 2), {}

    class Remember(Answer):
        def __call__(self, x_t, t):
            guesses[t] = TRIO.expected_x0(x_t, float(schedule.alpha_bar[t]))
            return guesses[t]

    path = DPMSolver2M(Remember(0.0), schedule).sample(x_T=x_T, trajectory=True)
    lam = -schedule.noise_levels.log()
    for t in (3, 2):
        slope = (guesses[t] - guesses[t + 1]) / float(lam[t] - lam[t + 1])
        middle = guesses[t] + slope * float(lam[t - 1] - lam[t]) / 2  # 2M: the line's value halfway
        u = torch.linspace(float(lam[t]), float(lam[t - 1]), 4001, dtype=F64)
        kernel = torch.trapezoid(u.exp(), u)  # x / sigma = x_t / sigma_t + integral of exp(u) D du
        sigma = schedule.sqrt_one_minus_alpha_bar
        expected = float(sigma[t - 1]) * (path[t] / float(sigma[t]) + float(kernel) * middle)
        torch.testing.assert_close(path[t - 1], expected, rtol=0, atol=1e-6)


@every
def test_steps_on_the_full_schedule_are_the_walk_on_a_respaced_one(make):
    parent = Schedule.cosine(40)
    short, x_T = parent.respaced(7), normal(20, 2)
    sampler, draws, x = make(TRIO.denoiser(parent), parent), seeded(1), x_T
    times = [int(t) for t in short.timesteps.flip(0)]
    for t, s in zip(times, times[1:]):
        x = sampler.step(x, t, s, generator=draws)
    walk = make(TRIO.denoiser(parent), short).sample(x_T=x_T, generator=seeded(1))
    torch.testing.assert_close(x, walk, rtol=0, atol=1e-8)


@every
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_gives_the_same_samples(make, prediction):
    schedule, x_T = Schedule.cosine(8), normal(20, 2)
    expected = make(TRIO.denoiser(schedule, "x0"), schedule).sample(x_T=x_T, generator=seeded(1))
    samples = make(TRIO.denoiser(schedule, prediction), schedule).sample(x_T=x_T, generator=seeded(1))
    torch.testing.assert_close(samples, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("moved", ["copy", "time", "other batch", "none"])
def test_dpm_solver_looks_back_only_at_its_own_tensor(moved):
    schedule = Schedule.geometric(12, 0.05, 10.0)
    sampler = DPMSolver2M(TRIO.denoiser(schedule), schedule)
    plain = DDIM(TRIO.denoiser(schedule), schedule)
    x = sampler.step(normal(20, 2), 12, 8)
    if moved == "other batch":
        sampler.step(normal(20, 2, seed=1), 12, 8)
    t = 7 if moved == "time" else 8
    off = rms(sampler.step(x.clone() if moved == "copy" else x, t, 4) - plain.step(x, t, 4))
    assert off > 1e-3 if moved == "none" else off < 1e-12


def test_a_correction_makes_dpm_solver_forget():
    schedule, x_T = Schedule.geometric(12, 0.05, 10.0), normal(20, 2)
    denoiser = TRIO.denoiser(schedule)
    solver, ddim = (
        PredictorCorrector(predictor(denoiser, schedule)).sample(x_T=x_T, generator=seeded(1))
        for predictor in (DPMSolver2M, DDIM)
    )
    torch.testing.assert_close(solver, ddim, rtol=0, atol=1e-9)


# -- laws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("t", "s"), [(30, 12), (12, 11), (2, 1)])
def test_ddim_adds_eta_squared_beta_tilde_and_keeps_the_marginals(eta, t, s):
    schedule, n = Schedule.linear(30), 40_000
    a_s, s_s, a_t, s_t = (
        float(table[k]) for k in (s, t) for table in (schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar)
    )
    sampler = DDIM(Answer(0.7), schedule, eta=eta)
    # From one x_t: the mean points along the noise, and what is added has variance eta^2 beta_tilde.
    eps, added = 0.4, eta**2 * (1 - a_t**2 / a_s**2) * s_s**2 / s_t**2
    x_s = sampler.step(torch.full((n, 1), a_t * 0.7 + s_t * eps, dtype=F64), t, s, generator=seeded(1))
    mean = a_s * 0.7 + math.sqrt(s_s**2 - added) * eps
    if eta == 0:
        torch.testing.assert_close(x_s, torch.full_like(x_s, mean), rtol=0, atol=1e-12)
    else:
        white = (x_s - mean) / math.sqrt(added)
        assert abs(float(white.mean())) * math.sqrt(n) < 5
        assert abs(float(white.square().mean()) - 1) * math.sqrt(n / 2) < 5
    # From q(x_t | x_0), with the true x_0: the law of x_s is q(x_s | x_0), whatever eta is.
    x_s = sampler.step(a_t * 0.7 + s_t * normal(n, 1), t, s, generator=seeded(2))
    white = (x_s - a_s * 0.7) / s_s
    assert abs(float(white.mean())) * math.sqrt(n) < 5 and abs(float(white.square().mean()) - 1) * math.sqrt(n / 2) < 5


def test_ddim_at_eta_1_bears_a_first_beta_that_is_next_to_nothing():
    schedule = Schedule([1.8766829484954537e-20, 0.42561883196681716])
    x = DDIM(Answer(0.5), schedule, eta=1.0).sample((4, 2), generator=seeded())
    torch.testing.assert_close(x, torch.full((4, 2), 0.5))


def affine(make, schedule: Schedule, parent: Schedule) -> tuple[torch.Tensor, torch.Tensor]:
    """A and b of the map x_T -> A x_T + b that a deterministic sampler is, for Gaussian data."""
    ends = make(GAUSSIAN.denoiser(parent), schedule).sample(x_T=torch.cat([torch.zeros(1, 2), torch.eye(2)]).to(F64))
    return (ends[1:] - ends[0]).T, ends[0]


@deterministic
def test_the_right_start_removes_what_the_wrong_start_costs(make):
    """A flow keeps a Kullback-Leibler divergence: KL(data || samples) is KL(q_T || N(0, I)), and 0 with it."""
    parent = Schedule.linear(1000, 1e-4, 0.003)  # alpha_bar_T = 0.21
    schedule, level = parent.respaced(500), float(parent.alpha_bar[-1])
    A, b = affine(make, schedule, parent)
    start, mean_T = level * COVARIANCE + (1 - level) * torch.eye(2), math.sqrt(level) * MEAN

    def kl(mean, covariance):  # from the data to N(mean, covariance)
        inverse, off = torch.linalg.inv(covariance), mean - MEAN
        return float(
            0.5 * ((inverse @ COVARIANCE).trace() - 2 + off @ inverse @ off)
            + 0.5 * torch.logdet(covariance) - 0.5 * torch.logdet(COVARIANCE)
        )  # fmt: skip

    mismatch = GAUSSIAN.kl_to_standard_normal(level)
    assert mismatch > 0.1
    assert kl(b, A @ A.T) == pytest.approx(mismatch, rel=0.02)
    assert kl(b + A @ mean_T, A @ start @ A.T) < 1e-3 * mismatch


def kolmogorov(make, steps: int) -> float:
    parent = Schedule.linear(1000)
    x = make(PAIR.denoiser(parent), parent.respaced(steps)).sample(x_T=normal(4000, 1, seed=3), generator=seeded(4))
    x, gauss = x[:, 0].sort().values, torch.distributions.Normal(0.0, 1.0)
    cdf = 0.3 * gauss.cdf((x + 1.5) / 0.1) + 0.7 * gauss.cdf((x - 1.0) / 0.2)
    return float((cdf - torch.arange(1, 4001) / 4000).abs().max() * math.sqrt(4000))


@pytest.mark.parametrize("name", [name for name in ALL if name != "annealed"])
def test_the_law_of_the_samples_converges_to_the_data(name):
    few, many = kolmogorov(ALL[name], 4), kolmogorov(ALL[name], 250)
    assert few > 2.5 * many and many < 2.0  # 2.0 is the 0.07 % point of Kolmogorov's distribution


def corrected_law(schedule: Schedule, variance: float, start: float, corrections: int, step: float) -> list[float]:
    """Variances at t = T..1 of DDIM with a corrector, for data N(0, variance): every step is linear."""
    found, v = [start], start
    for t in range(schedule.T, 1, -1):
        at, before = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[t - 1])
        V, W = at * variance + 1 - at, before * variance + 1 - before
        x0, eps = math.sqrt(at) * variance / V, math.sqrt(1 - at) / V
        v *= (math.sqrt(before) * x0 + math.sqrt(1 - before) * eps) ** 2
        for _ in range(corrections):
            delta = step * (1 - before)
            v = (1 - delta / (2 * W)) ** 2 * v + delta
        found.append(v)
    return found


@pytest.mark.parametrize("start", [1.0, 0.25])
def test_a_corrector_pulls_a_wrong_law_to_the_right_one_and_keeps_a_right_one(start):
    schedule, data, n = Schedule.linear(40), 1.0, 40_000
    law = GaussianMixture(torch.ones(1), torch.zeros(1, 1, dtype=F64), data)  # the right variance is 1 at every t
    sampler = PredictorCorrector(DDIM(law.denoiser(schedule), schedule), corrections=3, step=0.3)
    path = sampler.sample(x_T=math.sqrt(start) * normal(n, 1), trajectory=True, generator=seeded(5))
    expected = corrected_law(schedule, data, start, 3, 0.3)
    for t, variance in zip(range(schedule.T, 0, -1), expected):
        z = (float(path[t].square().mean()) / variance - 1) * math.sqrt(n / 2)
        assert abs(z) < 5, (t, z)
    assert abs(expected[-1] - data) < 0.08 < abs(corrected_law(schedule, data, 0.25, 0, 0.3)[-1] - data)


# -- the walk ------------------------------------------------------------------------------------------------------

CALLS = {
    "DDIM": 6, "Euler": 6, "Euler, log": 6, "Heun": 11, "Heun, log": 11, "2M": 6, "ancestral": 6, "ancestral, beta": 6,
    "DDIM, half": 6, "corrected DDIM": 6 + 5 * 2, "corrected Heun": 11 + 5, "annealed": 6 * 3 + 1,
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_counted(name):
    denoiser = Answer(0.1)
    sampler = ALL[name](denoiser, Schedule.cosine(6))
    assert sampler.calls == 0
    for _ in range(2):  # a second walk counts from 0 again
        denoiser.times.clear()
        sampler.sample((2, 2), generator=seeded())
        assert sampler.calls == len(denoiser.times) == CALLS[name]


@every
def test_a_network_is_told_the_times_it_was_trained_on_and_never_t_0(make):
    denoiser = Answer(0.1)
    make(denoiser, Schedule.linear(1000).respaced(4)).sample((2, 2), generator=seeded())
    assert list(dict.fromkeys(denoiser.times)) == [1000, 750, 500, 250]
    assert all(type(t) is int for t in denoiser.times)


@every
def test_a_walk_is_its_trajectory_its_seed_and_nothing_else(make):
    schedule, x_T = Schedule.cosine(9), normal(5, 3, dtype=torch.float32)
    sampler, before, copy = make(Answer(0.2, "v"), schedule), torch.get_rng_state(), x_T.clone()
    path = sampler.sample(x_T=x_T, trajectory=True, generator=seeded(1))
    again = sampler.sample(x_T=x_T, generator=seeded(1))
    assert path.shape == (10, 5, 3) and path.dtype == torch.float32
    assert torch.equal(path[9], x_T) and torch.equal(path[0], again) and torch.equal(x_T, copy)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("t", [1, 7])
@pytest.mark.parametrize("name", [name for name in ALL if name != "annealed"])  # which shakes first, then guesses
def test_no_noise_is_added_on_the_way_to_t_0(name, t):
    sampler, x_t = ALL[name](Answer(0.2), Schedule.cosine(9)), normal(5, 2)
    draws = seeded(1)
    state = draws.get_state()
    first, second = (sampler.step(x_t, t, 0, generator=draws) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(draws.get_state(), state)


@pytest.mark.parametrize("name", ["DDIM", "DDIM, half", "2M", "ancestral", "ancestral, beta", "corrected DDIM"])
def test_the_last_step_is_the_guess_even_where_the_noise_overflows(name):
    x_1 = torch.full((5, 2), 3.0, dtype=torch.float16)
    sampler = ALL[name](Answer(0.2), Schedule([1e-14, 0.1]))
    assert torch.equal(sampler.step(x_1, 1, 0, generator=seeded()), torch.full_like(x_1, 0.2))


@every
@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score"])
def test_the_weights_of_a_step_are_the_rule_itself(make, prediction):
    """Bounds that nothing reaches change no number, but with them a rule is given the tensors and not its weights."""
    schedule, x_T, answer = Schedule.cosine(9), normal(5, 2), normal(5, 2, seed=1)
    paths = [
        make(Answer(answer, prediction), schedule, clip=clip).sample(x_T=x_T, trajectory=True, generator=seeded(1))
        for clip in (None, (-1e9, 1e9))
    ]
    torch.testing.assert_close(*paths, rtol=1e-10, atol=1e-10)
    walked, fresh = (make(Answer(answer, prediction), schedule) for _ in range(2))
    walked.sample(x_T=x_T, generator=seeded(1))
    assert torch.equal(walked.guess(x_T, 4), fresh.guess(x_T, 4))
    assert torch.equal(answer, normal(5, 2, seed=1)) and torch.equal(x_T, normal(5, 2))


@every
def test_a_walk_in_one_dtype_leaves_nothing_to_a_walk_in_another(make):
    first, again = (make(Answer(0.2, "v"), Schedule.cosine(9)) for _ in range(2))
    first.sample(x_T=normal(5, 2, dtype=torch.float32), generator=seeded(1))
    walks = [sampler.sample(x_T=normal(5, 2), generator=seeded(1)) for sampler in (first, again)]
    assert torch.equal(*walks)


@deterministic
def test_an_ode_sampler_draws_nothing(make):
    draws = seeded(1)
    state = draws.get_state()
    make(Answer(0.2), Schedule.cosine(9)).sample(x_T=normal(5, 2), generator=draws)
    assert torch.equal(draws.get_state(), state)


def test_where_the_guess_is_clipped_the_noise_is_derived_again():
    schedule, x_t, (t, s) = Schedule.linear(20, 0.01, 0.3), normal(9, 2), (14, 6)
    a, b, c, d = (
        float(table[k]) for k in (t, s) for table in (schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar)
    )
    eps = (x_t - a) / b  # the noise that leads to the clipped guess, 1
    along = c + d * eps
    log = x_t + float(schedule.log_alpha_bar[s] - schedule.log_alpha_bar[t]) * 0.5 * (x_t - eps / b)
    expected = {"DDIM": along, "Euler": along, "2M": along, "Euler, log": log}
    for name, x_s in expected.items():
        found = DETERMINISTIC[name](Answer(3.0), schedule, clip=(-1.0, 1.0)).step(x_t, t, s)
        torch.testing.assert_close(found, x_s, rtol=1e-10, atol=1e-10)
    # A constant guess has straight paths in (y, nu): Heun's second slope is the first, and 2M's line is level.
    torch.testing.assert_close(HEUN_NOISE(Answer(3.0), schedule, clip=(-1.0, 1.0)).step(x_t, t, s), along)
    for make in ALL.values():
        samples = make(Answer(3.0), schedule, clip=(-1.0, 1.0)).sample(x_T=x_t, generator=seeded())
        if make not in (Euler, Heun):
            torch.testing.assert_close(samples, torch.ones_like(x_t))


# -- what is refused -----------------------------------------------------------------------------------------------

BLIND = Schedule.cosine(20).with_zero_terminal_snr()


@pytest.mark.parametrize("name", ["DDIM", "DDIM, half", "2M", "ancestral", "ancestral, beta", "corrected DDIM"])
def test_with_zero_terminal_snr_v_and_x0_serve_and_eps_does_not(name):
    x_T = normal(200, 2)
    v, x0 = (ALL[name](TRIO.denoiser(BLIND, kind), BLIND).sample(x_T=x_T, generator=seeded()) for kind in ("v", "x0"))
    torch.testing.assert_close(v, x0, rtol=1e-8, atol=1e-8)
    assert float(TRIO.log_prob(v).mean()) > float(TRIO.log_prob(x_T).mean())
    for kind in ("eps", "score"):
        with pytest.raises(ValueError, match="denoiser.prediction"):
            ALL[name](TRIO.denoiser(BLIND, kind), BLIND)


@pytest.mark.parametrize("name", ["Euler", "Euler, log", "Heun", "Heun, log", "corrected Heun", "annealed"])
def test_samplers_that_divide_by_alpha_bar_T_refuse_zero(name):
    with pytest.raises(ValueError, match=r"schedule.alpha_bar\[-1\]"):
        ALL[name](TRIO.denoiser(BLIND, "v"), BLIND)


@every
def test_bad_requests_are_named(make):
    schedule = Schedule.cosine(9)
    sampler = make(Answer(0.1), schedule)
    times = ((0, 0, "t"), (10, 3, "t"), (1.5, 0, "t"), (5, 5, "s"), (5, -1, "s"), (5, 6, "s"), (5, True, "s"))
    for t, s, word in times:
        with pytest.raises(ValueError, match=f"^{word} must be"):
            sampler.step(torch.zeros(2, 2), t, s)
    for arguments in ({}, {"shape": (2, 2), "x_T": torch.zeros(2, 2)}, {"shape": (0,)}):
        with pytest.raises(ValueError, match="shape"):
            sampler.sample(**arguments)
    for denoiser, word in ((lambda x, t: x, "denoiser"), (Answer(0.1, "noise"), "denoiser.prediction")):
        with pytest.raises(ValueError, match=word):
            make(denoiser, schedule)
    for clip in ((1.0, -1.0), (1.0, 1.0), 1.0, (0.0, float("nan"))):
        with pytest.raises(ValueError, match="clip"):
            make(Answer(0.1), schedule, clip=clip)
    with pytest.raises(ValueError, match="schedule"):
        make(Answer(0.1), schedule.beta)
    with pytest.raises(ValueError, match="denoiser"):
        make(Answer(torch.zeros(1)), schedule).sample((2, 2))


@pytest.mark.parametrize(
    ("make", "arguments", "word"),
    [
        (DDIM, {"eta": -0.1}, "eta"),
        (DDIM, {"eta": 1.1}, "eta"),
        (Euler, {"variable": "sigma"}, "variable"),
        (Heun, {"variable": None}, "variable"),
    ],
)
def test_bad_settings_are_named(make, arguments, word):
    with pytest.raises(ValueError, match=word):
        make(Answer(0.1), Schedule.cosine(9), **arguments)


@pytest.mark.parametrize(("name", "value"), [("corrections", 0), ("step", 4.0), ("step", 0.0)])
def test_a_corrector_refuses_bad_settings(name, value):
    assert PredictorCorrector(DDIM(Answer(0.1), Schedule.cosine(9)), step=3.9).step_size == 3.9
    with pytest.raises(ValueError, match=name):
        PredictorCorrector(DDIM(Answer(0.1), Schedule.cosine(9)), **{name: value})
    with pytest.raises(ValueError, match="predictor"):
        PredictorCorrector(Answer(0.1))


def test_a_sampler_without_a_rule_says_so():
    with pytest.raises(NotImplementedError, match="Sampler"):
        Sampler(Answer(0.1), Schedule.cosine(9)).sample((2, 2))
