r"""RealNVP: a flow of affine couplings.

Home chapters: 1, overview of generative models, and 6, flows in depth.

    y_a = x_a,    y_b = x_b * exp(s(x_a)) + t(x_a),        log |det J| = sum s(x_a),
    x_a = y_a,    x_b = (y_b - t(y_a)) * exp(-s(y_a)),

(Dinh, Sohl-Dickstein and Bengio, 2017, arXiv:1605.08803, equations 6 and 8).
"""

from __future__ import annotations

from torch import nn

from diffutils.models.flows.base import Flow
from diffutils.models.flows.coupling import AffineCoupling, alternating
from diffutils.models.parts import fully_connected
from diffutils.networks import seeded_init
from diffutils.validation import check_int


class RealNVP(Flow):
    """A RealNVP flow for points: couplings that keep even and odd coordinates in turn.

    Args:
        dim: numbers per data point, at least 2; the noise has as many.
        couplings: how many couplings are stacked, at least 2 so that every coordinate moves.
        hidden: width of each coupling's network.
        depth: hidden layers of each coupling's network.
        max_log_scale: bound on |s| in one coupling.
        fourier: sines and cosines of each kept coordinate that a coupling's network sees.
        seed: fixes the initial weights; None leaves them to torch's global generator.

    Raises:
        ValueError: for a size below its minimum or a bound that is not positive.
    """

    def __init__(
        self,
        dim: int = 2,
        *,
        couplings: int = 8,
        hidden: int = 64,
        depth: int = 2,
        max_log_scale: float = 1.5,
        fourier: int = 6,
        seed: int | None = 0,
    ) -> None:
        check_int("dim", dim, 2)
        check_int("couplings", couplings, 2)

        def coupling(index: int) -> AffineCoupling:
            kept = alternating(dim, index)
            stay, move = int(kept.sum()), int((~kept).sum())
            network = fully_connected(stay, 2 * move, hidden=hidden, depth=depth, fourier=fourier)
            return AffineCoupling(kept, network, max_log_scale=max_log_scale)

        with seeded_init(seed):
            super().__init__((dim,), [coupling(index) for index in range(couplings)])

    @property
    def couplings(self) -> nn.ModuleList:
        """The couplings, from the data's side."""
        return self.layers
