"""Images for training: the digits that come with the libraries, or any folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from diffutils.datasets import digits_8x8, mnist_28x28
from diffutils.validation import require

DIGITS = {"digits8": digits_8x8, "digits28": mnist_28x28}
# Side in pixels of the grey images of each.
SIDES = {"digits8": 8, "digits28": 28}
KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def shape_of(data: str, *, size: int, channels: int) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of the images that ``load`` returns for the same arguments; nothing is read."""
    return (1, SIDES[data], SIDES[data]) if data in SIDES else (channels, size, size)


def load(data: str, *, size: int, channels: int) -> Tensor:
    """Return all images, (N, C, H, W) float32 in [-1, 1], held in memory.

    Args:
        data: "digits8", "digits28", or the path of a folder, whose images are taken with those of all folders in it,
            but for names that begin with a dot.
        size: images of a folder are cropped to their middle square and scaled to this side, in pixels.
        channels: 3 or 1, for images of a folder. What is transparent is shown on white.

    Raises:
        ValueError: if the folder does not exist, holds no image, or holds one that cannot be read or has 32 bits a pixel,
            as integers or floats, which do not say what is white. Pillow reads no image beyond its limit of pixels.
    """
    if data in DIGITS:
        return DIGITS[data]()[0]
    folder = Path(data)
    require(folder.is_dir(), "data", data, f"{', '.join(map(repr, DIGITS))} or an existing folder")
    # Names with a dot in front are thumbnails and notes of file managers.
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in KINDS and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    )
    require(len(paths) > 0, "data", data, f"a folder that holds images ({', '.join(KINDS)})")
    out = torch.empty(len(paths), channels, size, size)
    for place, path in zip(out, paths, strict=True):
        place.copy_(_read(path, size, channels))
    return out


def _read(path: Path, size: int, channels: int) -> Tensor:
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F"):
                raise ValueError(f"it is of mode {image.mode!r}")
            opaque = _on_white(_in_8_bits(ImageOps.exif_transpose(image)))
            upright = opaque.convert("L" if channels == 1 else "RGB")
    # Pillow raises each of these for damaged files: SyntaxError, say, for a broken chunk of a PNG.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        readable = "a folder of images that can be read, of 8 or 16 bits a channel"
        raise ValueError(f"data must be {readable}, got {path}: {error}") from None
    square = ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(square, dtype=np.float32).copy())
    return pixels.reshape(size, size, channels).permute(2, 0, 1) / 127.5 - 1.0


def _in_8_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion keeps the greys up to 255 and makes all above them white.
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    # Pillow's own conversion drops the transparency, and shows whatever colour lies hidden under it.
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def fingerprint(images: Tensor) -> str:
    """Return a hash of the images, so that a run does not go on with others."""
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


def sheet(images: Tensor, *, columns: int = 8) -> Image.Image:
    """Return images (N, C, H, W) in [-1, 1] side by side in rows of ``columns``, two pixels apart."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + 2) + 2, columns * (width + 2) + 2, channels), 255, dtype=np.uint8)
    grey = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for index, picture in enumerate(grey):
        top, left = 2 + index // columns * (height + 2), 2 + index % columns * (width + 2)
        canvas[top : top + height, left : left + width] = picture
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)
