"""What every sampler asks of a model, and where it starts (home chapter: 5, the reverse process).

A denoiser is any callable of (x_t, t) with an attribute ``prediction`` that says what it returns: "eps", "x0", "v" or
"score". A trained network and the exact denoiser of a Gaussian mixture are used alike. In sampling t is an int, in
training a (B,) LongTensor.

A denoiser may also give the variance sigma_t^2 of the reverse step, one for each coordinate of x_t. Then it has a
method ``with_variance(x_t, t) -> (value, output)`` and an attribute ``variance_output``, what the second tensor means:

    "range"  log sigma_t^2 = v log beta_t + (1 - v) log beta_tilde_t,  v = (1 + output) / 2    nothing keeps v in [0, 1]
    "free"   sigma_t^2 = beta_tilde_t + (beta_t - beta_tilde_t) rho,  log rho = output         never below beta_tilde_t

"range" is Nichol and Dhariwal's. "free" holds the best variance there is, beta_tilde_t + posterior_x0_t^2
Var(x_0 | x_t): because beta_t - beta_tilde_t = posterior_x0_t^2 (1 - alpha_bar_t), it is reached where
rho = Var(x_0 | x_t) / (1 - alpha_bar_t). Both mean the same on a respaced schedule, whose betas are other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffutils.device import find_device
from diffutils.process import PREDICTIONS, convert_at, draw_noise
from diffutils.schedule import Schedule
from diffutils.validation import check_choice, check_data, check_dtype, check_int, check_same_shape, require

Denoiser = Callable[[Tensor, "int | Tensor"], Tensor]
VARIANCE_OUTPUTS = ("range", "free")
# |log rho| is cut here, so that no step of an optimizer can make a variance vanish or overflow.
_LOG_RHO = 15.0


def prediction_of(denoiser: Denoiser) -> str:
    """Return what the denoiser predicts; raise ``ValueError`` if its attribute ``prediction`` does not say so."""
    name = getattr(denoiser, "prediction", None)
    require(name is not None, "denoiser", denoiser, "a callable with an attribute `prediction`")
    return check_choice("denoiser.prediction", name, PREDICTIONS)


def check_levels(denoiser: Denoiser, schedule: Schedule) -> None:
    """Raise ``ValueError`` unless the denoiser can work on the schedule.

    - A denoiser with a schedule of its own knows those noise levels alone: the other must be it, or visit some of its
      times at the same alpha_bar.
    - Where alpha_bar_T is 0, x_T is noise alone, so that eps is x_T, whatever x_0 was: eps or a score is no guess of x_0.
    """
    require(isinstance(schedule, Schedule), "schedule", type(schedule).__name__, "a Schedule")
    own = getattr(denoiser, "schedule", schedule)
    fits = own is schedule or (isinstance(own, Schedule) and own.visits(schedule))
    require(fits, "schedule", schedule, f"that of the denoiser, {own!r}, or a respaced version of it")
    blind = float(schedule.alpha_bar[-1]) == 0 and prediction_of(denoiser) in ("eps", "score")
    allowed = "'x0' or 'v', since alpha_bar_T is 0: x_T holds nothing of x_0, and eps says nothing new"
    require(not blind, "denoiser.prediction", prediction_of(denoiser), allowed)


def predict_x0(denoiser: Denoiser, schedule: Schedule, x_t: Tensor, t: int) -> Tensor:
    """Call the denoiser at step ``t`` of ``schedule``, in 1..T, and return its guess of x_0, shaped like ``x_t``.

    Raises:
        ValueError: if the denoiser does not say what it predicts, or its answer has not the shape of ``x_t``.
    """
    t = check_int("t", t, 1, schedule.T)
    return _to_x0(denoiser, schedule, ask(denoiser, schedule, x_t, t), x_t, t)


def ask(denoiser: Denoiser, schedule: Schedule, x_t: Tensor, t: int) -> Tensor:
    """Return what the denoiser says of ``x_t`` at step ``t`` of ``schedule``, in the shape and dtype of ``x_t``.

    The denoiser is given ``schedule.timesteps[t]``, so that a network trained on a long schedule serves a respaced one.

    Raises:
        ValueError: if the answer has not the shape of ``x_t``.
    """
    value = denoiser(x_t, schedule.levels[t].timestep)
    check_same_shape("denoiser(x_t, t)", value, "x_t", x_t)
    # A network that computes in bfloat16 answers in it; the state keeps its own dtype.
    return value if value.dtype == x_t.dtype else value.to(x_t.dtype)


def x0_weights(denoiser: Denoiser, schedule: Schedule, t: int) -> tuple[float, float]:
    """Return the weights of x_t and of the denoiser's answer in its guess of x_0, which is linear in both.

    They are numbers from the schedule's own tables, so that a GPU is never waited for.

    Raises:
        ValueError: if the denoiser does not say what it predicts.
    """
    level, prediction = schedule.levels[t], prediction_of(denoiser)
    a, s = level.sqrt_alpha_bar, level.sqrt_one_minus_alpha_bar
    return convert_at(0.0, 1.0, a, s, prediction, "x0"), convert_at(1.0, 0.0, a, s, prediction, "x0")


def variance_output_of(denoiser: Denoiser) -> str:
    """Return what the denoiser's variance output means; raise ``ValueError`` if it gives none."""
    name = getattr(denoiser, "variance_output", None)
    require(name is not None, "variance", "learned", "a fixed one, for this denoiser has no `variance_output`")
    return check_choice("denoiser.variance_output", name, VARIANCE_OUTPUTS)


def predict_step(
    denoiser: Denoiser, schedule: Schedule, x_t: Tensor, t: int, s: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the guess of x_0 and log sigma^2 of the step from t to s, both of x_t's shape.

    The denoiser gives its own variance; ``s`` is t - 1 when None.

    Raises:
        ValueError: as ``predict_x0``, or if the denoiser gives no variance, or s is not in 0..t-1.
    """
    t = check_int("t", t, 1, schedule.T)
    jump = schedule.transition(t, t - 1 if s is None else s)
    kind = variance_output_of(denoiser)
    value, output = denoiser.with_variance(x_t, schedule.levels[t].timestep)
    check_same_shape("denoiser(x_t, t)", value, "x_t", x_t)
    beta_tilde = jump.beta_tilde or float(posterior_variances(schedule, kind)[1])
    beta, beta_tilde = torch.tensor([jump.beta, beta_tilde], dtype=torch.float64)
    log_variance = learned_log_variance(output.to(x_t.dtype), kind, beta, beta_tilde, float)
    return _to_x0(denoiser, schedule, value.to(x_t.dtype), x_t, t), log_variance


def posterior_variances(schedule: Schedule, kind: str) -> Tensor:
    """Return the table of beta_tilde_t, (T + 1,), that a variance output of this kind is read with.

    Nichol and Dhariwal take a logarithm of it ("range"), so at t = 1, where it is 0, they take beta_tilde_2 instead, and
    so do we (beta_1 in a schedule of one step).
    """
    if check_choice("kind", kind, VARIANCE_OUTPUTS) == "free":
        return schedule.beta_tilde
    table = schedule.beta_tilde.clone()
    table[1] = table[2] if schedule.T > 1 else schedule.beta[1]
    return table


def learned_log_variance(output: Tensor, kind: str, beta: Tensor, beta_tilde: Tensor, at: Callable) -> Tensor:
    """Return log sigma_t^2, of the output's shape, from a denoiser's variance output; differentiable.

    Args:
        output: (B, ...) what the denoiser gave.
        kind: "range" or "free"; see the module.
        beta: the variances of the forward steps, float64: a table, or one number.
        beta_tilde: those of the posterior, of the same shape; see ``posterior_variances``.
        at: reads such a table at the step t (or steps) of the output, as a float or a tensor to broadcast.

    Source: Nichol and Dhariwal 2021 (arXiv:2102.09672), equation (15), for "range".
    """
    if kind == "free":
        rho = output.clamp(-_LOG_RHO, _LOG_RHO).exp()
        # The difference is taken in float64, where it still has digits late in a schedule.
        return torch.log(at(beta_tilde) + at(beta - beta_tilde) * rho)
    share = (1 + output) / 2
    return share * at(beta.log()) + (1 - share) * at(beta_tilde.log())


def _to_x0(denoiser: Denoiser, schedule: Schedule, value: Tensor, x_t: Tensor, t: int) -> Tensor:
    a, s = schedule.levels[t].sqrt_alpha_bar, schedule.levels[t].sqrt_one_minus_alpha_bar
    return convert_at(value, x_t, a, s, prediction_of(denoiser), "x0")


def check_sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes (B, ...) of samples as ints; raise ``ValueError`` if there are none, or one is below 1."""
    require(isinstance(shape, Sequence) and len(shape) > 0, "shape", shape, "a sequence of sizes (B, ...)")
    return tuple(check_int("shape", size, 1) for size in shape)


def start(
    denoiser: Denoiser,
    shape: Sequence[int] | None,
    x_T: Tensor | None,
    generator: torch.Generator | None,
    device: torch.device | str | None,
) -> Tensor:
    """Return the state a sampler starts from: ``x_T`` where it is given, else noise from N(0, I) of that shape.

    The noise has the dtype of the denoiser's weights, and their device unless ``device`` names another.

    Raises:
        ValueError: if neither or both of shape and x_T are given, or one of them is unfit.
    """
    require((shape is None) != (x_T is None), "shape", shape, "given where x_T is not, and only there")
    if x_T is not None:
        return check_dtype("x_T", check_data("x_T", x_T, min_ndim=1), denoiser)
    sizes = check_sizes(shape)
    parameter = next(denoiser.parameters(), None) if isinstance(denoiser, torch.nn.Module) else None
    like = torch.empty(0) if parameter is None else parameter
    where = like.device if device is None else find_device(device)
    return draw_noise(torch.empty(sizes, dtype=like.dtype, device=where), generator=generator)
