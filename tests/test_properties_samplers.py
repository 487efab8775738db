"""Properties of every sampler, on any schedule, batch and jump, looked for by hypothesis. Nothing is trained."""

from __future__ import annotations

import contextlib
import sys
from unittest import mock

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import examples, gentle_schedules, normal, rounding, schedules, times
from torch import Tensor
from torch.testing import assert_close

from diffutils import process, samplers
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.process import PREDICTIONS, diffuse
from diffutils.samplers import DDIM, Ancestral, AnnealedLangevin, DPMSolver2M, Euler, Heun, PredictorCorrector, Sampler
from diffutils.schedule import Schedule

MAKERS = {
    "ancestral, beta": lambda d, s: Ancestral(d, s, variance="beta"),
    "ancestral, beta_tilde": lambda d, s: Ancestral(d, s),
    "ancestral, learned": lambda d, s: Ancestral(d, s, variance="learned"),
    "ancestral, table": lambda d, s: Ancestral(d, s, variance=0.5 * s.beta),
    "ddim, 0": lambda d, s: DDIM(d, s),
    "ddim, 0.6": lambda d, s: DDIM(d, s, eta=0.6),
    "ddim, 1": lambda d, s: DDIM(d, s, eta=1.0),
    "euler, noise_level": lambda d, s: Euler(d, s, variable="noise_level"),
    "euler": lambda d, s: Euler(d, s),
    "heun, noise_level": lambda d, s: Heun(d, s, variable="noise_level"),
    "heun": lambda d, s: Heun(d, s),
    "dpm-solver": lambda d, s: DPMSolver2M(d, s),
    "corrected ddim": lambda d, s: PredictorCorrector(DDIM(d, s), corrections=2),
    "corrected heun": lambda d, s: PredictorCorrector(Heun(d, s)),
    "langevin": lambda d, s: AnnealedLangevin(d, s, steps_per_level=2),
    "langevin, not denoised": lambda d, s: AnnealedLangevin(d, s, steps_per_level=1, denoise=False),
}
# Not drawn: of a hundred draws among so many names some names get none.
each = pytest.mark.parametrize("name", MAKERS)
# Chains whose law, given x_0, is q(x_s | x_0) at every s.
FAITHFUL = ["ancestral, beta_tilde", "ddim, 0", "ddim, 0.6", "ddim, 1"]
# Rules that are exact on the straight line from x_0 to its noise; the first two on every schedule.
STRAIGHT = ["ddim, 0", "dpm-solver", "euler, noise_level", "heun, noise_level"]

MIXTURE = GaussianMixture(
    torch.tensor([0.4, 0.6], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [0.8, 0.2]], dtype=torch.float64),
    torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.2, 0.0], [0.0, 0.5]]], dtype=torch.float64),
)


class KnownData:
    """A denoiser that knows x_0; every time it is asked about is kept in ``asked``."""

    prediction = "x0"

    def __init__(self, x0: Tensor | float) -> None:
        self.x0, self.asked = x0, []

    def __call__(self, x_t: Tensor, t: int) -> Tensor:
        self.asked.append(t)
        return torch.zeros_like(x_t) + self.x0


@contextlib.contextmanager
def noise_by(rule):
    """Give every sampler ``rule(like, generator)`` in the place of fresh noise."""

    def draw(like: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return rule(like, generator)

    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("diffutils.samplers.") and hasattr(module, "draw_noise"):
                stack.enter_context(mock.patch.object(module, "draw_noise", draw))
        yield


def test_every_sampler_is_among_those_tested():
    schedule = Schedule.cosine(5)
    made = {type(make(MIXTURE.denoiser(schedule), schedule)) for make in MAKERS.values()}
    offered = {value for name in samplers.__all__ if isinstance(value := getattr(samplers, name), type)}
    assert made == {kind for kind in offered if issubclass(kind, Sampler)} - {Sampler}


@each
@examples(5)
@given(schedule=gentle_schedules(), prediction=st.sampled_from(PREDICTIONS), size=st.integers(1, 6), data=st.data())
def test_examples_of_a_batch_do_not_know_of_one_another(name, schedule, prediction, size, data):
    # Any choice of examples, in any order, with their own noise, gives that choice of the samples.
    order = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=6))
    seed = data.draw(st.integers(0, 10**6))
    sampler = MAKERS[name](MIXTURE.denoiser(_parent(schedule), prediction), schedule)
    x_T = normal((size, 2), seed)
    whole = sampler.sample(x_T=x_T, generator=make_generator(seed), trajectory=True)

    def chosen(like: Tensor, generator: torch.Generator | None) -> Tensor:
        return process.draw_noise(like.new_empty(size, *like.shape[1:]), generator=generator)[order]

    with noise_by(chosen):
        part = sampler.sample(x_T=x_T[order], generator=make_generator(seed), trajectory=True)
    assert bool(torch.isfinite(whole).all())
    scale = 1 + float(whole.abs().max())
    assert_close(part / scale, whole[:, order] / scale, rtol=0, atol=1e-10)


def _parent(schedule: Schedule) -> Schedule:
    """A schedule that holds at least the times of a respaced one, with its alpha_bar there."""
    if int(schedule.timesteps[-1]) == schedule.T:
        return schedule
    log_alpha_bar = torch.zeros(int(schedule.timesteps[-1]) + 1, dtype=torch.float64)
    for s, t, low, high in zip(
        schedule.timesteps, schedule.timesteps[1:], schedule.log_alpha_bar, schedule.log_alpha_bar[1:]
    ):
        log_alpha_bar[s : t + 1] = torch.linspace(float(low), float(high), int(t - s) + 1, dtype=torch.float64)
    return Schedule.from_alpha_bar(log_alpha_bar[1:].exp())


@pytest.mark.parametrize("name", FAITHFUL)
@examples(40)
@given(schedule=schedules(), data=st.data())
def test_given_the_data_a_jump_keeps_the_marginals(name, schedule, data):
    # x_s = k x_t + c x_0 + m z: then k a_t + c = a_s, and k^2 (1 - alpha_bar_t) + m^2 = 1 - alpha_bar_s.
    assume(schedule.T >= 2)
    s, t = data.draw(times(schedule, 2))
    assume(s >= 1)
    near = rounding(schedule)
    one = torch.ones(1, 1, dtype=torch.float64)
    zero = torch.zeros_like(one)
    ignorant, knowing = (MAKERS[name](KnownData(x0), schedule) for x0 in (0.0, 1.0))
    with noise_by(lambda like, generator: torch.zeros_like(like)):
        keep = float(ignorant.step(one, t, s))
        mean = float(knowing.step(schedule.sqrt_alpha_bar[t] * one, t, s))
    with noise_by(lambda like, generator: torch.ones_like(like)):
        noise = float(ignorant.step(zero, t, s))
    sigma2 = schedule.sigma2
    assert abs(mean - float(schedule.sqrt_alpha_bar[s])) <= 4 * near
    assert abs(keep**2 * float(sigma2[t]) + noise**2 - float(sigma2[s])) <= 4 * near * float(sigma2[s])


@pytest.mark.parametrize("name", STRAIGHT)
@examples(25)
@given(any_schedule=schedules(), gentle=gentle_schedules(), seed=st.integers(0, 10**6))
def test_given_the_data_the_flow_is_a_straight_line(name, any_schedule, gentle, seed):
    # With x_0 known the probability flow keeps its noise: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps.
    schedule = any_schedule if name in STRAIGHT[:2] else gentle
    x0, eps = normal((3, 2), seed), normal((3, 2), seed + 1)
    line = torch.stack([diffuse(schedule, x0, t, noise=eps) for t in range(schedule.T + 1)])
    walk = MAKERS[name](KnownData(x0), schedule).sample(x_T=line[-1], trajectory=True)
    assert_close(walk, line, rtol=0, atol=1e-12 if name in STRAIGHT[:2] else 1e-9)


@examples(60)
@given(gentle_schedules(), st.sampled_from(PREDICTIONS), st.integers(0, 10**6))
def test_methods_that_are_one_method_agree_at_every_step(schedule, prediction, seed):
    denoiser = MIXTURE.denoiser(_parent(schedule), prediction)
    x_T = normal((4, 2), seed)

    def path(name: str, walked: Schedule = schedule) -> Tensor:
        made = MAKERS[name](denoiser, walked)
        return made.sample(x_T=x_T, generator=make_generator(seed), trajectory=True)

    assert_close(path("ddim, 1"), path("ancestral, beta_tilde"), rtol=0, atol=1e-8)
    assert_close(path("ddim, 0"), path("euler, noise_level"), rtol=0, atol=1e-8)
    few = schedule.respaced(min(2, schedule.T))
    assert_close(path("dpm-solver", few), path("ddim, 0", few), rtol=0, atol=1e-8)


@each
@examples(8)
@given(schedule=gentle_schedules(), batch=st.integers(1, 3), data=st.data())
def test_counts_times_dtype_and_the_last_step(name, schedule, batch, data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    oracle, asked = MIXTURE.denoiser(_parent(schedule), "x0"), []

    class Recorder:
        prediction, variance_output = "x0", oracle.variance_output

        def __call__(self, x_t: Tensor, t: int) -> Tensor:
            asked.append((t, x_t.dtype))
            return oracle(x_t, t)

        def with_variance(self, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
            asked.append((t, x_t.dtype))
            return oracle.with_variance(x_t, t)

    sampler = MAKERS[name](Recorder(), schedule)
    x_T = normal((batch, 2), 0, dtype)
    kept = x_T.clone()
    out = sampler.sample(x_T=x_T, generator=make_generator(1))
    assert (out.shape, out.dtype, out.requires_grad) == (x_T.shape, dtype, False)
    assert torch.equal(x_T, kept)
    assert sampler.calls == len(asked)
    assert {t for t, _ in asked} == set(schedule.timesteps[1:].tolist()) and {d for _, d in asked} == {dtype}
    if not name.startswith("langevin"):
        # the last step draws no noise, wherever it comes from
        t, generator = data.draw(st.integers(1, schedule.T)), make_generator(2)
        if name != "ancestral, table" or t == 1:
            sampler.step(x_T, t, 0, generator=generator)
            assert torch.equal(generator.get_state(), make_generator(2).get_state())


@examples(60)
@given(st.sampled_from(sorted(MAKERS)), gentle_schedules(), st.integers(0, 10**6), st.data())
def test_a_step_does_not_remember_other_walks(name, schedule, seed, data):
    # A sampler that has walked already steps from a new point, and walks again, as a new one does.
    t = data.draw(st.integers(1, schedule.T))
    x = normal((3, 2), seed)
    denoiser = MIXTURE.denoiser(_parent(schedule), "x0")
    used = MAKERS[name](denoiser, schedule)
    walk = used.sample(x_T=x, generator=make_generator(seed))
    for s in range(schedule.T, t, -1):
        used.step(x, s, s - 1, generator=make_generator(seed))
    fresh = MAKERS[name](denoiser, schedule)
    first, again = (each.step(x, t, t - 1, generator=make_generator(1)) for each in (fresh, used))
    assert torch.equal(again, first)
    assert torch.equal(used.sample(x_T=x, generator=make_generator(seed)), walk)


@examples(60)
@given(st.sampled_from(sorted(MAKERS)), schedules(), st.data())
def test_jumps_that_do_not_go_back_in_time_are_refused(name, schedule, data):
    assume(float(schedule.alpha_bar[-1]) > 0)
    sampler = MAKERS[name](MIXTURE.denoiser(schedule, "x0"), schedule)
    x, t = torch.zeros(2, 2, dtype=torch.float64), data.draw(st.integers(1, schedule.T))
    with pytest.raises(ValueError, match="^s must be"):
        sampler.step(x, t, data.draw(st.one_of(st.integers(min_value=t), st.integers(max_value=-1), st.floats())))
    with pytest.raises(ValueError, match="^t must be"):
        outside = st.one_of(st.integers(min_value=schedule.T + 1), st.integers(max_value=0), st.text())
        sampler.step(x, data.draw(outside), 0)
