r"""DDIM: the same network, another chain (home chapter: 10, fast sampling).

The loss of DDPM depends on the marginals q(x_t | x_0) only, and many chains share them. DDIM's go from x_t to x_s by

    x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps_hat + sigma z,    sigma^2 = eta^2 beta_tilde,

with the guess x0_hat, the noise eps_hat that leads from it to x_t, and the posterior variance beta_tilde of the jump. At
eta = 1 this is ancestral sampling with beta_tilde; at eta = 0 no noise is added, and a jump of any length is exact where
the guess is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffutils.process import Value, draw_noise
from diffutils.samplers.base import Sampler
from diffutils.samplers.denoiser import Denoiser
from diffutils.schedule import Schedule
from diffutils.validation import check_float


class DDIM(Sampler):
    """Denoising diffusion implicit models, deterministic at ``eta`` = 0.

    Args:
        denoiser, schedule, clip: see ``Sampler``. Where x_0 is clipped, the noise is derived from the clipped guess.
        eta: how much of the posterior's noise is added, in [0, 1]; the noise has standard deviation eta
            sqrt(beta_tilde).

    Raises:
        ValueError: if an argument is unfit.

    Source: Song, Meng and Ermon 2021 (arXiv:2010.02502), equations (12) and (16).
    """

    def __init__(
        self, denoiser: Denoiser, schedule: Schedule, *, eta: float = 0.0, clip: tuple[float, float] | None = None
    ) -> None:
        super().__init__(denoiser, schedule, clip=clip)
        self.eta = check_float("eta", eta, 0.0, 1.0, inclusive=True)

    def _step(self, x_t: Tensor, t: int, s: int, generator: torch.Generator | None) -> Tensor:
        mean, sigma = self._apply(self._mean, x_t, self._answer(x_t, t), t, s), self._sigma(t, s)
        return mean if sigma == 0 else mean.add_(draw_noise(x_t, generator=generator), alpha=sigma)

    def _mean(self, x_t: Value, x0_hat: Value, t: int, s: int) -> Value:
        if s == 0:
            return x0_hat
        jump = self.schedule.transition(t, s)
        before = float(self.schedule.sigma2[s])
        # sigma2_s - sigma^2 as a product: the difference of two nearly equal numbers may round to less than 0.
        keep = math.sqrt(before * (1 - self.eta**2 * (1 - jump.sqrt_alpha * jump.posterior_xt)))
        return float(self.schedule.sqrt_alpha_bar[s]) * x0_hat + keep * self.noise(x_t, x0_hat, t)

    def _sigma2(self, t: int, s: int) -> float:
        return self.eta**2 * self.schedule.transition(t, s).beta_tilde
