r"""The forward process: data into noise, one step at a time, all at once, and one step back when x_0 is known.

    one step      q(x_t | x_{t-1}) = N(sqrt(alpha_t) x_{t-1}, beta_t I)
    closed form   q(x_t | x_0)     = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I)
    posterior     q(x_{t-1} | x_t, x_0) = N(mean, beta_tilde_t I), with
                  mean = [sqrt(alpha_bar_{t-1}) beta_t x_0 + sqrt(alpha_t) (1 - alpha_bar_{t-1}) x_t] / (1 - alpha_bar_t)

Given x_t, four quantities say the same thing about it, and ``convert`` turns each into any other:

    eps     the noise in    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps
    x0      the clean data in that equation
    v       sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0
    score   -eps / sqrt(1 - alpha_bar_t), the gradient of log q(x_t | x_0) with respect to x_t

Home chapters: the forward process (02) for the step and the chain; closed-form sampling (04) for the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffutils.schedule import Schedule
from diffutils.validation import check_choice, check_data, check_int, require

PREDICTIONS = ("eps", "x0", "v", "score")
Value = float | Tensor


def draw_device(generator: torch.Generator | None, default: torch.device) -> torch.device:
    """Return where random numbers are drawn, on the generator's device or else on ``default``; refuse any other."""
    good = generator is None or isinstance(generator, torch.Generator)
    require(good, "generator", type(generator).__name__, "a torch.Generator or None")
    return default if generator is None else generator.device


def draw_noise(like: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return standard normal noise of the shape, dtype and device of ``like``.

    It is drawn on the generator's device and then moved, so that a CPU generator serves data on any device.

    Raises:
        ValueError: if ``generator`` is neither None nor a ``torch.Generator``.
    """
    if generator is None:
        return torch.randn_like(like, memory_format=torch.contiguous_format)
    device = draw_device(generator, like.device)
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def forward_step(
    schedule: Schedule,
    x_prev: Tensor,
    t: int | Tensor,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return a sample of q(x_t | x_{t-1}): one step of the chain.

    Args:
        schedule: the variances.
        x_prev: x_{t-1}, (B, ...), floating point.
        t: the time arrived at, in 1..T: one for all, or an integer tensor (B,).
        noise: standard normal noise of the shape of ``x_prev``; drawn when None.
        generator: where the noise is drawn from.

    Raises:
        ValueError: if the data, the noise or t is unfit.

    Source: Ho et al. 2020, eq. 2.
    """
    _check_inputs(schedule, x_prev=x_prev, noise=noise)
    keep, spread = schedule.gather_all([schedule.sqrt_alpha, schedule.sqrt_beta], t, x_prev, minimum=1)
    return _noisy(keep, x_prev, spread, noise, generator)


def forward_chain(
    schedule: Schedule, x0: Tensor, *, steps: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Return the path x_0, x_1, ..., x_steps of the chain, (steps + 1, B, ...), starting with ``x0`` itself.

    Args:
        schedule: the variances.
        x0: the data, (B, ...), floating point.
        steps: how many steps to take, in 0..T; T when None.
        generator: where the noise is drawn from.

    Raises:
        ValueError: if the data or ``steps`` is unfit.

    Source: Ho et al. 2020, eq. 2.
    """
    _check_inputs(schedule, x0=x0)
    steps = schedule.T if steps is None else check_int("steps", steps, 0, schedule.T)
    path = [x0]
    for t in range(1, steps + 1):
        path.append(forward_step(schedule, path[-1], t, generator=generator))
    return torch.stack(path)


def diffuse(
    schedule: Schedule,
    x0: Tensor,
    t: int | Tensor,
    *,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return a sample of q(x_t | x_0) in one jump: sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps.

    Args:
        schedule: the variances.
        x0: the data, (B, ...), floating point.
        t: the time, in 0..T: one for all, or an integer tensor (B,). At t = 0 the result is ``x0``.
        noise: eps, standard normal noise of the shape of ``x0``; drawn when None.
        generator: where the noise is drawn from.

    Raises:
        ValueError: if the data, the noise or t is unfit.

    Source: Ho et al. 2020, eq. 4.
    """
    _check_inputs(schedule, x0=x0, noise=noise)
    signal, spread = schedule.gather_all([schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar], t, x0)
    return _noisy(signal, x0, spread, noise, generator)


def _noisy(keep: Tensor, x: Tensor, spread: Tensor, noise: Tensor | None, generator: torch.Generator | None) -> Tensor:
    # The sums are made in place, where memory is touched least; noise that is drawn here may be overwritten, too.
    if noise is None:
        return draw_noise(x, generator=generator).mul_(spread).addcmul_(keep, x)
    return (keep * x).addcmul_(spread, noise)


def posterior(schedule: Schedule, x0: Tensor, x_t: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the Gaussian q(x_{t-1} | x_t, x_0).

    Args:
        schedule: the variances.
        x0: the data, (B, ...), floating point.
        x_t: the noisy data, the shape of ``x0``.
        t: the time of ``x_t``, in 1..T: one for all, or an integer tensor (B,).

    Returns:
        The mean, of the shape of ``x0``, and the variance beta_tilde_t (not its root), shaped to broadcast against
        it. At t = 1 the mean is ``x0`` and the variance exactly 0: do not take its logarithm.

    Raises:
        ValueError: if the data or t is unfit.

    Source: Ho et al. 2020, eqs. 6 and 7.
    """
    _check_inputs(schedule, x0=x0, x_t=x_t)
    tables = [schedule.posterior_x0, schedule.posterior_xt, schedule.beta_tilde]
    weight_x0, weight_xt, variance = schedule.gather_all(tables, t, x0, minimum=1)
    return weight_x0 * x0 + weight_xt * x_t, variance


def convert(schedule: Schedule, value: Tensor, x_t: Tensor, t: int | Tensor, source: str, target: str) -> Tensor:
    """Return what ``value``, a ``source`` of x_t, is as a ``target``; both are among ``PREDICTIONS``.

    The conversion is exact at every t. Rounding is magnified where the question is ill-posed: an error in eps becomes
    one sqrt((1 - alpha_bar) / alpha_bar) times as large in x0, so at the end of a schedule x0 from eps has few digits.

    Args:
        schedule: the variances.
        value: the quantity to convert, the shape of ``x_t``.
        x_t: the noisy data, (B, ...), floating point.
        t: the time of ``x_t``, in 1..T: one for all, or an integer tensor (B,). At t = 0 there is no noise to speak of.
        source: what ``value`` is: "eps", "x0", "v" or "score".
        target: what to return, one of the same names.

    Raises:
        ValueError: if a name, the data or t is unfit, or if alpha_bar_t is 0 in the data's dtype where x0 or v is asked
            of eps or score: nothing of x_0 is left in x_t then.

    Source: Ho et al. 2020, eq. 9 and section 3.2; Salimans and Ho 2022, section 4, for v.
    """
    check_choice("source", source, PREDICTIONS)
    check_choice("target", target, PREDICTIONS)
    _check_inputs(schedule, value=value, x_t=x_t)
    a, s = schedule.gather_all([schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar], t, x_t, minimum=1)
    if source == target:
        return value
    if source in ("eps", "score") and target in ("x0", "v"):
        _require_signal(schedule, a)
    return convert_at(value, x_t, a, s, source, target)


def convert_at(value: Value, x_t: Value, a: Value, s: Value, source: str, target: str) -> Value:
    """Return what ``convert`` does, for a = sqrt(alpha_bar_t) and s = sqrt(1 - alpha_bar_t) that the caller has.

    Nothing is checked and no device is waited for: this is the arithmetic for the loops of training and sampling. It is
    linear in ``value`` and ``x_t``, and takes numbers, too: of (1, 0) and (0, 1) it makes the weights of the two.
    """
    if source == target:
        return value
    if source == "score":
        return convert_at(-s * value, x_t, a, s, "eps", target)
    if target == "score":
        return -convert_at(value, x_t, a, s, source, "eps") / s
    # (x_t, v) is (x_0, eps) rotated by an angle whose cosine is a and sine is s: hence one formula per pair, each
    # free of differences that a^2 + s^2 = 1 has already made.
    if source == "eps":
        return (x_t - s * value) / a if target == "x0" else (value - s * x_t) / a
    if source == "x0":
        return (x_t - a * value) / s if target == "eps" else (a * x_t - value) / s
    return a * x_t - s * value if target == "x0" else s * x_t + a * value


def _require_signal(schedule: Schedule, a: Tensor) -> None:
    # Most schedules never come near zero: ask their last entry first, which costs a GPU nothing.
    if float(schedule.sqrt_alpha_bar[-1].to(a.dtype)) == 0:
        require(bool((a > 0).all()), "t", f"a time where it rounds to 0 in {a.dtype}", "a time where alpha_bar_t > 0")


def _check_inputs(schedule: Schedule, **tensors: Tensor | None) -> None:
    require(isinstance(schedule, Schedule), "schedule", type(schedule).__name__, "a Schedule")
    (first, reference), *_ = tensors.items()
    check_data(first, reference, min_ndim=1)
    for name, value in tensors.items():
        if value is None or value is reference:
            continue
        check_data(name, value, min_ndim=1)
        same = (value.shape, value.dtype, value.device) == (reference.shape, reference.dtype, reference.device)
        found = f"{tuple(value.shape)}, {value.dtype}, {value.device}"
        wanted = f"{tuple(reference.shape)}, {reference.dtype}, {reference.device}"
        require(same, name, found, f"of the shape, dtype and device of {first}: {wanted}")
