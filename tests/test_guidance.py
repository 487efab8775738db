"""Guidance by a weaker model: the formula, when the weaker one is asked, and the law that comes of it."""

from __future__ import annotations

import pytest
import torch

from diffutils.distributions import GaussianMixture
from diffutils.models.ddpm import DDPM
from diffutils.networks import MLP
from diffutils.process import PREDICTIONS, convert
from diffutils.samplers import DDIM, Guided
from diffutils.schedule import Schedule

F64 = torch.float64
COSINE = Schedule.cosine(50)


class Says:
    """A denoiser that answers a number times x_t, and counts how often it is asked."""

    def __init__(self, factor: float, prediction: str = "v") -> None:
        self.factor, self.prediction, self.calls = factor, prediction, 0

    def __call__(self, x_t, t):
        self.calls += 1
        return self.factor * x_t


def gaussian(variance: float) -> GaussianMixture:
    return GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([variance])).to(dtype=F64)


def states(n: int = 7) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=F64)


def test_the_answer_goes_beyond_the_better_one_away_from_the_weaker():
    x = states()
    guided = Guided(Says(3.0), Says(1.0), 0.5)
    torch.testing.assert_close(guided(x, 4), 4.0 * x)
    assert guided.prediction == "v"


def test_without_strength_the_weaker_one_is_not_asked():
    weaker, x = Says(1.0), states()
    assert torch.equal(Guided(Says(3.0), weaker, 0.0)(x, 4), 3.0 * x)
    assert weaker.calls == 0


@pytest.mark.parametrize("t, factor, asked", [(9, 3.0, 0), (10, 5.0, 1), (20, 5.0, 1), (21, 3.0, 0)])
def test_outside_its_times_the_answer_is_the_better_ones_and_costs_one_call(t, factor, asked):
    weaker, x = Says(1.0), states()
    torch.testing.assert_close(Guided(Says(3.0), weaker, 1.0, between=(10, 20))(x, t), factor * x)
    assert weaker.calls == asked


def test_times_may_differ_within_a_batch():
    x, t = states(4), torch.tensor([9, 10, 20, 21])
    guided = Guided(Says(3.0), Says(1.0), 1.0, between=(10, 20))(x, t)
    torch.testing.assert_close(guided, torch.tensor([3.0, 5.0, 5.0, 3.0], dtype=F64)[:, None] * x)
    assert guided.dtype == F64
    images = torch.randn(4, 1, 3, 3)
    assert Guided(Says(3.0), Says(1.0), 1.0, between=(10, 20))(images, t).shape == images.shape


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_two_gaussians_guide_to_a_third_whatever_they_predict(prediction):
    t, strength, x = 20, 1.5, states()
    level = COSINE.alpha_bar[t]
    S, weak = (level * variance + 1 - level for variance in (0.25, 0.5))
    guided = Guided(gaussian(0.25).denoiser(COSINE, prediction), gaussian(0.5).denoiser(COSINE, prediction), strength)
    score = convert(COSINE, guided(x, t), x, t, prediction, "score")
    torch.testing.assert_close(score, -x * ((1 + strength) / S - strength / weak), rtol=1e-9, atol=1e-9)


def test_a_sampler_takes_it_and_its_samples_are_narrower():
    better, weaker = (gaussian(variance).denoiser(COSINE, "v") for variance in (0.25, 0.5))
    start = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    plain = DDIM(better, COSINE).sample(x_T=start)
    guided = DDIM(Guided(better, weaker, 1.0), COSINE).sample(x_T=start)
    assert guided.var() < 0.9 * plain.var()


def test_samples_start_in_the_dtype_of_the_networks():
    model = DDPM(MLP(2, width=8, depth=1), COSINE, "v").double()
    assert DDIM(Guided(model, model), COSINE.respaced(2)).sample((3, 2)).dtype == F64


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weaker": Says(1.0, "eps")}, "weaker.prediction must be 'v', as the denoiser's, got 'eps'"),
        ({"strength": -0.1}, "strength must be"),
        ({"strength": float("nan")}, "strength must be"),
        ({"between": 5}, r"between must be a pair \(first, last\), got 5"),
        ({"between": (1, 2, 3)}, r"between must be a pair"),
        ({"between": (20, 10)}, r"between\[1\] must be"),
        ({"between": (-1, 10)}, r"between\[0\] must be"),
        ({"denoiser": lambda x, t: x}, "denoiser must be a callable with an attribute `prediction`"),
    ],
)
def test_what_it_refuses(options, message):
    arguments = {"denoiser": Says(3.0), "weaker": Says(1.0), "strength": 1.0} | options
    with pytest.raises(ValueError, match=message):
        Guided(arguments.pop("denoiser"), arguments.pop("weaker"), arguments.pop("strength"), **arguments)


def test_a_weaker_denoiser_must_answer_in_the_same_shape() -> None:
    def narrow(x_t, t):
        return x_t[:, :1]

    model = DDPM(MLP(2, seed=0), Schedule.linear(25), shape=(2,))
    narrow.prediction = model.prediction
    with pytest.raises(ValueError, match=r"weaker\(x_t, t\).*\(3, 1\)"):
        Guided(model, narrow)(torch.zeros(3, 2), 5)
