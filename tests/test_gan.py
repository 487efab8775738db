"""The GAN: each player's loss moves that player only, and the game can be won on an easy law."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from diffutils.datasets import two_moons
from diffutils.device import make_generator
from diffutils.metrics import coverage
from diffutils.models.gan import GAN, squared_slope
from diffutils.training import train


def points(n=64, seed=0):
    return torch.randn(n, 2, generator=make_generator(seed))


def gradients(network):
    return [parameter.grad for parameter in network.parameters()]


def test_the_discriminators_loss_gives_the_generator_no_gradient_and_the_other_way_round():
    for which, moved, still in ((0, "discriminator_network", "generator_network"),
                                (1, "generator_network", "discriminator_network")):
        gan = GAN(hidden=16)
        gan.losses(points(), generator=make_generator(1))[which].backward()
        assert all(grad is None for grad in gradients(getattr(gan, still)))
        assert all(grad is not None and grad.abs().sum() > 0 for grad in gradients(getattr(gan, moved)))


def test_the_losses_are_those_of_the_paper():
    gan = GAN(hidden=16)
    x = points()
    z = torch.randn(len(x), gan.latent_dim, generator=make_generator(1))
    real, fake = gan.discriminator_network(x), gan.discriminator_network(gan.generator_network(z))
    discriminator_loss, generator_loss = gan.losses(x, generator=make_generator(1))
    torch.testing.assert_close(discriminator_loss, -logsigmoid(real).mean() - torch.log1p(-fake.sigmoid()).mean())
    torch.testing.assert_close(generator_loss, -logsigmoid(fake).mean())
    torch.testing.assert_close(gan.loss(x, generator=make_generator(1)), discriminator_loss + generator_loss)


def test_one_backward_pass_of_the_sum_is_each_players_own_gradient():
    together, apart = GAN(hidden=16), GAN(hidden=16)
    together.loss(points(), generator=make_generator(1)).backward()
    for loss in apart.losses(points(), generator=make_generator(1)):
        loss.backward(retain_graph=True)
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_losses_stay_finite_when_the_discriminator_is_certain():
    gan = GAN(hidden=16)
    with torch.no_grad():
        gan.discriminator_network[-1].bias.fill_(500.0)
    discriminator_loss, generator_loss = gan.losses(points())
    # Certain that all is real: nothing lost on the real half, 500 nats on the fake one.
    assert discriminator_loss.item() == pytest.approx(500.0, rel=0.01)
    assert generator_loss.item() == pytest.approx(0.0, abs=1e-6)


def test_it_learns_where_a_single_gaussian_lies():
    x = 0.5 * points(4000) + torch.tensor([1.0, -1.0])
    gan = GAN(latent_dim=2, hidden=32, depth=2, fourier=0)
    train(gan, x, steps=400, batch_size=128, betas=(0.5, 0.9), ema_decay=0.99, device="cpu", progress=False)
    samples = gan.sample(4000, generator=make_generator(5))
    # It starts a distance of 1.4 away. Ten seeds ended at most 0.5 away per axis: a GAN circles its goal.
    torch.testing.assert_close(samples.mean(dim=0), x.mean(dim=0), atol=0.8, rtol=0)


def test_samples_repeat_for_a_seed_and_keep_the_models_dtype():
    gan = GAN(dim=3, latent_dim=5, hidden=8).double()
    samples = gan.sample(7, generator=make_generator(2))
    assert samples.shape == (7, 3) and samples.dtype == torch.float64 and not samples.requires_grad
    assert torch.equal(samples, gan.sample(7, generator=make_generator(2)))
    assert not torch.equal(samples, gan.sample(7, generator=make_generator(3)))


def test_weights_depend_on_the_seed_alone():
    first, second, third = GAN(seed=1), GAN(seed=1), GAN(seed=2)
    weights = [model.generator_network[0].weight for model in (first, second, third)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


# -- R1 --------------------------------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """D(x) = x.A x / 2 + b.x for a symmetric A, with grad_x D(x) = A x + b."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[2.0, 0.5], [0.5, -1.0]], dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor([0.3, -0.7], dtype=torch.float64))

    def forward(self, x):
        symmetric = 0.5 * (self.a + self.a.T)
        return 0.5 * ((x @ symmetric) * x).sum(1, keepdim=True) + (x @ self.b)[:, None]


def test_the_squared_slope_of_a_quadratic_discriminator_and_its_gradient_in_the_weights():
    network, x = Quadratic(), points().double()
    slopes = x @ network.a.detach() + network.b.detach()
    value = squared_slope(network, x)
    torch.testing.assert_close(value.detach(), slopes.square().sum(1).mean())
    assert not x.requires_grad
    value.backward()
    # d/db E|Ax + b|^2 = 2 E[Ax + b], and d/dA = 2 E[(Ax + b) x^T], of which a symmetric A keeps the symmetric part.
    torch.testing.assert_close(network.b.grad, 2 * slopes.mean(0))
    by_hand = 2 * slopes.T @ x / len(x)
    torch.testing.assert_close(network.a.grad, 0.5 * (by_hand + by_hand.T))


def test_r1_adds_its_penalty_to_the_discriminators_loss_alone():
    x = points()
    plain, remedied = GAN(hidden=16), GAN(hidden=16, r1=0.4)
    before, after = (gan.losses(x, generator=make_generator(1)) for gan in (plain, remedied))
    penalty = 0.5 * 0.4 * squared_slope(plain.discriminator_network, x)
    assert penalty > 1e-5
    torch.testing.assert_close(after[0], before[0] + penalty)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)


def test_r1_reaches_the_discriminators_weights_and_not_the_generators():
    gan = GAN(hidden=16, r1=0.4)
    discriminator_loss, generator_loss = gan.losses(points(), generator=make_generator(1))
    discriminator_loss.backward()
    assert all(grad is None for grad in gradients(gan.generator_network))
    *inner, last_bias = gradients(gan.discriminator_network)
    assert all(grad is not None and grad.abs().sum() > 0 for grad in inner)
    gan.zero_grad()
    generator_loss.backward()
    assert all(grad is None for grad in gradients(gan.discriminator_network))


def test_the_penaltys_gradient_in_the_weights_is_that_of_finite_differences():
    network, x = GAN(hidden=5, depth=1).double().discriminator_network, points(16).double()
    weight = network[1].weight
    (exact,) = torch.autograd.grad(squared_slope(network, x), weight)
    step = torch.zeros_like(weight)
    step[2, 3] = 1e-5
    with torch.no_grad():
        weight += step
        above = squared_slope(network, x)
        weight -= 2 * step
        below = squared_slope(network, x)
    assert float(exact[2, 3]) == pytest.approx(float((above - below).detach()) / 2e-5, rel=1e-6)


def smallest_gan(r1):
    """The Dirac-GAN of Mescheder et al. 2018, section 2: real data is the point 0, D(x) = psi x, and G(z) = theta."""
    gan = GAN(dim=1, latent_dim=1, depth=0, fourier=0, r1=r1).double()
    psi, theta = gan.discriminator_network[0].weight, gan.generator_network[0].bias
    with torch.no_grad():
        gan.discriminator_network[0].bias.zero_()
        gan.generator_network[0].weight.zero_()

    def field(at):
        """The direction in which both players move: minus the gradient of each one's own loss."""
        with torch.no_grad():
            psi.copy_(at[:1, None])
            theta.copy_(at[1:])
        loss_d, loss_g = gan.losses(torch.zeros(1, 1, dtype=torch.float64))
        (up_psi,) = torch.autograd.grad(loss_d, psi)
        (up_theta,) = torch.autograd.grad(loss_g, theta)
        return -torch.cat([up_psi.flatten(), up_theta])

    return field


@pytest.mark.parametrize("r1", [0.0, 0.3, 1.0, 2.0])
def test_the_smallest_gans_eigenvalues_are_those_of_the_paper(r1):
    field, h = smallest_gan(r1), 1e-4
    axes = torch.eye(2, dtype=torch.float64)
    jacobian = torch.stack([(field(h * axis) - field(-h * axis)) / (2 * h) for axis in axes], dim=1)
    torch.testing.assert_close(jacobian, torch.tensor([[-r1, -0.5], [0.5, 0.0]], dtype=torch.float64))
    root = complex(r1**2 / 4 - 0.25) ** 0.5
    expected = torch.tensor([-r1 / 2 - root, -r1 / 2 + root], dtype=torch.complex128)
    found = torch.linalg.eigvals(jacobian)
    # A double eigenvalue, as at r1 = 1, is only found to the root of the error of the matrix.
    assert max(float((found - value).abs().min()) for value in expected) < 1e-3


def after_steps(r1, h, start, steps):
    """The players' distance from the solution over the last hundred simultaneous steps of size h."""
    field, at, distances = smallest_gan(r1), torch.tensor([0.0, start], dtype=torch.float64), []
    for _ in range(steps):
        at = at + h * field(at)
        distances.append(at.norm())
    return torch.stack(distances[-100:])


@pytest.mark.parametrize("start", [0.1, 1.0])
def test_the_plain_smallest_gan_ends_on_a_circle_from_inside_and_from_outside(start):
    # A step of size h lengthens the distance by h/8 r per unit of time, the sigmoid shortens it by r^3/16: they balance
    # at r = sqrt(2 h), to first order in h.
    h = 0.4
    circle = after_steps(0.0, h, start, 500)
    assert float(circle.mean()) == pytest.approx(math.sqrt(2 * h), rel=0.01)
    assert circle.min() > 0.95 * math.sqrt(2 * h)


def test_with_r1_the_smallest_gan_reaches_its_solution_at_the_rate_of_its_eigenvalues():
    r1, h = 0.3, 0.1
    distances = after_steps(r1, h, 0.1, 600)
    # |1 + h lambda|^2 = 1 - h r1 + h^2 / 4 for the complex pair; half a turn apart the wobble within a turn cancels.
    rate = 0.5 * math.log(1 - h * r1 + h**2 / 4)
    assert distances.max() < 1e-3
    period = 2 * math.pi / math.sqrt(0.25 - r1**2 / 4) / h / 2
    lag = round(period)
    assert float((distances[lag] / distances[0]).log()) / lag == pytest.approx(rate, rel=0.05)


def test_r1_leaves_the_initial_weights_and_the_samples_call_alone():
    plain, remedied = GAN(seed=3), GAN(seed=3, r1=0.4)
    assert torch.equal(plain.sample(5, generator=make_generator(0)), remedied.sample(5, generator=make_generator(0)))


def test_the_gan_for_points_reaches_both_moons():
    x = two_moons(4000, seed=0)
    gan = GAN.for_points(seed=0)
    train(gan, x, steps=250, batch_size=128, lr=2e-3, betas=(0.0, 0.9), ema_decay=0.99, device="cpu", progress=False)
    samples = gan.sample(2000, generator=make_generator(1))
    # Ten seeds gave 0.32 to 0.54; without R1 the same runs gave 0.003 to 0.33. Perfect samples reach 0.87.
    assert coverage(samples, two_moons(4000, seed=1)) > 0.2


def test_the_gan_for_digits_makes_flat_images():
    gan = GAN.for_digits(seed=1)
    assert gan.sample(3, generator=make_generator(0)).shape == (3, 64)
    assert gan.r1 > 0 and torch.isfinite(gan.loss(torch.zeros(4, 64), generator=make_generator(0)))


def test_the_loss_with_r1_can_be_read_without_gradients():
    gan = GAN(hidden=8, r1=0.4)
    with torch.no_grad():
        value = gan.loss(points(), generator=make_generator(1))
    torch.testing.assert_close(value, gan.loss(points(), generator=make_generator(1)).detach())


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="r1"):
        GAN(r1=-0.1)
    with pytest.raises(ValueError, match="dim"):
        GAN(dim=0)
    with pytest.raises(ValueError, match="latent_dim"):
        GAN(latent_dim=0)
    with pytest.raises(ValueError, match="x.shape"):
        GAN().loss(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="NaN"):
        GAN().loss(torch.full((4, 2), math.nan))
    with pytest.raises(ValueError, match="n must"):
        GAN().sample(0)


def test_r1_is_not_compiled_and_the_model_stays_fit_for_training():
    gan, options = GAN(r1=1.0, hidden=8), dict(steps=2, batch_size=16, device="cpu", progress=False)
    with pytest.raises(ValueError, match="compile_mode must be None for a loss with a gradient in it .*r1 > 0.*, got 'default'"):
        train(gan, points(), compile_mode="default", **options)
    assert all(network._compiled_call_impl is None for network in gan.children())
    train(gan, points(), **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_serves_a_model_on_a_gpu():
    gan = GAN(hidden=8)
    expected = gan.sample(5, generator=make_generator(0))
    torch.testing.assert_close(gan.cuda().sample(5, generator=make_generator(0)).cpu(), expected)
    assert torch.isfinite(gan.loss(points().cuda(), generator=make_generator(0)))


def test_images_are_no_points() -> None:
    with pytest.raises(ValueError, match=r"x.shape must be a shape of 2 axes, got \(4, 1, 8, 8\)"):
        GAN(8, fourier=0).loss(torch.zeros(4, 1, 8, 8))
