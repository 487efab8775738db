"""Draws the picture of the landing page and writes it where the page finds it: points on their way from data to noise.

    python tools/front_picture.py
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from diffbook.figures import DATA, NOISE
from diffutils.datasets import swiss_roll
from diffutils.device import make_generator
from diffutils.process import diffuse
from diffutils.schedule import Schedule

PICTURE = Path(__file__).resolve().parent.parent / "pages" / "images" / "front.webp"
POINTS, TIMES = 900, (0, 40, 100, 200, 400, 1000)


def draw() -> bytes:
    """Return the picture as lossless WebP on a transparent ground, for pages of either theme."""
    x0, schedule = swiss_roll(POINTS, seed=0), Schedule.linear(1000)
    noise = torch.randn(x0.shape, generator=make_generator(0))
    fig, axes = plt.subplots(1, len(TIMES), figsize=(9, 1.5), gridspec_kw={"wspace": 0.05})
    for ax, t in zip(axes, TIMES):
        x_t = diffuse(schedule, x0, t, noise=noise)
        left = float(schedule.alpha_bar[t]) ** 0.5
        colour = left * np.array(to_rgb(DATA)) + (1 - left) * np.array(to_rgb(NOISE))
        ax.scatter(*x_t.T, s=1.5, color=colour, linewidths=0)
        ax.set(xlim=(-2.8, 2.8), ylim=(-2.8, 2.8), aspect="equal")
        ax.axis("off")
    png, webp = io.BytesIO(), io.BytesIO()
    fig.savefig(png, dpi=150, transparent=True, bbox_inches="tight", pad_inches=0)
    plt.close(fig)
    Image.open(png).save(webp, "WEBP", lossless=True, quality=100, method=6)
    return webp.getvalue()


if __name__ == "__main__":
    PICTURE.write_bytes(draw())
