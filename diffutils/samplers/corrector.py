"""Predictor-corrector sampling: after each step, shake at the new noise level (home chapter: 10, fast sampling).

Any sampler's step predicts x_s. Langevin dynamics at level s then corrects its law: it leaves q(x_s) as it is (up to the
bias of its step size) and moves anything else towards it, so errors of earlier steps fade.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffutils.samplers.base import Sampler
from diffutils.samplers.langevin import move
from diffutils.validation import check_float, check_int, require


class PredictorCorrector(Sampler):
    """A sampler whose every step but the last is followed by steps of Langevin dynamics.

    Args:
        predictor: the sampler that takes the steps; denoiser, schedule and clipping are its own. (DPMSolver2M takes
            DDIM's here: a correction moves the points away from what it remembers.)
        corrections: Langevin steps after each step, at least 1.
        step: their size over 1 - alpha_bar_s, in (0, 4). (Song et al. choose the size by the norms of the score and the
            noise over the batch, which makes samples depend on one another; ours do not.)

    Raises:
        ValueError: if an argument is unfit.

    Source: Song et al. 2021 (arXiv:2011.13456), section 4.2 and algorithm 1.
    """

    def __init__(self, predictor: Sampler, *, corrections: int = 1, step: float = 0.1) -> None:
        require(isinstance(predictor, Sampler), "predictor", type(predictor).__name__, "a Sampler")
        super().__init__(predictor.denoiser, predictor.schedule, clip=predictor.clip)
        self.predictor = predictor
        self.corrections = check_int("corrections", corrections, 1)
        self.step_size = check_float("step", step, 0.0, 4.0)

    def _step(self, x_t: Tensor, t: int, s: int, generator: torch.Generator | None) -> Tensor:
        self.predictor.calls = 0
        x_s = self.predictor._step(x_t, t, s, generator)
        self.calls += self.predictor.calls
        if s == 0:
            return x_s
        sigma2 = float(self.schedule.sigma2[s])
        for _ in range(self.corrections):
            score = -self.noise(x_s, self.guess(x_s, s), s) / sigma2**0.5
            x_s = move(x_s, score, self.step_size * sigma2, generator)
        return x_s
