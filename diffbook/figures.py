"""One look for every figure of the book, and alternative text for each.

A figure is shown with ``show(fig, alt)``; the text says what the figure shows to a reader who cannot see it. Colours
are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which stay distinct for colour-blind readers; each has a
fixed meaning through the book (``DATA``, ``NOISE``, ``MODEL``, ``EXACT``).

``diffbook.diagrams`` draws the two schematic figures of the article.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Protocol

import matplotlib.pyplot as plt
import torch
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from torch import Tensor

from diffbook.dark import building, picture
from diffutils.validation import check_data, check_int, require

DATA = "#0072B2"
NOISE = "#666666"
MODEL = "#D55E00"
EXACT = "#009E73"
PALETTE = (DATA, MODEL, EXACT, "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_DPI = 100
_ZOOM = 2  # pictures hold twice the pixels they are shown at, so that they stay sharp on dense screens

_STYLE = {
    "figure.dpi": _DPI,
    "figure.figsize": (6.4, 3.4),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "axes.prop_cycle": plt.cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "font.size": 11,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "image.cmap": "viridis",
}


class HasLogProb(Protocol):
    """Anything with a log-density: ``log_prob(x)`` takes (B, 2) and returns (B,)."""

    def log_prob(self, x: Tensor) -> Tensor: ...


def use_style() -> None:
    """Apply the book's style to every figure drawn from now on."""
    plt.rcParams.update(_STYLE)


def show(fig: Figure, alt: str) -> None:
    """Display a figure with its alternative text, then close it.

    While the book is built, the figure's dark twin (``diffbook.dark``) travels along in the output's metadata.

    Args:
        fig: the figure.
        alt: what the figure shows, in at least 30 characters: axes, curves, what one sees.

    Raises:
        ValueError: if ``alt`` is shorter than that.
    """
    require(isinstance(alt, str) and len(alt) >= 30, "alt", alt, "a description of at least 30 characters")
    data = picture(fig, dpi=_DPI * _ZOOM)
    metadata = {"dark": _base64(picture(fig, dpi=_DPI * _ZOOM, dark=True))} if building() else None
    width = round(fig.get_figwidth() * _DPI)
    plt.close(fig)
    display(Image(data=data, format="png", width=width, alt=alt, metadata=metadata))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def scatter(ax: Axes, points: Tensor, *, color: str = DATA, limit: float | None = 2.5, size: float = 2.0) -> None:
    """Draw points of shape (N, 2) on square axes from -limit to limit (None leaves the axes as they are)."""
    check_data("points", points, dim=2)
    x, y = points.detach().float().cpu().numpy().T
    ax.scatter(x, y, s=size, c=color, alpha=0.5, linewidths=0, rasterized=True)
    _square(ax, limit)


def density(ax: Axes, distribution: HasLogProb, *, limit: float = 2.5, resolution: int = 200) -> None:
    """Shade exp(log_prob) of a distribution over the square from -limit to limit."""
    check_int("resolution", resolution, 2)
    axis = torch.linspace(-limit, limit, resolution)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    values = distribution.log_prob(grid).exp().reshape(resolution, resolution)
    extent = (-limit, limit, -limit, limit)
    ax.imshow(values.detach().cpu().numpy(), origin="lower", extent=extent, cmap="Blues", interpolation="bilinear")
    _square(ax, limit)


def _square(ax: Axes, limit: float | None) -> None:
    ax.set_aspect("equal")
    ax.set(xticks=[], yticks=[])
    if limit is not None:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    for spine in ax.spines.values():
        spine.set(visible=True, color="#BBBBBB")


def panels(count: int, *, columns: int | None = None, width: float = 7.2) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``count`` square panels in rows of ``columns`` (all in one row by default)."""
    count = check_int("count", count, 1)
    columns = count if columns is None else check_int("columns", columns, 1)
    rows = math.ceil(count / columns)
    side = width / columns
    fig, axes = plt.subplots(rows, columns, figsize=(width, side * rows + 0.3 * rows), squeeze=False)
    flat = list(axes.flat)
    for unused in flat[count:]:
        unused.remove()
    return fig, flat[:count]


def image_grid(
    images: Tensor,
    *,
    columns: int = 10,
    titles: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    width: float = 6.4,
) -> Figure:
    """Return a figure of grey images.

    Args:
        images: (N, 1, H, W) with values in [-1, 1]; values outside are clipped for display.
        columns: images in a row.
        titles: one short text for each image, drawn above it.
        rows: one short text for each row, drawn at its left; it may have two lines.
        width: of the figure, in inches.
    """
    check_data("images", images, min_ndim=4)
    require(images.shape[1] == 1, "images.shape", tuple(images.shape), "(N, 1, H, W): grey images")
    count = len(images)
    require(titles is None or len(titles) == count, "titles", titles, f"None or {count} texts, one for each image")
    columns = min(check_int("columns", columns, 1), count)
    count_rows = math.ceil(count / columns)
    require(rows is None or len(rows) == count_rows, "rows", rows, f"None or {count_rows} texts, one for each row")
    lines = [line for text in rows or () for line in text.split("\n")]
    words = max((TextPath((0, 0), line, size=10).get_extents().width / 72 for line in lines), default=0)
    left = (0.15 + words) / width if rows else 0.005
    height = width * (1.0 - left) * count_rows / columns * (1.25 if titles else 1.0)
    fig, axes = plt.subplots(count_rows, columns, figsize=(width, height), squeeze=False, layout="none")
    fig.subplots_adjust(left=left, right=0.995, bottom=0.005, top=0.9 if titles else 0.995, wspace=0.06, hspace=0.06)
    for index, ax in enumerate(axes.flat):
        ax.axis("off")
        if index < count:
            ax.imshow(images[index, 0].detach().float().cpu().clamp(-1, 1).numpy(), cmap="gray", vmin=-1, vmax=1)
            if titles:
                ax.set_title(titles[index], fontsize=9, pad=3)
        if rows and index % columns == 0:
            place = dict(xycoords="axes fraction", textcoords="offset points", ha="right", va="center")
            ax.annotate(rows[index // columns], (0, 0.5), (-5, 0), fontsize=10, **place)
    return fig
