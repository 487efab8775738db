r"""The statistic of each exhibit: one number that a sound package keeps small and the exhibit's bug does not.

Most are exact. For data that are one point, or Gaussian, or a mixture of Gaussians, the quantity that the code computes
has a value that follows from the definitions, and the statistic is the distance from it: rounding when the code is
right. The others are z-scores, of a mean or a variance of draws whose law is known.

Every function takes a seed, which the exact ones ignore, works on the CPU, and needs no trained network. Functions of
diffutils are looked up when a statistic runs, so it sees the bug that is planted at that moment.

Home chapter: the bug museum (12).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffutils import process, training
from diffutils.datasets import grid_mixture
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.models.flows import RealNVP
from diffutils.models.ncsn import NCSN
from diffutils.models.vae import VAE
from diffutils.networks import MLP, time_embedding
from diffutils.objectives import l_simple
from diffutils.samplers import DDIM, Ancestral, Heun, langevin
from diffutils.schedule import Schedule


class Point:
    """The exact denoiser of data that are one single point, the origin; it remembers what it was asked, and when."""

    prediction = "x0"

    def __init__(self) -> None:
        self.states: list[Tensor] = []
        self.times: list[Tensor] = []

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        self.states.append(x_t)
        self.times.append(torch.as_tensor(t))
        return torch.zeros_like(x_t)


def doubles(n: int, dim: int, seed: int) -> Tensor:
    """Return (n, dim) float64 standard normal numbers, drawn without ``diffutils.process.draw_noise``."""
    return torch.randn(n, dim, generator=make_generator(seed), dtype=torch.float64)


def z_of_variance(x: Tensor, variance: float) -> float:
    """Return how many standard errors the mean square of Gaussian numbers x is away from ``variance``."""
    return abs(float(x.square().mean()) / variance - 1) * math.sqrt(x.numel() / 2)


# -- time and indices --------------------------------------------------------------------------------------------------


def posterior_mean(seed: int = 0) -> float:
    """The posterior's mean at x_t = sqrt(alpha_bar_t) x_0 must be sqrt(alpha_bar_{t-1}) x_0: largest difference."""
    schedule = Schedule.linear(1000)
    mean = schedule.posterior_x0 + schedule.posterior_xt * schedule.sqrt_alpha_bar
    return float((mean[1:] - schedule.sqrt_alpha_bar[:-1]).abs().max())


def first_time_asked(seed: int = 0) -> float:
    """A sampler must first ask the network about time T: how far from T it asks, as a share of T."""
    network, schedule = Point(), Schedule.linear(1000)
    DDIM(network, schedule.respaced(20)).sample((1, 1))
    return abs(int(network.times[0]) / schedule.T - 1)


def time_told(seed: int = 0) -> float:
    """For data that are all 0, x_t must have the variance of the time the network is told: z-score over all times."""
    network, schedule = Point(), Schedule.cosine(50)
    l_simple(network, schedule, torch.zeros(100_000, 1), generator=make_generator(seed))
    told = torch.cat(network.times).clamp(min=1)
    return z_of_variance(torch.cat(network.states)[:, 0] / schedule.sqrt_one_minus_alpha_bar[told], 1.0)


def order_of_heun(seed: int = 0) -> float:
    """Halving Heun's steps must divide its error by four: distance of the measured order from 2.

    For Gaussian data the ODE is solved in closed form: x_t keeps its place in units of its standard deviation.
    """
    law = GaussianMixture(torch.ones(1), torch.zeros(1, 1, dtype=torch.float64), 0.25)
    schedule, errors = Schedule.linear(1000), []
    sd = (0.25 * schedule.alpha_bar + schedule.sigma2).sqrt()
    for steps in (40, 80):
        x = sd[1000].reshape(1, 1)
        times = [1000 - k * 800 // steps for k in range(steps + 1)]
        for t, s in zip(times[:-1], times[1:]):
            x = Heun(law.denoiser(schedule), schedule, variable="noise_level").step(x, t, s)
        errors.append(abs(float(x - sd[200])))
    return abs(math.log2(errors[0] / errors[1]) - 2)


# -- variance ----------------------------------------------------------------------------------------------------------


def variance_of_the_chain(seed: int = 0) -> float:
    """The chain from x_0 = 0 must end with the variance of the closed form: z-score."""
    schedule = Schedule.linear(100)
    end = process.forward_chain(schedule, torch.zeros(20_000, 1), generator=make_generator(seed))[-1]
    return z_of_variance(end, float(schedule.sigma2[-1]))


def total_variance(seed: int = 0) -> float:
    """Posterior and marginal must make up the variance of x_{t-1} given x_0: largest relative difference."""
    schedule = Schedule.linear(1000)
    total = schedule.posterior_xt[2:].square() * schedule.sigma2[2:] + schedule.beta_tilde[2:]
    return float((total / schedule.sigma2[1:-1] - 1).abs().max())


def marginal_of_ddim(seed: int = 0) -> float:
    """A DDIM step must lead the law at t to the law at s, whatever eta: z-score of the variance at s."""
    schedule = Schedule.linear(1000)
    x_t = float(schedule.sqrt_one_minus_alpha_bar[600]) * doubles(100_000, 1, seed)
    x_s = DDIM(Point(), schedule, eta=0.5).step(x_t, 600, 300, generator=make_generator(seed + 1))
    return z_of_variance(x_s, float(schedule.sigma2[300]))


def product_of_alphas(seed: int = 0) -> float:
    """1 - beta must multiply up to alpha_bar_T on a respaced schedule too: relative difference of the logarithms."""
    schedule = Schedule.linear(1000)
    return abs(float(torch.log1p(-schedule.respaced(20).beta).sum() / schedule.log_alpha_bar[-1] - 1))


# -- noise -------------------------------------------------------------------------------------------------------------


def mean_of_noise(seed: int = 0) -> float:
    """Noise must have mean 0: z-score of the mean of 10,000 draws."""
    return abs(float(process.draw_noise(torch.empty(10_000), generator=make_generator(seed)).mean())) * 100


def spread_of_langevin(seed: int = 0) -> float:
    """Langevin dynamics on N(0, 1) must settle at the variance its step size allows: z-score."""
    x = langevin(lambda x: -x, doubles(20_000, 1, seed), step=0.5, steps=100, generator=make_generator(seed + 1))
    return z_of_variance(x, 1 / (1 - 0.5 / 4))


# -- signs -------------------------------------------------------------------------------------------------------------


def stein(seed: int = 0) -> float:
    """E[x . score(x)] must be -d for a smooth density, by integration by parts: z-score of the difference."""
    grid, schedule = grid_mixture().to(dtype=torch.float64), Schedule.cosine(50)
    x0 = grid.sample(20_000, generator=make_generator(seed))
    x_t = process.diffuse(schedule, x0, 25, noise=doubles(20_000, 2, seed + 1))
    score = process.convert(schedule, grid.denoiser(schedule)(x_t, 25), x_t, 25, "eps", "score")
    products = (x_t * score).sum(dim=1)
    return abs(float((products.mean() + 2) / products.std())) * math.sqrt(len(products))


@torch.no_grad()
def mass_of_the_flow(seed: int = 0) -> float:
    """A density must integrate to 1: distance of the integral over a square from it, for an untrained flow."""
    axis = torch.linspace(-8, 8, 400)
    flow = RealNVP(2, couplings=4, hidden=16, seed=3)
    return abs(float(flow.log_prob(torch.cartesian_prod(axis, axis)).double().exp().sum()) * (16 / 399) ** 2 - 1)


@torch.no_grad()
def kl_of_the_vae(seed: int = 0) -> float:
    """The KL term must be the one a library computes: largest difference in nats, for an untrained encoder."""
    vae, x = VAE(2, seed=3), doubles(200, 2, seed).float()
    mean, log_std = vae.encode(x)
    normal = torch.distributions.Normal
    exact = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0)).sum(dim=1)
    return float((vae.elbo_terms(x, generator=make_generator(seed))[1] - exact).abs().max())


# -- the data's scale --------------------------------------------------------------------------------------------------


def share_beyond_one(seed: int = 0) -> float:
    """Samples must reach as far as the data: share of the grid beyond 1, which is 16/25, minus that of the samples."""
    grid, schedule = grid_mixture(), Schedule.cosine(100)
    x = DDIM(grid.denoiser(schedule), schedule).sample((2000, 2), generator=make_generator(seed))
    return abs(16 / 25 - float((x.abs().amax(dim=1) > 1).double().mean()))


class Overshoot:
    """A denoiser whose guess of x_0 lies outside the data, as a real network's will now and then."""

    prediction = "x0"

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        return 1.5 * x_t


def parts_of_a_step(seed: int = 0) -> float:
    """The clipped x_0 and the noise of a DDIM step must add up to x_t: largest difference."""
    schedule, x_t = Schedule.linear(1000), doubles(100, 1, seed)
    x_s = DDIM(Overshoot(), schedule, clip=(-1, 1)).step(x_t, 600, 300)
    a, sigma = schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar
    x0_hat = (1.5 * x_t).clamp(-1, 1)
    eps = (x_s - a[300] * x0_hat) / sigma[300]
    return float((a[600] * x0_hat + sigma[600] * eps - x_t).abs().max())


# -- the last step -----------------------------------------------------------------------------------------------------


def two_last_steps(seed: int = 0) -> float:
    """The last step adds no noise, so two of them from one x_1 must agree: largest difference."""
    schedule, x_1 = Schedule.linear(1000), doubles(100, 1, seed)
    sampler = Ancestral(Point(), schedule, variance="beta")
    first, second = (sampler.step(x_1, 1, 0, generator=make_generator(seed + k)) for k in (1, 2))
    return float((first - second).abs().max())


def end_of_ddim(seed: int = 0) -> float:
    """DDIM must end at the network's guess of x_0: largest difference."""
    schedule = Schedule.linear(1000)
    x_1 = schedule.sqrt_one_minus_alpha_bar[1] * doubles(100, 1, seed)
    return float(DDIM(Point(), schedule).step(x_1, 1, 0).abs().max())


# -- training ----------------------------------------------------------------------------------------------------------


class Mean(nn.Module):
    """A model of one number, which learns the mean of its data."""

    def __init__(self) -> None:
        super().__init__()
        self.guess = nn.Parameter(torch.zeros(1))

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return (x - self.guess).square().mean()


def slow_average(seed: int = 0) -> float:
    """An average with decay nearly 1 must stay at the first weights it saw: how far it went, over the data's mean."""
    first, slow = Mean(), Mean()
    options = dict(lr=0.05, warmup=0, cosine=False, clip_norm=None, seed=seed, device="cpu", progress=False)
    training.train(first, torch.ones(8, 1), steps=1, **options)
    training.train(slow, torch.ones(8, 1), steps=60, ema_decay=1 - 1e-9, **options)
    return abs(slow.guess.item() - first.guess.item())


def directions_of_time(seed: int = 0) -> float:
    """The embeddings of 1,000 times must span many directions: 10 over the number that carry more than a percent."""
    strengths = torch.linalg.svdvals(time_embedding(torch.arange(1, 1001), 64).double())
    return 10 / int((strengths > 0.01 * strengths[0]).sum())


def loss_of_ncsn(seed: int = 0) -> float:
    """The score network's loss must be L_simple from equal draws: relative difference."""
    x, schedule = doubles(64, 2, seed).float(), Schedule.geometric(20, 0.035, 4.0)
    model = NCSN(MLP(2, width=16, depth=1), schedule)
    simple = l_simple(model, schedule, x, target="eps", generator=make_generator(seed))
    return abs(model.loss(x, generator=make_generator(seed)).item() / simple.item() - 1)
