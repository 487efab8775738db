"""A schedule that ends in pure noise: what works there works, and what cannot says so before it computes."""

import pytest
import torch

from diffutils.distributions import GaussianMixture
from diffutils.models.ncsn import NCSN
from diffutils.networks import MLP
from diffutils.objectives import bayes_x0_errors, l_bound, l_simple, optimal_variance, variational_bound
from diffutils.schedule import Schedule

LAW = GaussianMixture(
    torch.tensor([0.4, 0.6]).double(), torch.tensor([[-1.0, 0.5], [1.0, 0.0]]).double(), torch.tensor([0.1, 0.2]).double()
)
ZERO = Schedule.linear(60, 1e-4, 0.1).with_zero_terminal_snr()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_least_error_of_x0_ends_at_the_variance_of_the_data() -> None:
    errors = bayes_x0_errors(LAW, ZERO)
    assert float(errors[-1]) == pytest.approx(float(LAW.covariance.trace()) / 2, rel=1e-12)
    assert (errors.diff() > 0).all() and torch.isfinite(optimal_variance(ZERO, errors)).all()


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_bounds_and_losses_are_finite_for_a_denoiser_that_works_there(prediction: str) -> None:
    denoiser, x = LAW.denoiser(ZERO, prediction), LAW.sample(300, generator=seeded())
    bound = variational_bound(denoiser, ZERO, x, variance="beta", generator=seeded())
    assert torch.isfinite(bound.per_example).all() and float(bound.per_example.mean()) > LAW.entropy()
    for target in ("x0", "v", "eps"):
        assert torch.isfinite(l_simple(denoiser, ZERO, x, target=target, generator=seeded()))


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_a_denoiser_that_knows_the_noise_only_is_refused(prediction: str) -> None:
    denoiser, x = LAW.denoiser(ZERO, prediction), LAW.sample(20, generator=seeded())
    asked = [
        lambda: variational_bound(denoiser, ZERO, x, generator=seeded()),
        lambda: l_bound(denoiser, ZERO, x, generator=seeded()),
        lambda: l_simple(denoiser, ZERO, x, target="x0", generator=seeded()),
        lambda: l_simple(denoiser, ZERO, x, target="v", generator=seeded()),
    ]
    for call in asked:
        with pytest.raises(ValueError, match="denoiser.prediction must be 'x0' or 'v'"):
            call()
    assert torch.isfinite(l_simple(denoiser, ZERO, x, generator=seeded()))


def test_a_ladder_needs_finite_levels() -> None:
    with pytest.raises(ValueError, match="above 0 for NCSN"):
        NCSN(MLP(2), ZERO)
