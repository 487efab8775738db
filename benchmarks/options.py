"""What the options for speed do: bfloat16 products and compiled networks, in training and in sampling.

Every option trains the same model from the same start on the same batches, some steps at a time in turn with the
others, and then samples. Times are given over those of plain float32: below 1 is faster. The loss at the end tells
whether the option has changed more than the time. Runs on the device that ``diffutils.device`` chooses: CPU seconds of
one thread on a CPU, seconds between synchronisations on a GPU. For a CUDA device there is ``gpu.py``.

    python benchmarks/options.py                # about five minutes on one core, most of it compiling
    python benchmarks/options.py --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from common import described, setting, table, wait, write

import torch

from diffutils.datasets import digits_8x8, grid_mixture
from diffutils.device import default_device, make_generator
from diffutils.models.ddpm import DDPM
from diffutils.samplers import DDIM
from diffutils.schedule import Schedule
from diffutils.training_run import TrainingRun
from diffutils.unet import UNet

OPTIONS: dict[str, tuple[str, str | None]] = {
    # label: precision, compile mode
    "float32": ("float32", None),
    "bfloat16": ("bfloat16", None),
    "compiled": ("float32", "default"),
    "bfloat16, compiled": ("bfloat16", "default"),
}
# network: batch size of training, number of samples, training steps of a block and steps of a walk
SIZES = {"MLP": (512, 256, 100), "U-Net": (128, 64, 20)}


def example(name: str) -> tuple[DDPM, torch.Tensor]:
    """Return a fresh model, always the same, and its data."""
    if name == "MLP":
        return DDPM.for_points(), grid_mixture().sample(20_000, generator=make_generator(0))
    return DDPM(UNet(1, seed=0), Schedule.cosine(100), "v", shape=(1, 8, 8)), digits_8x8()[0]


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that one call takes: CPU seconds on a CPU, else seconds until the device is done."""
    if device.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


class Run:
    """One model that is trained with one option, block by block, and sampled from."""

    def __init__(self, name: str, option: str, blocks: int, device: torch.device) -> None:
        batch, self.samples, self.steps = SIZES[name]
        self.precision, mode = OPTIONS[option]
        model, data = example(name)
        settings = dict(precision=self.precision, compile_mode=mode, block=self.steps, device=device)
        self.run = TrainingRun(model, data, steps=blocks * self.steps, batch_size=batch, **settings)
        self.sampler = DDIM(self.run.model, model.schedule.respaced(self.steps))

    def train_block(self) -> None:
        """Make one block of steps."""
        self.run.advance(after_block=lambda run: run.stop())

    def sample(self) -> None:
        """Walk once from noise to data."""
        generator = make_generator(0, self.run.device)
        self.sampler.sample((self.samples, *self.run.model.shape), generator=generator, precision=self.precision)

    def final_loss(self) -> float:
        """Return the mean loss of the last block."""
        return float(self.run.losses[-self.steps :].mean())


def measure(name: str, rounds: int, device: torch.device) -> list[dict]:
    """Return one row for each option: its times over those of float32, round by round, and its last loss likewise."""
    runs = {option: Run(name, option, rounds + 1, device) for option in OPTIONS}
    seconds = {option: {"training": [], "sampling": []} for option in OPTIONS}
    for round_number in range(rounds + 1):
        for option, run in runs.items():
            pair = {"training": timed(run.train_block, device), "sampling": timed(run.sample, device)}
            for what, value in pair.items() if round_number else ():  # the first round compiles
                seconds[option][what].append(value)
    plain, loss = seconds["float32"], runs["float32"].final_loss()
    rows = []
    for option, run in runs.items():
        ratios = {what: [a / b for a, b in zip(seconds[option][what], plain[what])] for what in plain}
        medians = {f"{what}_seconds": statistics.median(seconds[option][what]) for what in plain}
        rows.append({"network": name, "option": option, **ratios, **medians, "loss": run.final_loss() / loss})
    return rows


def card(device: torch.device) -> str:
    """Return what computed, for a reader."""
    if device.type == "cuda":
        return f"On one {torch.cuda.get_device_name(device)}"
    return "Without a GPU" if device.type == "cpu" else f"On the device {device}"


def reading(rows: list[dict], name: str) -> str:
    """Return the sentence that reads the table for one network: an option is faster if it is so in every round."""
    mine = {row["option"]: row for row in rows if row["network"] == name}
    parts = []
    for what in ("training", "sampling"):
        best = min(mine, key=lambda option: statistics.median(mine[option][what]))
        median, slowest = statistics.median(mine[best][what]), max(mine[best][what])
        parts.append(f"{what} is fastest with {best} ({median:.2f})" if slowest < 1 else f"no option makes {what} faster")
    return f"For the {name}, {' and '.join(parts)}."


def report(rows: list[dict], where: dict) -> str:
    """Return the page."""
    body = []
    for row in rows:
        rate = SIZES[row["network"]][2] / row["training_seconds"]
        ratios = [f"{statistics.median(row[what]):.2f}" for what in ("training", "sampling")]
        body.append([row["network"], row["option"], *ratios, f"{rate:,.0f}", f"{row['loss']:.3f}"])
    (points, drawn_points, _), (images, drawn_images, _) = SIZES["MLP"], SIZES["U-Net"]
    header = ["network", "option", "training", "sampling", "training steps a second", "last loss, over float32"]
    return "\n\n".join(
        (
            "# What the options for speed do",
            f"Seconds with an option over those of plain float32: below 1 is faster. Training: batches of {points} points "
            f"for the MLP and {images} digits of 8 x 8 pixels for the U-Net. Sampling: {drawn_points} points or "
            f"{drawn_images} digits by DDIM. The time to compile is left out. The last column is the mean loss of the last "
            f"block of steps: an option must not change it. {where['device']}. {described(where)}",
            table(header, body),
            " ".join(reading(rows, name) for name in SIZES),
            f"Made by `python benchmarks/options.py --rounds {len(rows[0]['training'])}`.",
        )
    )


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="options", help="of the result files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = default_device()
    where, rows = {**setting(), "device": card(device)}, []
    for name in SIZES:
        rows += measure(name, options.rounds, device)
    write(options.name, report(rows, where), {"setting": where, "rows": rows})


if __name__ == "__main__":
    main()
