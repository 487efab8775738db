"""What an accelerator cannot do is not asked of it: no float64, and no number that the processor waits for.

Apple's MPS knows no float64, and every number read from a GPU stops it. Here tensors live on torch's "meta" device, which
has shapes and no values: reading one is an error, and a watch raises where a float64 is made there.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffutils.models.ddpm import DDPM
from diffutils.models.ncsn import NCSN
from diffutils.networks import MLP
from diffutils.process import PREDICTIONS
from diffutils.samplers import DDIM, Ancestral, DPMSolver2M, Euler, Heun
from diffutils.schedule import Schedule
from diffutils.unet import UNet

SCHEDULE = Schedule.cosine(10)
WALKS = {
    "ancestral": lambda model: Ancestral(model, SCHEDULE),
    "ancestral, respaced": lambda model: Ancestral(model, SCHEDULE.respaced(4)),
    "DDIM": lambda model: DDIM(model, SCHEDULE, eta=0.5),
    "Euler": lambda model: Euler(model, SCHEDULE, variable="log_alpha_bar"),
    "Heun": lambda model: Heun(model, SCHEDULE, variable="noise_level"),
    "DPM-Solver++(2M)": lambda model: DPMSolver2M(model, SCHEDULE),
}


class NoFloat64(TorchDispatchMode):
    """Raises where an operation gives a float64 that is not on the processor."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.device.type != "cpu" and leaf.dtype == torch.float64:
                raise TypeError(f"{function} makes a float64 on {leaf.device}")
        return result


def points(prediction: str = "v") -> DDPM:
    return DDPM(MLP(2, width=8, depth=1, seed=0), SCHEDULE, prediction)


def trained_models():
    yield "points", points(), (2,)
    yield "points, eps", points("eps"), (2,)
    yield "points, x0", points("x0"), (2,)
    learned = DDPM(MLP(2, width=8, depth=1, outputs=4, seed=0), SCHEDULE, "eps", variance_output="range")
    yield "points, learned variance", learned, (2,)
    yield "images", DDPM(UNet(1, seed=0), SCHEDULE, "v", shape=(1, 8, 8)), (1, 8, 8)


def test_the_watch_sees_a_float64() -> None:
    x = torch.zeros(2, device="meta")
    with pytest.raises(TypeError, match="makes a float64 on meta"), NoFloat64():
        x * torch.ones(2, dtype=torch.float64, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)), NoFloat64():
        float(x.sum())


@pytest.mark.parametrize(("name", "model", "shape"), [pytest.param(*m, id=m[0]) for m in trained_models()])
@pytest.mark.parametrize("where", ["cpu", "meta"])
def test_a_loss_and_its_gradient(name, model, shape, where) -> None:
    generator = torch.Generator().manual_seed(0) if where == "cpu" else None
    model = model.to("meta")
    x = torch.zeros(4, *shape, device="meta")
    with NoFloat64():
        model.loss(x, generator=generator).backward()
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in model.parameters())


class NoCopyFromTheProcessor(TorchDispatchMode):
    """Raises where a tensor of the processor is copied elsewhere: a GPU is waited for at each such copy."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        left = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and leaf.device.type == "cpu"]
        if function is torch.ops.aten._to_copy.default and left and result.device.type != "cpu":
            raise TypeError(f"a tensor of shape {tuple(result.shape)} is copied to {result.device}")
        return result


QUIET = {name: (model, shape) for name, model, shape in trained_models() if model.variance_output is None}
QUIET["NCSN"] = NCSN(MLP(2, width=8, depth=1, seed=0), SCHEDULE), (2,)


@pytest.mark.parametrize("name", QUIET)
def test_from_the_second_step_on_nothing_is_copied_to_the_device(name) -> None:
    model, shape = QUIET[name]
    model, x = model.to("meta"), torch.zeros(4, *shape, device="meta")
    model.loss(x).backward()
    with NoCopyFromTheProcessor():
        model.loss(x).backward()
        with pytest.raises(TypeError, match=r"shape \(11,\) is copied to meta"):
            SCHEDULE.beta.to("meta")


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("prediction", [name for name in PREDICTIONS if name != "score"])
def test_a_walk(walk, prediction) -> None:
    model = points(prediction).to("meta")
    with NoFloat64():
        x = WALKS[walk](model).sample((4, 2), generator=torch.Generator().manual_seed(0))
    assert (x.device.type, x.dtype, x.shape) == ("meta", torch.float32, (4, 2))
