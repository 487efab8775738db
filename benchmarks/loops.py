"""What the loops cost beside the network: training and sampling steps over the bare calls they cannot do without.

A training step is compared with forward, backward and a fused optimizer on the same batch size; N sampling steps with N
forward passes of the network at the same times. 1 would be a loop that costs nothing. Each ratio is the median over
rounds in which both are run, one after the other.

    python benchmarks/loops.py                  # about 3 minutes
    python benchmarks/loops.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator

from common import described, ratios, setting, table, write

import torch
from torch import nn

from diffutils.models.ddpm import DDPM
from diffutils.networks import MLP
from diffutils.samplers import DDIM, Ancestral, DPMSolver2M, Heun
from diffutils.schedule import Schedule
from diffutils.training_run import TrainingRun
from diffutils.unet import UNet

STEPS = 100
SAMPLERS = {"ancestral": Ancestral, "DDIM": DDIM, "Heun": Heun, "DPM-Solver++(2M)": DPMSolver2M}
# Calls of the network at each step: Heun's method makes two, and one at the last.
CALLS = {"Heun": 2 * STEPS - 1}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...], int]] = {
    # network, shape of an example, batch sizes of sampling, batch size of training
    "MLP": (lambda: MLP(2, seed=0), (2,), (1, 256), 512),
    "U-Net": (lambda: UNet(1, seed=0), (1, 8, 8), (1, 64), 128),
}


def model_of(name: str) -> DDPM:
    network, shape, _, _ = NETWORKS[name]
    return DDPM(network(), Schedule.cosine(STEPS), "v", shape=shape)


def training(name: str, rounds: int) -> list[float]:
    """Return the ratios of training steps to bare ones."""
    _, shape, _, batch = NETWORKS[name]
    data, noise = torch.randn(2000, *shape), torch.randn(batch, *shape)
    count = 4 * 50 if name == "MLP" else 50
    run = TrainingRun(model_of(name), data, steps=10**6, batch_size=batch, lr=1e-3, device="cpu")
    end = 0

    def ours() -> None:
        nonlocal end
        end += count
        run.advance(after_block=lambda r: r.stop() if r.step >= end else None)

    model = model_of(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    x, t, target = torch.randn(batch, *shape), torch.randint(1, STEPS + 1, (batch,)), noise

    def bare() -> None:
        for _ in range(count):
            optimizer.zero_grad()
            nn.functional.mse_loss(model.network(x, t), target).backward()
            optimizer.step()

    return ratios(ours, bare, rounds=rounds)


def sampling(name: str, kind: str, batch: int, rounds: int) -> list[float]:
    """Return the ratios of a walk to as many bare passes of the network."""
    model = model_of(name).eval()
    x = torch.randn(batch, *model.shape)
    sampler = SAMPLERS[kind](model, model.schedule)
    calls = CALLS.get(kind, STEPS)
    walks = 10 if batch == 1 else 1  # a walk with one sample is over too soon to be timed

    @torch.no_grad()
    def bare() -> None:
        for call in range(walks * calls):
            model.network(x, STEPS - call % STEPS)

    def ours() -> None:
        for _ in range(walks):
            sampler.sample(x_T=x)

    return ratios(ours, bare, rounds=rounds)


def measure(rounds: int) -> Iterator[dict]:
    """Yield one row for each loop."""
    for name, (_, _, batches, batch) in NETWORKS.items():
        yield {"network": name, "loop": "training step", "batch": batch, "ratios": training(name, rounds)}
        for size in batches:
            for kind in SAMPLERS:
                yield {"network": name, "loop": kind, "batch": size, "ratios": sampling(name, kind, size, rounds)}


def report(rows: list[dict], where: dict) -> str:
    """Return the page."""
    body = []
    for row in rows:
        low, _, high = statistics.quantiles(row["ratios"], n=4)
        cells = (f"{statistics.median(row['ratios']):.2f}", f"{low:.2f} to {high:.2f}")
        body.append([row["network"], row["loop"], str(row["batch"]), *cells])
    return "\n\n".join(
        (
            "# What the loops cost",
            f"Seconds of our training step over those of forward, backward and optimizer alone, and of a walk of {STEPS} "
            f"steps over as many bare passes of the network: 1 would be free. {described(where)}",
            table(["network", "loop", "batch", "median", "middle half"], body),
            f"Made by `python benchmarks/loops.py --rounds {len(rows[0]['ratios'])}`.",
        )
    )


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", default="loops", help="of the result files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where, rows = setting(), []
    for row in measure(options.rounds):
        rows.append(row)
        print(row["network"], row["loop"], row["batch"], round(statistics.median(row["ratios"]), 3), flush=True)
    write(options.name, report(rows, where), {"setting": where, "rows": rows})


if __name__ == "__main__":
    main()
