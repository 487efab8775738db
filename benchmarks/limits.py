"""What is left where the network is perfect: every sampler with the exact denoiser of the grid in the network's place.

Then a sampler's distance to the data has two parts only: its finite number of steps, and the 5,000 points that stand
for a law. Where it is no larger than that of fresh real points, measured against the same real sets, the first part
cannot be seen. Samplers of other libraries are given the same denoiser. Distances are in floors, as in points.py.

    python benchmarks/limits.py                 # about 5 minutes: 5 seeds
    python benchmarks/limits.py --seeds 2
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial

from common import described, setting, spread, table, write

import torch
from peers import load
from quality import GRID, METRICS, on_the_grid
from scipy.stats import t as student
from torch import Tensor

from diffutils.metrics import over_floor, real_floor
from diffutils.samplers import DDIM, Ancestral, DPMSolver2M, Heun, PredictorCorrector, Sampler
from diffutils.schedule import Schedule

SAMPLES, FLOOR_REPEATS = 5000, 10
LOWEST, HIGHEST = 0.002, 80.0
LINEAR, COSINE = Schedule.linear(1000), Schedule.cosine(1000)
PACKAGES = ("diffusers", "k-diffusion", "azula")
REAL = "real data"
# An x_0-prediction loses no digits where alpha_bar is nearly 0.
BY_LINEAR, BY_COSINE = GRID.denoiser(LINEAR, "x0"), GRID.denoiser(COSINE, "x0")


def karras(steps: int) -> Schedule:
    """Return noise levels whose seventh roots lie in equal steps (Karras et al. 2022, equation 5)."""
    roots = torch.linspace(LOWEST ** (1 / 7), HIGHEST ** (1 / 7), steps, dtype=torch.float64)
    return Schedule.from_noise_levels(roots**7, "Karras")


def on_karras(make: Callable[..., Sampler], steps: int) -> Sampler:
    schedule = karras(steps)
    return make(GRID.denoiser(schedule, "x0"), schedule)


OURS: dict[str, Callable[[], Sampler]] = {
    "ancestral, linear, beta_tilde": lambda: Ancestral(BY_LINEAR, LINEAR),
    "ancestral, linear, beta": lambda: Ancestral(BY_LINEAR, LINEAR, variance="beta"),
    "ancestral, cosine, beta_tilde": lambda: Ancestral(BY_COSINE, COSINE),
    "ancestral, cosine, beta": lambda: Ancestral(BY_COSINE, COSINE, variance="beta"),
    "ancestral, cosine, beta_tilde, 100 steps": lambda: Ancestral(BY_COSINE, COSINE.respaced(100)),
    "ancestral, cosine, beta_tilde, 50 steps": lambda: Ancestral(BY_COSINE, COSINE.respaced(50)),
    "ancestral, cosine, best variance, 50 steps": lambda: Ancestral(BY_COSINE, COSINE.respaced(50), variance="learned"),
    "predictor-corrector, cosine, 50 steps": lambda: PredictorCorrector(DDIM(BY_COSINE, COSINE.respaced(50))),
    "DDIM, cosine": lambda: DDIM(BY_COSINE, COSINE.respaced(50)),
    "Heun, Karras": lambda: on_karras(partial(Heun, variable="noise_level"), 25),
    "Heun, cosine, in the noise level": lambda: Heun(BY_COSINE, COSINE.respaced(25), variable="noise_level"),
    "Heun, cosine, in log alpha_bar": lambda: Heun(BY_COSINE, COSINE.respaced(25)),
    "DPM-Solver++(2M), cosine": lambda: DPMSolver2M(BY_COSINE, COSINE.respaced(50)),
    "DPM-Solver++(2M), Karras": lambda: on_karras(DPMSolver2M, 50),
}


class Exact:
    """The exact denoiser, asked by the factors of x = alpha x_0 + sigma eps, as other libraries ask; it counts."""

    def __init__(self) -> None:
        self.calls = 0

    def x0(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        self.calls += 1
        norm = math.hypot(alpha, sigma)
        return GRID.expected_x0(x / norm, (alpha / norm) ** 2, sigma2=(sigma / norm) ** 2)


def with_diffusers(kind: str, exact: Exact, *, steps: int = 1000, **options) -> Tensor:
    """Sample with a scheduler of diffusers, whose default is that a network predicts eps."""
    import diffusers

    scheduler = getattr(diffusers, kind)(num_train_timesteps=1000, **options)
    scheduler.set_timesteps(steps)
    x = torch.randn(SAMPLES, 2)
    for t in scheduler.timesteps:
        level = float(scheduler.alphas_cumprod[t].double())
        alpha, sigma = math.sqrt(level), math.sqrt(1 - level)
        eps = (x - alpha * exact.x0(x, alpha, sigma)) / sigma
        x = scheduler.step(eps, t, x).prev_sample
    return x


def with_k_diffusion(kind: str, exact: Exact, steps: int) -> Tensor:
    sampling = load("k_diffusion.sampling")
    levels = sampling.get_sigmas_karras(steps, LOWEST, HIGHEST)
    model = lambda x, sigma: exact.x0(x, 1.0, float(sigma[0]))  # noqa: E731
    return getattr(sampling, kind)(model, torch.randn(SAMPLES, 2) * HIGHEST, levels, disable=True)


def with_azula(kind: str, exact: Exact, steps: int) -> Tensor:
    from azula import sample
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule

    class AsDenoiser(Denoiser):
        schedule = VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor) -> DiracPosterior:
            return DiracPosterior(exact.x0(x_t, *(float(factor) for factor in self.schedule(t))))

    sampler = getattr(sample, kind)(AsDenoiser(), steps=steps, silent=True)
    return sampler(sampler.init((SAMPLES, 2)))


UNCLIPPED = {"clip_sample": False}
COSINE_THERE = {"beta_schedule": "squaredcos_cap_v2"}
PEERS: dict[str, Callable[[Exact], Tensor]] = {
    "diffusers: DDPM, linear": lambda e: with_diffusers("DDPMScheduler", e, **UNCLIPPED),
    "diffusers: DDIM, cosine": lambda e: with_diffusers("DDIMScheduler", e, steps=50, **UNCLIPPED, **COSINE_THERE),
    "diffusers: DPM-Solver++(2M), cosine": lambda e: with_diffusers(
        "DPMSolverMultistepScheduler", e, steps=50, **COSINE_THERE
    ),
    "k-diffusion: Heun, Karras": lambda e: with_k_diffusion("sample_heun", e, 25),
    "k-diffusion: DPM-Solver++(2M), Karras": lambda e: with_k_diffusion("sample_dpmpp_2m", e, 50),
    "azula: DDIM": lambda e: with_azula("DDIMSampler", e, 50),
    "azula: Heun": lambda e: with_azula("HeunSampler", e, 25),
}


NOTES = (
    "Rows without the name of a library are `diffutils.samplers`. Linear and cosine are schedules of 1000 steps; fewer "
    "steps or calls visit times that lie evenly in t (`Schedule.respaced`).",
    f"Karras: noise levels from {LOWEST} to {HIGHEST:g} whose seventh roots lie evenly (Karras et al. 2022), with "
    "`Schedule.from_noise_levels`. A network has to know these levels; the exact denoiser does.",
    "Best variance: each coordinate of each step has the variance of the exact reverse step, as `Oracle` gives it.",
    "Predictor-corrector: after each of 50 DDIM steps one step of Langevin dynamics.",
    "Heun on the cosine schedule: the noise level falls from {:,.0f} to {:.0f} in the first of "
    "25 steps, and the mean of the slopes at the two ends is wrong over such a step. In log alpha_bar the same times "
    "serve.".format(*COSINE.respaced(25).noise_levels[[-1, -2]].tolist()),
    "diffusers: its defaults, but without clipping to [-1, 1], which is for images. azula: its VPSchedule. Its 25 steps "
    "are even in time, so that the last begins at a noise level of 0.15, twice the width of a mode.",
)


def draws(seed: int) -> Iterator[tuple[str, Tensor, int | None]]:
    """Yield the name, the samples and the calls of every contender."""
    generator = torch.Generator().manual_seed(5000 + seed)
    yield REAL, GRID.sample(SAMPLES, generator=generator), None
    for name, made in OURS.items():
        sampler = made()
        x = sampler.sample((SAMPLES, 2), generator=torch.Generator().manual_seed(seed))
        yield name, x, sampler.calls
    for name, sample in PEERS.items():
        torch.manual_seed(seed)
        exact = Exact()
        yield name, sample(exact), exact.calls


def measure(seeds: int) -> Iterator[dict]:
    """Yield one row for each contender and seed; within a seed all are compared with the same real set."""
    floors = {label: real_floor(metric, GRID, SAMPLES, repeats=FLOOR_REPEATS) for label, metric in METRICS.items()}
    for seed in range(seeds):
        for name, x, calls in draws(seed):
            found = on_the_grid(x)
            for label, metric in METRICS.items():
                found[label] = over_floor(metric, x, GRID, floor=floors[label], repeats=1, seed=100 + seed)
            yield {"seed": seed, "contender": name, "calls": calls, **found}


def above_real(rows: list[dict], contender: str, label: str) -> tuple[float, float]:
    """Return how far a contender lies above real data: the mean difference over the seeds, and its standard error."""
    values = {name: [row[label] for row in rows if row["contender"] == name] for name in (contender, REAL)}
    differences = [x - real for x, real in zip(values[contender], values[REAL])]
    return statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(differences))


def as_real(rows: list[dict], label: str, names: list[str]) -> list[str]:
    """Return the contenders that a t-test over the seeds does not show to be above real data, at 2.5 percent."""
    limit = student.ppf(0.975, len({row["seed"] for row in rows}) - 1)
    return [name for name in names if above_real(rows, name, label)[0] <= limit * above_real(rows, name, label)[1]]


def report(rows: list[dict], seeds: int, where: dict) -> str:
    """Return the page."""
    digits = {"sliced Wasserstein": 2, "energy distance": 2, "MMD": 2, "modes": 0, "share": 3, "KL": 3}
    heads = ["modes of 25", "within 3 sigma", "KL, nats", "KL above real", "calls"]
    names, body = [*OURS, *PEERS], []
    for name in (REAL, *names):
        mine = [row for row in rows if row["contender"] == name]
        cells = [spread([row[label] for row in mine], number) for label, number in digits.items()]
        last = ["", ""] if name == REAL else [f"{above_real(rows, name, 'KL')[0]:.3f}", str(mine[0]["calls"])]
        body.append([name, *cells, *last])
    by_distance, by_kl = (as_real(rows, label, names) for label in ("sliced Wasserstein", "KL"))
    far = [name for name in names if name not in by_distance]
    error = statistics.median(above_real(rows, name, "sliced Wasserstein")[1] for name in names)
    return "\n\n".join(
        (
            "# Samplers with the exact denoiser",
            f"{SAMPLES:,} samples of the grid; in the network's place stands the exact expectation of x_0, so that "
            f"nothing was trained. Numbers are means over {seeds} seeds; after ± stands half of the way from the "
            "lowest to the highest. Distances are in floors: 1 is what a second real set has. KL is KL(samples || "
            "exact density) by nearest neighbours; it is not 0 for real data of this size, and the column beside it "
            f"is what the sampler adds. Calls are those of the denoiser for one set. {described(where)}",
            table(["sampler", *list(digits)[:3], *heads], body),
            "A t-test over the seeds, at 2.5 percent, does not tell the sliced Wasserstein distance of "
            f"{len(by_distance)} of the {len(names)} rows from that of real data; the mean difference has a standard "
            f"error of about {error:.2f} floors. It is larger for {'; '.join(far) or 'none'}. KL sees finer detail. It "
            f"cannot be told from that of real data for {'; '.join(by_kl) or 'none'}.",
            "How to read the first column:\n\n" + "\n".join(f"- {note}" for note in NOTES),
            f"Made by `python benchmarks/limits.py --seeds {seeds}`.",
        )
    )


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    parser.add_argument("--name", default="limits", help="of the result files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where, rows = setting(*PACKAGES), []
    for row in measure(options.seeds):
        rows.append(row)
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    write(options.name, report(rows, options.seeds, where), {"setting": where, "seeds": options.seeds, "rows": rows})


if __name__ == "__main__":
    main()
