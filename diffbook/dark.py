"""The same figure for readers who read light on dark.

A colour keeps its meaning: only greys change, from black on white to light on nearly black, in the order they had. What
a colour map paints (a picture) stays as it is, and so does the ground that shines through it. But a map that begins at
white and darkens (a density in blues) is turned over: it begins at the ground of the page and becomes light.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgba, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from PIL import Image

GROUND, INK = 0x12 / 255, 0.87  # what white and black become: the ground of the book's dark pages, and its letters
_GREY = 0.04  # the largest difference of a grey's red, green and blue


def building() -> bool:
    """Return whether the book is being built (``DIFFUTILS_STATIC=1``): only its pages hold every picture twice."""
    return os.environ.get("DIFFUTILS_STATIC") == "1"


def darken(fig: Figure) -> None:
    """Recolour a figure in place, to be saved or shown once more; it must have been drawn before."""
    grounds = [axes.patch for axes in fig.axes if any(map(_shines_through, axes.get_children()))]
    for artist in fig.findobj():
        if artist not in grounds:
            _recolour(artist)


def picture(fig: Figure, *, dpi: float, dark: bool = False) -> bytes:
    """Return the figure as PNG; with ``dark`` it is recoloured first, and stays so; save the light twin before."""
    if dark:
        darken(fig)
        # Everything stays where it was put for the light twin: once a figure has been saved, matplotlib (3.11) lays it
        # out anew by its settings, even one that asked for no layout.
        fig.set_layout_engine("none")
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=dpi)
    return png.getvalue()


def as_webp(png: bytes) -> bytes:
    """Return a PNG as lossless WebP, which weighs less than half as much."""
    webp = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(webp, "WEBP", lossless=True, quality=100, method=4)
    return webp.getvalue()


def _shines_through(artist: Artist) -> bool:
    """Whether a colour map that stays paints the artist, and its ground can be seen through it."""
    return _is_mapped(artist) and not _darkens(artist.get_cmap()) and (artist.get_alpha() or 1) < 1


def _is_mapped(artist: Artist) -> bool:
    return isinstance(artist, ScalarMappable) and artist.get_array() is not None


def _darkens(colours: Colormap) -> bool:
    """Whether a colour map is tinted, begins at white and ends dark; a picture's greys keep what is bright bright."""
    first, last = colours([0.0, 1.0])[:, :3]
    return bool(first.min() > 0.9 and last.mean() < 0.5 and np.ptp(last) > _GREY)


def _turned_over(colours: Colormap) -> Colormap:
    """Return a map of the same tint that begins at the ground and becomes light."""
    return LinearSegmentedColormap.from_list(f"{colours.name}_turned", [(GROUND,) * 3, *colours([0.85, 0.55, 0.2])])


def _recolour(artist: Artist) -> None:
    if _is_mapped(artist):
        if _darkens(artist.get_cmap()):
            artist.set_cmap(_turned_over(artist.get_cmap()))
    elif isinstance(artist, Text):
        _turn(artist.get_color, artist.set_color)
        # A text's box and an annotation's arrow are no children of theirs.
        for patch in filter(None, (artist.get_bbox_patch(), getattr(artist, "arrow_patch", None))):
            _recolour(patch)
    elif isinstance(artist, Line2D):
        # First the markers: they ask the line where they have no colour of their own.
        _turn(artist.get_markerfacecolor, artist.set_markerfacecolor)
        _turn(artist.get_markeredgecolor, artist.set_markeredgecolor)
        _turn(artist.get_color, artist.set_color)
    elif isinstance(artist, Patch):
        _turn(artist.get_facecolor, artist.set_facecolor)
        _turn(artist.get_edgecolor, artist.set_edgecolor)
    elif isinstance(artist, Collection):
        artist.set_facecolor([_turned(colour) for colour in to_rgba_array(artist.get_facecolor())])
        artist.set_edgecolor([_turned(colour) for colour in to_rgba_array(artist.get_edgecolor())])


def _turn(get: Callable[[], Any], set_: Callable[[Any], None]) -> None:
    colour = get()
    if isinstance(colour, str) and colour == "auto":
        return
    *_, alpha = rgba = to_rgba(colour)
    if alpha > 0:  # to set an invisible colour would show it where the artist has an alpha of its own
        set_(_turned(rgba))


def _turned(colour: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    *rgb, alpha = colour
    if max(rgb) - min(rgb) > _GREY:
        return (*rgb, alpha)
    grey = INK + (GROUND - INK) * sum(rgb) / 3
    return (grey, grey, grey, alpha)
