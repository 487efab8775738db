"""Checks of arguments that name the argument, its value and the allowed range.

Every public function calls these before it computes anything, so that a mistake is reported where it was made.
"""

from __future__ import annotations

import math
from typing import Any, Iterable

import torch
from torch import Tensor


def require(condition: bool, argument: str, value: Any, allowed: str) -> None:
    """Raise ``ValueError`` naming ``argument``, its ``value`` and what is ``allowed`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{argument} must be {allowed}, got {value!r}")


def check_int(argument: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return ``value`` as an int in minimum..maximum; raise ``ValueError`` otherwise (a bool is not an int)."""
    allowed = f"an integer of at least {minimum}" if maximum is None else f"an integer in {minimum}..{maximum}"
    is_integer = not isinstance(value, bool) and hasattr(value, "__index__")
    require(is_integer, argument, value, allowed)
    number = value.__index__()
    require(number >= minimum and (maximum is None or number <= maximum), argument, value, allowed)
    return number


def check_float(
    argument: str, value: Any, low: float = -math.inf, high: float = math.inf, *, inclusive: bool = False
) -> float:
    """Return ``value`` as a finite float strictly between low and high, or in [low, high] where ``inclusive``."""
    brackets = "[]" if inclusive else "()"
    allowed = f"a finite number in {brackets[0]}{low:g}, {high:g}{brackets[1]}"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{argument} must be {allowed}, got {value!r}") from None
    inside = low <= number <= high if inclusive else low < number < high
    require(math.isfinite(number) and inside, argument, value, allowed)
    return number


def check_choice(argument: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``; raise ``ValueError`` that lists them otherwise."""
    choices = tuple(choices)
    require(value in choices, argument, value, "one of " + ", ".join(map(repr, choices)))
    return value


def check_data(argument: str, value: Any, *, dim: int | None = None, min_ndim: int = 2) -> Tensor:
    """Return ``value`` if it is a non-empty floating-point tensor without NaN or infinity.

    Args:
        argument: the name to report.
        value: the tensor to check; integers (raw images, say) are refused because noise cannot be added to them.
        dim: the length its last axis must have, where that is fixed.
        min_ndim: the least number of axes, the batch axis included.
    """
    require(isinstance(value, Tensor), argument, type(value).__name__, "a torch.Tensor")
    require(value.is_floating_point(), f"{argument}.dtype", value.dtype, "a floating-point dtype (scale images first)")
    shape = tuple(value.shape)
    require(value.ndim >= min_ndim, f"{argument}.shape", shape, f"a shape of at least {min_ndim} axes")
    require(value.numel() > 0, f"{argument}.shape", shape, "a shape with no empty axis")
    if dim is not None:
        require(shape[-1] == dim, f"{argument}.shape", shape, f"a shape whose last axis has length {dim}")
    bad = int((~torch.isfinite(value)).sum())
    require(bad == 0, argument, f"{bad} NaN or infinite values", "finite everywhere")
    return value
