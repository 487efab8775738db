"""How much of a GPU is used: images a second by batch, precision and compilation, and beside the loops of other libraries.

Three models: the book's points, its digits, and a U-Net of a size that fills a card. First each trains and samples with
every option, and what it computes in a second is divided by what the card can: the rate of a large matrix product in the
same precision. Then the two U-Nets go through the loops of other libraries, the same network in each, beside the bare
calls that no loop can do without. Data are random, because a time does not depend on them.

    python benchmarks/gpu.py                    # some minutes on one card, most of them compiling
    python benchmarks/gpu.py --compile 8        # compile alone, in 8 processes side by side: a run after it is quicker
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from common import described, setting, table, wait, write

import torch
from gpu_loops import LOOPS, OPTIONS, STEPS, WALK, Bare, Diffutils, Loop
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diffutils.device import default_device, make_generator
from diffutils.models.ddpm import DDPM
from diffutils.schedule import Schedule
from diffutils.unet import UNet

EXAMPLES = 20_000
BUDGET = 0.5  # seconds for which something is timed


@dataclass(frozen=True)
class Kind:
    """A model to measure: its batch sizes, the one at which loops are compared, and its options that are compiled."""

    make: Callable[[], DDPM]
    batches: tuple[int, ...]
    compared: int
    compiled: tuple[str, ...]
    title: str


def large() -> DDPM:
    network = UNet(3, 128, multipliers=(1, 2, 2), blocks=2, attention=True, time_dim=256, seed=0)
    return DDPM(network, Schedule.cosine(1000), "v", shape=(3, 32, 32))


KINDS = {
    "points": Kind(
        DDPM.for_points, (512, 8192, 131_072), 512, ("float32, CUDA graphs",), "the book's MLP, points of the plane"
    ),
    "digits": Kind(
        DDPM.for_images, (16, 128, 1024), 128,
        ("float32, CUDA graphs", "bfloat16, compiled", "bfloat16, CUDA graphs"), "the book's U-Net, 28x28 pixels",
    ),
    "large": Kind(
        large, (16, 64, 256), 64, ("bfloat16, compiled", "bfloat16, CUDA graphs"),
        "a U-Net of 128, 256 and 256 channels with 18 million weights, 32x32 pixels in three colours",
    ),
}  # fmt: skip


def data_of(kind: str, device: torch.device) -> Tensor:
    """Return random examples in [-1, 1]."""
    shape = KINDS[kind].make().shape
    return 2 * torch.rand(EXAMPLES, *shape, generator=make_generator(0, device), device=device) - 1


def flops(kind: str) -> int:
    """Return the floating-point operations of one pass of the network over one example."""
    model = KINDS[kind].make()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.network(torch.zeros(1, *model.shape), 1)
    return counter.get_total_flops()


def peak(precision: str, device: torch.device, size: int) -> float:
    """Return the operations a second of a large matrix product; in float32 as convolutions do it, in TensorFloat-32."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    try:
        return 2 * size**3 / seconds(lambda: a @ b, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return what one call takes: the median of blocks of calls, of about ``BUDGET`` seconds together."""

    def block(calls: int) -> float:
        wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            work()
        wait(device)
        return (time.perf_counter() - start) / calls

    block(1)
    once = block(1)
    blocks = 3 if once > BUDGET / 3 else 5
    return statistics.median(block(max(1, round(BUDGET / blocks / once))) for _ in range(blocks))


def rates(loop: Loop) -> dict[str, float]:
    """Return the examples a second of training, and of walks from noise to data."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        training = STEPS * loop.batch / seconds(loop.train, loop.device)
        return {"training": training, "sampling": loop.batch / seconds(loop.sample, loop.device)}


def with_option(kind: str, option: str, batch: int, device: torch.device) -> Diffutils:
    torch._dynamo.reset()  # a cache that is full would leave the next network uncompiled
    chosen = type("Chosen", (Diffutils,), {"option": option})
    return chosen(KINDS[kind].make(), data_of(kind, device), batch)


def option_rows(kinds: list[str]) -> Iterator[tuple[str, str, int]]:
    """Yield the rows of the first table: plain ones at every batch size, then compiled ones at that of the second table."""
    plain = [option for option, (_, mode) in OPTIONS.items() if mode is None]
    yield from ((kind, option, batch) for kind in kinds for option in plain for batch in KINDS[kind].batches)
    yield from ((kind, option, KINDS[kind].compared) for kind in kinds for option in KINDS[kind].compiled)


def compile_only(row: tuple[str, str, int]) -> None:
    """Fill torch's cache of compiled code, on disk, with what a row needs."""
    loop = with_option(*row, default_device())
    loop.train()
    loop.sample()


def measure_options(kinds: list[str], peaks: dict[str, float], device: torch.device) -> Iterator[dict]:
    """Yield the rows of the first table."""
    work = {kind: flops(kind) for kind in kinds}
    for kind, option, batch in option_rows(kinds):
        row = {"model": kind, "option": option, "batch": batch, **rates(with_option(kind, option, batch, device))}
        for what, passes in (("training", 3), ("sampling", WALK)):  # a backward pass costs two forward ones
            row[f"{what}_share"] = row[what] * passes * work[kind] / peaks[OPTIONS[option][0]]
        print(row, flush=True)
        yield row


def measure_loops(kinds: list[str], device: torch.device) -> Iterator[dict]:
    """Yield the rows of the second table."""
    for kind, loop in itertools.product([kind for kind in kinds if kind != "points"], LOOPS):
        batch = KINDS[kind].compared
        torch.manual_seed(0)
        row = {"model": kind, "loop": loop.name, "batch": batch}
        row |= rates(loop(KINDS[kind].make(), data_of(kind, device), batch))
        print(row, flush=True)
        yield row


def growth(options: list[dict]) -> str:
    """Return the sentence on how a step of training grows with its batch."""
    parts = []
    for kind in KINDS:
        rows = [row for row in options if row["model"] == kind and row["option"] == "float32"]
        if len(rows) > 1:
            low, high = (pick(rows, key=lambda row: row["batch"]) for pick in (min, max))
            slower = high["batch"] / high["training"] / (low["batch"] / low["training"])
            parts.append(f"{kind}: {high['batch'] // low['batch']} times the batch, {slower:.1f} times the time")
    return (
        f"A step of training in float32 grows with its batch like this: {'; '.join(parts)}. Where a share is small, the card "
        "waits for the processor, which starts one small piece of work after the other."
    )


def graphs(options: list[dict]) -> str:
    """Return the sentence on what CUDA graphs are worth."""
    rows = {(row["model"], row["option"], row["batch"]): row for row in options}
    parts = []
    for kind, precision in itertools.product(KINDS, ("float32", "bfloat16")):
        batch = KINDS[kind].compared
        plain, graph = (rows.get((kind, option, batch)) for option in (precision, f"{precision}, CUDA graphs"))
        if plain and graph:
            training, sampling = (graph[what] / plain[what] for what in ("training", "sampling"))
            parts.append(f"{kind} in {precision}: {training:.1f} in training, {sampling:.1f} in sampling")
    if not parts:
        return ""
    return f"CUDA graphs start all pieces of a pass at once. The speed-ups are: {'; '.join(parts)}."


def agreement(options: list[dict], loops: list[dict]) -> str:
    """Return the sentence on how far two measurements of the same differ."""
    first = {(row["model"], row["batch"]): row for row in options if row["option"] == "float32"}
    again = [row for row in loops if row["loop"] == Diffutils.name and (row["model"], row["batch"]) in first]
    if not again:
        return ""
    pairs = [(row, first[row["model"], row["batch"]]) for row in again]
    both = [(row[what], other[what]) for row, other in pairs for what in ("training", "sampling")]
    worst = max(max(two) / min(two) - 1 for two in both)
    return (
        f"The book's loop in float32 stands in both tables: measured twice, it differs by up to {worst:.0%}. Smaller "
        "differences between rows mean nothing."
    )


def report(options: list[dict], loops: list[dict], where: dict) -> str:
    """Return the page."""
    order = {key: place for place, key in enumerate(itertools.product(KINDS, OPTIONS))}
    first = [
        [row["model"], row["option"], f"{row['batch']:,}"]
        + [cell for what in ("training", "sampling") for cell in (f"{row[what]:,.0f}", f"{100 * row[what + '_share']:.2g}%")]
        for row in sorted(options, key=lambda row: (order[row["model"], row["option"]], row["batch"]))
    ]
    bare = {row["model"]: row for row in loops if row["loop"] == Bare.name}
    second = [
        [row["model"], row["loop"]]
        + [c for w in ("training", "sampling") for c in (f"{row[w]:,.0f}", f"{bare[row['model']][w] / row[w]:.2f}")]
        for row in loops
    ]
    peaks = ", ".join(f"{rate / 1e12:,.0f} in {name}" for name, rate in where["peaks"].items())
    kinds = "\n".join(f"- **{name}**: {kind.title}." for name, kind in KINDS.items())
    compared = ", ".join(f"{kind.compared} ({name})" for name, kind in KINDS.items() if name != "points")
    parts = [
        "# How much of a GPU is used",
        f"Examples a second on one {where['device']}, in training, and in sampling by walks of {WALK} steps of DDIM, for "
        "three models:",
        kinds,
        "A share is what the network computes in that time over what a large matrix product reaches in the same "
        f"precision (10^12 operations a second: {peaks}). Float32 means TensorFloat-32 in convolutions alone, as torch "
        f"has it unless told otherwise, and is compared with products in TensorFloat-32. {described(where)}",
        table(["model", "option", "batch", "training", "share", "sampling", "share"], first),
        growth(options),
        graphs(options),
        "The same networks in the loops of other libraries, in float32, in batches of "
        f"{compared}. Bare calls are forward, backward and a fused optimizer on one batch, over and over, and as many "
        "passes of the network as a walk has steps. The columns beside the rates are seconds over those of the bare calls.",
        table(["model", "loop", "training", "over bare", "sampling", "over bare"], second),
        f"{agreement(options, loops)} {where.get('note', '')}".strip(),
        "Made by `python benchmarks/gpu.py`.",
    ]
    return "\n\n".join(part for part in parts if part)


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--size", type=int, default=8192, help="of the matrices whose product is the peak")
    parser.add_argument("--compile", type=int, default=0, metavar="PROCESSES")
    parser.add_argument("--name", default="gpu", help="of the result files")
    options = parser.parse_args()
    device = default_device()
    if options.compile:
        todo = [row for row in option_rows(options.kinds) if OPTIONS[row[1]][1] is not None][::-1]  # the large first
        with multiprocessing.get_context("spawn").Pool(options.compile, maxtasksperchild=1) as pool:
            pool.map(compile_only, todo, chunksize=1)
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    peaks = {precision: peak(precision, device, options.size) for precision in ("float32", "bfloat16")}
    packages = [package for loop in LOOPS for package in loop.packages]
    where = {**setting(*packages), "device": name, "peaks": peaks}
    loops, rows = list(measure_loops(options.kinds, device)), []
    for row in measure_options(options.kinds, peaks, device):
        rows.append(row)
        # written after each row: a run that is cut off keeps what it has
        write(options.name, report(rows, loops, where), {"setting": where, "options": rows, "loops": loops})


if __name__ == "__main__":
    main()
