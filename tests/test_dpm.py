"""DPM: the loss is the whole bound, its variances are its own, and a short training comes near the exact value."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diffutils.datasets import digits_8x8, grid_mixture
from diffutils.device import make_generator
from diffutils.metrics import mode_coverage
from diffutils.models.ddpm import DDPM
from diffutils.models.dpm import DPM
from diffutils.networks import MLP
from diffutils.objectives import l_bound, l_hybrid, l_simple, variational_bound
from diffutils.samplers import VARIANCE_OUTPUTS
from diffutils.schedule import Schedule
from diffutils.training import train
from diffutils.unet import UNet


class Exact(nn.Module):
    """The best possible network of a mixture: its prediction and its variance output side by side."""

    def __init__(self, mixture, schedule: Schedule) -> None:
        super().__init__()
        self.dim, self.denoiser = mixture.dim, mixture.denoiser(schedule, "v")

    def forward(self, x_t: torch.Tensor, t: torch.Tensor | int) -> torch.Tensor:
        return torch.cat(self.denoiser.with_variance(x_t, t), dim=1)


def test_the_loss_of_the_exact_network_is_its_bound() -> None:
    grid, schedule = grid_mixture(), Schedule.cosine(40)
    model = DPM(Exact(grid, schedule), schedule)
    x = grid.sample(20_000, generator=make_generator(0))
    losses = torch.stack([model.loss(part, generator=make_generator(k)) for k, part in enumerate(x.split(500))])
    bound = model.bound(x[:2000], generator=make_generator(99))
    error = math.hypot(float(losses.std()) / math.sqrt(len(losses)), bound.total_error)
    assert abs(float(losses.mean()) - bound.total) < 5 * error
    # What a Gaussian step costs at 40 steps, measured: about 0.13 nats.
    surprise = bound.per_example + grid.log_prob(x[:2000]).double()
    assert abs(float(surprise.mean()) - 0.13) < 5 * float(surprise.std()) / math.sqrt(2000)


def test_bound_and_elbo_are_one_number_with_two_signs() -> None:
    model, x = DPM.for_points(3), torch.randn(5, 3, generator=make_generator(0))
    elbo = model.elbo(x, generator=make_generator(1))
    assert elbo.shape == (5,) and not elbo.requires_grad
    assert torch.equal(elbo, -model.bound(x, generator=make_generator(1)).per_example)


def test_an_untrained_model_has_the_variance_beta() -> None:
    model, x = DPM.for_points(2), torch.randn(50, 2, generator=make_generator(0))
    own, beta = (model.bound(x, variance=v, generator=make_generator(1)) for v in ("learned", "beta"))
    torch.testing.assert_close(own.terms, beta.terms, rtol=1e-4, atol=1e-6)


def test_samples_have_shape_seed_and_the_models_own_variance() -> None:
    model = DPM.for_points(2, seed=1)
    a, b = (model.sample(6, generator=make_generator(3)) for _ in range(2))
    assert a.shape == (6, 2) and torch.equal(a, b) and not a.requires_grad
    assert torch.equal(a, model.sample(6, variance="learned", generator=make_generator(3)))
    assert not torch.equal(a, model.sample(6, variance="beta_tilde", generator=make_generator(3)))


@pytest.mark.parametrize("kind", [DPM, DDPM])
def test_images_and_vectors_are_both_served(kind) -> None:
    images = digits_8x8()[0][:6]
    schedule, extra = Schedule.cosine(10), {} if kind is DPM else {"variance_output": "range"}
    flat = kind(MLP(64, width=16, fourier=0, outputs=128), schedule, "v", **extra)
    square = kind(UNet(1, width=8, patch=2, outputs=2), schedule, "v", shape=(1, 8, 8), **extra)
    for model, x in ((flat, images.flatten(1)), (square, images)):
        loss = model.loss(x, generator=make_generator(0))
        loss.backward()
        assert math.isfinite(loss.item())
        assert model.elbo(x, generator=make_generator(0)).shape == (6,)
        assert model.sample(2, generator=make_generator(0)).shape == (2, *x.shape[1:])
        assert model(x, 3).shape == x.shape


@pytest.mark.parametrize("kind", VARIANCE_OUTPUTS)
def test_ddpms_learned_variance_is_used_by_default(kind) -> None:
    model = DDPM(MLP(2, width=8, outputs=4), Schedule.cosine(10), "v", variance_output=kind)
    x = torch.randn(8, 2, generator=make_generator(0))
    assert torch.equal(model.elbo(x, generator=make_generator(1)),
                       -model.bound(x, variance="learned", generator=make_generator(1)).per_example)  # fmt: skip
    draws = [model.sample(4, variance=v, generator=make_generator(2)) for v in (None, "learned", "beta_tilde")]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_bad_parts_are_refused() -> None:
    schedule = Schedule.cosine(10)
    with pytest.raises(ValueError, match="variance_output"):
        DDPM(MLP(2, width=4, outputs=4), schedule, variance_output="any")
    with pytest.raises(ValueError, match="network"):
        DPM(MLP(2, width=4), schedule).loss(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="variance_output"):
        DDPM(MLP(2, width=4), schedule).with_variance(torch.zeros(3, 2), 1)
    for bad in (torch.zeros(3, 3), torch.zeros(3, 2, dtype=torch.long), torch.full((3, 2), float("nan"))):
        with pytest.raises(ValueError, match="x"):
            DPM.for_points(2).loss(bad)


def test_a_short_training_comes_near_the_exact_value_on_the_grid() -> None:
    """Four seconds: the bound within a nat of the exact value, and all 25 modes among the samples."""
    grid = grid_mixture()
    model = DPM.for_points(2, seed=0)
    points = grid.sample(50_000, generator=make_generator(1))
    train(model, points, steps=250, ema_decay=0.97, device="cpu", progress=False)
    x = grid.sample(500, generator=make_generator(2))
    surprise = model.bound(x, generator=make_generator(3)).per_example + grid.log_prob(x).double()
    assert 0.0 < float(surprise.mean()) < 1.0
    assert mode_coverage(model.sample(3000, generator=make_generator(4)), grid).found == 25


def test_the_loss_is_the_mean_bound_of_the_batch_from_the_same_draws():
    model, x = DPM(MLP(2, width=8, outputs=4), Schedule.cosine(10)), torch.randn(50, 2, generator=make_generator(0))
    expected = l_bound(model, model.schedule, x, generator=make_generator(1)).mean()
    torch.testing.assert_close(model.loss(x, generator=make_generator(1)), expected)


class Halves(nn.Module):
    """A network whose first half is x_t times 0.9 and whose second half is 0.1."""

    dim = 2

    def forward(self, x_t: torch.Tensor, t: torch.Tensor | int) -> torch.Tensor:
        return torch.cat([0.9 * x_t, torch.full_like(x_t, 0.1)], dim=1)


def test_the_first_half_of_the_networks_answer_is_the_prediction_and_the_second_the_variance():
    model, x = DDPM(Halves(), Schedule.cosine(10), "v", variance_output="range"), torch.randn(30, 2)
    assert torch.equal(model(x, 3), 0.9 * x)
    prediction, variance = model.with_variance(x, 3)
    assert torch.equal(prediction, 0.9 * x) and torch.equal(variance, torch.full_like(x, 0.1))
    loss = model.loss(x, generator=make_generator(1))
    torch.testing.assert_close(loss, l_hybrid(model, model.schedule, x, generator=make_generator(1)))
    simple = l_simple(model, model.schedule, x, generator=make_generator(1))
    assert float(loss.detach()) != float(simple.detach())


def test_the_lower_bound_is_minus_the_bound_with_the_variance_the_model_has():
    x = torch.randn(30, 2, generator=make_generator(0))
    for model, variance in (
        (DDPM(Halves(), Schedule.cosine(10), "v", variance_output="range"), "learned"),
        (DDPM(MLP(2, width=8), Schedule.cosine(10), "v"), "beta"),
    ):
        bound = variational_bound(model, model.schedule, x, variance=variance, generator=make_generator(1))
        torch.testing.assert_close(model.bound(x, generator=make_generator(1)).terms, bound.terms)
        torch.testing.assert_close(model.elbo(x, generator=make_generator(1)), -bound.per_example)
