"""Libraries a learner could pick, each trained on points in its own recommended way.

A library that brings a network for points is given it, with the settings of its own example; the others get ``PlainMLP``,
the network that a reader would write. Each contender trains until its CPU seconds are used up and then draws samples;
calls of the network are counted, because what a library calls a step differs.
"""

from __future__ import annotations

import importlib
import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

CALLS = 50

# torchvision from the index does not load beside a CPU build of torch, unless it finds its two operators declared.
if torch.version.cuda is None:
    _TORCHVISION = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _TORCHVISION.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def load(name: str) -> types.ModuleType:
    """Import a module of a package without running the package's own imports, which ask for much that is not needed."""
    package = name.partition(".")[0]
    if package not in sys.modules:
        parent = types.ModuleType(package)
        parent.__path__ = [str(next(p for p in (Path(e) / package for e in sys.path) if p.is_dir()))]
        sys.modules[package] = parent
    return importlib.import_module(name)


class PlainMLP(nn.Module):
    """Three hidden layers of 128 units; the time enters as 64 sines and cosines beside the point."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        sizes = (2 + 64, 128, 128, 128)
        hidden = [layer for i, o in zip(sizes, sizes[1:]) for layer in (nn.Linear(i, o), nn.SiLU())]
        self.net = nn.Sequential(*hidden, nn.Linear(128, 2))
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * torch.arange(32) / 32))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = self.scale * t.reshape(-1, 1).to(x.dtype).expand(len(x), 1) * self.frequencies
        return self.net(torch.cat([x, angles.sin(), angles.cos()], dim=1))


class Contender:
    """One library on one data set.

    Args:
        data: (N, 2), the training points.
        seed: of everything drawn.
    """

    name = ""
    packages: tuple[str, ...] = ()
    note = ""

    def __init__(self, data: Tensor, seed: int) -> None:
        torch.manual_seed(seed)
        self.data, self.seed = data, seed
        self.steps = self.build()

    def build(self) -> Iterator[None]:
        """Set the model up and return an iterator whose every ``next`` makes one training step."""
        raise NotImplementedError

    def sample(self, count: int) -> Tensor:
        """Return (count, 2) points."""
        raise NotImplementedError

    def batches(self, size: int) -> Iterator[Tensor]:
        while True:
            yield self.data[torch.randint(len(self.data), (size,))]


def adam_steps(parameters, batches, loss_of, lr: float = 1e-3, kind: type = torch.optim.AdamW, after=None):
    """Yield after each step of an optimizer, the loop that the libraries' own examples write out."""
    optimizer = kind(parameters, lr=lr)
    for x in batches:
        optimizer.zero_grad()
        loss_of(x).backward()
        optimizer.step()
        if after is not None:
            after()
        yield


class SmallDiffusion(Contender):
    name, packages = "smalldiffusion", ("smalldiffusion",)
    note = "its README's toy example: its MLP, log-linear noise levels, batches of 2,048; its accelerated sampler"

    def build(self) -> Iterator[None]:
        from smalldiffusion import ScheduleLogLinear, TimeInputMLP, training_loop
        from torch.utils.data import DataLoader

        self.model = TimeInputMLP(hidden_dims=(16, 128, 128, 128, 128, 16))
        self.schedule = ScheduleLogLinear(N=200, sigma_min=0.005, sigma_max=10)
        loader = DataLoader(self.data, batch_size=2048)
        return iter(training_loop(loader, self.model, self.schedule, epochs=10**9))

    def sample(self, count: int) -> Tensor:
        from smalldiffusion import samples

        *_, x = samples(self.model, self.schedule.sample_sigmas(CALLS), gam=2, batchsize=count)
        return x


class Azula(Contender):
    name, packages = "azula", ("azula",)
    note = "its README's example: KarrasDenoiser, VPSchedule, Adam; a plain MLP; its DDIM sampler"

    def build(self) -> Iterator[None]:
        from azula.denoise import KarrasDenoiser
        from azula.noise import VPSchedule

        self.model = KarrasDenoiser(PlainMLP(scale=100.0), VPSchedule())
        loss = lambda x: self.model.loss(x, torch.rand(len(x)))  # noqa: E731
        return adam_steps(self.model.parameters(), self.batches(256), loss, kind=torch.optim.Adam)

    def sample(self, count: int) -> Tensor:
        from azula.sample import DDIMSampler

        sampler = DDIMSampler(self.model.eval(), steps=CALLS, silent=True)
        return sampler(sampler.init((count, 2)))


class DenoisingDiffusion(Contender):
    name, packages = "denoising-diffusion-pytorch", ("denoising-diffusion-pytorch",)
    note = "GaussianDiffusion1D, eps, cosine, T = 1000, data scaled to [0, 1]; a plain MLP, average of weights; its DDIM"

    def build(self) -> Iterator[None]:
        from denoising_diffusion_pytorch.denoising_diffusion_pytorch_1d import GaussianDiffusion1D
        from ema_pytorch import EMA

        class AsSequence(PlainMLP):
            channels, self_condition = 2, False

            def forward(self, x, t, x_self_cond=None):
                return super().forward(x.flatten(1), t)[:, :, None]

        self.low, self.high = self.data.amin(0), self.data.amax(0)
        self.model = GaussianDiffusion1D(
            AsSequence(), seq_length=1, timesteps=1000, sampling_timesteps=CALLS, objective="pred_noise"
        )
        self.average = EMA(self.model, beta=0.995, update_every=10)
        scaled = ((x - self.low) / (self.high - self.low) for x in self.batches(256))
        loss = lambda x: self.model(x[:, :, None])  # noqa: E731
        return adam_steps(self.model.parameters(), scaled, loss, kind=torch.optim.Adam, after=self.average.update)

    def sample(self, count: int) -> Tensor:
        drawn = self.average.ema_model.sample(batch_size=count)[:, :, 0]
        return drawn * (self.high - self.low) + self.low


class Diffusers(Contender):
    name, packages = "diffusers", ("diffusers",)
    note = "DDPMScheduler, eps, linear, T = 1000; a plain MLP; DPMSolverMultistepScheduler"

    def build(self) -> Iterator[None]:
        from diffusers import DDPMScheduler

        self.model, scheduler = PlainMLP(), DDPMScheduler(num_train_timesteps=1000)

        def loss(x: Tensor) -> Tensor:
            noise, t = torch.randn_like(x), torch.randint(0, 1000, (len(x),))
            return nn.functional.mse_loss(self.model(scheduler.add_noise(x, noise, t), t), noise)

        return adam_steps(self.model.parameters(), self.batches(256), loss)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        from diffusers import DPMSolverMultistepScheduler

        scheduler = DPMSolverMultistepScheduler(num_train_timesteps=1000)
        scheduler.set_timesteps(CALLS)
        x = torch.randn(count, 2)
        for t in scheduler.timesteps:
            x = scheduler.step(self.model(x, t), t, x).prev_sample
        return x


class TorchCFM(Contender):
    name, packages = "torchcfm", ("torchcfm",)
    note = "its 2-D example: optimal-transport flow matching, its MLP, Adam; Euler's method"

    def build(self) -> Iterator[None]:
        from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher

        self.model = load("torchcfm.models.models").MLP(dim=2, time_varying=True)
        matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.1)

        def loss(x: Tensor) -> Tensor:
            t, x_t, flow = matcher.sample_location_and_conditional_flow(torch.randn_like(x), x)
            return ((self.model(torch.cat([x_t, t[:, None]], dim=-1)) - flow) ** 2).mean()

        return adam_steps(self.model.parameters(), self.batches(256), loss, kind=torch.optim.Adam)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        from torchdiffeq import odeint

        field = lambda t, x: self.model(torch.cat([x, t.expand(len(x), 1)], dim=-1))  # noqa: E731
        return odeint(field, torch.randn(count, 2), torch.linspace(0, 1, CALLS + 1), method="euler")[-1]


class KDiffusion(Contender):
    name, packages = "k-diffusion", ("k-diffusion",)
    note = "its preconditioner and log-normal noise levels, lr 1e-3; a plain MLP; its Heun on Karras' noise levels"

    def network(self) -> nn.Module:
        class LogNoise(PlainMLP):
            # the library hands its network the noise level itself
            def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
                return super().forward(x, sigma.log() / 4)

        return LogNoise(scale=10.0)

    def build(self) -> Iterator[None]:
        self.model = load("k_diffusion.layers").Denoiser(self.network(), sigma_data=1.0)

        def loss(x: Tensor) -> Tensor:
            sigma = (torch.randn(len(x)) * 1.2 - 1.2).exp()
            return self.model.loss(x, torch.randn_like(x), sigma).mean()

        return adam_steps(self.model.parameters(), self.batches(256), loss)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        sampling = load("k_diffusion.sampling")
        sigmas = sampling.get_sigmas_karras(CALLS // 2, 0.002, 80.0)
        return sampling.sample_heun(self.model, torch.randn(count, 2) * 80.0, sigmas, disable=True)


class KDiffusionFourier(KDiffusion):
    name = "k-diffusion, our network"
    note = "the same with diffutils.networks.MLP, whose inputs are Fourier features of the point"

    def network(self) -> nn.Module:
        from diffutils.networks import MLP

        class LogNoiseMLP(MLP):
            # log(sigma) / 4 is about -1.5 to 1; the book's network expects times of 0 to 100
            def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
                return super().forward(x, 40 + 25 * sigma.log() / 4)

        return LogNoiseMLP(2, seed=self.seed)


PEERS = (SmallDiffusion, Azula, DenoisingDiffusion, Diffusers, TorchCFM, KDiffusion, KDiffusionFourier)
