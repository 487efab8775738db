r"""NICE: a flow of additive couplings, which preserve volume, and one scaling at the end.

Home chapter: 6, flows in depth.

Additive couplings have determinant 1, so alone they can only move probability about, never thin or thicken it. The last
layer multiplies each coordinate by a learned number of its own:

    z_i = exp(s_i) h_i,    log |det J| = sum_i s_i,    the same at every x

(Dinh, Krueger and Bengio, 2015, arXiv:1410.8516, sections 3.2 and 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffutils.models.flows.base import Flow
from diffutils.models.flows.coupling import AdditiveCoupling, alternating
from diffutils.models.parts import fully_connected
from diffutils.networks import seeded_init
from diffutils.validation import check_int


class Scaling(nn.Module):
    """z_i = exp(s_i) h_i with one learned s_i for each of ``dim`` coordinates; it starts as the identity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(check_int("dim", dim, 1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (B, dim) and log |det dz/dh| (B,)."""
        return x * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return h (B, dim) and log |det dh/dz| (B,)."""
        return y * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(y))


class NICE(Flow):
    """A NICE flow for points: additive couplings that keep even and odd coordinates in turn, then a scaling.

    Args:
        dim: numbers per data point, at least 2; the noise has as many.
        couplings: how many couplings are stacked, at least 2 so that every coordinate moves.
        hidden: width of each coupling's network.
        depth: hidden layers of each coupling's network.
        fourier: sines and cosines of each kept coordinate that a coupling's network sees.
        scaling: False leaves the last layer out: the flow then preserves volume.
        seed: fixes the initial weights; None leaves them to torch's global generator.

    Raises:
        ValueError: for a size below its minimum.
    """

    def __init__(
        self,
        dim: int = 2,
        *,
        couplings: int = 8,
        hidden: int = 64,
        depth: int = 2,
        fourier: int = 2,
        scaling: bool = True,
        seed: int | None = 0,
    ) -> None:
        check_int("dim", dim, 2)
        check_int("couplings", couplings, 2)

        def coupling(index: int) -> AdditiveCoupling:
            kept = alternating(dim, index)
            stay, move = int(kept.sum()), int((~kept).sum())
            return AdditiveCoupling(kept, fully_connected(stay, move, hidden=hidden, depth=depth, fourier=fourier))

        with seeded_init(seed):
            layers: list[nn.Module] = [coupling(index) for index in range(couplings)]
            super().__init__((dim,), layers + [Scaling(dim)] * bool(scaling))
