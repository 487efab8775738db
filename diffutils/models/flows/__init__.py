r"""Normalizing flows (정규화 흐름): an invertible network with an exact density.

Home chapter: 6, flows in depth; chapter 1 trains a RealNVP.

A bijection f maps data x to noise z = f(x) of the same dimension, and with z ~ N(0, I) the density of x is

    log p(x) = log N(f(x); 0, I) + log |det J(x)|,    J = df/dx.

- ``nice.NICE``: additive couplings and one scaling at the end;
- ``realnvp.RealNVP``: affine couplings;
- ``glow.Glow``: actnorm, an invertible linear map, an affine coupling, for points; ``images.ImageGlow`` for images.
"""

from __future__ import annotations

from diffutils.models.flows.base import Flow
from diffutils.models.flows.coupling import AdditiveCoupling, AffineCoupling
from diffutils.models.flows.glow import ActNorm, Glow, InvertibleLinear
from diffutils.models.flows.images import ImageGlow, Squeeze
from diffutils.models.flows.nice import NICE, Scaling
from diffutils.models.flows.realnvp import RealNVP

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Flow",
    "Glow",
    "ImageGlow",
    "InvertibleLinear",
    "NICE",
    "RealNVP",
    "Scaling",
    "Squeeze",
]
