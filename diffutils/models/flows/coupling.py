r"""Coupling layers: a part of the vector stays, and decides what happens to the rest.

Home chapter: 6, flows in depth.

With x split into (x_a, x_b), a coupling keeps x_a and moves x_b by an amount that depends on x_a only:

    additive:  y_b = x_b + t(x_a),                    log |det J| = 0              (NICE)
    affine:    y_b = x_b * exp(s(x_a)) + t(x_a),      log |det J| = sum s(x_a)     (RealNVP, Glow)

so the inverse needs no inverse of the networks s and t, and the Jacobian is triangular.

Sources: Dinh, Krueger and Bengio 2015 (arXiv:1410.8516), section 3.2; Dinh, Sohl-Dickstein and Bengio 2017
(arXiv:1605.08803), equations 4, 5, 6 and 8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffutils.validation import check_float, require


class Coupling(nn.Module):
    """What both couplings share: the split along axis 1 of (B, d) or (B, C, H, W), and its undoing.

    Args:
        kept: (d,) boolean mask with at least one True and one False.
        network: (B, kept, ...) -> (B, parts x moved, ...), what the kept coordinates say about the moved ones.
    """

    def __init__(self, kept: Tensor, network: nn.Module) -> None:
        super().__init__()
        require(kept.ndim == 1 and kept.dtype == torch.bool, "kept", kept, "a boolean mask of shape (d,)")
        require(bool(kept.any()) and not bool(kept.all()), "kept", kept.tolist(), "a mask with a True and a False")
        order = torch.cat([kept.nonzero().flatten(), (~kept).nonzero().flatten()])
        self.sizes = (int(kept.sum()), int((~kept).sum()))
        # which coordinates come first, and how to put them back: identity orders cost nothing
        self.sorted = bool((order == torch.arange(len(order))).all())
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("place", order.argsort(), persistent=False)
        self.network = network

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coordinates that stay and those that move."""
        return (x if self.sorted else x[:, self.order]).split(self.sizes, dim=1)

    def join(self, kept: Tensor, moved: Tensor) -> Tensor:
        """Undo ``split``."""
        x = torch.cat([kept, moved], dim=1)
        return x if self.sorted else x[:, self.place]


class AdditiveCoupling(Coupling):
    """y_b = x_b + t(x_a): it preserves volume. See ``Coupling``."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y of x's shape and log |det dy/dx| = 0 for each example (B,)."""
        kept, moved = self.split(x)
        return self.join(kept, moved + self.network(kept)), x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x of y's shape and log |det dx/dy| = 0 for each example (B,)."""
        kept, moved = self.split(y)
        return self.join(kept, moved - self.network(kept)), y.new_zeros(len(y))


class AffineCoupling(Coupling):
    """y_b = x_b exp(s(x_a)) + t(x_a).

    Args:
        kept: as in ``Coupling``.
        network: gives s and then t, so twice as many outputs as coordinates that move.
        max_log_scale: |s| stays below this, so that a single coupling can neither explode nor collapse a point.
    """

    def __init__(self, kept: Tensor, network: nn.Module, *, max_log_scale: float) -> None:
        super().__init__(kept, network)
        self.max_log_scale = check_float("max_log_scale", max_log_scale, 0.0)

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(kept).chunk(2, dim=1)
        return self.max_log_scale * torch.tanh(raw / self.max_log_scale), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y of x's shape and log |det dy/dx| (B,)."""
        kept, moved = self.split(x)
        log_scale, shift = self._scale_and_shift(kept)
        return self.join(kept, moved * log_scale.exp() + shift), log_scale.flatten(1).sum(dim=1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x of y's shape and log |det dx/dy| (B,)."""
        kept, moved = self.split(y)
        log_scale, shift = self._scale_and_shift(kept)
        return self.join(kept, (moved - shift) * (-log_scale).exp()), -log_scale.flatten(1).sum(dim=1)


def alternating(dim: int, index: int) -> Tensor:
    """Return the mask of coupling number ``index`` (from 0): it keeps the even coordinates, the next one the odd."""
    return torch.arange(dim) % 2 == index % 2


def leading(dim: int) -> Tensor:
    """Return the mask that keeps the first half, rounded up, of ``dim`` coordinates."""
    return torch.arange(dim) < (dim + 1) // 2
