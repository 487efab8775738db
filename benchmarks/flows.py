"""Our flows and zuko's on two moons: held-out negative log-likelihood at equal CPU time.

Every model gets the same CPU seconds (of this process, one thread), the same data, optimizer, batch size and learning
rate schedule, which follows the share of the time that is used up. The models take turns, a second at a time, so that
whatever else the machine does meets all of them. The learning rate of each model is the best of a few tried by hand.

    python benchmarks/flows.py                    # about 6 minutes: three seeds, 20 s for each model
    python benchmarks/flows.py --seconds 5
"""

from __future__ import annotations

import argparse
import json
import math
import statistics

import time
from dataclasses import dataclass, field



from common import ROOT, described, setting

import torch
import zuko
from torch import Tensor, nn

from diffutils.datasets import two_moons
from diffutils.models.flows import NICE, Glow, RealNVP
from diffutils.training import lr_factor

TURN = 1.0
FINE = 10_000


def zuko_flow(kind: type, transforms: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return kind(2, 0, transforms=transforms, hidden_features=(64, 64))


# name: (make with a seed, learning rate)
MODELS = {
    "NICE (ours)": (lambda seed: NICE(seed=seed), 1e-2),
    "RealNVP (ours)": (lambda seed: RealNVP(fourier=2, seed=seed), 7e-3),
    "Glow (ours)": (lambda seed: Glow(seed=seed), 7e-3),
    "NSF (zuko)": (lambda seed: zuko_flow(zuko.flows.NSF, 5, seed), 1e-2),
    "MAF (zuko)": (lambda seed: zuko_flow(zuko.flows.MAF, 8, seed), 5e-3),
}


@dataclass
class Run:
    """One model being trained, a turn at a time."""

    model: nn.Module
    lr: float
    budget: float
    seed: int
    used: float = 0.0
    steps: int = 0
    parameters: list[nn.Parameter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.lr, weight_decay=0.0, fused=True)
        self.generator = torch.Generator().manual_seed(self.seed)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.model.log_prob(x) if hasattr(self.model, "log_prob") else self.model().log_prob(x)

    def loss(self, x: Tensor) -> Tensor:
        return self.model.loss(x) if hasattr(self.model, "loss") else -self.log_prob(x).mean()

    def turn(self, data: Tensor, batch_size: int) -> None:
        """Train until a turn, or the budget, is used up."""
        end = min(self.used + TURN, self.budget)
        while self.used < end:
            start = time.process_time()
            done = int(FINE * self.used / self.budget)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * lr_factor(done, FINE, FINE // 20)
            batch = data[torch.randint(len(data), (batch_size,), generator=self.generator)]
            loss = self.loss(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.used += time.process_time() - start
            self.steps += 1

    @torch.no_grad()
    def nll(self, test: Tensor) -> float:
        self.model.eval()
        return -self.log_prob(test).mean().item()


def compare(seconds: float, seeds: int, batch_size: int) -> dict:
    train, test = two_moons(20_000, seed=1000), two_moons(20_000, seed=1001)
    results: dict = {name: {"nll": [], "steps": [], "lr": lr} for name, (_, lr) in MODELS.items()}
    for seed in range(seeds):
        runs = {name: Run(make(seed), lr, seconds, seed) for name, (make, lr) in MODELS.items()}
        for _ in range(math.ceil(seconds / TURN)):
            for run in runs.values():
                run.turn(train, batch_size)
        for name, run in runs.items():
            results[name]["nll"].append(run.nll(test))
            results[name]["steps"].append(run.steps)
            results[name]["parameters"] = sum(p.numel() for p in run.parameters)
            print(f"seed {seed}  {name:15s} {results[name]['nll'][-1]:.4f} nats  {run.steps} steps", flush=True)
    return results


def table(results: dict) -> str:
    lines = [
        "| model | parameters | learning rate | steps | held-out NLL, nats | lowest | highest |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        nll, steps = row["nll"], round(statistics.mean(row["steps"]))
        lines.append(
            f"| {name} | {row['parameters']:,} | {row['lr']:g} | {steps} "
            f"| {statistics.mean(nll):.4f} | {min(nll):.4f} | {max(nll):.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU seconds for each model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--name", default=None, help="name of the result files; default: flows, or flows_5s and so on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = compare(options.seconds, options.seeds, options.batch_size)
    mean = {name: statistics.mean(row["nll"]) for name, row in results.items()}
    ours = min((name for name in mean if "ours" in name), key=mean.get)
    theirs = min((name for name in mean if "zuko" in name), key=mean.get)
    made = {"seconds": options.seconds, "seeds": options.seeds, "batch_size": options.batch_size}
    where = {**made, **setting("zuko")}
    gap = mean[ours] - mean[theirs]
    costs = "more" if gap > 0 else "less"
    verdict = f"Best of the book: {ours}. Best of zuko: {theirs}. On average ours costs {abs(gap):.4f} nats {costs}."
    text = (
        f"# Flows on two moons at equal CPU time\n\n{options.seconds:g} CPU seconds for each model, one thread, batches "
        f"of {options.batch_size}, {options.seeds} seeds (mean, lowest, highest). Trained on 20,000 points, tested on "
        f"20,000 others. {described(where)}\n\n{table(results)}\n\n{verdict}\n\n"
        f"Made by `python benchmarks/flows.py --seconds {options.seconds:g}`.\n"
    )
    print("\n" + text)
    stem = options.name or ("flows" if options.seconds == 20 else f"flows_{options.seconds:g}s")
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.md").write_text(text)
    (folder / f"{stem}.json").write_text(json.dumps({"setting": where, "models": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
