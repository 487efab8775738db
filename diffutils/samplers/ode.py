r"""The probability-flow ODE, by Euler's and by Heun's method (home chapter: 10, fast sampling).

One ordinary differential equation carries the law of x_T to the law of x_0 without noise. It can be written in two
variables, and a method of steps depends on which it is given:

    "noise_level"    d y / d nu = eps_hat(x_t, t)           y = x_t / sqrt(alpha_bar_t), nu = sqrt((1 - ab) / ab)
    "log_alpha_bar"  d x_t / d log(alpha_bar) = (x_t + score(x_t, t)) / 2

Euler's method in the noise level is DDIM with eta = 0, step by step. Heun's method corrects each step with the slope at
its end: two calls a step, and an error of second order. The last step, to s = 0, where a network knows no slope, is
Euler's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffutils.process import Value
from diffutils.samplers.base import Sampler, require_finite_levels
from diffutils.samplers.denoiser import Denoiser
from diffutils.schedule import Schedule
from diffutils.validation import check_choice

VARIABLES = ("noise_level", "log_alpha_bar")


class Euler(Sampler):
    """Euler's method on the probability-flow ODE: one call a step, first order.

    Args:
        denoiser, schedule, clip: see ``Sampler``; alpha_bar_T must be above 0.
        variable: in which variable the ODE is written, see the module. The default fits every schedule; "noise_level" is
            for ladders without a great leap, and makes this sampler DDIM.

    Raises:
        ValueError: if an argument is unfit.

    Source: Song et al. 2021 (arXiv:2011.13456), equation (13), for "log_alpha_bar"; Karras et al. 2022
    (arXiv:2206.00364), equation (1) with sigma(t) = t, for "noise_level".
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        *,
        variable: str = "log_alpha_bar",
        clip: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(denoiser, schedule, clip=clip)
        require_finite_levels(type(self).__name__, schedule)
        self.variable = check_choice("variable", variable, VARIABLES)

    def _step(self, x_t: Tensor, t: int, s: int, generator: torch.Generator | None) -> Tensor:
        return self._apply(self._move, x_t, self._answer(x_t, t), t, s)

    def _move(self, x_t: Value, x0_hat: Value, t: int, s: int, share: float = 1.0) -> Value:
        """Return x_s after a share of the way along the slope at x_t."""
        way = share * self._length(t, s) * self._slope(x_t, x0_hat, t)
        if self.variable == "log_alpha_bar":
            return x_t + way
        return self.schedule.levels[s].sqrt_alpha_bar / self.schedule.levels[t].sqrt_alpha_bar * x_t + way

    def _slope(self, x_t: Value, x0_hat: Value, t: int) -> Value:
        eps = self.noise(x_t, x0_hat, t)
        if self.variable == "noise_level":
            return eps
        return 0.5 * (x_t - eps / self.schedule.levels[t].sqrt_one_minus_alpha_bar)

    def _length(self, t: int, s: int) -> float:
        start, end = self.schedule.levels[t], self.schedule.levels[s]
        if self.variable == "log_alpha_bar":
            return end.log_alpha_bar - start.log_alpha_bar
        return end.sqrt_alpha_bar * (end.noise_level - start.noise_level)


class Heun(Euler):
    """Heun's method on the probability-flow ODE: two calls a step but the last, second order.

    In the noise level it needs a ladder of levels without a great leap, such as ``Schedule.geometric``: a respaced cosine
    schedule falls from a level of thousands to one of tens in its first step.

    Args and errors: as for ``Euler``.

    Source: Karras et al. 2022 (arXiv:2206.00364), algorithm 1.
    """

    def _step(self, x_t: Tensor, t: int, s: int, generator: torch.Generator | None) -> Tensor:
        answer = self._answer(x_t, t)
        x_s = self._apply(self._move, x_t, answer, t, s)
        if s == 0:
            return x_s
        slope = self._apply(self._slope, x_s, self._answer(x_s, s), s)
        # Half of the way along the slope at the start, half along that at the end.
        return self._apply(self._move, x_t, answer, t, s, 0.5).add_(slope, alpha=0.5 * self._length(t, s))
