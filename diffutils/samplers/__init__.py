"""Samplers: from noise to data, with any denoiser (home chapters: 5, the reverse process; 10, fast sampling).

``denoiser`` says what a denoiser is, ``base`` what a sampler is: one rule ``step(x_t, t, s)`` and the walk that applies
it. The rules:

    Ancestral            the reverse chain of Ho et al.: posterior mean, and noise          ``ancestral``
    DDIM                 chains with the same marginals, with less noise or none            ``ddim``
    Euler, Heun          the probability-flow ODE, at first and second order                ``ode``
    DPMSolver2M          DPM-Solver++(2M): second order at one call a step                  ``dpm_solver``
    PredictorCorrector   any of these, with Langevin dynamics after each step               ``corrector``
    AnnealedLangevin     Langevin dynamics down a ladder of noise levels                    ``langevin`` (home: chapter 7)

For any of these rules ``Guided`` makes one denoiser of two, a model and a weaker one: ``guidance`` (home: chapter 14).
"""

from diffutils.samplers.ancestral import LEARNED, VARIANCES, Ancestral, reverse_variance
from diffutils.samplers.base import Sampler
from diffutils.samplers.corrector import PredictorCorrector
from diffutils.samplers.ddim import DDIM
from diffutils.samplers.denoiser import (
    VARIANCE_OUTPUTS,
    Denoiser,
    check_levels,
    learned_log_variance,
    posterior_variances,
    predict_step,
    predict_x0,
    prediction_of,
    variance_output_of,
)
from diffutils.samplers.dpm_solver import DPMSolver2M
from diffutils.samplers.guidance import Guided
from diffutils.samplers.langevin import AnnealedLangevin, langevin, stationary_variance
from diffutils.samplers.ode import Euler, Heun

__all__ = [
    "DDIM",
    "LEARNED",
    "VARIANCES",
    "VARIANCE_OUTPUTS",
    "Ancestral",
    "AnnealedLangevin",
    "DPMSolver2M",
    "Denoiser",
    "Euler",
    "Guided",
    "Heun",
    "PredictorCorrector",
    "Sampler",
    "check_levels",
    "langevin",
    "learned_log_variance",
    "posterior_variances",
    "predict_step",
    "predict_x0",
    "prediction_of",
    "reverse_variance",
    "stationary_variance",
    "variance_output_of",
]
