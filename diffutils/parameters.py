"""The parameters of a Gaussian mixture, checked and converted; noise levels likewise. Home chapter: overview.

A mixture keeps its weights, means and the eigen-decomposition ``S_k = V_k diag(lam_k) V_k^T`` of its covariances in
float64 on the CPU. Whatever meets data is cast from there to the data's dtype and device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffutils.validation import check_float, require


def master(value: Tensor) -> Tensor:
    """Return a float64 copy on the CPU, where parameters are kept."""
    # Off the device before float64: Apple's MPS has none.
    return value.detach().cpu().double()


def cast(value: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``value`` in ``dtype`` and then on ``device``: in this order no float64 reaches a device without it."""
    return value.to(dtype).to(device)


def check_weights(weights: Tensor, components: int) -> Tensor:
    """Return the weights (K,) in float64, divided by their sum; refuse what is not a distribution."""
    require(isinstance(weights, Tensor), "weights", type(weights).__name__, "a torch.Tensor")
    require(tuple(weights.shape) == (components,), "weights.shape", tuple(weights.shape), f"({components},)")
    weights = master(weights)
    require(bool((weights >= 0).all()), "weights", weights.tolist(), "non-negative")
    total = float(weights.sum())
    require(abs(total - 1.0) < 1e-5, "weights", f"a sum of {total:.6g}", "numbers that sum to 1")
    return weights / total


def decompose(covariances: Tensor | float, components: int, dim: int) -> tuple[Tensor, Tensor | None]:
    """Return eigenvalues (K, d) and eigenvectors (K, d, d) as columns, or None for isotropic covariances.

    Args:
        covariances: (K, d, d), (K,) variances or one variance.
    """
    if not isinstance(covariances, Tensor) or covariances.ndim == 0:
        variance = check_float("covariances", covariances, 0.0)
        return torch.full((components, dim), variance, dtype=torch.float64), None
    shape = tuple(covariances.shape)
    allowed = f"({components},) or ({components}, {dim}, {dim})"
    require(shape in ((components,), (components, dim, dim)), "covariances.shape", shape, allowed)
    covariances = master(covariances)
    require(bool(torch.isfinite(covariances).all()), "covariances", "NaN or infinite values", "finite everywhere")
    if covariances.ndim == 1:
        require(bool((covariances > 0).all()), "covariances", covariances.tolist(), "positive")
        return covariances[:, None].expand(components, dim).clone(), None
    asymmetry = float((covariances - covariances.mT).abs().max())
    tolerance = 1e-5 * float(covariances.abs().max())
    require(asymmetry <= tolerance, "covariances", f"asymmetry {asymmetry:.3g}", "symmetric")
    eigenvalues, basis = torch.linalg.eigh(0.5 * (covariances + covariances.mT))
    smallest = float(eigenvalues.min())
    require(smallest > 0.0, "covariances", f"an eigenvalue of {smallest:.3g}", "positive definite")
    return eigenvalues, basis


def scalar_levels(alpha_bar: float, sigma2: float | None) -> tuple[float, float]:
    """Return alpha_bar and 1 - alpha_bar as floats in [0, 1]."""
    alpha_bar = check_float("alpha_bar", alpha_bar, 0.0, 1.0, inclusive=True)
    if sigma2 is None:
        return alpha_bar, 1.0 - alpha_bar
    return alpha_bar, check_float("sigma2", sigma2, 0.0, 1.0, inclusive=True)


def batch_level(argument: str, level: Tensor, x: Tensor) -> Tensor:
    """Return a level given once or per point, in the dtype and device of x, as (1 or B, 1, 1)."""
    shape = tuple(level.shape)
    require(shape in ((), (1,), (x.shape[0],)), f"{argument}.shape", shape, f"() or ({x.shape[0]},)")
    inside = bool(((level >= 0) & (level <= 1)).all())
    require(inside, argument, [float(level.min()), float(level.max())], "in [0, 1]")
    return level.to(x.dtype).to(x.device).view(-1, 1, 1)
