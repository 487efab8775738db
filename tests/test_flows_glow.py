"""Glow's own layers, and Glow for images."""

from __future__ import annotations

import copy

import pytest
import torch
from test_flows import autograd_log_det, points, wild

from diffutils.datasets import two_moons
from diffutils.device import make_generator
from diffutils.models.flows import ActNorm, Glow, ImageGlow, InvertibleLinear, Squeeze
from diffutils.training import train
from diffutils.training_run import TrainingRun, restore, snapshot


def images(n, shape=(1, 8, 8), seed=0):
    return torch.randn(n, *shape, generator=make_generator(seed), dtype=torch.float64)


def actnorms(flow):
    return [module for module in flow.modules() if isinstance(module, ActNorm)]


def outputs_of_actnorms(flow, x):
    """Return what each actnorm of the flow gives for x, as (C, -1)."""
    seen = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: seen.append(out[0].detach().transpose(0, 1).flatten(1)))
        for layer in actnorms(flow)
    ]
    flow(x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("flow, batch", [(Glow(3, steps=3, hidden=8), 3.0 + 2.0 * points(64, 3)),
                                         (ImageGlow(steps=2, hidden=8), 3.0 + 2.0 * images(16))])
def test_the_first_batch_leaves_every_actnorm_with_mean_zero_and_variance_one(flow, batch):
    flow = wild(copy.deepcopy(flow))
    flow.loss(batch)
    seen = outputs_of_actnorms(flow, batch)
    assert len(seen) == len(actnorms(flow)) >= 3
    for out in seen:
        torch.testing.assert_close(out.mean(dim=1), torch.zeros(len(out)).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(out.square().mean(dim=1), torch.ones(len(out)).double(), atol=1e-9, rtol=0)


def test_actnorm_starts_once_in_training_mode_and_through_the_loss_alone():
    flow = Glow(2, steps=2, hidden=8)
    first, second = two_moons(100, seed=0), 5.0 + two_moons(100, seed=1)
    flow.log_prob(first), flow(first), flow.sample(3)
    flow.eval().loss(first)
    assert not any(layer.started for layer in actnorms(flow))
    flow.train().loss(first)
    kept = {name: value.clone() for name, value in flow.named_parameters()}
    assert all(layer.started for layer in actnorms(flow))
    flow.loss(second)
    assert all(torch.equal(value, kept[name]) for name, value in flow.named_parameters())


def test_that_actnorm_has_started_is_part_of_the_state_dict():
    flow, fresh = Glow(2, steps=2, hidden=8), Glow(2, steps=2, hidden=8, seed=1)
    fresh.load_state_dict(flow.state_dict())
    assert not any(layer.started for layer in actnorms(fresh))
    flow.loss(two_moons(100, seed=0))
    fresh.load_state_dict(flow.state_dict())
    fresh.loss(7.0 + two_moons(100, seed=1))  # must not start again
    x = two_moons(10, seed=2)
    assert torch.equal(fresh.log_prob(x), flow.log_prob(x))


def test_a_flow_that_is_put_back_to_before_its_start_starts_again():
    flow = Glow(2, steps=2, hidden=8)
    before = snapshot(flow)
    flow.loss(two_moons(100, seed=0))
    restore(flow, before)
    batch = 7.0 + two_moons(100, seed=1)
    flow.loss(batch)
    for out in outputs_of_actnorms(flow, batch):
        torch.testing.assert_close(out.mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("flow", [Glow(3, steps=2, hidden=8), ImageGlow((1, 4, 4), levels=2, steps=1, hidden=8)])
def test_actnorm_does_not_start_from_one_value_per_channel(flow):
    before, x = snapshot(flow), torch.randn(2, *flow.shape, generator=make_generator(0))
    with pytest.raises(ValueError, match=r"x.shape must be .*more than one value per channel.*, got \(1, "):
        flow.loss(x[:1])
    assert all(map(torch.equal, before, snapshot(flow)))
    flow.loss(x)
    flow.loss(x[:1])


def test_one_image_starts_actnorm_where_all_levels_see_more_than_one_position():
    flow = ImageGlow((1, 8, 8), levels=2, steps=1, hidden=8)
    flow.loss(images(1).float())
    assert all(layer.started for layer in actnorms(flow))


def test_the_one_training_loop_starts_actnorm_and_keeps_it_with_a_moving_average():
    flow = Glow(2, steps=2, hidden=8)
    x = two_moons(500, seed=0) + 4.0
    record = train(flow, x, steps=3, batch_size=500, lr=1e-6, ema_decay=0.9, device="cpu", progress=False)
    assert all(layer.started for layer in actnorms(flow))
    # without a start the mean of 4 alone would cost 16 nats
    assert record.losses[0] < 4.0
    first = outputs_of_actnorms(flow, x)[0]
    torch.testing.assert_close(first.mean(dim=1), torch.zeros(2), atol=0.2, rtol=0)


def test_the_average_of_a_flow_has_started_and_goes_on_from_there():
    flow, x = Glow(2, steps=2, hidden=8), two_moons(500, seed=0)
    run = TrainingRun(flow, x, steps=3, batch_size=100, ema_decay=0.9, device="cpu")
    run.advance()
    kept = copy.deepcopy(run.averaged.state_dict())
    run.averaged.train().loss(7.0 + two_moons(100, seed=1))  # must not start again
    assert all(torch.equal(value, kept[name]) for name, value in run.averaged.state_dict().items())


def test_every_step_asks_the_processor_alone_whether_actnorm_has_started():
    """A number of a GPU would stop it; on torch's meta device reading one is an error."""
    flow = Glow(2, steps=2, hidden=8)
    flow.loss(two_moons(100, seed=0))
    flow = flow.to("meta")
    assert all(layer.started for layer in actnorms(flow))
    assert {parameter.device.type for parameter in flow.parameters()} == {"meta"}
    flow.start_from(torch.zeros(5, 2, device="meta"))


def test_actnorm_survives_a_channel_that_never_changes():
    layer = ActNorm(2)
    layer.starting = True
    y, log_det = layer(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert torch.isfinite(y).all() and torch.isfinite(log_det).all()


@pytest.mark.parametrize("channels", [1, 2, 7, 64])
def test_the_lu_form_is_the_dense_matrix_and_its_determinant(channels):
    torch.manual_seed(0)
    layer = InvertibleLinear(channels)
    rotation = layer.weight().detach()
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(channels), atol=2e-6, rtol=0)
    layer = wild(layer, gain=1.2)
    weight = layer.weight()
    permutation, lower, upper = layer.factors()
    assert torch.equal(permutation.sum(dim=0), torch.ones(channels).double())
    assert torch.equal(lower, lower.tril()) and torch.equal(lower.diagonal(), torch.ones(channels).double())
    assert torch.equal(upper, upper.triu())
    x = points(20, channels)
    y, log_det = layer(x)
    torch.testing.assert_close(y, x @ weight.mT, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(weight).logabsdet.expand(20), atol=1e-11, rtol=1e-11)
    # the inverse loses as many digits as the matrix is ill conditioned
    condition = torch.linalg.cond(weight).item()
    torch.testing.assert_close(layer.inverse(y)[0], x, atol=1e-14 * condition, rtol=0)


def test_the_linear_map_acts_on_images_as_a_1x1_convolution():
    torch.manual_seed(0)
    layer = wild(InvertibleLinear(4))
    x = images(3, (4, 2, 5))
    y, log_det = layer(x)
    expected = torch.nn.functional.conv2d(x, layer.weight()[:, :, None, None])
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(log_det, autograd_log_det(layer, x), atol=1e-10, rtol=0)
    torch.testing.assert_close(layer.inverse(y)[0], x, atol=1e-11, rtol=0)


def test_squeeze_only_moves_numbers():
    x = torch.arange(2 * 3 * 4 * 6).double().view(2, 3, 4, 6)
    y, log_det = Squeeze()(x)
    assert y.shape == (2, 12, 2, 3) and torch.equal(log_det, torch.zeros(2).double())
    assert torch.equal(y[0, :4, 0, 0], x[0, 0, :2, :2].flatten())
    assert torch.equal(Squeeze().inverse(y)[0], x)


SHAPES = [((1, 8, 8), 1), ((1, 8, 8), 2), ((1, 8, 8), 3), ((3, 4, 8), 2)]


@pytest.mark.parametrize("shape, levels", SHAPES)
def test_image_glow_is_a_bijection(shape, levels):
    flow = wild(ImageGlow(shape, levels=levels, steps=2, hidden=12), gain=1.1)
    x = images(20, shape)
    z, log_det = flow(x)
    assert z.shape == (20, flow.dim) and (z - x.flatten(1)).abs().mean() > 0.1
    back, log_det_back = flow.inverse(z)
    # an untrained wild chain amplifies: the error grows with the size of what passes through it
    torch.testing.assert_close(back, x, atol=1e-12 * (1 + z.abs().max().item()), rtol=1e-12)
    torch.testing.assert_close(log_det_back, -log_det, atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape, levels", SHAPES)
def test_image_glows_log_determinant_is_that_of_autograds_jacobian(shape, levels):
    flow = wild(ImageGlow(shape, levels=levels, steps=2, hidden=8), gain=1.1)
    x = images(4, shape)
    log_det = autograd_log_det(flow, x)
    assert log_det.abs().min() > 0.1
    torch.testing.assert_close(flow(x)[1], log_det, atol=1e-8, rtol=0)


def test_image_glow_in_single_precision_and_its_samples():
    flow = ImageGlow(steps=2, hidden=12)
    x = images(50).float()
    flow.loss(x).backward()
    torch.testing.assert_close(flow.inverse(flow(x)[0])[0], x, atol=1e-4, rtol=0)
    samples = flow.sample(3, generator=make_generator(0))
    assert samples.shape == (3, 1, 8, 8) and not samples.requires_grad
    with pytest.raises(ValueError, match="x.shape"):
        flow.log_prob(x.flatten(1))


def test_every_parameter_of_image_glow_learns():
    flow = wild(ImageGlow(steps=2, hidden=8)).train()
    flow.loss(images(8)).backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in flow.named_parameters())
