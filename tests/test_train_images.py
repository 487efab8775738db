"""The command line trainer on images of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from trainer import folder_of_images, words

from diffutils.train import images, load_model
from diffutils.train.command import main

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_a_folder_of_images_is_read_in_order_cropped_and_scaled(tmp_path) -> None:
    x = images.load(str(folder_of_images(tmp_path / "images")), size=8, channels=3)
    assert x.shape == (3, 3, 8, 8) and x.dtype == torch.float32
    white, black, red = x
    assert white.eq(1).all() and black.eq(-1).all() and red[0].eq(1).all() and red[1:].eq(-1).all()
    grey = images.load(str(tmp_path / "images"), size=4, channels=1)
    assert grey.shape == (3, 1, 4, 4) and grey[2].mean().item() == pytest.approx(2 * 76 / 255 - 1, abs=1e-6)


def test_the_middle_square_is_taken(tmp_path) -> None:
    wide = Image.new("L", (30, 10), 0)
    wide.paste(255, (10, 0, 20, 10))
    wide.save(tmp_path / "wide.png")
    assert images.load(str(tmp_path), size=10, channels=1).eq(1).all()


def test_a_folder_without_images_or_with_a_broken_one_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="a folder that holds images"):
        images.load(str(tmp_path), size=8, channels=3)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="broken.png"):
        images.load(str(tmp_path), size=8, channels=3)


@pytest.mark.parametrize("name, offset, written", [
    ("chunk.png", 37, b"\xff"),  # the type of a chunk is no word
    ("header.png", 8, b"\0\0\0\1"),  # a header of one byte
    ("huge.bmp", 18, b"\xff\xff\0\0\xff\xff\0\0"),  # more pixels than Pillow reads
])  # fmt: skip
def test_a_damaged_image_is_named(tmp_path, name, offset, written) -> None:
    path = tmp_path / name
    Image.new("RGB", (16, 16)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:offset] + written + whole[offset + len(written) :])
    with pytest.raises(ValueError, match=f"data must be a folder of images that can be read, .*, got .*{name}: "):
        images.load(str(tmp_path), size=8, channels=3)


def test_hidden_files_and_folders_are_no_images(tmp_path) -> None:
    folder = folder_of_images(tmp_path / ".cache" / "images")
    (folder / "._red.png").write_bytes(b"notes of a file manager")
    (folder / ".thumbs").mkdir()
    Image.new("L", (8, 8)).save(folder / ".thumbs" / "small.png")
    assert len(images.load(str(folder), size=8, channels=3)) == 3


@pytest.mark.parametrize("name", ["grey.png", "grey.tiff", "turned.tiff", "big-endian.tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_greys_of_16_bits_are_scaled_and_not_clipped(tmp_path, name, channels) -> None:
    """The greys k of 8 bits, as 257 k in 16: both are the same share of white."""
    greys = np.arange(256).reshape(16, 16)
    image, options = Image.fromarray((257 * greys).astype(np.uint16)), {}
    if name == "big-endian.tiff":
        image = Image.frombytes("I;16B", (16, 16), (257 * greys).astype(">u2").tobytes())
    if name == "turned.tiff":
        options, greys = {"exif": Image.Exif()}, greys[::-1, ::-1]
        options["exif"][0x0112] = 3
    image.save(tmp_path / name, **options)
    assert Image.open(tmp_path / name).mode == ("I;16B" if name == "big-endian.tiff" else "I;16")
    x = images.load(str(tmp_path), size=16, channels=channels)
    expected = torch.from_numpy(greys.copy()).float() / 127.5 - 1
    assert x.shape == (1, channels, 16, 16) and x.eq(expected).all()


def test_a_grey_between_those_of_8_bits_goes_to_the_nearest(tmp_path) -> None:
    Image.new("I;16", (4, 4), 257 * 7 + 129).save(tmp_path / "grey.png")
    assert images.load(str(tmp_path), size=4, channels=1).eq(8 / 127.5 - 1).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_whose_white_is_unknown_are_refused(tmp_path, mode) -> None:
    Image.new(mode, (8, 8), 1).save(tmp_path / "depth.tiff")
    with pytest.raises(ValueError, match=f"8 or 16 bits .*, got .*depth.tiff: it is of mode '{mode}'"):
        images.load(str(tmp_path), size=8, channels=1)


def test_colour_images_are_trained_on_and_drawn(tmp_path) -> None:
    folder = folder_of_images(tmp_path / "images")
    assert main(words(tmp_path / "run", data=folder, size=8, steps=5, sample_every=5, samples=9)) == 0
    sheet = Image.open(tmp_path / "run" / "samples" / "step-00000005.png")
    assert sheet.mode == "RGB" and sheet.size == (82, 22)
    assert load_model(tmp_path / "run").shape == (3, 8, 8)


@pytest.mark.parametrize("mode, hidden", [("RGBA", (10, 250, 20, 0)), ("LA", (0, 0))])
def test_what_is_transparent_is_shown_on_white(tmp_path, mode, hidden) -> None:
    Image.new(mode, (8, 8), hidden).save(tmp_path / "one.png")
    assert images.load(str(tmp_path), size=8, channels=3).eq(1).all()
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    half.save(tmp_path / "one.png")
    red, green, blue = images.load(str(tmp_path), size=8, channels=3)[0, :, 0, 0].tolist()
    assert red == 1 and green == blue == pytest.approx(0, abs=0.01)
