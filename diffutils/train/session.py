"""A run and what it writes: checkpoints, samples, and a table of losses."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from diffutils.device import make_generator
from diffutils.samplers import DDIM
from diffutils.train import checkpoint, images
from diffutils.train.parallel import ParallelRun, share_of, wait_for_everyone
from diffutils.train.recipe import Recipe
from diffutils.training_run import TrainingRun
from diffutils.validation import check_int, require

if TYPE_CHECKING:
    from accelerate import Accelerator

COLUMNS = ("step", "loss", "gradient_norm", "images_per_second")


@dataclass(frozen=True)
class Outputs:
    """What a run writes, and how often; nothing here changes its numbers.

    Raises:
        ValueError: if a number is below 1, or not a multiple of ``log_every`` where it has to be.
    """

    log_every: int = field(default=50, metadata={"help": "steps between two rows of metrics.csv"})
    checkpoint_every: int = field(default=500, metadata={"help": "steps between two checkpoints"})
    sample_every: int = field(default=500, metadata={"help": "steps between two sheets of samples"})
    samples: int = field(default=64, metadata={"help": "images on a sheet"})
    sample_steps: int = field(default=50, metadata={"help": "calls of the network for a sheet (DDIM), up to timesteps"})

    def __post_init__(self) -> None:
        for name in ("log_every", "checkpoint_every", "sample_every", "samples", "sample_steps"):
            check_int(name, getattr(self, name), 1)
        for name in ("checkpoint_every", "sample_every"):
            value = getattr(self, name)
            require(value % self.log_every == 0, name, value, f"a multiple of log_every = {self.log_every}")


class Session:
    """One start of the command: a run, new or resumed, with its folder.

    Args:
        accelerator: of Hugging Face accelerate.
        out: the run's folder.
        recipe: what is trained.
        outputs: what is written.
        state: the checkpoint that the run goes on from; None begins.

    Whatever is refused is refused before the folder is touched, and where the arguments tell, before an image is read.

    Raises:
        ValueError: if an argument does not fit the others or the number of processes, the data cannot be read or are not
            those the run began with, or another process trains in the folder or has done so since ``state`` was read.
        CheckpointError: if the checkpoint does not fit this version of the package.
        OSError: if the folder cannot be written.
    """

    def __init__(
        self, accelerator: Accelerator, out: Path, recipe: Recipe, outputs: Outputs, state: dict[str, Any] | None
    ) -> None:
        self.out, self.recipe, self.outputs = out, recipe, outputs
        self._sheets, self.writes = out / checkpoint.SAMPLES, accelerator.is_main_process
        check_int("sample_steps", outputs.sample_steps, 1, recipe.timesteps)
        apart = recipe.data in images.DIGITS or not self._sheets.resolve().is_relative_to(Path(recipe.data).resolve())
        require(apart, "out", str(out), f"a folder outside data = {recipe.data!r}: its sheets would be taken for images")
        share_of(recipe.batch, accelerator.num_processes)
        self._shape = recipe.image_shape()
        model = recipe.build(self._shape)
        data = recipe.load_images()
        self._hash = images.fingerprint(data)
        same = state is None or state["images"] == self._hash
        require(same, "data", recipe.data, "the images that the run began with; these are others")
        self.training = ParallelRun(
            accelerator, model, data, steps=recipe.steps, batch_size=recipe.batch, lr=recipe.lr, ema_decay=recipe.ema,
            seed=recipe.seed, precision=recipe.precision, compile_mode=recipe.compile_mode, block=outputs.log_every,
        )  # fmt: skip
        if state is not None:
            checkpoint.put_back(out / checkpoint.NAME, self.training.load_state_dict, state["run"])
        # Every process looks whether the folder holds a run before the first of them writes there.
        wait_for_everyone(accelerator)
        if self.writes:
            self._prepare(self.training.step)
        self._alone = accelerator.num_processes == 1
        self._logged, self._signal, self._clock = self.training.step, 0, time.perf_counter()

    def run(self) -> int:
        """Make the steps that are left; return 0, or 128 + the number of the signal that ended the run early."""
        if self.training.step == self.recipe.steps:
            self._say(f"all {self.recipe.steps} steps were made before: nothing to do")
            return 0
        count, weights = len(self.training.data), sum(p.numel() for p in self.training.model.parameters())
        begins = "beginning" if self.training.step == 0 else f"going on after step {self.training.step}"
        what = f"{count:,} images of {' x '.join(map(str, self._shape))}, {weights:,} weights"
        self._say(f"{begins}: {what}, {self.recipe.steps} steps on {self.training.device}")
        self._clock = time.perf_counter()
        self.training.advance(after_block=self._after_block, progress=self.writes)
        if self.training.step < self.recipe.steps:
            self._say(f"stopped after step {self.training.step}; go on with --resume")
            return 128 + self._signal
        processes = self.training.accelerator.num_processes
        by = "" if processes == 1 else f" by {processes} processes"
        self._say(f"all {self.recipe.steps} steps made{by}: {self.out}")
        return 0

    def close(self) -> None:
        """Let other processes train in the folder; the system does this for a process that is killed."""
        if self.writes:
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                (self.out / checkpoint.LOCK).unlink()
            self._lock.release()

    def stop(self, number: int, frame: Any = None) -> None:
        """Handle a signal: end after the step that is being made, with a checkpoint.

        Several processes cannot agree on a step so late: there the run ends at once, with its last checkpoint.
        """
        if not self._alone or self._signal:
            raise SystemExit(128 + number)
        self._signal = number
        self.training.stop()

    def _after_block(self, run: TrainingRun) -> None:
        if not self.writes:
            return
        last = run.step == self.recipe.steps or self._signal
        self._log(run)
        if last or run.step % self.outputs.checkpoint_every == 0:
            self._save(run)
        if last or run.step % self.outputs.sample_every == 0:
            self._draw(run)
        self._clock = time.perf_counter()

    def _log(self, run: TrainingRun) -> None:
        made, start = run.step - self._logged, self._logged
        speed = made * self.recipe.batch / (time.perf_counter() - self._clock)
        values = (run.losses[start : run.step].mean(), run.norms[start : run.step].mean())
        row = [run.step, *(f"{float(value):.6g}" for value in (*values, speed))]
        with open(self.out / checkpoint.TABLE, "a", newline="") as file:
            csv.writer(file).writerow(row)
        self._logged = run.step

    def _save(self, run: TrainingRun) -> None:
        state = {
            "recipe": self.recipe.as_dict(),
            "shape": list(self._shape),
            "images": self._hash,
            "run": run.state_dict(),
        }
        checkpoint.save(self.out / checkpoint.NAME, state)

    def _draw(self, run: TrainingRun) -> None:
        """Write a sheet of samples, from the same noise each time, so that one sees the same images come to be."""
        run.averaged.eval()
        sampler = DDIM(run.averaged, run.model.schedule.respaced(self.outputs.sample_steps), clip=(-1.0, 1.0))
        generator = make_generator(self.recipe.seed, run.device)
        x = sampler.sample((self.outputs.samples, *self._shape), generator=generator, precision=self.recipe.precision)
        buffer = io.BytesIO()
        images.sheet(x.float().cpu()).save(buffer, format="png")
        self._sheets.mkdir(exist_ok=True)  # someone may have tidied it away in a long run
        checkpoint.write_atomically(self._sheets / f"step-{run.step:08d}.png", buffer.getvalue())

    def _prepare(self, step: int) -> None:
        """Take the folder, and make it fit for a run that has made ``step`` steps.

        Nothing there is half written, and no row is of later steps. Where a file system has no locks, as some that are
        shared over a network, this raises ``OSError``, or a killed run's lock must be removed by hand.
        """
        self._sheets.mkdir(parents=True, exist_ok=True)
        kept, lock = self.out / checkpoint.NAME, self.out / checkpoint.LOCK
        self._lock = FileLock(lock, timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            alone = f"a folder in which no other process trains, as the one that holds {lock.name} does"
            raise ValueError(f"out must be {alone}, got {str(self.out)!r}") from None
        same = step == (checkpoint.load(kept)["run"]["step"] if kept.exists() else 0)
        require(same, "out", str(self.out), "a folder in which no other process trained meanwhile")
        checkpoint.remove_unfinished(self.out)
        # First: a folder that holds a table and no recipe is taken for someone else's.
        recipe = json.dumps(self.recipe.as_dict(), indent=2) + "\n"
        checkpoint.write_atomically(self.out / checkpoint.RECIPE, recipe.encode())
        table = self.out / checkpoint.TABLE
        rows = list(csv.reader(io.StringIO(table.read_text()))) if step and table.exists() else [list(COLUMNS)]
        kept = rows[:1] + [row for row in rows[1:] if len(row) == len(COLUMNS) and int(row[0]) <= step]
        text = io.StringIO(newline="")
        csv.writer(text).writerows(kept)
        checkpoint.write_atomically(table, text.getvalue().encode())

    def _say(self, text: str) -> None:
        if self.writes:
            print(text, flush=True)
