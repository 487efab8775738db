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
from collections.abc import Callable

import torch
from torch import Tensor

from diffutils.process import draw_noise
from diffutils.samplers.base import Sampler, check_end, require_finite_levels
from diffutils.samplers.denoiser import Denoiser
from diffutils.schedule import Schedule
from diffutils.validation import check_bool, check_data, check_float, check_int, check_same_shape


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
        ValueError: if the start is not finite floating-point data, ``step`` is not positive, ``steps`` below 1, or the
            score of another shape than its argument; or, at the end, if the walk has led to what is not finite.

    Source: Song & Ermon 2019 (arXiv:1907.05600), equation (4), which has the same delta.
    """
    check_data("x", x, min_ndim=1)
    step, steps = check_float("step", step, 0.0), check_int("steps", steps, 1)
    check_bool("trajectory", trajectory)
    states = [x]
    for _ in range(steps):
        x = move(x, check_same_shape("score(x)", score(x), "x", x), step, generator)
        if trajectory:
            states.append(x)
    check_end(x, "score")
    return torch.stack(states) if trajectory else x


def move(x: Tensor, score: Tensor, step: float, generator: torch.Generator | None) -> Tensor:
    """Return x after one step of Langevin dynamics of size ``step``, given the score at x, in the shape of x."""
    return x + 0.5 * step * score + math.sqrt(step) * draw_noise(x, generator=generator)


class AnnealedLangevin(Sampler):
    """Langevin dynamics at each noise level in turn, from t = T to t = 1.

    The step from t to s walks ``steps_per_level`` steps of size ``step * nu_t^2`` at level t, in the coordinates
    x_t / sqrt(alpha_bar_t), and hands the point as it stands to level s. In the paper's letters ``step`` is epsilon /
    sigma_L^2, and its 0.2 is epsilon = 2e-5 at sigma_L = 0.01.

    Args:
        denoiser, clip: see ``Sampler``.
        schedule: any schedule with alpha_bar_T above 0; its ``noise_levels`` are the ladder. A geometric one is the
            paper's.
        step: step size over nu_t^2, in (0, 4): 4 is where the walk flies apart.
        steps_per_level: steps at each level.
        denoise: end with E[x_0 | x_t] after the last level, at one more call, which takes away the noise that is left.

    Raises:
        ValueError: if an argument is unfit.

    Source: Song & Ermon 2019 (arXiv:1907.05600), algorithm 1; the last step is that of Jolicoeur-Martineau et al. 2020
    (arXiv:2009.05475).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        *,
        step: float = 0.2,
        steps_per_level: int = 100,
        denoise: bool = True,
        clip: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(denoiser, schedule, clip=clip)
        require_finite_levels(type(self).__name__, schedule)
        self.step_size = check_float("step", step, 0.0, 4.0)
        self.steps_per_level = check_int("steps_per_level", steps_per_level, 1)
        self.denoise = check_bool("denoise", denoise)

    def _step(self, x_t: Tensor, t: int, s: int, generator: torch.Generator | None) -> Tensor:
        scale, level = float(self.schedule.sqrt_alpha_bar[t]), float(self.schedule.noise_levels[t])
        x_tilde = x_t / scale
        for _ in range(self.steps_per_level):
            x_t = scale * x_tilde
            # The score in stretched coordinates: -eps / nu, where it is -eps / sqrt(1 - alpha_bar) in those of x_t.
            score = -self.noise(x_t, self.guess(x_t, t), t) / level
            x_tilde = move(x_tilde, score, self.step_size * level**2, generator)
        if s == 0 and self.denoise:
            return self.guess(scale * x_tilde, t)
        return float(self.schedule.sqrt_alpha_bar[s]) * x_tilde
