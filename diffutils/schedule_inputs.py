"""What a schedule may be made of: lists of betas, alpha_bars, noise levels and times, read and checked.

Each function returns a fresh float64 CPU tensor (T,) (times: LongTensor) or raises a ``ValueError`` that names the
argument, the first entry that is wrong, and what is allowed. Home chapter: the forward process (02).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffutils.validation import check_float, check_int, require


def _numbers(argument: str, value: Any, allowed: str) -> Tensor:
    """Return a copy of T numbers as a float64 CPU tensor (T,)."""
    try:
        # A conversion would make True 1, and drop an imaginary part.
        kind = str(getattr(value, "dtype", "")) or ("bool" if any(isinstance(entry, bool) for entry in value) else "")
        if "bool" in kind or "complex" in kind:
            raise TypeError
        # dtype at once: a list read in torch's default float32 would lose digits before it reaches float64.
        values = torch.as_tensor(value, dtype=torch.float64, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{argument} must be {allowed}, got {value!r}") from None
    require(values.ndim == 1 and len(values) >= 1, f"{argument}.shape", tuple(values.shape), "(T,) with T at least 1")
    return values


def checked_betas(beta: Any, *, below_one: bool = False) -> Tensor:
    """Betas in (0, 1), of which only the last may be 1, and not even that where ``below_one``."""
    values = _numbers("beta", beta, "a list of T numbers in (0, 1)")
    inside = (values > 0) & (values < 1)
    if not below_one:
        inside[-1] |= values[-1] == 1
    _require_each("beta", values, inside, "in (0, 1)" + ("" if below_one else "; only the last may be 1"))
    return values


def checked_alpha_bar(alpha_bar: Any) -> Tensor:
    """Running products falling from below 1, of which only the last may be 0."""
    values = _numbers("alpha_bar", alpha_bar, "a list of T falling numbers in (0, 1)")
    inside = (values > 0) & (values < 1)
    inside[-1] |= values[-1] == 0
    _require_each("alpha_bar", values, inside, "in (0, 1), without the 1 of t = 0; only the last may be 0")
    falling = torch.cat([inside[:1], values.diff() < 0])
    _require_each("alpha_bar", values, falling, "below the entry before it")
    return values


def _require_each(argument: str, values: Tensor, good: Tensor, allowed: str) -> None:
    bad = (~good).nonzero().flatten()
    if len(bad):
        first = int(bad[0])
        require(False, f"{argument}[{first}] (t = {first + 1})", float(values[first]), allowed)


def checked_levels(levels: Any) -> Tensor:
    """Noise levels, positive, finite and increasing."""
    values = _numbers("levels", levels, "a list of T positive increasing numbers")
    require(bool(torch.isfinite(values).all()), "levels", values.tolist(), "finite")
    increasing = float(values[0]) > 0 and bool((values.diff() > 0).all())
    require(increasing, "levels", values.tolist(), "positive and increasing: the least noise first")
    return values


def checked_timesteps(timesteps: Any, T: int) -> Tensor:
    """Times for a network, increasing from at least 1; 1..T when None."""
    if timesteps is None:
        return torch.arange(1, T + 1)
    try:
        values = torch.as_tensor(timesteps).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"timesteps must be a list of {T} integers, got {timesteps!r}") from None
    integer = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
    require(integer, "timesteps.dtype", values.dtype, "an integer dtype")
    require(tuple(values.shape) == (T,), "timesteps.shape", tuple(values.shape), f"({T},), one time per step")
    values = values.long()  # unsigned differences are never negative
    increasing = int(values[0]) >= 1 and bool((values.diff() > 0).all())
    require(increasing, "timesteps", values.tolist(), "increasing from at least 1")
    return values


def checked_ends(T: Any, beta_start: float | None, beta_end: float | None) -> tuple[int, float, float]:
    """T and the first and last beta, 0.1 / T and 20 / T where None."""
    T = check_int("T", T, 1)
    if beta_start is None:
        beta_start = 0.1 / T
    if beta_end is None:
        require(T > 20, "T", T, "above 20 for the default beta_end = 20 / T to be below 1; or give beta_end")
        beta_end = 20 / T
    return T, check_float("beta_start", beta_start, 0.0, 1.0), check_float("beta_end", beta_end, 0.0, 1.0)
