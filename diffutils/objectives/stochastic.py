"""The variational bound as a loss: one random time for each example stands for all T terms (home chapter: 8).

Let the time t be drawn with probability p_t. Then

    L_T(x_0) + L_{t-1}(x_0, x_t) / p_t

is an unbiased estimate of the bound of that example, for every choice of p, and its gradient one of the bound's
gradient. A p_t in proportion to the term makes the estimate steady. For data of the law N(0, I) the part of L_{t-1} that
a network can change is 1/2 log(sigma2_t / sigma2_{t-1}) per dimension, sigma2_t = 1 - alpha_bar_t, and p_t is
proportional to that (``time_shares``): the times are spread evenly over the logarithm of the noise's variance.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffutils.objectives.bound import element_terms
from diffutils.objectives.simple import check_batch
from diffutils.process import convert_at, draw_device, draw_noise
from diffutils.samplers import (
    Denoiser,
    check_levels,
    learned_log_variance,
    posterior_variances,
    prediction_of,
    variance_output_of,
)
from diffutils.schedule import Schedule
from diffutils.validation import check_float


class _Draw(NamedTuple):
    """What the denoiser said about one x_t per example, and the truth."""

    value: Tensor
    truth: Tensor
    square: Tensor
    log_variance: Tensor
    t: Tensor


def time_shares(schedule: Schedule) -> Tensor:
    """Return p_1, ..., p_T, (T,) float64, summing to 1: in proportion to log(sigma2_t / sigma2_{t-1}).

    At t = 1 that is infinite. L_0 is of the order of one nat per dimension, hence a logarithm of 1 is put there.
    """
    growth = torch.log(schedule.sigma2[2:] / schedule.sigma2[1:-1])
    shares = torch.cat([growth.new_ones(1), growth])
    return shares / shares.sum()


def draw_times(shares: Tensor, x0: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return one time per example, (B,): each follows the shares (T,), and together they are spread evenly.

    B points, one in each of B equal slices of (0, 1) in random order, are looked up in the running sum of the shares.
    """
    device = draw_device(generator, x0.device)
    count = len(x0)
    slices = torch.randperm(count, generator=generator, device=device)
    point = (slices + torch.rand(count, generator=generator, device=device)) / count
    # Without its last entry, 1, the running sum cannot lead past T.
    edges = shares.cumsum(0)[:-1].to(point.dtype).to(device)
    return (1 + torch.searchsorted(edges, point, right=True)).to(x0.device)


def l_bound(denoiser: Denoiser, schedule: Schedule, x0: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return an unbiased estimate of the variational bound of each example, (B,), in nats, differentiable.

    Args:
        denoiser: callable of (x_t, t) that gives its own variance; see ``samplers.denoiser``.
        schedule: the noise schedule.
        x0: (B, ...) data.
        generator: source of the times and of the noise; None is torch's default.

    Raises:
        ValueError: if x0 is not floating-point data, or the denoiser gives no variance.

    Source: Sohl-Dickstein et al. 2015 (arXiv:1503.03585), equation (14), in the form of Ho et al. 2020, equation (5).
    """
    shares = time_shares(schedule)
    draw = _draw(denoiser, schedule, x0, shares, generator)
    return _terms(schedule, draw.square, draw, shares) + _prior(schedule, x0)


def l_hybrid(
    denoiser: Denoiser,
    schedule: Schedule,
    x0: Tensor,
    *,
    weight: float = 0.001,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return L_simple + weight L_bound / d, a scalar, where L_bound trains the variance alone.

    In L_bound the guess of x_0 is held fixed, so that the mean is trained by L_simple and the variance by the bound.
    Both are per dimension, and their times are uniform.

    Args:
        denoiser, schedule, x0, generator: as in ``l_bound``.
        weight: of the bound, lambda in the paper.

    Raises:
        ValueError: as ``l_bound``, or if the weight is negative.

    Source: Nichol and Dhariwal 2021 (arXiv:2102.09672), equation (16).
    """
    check_float("weight", weight, 0.0, inclusive=True)
    shares = torch.full((schedule.T,), 1 / schedule.T, dtype=torch.float64)
    draw = _draw(denoiser, schedule, x0, shares, generator)
    simple = (draw.value - draw.truth).square().mean()
    terms = _terms(schedule, draw.square.detach(), draw, shares) + _prior(schedule, x0)
    return simple + weight * terms.mean() / x0[0].numel()


def _draw(denoiser: Denoiser, schedule: Schedule, x0: Tensor, shares: Tensor, generator) -> _Draw:
    check_batch(x0)
    check_levels(denoiser, schedule)
    kind, prediction = variance_output_of(denoiser), prediction_of(denoiser)
    t = draw_times(shares, x0, generator)
    eps = draw_noise(x0, generator=generator)
    a, s = schedule.at_times([schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar], t, x0)
    x_t = a * x0 + s * eps
    value, output = denoiser.with_variance(x_t, schedule.network_times(t))
    square = (x0 - convert_at(value, x_t, a, s, prediction, "x0")).square()
    truth = {"eps": eps, "x0": x0, "v": a * eps - s * x0, "score": -eps / s}[prediction]
    tables = (schedule.beta, posterior_variances(schedule, kind))
    log_variance = learned_log_variance(output, kind, *tables, lambda table: _at_times(table, t, x0))
    return _Draw(value, truth, square, log_variance, t)


def _terms(schedule: Schedule, square: Tensor, draw: _Draw, shares: Tensor) -> Tensor:
    """L_{t-1} / p_t of each example, (B,)."""
    first = (draw.t == 1).reshape(-1, *[1] * (square.ndim - 1))
    parts = element_terms(schedule, square, draw.log_variance, lambda table: _at_times(table, draw.t, square), first)
    weight = _at_times(torch.cat([shares[:1], 1 / shares]), draw.t, square).flatten()
    return weight * parts.flatten(1).sum(1)


def _at_times(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Return ``table[t]`` as ``Schedule.at_times`` does, of a table that is made for this call."""
    return table.to(like.dtype).to(like.device)[t].reshape(-1, *[1] * (like.ndim - 1))


def _prior(schedule: Schedule, x0: Tensor) -> Tensor:
    alpha_bar, log_sigma2 = float(schedule.alpha_bar[-1]), float(schedule.sigma2[-1].log())
    return 0.5 * (alpha_bar * x0.square() - alpha_bar - log_sigma2).flatten(1).sum(1)
