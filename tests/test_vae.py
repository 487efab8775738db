"""The VAE, checked where log p(x) is known: a linear decoder makes x Gaussian."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from diffutils.device import make_generator
from diffutils.models.vae import VAE
from diffutils.training import train

STD = 0.6


def linear_vae(encoder_log_std=None):
    """A VAE with x | z ~ N(W z + b, STD^2 I), its exact law p(x), and the exact posterior in its encoder.

    With ``encoder_log_std`` the encoder's spread is that instead, so q(z|x) is not the posterior.
    """
    vae = VAE(2, latent_dim=2, depth=0, fourier=0, decoder_std=STD).double()
    weight = torch.tensor([[1.5, 0.0], [0.0, 0.4]], dtype=torch.float64)
    bias = torch.tensor([0.5, -1.0], dtype=torch.float64)
    # p(z|x) = N(C W^T (x - b) / s^2, C), C = (I + W^T W / s^2)^-1: diagonal here because W is.
    posterior_variance = 1 / (1 + weight.diag() ** 2 / STD**2)
    gain = posterior_variance * weight.diag() / STD**2
    log_std = posterior_variance.log() / 2 if encoder_log_std is None else torch.full((2,), encoder_log_std)
    with torch.no_grad():
        vae.decoder[0].weight.copy_(weight)
        vae.decoder[0].bias.copy_(bias)
        vae.encoder[0].weight.copy_(torch.cat([gain.diag(), torch.zeros(2, 2, dtype=torch.float64)]))
        vae.encoder[0].bias.copy_(torch.cat([-gain * bias, log_std]))
    law = MultivariateNormal(bias, weight @ weight.T + STD**2 * torch.eye(2, dtype=torch.float64))
    return vae, law


def points(law, n=500, seed=0):
    noise = torch.randn(n, 2, generator=make_generator(seed), dtype=torch.float64)
    return law.mean + noise @ law.scale_tril.T


def test_with_the_exact_posterior_every_weight_is_p_of_x():
    # w = p(x, z) / q(z|x) = p(x) whatever z is, so one draw is enough and nothing is left to chance.
    vae, law = linear_vae()
    x = points(law)
    torch.testing.assert_close(vae.importance_bound(x, 1), law.log_prob(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(vae.importance_bound(x, 7), law.log_prob(x), atol=1e-6, rtol=0)


def test_with_the_exact_posterior_the_elbo_has_no_gap():
    vae, law = linear_vae()
    x = points(law, n=200)
    elbo = vae.elbo(x, samples=2000, generator=make_generator(1))
    error = (elbo - law.log_prob(x)).mean()
    # Spread of log p(x|z) over z, per draw about 1: 400,000 draws in all.
    assert abs(error.item()) < 5 * 1.0 / math.sqrt(400_000)


def test_elbo_then_importance_bounds_rise_to_the_exact_log_likelihood():
    vae, law = linear_vae(encoder_log_std=0.0)
    x = points(law, n=2000)
    bounds = [vae.elbo(x, samples=50, generator=make_generator(1)).mean().item()]
    bounds += [vae.importance_bound(x, k, generator=make_generator(k)).mean().item() for k in (2, 5, 50)]
    exact = law.log_prob(x).mean().item()
    assert all(a + 0.02 < b for a, b in zip(bounds, bounds[1:] + [exact + 0.05])), (bounds, exact)
    assert vae.importance_bound(x, 5000, generator=make_generator(9)).mean().item() == pytest.approx(exact, abs=0.01)


def test_the_gap_of_the_elbo_is_the_kl_to_the_posterior():
    vae, law = linear_vae(encoder_log_std=0.0)
    exact_vae, _ = linear_vae()
    x = points(law, n=1000)
    posterior_variance = (2 * exact_vae.encode(x)[1]).exp()
    # KL(N(m, I) || N(m, v)) per latent = (1 / v - 1 + log v) / 2.
    expected = 0.5 * (1 / posterior_variance - 1 + posterior_variance.log()).sum(dim=-1).mean().item()
    gap = (law.log_prob(x) - vae.elbo(x, samples=400, generator=make_generator(1))).detach()
    assert abs(gap.mean().item() - expected) < 5 * gap.std().item() / math.sqrt(1000)


def test_the_terms_are_a_mean_log_density_and_a_kl_divergence():
    vae, law = linear_vae(encoder_log_std=-1.2)
    x = points(law, n=50)
    reconstruction, kl = vae.elbo_terms(x, samples=3000, generator=make_generator(1))
    with torch.no_grad():
        mean, log_std = vae.encode(x)
        q = Independent(Normal(mean, log_std.exp()), 1)
        torch.testing.assert_close(kl, kl_divergence(q, Independent(Normal(torch.zeros_like(mean), 1.0), 1)))
        # E_q |x - W z - b|^2 is that at the mean of q plus the trace of W Cov_q W^T.
        weight = vae.decoder[0].weight
        square = (x - vae.decoder(mean)).square().sum(1) + (weight.square() @ log_std[0].exp().square()).sum()
        expected = 0.5 * square / STD**2 + math.log(2 * math.pi * STD**2)
        assert (reconstruction - expected).abs().max() < 5 * 2.0 / math.sqrt(3000)
    elbo = vae.elbo(x, samples=5, generator=make_generator(2))
    torch.testing.assert_close(elbo, -sum(vae.elbo_terms(x, samples=5, generator=make_generator(2))))


def test_importance_bounds_do_not_depend_on_how_draws_are_split(monkeypatch):
    vae, law = linear_vae(encoder_log_std=0.0)
    x = points(law, n=100)
    whole = vae.importance_bound(x, 10_000, generator=make_generator(0))
    monkeypatch.setattr("diffutils.models.vae._DRAWS", 170_000)
    split = vae.importance_bound(x, 10_000, generator=make_generator(1))
    torch.testing.assert_close(whole, split, atol=0.15, rtol=0)
    monkeypatch.setattr("diffutils.models.vae._DRAWS", 1)
    torch.testing.assert_close(linear_vae()[0].importance_bound(x, 3), law.log_prob(x), atol=1e-6, rtol=0)


def test_the_loss_is_minus_the_mean_elbo_and_reaches_every_parameter():
    vae = VAE(hidden=16)
    x = torch.randn(32, 2, generator=make_generator(0))
    loss = vae.loss(x, generator=make_generator(1))
    torch.testing.assert_close(loss, -vae.elbo(x, generator=make_generator(1)).mean())
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in vae.parameters())


def test_a_given_decoder_std_stays_and_none_is_learned():
    assert not VAE(decoder_std=0.3).decoder_log_std.requires_grad
    assert VAE(decoder_std=0.3).decoder_log_std.exp().item() == pytest.approx(0.3)
    assert VAE().decoder_log_std.requires_grad


def test_samples_follow_the_models_own_law():
    vae, law = linear_vae()
    x = vae.sample(20_000, generator=make_generator(0))
    assert x.dtype == torch.float64 and not x.requires_grad
    std = law.covariance_matrix.diag().sqrt()
    assert ((x.mean(dim=0) - law.mean).abs() / (std / math.sqrt(20_000))).max() < 5
    # The variance of a variance is 2 var^2 / n: forgetting the decoder's noise would be off by 5 of these at least.
    variance_z = (x.var(dim=0) / std**2 - 1).abs() / math.sqrt(2 / 20_000)
    assert variance_z.max() < 5


def test_training_a_linear_vae_finds_the_likelihood_of_a_gaussian():
    generator = make_generator(0)
    mixing = torch.tensor([[1.0, 0.0], [0.8, 0.3]])
    x = torch.randn(4000, 2, generator=generator) @ mixing.T
    vae = VAE(2, latent_dim=1, depth=0, fourier=0)
    train(vae, x, steps=600, batch_size=256, lr=2e-2, device="cpu", progress=False)
    exact = MultivariateNormal(torch.zeros(2), mixing @ mixing.T).log_prob(x).mean().item()
    bound = vae.elbo(x, samples=20, generator=generator).mean().item()
    # Probabilistic principal components: with one latent less than dimensions the optimum is the data's own Gaussian.
    assert exact - 0.1 < bound < exact + 0.02


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="decoder_std"):
        VAE(decoder_std=0.0)
    with pytest.raises(ValueError, match="latent_dim"):
        VAE(latent_dim=0)
    with pytest.raises(ValueError, match="k must"):
        VAE().importance_bound(torch.zeros(4, 2), 0)
    with pytest.raises(ValueError, match="samples"):
        VAE().elbo(torch.zeros(4, 2), samples=0)
    with pytest.raises(ValueError, match="x.shape"):
        VAE().loss(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="NaN"):
        VAE().loss(torch.full((4, 2), math.nan))
    with pytest.raises(ValueError, match="n must"):
        VAE().sample(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_serves_a_model_on_a_gpu():
    vae = VAE(hidden=8)
    expected = vae.sample(5, generator=make_generator(0))
    torch.testing.assert_close(vae.cuda().sample(5, generator=make_generator(0)).cpu(), expected)
    assert vae.importance_bound(torch.zeros(3, 2).cuda(), 4, generator=make_generator(0)).is_cuda


def test_latents_and_their_density_are_those_of_the_encoder():
    vae, *_ = linear_vae(encoder_log_std=-0.8)
    x = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    mean, log_std = vae.encode(x)
    z, log_q = vae._draw_latent(x, 40_000, make_generator(0))
    residual = (z - mean) / log_std.exp()
    assert abs(float(residual.std()) - 1) < 5 / math.sqrt(2 * residual.numel())
    torch.testing.assert_close(log_q, Independent(Normal(mean, log_std.exp()), 1).log_prob(z))


def test_images_are_no_points() -> None:
    model = VAE(8, fourier=0)
    for call in (model.elbo, lambda x: model.importance_bound(x, 5)):
        with pytest.raises(ValueError, match=r"x.shape must be a shape of 2 axes, got \(4, 1, 8, 8\)"):
            call(torch.zeros(4, 1, 8, 8))


def test_data_from_numpy_are_refused_by_their_dtype() -> None:
    model, x = VAE(2), torch.zeros(4, 2, dtype=torch.float64)
    for call in (model.loss, model.elbo, lambda x: model.importance_bound(x, 5)):
        with pytest.raises(ValueError, match=r"x.dtype must be torch.float32, as the model's weights: x.to\(torch.float32"):
            call(x)
