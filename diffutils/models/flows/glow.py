r"""Glow's own layers, and Glow for points.

Home chapter: 6, flows in depth.

One step of Glow is an actnorm, an invertible linear map of the channels, and an affine coupling:

    actnorm:        y = exp(s) * (x - m),      log |det J| = h w sum s
    1x1 convolution: y = W x at each position, log |det J| = h w log |det W|

with one s and m per channel and h w positions of the image (1 for points). Any determinant of a d x d matrix costs
d^3 operations, but with P a fixed permutation, L unit lower triangular, U strictly upper triangular and s a vector,

    W = P L (U + diag(s)),    log |det W| = sum log |s|,

costs d (Kingma and Dhariwal, 2018, arXiv:1807.03039, table 1 and equations 10 and 11).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffutils.models.flows.base import Flow
from diffutils.models.flows.coupling import AffineCoupling, leading
from diffutils.models.parts import fully_connected
from diffutils.networks import seeded_init
from diffutils.validation import check_int

# Channels that are constant in the first batch would otherwise be divided by zero.
_LEAST_STD = 1e-3


class ActNorm(nn.Module):
    """One shift and one scale per channel, set by the first batch so that its output has mean 0 and variance 1 there.

    From then on both are ordinary parameters. ``Flow.loss`` shows it that batch, in training mode; calls of the layer
    itself never change it. That it has been set is part of the state_dict.

    Args:
        channels: length of axis 1 of its input, (B, C) or (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(check_int("channels", channels, 1)))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("started", torch.tensor(False, device="cpu"))
        self.starting = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y of x's shape and log |det dy/dx| (B,)."""
        if self.starting:
            self._start(x)
        scale, shift = per_channel(self.log_scale.exp(), x), per_channel(self.shift, x)
        return (x - shift) * scale, (positions(x) * self.log_scale.sum()).expand(len(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x of y's shape and log |det dx/dy| (B,)."""
        scale, shift = per_channel((-self.log_scale).exp(), y), per_channel(self.shift, y)
        return y * scale + shift, (-positions(y) * self.log_scale.sum()).expand(len(y))

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        flat = x.transpose(0, 1).flatten(1)
        std, mean = torch.std_mean(flat, dim=1, correction=0)
        self.shift.copy_(mean)
        self.log_scale.copy_(-std.clamp_min(_LEAST_STD).log())
        self.started.fill_(True)

    def _apply(self, fn: Callable, recurse: bool = True) -> ActNorm:
        # Every step asks whether it has started: the answer stays on the processor, which would have to wait for a GPU's.
        started = self.started
        super()._apply(fn, recurse)
        self.started = started
        return self


class InvertibleLinear(nn.Module):
    """y = W x along axis 1 with W = P L (U + diag(s)): Glow's 1x1 convolution. It starts as a random rotation.

    P and the signs of s stay as they are drawn, so W can never become singular; L, U and log |s| are learned.

    Args:
        channels: length of axis 1 of its input, (B, C) or (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int("channels", channels, 1)
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal, dtype = upper.diagonal(), torch.get_default_dtype()
        self.register_buffer("permutation", permutation.to(dtype))
        self.register_buffer("identity", torch.eye(channels), persistent=False)
        self.register_buffer("sign", diagonal.sign().to(dtype))
        self.log_scale = nn.Parameter(diagonal.abs().log().to(dtype))
        self.lower = nn.Parameter(lower.tril(-1).to(dtype))
        self.upper = nn.Parameter(upper.triu(1).to(dtype))

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return P, L with its unit diagonal, and U + diag(s), each (C, C)."""
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_scale.exp())
        return self.permutation, self.lower.tril(-1) + self.identity, upper

    def weight(self) -> Tensor:
        """Return the dense matrix W (C, C)."""
        permutation, lower, upper = self.factors()
        return permutation @ lower @ upper

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y of x's shape and log |det dy/dx| (B,)."""
        weight = self.weight()
        y = x @ weight.mT if x.ndim == 2 else (weight @ x.flatten(2)).view_as(x)
        return y, (positions(x) * self.log_scale.sum()).expand(len(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x of y's shape and log |det dx/dy| (B,): two triangular systems, no inverse matrix."""
        permutation, lower, upper = self.factors()
        columns = permutation.mT @ y.transpose(0, 1).flatten(1)
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        x = columns.unflatten(1, (len(y), *y.shape[2:])).transpose(0, 1)
        return x, (-positions(y) * self.log_scale.sum()).expand(len(y))


class Glow(Flow):
    """Glow for points: steps of actnorm, invertible linear map and affine coupling.

    The linear map is learned, so every coupling keeps the first half of the coordinates. Each coupling starts as the
    identity.

    Args:
        dim: numbers per data point, at least 2; the noise has as many.
        steps: how many steps are stacked.
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
        steps: int = 8,
        hidden: int = 64,
        depth: int = 2,
        max_log_scale: float = 1.5,
        fourier: int = 2,
        seed: int | None = 0,
    ) -> None:
        check_int("dim", dim, 2)
        check_int("steps", steps, 1)
        kept = leading(dim)
        stay, move = int(kept.sum()), int((~kept).sum())

        def step() -> list[nn.Module]:
            network = start_at_zero(fully_connected(stay, 2 * move, hidden=hidden, depth=depth, fourier=fourier))
            coupling = AffineCoupling(kept, network, max_log_scale=max_log_scale)
            return [ActNorm(dim), InvertibleLinear(dim), coupling]

        with seeded_init(seed):
            super().__init__((dim,), [layer for _ in range(steps) for layer in step()])


def start_at_zero(network: nn.Sequential) -> nn.Sequential:
    """Set the last layer to zero: a coupling then starts as the identity."""
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    return network


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Return values (C,) shaped to broadcast over (B, C) or (B, C, H, W)."""
    return values.view(-1, *[1] * (like.ndim - 2))


def positions(x: Tensor) -> int:
    """Return how many positions share the channels of axis 1: H W for images, 1 for points."""
    return x[0, 0].numel()
