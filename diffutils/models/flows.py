r"""Normalizing flows (정규화 흐름): an invertible network with an exact density.

Home chapter: 1, overview of generative models.

A bijection f maps data x to noise z = f(x) of the same dimension, and with z ~ N(0, I) the density of x is

    log p(x) = log N(f(x); 0, I) + log |det J(x)|,    J = df/dx.

RealNVP (Dinh, Sohl-Dickstein and Bengio, 2017, equations 2, 3, 6 and 8) builds f of affine couplings. With x split into
(x_a, x_b), a coupling keeps x_a and moves x_b by an amount that depends on x_a only:

    y_a = x_a,    y_b = x_b * exp(s(x_a)) + t(x_a),        log |det J| = sum s(x_a),
    x_a = y_a,    x_b = (y_b - t(y_a)) * exp(-s(y_a)),

so it is inverted without inverting the networks s and t, and its Jacobian is triangular.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffutils.models.parts import fully_connected
from diffutils.networks import seeded_init
from diffutils.process import draw_noise
from diffutils.validation import check_data, check_float, check_int


class AffineCoupling(nn.Module):
    """One affine coupling: the coordinates where ``kept`` is True pass unchanged and decide what happens to the rest.

    Args:
        kept: (d,) boolean mask with at least one True and one False.
        hidden: width of the network that gives s and t.
        depth: its hidden layers.
        max_log_scale: |s| stays below this, so that a single coupling can neither explode nor collapse a point.
        fourier: sines and cosines of each kept coordinate that the network sees.
    """

    def __init__(self, kept: Tensor, *, hidden: int, depth: int, max_log_scale: float, fourier: int) -> None:
        super().__init__()
        self.max_log_scale = check_float("max_log_scale", max_log_scale, 0.0)
        self.register_buffer("kept_index", kept.nonzero().flatten())
        self.register_buffer("moved_index", (~kept).nonzero().flatten())
        moved = len(self.moved_index)
        self.network = fully_connected(
            len(self.kept_index), 2 * moved, hidden=hidden, depth=depth, fourier=fourier
        )

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(kept).chunk(2, dim=-1)
        return self.max_log_scale * torch.tanh(raw / self.max_log_scale), shift

    def _join(self, like: Tensor, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.empty_like(like).index_copy(1, self.kept_index, kept).index_copy(1, self.moved_index, moved)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (B, d) and log |det dy/dx| (B,)."""
        kept, moved = x[:, self.kept_index], x[:, self.moved_index]
        log_scale, shift = self._scale_and_shift(kept)
        return self._join(x, kept, moved * log_scale.exp() + shift), log_scale.sum(dim=-1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x (B, d) and log |det dx/dy| (B,)."""
        kept, moved = y[:, self.kept_index], y[:, self.moved_index]
        log_scale, shift = self._scale_and_shift(kept)
        return self._join(y, kept, (moved - shift) * (-log_scale).exp()), -log_scale.sum(dim=-1)


class RealNVP(nn.Module):
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
        super().__init__()
        self.dim = check_int("dim", dim, 2)
        check_int("couplings", couplings, 2)
        even = torch.arange(dim) % 2 == 0
        masks = (even if i % 2 == 0 else ~even for i in range(couplings))
        sizes = dict(hidden=hidden, depth=depth, max_log_scale=max_log_scale, fourier=fourier)
        with seeded_init(seed):
            self.couplings = nn.ModuleList(AffineCoupling(kept, **sizes) for kept in masks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data (B, d) to noise (B, d); return it with log |det dz/dx| (B,)."""
        log_det = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, step = coupling(x)
            log_det = log_det + step
        return x, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise (B, d) to data (B, d); return it with log |det dx/dz| (B,)."""
        log_det = z.new_zeros(len(z))
        for coupling in reversed(self.couplings):
            z, step = coupling.inverse(z)
            log_det = log_det + step
        return z, log_det

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the exact log p(x) of each example (B,), in nats.

        Raises:
            ValueError: for data that is not finite or of the wrong dimension.
        """
        check_data("x", x, dim=self.dim)
        z, log_det = self(x)
        return -0.5 * (z**2).sum(dim=-1) - 0.5 * self.dim * math.log(2 * math.pi) + log_det

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return minus the mean log-likelihood of ``x`` (B, d), in nats per example; it draws nothing at random."""
        return -self.log_prob(x).mean()

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n points (n, d): noise through the inverse, one pass of each coupling.

        Raises:
            ValueError: for n below 1.
        """
        check_int("n", n, 1)
        like = next(self.parameters())
        return self.inverse(draw_noise(like.new_empty(n, self.dim), generator=generator))[0]
