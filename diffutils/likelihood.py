r"""Log-likelihoods by the probability-flow ODE: how much a volume of noise shrinks or grows on its way to data.

The chain's marginals q_t are also the marginals of a flow without noise. Along the angle phi_t in [0, pi/2], where
sqrt(alpha_bar_t) = cos(phi_t) and sqrt(1 - alpha_bar_t) = sin(phi_t), that flow and the density it carries obey

    dx / dphi = v(x, phi)          v = cos(phi) E[eps | x] - sin(phi) E[x_0 | x], what a v-prediction estimates
    d log q(x) / dphi = -div v     the change of variables, div v = sum_i dv_i / dx_i

so that, with x_T the point where the flow that starts in x_0 arrives,

    log q_0(x_0) = log q_T(x_T) + integral of div v along the way from phi = 0 to phi_T.

The angle suits the purpose: its range is finite even where alpha_bar_T = 0, v is smooth up to both ends, v = 0 at every
phi where the data are N(0, I), and v = 0 at phi = 0 where the data have a smooth density, because E[eps | x] =
-sin(phi) score. A network is therefore never asked about t = 0. Heun's method walks over the schedule's own times.

Home chapter: fast sampling (chapters/10_fast_sampling.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from diffutils.process import convert_at, draw_device
from diffutils.samplers.denoiser import Denoiser, check_levels, prediction_of
from diffutils.schedule import Schedule
from diffutils.validation import check_data, check_int, check_same_shape, require

LogDensity = Callable[[Tensor], Tensor]


def ode_log_prob(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    *,
    prior: LogDensity | None = None,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the log-likelihood of each x under the probability flow of a denoiser, (B,) in nats, without gradient.

    The error falls with the square of the steps' length. Beside it there is the denoiser's own error, and, without
    ``prior``, that of N(0, I) in the place of q(x_T).

    Args:
        denoiser: callable of (x_t, t) with an attribute ``prediction``, asked 2 T - 1 times; t is the int
            ``schedule.timesteps[t]``. It must treat the examples of a batch one by one (no batch norm, and
            no dropout: it is asked in the mode it is in, so ``eval()`` it first).
        schedule: the times to walk over, possibly respaced. The first step must be short beside the data's finest
            detail.
        x: (B, ...) data, floating point. Its dtype is that of the whole computation.
        prior: log-density of x_T, (B, ...) -> (B,), in nats; None is N(0, I). ``mixture.diffused(alpha_bar_T).log_prob``
            takes the terminal mismatch away.
        probes: None computes each divergence exactly, by as many backward passes as an example has numbers. A number
            estimates it without bias by so many random signs (Hutchinson), drawn anew at each call of the denoiser, so
            that their errors average out along the way: one backward pass each, for images.
        generator: source of the signs; None is torch's default.

    Raises:
        ValueError: if x is not finite floating-point data, an answer has the wrong shape, or alpha_bar_T is so small
            that v cannot be told from this denoiser's eps or score (use "v" or "x0", or a schedule that ends earlier).

    Source: Song et al. 2021 (arXiv:2011.13456), appendix D.2; the estimate as in FFJORD, Grathwohl et al. 2019
    (arXiv:1810.01367), section 3.1; v along the angle: Salimans & Ho 2022 (arXiv:2202.00512), appendix D.
    """
    prediction = prediction_of(denoiser)
    check_data("x", x)
    check_levels(denoiser, schedule)
    _require_signal(schedule, prediction, x.dtype)
    draw_device(generator, x.device)
    require(prior is None or callable(prior), "prior", type(prior).__name__, "a log-density (a callable) or None")
    if probes is not None:
        check_int("probes", probes, 1)
    # A prior of another shape is found by one example, before the long walk.
    _log_density(prior, x[:1])

    def field(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return velocity_and_divergence(denoiser, schedule, x, t, probes=probes, generator=generator)

    steps = torch.atan2(schedule.sqrt_one_minus_alpha_bar, schedule.sqrt_alpha_bar).diff().tolist()
    x, change = x.detach(), x.new_zeros(len(x))
    for t, step in enumerate(steps):
        # At t = 0 the velocity is 0: half of the trapezium is known without asking.
        start, start_divergence = field(x, t) if t else (torch.zeros_like(x), torch.zeros_like(change))
        end, end_divergence = field(x + step * start, t + 1)
        x = x + 0.5 * step * (start + end)
        change = change + 0.5 * step * (start_divergence + end_divergence)
    return _log_density(prior, x) + change


def velocity_and_divergence(
    denoiser: Denoiser,
    schedule: Schedule,
    x_t: Tensor,
    t: int,
    *,
    probes: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return v(x_t, t) in the shape of ``x_t`` and its divergence, (B,), of a denoiser at t in 1..T, without gradient.

    Arguments and errors as in ``ode_log_prob``; the divergence is with respect to x_t.
    """
    t = check_int("t", t, 1, schedule.T)
    without = not torch.is_inference_mode_enabled()
    require(without, "torch.inference_mode", "on", "off here: a divergence takes gradients (torch.no_grad may be on)")
    a, s = float(schedule.sqrt_alpha_bar[t]), float(schedule.sqrt_one_minus_alpha_bar[t])
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        value = denoiser(x_t, int(schedule.timesteps[t]))
        check_same_shape("denoiser(x_t, t)", value, "x_t", x_t)
        require(value.requires_grad, "denoiser(x_t, t)", "an answer without a gradient", "differentiable in x_t")
        v = convert_at(value, x_t, a, s, prediction_of(denoiser), "v")
        divergence = x_t.new_zeros(len(x_t))
        directions = list(_axes(x_t)) if probes is None else [_signs(x_t, generator) for _ in range(probes)]
        for direction in directions:
            # The gradient of <direction, v> is J^T direction, for every example at once.
            (product,) = torch.autograd.grad(v, x_t, direction, retain_graph=True)
            divergence += (product * direction).flatten(1).sum(dim=1)
    return v.detach(), divergence if probes is None else divergence / probes


def _axes(x: Tensor) -> Iterator[Tensor]:
    """The unit vectors along each number of an example, each in the shape of x."""
    for index in range(x[0].numel()):
        axis = torch.zeros_like(x)
        axis.view(len(x), -1)[:, index] = 1
        yield axis


def _signs(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Independent random signs in the shape of x, drawn on the generator's device and then moved."""
    device = draw_device(generator, x.device)
    bits = torch.randint(0, 2, x.shape, generator=generator, device=device)
    return (2 * bits - 1).to(x.dtype).to(x.device)


def _log_density(prior: LogDensity | None, x: Tensor) -> Tensor:
    if prior is None:
        return -0.5 * (x.square() + math.log(2 * math.pi)).flatten(1).sum(dim=1)
    with torch.no_grad():
        value = prior(x)
    require(tuple(value.shape) == (len(x),), "prior(x).shape", tuple(value.shape), f"({len(x)},), one value per example")
    return value


def _require_signal(schedule: Schedule, prediction: str, dtype: torch.dtype) -> None:
    # v = (eps - s x) / a: where a is below the rounding of eps, nothing but rounding is left of v.
    if prediction in ("eps", "score"):
        last, least = float(schedule.sqrt_alpha_bar[-1]), torch.finfo(dtype).eps
        allowed = f"above {least:.1e} in {dtype} for a denoiser that predicts {prediction}, not v or x0"
        require(last > least, "sqrt(alpha_bar_T) of the schedule", last, allowed)
