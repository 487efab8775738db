"""Samplers: from noise to data, with any denoiser (home chapter: 5, the reverse process).

``denoiser`` says what a denoiser is; ``ancestral`` walks the reverse chain of Ho et al.
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

__all__ = [
    "LEARNED",
    "VARIANCES",
    "VARIANCE_OUTPUTS",
    "Denoiser",
    "ancestral",
    "ancestral_step",
    "learned_log_variance",
    "predict_step",
    "predict_x0",
    "prediction_of",
    "reverse_variance",
    "variance_output_of",
]
