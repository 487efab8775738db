"""The museum's statistics that are z-scores spread as z-scores do while the code is right, seed by seed."""

import math

import pytest

from diffbook.museum import statistics

SCORES = ("mean_of_noise", "variance_of_the_chain", "marginal_of_ddim", "time_told", "spread_of_langevin", "stein")
SEEDS = 12


def rms(values: list[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))


def test_the_z_score_of_a_variance_is_one() -> None:
    scores = [statistics.z_of_variance(2 * statistics.doubles(1000, 1, seed), 4.0) for seed in range(400)]
    # the root of 400 squares of N(0, 1) over 400 has standard deviation 1 / sqrt(800)
    assert abs(rms(scores) - 1) < 5 / math.sqrt(800)


@pytest.mark.parametrize("name", SCORES)
def test_a_z_score_has_unit_spread_over_seeds(name: str) -> None:
    scores = [getattr(statistics, name)(7 * seed) for seed in range(SEEDS)]
    assert abs(rms(scores) - 1) < 4 / math.sqrt(2 * SEEDS), scores
