"""Networks that are told the time.

A diffusion model needs one function f(x_t, t) for every t, so that one set of weights serves all noise levels. The
time enters as sines and cosines of t at geometrically spaced frequencies,

    emb(t) = [sin(w_1 t), ..., sin(w_h t), cos(w_1 t), ..., cos(w_h t)],   w_j = max_period^(-(j-1)/h),

and shifts the hidden units of every residual block. Coordinates get the same treatment: a smooth network of x alone
is slow to learn sharp detail, and sines of x at several frequencies hand it the detail ready made.

Home chapter: the reverse process (chapters/05_reverse_process.md).
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from diffutils.device import seed_default_generators
from diffutils.validation import check_float, check_int, require

# There is one global generator for all threads; a network may be built inside the block of another.
_SEEDING = threading.RLock()


@contextlib.contextmanager
def seeded_init(seed: int | None) -> Iterator[None]:
    """Make the weights that are initialised inside the ``with`` block depend on ``seed`` alone.

    torch initialises layers from its global generator. Here that generator is seeded, used and put back, so that a
    network's weights do not depend on what ran before, nor what runs after on the network. With ``seed=None``
    nothing is touched and torch's global generator decides.
    """
    if seed is None:
        yield
        return
    with _SEEDING, torch.random.fork_rng(devices=[]):
        seed_default_generators(check_int("seed", seed, 0))
        yield


def time_embedding(t: Tensor, dim: int, *, max_period: float = 10_000.0) -> Tensor:
    """Return sines and cosines of the times at ``dim / 2`` geometrically spaced frequencies.

    Args:
        t: times of shape (B,), in steps; integers or floats.
        dim: number of features, even.
        max_period: the longest period is about 2 pi times this number of steps.

    Returns:
        A tensor of shape (B, dim): float32, or t's own dtype where that is a floating-point one.

    Raises:
        ValueError: if t is not one-dimensional, dim is not a positive even number, or max_period is not above 1.

    Source: Vaswani et al. 2017, section 3.5; used for diffusion times by Ho et al. 2020, appendix B.
    """
    require(isinstance(t, Tensor) and t.ndim == 1, "t", getattr(t, "shape", t), "a tensor of shape (B,)")
    require(check_int("dim", dim, 2) % 2 == 0, "dim", dim, "even")
    check_float("max_period", max_period, low=1.0)
    half = dim // 2
    dtype = t.dtype if t.is_floating_point() else torch.float32
    exponents = torch.arange(half, dtype=dtype, device=t.device) / half
    angles = t.to(dtype)[:, None] * torch.exp(-math.log(max_period) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class FourierFeatures(nn.Module):
    """Coordinates followed by their sines and cosines: x -> [x, sin(k w x), cos(k w x) for k = 1..count].

    Args:
        dim: number of coordinates d.
        count: number of frequencies per coordinate; 0 leaves x as it is.
        base: the lowest angular frequency w, in radians per unit of x.

    Shapes: (B, d) -> (B, d (1 + 2 count)), the length kept in ``out_dim``.

    Source: Tancik et al. 2020, section 4 (axis-aligned frequencies).
    """

    def __init__(self, dim: int, count: int, base: float) -> None:
        super().__init__()
        check_int("dim", dim, 1)
        check_int("count", count, 0)
        check_float("base", base, low=0.0)
        self.register_buffer("frequencies", base * torch.arange(1, count + 1, dtype=torch.float32), persistent=False)
        self.out_dim = dim * (1 + 2 * count)

    def forward(self, x: Tensor) -> Tensor:
        if self.frequencies.numel() == 0:
            return x
        angles = (x[:, :, None] * self.frequencies).flatten(1)
        return torch.cat([x, angles.sin(), angles.cos()], dim=1)


class ResidualBlock(nn.Module):
    """h -> h + W2 silu(W1 silu(h) + shift(time)), with W2 started at zero so that the block starts as the identity."""

    def __init__(self, width: int, time_width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.shift = nn.Linear(time_width, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        inner = self.inner(nn.functional.silu(h)) + self.shift(time)
        return h + self.outer(nn.functional.silu(inner))


class MLP(nn.Module):
    """A residual network for points that is told the time: (x_t, t) -> a vector, of x_t's shape unless told otherwise.

    The defaults are the book's recipe for two-dimensional point sets.

    Args:
        dim: number of coordinates d of a point.
        width: hidden units.
        depth: residual blocks.
        fourier: sines and cosines per coordinate (0 for none).
        fourier_base: their lowest angular frequency, in radians per unit of x.
        time_dim: features of the time embedding, even.
        outputs: numbers per point that come out; None is ``dim``. A denoiser that gives a variance too needs 2 dim.
        seed: fixes the initial weights, whatever ran before; None leaves them to torch's global generator. Two
            networks of one size and one seed start equal.

    Raises:
        ValueError: if a size is out of range; in ``forward``, if x is not (B, d) or t is neither an int nor (B,).
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int = 128,
        depth: int = 3,
        fourier: int = 6,
        fourier_base: float = 2.0,
        time_dim: int = 64,
        outputs: int | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.dim = check_int("dim", dim, 1)
        outputs = dim if outputs is None else check_int("outputs", outputs, 1)
        check_int("width", width, 1)
        check_int("depth", depth, 0)
        check_int("fourier", fourier, 0)
        check_float("fourier_base", fourier_base, low=0.0)
        self.time_dim = check_int("time_dim", time_dim, 2)
        require(time_dim % 2 == 0, "time_dim", time_dim, "even")
        with seeded_init(seed):
            self.features = FourierFeatures(dim, fourier, fourier_base)
            self.first = nn.Linear(self.features.out_dim, width)
            self.time = nn.Sequential(nn.Linear(time_dim, time_dim), nn.SiLU())
            self.blocks = nn.ModuleList(ResidualBlock(width, time_dim) for _ in range(depth))
            self.last = nn.Linear(width, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor | int) -> Tensor:
        """Return f(x, t) of shape (B, outputs) for points x (B, d) and one time for all (int) or one each (B,)."""
        require(x.ndim == 2 and x.shape[1] == self.dim, "x.shape", tuple(x.shape), f"(B, {self.dim})")
        time = self.time(time_embedding(times_for(t, x), self.time_dim).to(x.dtype))
        h = self.first(self.features(x))
        for block in self.blocks:
            h = block(h, time)
        return self.last(nn.functional.silu(h))


def times_for(t: Tensor | int, x: Tensor) -> Tensor:
    """Return t as a tensor on x's device: (B,) for one time per sample, (1,) where all samples share one.

    Raises:
        ValueError: if t is a tensor of another shape.
    """
    if not isinstance(t, Tensor):
        return torch.full((1,), check_int("t", t, 0), device=x.device)
    if t.ndim == 0:
        t = t[None]
    require(t.ndim == 1 and t.shape[0] in (1, x.shape[0]), "t.shape", tuple(t.shape), f"({x.shape[0]},), or an int")
    return t.to(x.device)
