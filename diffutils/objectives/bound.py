"""The variational bound, measured term by term on data (home chapters: 5, the reverse process; 8, the ELBO ledger)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffutils.process import draw_noise
from diffutils.samplers import (
    LEARNED,
    Denoiser,
    check_levels,
    predict_step,
    predict_x0,
    reverse_variance,
    variance_output_of,
)
from diffutils.schedule import Schedule
from diffutils.validation import check_data, check_float, check_int, require

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Bound:
    """The variational bound on -log p_theta(x_0), term by term, in nats per example.

    Attributes:
        terms: (T + 1,) float64; ``terms[t]`` is L_t, so 0 is the reconstruction term and T the prior term.
        errors: (T + 1,) float64; the standard error of each term's mean over the batch.
        per_example: (B,) float64; the sum of the terms of each example.
        x0_errors: (T + 1,) float64; the mean of |x_0 - x0_hat(x_t)|^2 / d at each t, entry 0 being 0. From these alone
            follow the bounds with every other fixed variance (``expected_terms``) and the best one of them.
    """

    terms: Tensor
    errors: Tensor
    per_example: Tensor
    x0_errors: Tensor

    @property
    def L_0(self) -> float:
        """The reconstruction term."""
        return float(self.terms[0])

    @property
    def L_T(self) -> float:
        """The prior term: it does not depend on the denoiser."""
        return float(self.terms[-1])

    @property
    def total(self) -> float:
        """The bound: the sum of all terms."""
        return float(self.terms.sum())

    @property
    def total_error(self) -> float:
        """The standard error of the total, from the spread of the examples."""
        count = len(self.per_example)
        return float(self.per_example.std() / math.sqrt(count)) if count > 1 else math.nan


def prior_term(schedule: Schedule, x0: Tensor) -> Tensor:
    """Return L_T = KL(q(x_T | x_0) || N(0, I)) of each example, (B,) float64 on the CPU, in nats.

    It is 1/2 (alpha_bar_T |x_0|^2 - d (alpha_bar_T + log(1 - alpha_bar_T))).
    """
    x0 = check_data("x0", x0).flatten(1)
    alpha_bar, log_sigma2 = schedule.alpha_bar[-1], schedule.sigma2[-1].log()
    square = x0.square().sum(1).cpu().to(torch.float64)
    return 0.5 * (alpha_bar * square - x0.shape[1] * (alpha_bar + log_sigma2))


@torch.no_grad()
def variational_bound(
    denoiser: Denoiser,
    schedule: Schedule,
    x0: Tensor,
    *,
    variance: str | Tensor = "beta",
    decoder_variance: float | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Bound:
    """Estimate every term of the variational bound on -log p_theta(x_0), in nats per example.

    L_T is exact for the given x0. Each other term is averaged over ``draws`` fresh x_t per example, so one bound costs
    T * draws calls of the denoiser. L_0 is the negative log-density of the continuous Gaussian decoder
    N(x_0; x0_hat(x_1), sigma_1^2 I): right for continuous data, and for images a density on pixel values and not the
    discretised decoder of Ho et al. (equation 13).

    Args:
        denoiser: callable of (x_t, t) with an attribute ``prediction``.
        schedule: the noise schedule.
        x0: (B, ...) data; of a single example the standard errors are NaN.
        variance: sigma_t^2: "beta", "beta_tilde", a table of length T + 1, or "learned" for the denoiser's own.
        decoder_variance: sigma_1^2 of L_0; None takes beta_1 (beta_tilde_1 is 0 and gives no density), entry 1 of a
            table, or the denoiser's own.
        draws: how many x_t to average over for each example and each t.
        generator: source of the noise; None is torch's default.

    Raises:
        ValueError: if an argument is out of range, or alpha_bar_T is 0 and the denoiser predicts eps or score.

    Source: Ho et al. 2020 (arXiv:2006.11239), equations (5) to (8); Kingma et al. 2021 (arXiv:2107.00630) for the
    continuous decoder.
    """
    check_data("x0", x0)
    draws = check_int("draws", draws, 1)
    check_levels(denoiser, schedule)
    learned = isinstance(variance, str) and variance == LEARNED
    if learned:
        variance_output_of(denoiser)
        if decoder_variance is not None:
            decoder_variance = check_float("decoder_variance", decoder_variance, 0.0)
    else:
        sigma2 = steps_and_decoder(schedule, variance, decoder_variance)
    squares, terms = [], []
    for t in range(1, schedule.T + 1):
        passes = [_one_draw(denoiser, schedule, x0, t, learned, decoder_variance, generator) for _ in range(draws)]
        squares.append(sum(square for square, _ in passes) / draws)
        if learned:
            terms.append(sum(term for _, term in passes) / draws)
    # Summed in the data's dtype on its device, weighed in float64 on the CPU: one transfer for the whole ledger.
    squares = torch.stack(squares).cpu().to(torch.float64)
    if learned:
        weighed = torch.stack(terms).cpu().to(torch.float64)
    else:
        weighed = weigh(schedule, sigma2, squares, x0[0].numel())
    ledger = torch.cat([weighed, prior_term(schedule, x0)[None]])
    x0_errors = torch.cat([squares.new_zeros(1), squares.mean(1) / x0[0].numel()])
    mean, count = ledger.mean(1), len(x0)
    error = ledger.std(1) / math.sqrt(count) if count > 1 else torch.full_like(mean, math.nan)
    return Bound(mean, error, ledger.sum(0), x0_errors)


def element_terms(
    schedule: Schedule, square: Tensor, log_variance: Tensor, at: Callable, first: bool | Tensor
) -> Tensor:
    """Return the share of each coordinate in L_{t-1} (in L_0 where t = 1), in nats, of the shape of ``square``.

    Args:
        schedule: the noise schedule.
        square: (B, ...) the squared error of x0_hat in each coordinate.
        log_variance: log sigma_t^2 for each coordinate.
        at: reads a table of the schedule at t, as a float or a tensor to broadcast.
        first: whether t = 1, for all or for each example.
    """
    # Where t = 1 beta_tilde is 0 and no KL is asked for: any finite number will do there.
    log_tilde = torch.cat([torch.ones(2, dtype=torch.float64), schedule.beta_tilde[2:]]).log()
    excess = log_variance - at(log_tilde)
    kl = torch.expm1(-excess) + excess
    density = LOG_2PI + log_variance
    if isinstance(first, Tensor):
        spread = torch.where(first, density, kl)
    else:
        spread = density if first else kl
    return 0.5 * (spread + at(schedule.posterior_x0.square()) * square * torch.exp(-log_variance))


def _one_draw(denoiser, schedule: Schedule, x0: Tensor, t: int, learned: bool, decoder_variance, generator) -> tuple:
    """|x_0 - x0_hat(x_t)|^2 and, with a learned variance, L_{t-1}: both (B,), for one draw of x_t per example."""
    a, s = float(schedule.sqrt_alpha_bar[t]), float(schedule.sqrt_one_minus_alpha_bar[t])
    x_t = a * x0 + s * draw_noise(x0, generator=generator)
    if not learned:
        return (x0 - predict_x0(denoiser, schedule, x_t, t)).square().flatten(1).sum(1), None
    x0_hat, log_variance = predict_step(denoiser, schedule, x_t, t)
    if t == 1 and decoder_variance is not None:
        log_variance = torch.full_like(log_variance, math.log(decoder_variance))
    square = (x0 - x0_hat).square()
    term = element_terms(schedule, square, log_variance, lambda table: float(table[t]), t == 1)
    return square.flatten(1).sum(1), term.flatten(1).sum(1)


def steps_and_decoder(schedule: Schedule, variance: str | Tensor, decoder_variance: float | None) -> Tensor:
    """Return sigma_t^2 for t = 1..T, the first of them the decoder's: (T,) float64.

    Raises:
        ValueError: if the variance is unknown or not positive somewhere.
    """
    sigma2 = reverse_variance(schedule, variance)[1:].clone()
    if decoder_variance is not None:
        sigma2[0] = check_float("decoder_variance", decoder_variance, 0.0)
    elif isinstance(variance, str):
        sigma2[0] = schedule.beta[1]
    require(bool((sigma2 > 0).all()), "variance", float(sigma2.min()), "positive at every t >= 1 for a finite bound")
    return sigma2


def weigh(schedule: Schedule, sigma2: Tensor, squares: Tensor, dim: int) -> Tensor:
    """Turn squared errors of x0_hat, (T, B), into L_0, ..., L_{T-1} in nats, (T, B), for isotropic variances (T,)."""
    # Both means have the same part in x_t, so they differ by the posterior's weight of x_0 times the error.
    matching = schedule.posterior_x0[1:, None].square() * squares / (2 * sigma2[:, None])
    ratio = schedule.beta_tilde[1:] / sigma2
    spread = 0.5 * dim * (ratio - 1 - ratio.log())
    # At t = 1 q(x_0 | x_1, x_0) is a point and L_0 is no KL but the decoder's -log density.
    spread[0] = 0.5 * dim * (LOG_2PI + sigma2[0].log())
    return matching + spread[:, None]
