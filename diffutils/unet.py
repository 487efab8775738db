"""A small U-Net for images (home chapter: 5, the reverse process).

The network looks at a noisy image at several resolutions. On the way down it halves the image and keeps what it has
seen; on the way up it doubles the image and reads what was kept beside it. Every residual block is told the time t by a
scale and a shift of its channels. With ``patch`` = 2 the network works on 2x2 patches of pixels instead of on single
pixels, a quarter of the positions: a resolution step that costs nothing, and most of the speed on a CPU.

Sources: Ronneberger et al. 2015 (arXiv:1505.04597) for the shape, Ho et al. 2020 (arXiv:2006.11239, appendix B) for the
time embedding, the residual blocks and the attention at low resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffutils.networks import seeded_init, time_embedding, times_for
from diffutils.validation import check_bool, check_float, check_int, require


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut; the time scales and shifts the channels between them.

    Shapes: x (B, in_channels, H, W), time (B or 1, time_dim) -> (B, out_channels, H, W). It starts as its shortcut,
    because its last convolution starts at zero.
    """

    def __init__(self, in_channels: int, out_channels: int, time_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_dim, 2 * out_channels)
        self.norm2, self.conv2 = _norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Apply the block."""
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        return self.shortcut(x) + self.conv2(self.dropout(h))


class Attention(nn.Module):
    """Self-attention over the H x W positions around a shortcut: (B, channels, H, W) -> the same shape.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), equation (1).
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        require(channels % heads == 0, "heads", heads, f"a divisor of the {channels} channels")
        self.heads, self.norm = heads, _norm(channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the attention."""
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, height * width)
        query, key, value = qkv.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        return x + self.out(mixed.reshape(x.shape))


class Stage(nn.Module):
    """The residual blocks of one resolution, given by their (in, out) channels, with attention where asked for."""

    def __init__(self, sizes: Sequence[tuple[int, int]], time_dim: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(i, o, time_dim, dropout) for i, o in sizes)
        self.attend = nn.ModuleList(Attention(o) if attention else nn.Identity() for _, o in sizes)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Apply the blocks in turn."""
        for block, attend in zip(self.blocks, self.attend):
            x = attend(block(x, time))
        return x


class UNet(nn.Module):
    """A time-conditioned U-Net: noisy images (B, channels, H, W) and times t -> (B, outputs, H, W).

    Args:
        channels: channels of the image.
        width: channels at the highest resolution, a multiple of 4.
        multipliers: factor on the width at each resolution; their number is the number of resolutions.
        blocks: residual blocks per resolution on each way; one more sits between the two ways.
        patch: side of the pixel patches the network works on; H and W must be multiples of
            ``patch * 2 ** (len(multipliers) - 1)``.
        attention: self-attention at the lowest resolution.
        time_dim: length of the time's features.
        outputs: channels that come out; None is ``channels``. A denoiser that gives a variance too needs twice as many.
        dropout: share of activations dropped in each block while training.
        seed: fixes the initial weights, whatever ran before; None leaves them to torch's global generator.

    Raises:
        ValueError: if a size is out of range, or at the call, if the images do not fit.
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        *,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        patch: int = 1,
        attention: bool = False,
        time_dim: int = 64,
        outputs: int | None = None,
        dropout: float = 0.0,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.channels, self.patch = check_int("channels", channels, 1), check_int("patch", patch, 1)
        check_int("blocks", blocks, 1)
        check_bool("attention", attention)
        check_float("dropout", dropout, 0.0, 0.999, inclusive=True)
        require(check_int("width", width, 4) % 4 == 0, "width", width, "a multiple of 4")
        require(check_int("time_dim", time_dim, 4) % 2 == 0, "time_dim", time_dim, "an even integer")
        require(len(multipliers) >= 1, "multipliers", multipliers, "a sequence of at least one integer")
        outputs = channels if outputs is None else check_int("outputs", outputs, 1)
        widths = [width * check_int("multipliers", m, 1) for m in multipliers]
        self.time_dim, self.multiple = time_dim, self.patch * 2 ** (len(widths) - 1)
        with seeded_init(seed):
            layers = [nn.Linear(time_dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim), nn.SiLU()]
            self.time = nn.Sequential(*layers)
            self.stem = nn.Conv2d(channels * patch**2, width, 3, padding=1)
            self._build_stages(widths, blocks, time_dim, dropout, attention)
            self.head = nn.Sequential(_norm(width), nn.SiLU(), nn.Conv2d(width, outputs * patch**2, 3, padding=1))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)
        # Channels last in memory: the same numbers, and about a third less time for convolutions on a CPU.
        self.to(memory_format=torch.channels_last)

    def _build_stages(self, widths: list[int], blocks: int, time_dim: int, dropout: float, attention: bool) -> None:
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            lowest = level == len(widths) - 1
            sizes = [(width, width)] * blocks
            self.down.append(Stage(sizes, time_dim, dropout, attention and lowest))
            self.up.append(Stage([(2 * width, width)] + sizes[1:], time_dim, dropout, attention and lowest))
            if not lowest:
                self.shrink.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
                self.grow.append(nn.Conv2d(widths[level + 1], width, 3, padding=1))
        self.middle = Stage([(widths[-1], widths[-1])], time_dim, dropout, attention)

    def forward(self, x: Tensor, t: int | Tensor) -> Tensor:
        """Return the prediction for images x at times t: an int for the batch, or a (B,) LongTensor."""
        self._check(x)
        time = self.time(time_embedding(times_for(t, x), self.time_dim).to(x.dtype))
        patches = F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last)
        h, kept = self.stem(patches), []
        for level, stage in enumerate(self.down):
            h = stage(self.shrink[level - 1](h) if level else h, time)
            kept.append(h)
        h = self.middle(h, time)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                h = self.grow[level](F.interpolate(h, scale_factor=2, mode="nearest"))
            h = self.up[level](torch.cat([h, kept[level]], dim=1), time)
        return F.pixel_shuffle(self.head(h), self.patch)

    def _check(self, x: Tensor) -> None:
        shape = tuple(x.shape)
        require(x.ndim == 4 and x.shape[1] == self.channels, "x.shape", shape, f"(B, {self.channels}, H, W)")
        fits = x.shape[2] % self.multiple == 0 and x.shape[3] % self.multiple == 0
        require(fits, "x.shape", shape, f"(B, {self.channels}, H, W) with H and W multiples of {self.multiple}")
