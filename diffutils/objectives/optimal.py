"""The best variance of each reverse step, and the bound's expectation (home chapter: 8, the ELBO ledger).

A reverse step has two uncertainties: that of the posterior q(x_{t-1} | x_t, x_0), and that about x_0. The isotropic
variance that makes every term of the bound smallest is their sum,

    sigma*_t^2 = beta_tilde_t + posterior_x0_t^2 E|x_0 - x0_hat(x_t)|^2 / d,

with posterior_x0_t the weight of x_0 in the posterior's mean: for the exact x0_hat theorem 1 of Bao et al. 2022
(arXiv:2201.06503), for a network's their second paper (arXiv:2206.07309). At t = 1 it is the decoder's mean squared error. So the errors of x0_hat at each t say everything about
the bound with an isotropic variance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffutils.objectives.bound import steps_and_decoder, weigh
from diffutils.schedule import Schedule
from diffutils.validation import check_float, check_int, require

if TYPE_CHECKING:
    from diffutils.distributions import GaussianMixture


def bayes_x0_errors(mixture: GaussianMixture, schedule: Schedule) -> Tensor:
    """Return the least possible E|x_0 - x0_hat(x_t)|^2 / d at every t, (T + 1,) float64, by ``bayes_loss``.

    Entry 0 is 0: without noise x_0 is known.
    """
    levels = zip(schedule.alpha_bar[1:].tolist(), schedule.sigma2[1:].tolist())
    eps = torch.tensor([mixture.bayes_loss(a, sigma2=s) for a, s in levels], dtype=torch.float64)
    # x_0 - x0_hat is eps_hat - eps times sqrt(1 - alpha_bar) / sqrt(alpha_bar).
    errors = torch.cat([eps.new_zeros(1), eps / schedule.snr[1:]])
    if float(schedule.snr[-1]) == 0:  # where nothing is left of x_0, its mean is the best guess
        errors[-1] = mixture.covariance.double().trace() / mixture.dim
    return errors


def optimal_variance(schedule: Schedule, x0_errors: Tensor) -> Tensor:
    """Return the table of sigma*_t^2, (T + 1,) float64, for the errors of a denoiser at each t.

    Args:
        schedule: the noise schedule.
        x0_errors: (T + 1,) E|x_0 - x0_hat(x_t)|^2 / d: of a ``Bound``, or of ``bayes_x0_errors``.

    Raises:
        ValueError: if the table has another length or a negative entry.

    Source: Bao et al. 2022 (arXiv:2201.06503), theorem 1, for the exact denoiser; (arXiv:2206.07309) for any.
    """
    return schedule.beta_tilde + schedule.posterior_x0.square() * _check_errors(schedule, x0_errors)


def expected_terms(
    schedule: Schedule,
    x0_errors: Tensor,
    dim: int,
    *,
    variance: str | Tensor = "beta",
    decoder_variance: float | None = None,
    x0_square: float = 1.0,
) -> Tensor:
    """Return E[L_0], ..., E[L_T] in nats, (T + 1,) float64, of a denoiser with these errors of x0_hat.

    Args:
        schedule: the noise schedule.
        x0_errors: (T + 1,) E|x_0 - x0_hat(x_t)|^2 / d at every t.
        dim: numbers per example, d.
        variance, decoder_variance: as in ``variational_bound``, a fixed variance.
        x0_square: E|x_0|^2 / d, which L_T depends on; 1 for standardised data.

    Raises:
        ValueError: if an argument is out of range.

    Source: Ho et al. 2020 (arXiv:2006.11239), equations (5) to (8), averaged over the data.
    """
    check_int("dim", dim, 1)
    check_float("x0_square", x0_square, 0.0, inclusive=True)
    squares = dim * _check_errors(schedule, x0_errors)[1:, None]
    terms = weigh(schedule, steps_and_decoder(schedule, variance, decoder_variance), squares, dim)[:, 0]
    alpha_bar, log_sigma2 = schedule.alpha_bar[-1:], schedule.sigma2[-1:].log()
    return torch.cat([terms, 0.5 * dim * (alpha_bar * x0_square - alpha_bar - log_sigma2)])


def _check_errors(schedule: Schedule, x0_errors: Tensor) -> Tensor:
    shape = tuple(x0_errors.shape)
    require(shape == (schedule.T + 1,), "x0_errors.shape", shape, f"({schedule.T + 1},), one entry per time 0..T")
    errors = x0_errors.detach().cpu().to(torch.float64)
    require(bool((errors >= 0).all()), "x0_errors", errors.min().item(), "at least 0 everywhere")
    return errors
