"""Checks of arguments that name the argument, its value and the allowed range.

Every public function calls these before it computes anything, so that a mistake is reported where it was made.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def require(condition: bool, argument: str, value: Any, allowed: str) -> None:
    """Raise ``ValueError`` naming ``argument``, its ``value`` and what is ``allowed`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{argument} must be {allowed}, got {value!r}")


def check_int(argument: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return ``value`` as an int in minimum..maximum; raise ``ValueError`` otherwise (a bool is not an int)."""
    # Loops of sampling call this at every step: the sentence is put together only if needed.
    try:
        number = None if isinstance(value, bool) else value.__index__()
    except (AttributeError, TypeError):  # an array has the method, and only one number makes an index
        number = None
    if number is not None and minimum <= number and (maximum is None or number <= maximum):
        return number
    allowed = f"an integer of at least {minimum}" if maximum is None else f"an integer in {minimum}..{maximum}"
    raise ValueError(f"{argument} must be {allowed}, got {value!r}")


def check_float(
    argument: str, value: Any, low: float = -math.inf, high: float = math.inf, *, inclusive: bool = False
) -> float:
    """Return ``value`` as a finite float strictly between low and high, or in [low, high] where ``inclusive``.

    A bool or a string is no number.
    """
    brackets = "[]" if inclusive else "()"
    allowed = f"a finite number in {brackets[0]}{low:g}, {high:g}{brackets[1]}"
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{argument} must be {allowed}, got {value!r}") from None
    inside = low <= number <= high if inclusive else low < number < high
    require(math.isfinite(number) and inside, argument, value, allowed)
    return number


def check_bool(argument: str, value: Any) -> bool:
    """Return ``value`` if it is True or False; raise ``ValueError`` otherwise (the string "no" would count as true)."""
    require(isinstance(value, bool), argument, value, "True or False")
    return value


def check_choice(argument: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``; raise ``ValueError`` that lists them otherwise."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def accepts(function: Any, *arguments: Any, **named: Any) -> bool:
    """Return whether ``function`` is a function that can be called with these arguments; it is not called."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    return True


def check_same_shape(argument: str, value: Tensor, name: str, like: Tensor) -> Tensor:
    """Return ``value`` if it is a tensor of the shape of ``like``, which the message calls ``name``."""
    require(isinstance(value, Tensor), argument, type(value).__name__, "a torch.Tensor")
    if value.shape != like.shape:
        raise ValueError(f"{argument}.shape must be that of {name}, {tuple(like.shape)}, got {tuple(value.shape)}")
    return value


def check_dtype(argument: str, value: Tensor, model: Any) -> Tensor:
    """Return ``value`` unless it is float64, as all is that comes from numpy, and the weights of ``model`` are not."""
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    if value.dtype == torch.float64 and (dtype := next(parameters, value).dtype) != torch.float64:
        require(False, f"{argument}.dtype", value.dtype, f"{dtype}, as the model's weights: {argument}.to({dtype})")
    return value


def check_data(
    argument: str, value: Any, *, dim: int | None = None, min_ndim: int = 2, ndim: int | None = None
) -> Tensor:
    """Return ``value`` if it is a non-empty floating-point tensor without NaN or infinity.

    Args:
        argument: the name to report.
        value: the tensor to check; integers (raw images, say) are refused because noise cannot be added to them.
        dim: the length its last axis must have, where that is fixed.
        min_ndim: the least number of axes, the batch axis included.
        ndim: the number of axes, where that is fixed.
    """
    require(isinstance(value, Tensor), argument, type(value).__name__, "a torch.Tensor")
    require(value.is_floating_point(), f"{argument}.dtype", value.dtype, "a floating-point dtype (scale images first)")
    shape = tuple(value.shape)
    require(value.ndim >= min_ndim, f"{argument}.shape", shape, f"a shape of at least {min_ndim} axes")
    require(ndim is None or value.ndim == ndim, f"{argument}.shape", shape, f"a shape of {ndim} axes")
    require(value.numel() > 0, f"{argument}.shape", shape, "a shape with no empty axis")
    if dim is not None:
        require(shape[-1] == dim, f"{argument}.shape", shape, f"a shape whose last axis has length {dim}")
    bad = count_not_finite(value)
    require(bad == 0, argument, f"{bad} NaN or infinite values", "finite everywhere")
    return value


def count_not_finite(value: Tensor) -> int:
    """Return how many entries are NaN or infinite; where none is, that takes one pass."""
    # A sum is finite only where every term is; it may overflow, so then the terms are looked at.
    return 0 if math.isfinite(value.detach().sum()) else int((~torch.isfinite(value)).sum())
