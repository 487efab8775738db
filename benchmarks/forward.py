"""What the closed form costs: noisy samples beside the machine's own memory, and beside the chain of t steps.

Drawing x_t of 256 images of 28 x 28 pixels is compared with one pass over the same memory (an axpy, y = x + 0.3 noise),
with a clone of the bytes it reads and writes, and with the drawing of the noise alone. Then the time is followed as t
grows, for the closed form and for the chain.

    python benchmarks/forward.py                # about a minute
"""

from __future__ import annotations

import argparse
import math
import statistics

from common import cpu_seconds, described, ratios, setting, table, write

import torch

from diffutils.process import diffuse, forward_step
from diffutils.schedule import Schedule

SHAPE = (256, 1, 28, 28)
TIMES = (1, 10, 100, 1000)
REPEATS = 50


def repeated(work):
    """Return a function that does the work ``REPEATS`` times."""
    return lambda: [work() for _ in range(REPEATS)] and None


def compared(rounds: int) -> list[dict]:
    """Return the ratios of the closed form to what it cannot do without."""
    schedule, x0, noise = Schedule.linear(1000), torch.randn(SHAPE), torch.randn(SHAPE)
    t, generator = torch.randint(1, 1001, SHAPE[:1]), torch.Generator().manual_seed(0)
    given = lambda t: repeated(lambda: diffuse(schedule, x0, t, noise=noise))  # noqa: E731
    drawn = repeated(lambda: diffuse(schedule, x0, t, generator=generator))
    axpy = repeated(lambda: torch.add(x0, noise, alpha=0.3))
    draw = repeated(lambda: torch.randn(SHAPE, generator=generator))
    clone = repeated(lambda: (x0.clone(), noise.clone()))
    pairs = {
        "noise given, one t, over an axpy": (given(300), axpy),
        "noise given, a t for each image, over an axpy": (given(t), axpy),
        "noise given, a t for each image, over a clone of what it reads": (given(t), clone),
        "noise drawn, over the drawing alone": (drawn, draw),
    }
    return [{"what": what, "ratios": ratios(*pair, rounds=rounds)} for what, pair in pairs.items()]


def growth(rounds: int) -> list[dict]:
    """Return CPU seconds of the closed form and of the chain for each t."""
    schedule, x0 = Schedule.linear(1000), torch.randn(SHAPE)
    generator = torch.Generator().manual_seed(0)

    def chain(t: int) -> None:
        x = x0
        for step in range(1, t + 1):
            x = forward_step(schedule, x, step, generator=generator)

    rows = []
    for t in TIMES:
        closed = repeated(lambda: diffuse(schedule, x0, t, generator=generator))
        closed()
        seconds = statistics.median(cpu_seconds(closed) / REPEATS for _ in range(rounds))
        rows.append({"t": t, "closed": seconds, "chain": statistics.median(cpu_seconds(lambda: chain(t)) for _ in range(3))})
    return rows


def slope(rows: list[dict], what: str) -> float:
    """Return the power of t with which the seconds grow, from a straight line through the logarithms."""
    x, y = ([math.log(row[key]) for row in rows] for key in ("t", what))
    return statistics.linear_regression(x, y).slope


def report(pairs: list[dict], rows: list[dict], where: dict) -> str:
    """Return the page."""
    body = []
    for pair in pairs:
        low, _, high = statistics.quantiles(pair["ratios"], n=4)
        body.append([pair["what"], f"{statistics.median(pair['ratios']):.2f}", f"{low:.2f} to {high:.2f}"])
    times = [[str(r["t"]), f"{1e3 * r['closed']:.2f}", f"{1e3 * r['chain']:.1f}"] for r in rows]
    rate = SHAPE[0] / statistics.median(row["closed"] for row in rows)
    return "\n\n".join(
        (
            "# What the closed form costs",
            f"Noisy versions of {SHAPE[0]} images of 28 x 28 pixels. {described(where)}",
            table(["drawing x_t", "median", "middle half"], body),
            f"Noise included, that is {rate:,.0f} images a second. The chain's time grows with t, to the power "
            f"{slope(rows, 'chain'):.2f}; the closed form's does not: its power is {slope(rows, 'closed'):.2f}.",
            table(["t", "closed form, ms", "chain, ms"], times),
            "Made by `python benchmarks/forward.py`.",
        )
    )


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", default="forward", help="of the result files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where, pairs, rows = setting(), compared(options.rounds), growth(options.rounds)
    write(options.name, report(pairs, rows, where), {"setting": where, "pairs": pairs, "growth": rows})


if __name__ == "__main__":
    main()
