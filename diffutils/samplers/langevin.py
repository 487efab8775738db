r"""Langevin dynamics: walk along the score, and shake (home chapter: 7, three roads to diffusion).

One step of size ``delta`` with the score s = grad log p of the law wanted:

    x <- x + delta/2 s(x) + sqrt(delta) z,   z ~ N(0, I).

As delta -> 0 and the total time steps * delta -> infinity the law of x becomes p. At a finite step it does not: for
p = N(m, V) the walk settles at N(m, V / (1 - delta / (4 V))), too wide, and flies apart once delta >= 4 V
(``stationary_variance``). Between modes far apart it takes exponentially long at any step.

Annealed Langevin dynamics walks at a ladder of noise levels nu_T > ... > nu_1 instead, from coarse to fine, with steps
delta_t proportional to nu_t^2. It lives in the coordinates of the score-based papers, x_tilde = x_t / sqrt(alpha_bar_t)
= x_0 + nu_t z, where the score is -eps / nu_t for the eps of x_t (``Schedule.noise_levels`` holds the nu_t).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffutils.process import convert_at, draw_noise
from diffutils.samplers.denoiser import Denoiser, prediction_of, start
from diffutils.schedule import Schedule
from diffutils.validation import check_data, check_float, check_int, require


def stationary_variance(variance: float, step: float) -> float:
    """Return the variance at which ``langevin`` settles when the law wanted is a Gaussian of this variance.

    A step multiplies x - m by 1 - step / (2 V) and adds the variance ``step``, so the fixed point is
    step / (1 - (1 - step / (2 V))^2) = V / (1 - step / (4 V)).

    Args:
        variance: V, per direction, in squared units of the data.
        step: the step size, in the same units, below 4 V.

    Raises:
        ValueError: if the variance is not positive, or the step not in (0, 4 V): there is no fixed point then.
    """
    variance = check_float("variance", variance, 0.0)
    step = check_float("step", step, 0.0, 4 * variance)
    return variance / (1 - step / (4 * variance))


@torch.no_grad()
def langevin(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    step: float,
    steps: int,
    trajectory: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Walk ``steps`` steps of plain Langevin dynamics, without a correction for the step's length.

    Args:
        score: grad log p of the law wanted, a function (B, ...) -> (B, ...).
        x: (B, ...) where to start; it is not changed.
        step: the step size delta, in squared units of the data.
        steps: how many.
        trajectory: return every state instead of the last.
        generator: source of the noise; None is torch's default.

    Returns:
        (B, ...), or with ``trajectory`` (steps + 1, B, ...) in which entry 0 is ``x``.

    Raises:
        ValueError: if the start is not finite floating-point data, ``step`` is not positive or ``steps`` below 1.

    Source: Song & Ermon 2019 (arXiv:1907.05600), equation (4), which has the same delta.
    """
    check_data("x", x, min_ndim=1)
    step, steps = check_float("step", step, 0.0), check_int("steps", steps, 1)
    states = [x]
    for _ in range(steps):
        x = _move(x, score(x), step, generator)
        if trajectory:
            states.append(x)
    return torch.stack(states) if trajectory else x


def noise_level_score(denoiser: Denoiser, schedule: Schedule, x_tilde: Tensor, t: int) -> Tensor:
    """Return the score of x_tilde = x_0 + nu_t z that a denoiser stands for, in the shape of ``x_tilde``.

    It is -eps / nu_t, where eps is the denoiser's at x_t = x_tilde / sqrt(1 + nu_t^2); that is sqrt(alpha_bar_t) times
    the score of x_t, because stretching the axes shrinks slopes.

    Args:
        denoiser: callable of (x_t, t) with an attribute ``prediction``; t is the int ``schedule.timesteps[t]``.
        schedule: any schedule; its ``noise_levels`` are the nu_t.
        x_tilde: (B, ...) data with noise of standard deviation nu_t.
        t: the level, in 1..T, where T is the noisiest.

    Raises:
        ValueError: if t is out of range, or the denoiser's answer has another shape.
    """
    t = check_int("t", t, 1, schedule.T)
    a, s = float(schedule.sqrt_alpha_bar[t]), float(schedule.sqrt_one_minus_alpha_bar[t])
    x_t = a * x_tilde
    value = denoiser(x_t, int(schedule.timesteps[t]))
    require(value.shape == x_t.shape, "denoiser(x_t, t).shape", tuple(value.shape), f"that of x_t, {tuple(x_t.shape)}")
    return -convert_at(value, x_t, a, s, prediction_of(denoiser), "eps") / float(schedule.noise_levels[t])


@torch.no_grad()
def annealed_langevin(
    denoiser: Denoiser,
    schedule: Schedule,
    shape: Sequence[int] | None = None,
    *,
    step: float = 0.2,
    steps_per_level: int = 100,
    denoise: bool = True,
    x_T: Tensor | None = None,
    trajectory: bool = False,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Sample by Langevin dynamics at each noise level in turn, from t = T to t = 1.

    Level t takes ``steps_per_level`` steps of size ``step * nu_t^2``. In the paper's letters ``step`` is
    epsilon / sigma_L^2, and its 0.2 is epsilon = 2e-5 at sigma_L = 0.01.

    Args:
        denoiser: callable of (x_t, t) with an attribute ``prediction``; a network, or an oracle.
        schedule: any schedule; its ``noise_levels`` are the ladder. A geometric one is the paper's.
        shape: (B, ...) of the samples; not needed where ``x_T`` is given.
        step: step size over nu_t^2, in (0, 4): 4 is where the walk flies apart.
        steps_per_level: steps at each level.
        denoise: end with E[x_0 | x_tilde] at the last level, which takes away the noise that is still in x_tilde.
        x_T: (B, ...) the state to start from, of about unit variance as for ``ancestral``; None draws it from
            N(0, I). The walk starts at x_T / sqrt(alpha_bar_T).
        trajectory: return the state after every level instead of the last.
        generator: source of all noise; None is torch's default.
        device: where to sample when ``x_T`` is not given; None is the denoiser's own device, else the CPU.

    Returns:
        (B, ...) samples, or with ``trajectory`` (T + 1, B, ...): entry t is x_tilde after the steps of level t, in the
        units of the data, and entry 0 the samples.

    Raises:
        ValueError: if neither or both of shape and x_T are given, or an argument is out of range.

    Source: Song & Ermon 2019 (arXiv:1907.05600), algorithm 1; the last step is that of Jolicoeur-Martineau et al. 2020
    (arXiv:2009.05475).
    """
    step, steps_per_level = check_float("step", step, 0.0, 4.0), check_int("steps_per_level", steps_per_level, 1)
    prediction_of(denoiser)
    x = start(denoiser, shape, x_T, generator, device) / float(schedule.sqrt_alpha_bar[-1])
    states = x.new_empty((schedule.T + 1, *x.shape)) if trajectory else None
    for t in range(schedule.T, 0, -1):
        size = step * float(schedule.noise_levels[t]) ** 2
        for _ in range(steps_per_level):
            x = _move(x, noise_level_score(denoiser, schedule, x, t), size, generator)
        if trajectory:
            states[t] = x
    if denoise:
        # Tweedie's formula: E[x_0 | x_tilde] = x_tilde + nu^2 score.
        x = x + float(schedule.noise_levels[1]) ** 2 * noise_level_score(denoiser, schedule, x, 1)
    if trajectory:
        states[0] = x
    return states if trajectory else x


def _move(x: Tensor, score: Tensor, step: float, generator: torch.Generator | None) -> Tensor:
    return x + 0.5 * step * score + math.sqrt(step) * draw_noise(x, generator=generator)
