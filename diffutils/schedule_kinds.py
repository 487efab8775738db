"""The schedules that papers name: linear, quadratic, cosine, sigmoid, constant, geometric.

Each is a formula for beta_t, for alpha_bar_t or for the noise level. ``Schedule`` (``diffutils.schedule``) inherits
them as its constructors. Home chapter: the forward process (02).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from diffutils.schedule_inputs import checked_ends
from diffutils.validation import check_float, check_int, require

if TYPE_CHECKING:
    from diffutils.schedule import Schedule


class NamedSchedules:
    """Constructors of ``Schedule`` that need a few numbers and no list."""

    @classmethod
    def linear(cls, T: int = 1000, beta_start: float | None = None, beta_end: float | None = None) -> Schedule:
        """Return betas in equal steps from ``beta_start`` to ``beta_end`` (Ho et al. 2020, section 4).

        The defaults 0.1 / T and 20 / T are the paper's 1e-4 and 0.02 at T = 1000 and give other T nearly the same
        alpha_bar_T, about 4e-5. They need T > 20; give ``beta_end`` for a shorter schedule.

        Raises:
            ValueError: if T < 1 or a beta is outside (0, 1).
        """
        T, start, end = checked_ends(T, beta_start, beta_end)
        return cls(torch.linspace(start, end, T, dtype=torch.float64), "linear")

    @classmethod
    def quadratic(cls, T: int = 1000, beta_start: float | None = None, beta_end: float | None = None) -> Schedule:
        """Return betas whose square roots lie in equal steps, from ``beta_start`` to ``beta_end``.

        The defaults are those of ``linear``. Source: the "quad" option of Ho et al.'s released code, and Tashiro et
        al. 2021 (CSDI), https://arxiv.org/abs/2107.03502

        Raises:
            ValueError: if T < 1 or a beta is outside (0, 1).
        """
        T, start, end = checked_ends(T, beta_start, beta_end)
        return cls(torch.linspace(math.sqrt(start), math.sqrt(end), T, dtype=torch.float64) ** 2, "quadratic")

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
        """Return the cosine schedule: alpha_bar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) * pi/2).

        Betas are clipped at ``max_beta``, because alpha_bar_T would be 0 otherwise.

        Raises:
            ValueError: if T < 1, s < 0 or max_beta is outside (0, 1).

        Source: Nichol and Dhariwal 2021, eq. 17, https://arxiv.org/abs/2102.09672
        """
        T = check_int("T", T, 1)
        s = check_float("s", s, 0.0, inclusive=True)
        max_beta = check_float("max_beta", max_beta, 0.0, 1.0)
        f = torch.cos((torch.linspace(0, 1, T + 1, dtype=torch.float64) + s) / (1 + s) * math.pi / 2) ** 2
        return cls((1 - f[1:] / f[:-1]).clamp(max=max_beta), "cosine")

    @classmethod
    def sigmoid(
        cls, T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, clip_min: float = 1e-9
    ) -> Schedule:
        """Return the sigmoid schedule: alpha_bar falls along a logistic curve from 1 to ``clip_min``.

        alpha_bar_t = (S(end) - S(start + (end - start) t/T)) / (S(end) - S(start)), S(u) = 1 / (1 + exp(-u / tau)).
        This is a curve for alpha_bar. Another schedule of the same name puts the betas themselves on a logistic curve.

        Raises:
            ValueError: if T < 1, start >= end, tau <= 0, clip_min is outside (0, 1), or the curve is flat somewhere:
                clipped before its end, or too steep for double precision.

        Source: Chen 2023, Algorithm 1, https://arxiv.org/abs/2301.10972, after Jabri et al. 2022.
        """
        T = check_int("T", T, 1)
        start, tau = check_float("start", start), check_float("tau", tau, 0.0)
        end = check_float("end", end, start)
        clip_min = check_float("clip_min", clip_min, 0.0, 1.0)
        curve = torch.sigmoid(torch.linspace(start, end, T + 1, dtype=torch.float64) / tau)
        falling = bool((curve.diff() > 0).all())
        require(falling, "tau", tau, f"so large that each step between start = {start} and end = {end} raises the curve")
        alpha_bar = (curve[-1] - curve) / (curve[-1] - curve[0])
        least = float(alpha_bar[-2])
        require(clip_min < least, "clip_min", clip_min, f"in (0, {least:.3g}), below alpha_bar at T - 1")
        alpha_bar = alpha_bar.clamp(min=clip_min)
        return cls(1 - alpha_bar[1:] / alpha_bar[:-1], "sigmoid")

    @classmethod
    def constant(cls, T: int, beta: float) -> Schedule:
        """Return the schedule whose T variances all equal ``beta``.

        Raises:
            ValueError: if T < 1 or beta is outside (0, 1).
        """
        T = check_int("T", T, 1)
        beta = check_float("beta", beta, 0.0, 1.0)
        return cls(torch.full((T,), beta, dtype=torch.float64), "constant")

    @classmethod
    def geometric(cls, T: int, sigma_min: float, sigma_max: float) -> Schedule:
        """Return the schedule whose noise levels are a geometric ladder from ``sigma_min`` at 1 to ``sigma_max`` at T.

        Args:
            T: how many levels; a ladder of one level is ``sigma_max`` alone.
            sigma_min: the smallest noise level, in the units of the data.
            sigma_max: the largest.

        Raises:
            ValueError: if T < 1, or not 0 < sigma_min < sigma_max.

        Source: Song & Ermon 2019 (arXiv:1907.05600), section 4.1: sigma_i / sigma_{i+1} is constant.
        """
        T = check_int("T", T, 1)
        sigma_min = check_float("sigma_min", sigma_min, 0.0)
        sigma_max = check_float("sigma_max", sigma_max, sigma_min)
        share = torch.arange(T - 1, -1, -1, dtype=torch.float64) / max(T - 1, 1)
        ladder = (math.log(sigma_max) + share * (math.log(sigma_min) - math.log(sigma_max))).exp()
        return cls.from_noise_levels(ladder, "geometric")
