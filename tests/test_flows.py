"""The flows: bijections to machine precision, their own Jacobians' log-determinants, and densities of mass one."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import zuko
from torch.distributions import AffineTransform, Independent, Normal
from zuko.transforms import (
    ComposedTransform,
    CouplingTransform,
    DependentTransform,
    LULinearTransform,
    PermutationTransform,
)

from diffutils.datasets import two_moons
from diffutils.device import make_generator
from diffutils.models.flows import NICE, ActNorm, AdditiveCoupling, Glow, ImageGlow, InvertibleLinear, RealNVP, Scaling
from diffutils.models.flows.coupling import AffineCoupling
from diffutils.training import train

SMALL = {
    "NICE": lambda dim=2, seed=0: NICE(dim, couplings=5, hidden=24, fourier=3, seed=seed),
    "RealNVP": lambda dim=2, seed=0: RealNVP(dim, couplings=6, hidden=24, seed=seed),
    "Glow": lambda dim=2, seed=0: Glow(dim, steps=4, hidden=24, fourier=3, seed=seed),
}
flows = pytest.mark.parametrize("kind", SMALL)


def wild(flow, gain=1.6, seed=7):
    """Return the flow far from the identity, in double precision: every parameter enlarged and moved."""
    generator = make_generator(seed)
    flow = flow.double()
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_(gain).add_(0.1 * noise)
    return flow


def points(n, dim, seed=0):
    return torch.randn(n, dim, generator=make_generator(seed), dtype=torch.float64)


def square(reach=14.0, count=561):
    """Return points of a square grid (N, 2) and the area that belongs to each."""
    axis = torch.linspace(-reach, reach, count, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), (axis[1] - axis[0]).item() ** 2


def autograd_log_det(function, x):
    """Return log |det| of the Jacobian of ``function`` (one example to one example) at each x (B, ...)."""
    dim = x[0].numel()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: function(one[None])[0][0]))(x)
    return torch.linalg.slogdet(jacobian.reshape(len(x), dim, dim)).logabsdet


@flows
@pytest.mark.parametrize("dim", [2, 3, 5])
def test_inverse_undoes_forward_to_machine_precision(kind, dim):
    flow = wild(SMALL[kind](dim))
    x = points(200, dim)
    z, log_det = flow(x)
    back, log_det_back = flow.inverse(z)
    assert (z - x).abs().mean() > 0.1  # it does something
    # Errors are a few ulp (2e-16), enlarged by the map's own slopes.
    scale = 1 + x.abs().max() + z.abs().max()
    torch.testing.assert_close(back, x, atol=1e-12 * scale.item(), rtol=0)
    torch.testing.assert_close(log_det_back, -log_det, atol=1e-11, rtol=0)
    torch.testing.assert_close(flow(flow.inverse(x)[0])[0], x, atol=1e-10, rtol=0)


@flows
def test_inverse_in_single_precision(kind):
    flow = SMALL[kind](64).eval()
    x = points(100, 64).float()
    torch.testing.assert_close(flow.inverse(flow(x)[0])[0], x, atol=2e-4, rtol=0)


@flows
@pytest.mark.parametrize("dim", [2, 3, 5])
def test_the_log_determinant_is_that_of_autograds_jacobian(kind, dim):
    flow = wild(SMALL[kind](dim))
    x = points(50, dim)
    log_det = autograd_log_det(flow, x)
    assert log_det.abs().mean() > 0.1
    torch.testing.assert_close(flow(x)[1], log_det, atol=1e-10, rtol=0)
    torch.testing.assert_close(flow.inverse(x)[1], autograd_log_det(flow.inverse, x), atol=1e-9, rtol=0)


@flows
def test_every_coordinate_is_moved(kind):
    flow = wild(SMALL[kind](3))
    x = points(20, 3)
    assert ((flow(x)[0] - x).abs() > 1e-6).any(dim=0).all()


@flows
def test_the_density_integrates_to_one(kind):
    flow = wild(SMALL[kind](), gain=1.0)
    grid, area = square()
    with torch.no_grad():
        mass = sum(flow.log_prob(rows).exp().sum().item() for rows in grid.split(100_000)) * area
    # A Riemann sum of a smooth density that has died at the edges.
    assert mass == pytest.approx(1.0, abs=1e-3)


@flows
def test_samples_follow_the_density(kind):
    # E[f] over samples and the integral of f p agree, for f that a wrong sign of the log-scale would shift.
    flow = wild(SMALL[kind](), gain=1.0)
    samples = flow.sample(20_000, generator=make_generator(1))
    grid, area = square()
    with torch.no_grad():
        weight = torch.cat([flow.log_prob(rows) for rows in grid.split(100_000)]).exp() * area
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


def zuko_layer(layer, dim):
    """Return zuko's (or torch's) transforms that are one of our layers."""
    if isinstance(layer, Scaling):
        return [DependentTransform(AffineTransform(torch.zeros(dim).double(), layer.log_scale.exp()), 1)]
    if isinstance(layer, ActNorm):
        scale = layer.log_scale.exp()
        return [DependentTransform(AffineTransform(-layer.shift * scale, scale), 1)]
    if isinstance(layer, InvertibleLinear):
        permutation, lower, upper = layer.factors()
        s = upper.diagonal()
        # zuko has its diagonal in L: L (U + S) = (L S)(I + S^-1 U)
        packed = (lower * s).tril() + (upper / s[:, None]).triu(1)
        return [LULinearTransform(packed), PermutationTransform(permutation.argmax(dim=1))]
    kept = torch.zeros(dim, dtype=torch.bool)
    kept[layer.order[: layer.sizes[0]]] = True

    def meta(x_a):
        if isinstance(layer, AdditiveCoupling):
            return DependentTransform(AffineTransform(layer.network(x_a), 1.0), 1)
        raw, shift = layer.network(x_a).chunk(2, dim=1)
        return DependentTransform(AffineTransform(shift, (1.5 * torch.tanh(raw / 1.5)).exp()), 1)

    return [CouplingTransform(meta, kept)]


@flows
@pytest.mark.parametrize("dim", [2, 5])
def test_the_same_map_built_of_zukos_transforms_has_the_same_density(kind, dim):
    flow = wild(SMALL[kind](dim))
    transform = ComposedTransform(*(part for layer in flow.layers for part in zuko_layer(layer, dim)))
    base = Independent(Normal(torch.zeros(dim).double(), torch.ones(dim).double()), 1)
    other = zuko.distributions.NormalizingFlow(transform, base)
    x = points(100, dim)
    torch.testing.assert_close(flow.log_prob(x), other.log_prob(x), atol=1e-10, rtol=1e-12)
    torch.testing.assert_close(flow.inverse(x)[0], transform.inv(x), atol=1e-9, rtol=1e-9)


def test_nice_preserves_volume_but_for_one_factor():
    flow = wild(NICE(4, couplings=4, hidden=16))
    torch.nn.init.constant_(flow.layers[-1].log_scale, 0.3)
    log_det = flow(points(50, 4))[1]
    torch.testing.assert_close(log_det, torch.full((50,), 1.2, dtype=torch.float64), atol=1e-13, rtol=0)
    plain = wild(NICE(4, couplings=4, hidden=16, scaling=False))
    assert not any(isinstance(layer, Scaling) for layer in plain.layers)
    assert torch.equal(plain(points(50, 4))[1], torch.zeros(50, dtype=torch.float64))


@flows
def test_training_raises_the_likelihood_above_a_gaussians(kind):
    x = two_moons(4000, seed=0)
    flow = SMALL[kind]()
    train(flow, x, steps=200, batch_size=256, lr=5e-3, device="cpu", progress=False)
    gaussian = -math.log(2 * math.pi) - 1.0  # the standardised data under N(0, I), apart from its correlation
    assert flow.log_prob(two_moons(2000, seed=1)).mean().item() > gaussian + 0.5


@flows
def test_samples_repeat_for_a_seed_and_keep_the_models_dtype(kind):
    flow = SMALL[kind]()
    samples = flow.sample(7, generator=make_generator(2))
    assert samples.shape == (7, 2) and samples.dtype == torch.float32 and not samples.requires_grad
    assert torch.equal(samples, flow.sample(7, generator=make_generator(2)))


@flows
def test_the_initial_weights_follow_the_seed_alone(kind):
    torch.manual_seed(3)
    first = SMALL[kind]().state_dict()
    torch.manual_seed(4)
    again, other = SMALL[kind]().state_dict(), SMALL[kind](seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@flows
def test_a_copy_through_the_state_dict_has_the_same_density(kind):
    flow, other = SMALL[kind](), SMALL[kind](seed=5)
    flow.loss(two_moons(100, seed=0))
    other.load_state_dict(copy.deepcopy(flow.state_dict()))
    x = two_moons(50, seed=1)
    assert torch.equal(flow.log_prob(x), other.log_prob(x))


@flows
def test_bad_input_is_refused(kind):
    flow = SMALL[kind]()
    with pytest.raises(ValueError, match="dim"):
        SMALL[kind](1)
    with pytest.raises(ValueError, match="x.shape"):
        flow.log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="x.shape"):
        flow.loss(torch.zeros(4, 1, 2))
    with pytest.raises(ValueError, match="NaN"):
        flow.loss(torch.full((4, 2), math.nan))
    with pytest.raises(ValueError, match="n must"):
        flow.sample(0)


@pytest.mark.parametrize("flow", [*(make(3) for make in SMALL.values()), ImageGlow(steps=1)], ids=lambda f: type(f).__name__)
def test_another_shape_is_refused_in_both_directions(flow):
    # one coordinate too many or too few, in the last axis
    for change in (-1, 1):
        size = flow.shape[-1] + change
        with pytest.raises(ValueError, match=rf"x.shape must be \(B, .*{flow.shape[-1]}\), got \(4, .*{size}\)"):
            flow(torch.zeros(4, *flow.shape[:-1], size))
        with pytest.raises(ValueError, match=rf"z.shape must be \(B, {flow.dim}\), got \(4, {flow.dim + change}\)"):
            flow.inverse(torch.zeros(4, flow.dim + change))


@pytest.mark.parametrize("make", [NICE, RealNVP, Glow, lambda: ImageGlow(steps=1)])
def test_a_flow_follows_torchs_default_dtype(make):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        flow = make()
        x = flow.sample(4, generator=make_generator(0))
        flow.loss(x).backward()
    finally:
        torch.set_default_dtype(before)
    assert x.dtype == torch.float64 and all(p.dtype == torch.float64 for p in flow.parameters())


def test_bad_sizes_are_refused():
    for model, name in ((NICE, "couplings"), (RealNVP, "couplings"), (Glow, "steps"), (ImageGlow, "steps")):
        with pytest.raises(ValueError, match=name):
            model(**{name: 0})
    with pytest.raises(ValueError, match="max_log_scale"):
        RealNVP(max_log_scale=0.0)
    with pytest.raises(ValueError, match="shape"):
        ImageGlow((1, 6, 8), levels=2)
    with pytest.raises(ValueError, match="shape"):
        ImageGlow((8, 8))
    for mask in (torch.tensor([True, True]), torch.tensor([False, False]), torch.tensor([1, 0])):
        with pytest.raises(ValueError, match="kept"):
            AffineCoupling(mask, torch.nn.Identity(), max_log_scale=1.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@flows
def test_a_cpu_generator_serves_a_model_on_a_gpu(kind):
    flow = SMALL[kind]()
    expected = flow.sample(5, generator=make_generator(0))
    torch.testing.assert_close(flow.cuda().sample(5, generator=make_generator(0)).cpu(), expected, atol=1e-4, rtol=0)
    assert flow.log_prob(torch.zeros(3, 2).cuda()).is_cuda


def test_the_couplings_of_a_realnvp_are_applied_from_the_datas_side():
    flow, x = wild(SMALL["RealNVP"]()), points(5, 2)
    z, log_det = x, torch.zeros(5, dtype=torch.float64)
    for coupling in flow.couplings:
        z, change = coupling(z)
        log_det = log_det + change
    expected = flow(x)
    torch.testing.assert_close((z, log_det), expected)
