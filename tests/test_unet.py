"""The U-Net: shapes, independence of the examples, and that every part of it takes part."""

from __future__ import annotations

import math

import pytest
import torch

from diffutils.unet import Attention, ResidualBlock, UNet


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Move every parameter a little, so that nothing is hidden behind a last layer that starts at zero."""
    generator = seeded(99)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


SHAPES = [
    ((2, 1, 8, 8), {}),
    ((2, 1, 28, 28), {}),
    ((2, 1, 8, 8), {"patch": 2}),
    ((2, 1, 28, 28), {"patch": 2, "blocks": 2}),
    ((2, 3, 8, 12), {"multipliers": (1, 2, 2), "attention": True}),
    ((2, 2, 5, 7), {"multipliers": (1,)}),
]


@pytest.mark.parametrize(("shape", "options"), SHAPES)
def test_the_answer_has_the_shape_of_the_images(shape, options):
    network = shaken(UNet(shape[1], 8, **options))
    x = torch.randn(shape, generator=seeded())
    assert network(x, 3).shape == shape
    assert torch.isfinite(network(x, 1000)).all()


@pytest.mark.parametrize("attention", [False, True])
def test_a_time_for_all_and_the_same_time_for_each_agree(attention):
    network, x = shaken(UNet(1, 8, attention=attention)), torch.randn(3, 1, 8, 8, generator=seeded())
    torch.testing.assert_close(network(x, 7), network(x, torch.full((3,), 7)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", [False, True])
def test_examples_do_not_see_each_other(attention):
    network, x = shaken(UNet(1, 8, patch=2, attention=attention)), torch.randn(3, 1, 8, 8, generator=seeded())
    t = torch.tensor([5, 60, 700])
    together = network(x, t)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (network(x, 5)[1] - together[1]).abs().max() > 1e-3  # the time matters


@pytest.mark.parametrize("patch", [1, 2])
def test_every_pixel_can_see_every_other(patch):
    network = shaken(UNet(1, 8, patch=patch, multipliers=(1, 2, 2)))
    x = torch.randn(1, 1, 8, 8, generator=seeded()).requires_grad_()
    network(x, 3)[0, 0, 0, 0].backward()
    assert bool((x.grad[0, 0] != 0).all())


def test_the_way_up_reads_what_the_way_down_has_kept():
    network = shaken(UNet(1, 8))
    with torch.no_grad():
        for parameter in network.grow.parameters():
            parameter.zero_()  # nothing comes from below
    x = torch.randn(2, 1, 8, 8, generator=seeded())
    assert (network(x, 3) - network(x + 1, 3)).abs().max() > 1e-3


@pytest.mark.parametrize("attention", [False, True])
def test_every_parameter_takes_part(attention):
    network = shaken(UNet(1, 8, attention=attention))
    network(torch.randn(4, 1, 8, 8, generator=seeded()), torch.arange(1, 5)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_network_starts_at_zero_and_its_seed_fixes_it():
    x = torch.randn(2, 1, 8, 8, generator=seeded())
    assert UNet(1, 8)(x, 3).abs().max() == 0
    before = torch.get_rng_state()
    first, second, third = (UNet(1, 8, seed=s).stem.weight for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_block_starts_as_the_identity():
    x, time = torch.randn(2, 8, 4, 4, generator=seeded()), torch.randn(2, 16, generator=seeded(1))
    torch.testing.assert_close(ResidualBlock(8, 8, 16)(x, time), x, rtol=0, atol=0)


def test_attention_is_the_softmax_of_the_papers_equation():
    layer, x = shaken(Attention(8, heads=2)), torch.randn(2, 8, 3, 2, generator=seeded())
    q, k, v = layer.qkv(layer.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)  # each (batch, positions, channels)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(4)
        heads.append(scores.softmax(-1) @ v[..., part])
    mixed = torch.cat(heads, dim=-1).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), x + layer.out(mixed), rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only():
    network, x = shaken(UNet(1, 8, dropout=0.5)), torch.randn(2, 1, 8, 8, generator=seeded())
    assert torch.equal(network(x, 3), network(x, 3))
    network.train()
    assert not torch.equal(network(x, 3), network(x, 3))


def test_it_learns():
    network = UNet(1, 16, patch=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x = torch.randn(16, 1, 8, 8, generator=seeded())
    t = torch.arange(1, 17)
    target = x.flip(-1) * (t > 8)[:, None, None, None]  # needs the image and the time
    losses = []
    for _ in range(60):
        loss = (network(x, t) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_it_runs_in_float64():
    network = UNet(1, 8).double()
    assert network(torch.zeros(2, 1, 8, 8, dtype=torch.float64), 3).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"channels": 0}, "channels"),
        ({"width": 6}, "width"),
        ({"multipliers": ()}, "multipliers"),
        ({"multipliers": (1, 0)}, "multipliers"),
        ({"blocks": 0}, "blocks"),
        ({"patch": 0}, "patch"),
        ({"time_dim": 7}, "time_dim"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_sizes_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        UNet(**options)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 2, 8, 8), (2, 1, 8, 6)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="x.shape"):
        UNet(1, 8, patch=2)(torch.zeros(shape), 3)


def test_the_time_scales_and_shifts_the_channels_of_a_block():
    block = shaken(ResidualBlock(8, 8, 6))
    x, time = torch.randn(2, 8, 4, 4, generator=seeded()), torch.randn(2, 6, generator=seeded(1))
    scale, shift = block.time(time)[:, :8, None, None], block.time(time)[:, 8:, None, None]
    h = block.norm2(block.conv1(torch.nn.functional.silu(block.norm1(x))))
    torch.testing.assert_close(block(x, time), x + block.conv2(torch.nn.functional.silu(h * (1 + scale) + shift)))


def test_a_small_image_is_doubled_by_repeating_its_pixels():
    network, seen = shaken(UNet(1, 8, time_dim=8)), []
    network.grow[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    network(torch.randn(1, 1, 8, 8, generator=seeded()), 3)
    (doubled,) = seen
    assert torch.equal(doubled[..., ::2, ::2], doubled[..., 1::2, 1::2])
    assert float(doubled.detach().std()) > 0
