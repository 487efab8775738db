"""The plain network that the models of this folder are made of (home chapter: 1, overview of generative models)."""

from __future__ import annotations

from torch import nn

from diffutils.networks import FourierFeatures
from diffutils.validation import check_int


def fully_connected(inputs: int, outputs: int, *, hidden: int, depth: int, fourier: int = 0) -> nn.Sequential:
    """Return a network (B, inputs) -> (B, outputs) with ``depth`` hidden layers of SiLU; depth 0 is one linear map.

    Args:
        inputs: numbers per input; without Fourier features any number of leading axes will do.
        outputs: numbers per output.
        hidden: width.
        depth: hidden layers.
        fourier: sines and cosines given for each input coordinate, as in ``diffutils.networks.FourierFeatures``.

    Raises:
        ValueError: for a width below 1 or a depth below 0.
    """
    check_int("depth", depth, 0)
    features = FourierFeatures(inputs, fourier, 1.0)
    widths = [features.out_dim, *[check_int("hidden", hidden, 1)] * depth]
    layers = [module for a, b in zip(widths, widths[1:]) for module in (nn.Linear(a, b), nn.SiLU())]
    layers.append(nn.Linear(widths[-1], check_int("outputs", outputs, 1)))
    return nn.Sequential(*([features] if fourier else []), *layers)
