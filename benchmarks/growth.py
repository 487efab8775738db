"""How time and memory grow: with the batch, the dimension, the steps of the chain and the number of samples.

Each size is measured in a process of its own, so that no run inherits the memory of another: CPU seconds of one
training step or of one call of ``sample``, and by how much the process grew beyond what a tiny run before had needed. A
power is the slope of a straight line through the logarithms of the three largest sizes; small ones pay fixed costs.

    python benchmarks/growth.py                 # about 4 minutes, 4 GB of memory
    python benchmarks/growth.py --points 100000 # less memory: not a million points
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from common import cpu_seconds, described, setting, table, write

import torch

from diffutils.models.ddpm import DDPM
from diffutils.networks import MLP
from diffutils.samplers import Ancestral
from diffutils.schedule import Schedule
from diffutils.training_run import TrainingRun

DATA, STEPS, FEW_STEPS, LEAST_SECONDS = 2000, 5, 5, 1.0
# Less than this is a matter of pages and of the allocator.
LEAST_MEMORY = 8.0
# name, what grows and its sizes; everything else stays at the defaults of ``training`` and ``sampling``
CASES = (
    ("training", "batch", (64, 256, 1024, 4096, 16384)),
    ("training", "dim", (2, 8, 32, 128, 512, 2048)),
    ("training", "T", (10, 100, 1000, 10000)),
    ("sampling", "n", (64, 256, 1024, 4096, 16384)),
    ("sampling", "dim", (2, 8, 32, 128, 512, 2048)),
    ("sampling", "T", (10, 30, 100, 300, 1000)),
)
NAMES = {"batch": "batch", "dim": "numbers in an example", "T": "steps T", "n": "samples"}
WHAT = {"training": "a training step", "sampling": "sampling"}


def model_of(dim: int, T: int) -> DDPM:
    return DDPM(MLP(dim, seed=0), Schedule.cosine(T), "v")


def training(batch: int = 256, dim: int = 2, T: int = 100) -> Callable[[], Any]:
    """Return a function that makes ``STEPS`` training steps."""
    data = torch.randn(DATA, dim, generator=torch.Generator().manual_seed(0))
    run = TrainingRun(model_of(dim, T), data, steps=5000, batch_size=batch, ema_decay=0.99, device="cpu", block=STEPS)
    return lambda: run.advance(after_block=TrainingRun.stop)


def sampling(n: int = 256, dim: int = 2, T: int = 100) -> Callable[[], Any]:
    """Return a function that draws n samples by the whole chain."""
    model = model_of(dim, T).eval()
    return lambda: model.sample(n, generator=torch.Generator().manual_seed(0))


def streaming(count: int, size: int) -> Callable[[], Any]:
    """Return a function that draws points chunk by chunk and keeps their sum only."""
    model = model_of(2, 100).eval()
    sampler = Ancestral(model, model.schedule.respaced(FEW_STEPS))
    generator = torch.Generator().manual_seed(0)
    return lambda: sum(chunk.sum(0) for chunk in sampler.stream((count, 2), at_most=size, generator=generator))


def peak() -> float:
    """Return the most memory that this process has held so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measured_here(kind: str, sizes: dict[str, int]) -> dict[str, float]:
    """Return the CPU seconds and the MiB of one piece of work, in this process."""
    torch.set_num_threads(1)
    made, tiny = {
        "training": (training, {"batch": 2}),
        "sampling": (sampling, {"n": 2}),
        "streaming": (streaming, {"count": 2, "size": 2}),
    }[kind]
    made(**tiny)()
    work = made(**sizes)
    before = peak()
    seconds = [cpu_seconds(work)]
    grown = peak() - before
    while sum(seconds) < LEAST_SECONDS:
        seconds.append(cpu_seconds(work))
    # The first call warms up, where there is another.
    each = statistics.median(seconds[1:] or seconds)
    return {"seconds": each / (STEPS if kind == "training" else 1), "MiB": grown}


def measured(kind: str, **sizes: int) -> dict[str, float]:
    """Return the same from a process of its own."""
    task = json.dumps({"kind": kind, "sizes": sizes})
    done = subprocess.run([sys.executable, __file__, "--one", task], check=True, capture_output=True, text=True)
    row = {"kind": kind, **sizes, **json.loads(done.stdout)}
    print(row, flush=True)
    return row


def power(rows: list[dict], variable: str, what: str) -> float:
    """Return the power with which something grows over the three largest sizes."""
    x, y = ([math.log(row[key]) for row in rows[-3:]] for key in (variable, what))
    return statistics.linear_regression(x, y).slope


def report(cases: list[dict], chunks: list[dict], where: dict) -> str:
    """Return the page."""
    powers, sizes = [], []
    for case in cases:
        variable, rows = case["variable"], case["rows"]
        name, small = f"{WHAT[case['kind']]}: {NAMES[variable]}", max(row["MiB"] for row in rows) < LEAST_MEMORY
        memory = f"below {LEAST_MEMORY:g} MiB" if small else f"{power(rows, variable, 'MiB'):.2f}"
        ends = f"{rows[0][variable]:,} to {rows[-1][variable]:,}"
        powers.append([name, ends, f"{power(rows, variable, 'seconds'):.2f}", memory])
        sizes += [[name, f"{r[variable]:,}", f"{1e3 * r['seconds']:.1f}", f"{r['MiB']:.1f}"] for r in rows]
    least, most = chunks[0], chunks[-1]
    body = [[f"{row['size']:,}", f"{row['seconds']:.1f}", f"{row['MiB']:.0f}"] for row in chunks]
    return "\n\n".join(
        (
            "# How time and memory grow",
            "A model of points, the book's MLP. What does not vary is a batch of 256, or 256 samples, two numbers in "
            "an example and 100 steps of the chain. Time is that of one training step, or of sampling by the whole "
            "chain. Memory is what a fresh process needs beyond a tiny run, the data and the weights. A power is "
            f"fitted to the three largest sizes: 1 is growth in proportion, 0 none. {described(where)}",
            table(["what grows", "sizes", "power of time", "power of memory"], powers),
            f"{most['count']:,} points over {FEW_STEPS} steps, drawn chunk by chunk with `Sampler.stream`; only "
            "their sum is kept:",
            table(["points in a chunk", "CPU, s", "memory, MiB"], body),
            f"All at once they need {most['MiB'] / least['MiB']:.0f} times the memory and "
            f"{most['seconds'] / least['seconds']:.1f} times the time of chunks of {least['size']:,}.",
            "What the powers were fitted to:",
            table(["what grows", "size", "CPU, ms", "memory, MiB"], sizes),
            "Made by `python benchmarks/growth.py`.",
        )
    )


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000, help="drawn in chunks")
    parser.add_argument("--name", default="growth", help="of the result files")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured_here(**json.loads(options.one))))
        return
    torch.set_num_threads(1)
    cases = [
        {"kind": kind, "variable": variable, "rows": [measured(kind, **{variable: size}) for size in sizes]}
        for kind, variable, sizes in CASES
    ]
    chunks = [measured("streaming", count=options.points, size=size) for size in (5000, 50_000, options.points)]
    where = setting()
    write(options.name, report(cases, chunks, where), {"setting": where, "cases": cases, "chunks": chunks})


if __name__ == "__main__":
    main()
