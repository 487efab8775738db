"""Langevin dynamics against exact answers: at a finite step a Gaussian's walk is linear, so its law is known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diffutils.datasets import grid_mixture
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.metrics import mode_coverage, over_floor, sliced_wasserstein
from diffutils.process import PREDICTIONS
from diffutils.samplers import AnnealedLangevin, langevin, stationary_variance
from diffutils.schedule import Schedule

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
VARIANCES = torch.tensor([0.5, 2.0], dtype=torch.float64)
GAUSSIAN = GaussianMixture(torch.ones(1), MEAN[None], torch.diag(VARIANCES)[None])
TWO = GaussianMixture(torch.tensor([0.8, 0.2]), torch.tensor([[-4.0], [4.0]]), 1.0)
LADDER = Schedule.geometric(12, 0.2, 5.0)


def annealed_langevin(denoiser, schedule, shape=None, *, step=0.2, steps_per_level=100, denoise=True, **walk):
    sampler = AnnealedLangevin(denoiser, schedule, step=step, steps_per_level=steps_per_level, denoise=denoise)
    return sampler.sample(shape, **walk)


def moment_z(x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> float:
    """The largest z-score of the means and variances of independent Gaussian columns."""
    n, white = len(x), (x - mean) / variance.sqrt()
    spread = (white.square().mean(0) - 1) * math.sqrt(n / 2)
    return float(torch.cat([white.mean(0) * math.sqrt(n), spread]).abs().max())


@pytest.mark.parametrize("step", [0.02, 0.4, 1.5])
def test_a_gaussian_settles_at_the_variance_that_the_step_size_says(step: float) -> None:
    """Started at the stationary law of the chain, the walk stays there; the law wanted is another, visibly."""
    settled = torch.tensor([stationary_variance(float(v), step) for v in VARIANCES], dtype=torch.float64)
    start = MEAN + settled.sqrt() * torch.randn(20_000, 2, dtype=torch.float64, generator=make_generator(0))
    x = langevin(GAUSSIAN.score, start, step=step, steps=15, generator=make_generator(1))
    assert moment_z(x, MEAN, settled) < 5
    if step > 0.1:
        assert moment_z(x, MEAN, VARIANCES) > 10


def test_a_gaussian_approaches_its_stationary_law_as_the_recursion_says() -> None:
    mean, variance, step = torch.full((2,), 3.0).double(), torch.full((2,), 0.1).double(), 0.3
    start = mean + variance.sqrt() * torch.randn(20_000, 2, dtype=torch.float64, generator=make_generator(2))
    path = langevin(GAUSSIAN.score, start, step=step, steps=8, trajectory=True, generator=make_generator(3))
    assert path.shape == (9, 20_000, 2) and torch.equal(path[0], start)
    keep = 1 - step / (2 * VARIANCES)
    for x in path[1:]:
        mean, variance = MEAN + keep * (mean - MEAN), keep**2 * variance + step
        assert moment_z(x, mean, variance) < 5
    last = langevin(GAUSSIAN.score, start, step=step, steps=8, generator=make_generator(3))
    assert torch.equal(path[-1], last)


def test_the_bias_is_of_first_order_in_the_step_and_the_walk_bursts_at_four_variances() -> None:
    assert stationary_variance(2.0, 1e-6) == pytest.approx(2.0 + 1e-6 / 4, rel=1e-12)
    assert stationary_variance(1.0, 2.0) == pytest.approx(2.0)
    for step in (4.0, 5.0, 0.0):
        with pytest.raises(ValueError, match="step"):
            stationary_variance(1.0, step)
    # The bound grows with the variance; a width of 0 has no walk, whatever the step.
    assert stationary_variance(2.0, 7.5) == pytest.approx(32.0) and stationary_variance(0.5, 1.5) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="step"):
        stationary_variance(0.5, 2.5)
    with pytest.raises(ValueError, match="^variance"):
        stationary_variance(0.0, 1.0)
    x = langevin(lambda x: -x, torch.zeros(100), step=4.5, steps=60, generator=make_generator(0))
    assert float(x.square().mean()) > 100


def test_plain_langevin_does_not_cross_and_annealed_langevin_does() -> None:
    """Started half and half, plain Langevin keeps halves; the ladder finds 80 : 20 but for a few percent that lag."""
    n = 2000
    start = torch.where(torch.arange(n)[:, None] < n // 2, -4.0, 4.0)
    stuck = langevin(TWO.score, start, step=0.1, steps=200, generator=make_generator(0))
    assert abs(float((stuck < 0).float().mean()) - 0.5) < 0.02
    ladder = Schedule.geometric(15, 0.4, 12.0)
    x = annealed_langevin(TWO.denoiser(ladder), ladder, (n, 1), step=0.5, steps_per_level=15, generator=make_generator(1))
    assert abs(float((x < 0).float().mean()) - 0.8) < 0.08


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_walk_at_a_level_follows_the_score_of_the_noisy_law(prediction: str) -> None:
    """In stretched coordinates x_t / sqrt(alpha_bar_t) the law is the data's with noise of level nu_t."""
    law = GaussianMixture(torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0], [1.0]]).double(), 0.04)
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
    sampler = AnnealedLangevin(law.denoiser(LADDER, prediction), LADDER, step=0.3, steps_per_level=2)
    for t in (2, 6, 12):
        level, a, b = (float(v) for v in (LADDER.noise_levels[t], LADDER.sqrt_alpha_bar[t], LADDER.sqrt_alpha_bar[t - 1]))
        noisy = GaussianMixture(torch.tensor([0.3, 0.7]).double(), law.means, 0.04 + level**2)
        walked = langevin(noisy.score, x, step=0.3 * level**2, steps=2, generator=make_generator(t))
        ours = sampler.step(a * x, t, t - 1, generator=make_generator(t))
        torch.testing.assert_close(ours, b * walked, rtol=1e-9, atol=1e-9)


def exact_annealed_law(step: float, steps: int, denoise: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of the sampler's output for GAUSSIAN, from the recursion of every single step."""
    mean, variance = torch.zeros(2).double(), torch.full((2,), 1 + float(LADDER.noise_levels[-1]) ** 2).double()
    for t in range(LADDER.T, 0, -1):
        noise = float(LADDER.noise_levels[t]) ** 2
        keep = 1 - step * noise / (2 * (VARIANCES + noise))
        for _ in range(steps):
            mean, variance = MEAN + keep * (mean - MEAN), keep**2 * variance + step * noise
    shrink = VARIANCES / (VARIANCES + noise) if denoise else torch.ones(2)
    return MEAN + shrink * (mean - MEAN), shrink**2 * variance


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("step, steps", [(0.2, 3), (1.0, 2)])
def test_annealed_langevin_has_the_law_that_its_recursion_says(denoise: bool, step: float, steps: int) -> None:
    x = annealed_langevin(
        GAUSSIAN.denoiser(LADDER),
        LADDER,
        x_T=torch.randn(20_000, 2, dtype=torch.float64, generator=make_generator(4)),
        step=step,
        steps_per_level=steps,
        denoise=denoise,
        generator=make_generator(5),
    )
    assert moment_z(x, *exact_annealed_law(step, steps, denoise)) < 5


def test_annealed_langevin_with_the_oracle_gives_the_grid() -> None:
    grid, ladder, n = grid_mixture(), Schedule.geometric(20, 0.035, 4.0), 3000
    oracle = grid.denoiser(ladder)
    x = annealed_langevin(oracle, ladder, (n, 2), step=0.5, steps_per_level=6, generator=make_generator(6))
    cover = mode_coverage(x, grid)
    z = (cover.histogram - 0.04) / math.sqrt(0.04 * 0.96 / n)
    assert cover.found == 25 and float(z.abs().max()) < 5
    assert cover.share_within > 0.97
    assert over_floor(sliced_wasserstein, x, grid, repeats=3) < 2


def test_trajectory_start_and_seed() -> None:
    oracle = GAUSSIAN.denoiser(LADDER)
    x_T = torch.randn(5, 2, dtype=torch.float64, generator=make_generator(0))
    arguments = dict(step=0.3, steps_per_level=2)
    states = annealed_langevin(oracle, LADDER, x_T=x_T, trajectory=True, generator=make_generator(1), **arguments)
    again = annealed_langevin(oracle, LADDER, x_T=x_T, generator=make_generator(1), **arguments)
    assert states.shape == (13, 5, 2) and torch.equal(states[0], again)
    noisy = annealed_langevin(
        oracle, LADDER, x_T=x_T, denoise=False, trajectory=True, generator=make_generator(1), **arguments
    )
    assert torch.equal(states[1], noisy[1]) and not torch.equal(states[0], noisy[0])
    # one step with a score of zero moves by noise alone, from x_T stretched to the width of the noisy data
    still = Silent()
    ladder = Schedule.from_noise_levels([3.0])
    arguments.update(steps_per_level=1, denoise=False)
    moved = annealed_langevin(still, ladder, x_T=x_T, generator=make_generator(2), **arguments)
    noise = torch.randn(5, 2, dtype=torch.float64, generator=make_generator(2))
    torch.testing.assert_close(moved, math.sqrt(10) * x_T + math.sqrt(0.3 * 9) * noise)


class Silent(nn.Module):
    """A denoiser that sees no noise."""

    prediction = "eps"

    def forward(self, x_t, t):
        self.time = t
        return torch.zeros_like(x_t)


def test_a_respaced_schedule_is_asked_at_the_times_the_network_knows() -> None:
    still = Silent()
    annealed_langevin(still, Schedule.linear(100).respaced(4), (2, 2), steps_per_level=1, generator=make_generator(0))
    assert still.time == 25


@pytest.mark.parametrize(
    "wrong, word",
    [
        ({"step": 0.0}, "step"),
        ({"step": 4.0}, "step"),
        ({"steps_per_level": 0}, "steps_per_level"),
        ({"denoise": "no"}, "denoise must be True or False"),
        ({"x_T": torch.zeros(2, 2)}, "shape"),
        ({"shape": None}, "shape"),
        ({"denoiser": lambda x, t: x}, "denoiser"),
    ],
)
def test_it_refuses_bad_requests(wrong: dict, word: str) -> None:
    assert AnnealedLangevin(Silent(), LADDER, step=3.9).step_size == 3.9
    with pytest.raises(ValueError, match=word):
        annealed_langevin(**{"denoiser": Silent(), "schedule": LADDER, "shape": (2, 2), **wrong})


def test_plain_langevin_refuses_bad_requests() -> None:
    right = {"score": torch.neg, "x": torch.zeros(2, 1), "step": 0.1, "steps": 1}
    assert langevin(**right).shape == (2, 1)
    nothing = {"x.shape": {"x": torch.tensor(0.0)}, "x": {"x": torch.full((2, 1), float("nan"))}, "steps": {"steps": 0}}
    for word, wrong in [*nothing.items(), ("step", {"step": 0.0}), ("step", {"step": -1.0}), ("trajectory", {"trajectory": "no"})]:
        with pytest.raises(ValueError, match=f"^{word} must be"):
            langevin(**right | wrong)


@pytest.mark.parametrize("trajectory", [False, True])
def test_a_walk_that_flies_apart_is_no_result(trajectory: bool) -> None:
    with pytest.raises(ValueError, match="score must lead to finite samples, got .* of 100"):
        langevin(lambda x: -x, torch.ones(100, 1), step=50.0, steps=200, trajectory=trajectory)


def test_a_score_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"score\(x\).*\(5,\)"):
        langevin(lambda x: -x[:, 0], torch.zeros(5, 1), step=0.1, steps=2)
