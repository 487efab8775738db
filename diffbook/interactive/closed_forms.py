"""The book's figures that a page computes itself; each takes a line to show.

    forward_process(mixture, schedule)     a density and its score while noise comes in       home chapter: 2
    probability_flow(mixture)              paths from noise to data by few steps of a method  home chapter: 10
    schedule_shape()                       a schedule, and the price of a start from N(0, 1)  home chapter: 11
"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from diffbook import figures
from diffbook.interactive.exact import ExactFigure, exact
from diffutils.distributions import GaussianMixture
from diffutils.doctor import reference_law
from diffutils.schedule import Schedule
from diffutils.validation import check_int, require

_COLOURS = {"data": figures.DATA, "noise": figures.NOISE, "model": figures.MODEL, "exact": figures.EXACT}
# As wide as the canvas of the drawings, 640.
_INCHES = 6.4


def _numbers(mixture: GaussianMixture) -> dict[str, list[float]]:
    require(mixture.dim == 1, "mixture.dim", mixture.dim, "1: these drawings are of laws on the line")
    parts = {"weights": mixture.weights, "means": mixture.means, "variances": mixture.covariances}
    return {name: values.flatten().tolist() for name, values in parts.items()}


def _tensors(mixture: GaussianMixture) -> dict[str, Tensor]:
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in _numbers(mixture).items()}


def _normal(x: Tensor) -> Tensor:
    return torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def forward_process(mixture: GaussianMixture, schedule: Schedule, *, positions: int = 51) -> ExactFigure:
    """Return the density and the score of x_t, and KL(q_t || N(0, 1)) in nats, with t on the slider.

    Args:
        mixture: the data law, one-dimensional.
        schedule: the noise schedule.
        positions: how many times t the slider visits, from 0 to T.

    Raises:
        ValueError: if the mixture is not one-dimensional or there are fewer than two positions.
    """
    numbers = _numbers(mixture)
    positions = check_int("positions", positions, 2, schedule.T + 1)
    times = sorted({round(k * schedule.T / (positions - 1)) for k in range(positions)})
    x = torch.linspace(-4, 4, 401, dtype=torch.float64)[:, None]
    density = mixture.log_prob(x).exp()
    data = numbers | {
        "alpha_bar": {t: float(schedule.alpha_bar[t]) for t in times},
        "kl": {t: mixture.kl_to_standard_normal(float(schedule.alpha_bar[t])) for t in times},
        "highest": math.ceil(10 * float(density.max())) / 10,
        "colours": _COLOURS,
    }
    still, (upper, lower) = plt.subplots(2, 1, figsize=(_INCHES, 4.3), height_ratios=(2, 1))
    upper.plot(x, density, color=figures.EXACT)
    upper.plot(x, _normal(x), "--", color=figures.NOISE)
    upper.set(xlabel="x", ylabel="density")
    lower.plot(x, mixture.score(x), color=figures.EXACT)
    lower.plot(x, -x, "--", color=figures.NOISE)
    lower.set(xlabel="x", ylabel="score", ylim=(-8, 8))
    alt = (
        f"The density of the data at t = 0, a curve of {mixture.components} components, beside the dashed standard "
        "normal one; below, the slope of its logarithm beside that of the standard normal one, a falling line."
    )
    return exact("forward", data, {"t": times}, still=still, alt=alt)


def quantile_path(mixture: GaussianMixture, x_T: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return where the probability-flow ODE has carried each x_T, (steps, B), on the line: exactly.

    On the line the flow keeps the order of points, so it keeps each point's quantile: F_t(x_t) = F_T(x_T).

    Args:
        mixture: the data law, one-dimensional.
        x_T: (B,) where the points start, at level ``alpha_bar[0]``.
        alpha_bar: (steps,) the levels to be at, in [0, 1].

    Source: Song et al. 2021 (arXiv:2011.13456), section 4.3: the flow has the marginals q_t.
    """
    numbers = _tensors(mixture)
    # Lower and upper tails: each keeps its digits where the other is nearly 1.
    target = _tails(numbers, x_T.double(), float(alpha_bar[0]))
    return torch.stack([_quantile(numbers, target, float(level)) for level in alpha_bar])


def _tails(numbers: dict[str, Tensor], x: Tensor, alpha_bar: float) -> Tensor:
    spread = alpha_bar * numbers["variances"] + 1 - alpha_bar
    z = (x[:, None] - math.sqrt(alpha_bar) * numbers["means"]) / spread.sqrt()
    # torch.special.ndtr is zero from nine standard deviations on; erfc goes on to thirty-eight.
    lower, upper = (numbers["weights"] * 0.5 * torch.special.erfc(-side * z / math.sqrt(2)) for side in (1, -1))
    return torch.stack([lower.sum(1), upper.sum(1)])


def _quantile(numbers: dict[str, Tensor], target: Tensor, alpha_bar: float) -> Tensor:
    reach = 1 + float(numbers["means"].abs().max()) + 12 * max(1.0, float(numbers["variances"].max().sqrt()))
    low, high = torch.full_like(target[0], -reach), torch.full_like(target[0], reach)
    for _ in range(80):
        middle = (low + high) / 2
        lower, upper = _tails(numbers, middle, alpha_bar)
        before = torch.where(target[0] < 0.5, lower < target[0], upper > target[1])
        low, high = torch.where(before, middle, low), torch.where(before, high, middle)
    return (low + high) / 2


def probability_flow(mixture: GaussianMixture, *, steps: int = 40, points: int = 21) -> ExactFigure:
    """Return paths of the probability-flow ODE by N steps, with the method and N on sliders, over the exact paths.

    The steps are equal in the logarithm of the signal-to-noise ratio, from noise level 20 to 0.02.

    Args:
        mixture: the data law, one-dimensional.
        steps: the largest N.
        points: how many paths; they start at quantiles of the noisiest law.

    Raises:
        ValueError: if the mixture is not one-dimensional or a number is below two.
    """
    steps, points = check_int("steps", steps, 2), check_int("points", points, 2)
    lambdas = torch.linspace(-math.log(20.0), -math.log(0.02), 61, dtype=torch.float64)
    alpha_bar = torch.sigmoid(2 * lambdas)
    shares = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    numbers = _tensors(mixture)
    starts = _quantile(numbers, torch.stack([shares, 1 - shares]), float(alpha_bar[0]))
    exact_paths = quantile_path(mixture, starts, alpha_bar)
    where = torch.linspace(0, 1, len(lambdas)).tolist()
    data = _numbers(mixture) | {
        "lambdas": [float(lambdas[0]), float(lambdas[-1])],
        "starts": [round(v, 6) for v in starts.tolist()],
        "ends": [round(v, 6) for v in exact_paths[-1].tolist()],
        "paths": [[[round(u, 4), round(v, 4)] for u, v in zip(where, path)] for path in exact_paths.T.tolist()],
        "colours": _COLOURS,
    }
    still, ax = plt.subplots(figsize=(_INCHES, 3.5))
    ax.plot(where, exact_paths, color=figures.NOISE, linewidth=1)
    ax.set(xlabel="from noise (left) to data (right)", ylabel="x", ylim=(-3, 3))
    alt = f"{points} exact paths of the probability-flow ODE: they lead from noise on the left to the data on the right."
    controls = {"method": ["Euler (DDIM)", "Heun"], "N": list(range(1, steps + 1))}
    return exact("flow", data, controls, still=still, alt=alt, start={"N": 4})


def schedule_shape() -> ExactFigure:
    """Return alpha_bar_t of a schedule with its kind, T and last beta on sliders, and the price of its start.

    The data are ``doctor.reference_law()``, and a start is honest as ``doctor.Diagnosis`` says.
    """
    law = reference_law()
    data = _numbers(law) | {"first": 1e-4, "honest": 1e-5, "colours": _COLOURS}
    controls = {
        "schedule": ["linear", "quadratic", "cosine"],
        "T": [10, 20, 40, 50, 100, 200, 300, 500, 1000, 2000],
        "last beta": [0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4],
    }
    start = {"T": 3, "last beta": 2}
    schedule = Schedule.linear(50, 1e-4, 0.02)
    x = torch.linspace(-4, 4, 401, dtype=torch.float64)[:, None]
    still, (upper, lower) = plt.subplots(2, 1, figsize=(_INCHES, 4.3), height_ratios=(2, 1))
    upper.plot(schedule.alpha_bar, color=figures.DATA)
    upper.set(xlabel="t", ylabel=r"$\bar\alpha_t$", ylim=(0, 1.03))
    lower.plot(x, law.diffused(float(schedule.alpha_bar[-1])).log_prob(x).exp(), color=figures.DATA)
    lower.plot(x, _normal(x), "--", color=figures.NOISE)
    lower.set(xlabel="$x_T$", ylabel="density")
    alt = (
        "The signal's share of the variance for the linear schedule with T = 50 and last beta 0.02: it falls from 1 to "
        "0.6. Below, the density of the data at T, a hump with a shoulder, beside the dashed standard normal one."
    )
    return exact("schedule", data, controls, still=still, alt=alt, start=start)
