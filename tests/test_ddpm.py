"""The diffusion model: its loss is L_simple, its sampler visits the right times, a short training reaches the bar."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffutils.datasets import grid_mixture
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.metrics import mode_coverage, over_floor, sliced_wasserstein
from diffutils.models.ddpm import DDPM
from diffutils.models.denoising import TARGETS
from diffutils.networks import MLP
from diffutils.process import convert, diffuse
from diffutils.schedule import Schedule
from diffutils.training import train
from diffutils.training_run import TrainingError


class Exact(nn.Module):
    """The best possible network for a mixture, wearing a network's clothes; remembers the times it was called with."""

    def __init__(self, mixture: GaussianMixture, schedule: Schedule, prediction: str) -> None:
        super().__init__()
        self.dim, self.seen = mixture.dim, []
        self.denoiser = mixture.denoiser(schedule, prediction)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor | int) -> torch.Tensor:
        self.seen.append(t if isinstance(t, int) else t.clone())
        return self.denoiser(x_t, t)


def mixture(dtype: torch.dtype = torch.float32) -> GaussianMixture:
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.5]], dtype=dtype)
    return GaussianMixture(torch.tensor([0.3, 0.7], dtype=dtype), means, 0.05)


@pytest.mark.parametrize("prediction", TARGETS)
def test_the_loss_is_the_mean_squared_error_of_the_prediction(prediction: str) -> None:
    """With a network that answers 0 the loss is the mean square of the target, recomputed here from the same draws."""
    schedule, x0 = Schedule.linear(50), torch.randn(64, 3, generator=make_generator(1))
    model = DDPM(MLP(3, width=4), schedule, prediction)
    loss = model.loss(x0, generator=make_generator(2))
    generator = make_generator(2)
    t = torch.randint(1, 51, (64,), generator=generator)
    eps = torch.randn(64, 3, generator=generator)
    x_t = diffuse(schedule, x0, t, noise=eps)
    torch.testing.assert_close(loss, convert(schedule, eps, x_t, t, "eps", prediction).square().mean())
    assert loss.ndim == 0


def test_the_exact_network_reaches_the_least_loss_of_every_time() -> None:
    law, schedule = mixture(), Schedule.cosine(20)
    least = sum(law.bayes_loss(float(schedule.alpha_bar[t])) for t in range(1, 21)) / 20
    model = DDPM(Exact(law, schedule, "eps"), schedule)
    x0 = law.sample(40_000, generator=make_generator(3))
    parts = torch.stack([model.loss(part, generator=make_generator(k)) for k, part in enumerate(x0.split(2000))])
    z = (parts.mean() - least) / (parts.std() / len(parts) ** 0.5)
    assert abs(float(z)) < 5


def test_times_are_one_per_sample_and_cover_one_to_T() -> None:
    law, schedule = mixture(), Schedule.linear(30)
    network = Exact(law, schedule, "eps")
    DDPM(network, schedule).loss(law.sample(3000, generator=make_generator(0)), generator=make_generator(1))
    (t,) = network.seen
    counts = torch.bincount(t, minlength=31)
    assert t.shape == (3000,) and counts[0] == 0 and len(counts) == 31
    # each count is binomial with mean 100 and standard deviation just under 10
    assert (counts[1:] - 100).abs().max() < 50


@pytest.mark.parametrize("prediction", TARGETS)
def test_sampling_with_the_exact_network_gives_the_law(prediction: str) -> None:
    law, schedule = mixture(), Schedule.cosine(100)
    model = DDPM(Exact(law, schedule, prediction), schedule, prediction)
    x = model.sample(4000, generator=make_generator(4))
    assert x.shape == (4000, 2)
    assert over_floor(sliced_wasserstein, x, law, repeats=3) < 1.8
    assert model.network.seen == list(range(100, 0, -1))


def test_a_respaced_schedule_is_sampled_with_the_times_the_network_knows() -> None:
    law, schedule = mixture(), Schedule.linear(100)
    network = Exact(law, schedule, "eps")
    DDPM(network, schedule).sample(8, schedule=schedule.respaced(5), generator=make_generator(0))
    assert network.seen == [100, 80, 60, 40, 20]


def test_trajectory_clip_shape_and_seed() -> None:
    schedule = Schedule.linear(30)
    model = DDPM(nn.Conv2d(1, 1, 1), schedule, "x0", shape=(1, 4, 4))
    model.forward = lambda x_t, t: 5.0 + 0.0 * x_t
    states = model.sample(3, trajectory=True, clip=(-1.0, 1.0), generator=make_generator(0))
    assert states.shape == (31, 3, 1, 4, 4)
    torch.testing.assert_close(states[0], torch.ones(3, 1, 4, 4))
    again = model.sample(3, clip=(-1.0, 1.0), generator=make_generator(0))
    assert torch.equal(states[0], again)


BAD_PARTS = [
    {"prediction": "score"}, {"prediction": "noise"}, {"schedule": 3}, {"network": print},
    {"network": nn.Linear(2, 2)}, {"shape": (0,)},
]  # fmt: skip


@pytest.mark.parametrize("wrong", BAD_PARTS, ids=str)
def test_it_refuses_bad_parts(wrong: dict) -> None:
    with pytest.raises(ValueError):
        DDPM(**{"network": MLP(2, width=4), "schedule": Schedule.linear(30), **wrong})


def test_it_refuses_bad_data_and_bad_requests() -> None:
    model = DDPM(MLP(2, width=4), Schedule.linear(30))
    for bad in (torch.zeros(3, 3), torch.zeros(3, 2, dtype=torch.long), torch.full((3, 2), float("nan"))):
        with pytest.raises(ValueError, match="x"):
            model.loss(bad)
    with pytest.raises(ValueError, match="n must be"):
        model.sample(0)
    with pytest.raises(ValueError, match="variance"):
        model.sample(2, variance="alpha")


@pytest.mark.parametrize("prediction", TARGETS)
def test_a_network_that_breaks_is_reported_by_the_training_loop(prediction: str) -> None:
    class Broken(MLP):
        calls = 0

        def forward(self, x, t):
            self.calls += 1
            return super().forward(x, t) * (float("nan") if self.calls == 7 else 1.0)

    model = DDPM(Broken(2, width=8), Schedule.linear(30), prediction)
    with pytest.raises(TrainingError, match="step 7 of 20"):
        train(model, torch.randn(50, 2), steps=20, device="cpu", progress=False)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 16, 32)], ids=str)
def test_the_recipe_for_images_fits_their_shape_and_takes_its_seed(shape: tuple[int, int, int]) -> None:
    """From 16 pixels on the network works on patches; the same seed gives the same weights, whatever ran before."""
    model, again, other = (DDPM.for_images(shape, seed=seed) for seed in (1, 1, 2))
    assert model.shape == shape and model.prediction == "v"
    assert model.network.patch == (2 if shape[1] >= 16 else 1)
    loss = model.loss(torch.zeros(4, *shape), generator=make_generator(0))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    same, different = (list(m.parameters()) for m in (again, other))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same))
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), different))


@pytest.mark.parametrize("shape", [(28, 28), (1, 7, 8), (1, 18, 18), (0, 8, 8), (1, 8, 9)], ids=str)
def test_the_recipe_for_images_refuses_shapes_it_cannot_halve(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        DDPM.for_images(shape)


def test_the_recipe_for_points_reaches_the_bar_on_the_grid() -> None:
    """Twelve seconds of training: all 25 modes, and a distance to real data of at most twice its floor."""
    grid = grid_mixture()
    model = DDPM.for_points(2, seed=0)
    data = grid.sample(100_000, generator=make_generator(1))
    train(model, data, steps=1000, ema_decay=0.99, device="cpu", progress=False)
    samples = model.sample(5000, generator=make_generator(2))
    coverage = mode_coverage(samples, grid)
    assert coverage.found == 25
    assert coverage.share_within > 0.85
    assert over_floor(sliced_wasserstein, samples, grid, repeats=3) < 2.0


@pytest.mark.parametrize("schedule", [Schedule.linear(100), Schedule.cosine(20), Schedule.linear(1000).respaced(20)])
def test_a_schedule_of_other_noise_levels_is_refused_by_all_who_use_the_model(schedule: Schedule) -> None:
    from diffutils.likelihood import ode_log_prob
    from diffutils.objectives import variational_bound
    from diffutils.samplers import DDIM, Guided

    model, other = DDPM.for_points(2), DDPM(MLP(2), schedule, "v")
    x, message = torch.zeros(3, 2), "a respaced version of it, got Schedule"
    for use in (
        lambda: model.sample(3, schedule=schedule),
        lambda: DDIM(model, schedule),
        lambda: variational_bound(model, schedule, x),
        lambda: ode_log_prob(model, schedule, x),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    with pytest.raises(ValueError, match="weaker.schedule must be that of the denoiser"):
        Guided(model, other)
    with pytest.raises(ValueError, match=message):
        DDIM(Guided(model, DDPM.for_points(2)), schedule)


def test_samples_that_are_not_finite_are_no_samples() -> None:
    model = DDPM.for_points(2)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="denoiser must lead to finite samples, got 6 NaN or infinite values of 6"):
        model.sample(3)


def test_the_standard_error_of_one_example_is_unknown_without_a_warning(recwarn) -> None:
    bound = DDPM(MLP(2), Schedule.cosine(5)).bound(torch.zeros(1, 2))
    assert torch.tensor(bound.total_error).isnan() and not recwarn.list
