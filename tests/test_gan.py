"""The GAN: each player's loss moves that player only, and the game can be won on an easy law."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from diffutils.device import make_generator
from diffutils.models.gan import GAN
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


def test_bad_input_is_refused():
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_serves_a_model_on_a_gpu():
    gan = GAN(hidden=8)
    expected = gan.sample(5, generator=make_generator(0))
    torch.testing.assert_close(gan.cuda().sample(5, generator=make_generator(0)).cpu(), expected)
    assert torch.isfinite(gan.loss(points().cuda(), generator=make_generator(0)))
