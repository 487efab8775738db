"""Same seed, same machine, same result, bit for bit: every data set, model and sampler, in one process and in two.

Each recipe below makes tensors from a seed. It is run twice with different states of the global generators of Python,
numpy and torch, which must neither matter nor change, and again in a fresh process with another hash seed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import os
import pkgutil
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_properties_samplers import MAKERS, MIXTURE
from torch import Tensor, nn

import diffutils.models
from diffutils import datasets, estimators, metrics, objectives
from diffutils.device import make_generator
from diffutils.likelihood import ode_log_prob
from diffutils.models.ddpm import DDPM
from diffutils.models.dpm import DPM
from diffutils.models.flows import NICE, Glow, ImageGlow, RealNVP
from diffutils.models.gan import GAN
from diffutils.models.ncsn import NCSN
from diffutils.models.vae import VAE
from diffutils.networks import MLP
from diffutils.process import forward_chain
from diffutils.schedule import Schedule
from diffutils.training import train
from diffutils.unet import UNet

Recipe = Callable[[int], list[Tensor]]


def images(count: int) -> Tensor:
    return datasets.digits_8x8()[0][:count]


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "GAN": lambda seed: GAN.for_points(seed=seed),
    "VAE": lambda seed: VAE(hidden=16, seed=seed),
    "NICE": lambda seed: NICE(hidden=16, seed=seed),
    "RealNVP": lambda seed: RealNVP(hidden=16, seed=seed),
    "Glow": lambda seed: Glow(hidden=16, seed=seed),
    "ImageGlow": lambda seed: ImageGlow(hidden=8, seed=seed),
    "DDPM": lambda seed: DDPM.for_points(seed=seed),
    "DDPM of images": lambda seed: DDPM(
        UNet(1, 8, attention=True, seed=seed), Schedule.cosine(4), "eps", shape=(1, 8, 8)
    ),
    "DDPM with variances": lambda seed: DDPM(
        MLP(2, outputs=4, seed=seed), Schedule.cosine(8), "v", variance_output="range"
    ),
    "DPM": lambda seed: DPM.for_points(seed=seed),
    "NCSN": lambda seed: NCSN.for_points(seed=seed),
}


def trained(name: str) -> Recipe:
    """A few steps of training, then everything the model can do."""

    def recipe(seed: int) -> list[Tensor]:
        model = MODELS[name](seed)
        shape = getattr(model, "shape", None) or (model.dim,)
        data = images(32) if len(shape) == 3 else datasets.two_moons(64, seed=seed)
        record = train(model, data, steps=3, batch_size=16, ema_decay=0.9, seed=seed, device="cpu", progress=False)
        made = [record.losses, *model.parameters(), model.sample(3, generator=make_generator(seed))]
        for method in ("log_prob", "elbo"):
            if hasattr(model, method):
                options = {"generator": make_generator(seed)} if method == "elbo" else {}
                made.append(getattr(model, method)(data[:4], **options))
        if hasattr(model, "importance_bound"):
            made.append(model.importance_bound(data[:4], 3, generator=make_generator(seed)))
        return made

    return recipe


def sampled(name: str) -> Recipe:
    """A path of a sampler, with the exact denoiser of a mixture."""

    def recipe(seed: int) -> list[Tensor]:
        schedule = Schedule.cosine(6)
        sampler = MAKERS[name](MIXTURE.denoiser(schedule, "x0"), schedule)
        return [sampler.sample((5, 2), trajectory=True, generator=make_generator(seed))]

    return recipe


DATA: dict[str, Recipe] = {
    "swiss_roll": lambda seed: [datasets.swiss_roll(50, seed=seed)],
    "two_moons": lambda seed: [datasets.two_moons(50, seed=seed)],
    "checkerboard": lambda seed: [datasets.checkerboard(50, seed=seed)],
    "grid_mixture": lambda seed: [datasets.grid_mixture().sample(50, generator=make_generator(seed))],
    "dequantize": lambda seed: [datasets.dequantize(images(8), generator=make_generator(seed))],
}
# Files: no seed has a say in them.
FILES: dict[str, Recipe] = {
    "digits_8x8": lambda seed: list(datasets.digits_8x8()),
    "mnist_28x28": lambda seed: list(datasets.mnist_28x28()),
}


def measured(seed: int) -> list[Tensor]:
    x, y = datasets.two_moons(300, seed=seed), datasets.swiss_roll(300, seed=seed)
    grid = datasets.grid_mixture()
    floor = metrics.real_floor(metrics.energy_distance, grid, 100, repeats=2, seed=seed)
    numbers = [metrics.sliced_wasserstein(x, y, projections=20, seed=seed), metrics.energy_distance(x, y)]
    return [torch.tensor([*numbers, metrics.mmd(x, y), metrics.coverage(x, y), floor.mean], dtype=torch.float64)]


def likelihoods(seed: int) -> list[Tensor]:
    schedule, x = Schedule.cosine(5), MIXTURE.sample(4, generator=make_generator(seed))
    denoiser = MIXTURE.denoiser(schedule, "v")
    return [ode_log_prob(denoiser, schedule, x, probes=k, generator=make_generator(seed)) for k in (None, 2)]


def estimates(seed: int) -> list[Tensor]:
    mu, generator = torch.tensor([0.5, -1.0]), make_generator(seed)
    found = [
        kind(lambda x: x.square().sum(dim=1), mu, 0.7, n=20, generator=generator)
        for kind in (estimators.pathwise_gradient, estimators.score_function_gradient)
    ]
    return [part for each in found for part in vars(each).values() if isinstance(part, Tensor)]


def bounds(seed: int) -> list[Tensor]:
    schedule, generator = Schedule.cosine(6), make_generator(seed)
    x, denoiser = MIXTURE.sample(8, generator=generator), MIXTURE.denoiser(schedule, "v")
    bound = objectives.variational_bound(denoiser, schedule, x, generator=generator)
    return [bound.per_example, objectives.l_bound(denoiser, schedule, x, generator=generator)]


SEEDED: dict[str, Recipe] = {
    **DATA,
    **{f"model: {name}": trained(name) for name in MODELS},
    **{f"sampler: {name}": sampled(name) for name in MAKERS},
    "forward chain": lambda seed: [forward_chain(Schedule.cosine(5), torch.ones(4, 2), generator=make_generator(seed))],
    "metrics": measured,
    "likelihoods": likelihoods,
    "estimators": estimates,
    "bounds": bounds,
}
RECIPES = SEEDED | FILES


def digest(tensors: list[Tensor]) -> str:
    """A hash of every bit of the tensors, with their shapes and dtypes."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        whole.update(tensor.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


def disturb(seed: int) -> None:
    """Put the global generators somewhere else."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def hidden_state() -> list:
    """The state of every global generator."""
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


@functools.cache
def reference(name: str) -> str:
    """The digest of a recipe as this process makes it the first time."""
    disturb(1)
    return digest(RECIPES[name](7))


@pytest.mark.parametrize("name", RECIPES)
def test_a_seed_decides_everything_and_global_generators_nothing(name):
    first = reference(name)
    disturb(2)
    before = hidden_state()
    assert digest(RECIPES[name](7)) == first
    assert hidden_state() == before, "a global generator was used or reseeded"
    if name in SEEDED:
        assert digest(RECIPES[name](8)) != first, "the seed has no effect"


def test_dropout_too():
    def recipe() -> str:
        network = UNet(1, 8, dropout=0.5, seed=0)
        model = DDPM(network, Schedule.cosine(4), "eps", shape=(1, 8, 8))
        train(model, images(32), steps=2, batch_size=4, seed=0, device="cpu", progress=False)
        return digest(list(model.parameters()))

    disturb(1)
    first = recipe()
    disturb(2)
    assert recipe() == first


def test_another_process_makes_the_same_bits():
    environment = os.environ | {"PYTHONHASHSEED": "3"}
    command = [sys.executable, __file__, "3", str(torch.get_num_threads())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == RECIPES.keys()
    assert [name for name in RECIPES if found[name] != reference(name)] == []


def test_no_data_set_or_model_is_left_out():
    makers = {name for name, value in vars(datasets).items() if inspect.isfunction(value) and name[0] != "_"}
    others = {name for name in makers if inspect.getmodule(getattr(datasets, name)) is not datasets}
    assert makers - others - {"quantize", "bits_per_dim"} == DATA.keys() | FILES.keys()
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(
        diffutils.models.__path__, "diffutils.models."
    )]  # fmt: skip
    kinds = {
        value
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, nn.Module) and {"loss", "sample"} <= set(dir(value))
    }
    made = {type(make(0)) for make in MODELS.values()}
    # Flow is what the flows share
    assert {kind.__name__ for kind in kinds - made} == {"Flow"}


def main(disturbance: str, threads: str) -> None:
    """Print the digest of every recipe as JSON: what a second process is asked for."""
    torch.set_num_threads(int(threads))
    disturb(int(disturbance))
    print(json.dumps({name: digest(recipe(7)) for name, recipe in RECIPES.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
