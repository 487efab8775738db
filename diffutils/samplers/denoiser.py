"""What every sampler asks of a model, and where it starts (home chapter: 5, the reverse process).

A denoiser is any callable of (x_t, t) with an attribute ``prediction`` that says what it returns: "eps", "x0", "v" or
"score". A trained network and the exact denoiser of a Gaussian mixture are used alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffutils.process import PREDICTIONS, convert_at, draw_noise
from diffutils.schedule import Schedule
from diffutils.validation import check_choice, check_data, check_int, require

Denoiser = Callable[[Tensor, "int | Tensor"], Tensor]


def prediction_of(denoiser: Denoiser) -> str:
    """Return what the denoiser predicts; raise ``ValueError`` if its attribute ``prediction`` does not say so."""
    name = getattr(denoiser, "prediction", None)
    require(name is not None, "denoiser", denoiser, "a callable with an attribute `prediction`")
    return check_choice("denoiser.prediction", name, PREDICTIONS)


def predict_x0(denoiser: Denoiser, schedule: Schedule, x_t: Tensor, t: int) -> Tensor:
    """Call the denoiser at step ``t`` of ``schedule``, in 1..T, and return its guess of x_0, shaped like ``x_t``.

    The denoiser is given ``schedule.timesteps[t]``, so that a network trained on a long schedule serves a respaced one.
    The scalars are read from CPU tables, so that a GPU is never waited for.

    Raises:
        ValueError: if the denoiser does not say what it predicts, or its answer has not the shape of ``x_t``.
    """
    t = check_int("t", t, 1, schedule.T)
    prediction = prediction_of(denoiser)
    value = denoiser(x_t, int(schedule.timesteps[t]))
    require(value.shape == x_t.shape, "denoiser(x_t, t).shape", tuple(value.shape), f"that of x_t, {tuple(x_t.shape)}")
    a, s = float(schedule.sqrt_alpha_bar[t]), float(schedule.sqrt_one_minus_alpha_bar[t])
    return convert_at(value, x_t, a, s, prediction, "x0")


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
        return check_data("x_T", x_T, min_ndim=1)
    sizes = tuple(check_int("shape", size, 1) for size in shape)
    parameter = next(denoiser.parameters(), None) if isinstance(denoiser, torch.nn.Module) else None
    like = torch.empty(0) if parameter is None else parameter
    return draw_noise(torch.empty(sizes, dtype=like.dtype, device=device or like.device), generator=generator)
