"""What the property tests draw: schedules, data, and the settings under which they are drawn.

Hypothesis looks for a counterexample among the values a strategy can make. Here the search is derandomized and keeps no
database, so that a test gives the same answer on every machine and at every run.
"""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from diffutils.device import make_generator
from diffutils.schedule import Schedule

EPS = torch.finfo(torch.float64).eps


def examples(count: int) -> settings:
    """Settings for ``count`` examples, the same ones at every run."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=slow, print_blob=False
    )


def powers(low: float, high: float) -> st.SearchStrategy[float]:
    """Positive numbers between 10^low and 10^high, as often small as large."""
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


def any_beta() -> st.SearchStrategy[float]:
    """A variance anywhere in (0, 1): next to 0, next to 1, or between."""
    return st.one_of(powers(-14, -0.05), st.floats(0.01, 0.99), powers(-10, -1).map(lambda rest: 1 - rest))


@st.composite
def named_schedules(draw: st.DrawFn) -> Schedule:
    """A schedule of each kind that has a name, with any of its arguments."""
    kind = draw(st.sampled_from(["linear", "quadratic", "cosine", "sigmoid", "constant", "geometric"]))
    T = draw(st.integers(1, 60))
    if kind in ("linear", "quadratic"):
        if T > 20 and draw(st.booleans()):
            return getattr(Schedule, kind)(T)
        ends = sorted([draw(powers(-6, -0.02)), draw(powers(-6, -0.02))])
        return getattr(Schedule, kind)(T, *ends)
    if kind == "cosine":
        return Schedule.cosine(T, s=draw(st.floats(0, 0.2)), max_beta=draw(st.floats(0.5, 0.9999)))
    if kind == "sigmoid":
        # ends and widths that keep the last step but one above clip_min: two clipped entries are one alpha_bar
        start, width, tau = draw(st.floats(-5, -1)), draw(st.floats(1, 7)), draw(st.floats(0.7, 2))
        return Schedule.sigmoid(T, start=start, end=start + width, tau=tau, clip_min=draw(powers(-12, -8)))
    if kind == "constant":
        return Schedule.constant(T, draw(any_beta()))
    low = draw(powers(-4, 1))
    return Schedule.geometric(T, low, low * draw(st.floats(1.1, 1e4)))


@st.composite
def ladders(draw: st.DrawFn) -> Schedule:
    """A schedule from noise levels, each some factor above the one before."""
    factors = draw(st.lists(powers(0.001, 2.5), min_size=1, max_size=12))
    level, levels = draw(powers(-6, 2)), []
    for factor in factors:
        level *= factor
        levels.append(level)
    return Schedule.from_noise_levels(levels)


@st.composite
def from_running_products(draw: st.DrawFn) -> Schedule:
    """A schedule from alpha_bar; the last entry may be 0."""
    alpha_bar = [1.0]
    for share in draw(st.lists(st.floats(0.05, 0.999), min_size=1, max_size=12)):
        alpha_bar.append(alpha_bar[-1] * share)
    if draw(st.booleans()):
        alpha_bar.append(0.0)
    return Schedule.from_alpha_bar(alpha_bar[1:])


def schedules_with_signal() -> st.SearchStrategy[Schedule]:
    """Any schedule at all whose alpha_bar_T is above 0, respaced or not."""
    lists = st.lists(any_beta(), min_size=1, max_size=12).map(Schedule)
    products = from_running_products()
    # below 1e-300 a float64 loses digits, and a root of it half as many
    every = st.one_of(lists, named_schedules(), ladders(), products)
    return _respaced(every.filter(lambda schedule: float(schedule.alpha_bar[-1]) > 1e-300))


def schedules() -> st.SearchStrategy[Schedule]:
    """Any schedule at all: lists, the named ones, ladders, running products, with pure noise at the end or without."""
    with_end = st.lists(any_beta(), max_size=12).map(lambda betas: Schedule([*betas, 1.0]))
    stretched = schedules_with_signal().filter(_can_be_stretched).map(Schedule.with_zero_terminal_snr)
    return st.one_of(schedules_with_signal(), _respaced(st.one_of(with_end, from_running_products(), stretched)))


def gentle_schedules() -> st.SearchStrategy[Schedule]:
    """Schedules of the kind people use, on which a sampler's rounding stays small."""
    lists = st.lists(powers(-4, -0.05), min_size=1, max_size=10).map(Schedule)
    named = st.builds(Schedule.cosine, st.integers(2, 20)) | st.builds(Schedule.linear, st.integers(21, 30))
    ladder = st.builds(Schedule.geometric, st.integers(2, 12), powers(-2, -1), powers(0, 2))
    return _respaced(st.one_of(lists, named, ladder))


def _can_be_stretched(schedule: Schedule) -> bool:
    if schedule.T == 1:
        return False
    # The last step must be a share of the whole fall of sqrt(alpha_bar) that rounding leaves alone.
    fall = torch.expm1((schedule.log_alpha_bar - schedule.log_alpha_bar[1]) / 2)
    return float(fall[-2] - fall[-1]) > 1e-9


def _respaced(strategy: st.SearchStrategy[Schedule]) -> st.SearchStrategy[Schedule]:
    """The same schedules, every other one with fewer steps."""
    shorter = strategy.flatmap(lambda schedule: st.integers(1, schedule.T).map(schedule.respaced))
    return st.one_of(strategy, shorter)


@st.composite
def times(draw: st.DrawFn, schedule: Schedule, count: int) -> list[int]:
    """``count`` times of a schedule in 0..T, all different and rising."""
    return sorted(draw(st.sets(st.integers(0, schedule.T), min_size=count, max_size=count)))


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of a batch: points, vectors, images."""
    return st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def normal(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers that depend on the seed alone."""
    return torch.randn(shape, generator=make_generator(seed), dtype=torch.float64).to(dtype)


def rounding(schedule: Schedule) -> float:
    """How far rounding may move a table's entry, relative to it.

    Every table is a function of log(alpha_bar), whose own rounding, relative to alpha_bar, is its size times EPS.
    """
    logs = schedule.log_alpha_bar[torch.isfinite(schedule.log_alpha_bar)]
    return 8 * EPS * (4 + float(logs.abs().max()) + schedule.T)
