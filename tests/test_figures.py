"""Figures carry their description, and refuse to be drawn from what they cannot show."""

import base64
import io
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from diffbook import diagrams, figures

ALT = "A straight line rises from the lower left corner to the upper right one."


class Shown:
    """Stands in for IPython's display and keeps what it was given."""

    def __init__(self) -> None:
        self.images = []

    def __call__(self, image) -> None:
        self.images.append(image)


@pytest.fixture
def shown(monkeypatch):
    recorder = Shown()
    monkeypatch.setattr(figures, "display", recorder)
    return recorder


def test_show_displays_a_picture_with_its_text_and_closes_the_figure(shown):
    fig, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, 1])
    figures.show(fig, ALT)
    (image,) = shown.images
    data, metadata = image._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == ALT
    assert metadata["image/png"]["width"] == 400
    assert not plt.fignum_exists(fig.number)


def test_in_the_book_a_picture_brings_its_dark_twin(shown, monkeypatch):
    for building in ("0", "1"):
        monkeypatch.setenv("DIFFUTILS_STATIC", building)
        figures.show(plt.figure(figsize=(1, 1)), ALT)
    (_, plain), (data, metadata) = (image._repr_mimebundle_() for image in shown.images)
    assert "dark" not in plain["image/png"]
    light, dark = (Image.open(io.BytesIO(base64.b64decode(png))) for png in (data["image/png"], metadata["image/png"]["dark"]))
    assert light.size == dark.size == (200, 200)
    assert light.convert("RGB").getpixel((0, 0)) == (255, 255, 255) and dark.convert("RGB").getpixel((0, 0)) == (18, 18, 18)


@pytest.mark.parametrize("alt", ["", "A figure.", None])
def test_show_refuses_a_missing_or_short_text(shown, alt):
    fig = plt.figure()
    with pytest.raises(ValueError, match="alt must be a description of at least 30 characters"):
        figures.show(fig, alt)
    assert not shown.images
    plt.close(fig)


def test_density_is_largest_where_the_distribution_is():
    class Corner:
        def log_prob(self, x):
            return -10 * (x - torch.tensor([1.0, -1.0])).square().sum(dim=1)

    fig, (ax,) = figures.panels(1)
    figures.density(ax, Corner(), limit=2.0, resolution=41)
    pixels = ax.images[0].get_array()
    row, column = divmod(int(pixels.argmax()), 41)
    assert (row, column) == (10, 30)  # rows grow with y, columns with x, both from -2 in steps of 0.1
    plt.close(fig)


def test_panels_and_image_grid_lay_out_what_they_were_asked_for():
    fig, axes = figures.panels(5, columns=3)
    assert len(axes) == len(fig.axes) == 5
    grid = figures.image_grid(torch.zeros(7, 1, 4, 4), columns=3, titles=list("abcdefg"))
    drawn = [ax for ax in grid.axes if ax.images]
    assert [ax.get_title() for ax in drawn] == list("abcdefg")
    plt.close("all")


def test_image_grid_clips_to_the_range_of_images():
    fig = figures.image_grid(torch.tensor([-3.0, 3.0, 0.5, 0.0]).reshape(1, 1, 2, 2))
    assert fig.axes[0].images[0].get_array().tolist() == [[-1.0, 1.0], [0.5, 0.0]]
    plt.close(fig)


def test_rows_of_an_image_grid_have_their_texts_at_the_left_inside_the_figure():
    texts = ["a", "two\nlines", r"$\mathcal{N}(0, I)$"]
    fig = figures.image_grid(torch.zeros(8, 1, 4, 4), columns=3, rows=texts)
    fig.canvas.draw()
    assert [ax.texts[0].get_text() for ax in fig.axes[::3]] == texts
    for ax in fig.axes[::3]:
        box = ax.texts[0].get_window_extent()
        assert 0 < box.x0 and box.x1 < ax.get_window_extent().x0
    with pytest.raises(ValueError, match="rows must be None or 3 texts"):
        figures.image_grid(torch.zeros(8, 1, 4, 4), columns=3, rows=["a", "b"])
    plt.close("all")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(4, 3, 8, 8), "grey images"),
        (torch.zeros(4, 8, 8), "at least 4 axes"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "floating-point"),
        (torch.full((1, 1, 2, 2), float("nan")), "4 NaN or infinite"),
    ],
)
def test_image_grid_refuses_what_is_no_grey_image(images, message):
    with pytest.raises(ValueError, match=message):
        figures.image_grid(images)


def test_a_density_is_drawn_as_it_is_and_the_right_way_up():
    class Corner:
        def log_prob(self, x):
            return x[:, 0] + 10 * x[:, 1]

    fig, ax = plt.subplots()
    figures.density(ax, Corner(), limit=1.0, resolution=3)
    (image,) = ax.images
    expected = [[math.exp(x + 10 * y) for x in (-1, 0, 1)] for y in (-1, 0, 1)]
    torch.testing.assert_close(torch.as_tensor(image.get_array()).double(), torch.tensor(expected).double())
    assert image.origin == "lower" and list(image.get_extent()) == [-1, 1, -1, 1]
    plt.close(fig)


def test_a_grid_shows_each_image_in_its_place_on_one_scale_of_greys():
    images = torch.linspace(-0.5, 0.5, 3)[:, None, None, None].expand(3, 1, 2, 2)
    fig = figures.image_grid(images, columns=2)
    shown = [ax.images[0] for ax in fig.axes[:3]]
    assert [float(image.get_array().mean()) for image in shown] == [-0.5, 0.0, 0.5]
    assert {image.get_clim() for image in shown} == {(-1, 1)}
    plt.close(fig)


def test_the_clouds_of_a_chain_have_their_labels_and_the_last_is_noise():
    clouds = [torch.full((3, 2), float(i) / 4) for i in range(3)]
    fig = diagrams.markov_chain(clouds, ["a", "b", "c"])
    canvas, *panels = fig.axes
    labels = sorted((text.get_position()[0], text.get_text()) for text in canvas.texts if len(text.get_text()) == 3)
    assert [text for _, text in labels] == ["$a$", "$b$", "$c$"]
    drawn = [panel.collections[0] for panel in sorted(panels, key=lambda panel: panel.get_position().x0)]
    assert [float(points.get_offsets()[0, 0]) for points in drawn] == [0.0, 0.25, 0.5]
    colors = [to_hex(points.get_facecolor()[0]).upper() for points in drawn]
    assert colors == [figures.DATA, figures.DATA, figures.NOISE]
    plt.close(fig)


def test_the_markov_chain_has_a_panel_a_cloud_and_arrows_both_ways():
    clouds = [torch.randn(50, 2, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    fig = diagrams.markov_chain(clouds, ["x_0", "x_{t-1}", "x_t", "x_T"])
    canvas, *panels = fig.axes
    assert len(panels) == 4
    assert len(canvas.patches) == 2 * 3
    plt.close(fig)
    with pytest.raises(ValueError, match="labels must be a sequence of 4 labels"):
        diagrams.markov_chain(clouds, ["x_0"])


def test_the_four_families_are_all_named():
    fig = diagrams.four_families()
    names = [ax.texts[0].get_text() for ax in fig.axes]
    assert names == ["GAN", "VAE", "Flow", "Diffusion"]
    plt.close(fig)


def test_the_style_reaches_the_figures_drawn_after_it():
    with plt.rc_context():
        plt.rcdefaults()
        plain, _ = plt.subplots()
        figures.use_style()
        styled, ax = plt.subplots()
        assert not ax.spines["top"].get_visible() and plain.axes[0].spines["top"].get_visible()
        plt.close(plain), plt.close(styled)


def test_a_scatter_keeps_its_limits_or_leaves_them():
    fig, (near, free) = figures.panels(2)
    points = torch.tensor([[0.0, 0.0], [9.0, -9.0]])
    figures.scatter(near, points)
    figures.scatter(free, points, limit=None)
    assert near.get_xlim() == near.get_ylim() == (-2.5, 2.5)
    assert free.get_xlim()[1] > 9 and free.get_ylim()[0] < -9
    plt.close(fig)


@pytest.mark.parametrize("eyes", ["all cones", "protanomaly", "deuteranomaly", "tritanomaly"])
def test_colours_are_told_apart_by_every_eye(eyes):
    """Ten units of CAM02-UCS are several steps that are just noticed; complete dichromats are the hardest case."""

    def seen(colour):
        if eyes == "all cones":
            return np.array(to_rgb(colour))
        space = {"name": "sRGB1+CVD", "cvd_type": eyes, "severity": 100}
        return np.clip(cspace_convert(to_rgb(colour), space, "sRGB1"), 0, 1)

    for one, other in itertools.combinations((*figures.PALETTE, figures.NOISE), 2):
        assert deltaE(seen(one), seen(other), input_space="sRGB1") > 10, (one, other)


@pytest.mark.parametrize(("arguments", "name"), [((0,), "count"), ((3,), "columns")])
def test_panels_refuses_by_the_argument_that_is_wrong(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        figures.panels(*arguments, **({"columns": 0} if name == "columns" else {}))
