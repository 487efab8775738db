"""The two likelihoods of a diffusion model, the bound and that of its flow, beside the exact entropy of the grid.

First with the exact denoiser, where the flow has to give the law's own log-density and the bound its limit, which is
an integral. Then with networks trained for equal CPU seconds, each contender a second at a time in turn. All are gaps
to the mean of -log q(x_0) over the same fresh points, so that the chance in these points cancels.

    python benchmarks/likelihood.py             # about 6 minutes: 3 seeds of 20 CPU seconds
    python benchmarks/likelihood.py --seconds 5 --seeds 1
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from functools import cache

from common import cpu_seconds, described, setting, spread, table, write

import torch
from peers import Contender, PlainMLP, adam_steps
from points import TRAINING_POINTS, Diffutils, draw, train_in_turns
from quality import GRID
from torch import Tensor, nn

from diffutils.distributions import GaussianMixture
from diffutils.likelihood import ode_log_prob
from diffutils.models.ddpm import DDPM
from diffutils.networks import MLP
from diffutils.objectives import bayes_x0_errors, expected_terms, l_simple, optimal_variance, variational_bound
from diffutils.samplers import Denoiser
from diffutils.schedule import Schedule

EXACT_POINTS, BOUND_POINTS, ODE_POINTS, ODE_STEPS = 10_000, 1000, 400, 200
# The grid is a product of two equal laws on the line: its integrals are twice those of one.
AXIS = GaussianMixture(torch.full((5,), 0.2), GRID.means[:5, 1:], float(GRID.covariances[0, 0, 0]))
ENTROPY = 2 * AXIS.entropy()
SCHEDULES = {"linear": Schedule.linear(1000), "cosine": Schedule.cosine(1000)}


class Thousand(Diffutils):
    """The book's network and its training, on a chain that is long enough for a likelihood."""

    name = "diffutils, v, cosine"
    note = "MLP and training of DDPM.for_points(), on 1000 steps of the cosine schedule; average of weights"

    def untrained(self) -> DDPM:
        return DDPM(MLP(2, seed=self.seed), SCHEDULES["cosine"], "v")

    @property
    def trained(self) -> DDPM:
        return self.run.averaged.eval()


class ThousandEps(Thousand):
    """The same as Ho et al. have it."""

    name = "diffutils, eps, linear"
    note = "the same with the linear schedule and the noise for a target"

    def untrained(self) -> DDPM:
        return DDPM(MLP(2, seed=self.seed), SCHEDULES["linear"], "eps")


class Plain(Contender):
    """What a reader would write first."""

    name = "plain MLP, eps, linear"
    note = "PlainMLP of peers.py without Fourier features; AdamW at 1e-3, batches of 256, no average of weights"

    class Network(PlainMLP):
        prediction, schedule = "eps", SCHEDULES["linear"]

        def forward(self, x: Tensor, t: Tensor | int) -> Tensor:
            return super().forward(x, torch.as_tensor(t))

    def build(self) -> Iterator[None]:
        self.trained = self.Network()
        loss = lambda x: l_simple(self.trained, self.trained.schedule, x)  # noqa: E731
        return adam_steps(self.trained.parameters(), self.batches(256), loss)


CONTENDERS = (Thousand, ThousandEps, Plain)


def fresh(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return fresh points of the grid, (n, 2) float64, and -log q(x_0) of each, (n,)."""
    x = draw("grid", n, seed).double()
    return x, -GRID.log_prob(x)


@cache
def perfect_errors(schedule: Schedule) -> Tensor:
    """Return the least possible errors of x_0 at each time, by quadrature."""
    return bayes_x0_errors(AXIS, schedule)


def bound_gap(schedule: Schedule, errors: Tensor, variance: str | Tensor) -> float:
    """Return how far the expected bound of a denoiser with these errors of x_0 lies above the entropy, in nats."""
    square = float(GRID.covariance.double().trace()) / 2
    return float(expected_terms(schedule, errors, 2, variance=variance, x0_square=square).sum()) - ENTROPY


def exact() -> list[dict]:
    """Return the gaps of the exact denoiser on each schedule."""
    rows = []
    for name, schedule in SCHEDULES.items():
        x, truth = fresh(EXACT_POINTS, 3000)
        generator = torch.Generator().manual_seed(0)
        bound = variational_bound(GRID.denoiser(schedule, "x0"), schedule, x, generator=generator)
        gaps = bound.per_example - truth
        row = {"schedule": name, "limit": bound_gap(schedule, perfect_errors(schedule), "beta")}
        row.update(bound=float(gaps.mean()), error=float(gaps.std() / math.sqrt(len(gaps))))
        x, truth = x[:ODE_POINTS], truth[:ODE_POINTS]
        prior = GRID.diffused(float(schedule.alpha_bar[-1]), sigma2=float(schedule.sigma2[-1])).log_prob
        for label, at_end in (("q(x_T)", prior), ("N(0, I)", None)):
            found = -ode_log_prob(GRID.denoiser(schedule, "v"), schedule, x, prior=at_end)
            row[label], row[f"{label}, largest"] = float((found - truth).mean()), float((found - truth).abs().max())
        rows.append(row)
        print(row, flush=True)
    return rows


def errors_of(denoiser: Denoiser, schedule: Schedule, x: Tensor, seed: int) -> Tensor:
    """Return the errors of a network's x_0 at each time.

    Those of the exact denoiser are known. Only the difference of the two is measured, over the same points and noise,
    which leaves little to chance.
    """
    network, perfect = (
        variational_bound(each, schedule, x, generator=torch.Generator().manual_seed(seed)).x0_errors
        for each in (denoiser, GRID.denoiser(schedule, "x0"))
    )
    return perfect_errors(schedule) + network - perfect


def gaps_of(denoiser: Denoiser, schedule: Schedule, data: Tensor, seed: int) -> dict[str, float]:
    """Return the gaps of a trained network: of its bound with two variances, and of its flow."""
    x, truth = (values.float() for values in fresh(BOUND_POINTS, 4000 + seed))
    errors = errors_of(denoiser, schedule, x, seed)
    # The best table is chosen on points of the training set, or the bound would not be one.
    best = optimal_variance(schedule, errors_of(denoiser, schedule, data[:BOUND_POINTS], 1000 + seed))
    flow = -ode_log_prob(denoiser, schedule.respaced(ODE_STEPS), x[:ODE_POINTS])
    return {
        "beta": bound_gap(schedule, errors, "beta"),
        "best": bound_gap(schedule, errors, best),
        "flow": float((flow - truth[:ODE_POINTS]).mean()),
    }


def trained(seconds: float, seeds: int) -> Iterator[dict]:
    """Yield one row for each contender and seed."""
    data = draw("grid", TRAINING_POINTS, 1000)
    for seed in range(seeds):
        contenders = [
            kind(data, seed, seconds) if issubclass(kind, Diffutils) else kind(data, seed) for kind in CONTENDERS
        ]
        used = train_in_turns(contenders, seconds)
        for contender in contenders:
            model: nn.Module = contender.trained
            found: dict[str, float] = {}
            measuring = cpu_seconds(lambda: found.update(gaps_of(model, model.schedule, data, seed)))
            spent, steps = used[contender.name]
            row = {"seed": seed, "contender": contender.name, "training": spent, "steps": steps, "measuring": measuring}
            yield {**row, **found}


def report(perfect: list[dict], rows: list[dict], seconds: float, seeds: int, where: dict) -> str:
    """Return the page."""
    first = []
    for row in perfect:
        flow = [f"{row[key]:.5f}" for key in ("q(x_T)", "q(x_T), largest", "N(0, I)")]
        first.append([row["schedule"], *flow, f"{row['bound']:.3f}±{row['error']:.3f}", f"{row['limit']:.3f}"])
    second = []
    for kind in CONTENDERS:
        mine = [row for row in rows if row["contender"] == kind.name]
        second.append([kind.name, *(spread([row[key] for row in mine], 3) for key in ("beta", "best", "flow"))])
    heads = ["flow", "flow, largest error", "flow from N(0, I)", "bound, beta_t", "limit of the bound"]
    return "\n\n".join(
        (
            "# Likelihoods on the grid",
            f"The entropy of the grid is {ENTROPY:.4f} nats. Every number is a gap to it, in nats: how far an estimate "
            "of -log p(x_0) lies above the exact -log q(x_0), as a mean over fresh points. 0 is perfect. T is 1000. "
            f"{described(where)}",
            table(["exact denoiser", *heads], first),
            "Flow is the likelihood of the probability-flow ODE, `ode_log_prob`, in float64 over all 1000 times, for "
            f"{ODE_POINTS} points. It ends in the exact law of x_T; in the third column N(0, I) stands in its place. "
            f"Bound is `variational_bound` for {EXACT_POINTS:,} points, with its standard error after ±. Its limit is "
            "what a perfect network is left with, by quadrature: the exact reverse steps are not Gaussian.",
            table([f"{seconds:g} CPU-s of training", "bound, beta_t", "bound, best variance", "flow"], second),
            f"Means over {seeds} seeds; after ± stands half of the way from the lowest to the highest. Best variance: "
            "one number for each step (`optimal_variance`), chosen on training points. The flow ends in N(0, I) and "
            f"visits {ODE_STEPS} of the 1000 times. With eps its velocity is (eps - s x) / a, s and a being the "
            "factors of noise and data in x_t: where a is small, errors of eps grow.",
            "How each was trained:\n\n" + "\n".join(f"- **{kind.name}**: {kind.note}." for kind in CONTENDERS),
            f"Made by `python benchmarks/likelihood.py --seconds {seconds:g} --seeds {seeds}`.",
        )
    )


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU seconds of training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", default="likelihood", help="of the result files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where, perfect, rows = setting(), exact(), []
    for row in trained(options.seconds, options.seeds):
        rows.append(row)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    text = report(perfect, rows, options.seconds, options.seeds, where)
    data = {"setting": where, "seconds": options.seconds, "seeds": options.seeds, "entropy": ENTROPY}
    write(options.name, text, {**data, "exact": perfect, "trained": rows})


if __name__ == "__main__":
    main()
