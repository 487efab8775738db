"""With a CUDA device, models, data and samples are on it: what a chapter trains, and what its samplers draw.

``make test-gpu`` runs these tests after the chapters. Without a CUDA device they are skipped, unless one is required.
"""

from __future__ import annotations

import contextlib
import io

import matplotlib
import pytest
import seeds
import torch
from execution import ROOT
from torch import Tensor

from diffutils import training_run
from diffutils.datasets import digits_8x8, grid_mixture
from diffutils.device import default_device, make_generator
from diffutils.models.ddpm import DDPM
from diffutils.samplers import DDIM, Ancestral, DPMSolver2M, Heun, PredictorCorrector
from diffutils.samplers.base import Sampler
from diffutils.schedule import Schedule
from diffutils.training import train
from diffutils.unet import UNet

DEVICE = default_device()
pytestmark = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
SAMPLERS = {
    "ancestral": Ancestral,
    "DDIM": DDIM,
    "Heun": Heun,
    "DPM-Solver++(2M)": DPMSolver2M,
    "predictor-corrector": lambda model, schedule: PredictorCorrector(DDIM(model, schedule)),
}
CHAPTER = ROOT / "chapters" / "05_reverse_process.md"


def tensors_of(run: training_run.TrainingRun) -> list[Tensor]:
    """All that a training run keeps: weights, their averages, gradients, moments of the optimizer, data, losses."""
    modules = [module for module in (run.model, run.averaged) if module is not None]
    weights = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
    moments = [m for state in run.optimizer.state.values() for name, m in state.items() if name != "step"]
    return [*weights, *gradients, *moments, run.data, run.losses, run.norms]


def kinds(tensors: list[Tensor]) -> set[str]:
    return {tensor.device.type for tensor in tensors}


def example(name: str) -> tuple[DDPM, Tensor]:
    if name == "points":
        return DDPM.for_points(), grid_mixture().sample(1000, generator=make_generator(0))
    return DDPM(UNet(1, seed=0), Schedule.cosine(20), "v", shape=(1, 8, 8)), digits_8x8()[0]


@pytest.mark.parametrize("name", ["points", "images"])
def test_all_that_training_keeps_is_on_the_device(name) -> None:
    model, data = example(name)
    run = training_run.TrainingRun(model, data, steps=3, batch_size=64, ema_decay=0.9)
    run.advance()
    assert kinds(tensors_of(run)) == {DEVICE.type}
    assert run.generator.device.type == DEVICE.type


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ["points", "images"])
def test_samples_are_drawn_on_the_device(name, sampler) -> None:
    model, data = example(name)
    train(model, data, steps=3, batch_size=64, progress=False)
    drawn = SAMPLERS[sampler](model, model.schedule.respaced(5)).sample((8, *model.shape))
    assert drawn.device.type == DEVICE.type and drawn.dtype == torch.float32
    assert torch.isfinite(drawn).all()


def test_a_chapter_trains_and_samples_on_the_device(monkeypatch) -> None:
    trained, drawn, advance, sample = [], [], training_run.TrainingRun.advance, Sampler.sample

    def watched_advance(run, **options):
        advance(run, **options)
        trained.extend(tensors_of(run))

    def watched_sample(sampler, *arguments, **options):
        drawn.append(sample(sampler, *arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(training_run.TrainingRun, "advance", watched_advance)
    monkeypatch.setattr(Sampler, "sample", watched_sample)
    monkeypatch.setattr("diffbook.figures.display", lambda *_: None)
    matplotlib.use("agg")
    with contextlib.redirect_stdout(io.StringIO()):
        seeds.execute_cells(CHAPTER)
    assert kinds(trained) == {DEVICE.type}
    assert DEVICE.type in kinds(drawn)
