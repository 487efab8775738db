"""Samplers: from noise to data, with any denoiser (home chapter: 5, the reverse process).

``denoiser`` says what a denoiser is; ``ancestral`` walks the reverse chain of Ho et al.; ``langevin`` walks along the
score, at one noise level or down a ladder of them (home chapter: 7, three roads to diffusion).
"""

from diffutils.samplers.ancestral import LEARNED, VARIANCES, ancestral, ancestral_step, reverse_variance
from diffutils.samplers.denoiser import (
    VARIANCE_OUTPUTS,
    Denoiser,
    learned_log_variance,
    predict_step,
    predict_x0,
    prediction_of,
    variance_output_of,
)
from diffutils.samplers.langevin import annealed_langevin, langevin, noise_level_score, stationary_variance

__all__ = [
    "LEARNED",
    "VARIANCES",
    "VARIANCE_OUTPUTS",
    "Denoiser",
    "ancestral",
    "ancestral_step",
    "annealed_langevin",
    "langevin",
    "learned_log_variance",
    "noise_level_score",
    "predict_step",
    "predict_x0",
    "prediction_of",
    "reverse_variance",
    "stationary_variance",
    "variance_output_of",
]
