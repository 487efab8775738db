"""A figure's dark twin: greys turn, colours and painted pictures stay, densities rise from the dark."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from diffbook import dark, figures


@pytest.fixture
def fig():
    """A figure with a line, letters, bars, points, an arrow, a box and a painted square."""
    figure, axes = plt.subplots(1, 2)
    left, right = axes
    left.plot([0, 1], [0, 1], color="black", marker="o", label="a")
    left.plot([0, 1], [1, 0], color=figures.MODEL)
    left.bar([0.5], [0.2], color="white", edgecolor="0.5")
    left.scatter([0.1, 0.2], [0.3, 0.3], c=["black", figures.DATA])
    left.annotate("word", (0.5, 0.5), (0.1, 0.9), arrowprops={"arrowstyle": "->"}, bbox={"facecolor": "white"})
    left.legend(frameon=True)
    right.imshow([[0.0, 1.0]], cmap="gray")
    right.scatter([0], [0], c=[0.5], cmap="gray")
    yield figure
    plt.close(figure)


def shades(colours) -> list[str]:
    return [to_hex(colour) for colour in np.atleast_2d(colours)]


GROUND, INK = to_hex([dark.GROUND] * 3), to_hex([dark.INK] * 3)


def test_black_becomes_light_and_white_becomes_the_ground(fig):
    dark.darken(fig)
    left = fig.axes[0]
    black, orange = left.lines
    assert to_hex(black.get_color()) == to_hex(black.get_markerfacecolor()) == to_hex(black.get_markeredgecolor()) == INK
    assert to_hex(orange.get_color()) == figures.MODEL.lower()
    assert to_hex(left.patches[0].get_facecolor()) == to_hex(fig.get_facecolor()) == to_hex(left.get_facecolor()) == GROUND
    assert shades(left.collections[0].get_facecolor()) == [INK, figures.DATA.lower()]
    word = left.texts[0]
    assert to_hex(word.get_color()) == to_hex(word.arrow_patch.get_edgecolor()) == INK
    assert to_hex(word.get_bbox_patch().get_facecolor()) == GROUND
    assert {to_hex(text.get_color()) for text in left.get_legend().get_texts()} == {INK}
    assert {to_hex(label.get_color()) for label in left.get_xticklabels()} == {INK}
    assert {to_hex(spine.get_edgecolor()) for spine in left.spines.values()} == {INK}


def test_greys_keep_their_order_and_what_is_see_through_stays_so(fig):
    line = fig.axes[0].axhline(0.5, color=(0.25, 0.25, 0.25, 0.5))
    dark.darken(fig)
    quarter, half = line.get_color(), fig.axes[0].patches[0].get_edgecolor()
    assert dark.INK > quarter[0] > half[0] > dark.GROUND
    assert quarter[3] == 0.5


def test_what_a_colour_map_paints_stays(fig):
    right = fig.axes[1]
    before = right.images[0].make_image(fig.canvas.get_renderer())[0].copy()
    dark.darken(fig)
    assert (right.images[0].make_image(fig.canvas.get_renderer())[0] == before).all()
    assert right.collections[0].get_array() is not None


def test_the_ground_under_what_a_colour_map_paints_half_through_stays():
    figure, axes = plt.subplots(1, 3)
    axes[0].contourf([[0.0, 1.0], [2.0, 3.0]], cmap="viridis", alpha=0.5)
    axes[1].imshow([[0.0, 1.0]], cmap="viridis")
    axes[2].scatter([0.0], [0.0], color=figures.DATA, alpha=0.5)
    dark.darken(figure)
    assert [to_hex(ax.get_facecolor()) for ax in axes] == ["#ffffff", GROUND, GROUND]
    plt.close(figure)


def test_bars_without_edges_get_none_in_the_dark():
    figure, axes = plt.subplots()
    bars = axes.hist([0.1, 0.2, 0.9], color=figures.DATA, alpha=0.35)[2]
    dark.darken(figure)
    assert {bar.get_edgecolor()[3] for bar in bars} == {0}
    plt.close(figure)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_density_in_blues_rises_from_the_ground_in_the_dark(alpha):
    figure, (left, right) = plt.subplots(1, 2)
    image = left.imshow([[0.0, 0.25, 0.5, 0.75, 1.0]], cmap="Blues", alpha=alpha)
    bands = right.contourf([[0.0, 1.0], [2.0, 3.0]], cmap="Blues", alpha=alpha)
    figure.canvas.draw()
    dark.darken(figure)
    figure.canvas.draw()
    assert to_hex(left.get_facecolor()) == to_hex(right.get_facecolor()) == GROUND
    assert to_hex(image.to_rgba(0.0)) == GROUND
    for colours in (image.to_rgba([0.0, 0.25, 0.5, 0.75, 1.0]), bands.get_facecolor()):
        brightness = colours[:, :3].mean(1)
        assert (np.diff(brightness) > 0).all() and brightness[-1] > 0.75
        assert (colours[1:, 2] > colours[1:, 0] + 0.05).all(), "blue stays blue"
    assert bands.get_facecolor()[0, 3] == alpha
    plt.close(figure)


def test_the_saved_picture_is_dark_and_of_one_size_with_the_light_one(fig):
    light, night = (Image.open(io.BytesIO(dark.picture(fig, dpi=50, dark=is_dark))) for is_dark in (False, True))
    assert light.size == night.size
    assert light.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
    assert night.convert("RGB").getpixel((1, 1)) == (18, 18, 18)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layout", ["none", "constrained"])
def test_everything_stands_where_it_stood_in_the_light(layout):
    with plt.rc_context({"figure.constrained_layout.use": True}):
        figure = plt.figure(layout=layout)
        left = figure.add_axes((0, 0, 0.4, 0.3)) if layout == "none" else figure.subplots()
        left.set(xlabel="a long name", ylabel="another")
        dark.picture(figure, dpi=50)
        before = left.get_position().bounds
        dark.picture(figure, dpi=50, dark=True)
    assert left.get_position().bounds == before
    plt.close(figure)


def test_webp_keeps_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(dark.as_webp(png.getvalue())))), pixels)


@pytest.mark.parametrize("colour", (*figures.PALETTE, figures.NOISE))
def test_colours_stand_out_from_both_grounds(colour):
    """A ratio of 3 is asked of what is drawn (WCAG 2.2, 1.4.11); two light colours of the palette have it in the dark only."""

    def luminance(rgb) -> float:
        linear = np.where(np.array(rgb) <= 0.04045, np.array(rgb) / 12.92, ((np.array(rgb) + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    figure = plt.figure()
    line = figure.add_artist(plt.Line2D([0, 1], [0, 1], color=colour))
    dark.darken(figure)
    assert (luminance(plt.matplotlib.colors.to_rgb(line.get_color())) + 0.05) / (luminance([dark.GROUND] * 3) + 0.05) > 3
    plt.close(figure)
