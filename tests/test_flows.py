"""The flow: a bijection to machine precision, its own Jacobian's log-determinant, and a density of mass one."""

from __future__ import annotations

import math

import pytest
import torch

from diffutils.datasets import two_moons
from diffutils.device import make_generator
from diffutils.models.flows import RealNVP
from diffutils.training import train


def wild_flow(dim=2, seed=0, gain=1.6):
    """A flow far from the identity: torch's initial weights, enlarged."""
    flow = RealNVP(dim, couplings=6, hidden=24, seed=seed, max_log_scale=1.5).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(gain)
    return flow


def points(n, dim, seed=0):
    return torch.randn(n, dim, generator=make_generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_inverse_undoes_forward_to_machine_precision(dim):
    flow = wild_flow(dim)
    x = points(200, dim)
    z, log_det = flow(x)
    back, log_det_back = flow.inverse(z)
    assert (z - x).abs().mean() > 0.1  # it does something
    # Errors are a few ulp (2e-16), enlarged by the map's own slopes.
    torch.testing.assert_close(back, x, atol=1e-11, rtol=0)
    torch.testing.assert_close(log_det_back, -log_det, atol=1e-11, rtol=0)
    torch.testing.assert_close(flow(flow.inverse(x)[0])[0], x, atol=1e-11, rtol=0)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_the_log_determinant_is_that_of_autograds_jacobian(dim):
    flow = wild_flow(dim)
    x = points(50, dim)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: flow(one[None])[0][0]))(x)
    log_det = torch.linalg.slogdet(jacobian).logabsdet
    assert log_det.abs().mean() > 0.1
    torch.testing.assert_close(flow(x)[1], log_det, atol=1e-10, rtol=0)


def test_every_coordinate_is_moved():
    flow = wild_flow(3)
    x = points(20, 3)
    assert ((flow(x)[0] - x).abs() > 1e-6).any(dim=0).all()


def test_the_density_integrates_to_one():
    flow = wild_flow(2, gain=1.0)
    reach, count = 12.0, 401
    axis = torch.linspace(-reach, reach, count, dtype=torch.float64)
    mass = 0.0
    with torch.no_grad():
        for rows in torch.cartesian_prod(axis, axis).split(100_000):
            mass += flow.log_prob(rows).exp().sum().item()
    # A Riemann sum of a smooth density that has died at the edges.
    assert mass * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1.0, abs=1e-3)


def test_samples_follow_the_density():
    # E[f] over samples and the integral of f p agree, for f that a wrong sign of the log-scale would shift.
    flow = wild_flow(2, gain=1.0)
    samples = flow.sample(20_000, generator=make_generator(1))
    axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        weight = flow.log_prob(grid).exp() * (axis[1] - axis[0]) ** 2
    moments = [
        lambda x: x[:, 0],
        lambda x: x[:, 1],
        lambda x: x[:, 0] ** 2,
        lambda x: x[:, 1] ** 2,
        lambda x: x.prod(dim=1),
    ]
    for f in moments:
        values = f(samples)
        z = (values.mean() - (weight * f(grid)).sum()) / (values.std() / math.sqrt(len(values)))
        assert abs(z.item()) < 5


def test_training_raises_the_likelihood_above_a_gaussians():
    x = two_moons(4000, seed=0)
    flow = RealNVP(couplings=6, hidden=32)
    train(flow, x, steps=300, batch_size=256, lr=2e-3, device="cpu", progress=False)
    gaussian = -math.log(2 * math.pi) - 1.0  # the standardised data under N(0, I), apart from its correlation
    assert flow.log_prob(two_moons(2000, seed=1)).mean().item() > gaussian + 0.6


def test_samples_repeat_for_a_seed_and_keep_the_models_dtype():
    flow = RealNVP(hidden=8)
    samples = flow.sample(7, generator=make_generator(2))
    assert samples.shape == (7, 2) and samples.dtype == torch.float32 and not samples.requires_grad
    assert torch.equal(samples, flow.sample(7, generator=make_generator(2)))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="dim"):
        RealNVP(1)
    with pytest.raises(ValueError, match="couplings"):
        RealNVP(couplings=1)
    with pytest.raises(ValueError, match="max_log_scale"):
        RealNVP(max_log_scale=0.0)
    with pytest.raises(ValueError, match="x.shape"):
        RealNVP().log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="NaN"):
        RealNVP().loss(torch.full((4, 2), math.nan))
    with pytest.raises(ValueError, match="n must"):
        RealNVP().sample(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_serves_a_model_on_a_gpu():
    flow = RealNVP(hidden=8)
    expected = flow.sample(5, generator=make_generator(0))
    torch.testing.assert_close(flow.cuda().sample(5, generator=make_generator(0)).cpu(), expected, atol=1e-4, rtol=0)
    assert flow.log_prob(torch.zeros(3, 2).cuda()).is_cuda
