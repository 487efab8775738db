r"""DPM-Solver++(2M): second order at one call a step (home chapter: 10, fast sampling).

In lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)), half the logarithm of the signal-to-noise ratio, the
probability-flow ODE has a linear part that is solved exactly, and a rest that is an integral of the guess of x_0. With
h = lambda_s - lambda_t and a guess D held over the step,

    x_s = sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) x_t - sqrt(alpha_bar_s) (exp(-h) - 1) D.

With D = x0_hat(x_t) this is DDIM. The second order comes from the guess of the step before: D = x0_hat + (h / h') (x0_hat
- x0_hat') / 2 lies on the line through both guesses, at the middle of the step; h' is the step before, from t' to t.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffutils.samplers.base import Sampler
from diffutils.samplers.denoiser import Denoiser
from diffutils.schedule import Schedule

# What is known of the step before where there was none: its end, the time there, its guess of x_0, its length.
_NO_STEP: tuple[Tensor | None, int, Tensor | None, float] = (None, 0, None, 0.0)


class DPMSolver2M(Sampler):
    """The multistep solver DPM-Solver++(2M): one call a step, second order.

    The first step has no step before it and the last, to s = 0, is infinitely long in lambda: both are DDIM's. ``step``
    looks back only if it is given the very tensor that its last call returned, at the time it was returned for.

    Args:
        denoiser, schedule, clip: see ``Sampler``.

    Raises:
        ValueError: if an argument is unfit.

    Source: Lu et al. 2022 (arXiv:2211.01095), algorithm 2.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule, *, clip: tuple[float, float] | None = None) -> None:
        super().__init__(denoiser, schedule, clip=clip)
        self._lambda = (0.5 * schedule.snr.log()).tolist()
        self._before = _NO_STEP
        self._holds: dict[tuple, tuple[Tensor, float]] = {}

    def _step(self, x_t: Tensor, t: int, s: int, generator: torch.Generator | None) -> Tensor:
        D = x0_hat = self.guess(x_t, t)
        if s == 0:
            self._before = _NO_STEP
            return x0_hat
        h = self._lambda[s] - self._lambda[t]
        state, time, x0_before, h_before = self._before
        if state is x_t and time == t:
            # lerp takes the difference first, and beyond 1 it goes on along the line.
            D = torch.lerp(x0_before, x0_hat, 1.0 + 0.5 * h / h_before)
        x_s = self._held(x_t, D, t, s)
        self._before = (x_s, s, x0_hat, h)
        return x_s

    def _held(self, x_t: Tensor, D: Tensor, t: int, s: int) -> Tensor:
        """Return x_s for a guess D that is held over the step."""
        if (weights := self._holds.get((t, s, x_t.dtype))) is None:
            start, end = self.schedule.levels[t], self.schedule.levels[s]
            ratio = end.sqrt_one_minus_alpha_bar / start.sqrt_one_minus_alpha_bar
            # a tensor, as in Sampler._apply
            weights = torch.tensor(ratio, dtype=x_t.dtype, device="cpu"), self._weight(t, s)
            self._holds[t, s, x_t.dtype] = weights
        return (weights[0] * x_t).add_(D, alpha=weights[1])

    def _weight(self, t: int, s: int) -> float:
        """Return the weight of D in x_s."""
        return -self.schedule.levels[s].sqrt_alpha_bar * math.expm1(self._lambda[t] - self._lambda[s])
