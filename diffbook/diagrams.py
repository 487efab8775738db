"""The two schematic figures of the article, drawn by code: the four families, and the Markov chain.

Home chapters: the overview (``four_families``) and the forward process (``markov_chain``).
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from diffbook.figures import DATA, EXACT, MODEL, NOISE, scatter
from diffutils.validation import check_data, require

_X, _Z = DATA, NOISE


def four_families() -> Figure:
    """Draw the article's Fig. 1: GAN, VAE, flow and diffusion, each as boxes of data, networks and latents."""
    fig, rows = plt.subplots(4, 1, figsize=(7.0, 5.6))
    for ax, draw in zip(rows, (_gan, _vae, _flow, _diffusion)):
        ax.set(xlim=(0, 10), ylim=(0, 2))
        ax.axis("off")
        draw(ax)
    return fig


def _gan(ax: Axes) -> None:
    _family(ax, "GAN")
    _box(ax, 2.6, "$x$", _X)
    _box(ax, 4.6, "$D(x)$", MODEL, wide=True)
    _box(ax, 7.2, "$G(z)$", MODEL, wide=True)
    _box(ax, 9.2, "$z$", _Z)
    _arrow(ax, 2.95, 3.95)
    _arrow(ax, 8.85, 7.85)
    _arrow(ax, 6.55, 5.25, label=r"$\hat{x}$")
    _arrow(ax, 4.6, 4.6, y=(0.62, 0.12))
    ax.text(4.78, 0.2, "0 / 1", fontsize=9, va="center")


def _vae(ax: Axes) -> None:
    _family(ax, "VAE")
    _box(ax, 2.6, "$x$", _X)
    _box(ax, 4.4, r"$q_\phi(z \mid x)$", MODEL, wide=True)
    _box(ax, 6.0, "$z$", _Z)
    _box(ax, 7.6, r"$p_\theta(x \mid z)$", MODEL, wide=True)
    _box(ax, 9.4, r"$\hat{x}$", _X)
    for start, end in ((2.95, 3.75), (5.05, 5.65), (6.35, 6.95), (8.25, 9.05)):
        _arrow(ax, start, end)


def _flow(ax: Axes) -> None:
    _family(ax, "Flow")
    _box(ax, 2.6, "$x$", _X)
    _box(ax, 4.4, "$f(x)$", EXACT, wide=True)
    _box(ax, 6.0, "$z$", _Z)
    _box(ax, 7.6, "$f^{-1}(z)$", EXACT, wide=True)
    _box(ax, 9.4, "$x$", _X)
    for start, end in ((2.95, 3.75), (5.05, 5.65), (6.35, 6.95), (8.25, 9.05)):
        _arrow(ax, start, end)


def _diffusion(ax: Axes) -> None:
    _family(ax, "Diffusion")
    places = (2.6, 4.3, 6.0, 7.7, 9.4)
    for place, label, color in zip(places, ("$x_0$", "$x_1$", "$x_2$", r"$\cdots$", "$x_T$"), (_X, _X, _Z, _Z, _Z)):
        _box(ax, place, label, color)
    for left, right in zip(places, places[1:]):
        _arrow(ax, left + 0.35, right - 0.35, y=(1.2, 1.2))
        _arrow(ax, right - 0.35, left + 0.35, y=(0.8, 0.8), color=MODEL, dashed=True)
    ax.text(3.45, 1.62, "$q$", ha="center")
    ax.text(3.45, 0.2, r"$p_\theta$", ha="center", color=MODEL)


def _family(ax: Axes, name: str) -> None:
    ax.text(0.0, 1.0, name, fontsize=12, weight="bold", va="center")


def _box(ax: Axes, x: float, label: str, color: str, *, wide: bool = False) -> None:
    half = 0.65 if wide else 0.35
    ax.add_patch(
        FancyBboxPatch((x - half, 0.62), 2 * half, 0.76, boxstyle="round,pad=0,rounding_size=0.12", fc=color + "22", ec=color)
    )
    ax.text(x, 1.0, label, ha="center", va="center", fontsize=12)


def _arrow(
    ax: Axes,
    start: float,
    end: float,
    *,
    y: tuple[float, float] = (1.0, 1.0),
    color: str = "#333333",
    dashed: bool = False,
    label: str | None = None,
) -> None:
    line = "--" if dashed else "-"
    arrow = FancyArrowPatch(
        (start, y[0]), (end, y[1]), arrowstyle="-|>", mutation_scale=11, color=color, linestyle=line, shrinkA=1, shrinkB=1
    )
    ax.add_patch(arrow)
    if label:
        ax.text((start + end) / 2, y[0] + 0.3, label, ha="center")


def markov_chain(clouds: Sequence[Tensor], labels: Sequence[str], *, limit: float = 2.7) -> Figure:
    """Draw the article's Fig. 2: the Markov chain, with its forward and its reverse arrows, over real samples.

    Args:
        clouds: point clouds of shape (N, 2), from the data x_0 to the noise x_T.
        labels: the symbol of each, "x_0", "x_{t-1}", "x_t" or "x_T" say, without dollar signs.
        limit: half the side of each square panel.

    Raises:
        ValueError: if there are fewer than two clouds, or not one label for each.
    """
    count = len(clouds)
    require(count >= 2, "clouds", count, "a sequence of at least 2 point clouds")
    require(len(labels) == count, "labels", len(labels), f"a sequence of {count} labels, one for each cloud")
    for cloud in clouds:
        check_data("clouds", cloud, dim=2)
    width, panel = 7.2, 0.72
    gap = (1.0 - panel) / max(count - 1, 1)
    fig = plt.figure(figsize=(width, width * panel / count + 1.3), layout="none")
    height = fig.get_figheight()
    side = panel * width / count
    canvas = fig.add_axes((0, 0, 1, 1))
    canvas.set(xlim=(0, width), ylim=(0, height))
    canvas.axis("off")
    middle = height / 2
    for index, (cloud, label) in enumerate(zip(clouds, labels)):
        left = index * (side + gap * width)
        ax = fig.add_axes((left / width + 0.002, (middle - side / 2) / height, side / width - 0.004, side / height))
        color = NOISE if index == count - 1 else DATA
        scatter(ax, cloud, color=color, limit=limit, size=1.2)
        canvas.text(left + side / 2, middle - side / 2 - 0.18, f"${label}$", ha="center", va="top", fontsize=12)
        if index:
            _link(canvas, left - gap * width, left, middle)
    canvas.text(width / 2, height - 0.05, r"$q(x_t \mid x_{t-1})\ \longrightarrow$", ha="center", va="top", fontsize=12)
    canvas.text(
        width / 2, 0.05, r"$\longleftarrow\ p_\theta(x_{t-1} \mid x_t)$", ha="center", fontsize=12, color=MODEL
    )
    return fig


def _link(canvas: Axes, start: float, end: float, middle: float) -> None:
    _arrow(canvas, start + 0.03, end - 0.03, y=(middle + 0.14, middle + 0.14))
    _arrow(canvas, end - 0.03, start + 0.03, y=(middle - 0.14, middle - 0.14), color=MODEL, dashed=True)
