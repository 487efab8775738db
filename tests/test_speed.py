"""Options for speed: they change how numbers are computed, and which model comes out only within their precision."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from diffutils.device import make_generator
from diffutils.models.ddpm import DDPM
from diffutils.networks import MLP
from diffutils.samplers import DDIM, Ancestral, DPMSolver2M, Heun
from diffutils.schedule import Schedule
from diffutils.speed import COMPILE_MODES, autocast, compile_networks
from diffutils.training import train

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
SCHEDULE = Schedule.cosine(20)


class Shrinking(nn.Module):
    """Guesses x_0 = x_t / 2 by a matrix product, and notes the dtype of its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.product, self.prediction, self.seen = nn.Linear(2, 2, bias=False), "x0", []
        with torch.no_grad():
            self.product.weight.copy_(0.5 * torch.eye(2))

    def forward(self, x: torch.Tensor, t: int) -> torch.Tensor:
        guess = self.product(x)
        self.seen.append(guess.dtype)
        return guess


def sampled(sampler: type, precision: str) -> tuple[torch.Tensor, list[torch.dtype]]:
    denoiser = Shrinking()
    x = sampler(denoiser, SCHEDULE).sample((64, 2), generator=make_generator(0), precision=precision)
    return x, denoiser.seen


@pytest.mark.parametrize("sampler", [Ancestral, DDIM, Heun, DPMSolver2M])
def test_a_walk_in_bfloat16_rounds_products_and_keeps_its_states(sampler) -> None:
    plain, dtypes = sampled(sampler, "float32")
    assert set(dtypes) == {torch.float32}
    rounded, dtypes = sampled(sampler, "bfloat16")
    assert set(dtypes) == {torch.bfloat16} and rounded.dtype == torch.float32
    assert not torch.equal(plain, rounded)
    # each guess is off by at most 2^-9 of itself, and a walk passes on no more than it is given
    assert (plain - rounded).abs().max() < 2**-7 * plain.abs().max()


def test_float32_changes_nothing_and_leaves_other_contexts_alone() -> None:
    x = torch.ones(2, 2)
    with autocast("cpu", "bfloat16"):
        with autocast("cpu", "float32"):
            assert (x @ x).dtype == torch.bfloat16
    with autocast("cpu", "float32"):
        assert (x @ x).dtype == torch.float32


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'bfloat16', got 'half'"):
        autocast("cpu", "half")
    with pytest.raises(ValueError, match="mode must be one of"):
        compile_networks(nn.Linear(1, 1), "fast")
    with pytest.raises(ValueError, match="precision"):
        DDIM(Shrinking(), SCHEDULE).sample((2, 2), precision="half")


def points_model() -> DDPM:
    return DDPM(MLP(2, width=16, depth=1, fourier=1, seed=1), SCHEDULE, "v")


@needs_compiler
def test_a_compiled_model_is_the_same_model() -> None:
    data = torch.randn(200, 2, generator=make_generator(5))
    models = points_model(), points_model()
    options = dict(steps=30, batch_size=32, ema_decay=0.9, device="cpu", progress=False)
    plain, compiled = (train(m, data, compile_mode=c, **options) for m, c in zip(models, (None, "default")))
    torch.testing.assert_close(plain.losses, compiled.losses, rtol=1e-4, atol=1e-5)
    drawn = [DDIM(m, SCHEDULE).sample((50, 2), generator=make_generator(2)) for m in models]
    torch.testing.assert_close(*drawn, rtol=1e-4, atol=1e-4)
    assert models[1].network._compiled_call_impl is not None and models[0].network._compiled_call_impl is None
    assert models[0].state_dict().keys() == models[1].state_dict().keys()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", COMPILE_MODES[:2])
def test_a_model_replayed_on_the_gpu_is_the_same_model(mode) -> None:
    data = torch.randn(200, 2, generator=make_generator(5))
    models = points_model(), points_model()
    options = dict(steps=30, batch_size=32, ema_decay=0.9, device="cuda", progress=False)
    plain, compiled = (train(m, data, compile_mode=c, **options) for m, c in zip(models, (None, mode)))
    torch.testing.assert_close(plain.losses, compiled.losses, rtol=1e-3, atol=1e-4)
