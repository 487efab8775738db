"""L_simple: the bound without its weights, the loss that Ho et al. train on (home chapter: 5, the reverse process)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from diffutils.process import PREDICTIONS, convert_at, draw_device, draw_noise
from diffutils.samplers import Denoiser, check_levels, prediction_of, reverse_variance
from diffutils.schedule import Schedule
from diffutils.validation import check_choice, check_data, check_same_shape, require


def l_simple(
    denoiser: Denoiser,
    schedule: Schedule,
    x0: Tensor,
    *,
    target: str | None = None,
    t: Tensor | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mean squared error of the denoiser at times drawn uniformly from 1..T.

    Args:
        denoiser: callable of (x_t, t) with an attribute ``prediction``; t is a (B,) LongTensor of network times.
        schedule: the noise schedule.
        x0: (B, ...) data.
        target: the quantity whose error is taken: "eps", "x0", "v" or "score". None takes the one that the denoiser
            predicts; "eps" is Ho et al.'s loss whatever the denoiser predicts.
        t: (B,) LongTensor of times in 1..T, whose values are looked at on the CPU only; drawn when None.
        noise: eps of x0's shape; drawn when None.
        generator: source of the times and of the noise; None is torch's default.

    Returns:
        A scalar: the mean over the batch and over the dimensions.

    Raises:
        ValueError: if x0 is not a floating-point tensor with a batch axis, holds NaN or infinity (looked for on the
            CPU only: a GPU would have to be waited for at every step), ``target`` is another name, t or the noise
            has another shape, or t is not of an integer dtype or leaves 1..T.

    Source: Ho et al. 2020 (arXiv:2006.11239), equation (14), divided by the number of dimensions.
    """
    check_batch(x0)
    source = prediction_of(denoiser)
    target = source if target is None else check_choice("target", target, PREDICTIONS)
    if target in ("x0", "v") and target != source:
        check_levels(denoiser, schedule)
    t = draw_uniform_times(schedule, x0, generator) if t is None else _check_times(t, schedule, len(x0))
    eps = draw_noise(x0, generator=generator) if noise is None else noise
    check_same_shape("noise", eps, "x0", x0)
    a, s = schedule.at_times([schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar], t, x0)
    x_t = a * x0 + s * eps
    guess = denoiser(x_t, schedule.network_times(t))
    check_same_shape("denoiser(x_t, t)", guess, "x0", x0)
    guess = convert_at(guess, x_t, a, s, source, target)
    truth = {"eps": eps, "x0": x0, "v": a * eps - s * x0, "score": -eps / s}[target]
    return F.mse_loss(guess, truth)


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


def check_batch(x0: Tensor) -> None:
    """Refuse what is not floating-point data; look for NaN on the CPU only."""
    require(isinstance(x0, Tensor) and x0.is_floating_point(), "x0", getattr(x0, "dtype", x0), "a float tensor")
    if x0.device.type == "cpu":
        check_data("x0", x0)


def _check_times(t: Tensor, schedule: Schedule, count: int) -> Tensor:
    shape = tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__
    require(shape == (count,), "t.shape", shape, f"({count},), one time per example")
    if t.device.type == "cpu":
        return schedule.check_time(t, count, minimum=1)
    require(t.dtype == torch.long, "t.dtype", t.dtype, "torch.int64")
    return t


def draw_uniform_times(schedule: Schedule, x0: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return one time in 1..T for each example of x0 (B, ...), as a LongTensor (B,)."""
    device = draw_device(generator, x0.device)
    return torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=device).to(x0.device)
