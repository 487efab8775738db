"""The best variance of each step: a minimum, the same from the oracle as from data, and what the bound gains by it."""

from __future__ import annotations

import math

import pytest
import torch

from diffutils.datasets import grid_mixture
from diffutils.distributions import GaussianMixture
from diffutils.objectives import bayes_x0_errors, expected_terms, optimal_variance, variational_bound
from diffutils.schedule import Schedule

GRID = grid_mixture()
AXIS = GaussianMixture(torch.full((5,), 0.2), GRID.means[:5, 1:], float(GRID.covariances[0, 0, 0]))
SCHEDULE = Schedule.linear(50)
ERRORS = bayes_x0_errors(AXIS, SCHEDULE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_least_errors_are_those_of_the_oracle_on_data() -> None:
    x0 = GRID.sample(4000, generator=seeded())
    bound = variational_bound(GRID.denoiser(SCHEDULE), SCHEDULE, x0, generator=seeded(1))
    # |x_0 - x0_hat|^2 / 2 varies by about its own size from one example to the next.
    assert bound.x0_errors[0] == 0 and ERRORS[0] == 0
    assert ((bound.x0_errors - ERRORS)[1:] / ERRORS[1:]).abs().max() < 5 * 1.5 / math.sqrt(4000)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "optimal"])
def test_expected_terms_are_what_is_measured(variance: str) -> None:
    table = optimal_variance(SCHEDULE, ERRORS) if variance == "optimal" else variance
    x0 = GRID.sample(3000, generator=seeded(2))
    bound = variational_bound(GRID.denoiser(SCHEDULE), SCHEDULE, x0, variance=table, generator=seeded(3))
    z = (bound.terms - expected_terms(SCHEDULE, ERRORS, 2, variance=table)) / bound.errors
    assert z.abs().max() < 5


def test_from_the_measured_errors_follow_the_measured_terms() -> None:
    x0 = GRID.sample(500, generator=seeded(4))
    bound = variational_bound(GRID.denoiser(SCHEDULE), SCHEDULE, x0, variance="beta_tilde", generator=seeded(5))
    square = float(x0.square().mean())
    again = expected_terms(SCHEDULE, bound.x0_errors, 2, variance="beta_tilde", x0_square=square)
    torch.testing.assert_close(again, bound.terms, rtol=1e-5, atol=1e-9)


def test_no_other_variance_makes_any_term_smaller() -> None:
    best = optimal_variance(SCHEDULE, ERRORS)
    least = expected_terms(SCHEDULE, ERRORS, 2, variance=best)[:-1]
    for factor in (0.8, 0.99, 1.01, 1.25):
        other = expected_terms(SCHEDULE, ERRORS, 2, variance=factor * best)[:-1]
        assert (other > least).all()
    assert best[1] == ERRORS[1] and (best >= SCHEDULE.beta_tilde).all()


def test_for_standard_normal_data_it_is_beta_and_for_a_point_beta_tilde() -> None:
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), 1.0)
    torch.testing.assert_close(optimal_variance(SCHEDULE, bayes_x0_errors(normal, SCHEDULE)), SCHEDULE.beta)
    torch.testing.assert_close(optimal_variance(SCHEDULE, torch.zeros(51)), SCHEDULE.beta_tilde)


def test_the_grids_bound_over_a_thousand_steps() -> None:
    schedule = Schedule.linear(1000)
    errors, entropy = bayes_x0_errors(AXIS, schedule), 2 * AXIS.entropy()
    gap = {
        name: float(expected_terms(schedule, errors, 2, variance=v).sum()) - entropy
        for name, v in (("beta", "beta"), ("tilde", "beta_tilde"), ("best", optimal_variance(schedule, errors)))
    }
    assert gap == pytest.approx({"beta": 0.052, "tilde": 0.760, "best": 0.021}, abs=6e-4)


def test_bad_tables_are_named() -> None:
    for bad in (torch.zeros(50), torch.full((51,), -1.0), torch.full((51,), math.nan)):
        with pytest.raises(ValueError, match="x0_errors"):
            optimal_variance(SCHEDULE, bad)
        with pytest.raises(ValueError, match="x0_errors"):
            expected_terms(SCHEDULE, bad, 2)
    with pytest.raises(ValueError, match="dim"):
        expected_terms(SCHEDULE, ERRORS, 0)
