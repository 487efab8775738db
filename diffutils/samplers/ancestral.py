"""Ancestral sampling: walk the chain backwards from noise to data (home chapter: 5, the reverse process).

The reverse chain starts at x_T ~ N(0, I) and draws x_{t-1} from

    p_theta(x_{t-1} | x_t) = N(mu_theta(x_t, t), sigma_t^2 I),

where mu_theta is the mean of the posterior q(x_{t-1} | x_t, x_0) with the denoiser's guess of x_0 put in the place of
x_0, and sigma_t^2 is a variance: ``beta_t`` or ``beta_tilde_t`` (Ho et al. 2020, section 3.2), a table, or "learned",
one variance for each coordinate that the denoiser itself gives. The last step, t = 1, returns the mean and adds no
noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffutils.process import draw_noise
from diffutils.samplers.denoiser import Denoiser, predict_step, predict_x0, start, variance_output_of
from diffutils.schedule import Schedule
from diffutils.validation import check_choice, check_float, check_int, require

VARIANCES = ("beta", "beta_tilde")
LEARNED = "learned"


def reverse_variance(schedule: Schedule, variance: str | Tensor) -> Tensor:
    """Return sigma_t^2, the variance of every reverse step, as a float64 CPU table of length T + 1.

    Args:
        schedule: the noise schedule.
        variance: "beta", "beta_tilde", or a table of length T + 1 of variances of your own.

    Raises:
        ValueError: if ``variance`` is another name, or a table of another length or with negative or NaN entries.

    Source: Ho et al. 2020 (arXiv:2006.11239), section 3.2: both are statements about sigma_t^2, not sigma_t.
    """
    if isinstance(variance, Tensor):
        shape = tuple(variance.shape)
        require(shape == (schedule.T + 1,), "variance.shape", shape, f"({schedule.T + 1},), one entry per time 0..T")
        table = variance.detach().cpu().to(torch.float64)
        require(bool((table >= 0).all()), "variance", table.min().item(), "at least 0 everywhere")
        return table
    return getattr(schedule, check_choice("variance", variance, VARIANCES))


def ancestral_step(
    schedule: Schedule,
    x_t: Tensor,
    t: int,
    x0_hat: Tensor,
    *,
    variance: str | Tensor = "beta_tilde",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw x_{t-1} from N(mu, sigma_t^2 I), mu the posterior mean with ``x0_hat`` in the place of x_0.

    Args:
        schedule: the noise schedule.
        x_t: (B, ...) the state at step t.
        t: the step, 1..T; at t = 1 the mean, ``x0_hat`` itself, is returned and no noise is drawn.
        x0_hat: the guess of x_0, of the shape of ``x_t``.
        variance: sigma_t^2: "beta", "beta_tilde", a table of length T + 1, or a tensor of the shape of ``x_t`` with a
            variance for each coordinate at this step.
        generator: source of the noise; None is torch's default.

    Raises:
        ValueError: if t is not in 1..T, the shapes differ or ``variance`` is not as above.

    Source: Ho et al. 2020 (arXiv:2006.11239), equation (7) for the mean and algorithm 2.
    """
    t = check_int("t", t, 1, schedule.T)
    require(x0_hat.shape == x_t.shape, "x0_hat.shape", tuple(x0_hat.shape), f"that of x_t, {tuple(x_t.shape)}")
    own = isinstance(variance, Tensor) and variance.ndim > 1 and variance.shape == x_t.shape
    sigma = variance.sqrt() if own else math.sqrt(reverse_variance(schedule, variance)[t])
    mean = float(schedule.posterior_x0[t]) * x0_hat + float(schedule.posterior_xt[t]) * x_t
    if t == 1:
        return mean
    return mean + sigma * draw_noise(x_t, generator=generator)


@torch.no_grad()
def ancestral(
    denoiser: Denoiser,
    schedule: Schedule,
    shape: Sequence[int] | None = None,
    *,
    variance: str | Tensor = "beta_tilde",
    clip: tuple[float, float] | None = None,
    x_T: Tensor | None = None,
    trajectory: bool = False,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sample the reverse chain from t = T to t = 0.

    Args:
        denoiser: callable of (x_t, t) with an attribute ``prediction``; t is the int ``schedule.timesteps[t]``.
        schedule: the noise schedule, possibly respaced.
        shape: (B, ...) of the samples; not needed where ``x_T`` is given.
        variance: sigma_t^2: "beta", "beta_tilde", a table of length T + 1, or "learned" for the denoiser's own.
        clip: (low, high) to which the guess of x_0 is clipped; the mean is then computed from the clipped guess.
            For data with known bounds only (images), never for unbounded points.
        x_T: (B, ...) the state to start from; None draws it from N(0, I).
        trajectory: return every state instead of the last.
        generator: source of all noise; None is torch's default.
        device: where to sample when ``x_T`` is not given; None is the denoiser's own device, else the CPU.

    Returns:
        (B, ...) samples, or with ``trajectory`` (T + 1, B, ...) in which entry t is x_t and entry 0 the samples.

    Raises:
        ValueError: if neither or both of shape and x_T are given, or an argument is out of range.

    Source: Ho et al. 2020 (arXiv:2006.11239), algorithm 2.
    """
    x = start(denoiser, shape, x_T, generator, device)
    learned = isinstance(variance, str) and variance == LEARNED
    if learned:
        variance_output_of(denoiser)
    else:
        table = reverse_variance(schedule, variance)
    if clip is not None:
        low, high = _check_clip(clip)
    states = x.new_empty((schedule.T + 1, *x.shape)) if trajectory else None
    if trajectory:
        states[schedule.T] = x
    for t in range(schedule.T, 0, -1):
        if learned:
            x0_hat, log_variance = predict_step(denoiser, schedule, x, t)
            sigma2 = log_variance.exp()
        else:
            x0_hat, sigma2 = predict_x0(denoiser, schedule, x, t), table
        if clip is not None:
            x0_hat = x0_hat.clamp(low, high)
        x = ancestral_step(schedule, x, t, x0_hat, variance=sigma2, generator=generator)
        if trajectory:
            states[t - 1] = x
    return states if trajectory else x


def _check_clip(clip: tuple[float, float]) -> tuple[float, float]:
    require(isinstance(clip, Sequence) and len(clip) == 2, "clip", clip, "a pair (low, high)")
    low, high = check_float("clip[0]", clip[0]), check_float("clip[1]", clip[1])
    require(low < high, "clip", clip, "a pair with low < high")
    return low, high
