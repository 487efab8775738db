"""Samples of the grid with a bug and without it, for the exhibits that a sampler can show.

Home chapter: the bug museum (12).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from diffbook.museum.catalogue import exhibits
from diffutils.datasets import grid_mixture
from diffutils.device import make_generator
from diffutils.oracle import Oracle
from diffutils.samplers import DDIM, Ancestral, Heun, Sampler
from diffutils.schedule import Schedule
from diffutils.validation import check_choice

# How to sample so that the exhibit's bug takes part: the exact denoiser and the schedule -> a sampler.
_SAMPLERS: dict[str, Callable[[Oracle, Schedule], Sampler]] = {
    "padding": lambda oracle, schedule: Ancestral(oracle, schedule),
    "step-number": lambda oracle, schedule: DDIM(oracle, schedule.respaced(30)),
    "second-slope": lambda oracle, schedule: Heun(oracle, schedule.respaced(30)),
    "lost-bar": lambda oracle, schedule: Ancestral(oracle, schedule),
    "skipped-betas": lambda oracle, schedule: Ancestral(oracle, schedule.respaced(30)),
    "eta": lambda oracle, schedule: DDIM(oracle, schedule.respaced(30), eta=0.5),
    "uniform": lambda oracle, schedule: Ancestral(oracle, schedule),
    "clip": lambda oracle, schedule: DDIM(oracle, schedule.respaced(30)),
    "last-noise": lambda oracle, schedule: Ancestral(oracle, schedule, variance="beta"),
    "early-end": lambda oracle, schedule: DDIM(oracle, schedule.respaced(30)),
}
PICTURED = tuple(_SAMPLERS)


def samples(name: str, n: int = 2000, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return samples of the 5x5 grid by the exact denoiser, (n, 2) each: without the bug and with it, from one seed.

    Args:
        name: one of ``PICTURED``.
        n: how many.
        seed: of all noise.

    Raises:
        ValueError: for an exhibit that no sampler shows.
    """
    check_choice("name", name, PICTURED)
    right = _draw(name, n, seed)
    with exhibits[name].planted():
        return right, _draw(name, n, seed)


def _draw(name: str, n: int, seed: int) -> Tensor:
    # Everything is made anew here, because some bugs act when a schedule is made.
    schedule = Schedule.cosine(150)
    sampler = _SAMPLERS[name](grid_mixture().denoiser(schedule), schedule)
    return sampler.sample((n, 2), generator=make_generator(seed))
