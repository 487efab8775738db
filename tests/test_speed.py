"""Options for speed: they change how numbers are computed, and which model comes out only within their precision."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from diffutils.device import make_generator
from diffutils.models.ddpm import DDPM
from diffutils.models.dpm import DPM
from diffutils.models.ncsn import NCSN
from diffutils.networks import MLP
from diffutils.samplers import DDIM, Ancestral, DPMSolver2M, Guided, Heun
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


def points_model(seed: int = 1) -> DDPM:
    return DDPM(MLP(2, width=16, depth=1, fourier=1, seed=seed), SCHEDULE, "v")


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


@pytest.mark.parametrize("make", [points_model, NCSN.for_points, DPM.for_points])
def test_a_network_is_compiled_once_for_all_times(monkeypatch, make) -> None:
    """An int that changes from call to call would be compiled anew, and recorded anew on a GPU for each time."""
    torch._dynamo.reset()
    model, counter, compiled = make(), CompileCounter(), nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda network, mode: compiled(network, backend=counter))
    compile_networks(model)
    with torch.no_grad():
        for t in (20, 12, 5, 1):
            model(torch.zeros(4, 2), t)
    assert counter.frame_count == 1


class OneMemory(nn.Module):
    """Writes every answer into the same memory, as a replayed graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.weight = torch.zeros(4, 2), nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.memory.copy_(x * t)


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_an_answer_of_a_replayed_network_stays(monkeypatch, mode) -> None:
    def compiled(network: nn.Module, mode: str) -> None:
        network._compiled_call_impl = network.forward

    monkeypatch.setattr(nn.Module, "compile", compiled)
    model = DDPM(OneMemory(), SCHEDULE, shape=(2,))
    compile_networks(model, mode)
    with torch.no_grad():
        first = model(torch.ones(4, 2), 3)
        model(torch.ones(4, 2), 5)
    assert torch.equal(first, torch.full((4, 2), 3.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", [Ancestral, DDIM, Heun, DPMSolver2M, "guided"])
def test_every_sampler_walks_with_a_replayed_network(make) -> None:
    def walk(models: list[DDPM]) -> torch.Tensor:
        if make == "guided":
            sampler = DDIM(Guided(*models, 1.0), SCHEDULE)
        else:
            sampler = make(models[0], SCHEDULE)
        return sampler.sample((50, 2), generator=make_generator(2, "cuda"), device="cuda")

    plain, replayed = ([points_model(seed).cuda() for seed in (1, 2)] for _ in range(2))
    for model in replayed:
        compile_networks(model, "reduce-overhead")
    torch.testing.assert_close(walk(replayed), walk(plain), rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", COMPILE_MODES[:2])
def test_a_model_replayed_on_the_gpu_is_the_same_model(mode) -> None:
    data = torch.randn(200, 2, generator=make_generator(5))
    models = points_model(), points_model()
    options = dict(steps=30, batch_size=32, ema_decay=0.9, device="cuda", progress=False)
    plain, compiled = (train(m, data, compile_mode=c, **options) for m, c in zip(models, (None, mode)))
    torch.testing.assert_close(plain.losses, compiled.losses, rtol=1e-3, atol=1e-4)
