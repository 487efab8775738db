r"""What every flow shares: a chain of invertible layers, and the change of variables.

Home chapter: 6, flows in depth.

A layer is a bijection with a known volume change. A chain f = f_K o ... o f_1 of layers is one too, and with z
drawn from N(0, I)

    log p(x) = log N(f(x); 0, I) + log |det df/dx|,    log |det df/dx| = sum_k log |det df_k/dx_k|.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from diffutils.process import draw_noise
from diffutils.validation import check_data, check_int, require


class Layer(Protocol):
    """One invertible layer: each direction returns its output and the log |det| of its own Jacobian, (B,)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]: ...


class Flow(nn.Module):
    """A chain of invertible layers from data to standard normal noise, with an exact density.

    Args:
        shape: shape of one example, without the batch axis. The noise is flat and has as many numbers.
        layers: the layers, from the data's side to the noise's.
    """

    def __init__(self, shape: Sequence[int], layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.shape = tuple(check_int("shape", size, 1) for size in shape)
        self.dim = math.prod(self.shape)
        # values per channel that the last layer sees of one example
        self.positions = 1
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data (B, *shape) to noise (B, dim); return it with log |det dz/dx| (B,). Other shapes are refused (ValueError)."""
        check_example_shape("x", x, self.shape)
        return run_forward(self.layers, x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise (B, dim) to data (B, *shape); return it with log |det dx/dz| (B,). Other shapes are refused (ValueError)."""
        check_example_shape("z", z, (self.dim,))
        return run_inverse(self.layers, z)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the exact log p(x) of each example (B,), in nats.

        Raises:
            ValueError: for data that is not finite or of the wrong shape.
        """
        self._check(x)
        z, log_det = self(x)
        return -0.5 * (z**2).sum(dim=1) - 0.5 * self.dim * math.log(2 * math.pi) + log_det

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return minus the mean log-likelihood of ``x`` (B, *shape), in nats per example; it draws nothing at random.

        In training mode the first call also lets the layers that start from data (``ActNorm``) see this batch.

        Raises:
            ValueError: for data that is not finite or of the wrong shape.
        """
        if self.training:
            self.start_from(x)
        return -self.log_prob(x).mean()

    def start_from(self, x: Tensor) -> None:
        """Set the layers that start from data by the batch ``x`` (B, *shape), unless that has been done before.

        Data as ``loss`` refuses them are refused here, and a batch with one value per channel too.
        """
        # every step comes here, and torch is slow to say that a layer lacks an attribute
        waiting = [layer for layer in self.modules() if "starting" in vars(layer) and not layer.started]
        if not waiting:
            return
        self._check(x)
        why = "with more than one value per channel, as ActNorm starts from their standard deviation"
        require(len(x) * self.positions > 1, "x.shape", tuple(x.shape), why)
        for layer in waiting:
            layer.starting = True
        try:
            with torch.no_grad():
                self(x)
        finally:
            for layer in waiting:
                layer.starting = False

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n examples (n, *shape): noise through the inverse, one pass of each layer.

        Raises:
            ValueError: for n below 1.
        """
        check_int("n", n, 1)
        like = next(self.parameters())
        return self.inverse(draw_noise(like.new_empty(n, self.dim), generator=generator))[0]

    def _check(self, x: Tensor) -> None:
        check_data("x", x, min_ndim=1)
        check_example_shape("x", x, self.shape)


def check_example_shape(argument: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless x is (B, *shape); every pass through a flow comes here."""
    if x.shape[1:] != shape:
        require(False, f"{argument}.shape", tuple(x.shape), f"(B, {', '.join(map(str, shape))})")


def run_forward(layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, Tensor]:
    """Pass x (B, ...) through the layers in order; return the result and the sum of the log-determinants (B,)."""
    log_det = x.new_zeros(len(x))
    for layer in layers:
        x, step = layer(x)
        log_det = log_det + step
    return x, log_det


def run_inverse(layers: Sequence[nn.Module], y: Tensor) -> tuple[Tensor, Tensor]:
    """Pass y (B, ...) back through the layers' inverses, last first; return as ``run_forward`` does."""
    log_det = y.new_zeros(len(y))
    for layer in reversed(layers):
        y, step = layer.inverse(y)
        log_det = log_det + step
    return y, log_det
