"""Points at equal CPU time: diffutils beside other libraries, each with its own loss, loop and sampler.

Every contender trains for the same CPU seconds of this process, on one thread, on the same training points (others for
each seed), a second at a time in turn, and then draws sets of 5,000 samples with at most 50 calls of its network.
Distances are given in floors: 1 is what a second set of real data has. The KL divergence to the exact density of the grid
is estimated by nearest neighbours.

How far one set of samples is from the moons depends much on chance: more sets for each seed settle more. Samples carry
the chance of the training points besides their own. Squared distances add up, so a model that learned N points by heart
is sqrt(1 + 5,000 / 2N) floors from the law: 6 % further than fresh data for N = 20,000, and 0.6 % for 200,000.

    python benchmarks/points.py                 # about an hour: 3 data sets, 3 seeds
    python benchmarks/points.py --training-points 200000 --draws 4     # about two hours
    python benchmarks/points.py --seconds 5 --seeds 1 --sets grid
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common import RESULTS, Clock, cpu_seconds, described, setting, settled, spread, table, write

import torch
from peers import CALLS, PEERS, Contender
from quality import GRID, METRICS, on_the_grid
from torch import Tensor, nn

from diffutils.datasets import swiss_roll, two_moons
from diffutils.metrics import over_floor, real_floor
from diffutils.models.ddpm import DDPM
from diffutils.samplers import Ancestral, DPMSolver2M
from diffutils.training_run import TrainingRun
from diffutils.validation import check_float, check_int

TURN, TRAINING_POINTS, SAMPLES = 1.0, 20_000, 5000
# Real sets that a set of samples is compared with.
JUDGES = 2
SETS = {"grid": GRID, "moons": two_moons, "swiss roll": swiss_roll}
PROBE = 200
NETWORKS = ("MLP", "PlainMLP", "OurMLP", "TimeInputMLP", "LogNoise")


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        seconds: CPU seconds of training.
        seeds: how many.
        training_points: of each seed.
        draws: sets of samples of each trained model.
        floor_pairs: pairs of real sets whose mean distance is the floor.

    Raises:
        ValueError: if one of them is not positive, or there are fewer than 2 pairs.
    """

    seconds: float
    seeds: int
    training_points: int
    draws: int
    floor_pairs: int

    def __post_init__(self) -> None:
        check_float("seconds", self.seconds, low=0.0)
        for name, least in (("seeds", 1), ("training_points", 1), ("draws", 1), ("floor_pairs", 2)):
            check_int(name, getattr(self, name), least)

    def options(self) -> str:
        """Return the options of the command that measures this."""
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in asdict(self).items())


class Diffutils(Contender):
    """The book's model of points, trained by its loop for as many steps as the budget holds."""

    name = "diffutils"
    note = "DDPM.for_points(), lr 4e-3, average of weights; DPM-Solver++(2M) over 50 of its 100 steps"

    def __init__(self, data: Tensor, seed: int, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(data, seed)

    def untrained(self) -> DDPM:
        return DDPM.for_points(seed=self.seed)

    def build(self) -> Iterator[None]:
        model = self.untrained()
        # The learning rate's schedule has to know how many steps there will be: a short run tells what one costs.
        probe = self._run(copy.deepcopy(model), PROBE)
        cost = cpu_seconds(probe.advance) / PROBE
        self.run = self._run(model, int(0.97 * self.seconds / cost))
        return self._steps()

    def _run(self, model: nn.Module, steps: int) -> TrainingRun:
        return TrainingRun(model, self.data, steps=steps, lr=4e-3, ema_decay=0.99, seed=self.seed, device="cpu")

    def _steps(self) -> Iterator[None]:
        while self.run.step < self.run.steps:
            # a block at a time, as the loop looks at its losses
            self.run.advance(after_block=TrainingRun.stop)
            yield

    def sampler(self) -> DPMSolver2M | Ancestral:
        return DPMSolver2M(self.run.averaged.eval(), self.run.model.schedule.respaced(50))

    def sample(self, count: int) -> Tensor:
        return self.sampler().sample((count, 2))

    def sampled_as(self, kind: type[Diffutils]) -> Diffutils:
        """Return the same trained model with the sampler of another contender."""
        other = copy.copy(self)
        other.__class__ = kind
        return other


class DiffutilsAncestral(Diffutils):
    """The same model with fresh noise at each step, which keeps the share of points between the modes low."""

    name = "diffutils, ancestral"
    note = "the same training; ancestral sampling over 50 of the 100 steps, with beta_tilde"
    steps_taken = 50

    def sampler(self) -> Ancestral:
        schedule = self.run.model.schedule.respaced(self.steps_taken)
        return Ancestral(self.run.averaged.eval(), schedule, variance="beta_tilde")


class DiffutilsAllSteps(DiffutilsAncestral):
    """The same, by its whole chain: for the grid's bar at 100 calls."""

    name = "diffutils, ancestral, 100 calls"
    note = "the same training; ancestral sampling over all 100 steps"
    steps_taken = 100


def draw(name: str, n: int, seed: int) -> Tensor:
    if name == "grid":
        return GRID.sample(n, generator=torch.Generator().manual_seed(seed))
    return SETS[name](n, seed=seed)


def figures(name: str, x: Tensor, floors: dict, judges: int) -> dict[str, float]:
    """Return all figures of one set of samples; ``judges`` is the seed of the real sets that it is measured against."""
    found = {
        label: over_floor(metric, x, SETS[name], floor=floors[label], repeats=JUDGES, seed=judges)
        for label, metric in METRICS.items()
    }
    return found | (on_the_grid(x) if name == "grid" else {})


def quality(name: str, sets: list[Tensor], floors: dict, seed: int) -> dict[str, float]:
    """Return the mean of each figure over sets of samples, each with judges of its own; nothing if one is not finite."""
    if not all(torch.isfinite(x).all() for x in sets):
        return {}
    each = [figures(name, x, floors, 100 + 1000 * number + 10 * seed) for number, x in enumerate(sets)]
    return {label: statistics.mean(found[label] for found in each) for label in each[0]}


class Calls:
    """Counts the calls of a network, whoever makes them."""

    def __init__(self, contender: Contender) -> None:
        self.count = 0
        model = getattr(contender, "model", None) or contender.run.averaged
        if hasattr(contender, "average"):
            model = contender.average.ema_model
        # the network itself is what every wrapper calls in the end
        network = next(m for m in model.modules() if type(m).__name__ in NETWORKS)
        network.register_forward_pre_hook(lambda *_: self._add())

    def _add(self) -> None:
        self.count += 1


def train_in_turns(contenders: list[Contender], seconds: float) -> dict[str, tuple[float, int]]:
    """Train all, a turn at a time; return the CPU seconds and the steps of each."""
    clocks, steps = {c.name: Clock() for c in contenders}, {c.name: 0 for c in contenders}
    for turn in range(math.ceil(seconds / TURN)):
        for contender in contenders:
            clock, end = clocks[contender.name], min(seconds, (turn + 1) * TURN)
            while clock.seconds < end:
                with clock.running():
                    done = next(contender.steps, "done")
                if done == "done":
                    break
                contender.used = clock.seconds / seconds
                steps[contender.name] += 1
    return {name: (clocks[name].seconds, steps[name]) for name in clocks}


def compare(name: str, plan: Plan) -> Iterator[dict]:
    """Yield one row for each contender and seed, and for real data."""
    floors = {label: real_floor(m, SETS[name], SAMPLES, repeats=plan.floor_pairs) for label, m in METRICS.items()}
    for seed in range(plan.seeds):
        data = draw(name, plan.training_points, 1000 + seed)
        real = [draw(name, SAMPLES, 2000 + 100 * number + seed) for number in range(plan.draws)]
        yield {"set": name, "seed": seed, "contender": "real data", **quality(name, real, floors, seed)}
        contenders = [Diffutils(data, seed, plan.seconds), *(peer(data, seed) for peer in PEERS)]
        used = train_in_turns(contenders, plan.seconds)
        if name == "grid":
            contenders[1:1] = [contenders[0].sampled_as(kind) for kind in (DiffutilsAncestral, DiffutilsAllSteps)]
        for contender in contenders:
            torch.manual_seed(seed)
            calls, sets = Calls(contender), []
            sampling = cpu_seconds(lambda: sets.extend(contender.sample(SAMPLES).detach() for _ in range(plan.draws)))
            spent, steps = used.get(contender.name, used[Diffutils.name])
            steps = contender.run.step if isinstance(contender, Diffutils) else steps
            row = {"set": name, "seed": seed, "contender": contender.name, "calls": calls.count // plan.draws}
            row |= {"training": spent, "steps": steps, "sampling": sampling / plan.draws}
            yield row | quality(name, sets, floors, seed)


OURS = (Diffutils, DiffutilsAncestral, DiffutilsAllSteps)


def nearest(name: str, rows: list[dict]) -> str:
    """Return the list that reads a table: by each figure, who comes nearest to the data in at most 50 calls."""
    said = []
    for label in (*METRICS, *(("KL",) if name == "grid" else ())):
        found: dict[str, dict[int, float]] = {}
        for row in rows:
            if label in row and row.get("calls", CALLS + 1) <= CALLS:
                found.setdefault(row["contender"], {})[row["seed"]] = row[label]
        mine, other = (
            min((c.name for c in kinds if c.name in found), key=lambda who: statistics.mean(found[who].values()))
            for kinds in (OURS, PEERS)
        )
        ours, theirs = (statistics.mean(found[who].values()) for who in (mine, other))
        doubt = "" if settled(found[mine], found[other]) else "; the seeds do not settle the order"
        said.append(f"- {label}: **{mine}** {ours:.2f}, **{other}** {theirs:.2f}{doubt}")
    return "\n".join((f"The nearest of ours and the nearest of the others, in at most {CALLS} calls:\n", *said))


def report(rows: list[dict], names: list[str], plan: Plan, where: dict) -> str:
    """Return the page."""
    sets = "" if plan.draws == 1 else f"{plan.draws} sets of "
    contenders = ["real data", *(contender.name for contender in (*OURS, *PEERS))]
    parts = [
        "# Points at equal CPU time",
        f"{plan.seconds:g} CPU seconds of training on {plan.training_points:,} points, then {sets}{SAMPLES:,} samples with "
        f"at most 50 calls of the network. Numbers are means over {plan.seeds} seeds, each with points of its own; after "
        "± stands half of the way from the lowest to the highest. Distances are in floors: 1 is what a second real set "
        f"has. {described(where)}",
        "Our settings were chosen on such draws of these sets for about this time; the others' were not. With more "
        "time, or more care for one of them, the order can change. Calls are equal, their cost is not: see the last "
        "column. Only diffutils and diffusers lower the learning rate towards the end.",
    ]
    for name in names:
        labels = [*METRICS, *(("modes", "share", "KL") if name == "grid" else ())]
        heads = {"modes": "modes of 25", "share": "within 3 sigma", "KL": "KL, nats"}
        header = [name, *(heads.get(label, label) for label in labels), "calls", "sampling, CPU-s"]
        body = []
        for contender in contenders:
            mine = [row for row in rows if row["set"] == name and row["contender"] == contender]
            if not mine:
                continue
            cells = [_cell(mine, label) for label in labels]
            body.append([contender, *cells, *(_cell(mine, label) for label in ("calls", "sampling"))])
        parts.append(table(header, body))
        parts.append(nearest(name, [row for row in rows if row["set"] == name]))
    notes = [f"- **{c.name}**: {c.note}." for c in (*OURS, *PEERS)]
    parts.append("How each was used:\n\n" + "\n".join(notes))
    parts.append("KL is KL(samples || exact density) by nearest neighbours; it is not 0 for real data of this size.")
    parts.append(f"Made by `python benchmarks/points.py {plan.options()}`.")
    return "\n\n".join(parts)


def _cell(rows: list[dict], label: str) -> str:
    values = [row[label] for row in rows if label in row]
    if len(values) < len(rows):
        return "" if rows[0]["contender"] == "real data" else "not finite"
    digits = {"modes": 0, "calls": 0, "share": 3, "KL": 2, "sampling": 2}.get(label, 2)
    return spread(values[:1] if label == "calls" else values, digits)


def kept(names: list[str], path: Path, plan: Plan, where: dict) -> list[dict]:
    """Return the rows of the sets that are not measured now, if they were made by the same plan on such a machine."""
    before = json.loads(path.read_text()) if path.exists() else {}
    if (before.get("setting"), before.get("plan")) != (where, asdict(plan)):
        return []
    return [row for row in before["rows"] if row["set"] not in names]


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU seconds of training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--training-points", type=int, default=TRAINING_POINTS)
    parser.add_argument("--draws", type=int, default=1, help="sets of samples of each model")
    parser.add_argument("--floor-pairs", type=int, default=40, help="pairs of real sets that measure the floor")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--name", default="points", help="of the result files")
    options = parser.parse_args()
    plan = Plan(**{field.name: getattr(options, field.name) for field in fields(Plan)})
    torch.set_num_threads(1)
    where = setting(*dict.fromkeys(package for peer in PEERS for package in peer.packages))
    rows = kept(options.sets, RESULTS / f"{options.name}.json", plan, where)
    done = list(dict.fromkeys(row["set"] for row in rows))
    for name in options.sets:
        for row in compare(name, plan):
            rows.append(row)
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        done.append(name)  # written after each set: an hour is long
        text = report(rows, [name for name in SETS if name in done], plan, where)
        write(options.name, text, {"setting": where, "plan": asdict(plan), "rows": rows})


if __name__ == "__main__":
    main()
