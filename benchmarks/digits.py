"""Digits at equal CPU time: diffutils beside other libraries, each with its own U-Net, loss and sampler.

Every contender trains for the same CPU seconds of this process, on one thread, on the same images, a second at a time
in turn, and then draws samples with at most 40 calls of its network. What they are judged by, ``features.Judge``, is
held out: the Frechet distance in the features of a small classifier, in floors (1 is what other real images have); how
sure the classifier is; and how near samples come to training images (well below 1: copies).

    python benchmarks/digits.py                          # hours: 7 contenders, 2 sets, 3 seeds
    python benchmarks/digits.py --sets digits8 --seconds-8 10 --seeds 1 --name try

Results are written after each seed. Several processes may work at one report: each replaces the rows of its own sets
and contenders and leaves the others'.
"""

from __future__ import annotations

import argparse
import copy
import fcntl
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common import RESULTS, cpu_seconds, described, setting, settled, spread, table, write

import torch
from features import Judge
from peers_images import CALLS, IMAGE_PEERS, ImageContender
from points import train_in_turns
from torch import Tensor, nn

from diffutils.datasets import digits_8x8, mnist_28x28
from diffutils.device import make_generator
from diffutils.models.ddpm import DDPM
from diffutils.samplers import Ancestral, DPMSolver2M, Guided, Sampler
from diffutils.training_run import TrainingRun

PROBE = 20
# Splits are numbered from here on; the settings below were chosen on others.
FIRST_SPLIT = 1000
REAL, COPIES = "real images", "training images"
# The copy that guides is taken after this share of the steps.
EARLY, STRENGTH, GUIDED_TIMES = 1 / 16, 2.0, (200, 800)
# Of 24 steps over 1000 times 15 are guided by a second call: 39 calls together.
GUIDED_STEPS = 24


@dataclass(frozen=True)
class Digits:
    """A data set and how it is used: how many images are held out, how many samples are drawn, what it is called."""

    load: Callable[[], tuple[Tensor, Tensor]]
    held_out: int
    samples: int
    title: str

    def parts(self, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return images and labels to train on, and those held out: another split for each seed.

        How far the images of one split happen to lie apart moves every contender's figure, that of training images from
        0.85 to 1.27 floors at 8x8 over six splits. Seeds on one split would share that luck, and their spread would not
        show it.
        """
        images, labels = self.load()
        order = torch.randperm(len(images), generator=make_generator(FIRST_SPLIT + seed))
        train, held_out = order[self.held_out :], order[: self.held_out]
        return (images[train], labels[train]), (images[held_out], labels[held_out])


SETS = {
    "digits28": Digits(mnist_28x28, held_out=1000, samples=500, title="28x28 digits"),
    "digits8": Digits(digits_8x8, held_out=400, samples=400, title="8x8 digits"),
}


class Diffutils(ImageContender):
    """The book's model of images, trained by its loop for as many steps as the budget holds."""

    name = "diffutils"
    note = (
        "DDPM.for_images(), batches of 16 at 28x28 and of 64 at 8x8, lr 3e-3, average of weights; DPM-Solver++(2M), 40 "
        "steps, x_0 clipped"
    )

    def __init__(self, data: Tensor, seed: int, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(data, seed)

    def build(self) -> Iterator[None]:
        model = DDPM.for_images(tuple(self.data.shape[1:]), seed=self.seed)
        # The learning rate's schedule has to know how many steps there will be: a short run tells what one costs.
        probe = self._run(copy.deepcopy(model), 2 * PROBE)
        probe.advance(after_block=TrainingRun.stop)
        cost = cpu_seconds(probe.advance) / PROBE
        self.run = self._run(model, max(1, int(0.97 * self.seconds / cost)))
        self.network, self.early = self.run.averaged.network, None
        return self._steps()

    def _run(self, model: nn.Module, steps: int) -> TrainingRun:
        return TrainingRun(
            model, self.data, steps=steps, batch_size=16 if self.side >= 16 else 64, lr=3e-3, ema_decay=0.998,
            seed=self.seed, device="cpu", block=PROBE,
        )  # fmt: skip

    def _steps(self) -> Iterator[None]:
        while self.run.step < self.run.steps:
            # a block at a time, as the loop looks at its losses
            self.run.advance(after_block=TrainingRun.stop)
            if self.early is None and self.run.step >= self.run.steps * EARLY:
                self.early = copy.deepcopy(self.run.averaged).eval()
            yield

    def sampler(self) -> Sampler:
        return DPMSolver2M(self.run.averaged.eval(), self.run.model.schedule.respaced(CALLS), clip=(-1.0, 1.0))

    def sample(self, count: int) -> Tensor:
        return self.sampler().sample((count, *self.data.shape[1:]), generator=make_generator(self.seed))

    def sampled_as(self, kind: type[Diffutils]) -> Diffutils:
        """Return the same trained model with the sampler of another contender."""
        other = copy.copy(self)
        other.__class__ = kind
        return other


class DiffutilsAncestral(Diffutils):
    """The same model with fresh noise at each step."""

    name = "diffutils, ancestral"
    note = "the same training; ancestral sampling with beta_tilde, 40 steps, x_0 clipped"

    def sampler(self) -> Sampler:
        return Ancestral(self.run.averaged.eval(), self.run.model.schedule.respaced(CALLS), clip=(-1.0, 1.0))


class DiffutilsGuided(Diffutils):
    """The same model, guided by its own average of weights from early in the training, which costs no training."""

    name = "diffutils, guided"
    note = (
        f"the same training; ancestral sampling with beta_tilde, {GUIDED_STEPS} steps, x_0 clipped, guided with strength "
        f"{STRENGTH:g} at times {GUIDED_TIMES[0]} to {GUIDED_TIMES[1]} by the average of weights after {100 * EARLY:g}% of "
        "the training"
    )

    def sampler(self) -> Sampler:
        guided = Guided(self.run.averaged.eval(), self.early, STRENGTH, between=GUIDED_TIMES)
        return Ancestral(guided, self.run.model.schedule.respaced(GUIDED_STEPS), clip=(-1.0, 1.0))

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return self.network, self.early.network


OURS = (Diffutils, DiffutilsAncestral, DiffutilsGuided)
TRAINED = (Diffutils, *IMAGE_PEERS)


def contender(kind: type[ImageContender], data: Tensor, seed: int, seconds: float) -> ImageContender:
    return kind(data, seed, seconds) if issubclass(kind, Diffutils) else kind(data, seed)


def drawn(model: ImageContender, count: int) -> tuple[Tensor, int, float]:
    """Return samples cut to [-1, 1], the calls of the network that they took, and the CPU seconds."""
    calls, result = [], []
    handles = [network.register_forward_pre_hook(lambda *_: calls.append(1)) for network in model.networks]
    torch.manual_seed(model.seed)
    seconds = cpu_seconds(lambda: result.append(model.sample(count).detach()))
    for handle in handles:
        handle.remove()
    return result[0].clamp(-1.0, 1.0), len(calls), seconds


def copies(judge: Judge, images: Tensor, count: int, seed: int) -> dict[str, float]:
    """Return the figures of training images in the place of samples: what a model would have that only copies.

    Their distance is the limit for models, too: 1, but for the luck of a split and for the classifier, which has seen
    these images.
    """
    return judge.quality(images[torch.randperm(len(images), generator=make_generator(seed))[:count]])


def compare(name: str, kinds: list[type[ImageContender]], seconds: float, seeds: range) -> Iterator[list[dict]]:
    """Yield the rows of one seed after the other: one for real images, one for copies, and one for each contender."""
    digits = SETS[name]
    for seed in seeds:
        train, held_out = digits.parts(seed)
        judge = Judge(train, held_out)
        base = {"set": name, "seconds": seconds, "seed": seed}
        real = {"contender": REAL, "floor": judge.floor, "accuracy": judge.accuracy, **judge.real_figures()}
        rows = [{**base, **real}, {**base, "contender": COPIES, **copies(judge, train[0], digits.samples, seed)}]
        models = [contender(kind, train[0], seed, seconds) for kind in kinds]
        used = train_in_turns(models, seconds)
        if Diffutils in kinds:
            models[1:1] = [models[0].sampled_as(kind) for kind in OURS[1:]]
        for model in models:
            x, calls, sampling = drawn(model, digits.samples)
            spent, steps = used.get(model.name, used.get(Diffutils.name))
            steps = model.run.step if isinstance(model, Diffutils) else steps
            weights = sum(p.numel() for p in model.network.parameters())
            row = {"contender": model.name, "training": spent, "steps": steps, "weights": weights, "calls": calls}
            rows.append({**base, **row, "sampling": sampling, **judge.quality(x)})
        yield rows


COLUMNS = {
    "frechet": ("Frechet, floors", 2), "nearest": ("nearest neighbour", 2), "confidence": ("confidence", 3),
    "weights": ("weights, M", 2), "steps": ("steps", 0), "calls": ("calls", 0), "sampling": ("sampling, CPU-s", 1),
}  # fmt: skip


def report(rows: list[dict], where: dict) -> str:
    """Return the page."""
    parts = [
        "# Digits at equal CPU time",
        f"Training for the same CPU seconds, then samples with at most {CALLS} calls of the network. Numbers are means "
        f"over the seeds that the last column counts; after ± stands half of the way from the lowest to the highest. A seed "
        f"decides the initial weights, the batches, the noise, and which images are held out. "
        f"Contenders of one process take turns; others may have run in another one, at another load of the machine. "
        f"{described(where)}",
        "Our networks are made for minutes on one core; the others' are those of their own examples, made smaller. The "
        "column of steps says how often each was trained in the same time. None of our three ways to sample is the best "
        "on both sets. A floor here is that of a Fréchet distance, which is a square and "
        "has a part that comes from the size of the sets alone.",
    ]
    for name, digits in SETS.items():
        mine = [row for row in rows if row["set"] == name]
        if mine:
            parts += [f"## {digits.title}", _how(mine, digits), _table(mine), nearest(mine)]
    measured = {row["contender"] for row in rows}
    notes = [f"- **{kind.name}**: {kind.note}." for kind in (*OURS, *IMAGE_PEERS) if kind.name in measured]
    parts.append("How each was used, the others on batches of 32 and each with its own sampler:\n\n" + "\n".join(notes))
    parts.append(
        "A step is one batch; weights are those of the network. The nearest-neighbour ratio is the median distance of "
        "a sample to the nearest training image over that of a held-out image: copies have a ratio of 0. Training images "
        "in the place of samples show where the limit lies. It is 1, but for the luck of a split and for the classifier, "
        "which has seen them. Our settings were tuned for these budgets, on other splits of the same images; the others' "
        "were not."
    )
    parts.append("Made by `python benchmarks/digits.py`, whose runs may each measure some of the contenders and seeds.")
    return "\n\n".join(parts)


def _how(rows: list[dict], digits: Digits) -> str:
    real = [row for row in rows if row["contender"] == REAL]
    train = len(digits.load()[0]) - digits.held_out
    accuracy, floor = (statistics.mean(row[label] for row in real) for label in ("accuracy", "floor"))
    return (
        f"{real[0]['seconds']:g} CPU seconds of training on {train:,} images; {digits.held_out:,} are held out, others for "
        f"each seed, where the classifier is right in {100 * accuracy:.1f}%. {digits.samples} samples; Frechet distances "
        f"are taken between sets of {digits.held_out // 2}, of which the floor is {floor:.2f}. Accuracy and floor are "
        f"means over {len(real)} splits."
    )


def _table(rows: list[dict]) -> str:
    body = []
    for name in [REAL, COPIES, *(kind.name for kind in (*OURS, *IMAGE_PEERS))]:
        mine = [row for row in rows if row["contender"] == name]
        if mine:
            seeds = str(len(mine)) if "steps" in mine[0] else ""
            body.append([name, *(_cell(mine, label) for label in COLUMNS), seeds])
    return table(["", *(title for title, _ in COLUMNS.values()), "seeds"], body)


def _cell(rows: list[dict], label: str) -> str:
    values = [row[label] / (1e6 if label == "weights" else 1) for row in rows if label in row]
    if len(values) < len(rows):
        return "" if rows[0]["contender"] in (REAL, COPIES) else "not finite"
    return spread(values[:1] if label in ("weights", "calls") else values, COLUMNS[label][1])


def nearest(rows: list[dict]) -> str:
    """Return the sentences that read a table: who comes nearest to real images, and whether by copying."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if "steps" in row and "frechet" in row:
            found.setdefault(row["contender"], {})[row["seed"]] = row["frechet"]

    def best(kinds: tuple[type[ImageContender], ...]) -> tuple[float, str] | None:
        means = [(statistics.mean(found[kind.name].values()), kind.name) for kind in kinds if kind.name in found]
        return min(means, default=None)

    ours, theirs = best(OURS), best(IMAGE_PEERS)
    guided, alone = best((DiffutilsGuided,)), best((Diffutils, DiffutilsAncestral))
    sentences = []
    if ours is not None:
        ratio = statistics.mean(row["nearest"] for row in rows if row["contender"] == ours[1] and "nearest" in row)
        below = ": nearer to training images than real images are, which the distance does not punish" if ratio < 0.95 else ""
        sentences.append(f"{ours[1]} comes to {ours[0]:.2f} floors, with a nearest-neighbour ratio of {ratio:.2f}{below}.")
    if guided is not None and alone is not None:
        sentences.append(f"Guidance takes the same model from {alone[0]:.2f} to {guided[0]:.2f}.")
    if theirs is not None:
        doubt = "" if ours is None or settled(found[ours[1]], found[theirs[1]]) else " (the seeds do not settle the order)"
        sentences.append(f"Of the others, {theirs[1]} comes nearest: {theirs[0]:.2f}{doubt}.")
    return " ".join(sentences)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time work on a report."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / f"{name}.json", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def update(name: str, where: dict, change: Callable[[list[dict]], list[dict]]) -> None:
    """Replace the rows of a report by what ``change`` makes of those measured on such a machine, and write it anew."""
    with locked(name):
        text = (RESULTS / f"{name}.json").read_text()
        before = json.loads(text) if text else {}
        rows = change(before["rows"] if before.get("setting") == where else [])
        write(name, report(rows, where), {"setting": where, "rows": rows})


def replaced(row: dict, contenders: list[str], first: int, measured: set[int]) -> bool:
    """Return whether a row gives way to those of a run of these contenders, which begins with the seed ``first``.

    Real images and copies have one row for each seed, whoever else is measured: it gives way to one of the same seed.
    """
    if row["contender"] in (REAL, COPIES):
        return row["seed"] in measured
    return row["contender"] in contenders and row["seed"] >= first


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds-28", type=float, default=240.0, help="CPU seconds of training on 28x28 digits")
    parser.add_argument("--seconds-8", type=float, default=120.0, help="CPU seconds of training on 8x8 digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with, where those before it are measured")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    names = [kind.name for kind in TRAINED]
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    parser.add_argument("--name", default="digits", help="of the result files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where = setting(*dict.fromkeys(package for kind in IMAGE_PEERS for package in kind.packages))
    for name in options.sets:
        seconds = options.seconds_28 if name == "digits28" else options.seconds_8

        made: list[dict] = []
        kinds = [kind for kind in TRAINED if kind.name in options.contenders]
        mine = [*options.contenders, *(kind.name for kind in OURS[1:] if Diffutils in kinds)]

        def others(rows: list[dict]) -> list[dict]:
            kept = [row for row in rows if row["set"] != name or row["seconds"] == seconds]
            measured = {row["seed"] for row in made}
            return [row for row in kept if row["set"] != name or not replaced(row, mine, options.first, measured)]

        for new in compare(name, kinds, seconds, range(options.first, options.seeds)):
            made += new
            update(options.name, where, lambda rows: [*others(rows), *made])


if __name__ == "__main__":
    main()
