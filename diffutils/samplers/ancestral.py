"""Ancestral sampling: walk the chain backwards from noise to data (home chapter: 5, the reverse process).

The reverse chain starts at x_T ~ N(0, I) and draws x_{t-1} from

    p_theta(x_{t-1} | x_t) = N(mu_theta(x_t, t), sigma_t^2 I),

where mu_theta is the mean of the posterior q(x_{t-1} | x_t, x_0) with the denoiser's guess of x_0 put in the place of
x_0, and sigma_t^2 is a variance: ``beta_t`` or ``beta_tilde_t`` (Ho et al. 2020, section 3.2), a table, or "learned",
one variance for each coordinate that the denoiser itself gives. A jump from t to s has the same form, with the
variances of that jump (``Schedule.transition``). The last step, to s = 0, returns the mean and adds no noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffutils.process import Value, draw_noise
from diffutils.samplers.base import Sampler
from diffutils.samplers.denoiser import Denoiser, predict_step, variance_output_of
from diffutils.schedule import Schedule
from diffutils.validation import check_choice, require

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


class Ancestral(Sampler):
    """Draw x_s from N(mu, sigma^2 I), mu being the posterior's mean with the guess of x_0 in the place of x_0.

    Args:
        denoiser, schedule, clip: see ``Sampler``.
        variance: sigma^2: "beta", "beta_tilde", "learned" for the denoiser's own (one for each coordinate), or a table
            of length T + 1, which serves steps from t to t - 1 only.

    Raises:
        ValueError: if an argument is unfit, or the variance is "learned" and the denoiser gives none.

    Source: Ho et al. 2020 (arXiv:2006.11239), equation (7) for the mean and algorithm 2.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        *,
        variance: str | Tensor = "beta_tilde",
        clip: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(denoiser, schedule, clip=clip)
        if isinstance(variance, Tensor):
            variance = reverse_variance(schedule, variance)
        else:
            check_choice("variance", variance, (*VARIANCES, LEARNED))
        if self._is_learned(variance):
            variance_output_of(denoiser)
        self.variance = variance

    @staticmethod
    def _is_learned(variance: str | Tensor) -> bool:
        return isinstance(variance, str) and variance == LEARNED

    def _step(self, x_t: Tensor, t: int, s: int, generator: torch.Generator | None) -> Tensor:
        if self._is_learned(self.variance):
            self.calls += 1
            x0_hat, log_variance = predict_step(self.denoiser, self.schedule, x_t, t, s)
            mean, sigma = self._mean(x_t, self._clipped(x0_hat), t, s), (log_variance / 2).exp()
        else:
            mean, sigma = self._apply(self._mean, x_t, self._answer(x_t, t), t, s), self._sigma(t, s)
        if s == 0:
            return mean
        noise = draw_noise(x_t, generator=generator)
        return mean.add_(noise, alpha=sigma) if isinstance(sigma, float) else mean + sigma * noise

    def _mean(self, x_t: Value, x0_hat: Value, t: int, s: int) -> Value:
        jump = self.schedule.transition(t, s)
        return jump.posterior_x0 * x0_hat + jump.posterior_xt * x_t

    def _sigma2(self, t: int, s: int) -> float:
        if isinstance(self.variance, str):
            return getattr(self.schedule.transition(t, s), self.variance)
        require(s == t - 1, "s", s, f"t - 1 = {t - 1}: a table of variances holds none for longer jumps")
        return float(self.variance[t])
