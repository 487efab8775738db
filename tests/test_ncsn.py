"""Score networks: the loss is L_simple in other letters, the score is the exact one where the network is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diffutils.datasets import grid_mixture
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.metrics import mode_coverage, over_floor, sliced_wasserstein
from diffutils.models.denoising import TARGETS
from diffutils.models.ncsn import NCSN
from diffutils.networks import MLP
from diffutils.objectives import l_simple
from diffutils.samplers import Ancestral
from diffutils.schedule import Schedule
from diffutils.training import train

LADDER = Schedule.geometric(12, 0.1, 5.0)
LAW = GaussianMixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0, 0.5], [1.0, -0.5]]), 0.05)


class Exact(nn.Module):
    """The best possible network for a mixture, wearing a network's clothes."""

    def __init__(self, mixture: GaussianMixture, schedule: Schedule, prediction: str) -> None:
        super().__init__()
        self.dim, self.denoiser = mixture.dim, mixture.denoiser(schedule, prediction)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor | int) -> torch.Tensor:
        return self.denoiser(x_t, t)


def alive(dim: int = 2) -> MLP:
    """A network with random weights in its last layer too, which starts at zero otherwise."""
    network = MLP(dim, width=16, depth=1)
    nn.init.normal_(network.last.weight, generator=make_generator(9))
    return network


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize("schedule", [LADDER, Schedule.linear(30)], ids=["ladder", "linear"])
def test_the_loss_is_l_simple_with_the_same_noise(prediction: str, schedule: Schedule) -> None:
    model, x = NCSN(alive(), schedule, prediction).double(), LAW.to(dtype=torch.float64).sample(500)
    ours = model.loss(x, generator=make_generator(1))
    theirs = l_simple(model, schedule, x, target="eps", generator=make_generator(1))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=0.0)
    (gradient,) = torch.autograd.grad(ours, model.network.last.weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, model.network.last.weight)[0], rtol=1e-9, atol=0.0)


def test_the_loss_is_the_papers_formula() -> None:
    """Equations (5) and (6) of Song and Ermon, with the draws made again here and the levels written as fractions."""
    model, x = NCSN(alive(), LADDER), LAW.sample(400, generator=make_generator(0))
    generator = make_generator(3)
    t = torch.randint(1, 13, (400,), generator=generator)
    noise = torch.randn(400, 2, generator=generator)
    sigma = 0.1 * 50.0 ** ((t - 1) / 11)[:, None]
    noisy = x + sigma * noise
    ell = 0.5 * (model.score(noisy, t) + (noisy - x) / sigma**2).square().sum(dim=1)
    paper = (sigma[:, 0] ** 2 * ell).mean()
    torch.testing.assert_close(model.loss(x, generator=make_generator(3)), paper, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("prediction", TARGETS)
def test_with_the_exact_network_the_score_is_that_of_the_noisy_law(prediction: str) -> None:
    law = LAW.to(dtype=torch.float64)
    model = NCSN(Exact(law, LADDER, prediction), LADDER, prediction)
    x = 3 * torch.randn(60, 2, dtype=torch.float64, generator=make_generator(0))
    t = torch.arange(1, 13).repeat(5)
    exact = torch.empty_like(x)
    for level in range(1, 13):
        noisy = GaussianMixture(law.weights, law.means, 0.05 + float(LADDER.noise_levels[level]) ** 2)
        exact[t == level] = noisy.score(x[t == level])
        torch.testing.assert_close(model.score(x, level), noisy.score(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.score(x, t), exact, rtol=1e-9, atol=1e-9)


def test_the_exact_network_reaches_the_least_loss() -> None:
    least = sum(LAW.bayes_loss(float(LADDER.alpha_bar[t])) for t in range(1, 13)) / 12
    model = NCSN(Exact(LAW, LADDER, "eps"), LADDER, "eps")
    x = LAW.sample(20_000, generator=make_generator(3))
    parts = torch.stack([model.loss(part, generator=make_generator(k)) for k, part in enumerate(x.split(1000))])
    assert abs(float((parts.mean() - least) / (parts.std() / math.sqrt(len(parts))))) < 5


def test_the_exact_network_is_sampled_by_both_samplers() -> None:
    ladder = Schedule.geometric(30, 0.05, 5.0)
    model = NCSN(Exact(LAW, ladder, "v"), ladder, "v")
    walked = model.sample(2000, generator=make_generator(4))
    chained = Ancestral(model, ladder, variance="beta").sample((2000, 2), generator=make_generator(5))
    for x in (walked, chained):
        assert x.shape == (2000, 2)
        # both have a bias of the ladder's coarseness; a wrong sign or scale gives tens of floors
        assert over_floor(sliced_wasserstein, x, LAW, repeats=3) < 4


def test_trajectory_denoise_and_seed() -> None:
    model = NCSN(alive(), LADDER)
    states = model.sample(3, trajectory=True, generator=make_generator(0))
    assert states.shape == (13, 3, 2) and not states.requires_grad
    assert torch.equal(states[0], model.sample(3, generator=make_generator(0)))
    noisy = model.sample(3, denoise=False, trajectory=True, generator=make_generator(0))
    assert torch.equal(states[1], noisy[1]) and not torch.equal(states[0], noisy[0])


def test_images_are_examples_too() -> None:
    model = NCSN(nn.Conv2d(1, 1, 3, padding=1), LADDER, shape=(1, 4, 4))
    model.forward = lambda x_t, t: model.network(x_t)
    x = torch.randn(5, 1, 4, 4, generator=make_generator(0))
    assert model.loss(x, generator=make_generator(1)).ndim == 0
    assert model.sample(2, steps_per_level=1, generator=make_generator(2)).shape == (2, 1, 4, 4)
    assert model.score(x, torch.tensor([1, 2, 3, 4, 12])).shape == x.shape


BAD_PARTS = [
    {"prediction": "score"}, {"schedule": 3}, {"network": print}, {"network": nn.Linear(2, 2)}, {"shape": (0,)},
]  # fmt: skip


@pytest.mark.parametrize("wrong", BAD_PARTS, ids=str)
def test_it_refuses_bad_parts(wrong: dict) -> None:
    with pytest.raises(ValueError):
        NCSN(**{"network": MLP(2, width=4), "schedule": LADDER, **wrong})


def test_it_refuses_bad_data_and_bad_requests() -> None:
    model = NCSN(MLP(2, width=4), LADDER)
    for bad in (torch.zeros(3, 3), torch.zeros(3, 2, dtype=torch.long), torch.full((3, 2), float("nan"))):
        with pytest.raises(ValueError, match="x"):
            model.loss(bad)
    for wrong in ({"n": 0}, {"n": 2, "step": 4.0}, {"n": 2, "steps_per_level": 0}):
        with pytest.raises(ValueError):
            model.sample(**wrong)
    for t in (0, 13):
        with pytest.raises(ValueError, match="t must be"):
            model.score(torch.zeros(2, 2), t)


def test_a_seventh_of_the_recipe_for_points_learns_the_grid() -> None:
    """Three seconds of training: scores within 25 % at every level; all 25 modes by annealed Langevin dynamics."""
    grid = grid_mixture()
    model = NCSN.for_points(2)
    data = grid.sample(50_000, generator=make_generator(1))
    train(model, data, steps=200, batch_size=2048, lr=1.2e-2, ema_decay=0.95, device="cpu", progress=False)
    x = grid.sample(3000, generator=make_generator(2))
    for t in range(1, 21):
        level = float(model.schedule.noise_levels[t])
        noisy = x + level * torch.randn(x.shape, generator=make_generator(t))
        exact = GaussianMixture(grid.weights, grid.means, float(grid.covariances[0, 0, 0]) + level**2).score(noisy)
        with torch.no_grad():
            error = (model.score(noisy, t) - exact).square().sum() / exact.square().sum()
        assert error.sqrt() < 0.25, t
    samples = model.sample(3000, generator=make_generator(3))
    assert mode_coverage(samples, grid).found == 25
    assert over_floor(sliced_wasserstein, samples, grid, repeats=3) < 3


def test_the_loss_waits_for_no_device() -> None:
    # Tensors on the device "meta" have no values: whoever looks at one, as a GPU would have to be waited for, fails.
    model = NCSN.for_points().to("meta")
    loss = model.loss(torch.empty(4, 2, device="meta"))
    assert loss.device.type == "meta" and loss.shape == ()
