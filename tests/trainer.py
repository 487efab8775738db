"""The command of the trainer, and what a run of it left: what its tests share."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from diffutils.train import checkpoint

ROOT = Path(__file__).resolve().parent.parent
# A small model and a short run: 40 steps in about a second.
SMALL = dict(steps=40, batch=8, width=8, multipliers=[1], timesteps=50)
OFTEN = dict(log_every=5, checkpoint_every=5, sample_every=20, samples=4, sample_steps=3)


def words(out: Path, *more: str, **options) -> list[str]:
    """The command's arguments."""
    given = {**SMALL, **OFTEN, **options}
    named = [[f"--{k.replace('_', '-')}", *map(str, v if isinstance(v, list) else [v])] for k, v in given.items()]
    return ["--out", str(out), *(word for words in named for word in words), *more]


def environment(*path: Path) -> dict[str, str]:
    found = os.pathsep.join(map(str, (*path, ROOT)))
    return {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "DIFFUTILS_DEVICE": "cpu"}


def started(
    arguments: list[str], *, launch: Sequence[str] = ("-m",), path: Sequence[Path] = (), **options
) -> subprocess.Popen:
    command = [sys.executable, *launch, "diffutils.train", *arguments]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=ROOT, env=environment(*path), **pipes, **options)


def finished(process: subprocess.Popen, code: int = 0) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == code, output + errors
    return output + errors


def tensors_of(out: Path) -> list[torch.Tensor]:
    run = checkpoint.load(out / checkpoint.NAME)["run"]
    moments = [value for state in run["optimizer"]["state"].values() for value in state.values()]
    weights = [value for part in ("model", "averages") for name, value in run[part].items() if name != "_extra_state"]
    return [run["losses"], run["norms"], run["generator"], *weights, *moments]


def losses_of(out: Path) -> list[tuple[str, str, str]]:
    rows = list(csv.reader((out / "metrics.csv").open()))
    return [tuple(row[:3]) for row in rows]


def folder_of_images(folder: Path) -> Path:
    """Three images of other sizes, kinds and depths, one of them in a folder below."""
    (folder / "below").mkdir(parents=True)
    Image.new("RGB", (20, 10), (255, 0, 0)).save(folder / "red.png")
    Image.new("L", (16, 16), 0).save(folder / "black.bmp")
    Image.new("RGBA", (9, 30), (255, 255, 255, 255)).save(folder / "below" / "white.webp", lossless=True)
    (folder / "notes.txt").write_text("not an image")
    return folder


class Alone:
    """Stands for accelerate in one of several processes, of which the others are not there."""

    def __init__(self, index: int, processes: int) -> None:
        self.process_index, self.num_processes, self.device = index, processes, torch.device("cpu")
        self.is_main_process = index == 0

    def prepare(self, module):
        return module

    def backward(self, loss) -> None:
        loss.backward()

    def reduce(self, values, how):
        return 2 * values if how == "mean" else None
