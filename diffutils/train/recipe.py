"""What a run trains, on what and for how long: everything that decides its numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from diffutils.models.ddpm import DDPM
from diffutils.models.denoising import TARGETS
from diffutils.schedule import Schedule
from diffutils.speed import COMPILE_MODES, PRECISIONS
from diffutils.train import checkpoint, images
from diffutils.unet import UNet
from diffutils.validation import check_choice, check_float, check_int, require

SCHEDULES = {"cosine": Schedule.cosine, "linear": Schedule.linear}


def _option(default: Any, text: str) -> Any:
    """A field with its default and its line of help on the command line."""
    factory = {"default_factory": lambda: default} if isinstance(default, list) else {"default": default}
    return field(metadata={"help": text}, **factory)


@dataclass(frozen=True)
class Recipe:
    """A run's data, model, schedule and training; the defaults are the digits model of chapter 5.

    Raises:
        ValueError: if a field is out of its range.
    """

    data: str = _option("digits8", "digits8, digits28, or a folder of images, searched with all below it")
    size: int = _option(32, "side in pixels to which images of a folder are cropped and scaled")
    channels: int = _option(3, "of a folder's images: 3 for colours, 1 for grey")
    steps: int = _option(2000, "gradient steps")
    batch: int = _option(64, "examples in a step, over all processes")
    lr: float = _option(4e-3, "highest learning rate")
    ema: float = _option(0.995, "decay of the weights' moving average")
    seed: int = _option(0, "of weights, batches and noise")
    width: int = _option(32, "channels of the U-Net at its highest resolution")
    multipliers: list[int] = _option([1, 2], "factor on the width at each resolution, one number for each")
    blocks: int = _option(1, "residual blocks for each resolution on each way")
    patch: int = _option(2, "side of the pixel patches the U-Net works on")
    attention: bool = _option(False, "self-attention at the lowest resolution")
    schedule: str = _option("cosine", "noise schedule: " + " or ".join(SCHEDULES))
    timesteps: int = _option(1000, "steps T of the noise schedule")
    prediction: str = _option("v", "what the network predicts: " + ", ".join(TARGETS))
    precision: str = _option("float32", "of the network's products: " + " or ".join(PRECISIONS))
    compile_mode: str | None = _option(None, "compile the network: " + ", ".join(COMPILE_MODES))

    def __post_init__(self) -> None:
        for name in ("size", "channels", "steps", "batch", "timesteps", "blocks", "patch"):
            check_int(name, getattr(self, name), 1)
        require(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        check_int("seed", self.seed, 0)
        check_float("lr", self.lr, 0.0)
        check_float("ema", self.ema, 0.0, 1.0)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("prediction", self.prediction, TARGETS)
        check_choice("precision", self.precision, PRECISIONS)
        if self.compile_mode is not None:
            check_choice("compile_mode", self.compile_mode, COMPILE_MODES)

    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of the training images, which is known before any is read.

        Raises:
            ValueError: if the U-Net cannot work on images of this size.
        """
        shape = images.shape_of(self.data, size=self.size, channels=self.channels)
        multiple = self.patch * 2 ** (len(self.multipliers) - 1)
        fits = shape[-1] % multiple == 0
        require(fits, "size", shape[-1], f"a multiple of {multiple} = patch * 2 ** (resolutions - 1)")
        return shape

    def load_images(self) -> Tensor:
        """Return the training images, (N, C, H, W) float32 in [-1, 1].

        Raises:
            ValueError: as ``image_shape``; or if the folder is missing, empty or holds an image that cannot be used.
        """
        self.image_shape()
        return images.load(self.data, size=self.size, channels=self.channels)

    def build(self, shape: tuple[int, int, int]) -> DDPM:
        """Return the untrained model for images of ``shape`` (C, H, W)."""
        network = UNet(
            shape[0], self.width, multipliers=self.multipliers, blocks=self.blocks, patch=self.patch,
            attention=self.attention, seed=self.seed,
        )  # fmt: skip
        return DDPM(network, SCHEDULES[self.schedule](self.timesteps), self.prediction, shape=shape)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as plain values."""
        return dataclasses.asdict(self)


def load_model(out: Path | str) -> DDPM:
    """Return the model of a run, with its averaged weights, in evaluation mode and on the CPU.

    Args:
        out: the run's folder, or its checkpoint.

    Raises:
        CheckpointError: if there is no checkpoint, it cannot be read, or it does not fit what this version of the package
            builds of its recipe, another noise schedule say.
    """
    path = Path(out)
    path = path / checkpoint.NAME if path.is_dir() else path
    state = checkpoint.load(path)
    model = Recipe(**state["recipe"]).build(tuple(state["shape"]))
    checkpoint.put_back(path, model.load_state_dict, state["run"]["averages"])
    return model.eval()
