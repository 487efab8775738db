"""The time embedding, Fourier features and the MLP: formulas, shapes, seeds, and what they refuse."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from diffutils.networks import MLP, FourierFeatures, ResidualBlock, seeded_init, time_embedding, times_for


def perturbed(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model with every weight moved, so that layers which start at zero take part in the tests."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def test_time_embedding_entry_by_entry() -> None:
    t = torch.tensor([0, 1, 7, 1000])
    features = time_embedding(t, 6, max_period=100.0)
    assert features.shape == (4, 6)
    for row, time in enumerate(t.tolist()):
        for j in range(3):
            angle = time * 100.0 ** (-j / 3)
            assert features[row, j].item() == pytest.approx(math.sin(angle), abs=1e-4)
            assert features[row, 3 + j].item() == pytest.approx(math.cos(angle), abs=1e-4)


def test_time_embedding_separates_all_times_of_a_long_schedule() -> None:
    features = time_embedding(torch.arange(1001), 64)
    distance = torch.cdist(features, features) + 10 * torch.eye(1001)
    assert distance.min() > 0.1


def test_time_embedding_keeps_float64_times() -> None:
    assert time_embedding(torch.ones(2, dtype=torch.float64), 4).dtype == torch.float64


@pytest.mark.parametrize("t, dim", [(torch.ones(2, 1), 4), (3, 4), (torch.ones(2), 5), (torch.ones(2), 0)])
def test_time_embedding_refuses(t, dim) -> None:
    with pytest.raises(ValueError):
        time_embedding(t, dim)


def test_fourier_features_entry_by_entry() -> None:
    x = torch.tensor([[0.3, -1.2]])
    features = FourierFeatures(2, 2, 1.5)(x)
    angles = [0.45, 0.9, -1.8, -3.6]
    expected = [0.3, -1.2, *map(math.sin, angles), *map(math.cos, angles)]
    torch.testing.assert_close(features, torch.tensor([expected]))


def test_no_fourier_features_is_the_identity() -> None:
    x = torch.randn(3, 2)
    assert torch.equal(FourierFeatures(2, 0, 1.0)(x), x)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("fourier", [0, 3])
def test_mlp_shapes_and_an_untrained_output_of_zero(dim: int, fourier: int) -> None:
    model = MLP(dim, width=16, depth=2, fourier=fourier)
    out = model(torch.randn(4, dim), torch.tensor([1, 2, 3, 4]))
    assert out.shape == (4, dim)
    assert torch.count_nonzero(out) == 0


def test_mlp_one_time_for_all_equals_that_time_for_each() -> None:
    model, x = perturbed(MLP(2, width=16)), torch.randn(5, 2)
    each = model(x, torch.full((5,), 9))
    for one in (9, torch.tensor(9), torch.tensor([9])):
        torch.testing.assert_close(model(x, one), each)


def test_mlp_treats_samples_independently_and_uses_its_time() -> None:
    model, x = perturbed(MLP(2, width=16)), torch.randn(6, 2)
    t = torch.arange(1, 7)
    batched = model(x, t)
    alone = torch.cat([model(x[i : i + 1], int(t[i])) for i in range(6)])
    torch.testing.assert_close(batched, alone)
    assert (model(x, 1) - model(x, 50)).abs().max() > 1e-3


def test_mlp_follows_the_dtype_of_its_weights() -> None:
    model = perturbed(MLP(2, width=8)).double()
    assert model(torch.randn(3, 2, dtype=torch.float64), 4).dtype == torch.float64


def test_the_seed_alone_fixes_the_weights_and_the_global_generator_is_untouched() -> None:
    torch.manual_seed(1)
    first = MLP(2, seed=3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = MLP(2, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.first.weight, MLP(2, seed=4).first.weight)


def test_networks_built_at_once_by_several_threads_have_the_weights_of_their_seed() -> None:
    expected, before = MLP(2, depth=1, seed=0).first.weight, torch.get_rng_state()
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: MLP(2, depth=1, seed=0).first.weight, range(200)))
    assert all(torch.equal(weight, expected) for weight in made)
    assert torch.equal(before, torch.get_rng_state())


def test_a_seeded_network_may_be_built_within_another() -> None:
    with seeded_init(1):
        inner = MLP(2, seed=3)
    assert torch.equal(inner.first.weight, MLP(2, seed=3).first.weight)


def test_no_seed_means_the_global_generator() -> None:
    torch.manual_seed(1)
    with seeded_init(None):
        first = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(first, torch.rand(3))


def test_the_gradient_reaches_every_weight() -> None:
    model = perturbed(MLP(2, width=8, depth=2))
    model(torch.randn(4, 2), torch.arange(1, 5)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


BAD_SIZES = [
    {"dim": 0}, {"width": 0}, {"width": 2.5}, {"depth": -1}, {"fourier": -1}, {"fourier_base": 0.0},
    {"time_dim": 3}, {"time_dim": 0}, {"seed": -1},
]  # fmt: skip


@pytest.mark.parametrize("wrong", BAD_SIZES, ids=str)
def test_mlp_refuses_bad_sizes(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MLP(**{"dim": 2, **wrong})


def test_mlp_refuses_bad_input() -> None:
    model = MLP(2, width=8)
    with pytest.raises(ValueError, match="x.shape"):
        model(torch.randn(3, 4), 1)
    with pytest.raises(ValueError, match="t.shape"):
        model(torch.randn(3, 2), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="t must be"):
        times_for(1.5, torch.randn(3, 2))


def test_a_block_starts_as_the_identity():
    h, time = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.ones(3, 4)
    assert torch.equal(ResidualBlock(8, 4)(h, time), h)
