"""Samplers: from noise to data, with any denoiser (home chapter: 5, the reverse process).

``denoiser`` says what a denoiser is; ``ancestral`` walks the reverse chain of Ho et al.
"""

from diffutils.samplers.ancestral import VARIANCES, ancestral, ancestral_step, reverse_variance
from diffutils.samplers.denoiser import Denoiser, predict_x0, prediction_of

__all__ = [
    "VARIANCES",
    "Denoiser",
    "ancestral",
    "ancestral_step",
    "predict_x0",
    "prediction_of",
    "reverse_variance",
]
