"""Objectives: what a denoiser is trained on, and the bound behind it (home chapter: 5, the reverse process).

The negative log-likelihood of the reverse chain is bounded term by term, in nats (Ho et al. 2020, equation 5):

    -log p_theta(x_0) <= L_T + L_{T-1} + ... + L_1 + L_0,
    L_T     = KL(q(x_T | x_0) || N(0, I)),                          constant in theta, and not zero
    L_{t-1} = E KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)),  t = 2..T
    L_0     = E[-log p_theta(x_0 | x_1)].

Between two Gaussians with covariances beta_tilde_t I and sigma_t^2 I in d dimensions the KL is

    d/2 (r - 1 - log r) + |mu_tilde - mu_theta|^2 / (2 sigma_t^2),   r = beta_tilde_t / sigma_t^2,

with sigma_t^2, a variance, in the denominator. Dropping the weights leaves L_simple (equation 14).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffutils.process import PREDICTIONS, convert_at, draw_noise
from diffutils.samplers import Denoiser, predict_x0, prediction_of, reverse_variance
from diffutils.schedule import Schedule
from diffutils.validation import check_choice, check_data, check_float, check_int, require


def l_simple(
    denoiser: Denoiser,
    schedule: Schedule,
    x0: Tensor,
    *,
    target: str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mean squared error of the denoiser at times drawn uniformly from 1..T.

    Args:
        denoiser: callable of (x_t, t) with an attribute ``prediction``; t is a (B,) LongTensor of network times.
        schedule: the noise schedule.
        x0: (B, ...) data.
        target: the quantity whose error is taken: "eps", "x0", "v" or "score". None takes the one that the denoiser
            predicts; "eps" is Ho et al.'s loss whatever the denoiser predicts.
        generator: source of the times and of the noise; None is torch's default.

    Returns:
        A scalar: the mean over the batch and over the dimensions.

    Raises:
        ValueError: if x0 is not a floating-point tensor with a batch axis, holds NaN or infinity (looked for on the
            CPU only: a GPU would have to be waited for at every step), or ``target`` is another name.

    Source: Ho et al. 2020 (arXiv:2006.11239), equation (14), divided by the number of dimensions.
    """
    _check_batch(x0)
    source = prediction_of(denoiser)
    target = source if target is None else check_choice("target", target, PREDICTIONS)
    t = _uniform_times(schedule, x0, generator)
    eps = draw_noise(x0, generator=generator)
    a, s = (_at(table, t, x0) for table in (schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar))
    x_t = a * x0 + s * eps
    guess = denoiser(x_t, schedule.timesteps.to(t.device)[t])
    require(guess.shape == x0.shape, "denoiser(x_t, t).shape", tuple(guess.shape), f"that of x0, {tuple(x0.shape)}")
    guess = convert_at(guess, x_t, a, s, source, target)
    truth = {"eps": eps, "x0": x0, "v": a * eps - s * x0, "score": -eps / s}[target]
    return (guess - truth).square().mean()


def simple_weight(schedule: Schedule, variance: str | Tensor = "beta") -> Tensor:
    """Return the weight that L_{t-1} gives to |eps - eps_theta|^2, as a float64 table of length T + 1.

    The weight is beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)); L_simple replaces it by a constant. Entry 0 is 0,
    and an entry whose variance is 0 (beta_tilde_1) is infinite.

    Source: Ho et al. 2020 (arXiv:2006.11239), equation (12).
    """
    sigma2 = reverse_variance(schedule, variance)
    weight = schedule.beta.square() / (2 * sigma2 * schedule.alpha * schedule.sigma2)
    weight[0] = 0.0
    return weight


@dataclass(frozen=True)
class Bound:
    """The variational bound on -log p_theta(x_0), term by term, in nats per example.

    Attributes:
        terms: (T + 1,) float64; ``terms[t]`` is L_t, so 0 is the reconstruction term and T the prior term.
        errors: (T + 1,) float64; the standard error of each term's mean over the batch.
        per_example: (B,) float64; the sum of the terms of each example.
    """

    terms: Tensor
    errors: Tensor
    per_example: Tensor

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
        return float(self.per_example.std() / math.sqrt(len(self.per_example)))


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
        x0: (B, ...) data, at least two examples.
        variance: sigma_t^2: "beta", "beta_tilde" or a table of length T + 1.
        decoder_variance: sigma_1^2 of L_0; None takes beta_1 (beta_tilde_1 is 0 and gives no density), or entry 1 of
            a table.
        draws: how many x_t to average over for each example and each t.
        generator: source of the noise; None is torch's default.

    Raises:
        ValueError: if an argument is out of range.

    Source: Ho et al. 2020 (arXiv:2006.11239), equations (5) to (8); Kingma et al. 2021 (arXiv:2107.00630) for the
    continuous decoder.
    """
    check_data("x0", x0)
    require(len(x0) >= 2, "x0.shape", tuple(x0.shape), "at least two examples")
    draws = check_int("draws", draws, 1)
    sigma2 = _steps_and_decoder(schedule, variance, decoder_variance)
    errors = []
    for t in range(1, schedule.T + 1):
        errors.append(sum(_square_error(denoiser, schedule, x0, t, generator) for _ in range(draws)) / draws)
    # Summed in the data's dtype on its device, weighed in float64 on the CPU: one transfer for the whole ledger.
    weighed = _weigh(schedule, sigma2, torch.stack(errors).cpu().to(torch.float64), x0[0].numel())
    terms = torch.cat([weighed, prior_term(schedule, x0)[None]])
    return Bound(terms.mean(1), terms.std(1) / math.sqrt(len(x0)), terms.sum(0))


def _steps_and_decoder(schedule: Schedule, variance: str | Tensor, decoder_variance: float | None) -> Tensor:
    """sigma_t^2 for t = 1..T, the first of them the decoder's: (T,) float64."""
    sigma2 = reverse_variance(schedule, variance)[1:].clone()
    if decoder_variance is not None:
        sigma2[0] = check_float("decoder_variance", decoder_variance, 0.0)
    elif isinstance(variance, str):
        sigma2[0] = schedule.beta[1]
    require(bool((sigma2 > 0).all()), "variance", float(sigma2.min()), "positive at every t >= 1 for a finite bound")
    return sigma2


def _square_error(denoiser, schedule: Schedule, x0: Tensor, t: int, generator) -> Tensor:
    """|x_0 - x0_hat(x_t)|^2 for one draw of x_t per example: (B,)."""
    a, s = float(schedule.sqrt_alpha_bar[t]), float(schedule.sqrt_one_minus_alpha_bar[t])
    x_t = a * x0 + s * draw_noise(x0, generator=generator)
    return (x0 - predict_x0(denoiser, schedule, x_t, t)).square().flatten(1).sum(1)


def _weigh(schedule: Schedule, sigma2: Tensor, squares: Tensor, dim: int) -> Tensor:
    """Turn squared errors of x0_hat, (T, B), into L_0, ..., L_{T-1} in nats, (T, B)."""
    # Both means have the same part in x_t, so they differ by the posterior's weight of x_0 times the error.
    matching = schedule.posterior_x0[1:, None].square() * squares / (2 * sigma2[:, None])
    ratio = schedule.beta_tilde[1:] / sigma2
    spread = 0.5 * dim * (ratio - 1 - ratio.log())
    # At t = 1 q(x_0 | x_1, x_0) is a point and L_0 is no KL but the decoder's -log density.
    spread[0] = 0.5 * dim * (math.log(2 * math.pi) + sigma2[0].log())
    return matching + spread[:, None]


def _uniform_times(schedule: Schedule, x0: Tensor, generator) -> Tensor:
    device = x0.device if generator is None else generator.device
    return torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=device).to(x0.device)


def _at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
    # Not Schedule.gather: it looks at t to check it, and these times need no check.
    return table.to(like.dtype).to(like.device)[t].reshape(-1, *[1] * (like.ndim - 1))


def _check_batch(x0: Tensor) -> None:
    require(isinstance(x0, Tensor) and x0.is_floating_point(), "x0", getattr(x0, "dtype", x0), "a float tensor")
    if x0.device.type == "cpu":
        check_data("x0", x0)
