r"""Glow for images: squeeze, steps of flow, split, at several levels.

Home chapter: 6, flows in depth.

Each level first squeezes, (C, H, W) -> (4C, H/2, W/2): a reordering that turns space into channels. Then come steps of
actnorm, 1x1 convolution and a coupling whose network is convolutional. Then half of the channels leave as noise, and
the other half go on to the next level. Those that leave are first centred and scaled by what the staying half predicts
for them, so that they too should be standard normal:

    z_out = (x_out - m(x_stay)) exp(-s(x_stay)),    log |det J| = -sum s(x_stay).

Sources: Kingma and Dhariwal 2018 (arXiv:1807.03039), sections 2 and 3; multi-scale: Dinh, Sohl-Dickstein and Bengio
2017 (arXiv:1605.08803), section 3.6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffutils.models.flows.base import Flow, check_example_shape, run_forward, run_inverse
from diffutils.models.flows.coupling import AffineCoupling, leading
from diffutils.models.flows.glow import ActNorm, InvertibleLinear, start_at_zero
from diffutils.networks import seeded_init
from diffutils.validation import check_int, require


class Squeeze(nn.Module):
    """(B, C, H, W) -> (B, 4C, H/2, W/2): each 2x2 block of pixels becomes four channels; volume is preserved."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squeezed images and log |det| = 0 (B,)."""
        return nn.functional.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and log |det| = 0 (B,)."""
        return nn.functional.pixel_shuffle(y, 2), y.new_zeros(len(y))


class Level(nn.Module):
    """One level of Glow: squeeze, steps, and (but for the last level) half of the channels leave.

    Both directions speak of flat noise: forward ends with what left, (B, n), beside what goes on to deeper levels.

    Args:
        channels: of the images that come in.
        steps: steps of flow.
        last: True if nothing goes on.
        hidden: channels inside a coupling's network.
        max_log_scale: bound on |s| in one coupling.
    """

    def __init__(self, channels: int, *, steps: int, last: bool, hidden: int, max_log_scale: float) -> None:
        super().__init__()
        channels *= 4

        def coupling() -> AffineCoupling:
            kept = leading(channels)
            network = convolutional(channels // 2, channels, hidden)
            return AffineCoupling(kept, network, max_log_scale=max_log_scale)

        layers: list[nn.Module] = [Squeeze()]
        for _ in range(steps):
            layers += [ActNorm(channels), InvertibleLinear(channels), coupling()]
        if not last:
            # the affine coupling that standardises what leaves, given what stays
            layers.append(coupling())
        self.layers = nn.ModuleList(layers)
        self.last = last


class ImageGlow(Flow):
    """Multi-scale Glow for images.

    The noise is flat, (B, C H W): what left at the first level comes first.

    Args:
        shape: (C, H, W); H and W must be divisible by 2 ** levels.
        levels: how often the images are squeezed.
        steps: steps of flow in each level.
        hidden: channels inside a coupling's network.
        max_log_scale: bound on |s| in one coupling.
        seed: fixes the initial weights; None leaves them to torch's global generator.

    Raises:
        ValueError: for a size below its minimum, or a shape that cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 8, 8),
        *,
        levels: int = 2,
        steps: int = 3,
        hidden: int = 24,
        max_log_scale: float = 1.5,
        seed: int | None = 0,
    ) -> None:
        require(len(tuple(shape)) == 3, "shape", tuple(shape), "(channels, height, width)")
        channels, height, width = (check_int("shape", size, 1) for size in shape)
        check_int("levels", levels, 1)
        check_int("steps", steps, 1)
        check_int("hidden", hidden, 1)
        even = height % 2**levels == 0 and width % 2**levels == 0
        require(even, "shape", tuple(shape), f"a height and width divisible by {2**levels}, for {levels} levels")
        sizes = dict(steps=steps, hidden=hidden, max_log_scale=max_log_scale)
        with seeded_init(seed):
            chain = [Level(channels * 2**i, last=i == levels - 1, **sizes) for i in range(levels)]
            super().__init__((channels, height, width), chain)
        self.positions = height * width // 4**levels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, C, H, W) to noise (B, C H W); return it with log |det dz/dx| (B,)."""
        check_example_shape("x", x, self.shape)
        parts, total = [], x.new_zeros(len(x))
        for level in self.layers:
            x, log_det = run_forward(level.layers, x)
            total = total + log_det
            if not level.last:
                x, leaving = x.chunk(2, dim=1)
                parts.append(leaving.flatten(1))
        return torch.cat([*parts, x.flatten(1)], dim=1), total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise (B, C H W) to images (B, C, H, W); return them with log |det dx/dz| (B,)."""
        check_example_shape("z", z, (self.dim,))
        channels, height, width = self.shape
        # what leaves a level is half of what enters it, so the rest is halved each time
        sizes = [self.dim // 2 ** (i + 1) for i in range(len(self.layers) - 1)]
        *parts, rest = z.split([*sizes, self.dim - sum(sizes)], dim=1)
        depth = len(self.layers)
        x = rest.view(len(z), channels * 2 ** (depth + 1), height // 2**depth, width // 2**depth)
        total = z.new_zeros(len(z))
        for i, level in reversed(list(enumerate(self.layers))):
            if not level.last:
                x = torch.cat([x, parts[i].view_as(x)], dim=1)
            x, log_det = run_inverse(level.layers, x)
            total = total + log_det
        return x, total


def convolutional(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    """Return Glow's network of a coupling: 3x3, 1x1 and 3x3 convolutions, the last started at zero."""
    return start_at_zero(
        nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.SiLU(),
            nn.Conv2d(hidden, outputs, 3, padding=1),
        )
    )
