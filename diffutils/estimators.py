r"""Gradients of an expectation, estimated from samples. Home chapter: reparameterization (03).

For ``x ~ N(mu, sigma^2 I)`` in d dimensions and a function f, both estimators below have the same expectation,
the gradient of ``E[f(x)]`` with respect to mu (d numbers) and sigma (one number). Write ``x = mu + sigma eps``:

- pathwise:        ``grad_mu = f'(x)``,                ``grad_sigma = f'(x) . eps``        (f must have a derivative)
- score function:  ``grad_mu = (f(x) - b) eps / sigma``, ``grad_sigma = (f(x) - b) (|eps|^2 - d) / sigma``

The second uses ``grad_mu log p(x) = eps / sigma`` and ``grad_sigma log p(x) = (|eps|^2 - d) / sigma``; the baseline b
changes its variance and not its expectation. Both return one estimate per sample, so that the variance can be seen.

Sources: Kingma and Welling 2014 (section 2.4) and Rezende et al. 2014 for the pathwise gradient; Williams 1992 for the
score function (REINFORCE); Mohamed et al. 2020 (sections 4 and 5) for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffutils.process import draw_noise
from diffutils.validation import check_data, check_float, check_int, require

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GradientEstimates:
    """One gradient estimate per sample: ``mu`` is (n, d), ``sigma`` is (n,)."""

    mu: Tensor
    sigma: Tensor


def reparameterize(mu: Tensor, sigma: Tensor | float, noise: Tensor) -> Tensor:
    """Return ``mu + sigma * noise``: standard normal noise turned into N(mu, sigma^2 I), with gradients to both.

    Args:
        mu: the mean, any shape that broadcasts with ``noise``.
        sigma: the standard deviation, not the variance; positive.
        noise: draws from N(0, I).

    Raises:
        ValueError: if sigma is not positive. A tensor is looked at on the CPU only: a GPU would have to be waited for.

    Source: Kingma and Welling 2014, section 2.4, https://arxiv.org/abs/1312.6114
    """
    if not isinstance(sigma, Tensor):
        check_float("sigma", sigma, 0.0)
    elif sigma.device.type == "cpu":
        least = float(sigma.detach().min())
        require(least > 0, "sigma", least, "positive everywhere")
    return mu + sigma * noise


def pathwise_gradient(
    f: Function, mu: Tensor, sigma: Tensor | float, n: int, *, generator: torch.Generator | None = None
) -> GradientEstimates:
    """Estimate the gradient of E[f(x)], x ~ N(mu, sigma^2 I), by differentiating through each of n samples.

    Args:
        f: maps (n, d) to (n,), one value per row from that row alone, differentiably.
        mu: (d,) mean.
        sigma: one positive standard deviation.
        n: number of samples.
        generator: source of the noise; it is drawn there and then moved to mu's device.

    Returns:
        mu: (n, d) and sigma: (n,), per sample; average over n for the estimate.

    Raises:
        ValueError: if a shape or range is wrong, or f has no derivative (a result not connected to x).

    Source: Kingma and Welling 2014; Rezende et al. 2014; Mohamed et al. 2020, section 5.
    """
    mu, sigma = _check(mu, sigma, n)
    noise = draw_noise(mu.new_empty(n, len(mu)), generator=generator)
    with torch.enable_grad():
        x = (mu + sigma * noise).requires_grad_()
        values = _evaluate(f, x)
        require(values.requires_grad, "f", "a value that does not depend on x differentiably", "differentiable")
        (slope,) = torch.autograd.grad(values.sum(), x)
    return GradientEstimates(mu=slope, sigma=(slope * noise).sum(dim=1))


def score_function_gradient(
    f: Function,
    mu: Tensor,
    sigma: Tensor | float,
    n: int,
    *,
    baseline: float = 0.0,
    generator: torch.Generator | None = None,
) -> GradientEstimates:
    """Estimate the gradient of E[f(x)], x ~ N(mu, sigma^2 I), from values of f alone (REINFORCE).

    Args:
        f: maps (n, d) to (n,); no derivative is asked of it.
        mu: (d,) mean.
        sigma: one positive standard deviation.
        n: number of samples.
        baseline: subtracted from every value; a constant chosen without these samples leaves the estimate unbiased.
        generator: as in ``pathwise_gradient``, which draws the same noise from the same generator.

    Returns:
        mu: (n, d) and sigma: (n,), per sample; average over n for the estimate.

    Raises:
        ValueError: if a shape or range is wrong.

    Source: Williams 1992; Mohamed et al. 2020, section 4.
    """
    mu, sigma = _check(mu, sigma, n)
    baseline = check_float("baseline", baseline)
    noise = draw_noise(mu.new_empty(n, len(mu)), generator=generator)
    with torch.no_grad():
        weight = (_evaluate(f, mu + sigma * noise) - baseline) / sigma
    return GradientEstimates(mu=weight[:, None] * noise, sigma=weight * (noise.square().sum(dim=1) - mu.shape[0]))


def merge_gaussians(a: Tensor | float, b: Tensor | float, noise_a: Tensor, noise_b: Tensor) -> tuple[Tensor, Tensor]:
    """Merge two INDEPENDENT standard normal noises: sqrt(a) e_a + sqrt(b) e_b = sqrt(a + b) e, e ~ N(0, I).

    Args:
        a, b: the variances the two noises enter with; non-negative, not both 0.
        noise_a, noise_b: draws from N(0, I) of one shape, independent of each other.

    Returns:
        the scale sqrt(a + b), and the merged noise e, which depends on both and equals neither.

    Raises:
        ValueError: if a or b is negative, both are 0, or the shapes differ.

    Source: the step behind eq. 4 of Ho et al. 2020, https://arxiv.org/abs/2006.11239
    """
    require(noise_a.shape == noise_b.shape, "noise_b.shape", tuple(noise_b.shape), f"{tuple(noise_a.shape)}")
    a, b = torch.as_tensor(a).to(noise_a), torch.as_tensor(b).to(noise_a)
    for name, value in (("a", a), ("b", b)):
        require(bool(((value >= 0) & torch.isfinite(value)).all()), name, value.tolist(), "finite and at least 0")
    require(bool((a + b > 0).all()), "a + b", (a + b).tolist(), "positive")
    scale = (a + b).sqrt()
    return scale, (a.sqrt() * noise_a + b.sqrt() * noise_b) / scale


def _check(mu: Tensor, sigma: Tensor | float, n: int) -> tuple[Tensor, float]:
    check_data("mu", mu, min_ndim=1)
    require(mu.ndim == 1, "mu.shape", tuple(mu.shape), "(d,)")
    check_int("n", n, 1)
    return mu.detach(), check_float("sigma", sigma, 0.0)


def _evaluate(f: Function, x: Tensor) -> Tensor:
    values = f(x)
    require(tuple(values.shape) == (x.shape[0],), "f(x).shape", tuple(values.shape), f"({x.shape[0]},)")
    return values
