"""Libraries a learner could pick, each trained on points with its own loss, loop and sampler.

A library that brings a network for points is given it, with the settings of its own example. The others have none: they
get ``PlainMLP``, the network that a reader would write, and once more ``diffutils.networks.MLP``, so that a table shows
what is the library's and what the network's. Each contender trains until its CPU seconds are used up and then draws
samples; calls of the network are counted, because what a library calls a step differs.
"""

from __future__ import annotations

import importlib
import math
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from diffutils.networks import MLP

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


class OurMLP(MLP):
    """The book's network, told a library's time as one of 0 to 100."""

    def __init__(self, seed: int, told: Callable[[Tensor], Tensor]) -> None:
        super().__init__(2, seed=seed)
        self.told = told

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(x, self.told(t))


class Contender:
    """One library on one data set.

    Args:
        data: (N, 2), the training points.
        seed: of everything drawn.

    Attributes:
        used: the share of its CPU seconds that is used up, kept by who trains it.
    """

    name = ""
    packages: tuple[str, ...] = ()
    note = ""
    used = 0.0

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


def adam_steps(parameters, batches, loss_of, lr: float = 1e-3, kind: type = torch.optim.AdamW, after=None, before=None):
    """Yield after each step of an optimizer, the loop that the libraries' own examples write out.

    ``before`` is called with the optimizer and the number of steps made, after each backward pass.
    """
    optimizer = kind(parameters, lr=lr)
    for made, x in enumerate(batches):
        optimizer.zero_grad()
        loss_of(x).backward()
        if before is not None:
            before(optimizer, made)
        optimizer.step()
        if after is not None:
            after()
        yield


class SmallDiffusion(Contender):
    name, packages = "smalldiffusion", ("smalldiffusion",)
    note = "its README's toy example: its MLP, log-linear noise levels, its loop; batches of 256; its accelerated sampler"

    def build(self) -> Iterator[None]:
        from smalldiffusion import ScheduleLogLinear, TimeInputMLP, training_loop
        from torch.utils.data import DataLoader

        self.model = TimeInputMLP(hidden_dims=(16, 128, 128, 128, 128, 16))
        self.schedule = ScheduleLogLinear(N=200, sigma_min=0.005, sigma_max=10)
        loader = DataLoader(self.data, batch_size=256, shuffle=True)
        return iter(training_loop(loader, self.model, self.schedule, epochs=10**9))

    def sample(self, count: int) -> Tensor:
        from smalldiffusion import samples

        *_, x = samples(self.model, self.schedule.sample_sigmas(CALLS), gam=2, batchsize=count)
        return x


class Azula(Contender):
    name, packages = "azula", ("azula",)
    note = "its README's example: KarrasDenoiser, VPSchedule, Adam; a plain MLP; its DDIM sampler"

    def network(self) -> nn.Module:
        return PlainMLP(scale=100.0)

    def build(self) -> Iterator[None]:
        from azula.denoise import KarrasDenoiser
        from azula.noise import VPSchedule

        self.model = KarrasDenoiser(self.network(), VPSchedule())
        loss = lambda x: self.model.loss(x, torch.rand(len(x)))  # noqa: E731
        return adam_steps(self.model.parameters(), self.batches(256), loss, kind=torch.optim.Adam)

    def sample(self, count: int) -> Tensor:
        from azula.sample import DDIMSampler

        sampler = DDIMSampler(self.model.eval(), steps=CALLS, silent=True)
        return sampler(sampler.init((count, 2)))


class AzulaFourier(Azula):
    name, note = "azula, our network", "the same with diffutils.networks.MLP"

    def network(self) -> nn.Module:
        return OurMLP(self.seed, log_noise)


class DenoisingDiffusion(Contender):
    name, packages = "denoising-diffusion-pytorch", ("denoising-diffusion-pytorch",)
    note = "GaussianDiffusion1D, eps, cosine, T = 1000, data scaled to [0, 1]; a plain MLP, average of every step's weights; DDIM"

    def network(self) -> nn.Module:
        return PlainMLP()

    def build(self) -> Iterator[None]:
        from denoising_diffusion_pytorch.denoising_diffusion_pytorch_1d import GaussianDiffusion1D
        from ema_pytorch import EMA

        class AsSequence(nn.Module):
            channels, self_condition = 2, False

            def __init__(self, network):
                super().__init__()
                self.network = network

            def forward(self, x, t, x_self_cond=None):
                return self.network(x.flatten(1), t)[:, :, None]

        self.low, self.high = self.data.amin(0), self.data.amax(0)
        self.model = GaussianDiffusion1D(
            AsSequence(self.network()), seq_length=1, timesteps=1000, sampling_timesteps=CALLS, objective="pred_noise"
        )
        # Its Trainer's average, kept at every step: every tenth, and from the hundredth on, is made for long runs.
        self.average = EMA(self.model, beta=0.995, update_after_step=0, update_every=1)
        scaled = ((x - self.low) / (self.high - self.low) for x in self.batches(256))
        loss = lambda x: self.model(x[:, :, None])  # noqa: E731
        return adam_steps(self.model.parameters(), scaled, loss, kind=torch.optim.Adam, after=self.average.update)

    def sample(self, count: int) -> Tensor:
        drawn = self.average.ema_model.sample(batch_size=count)[:, :, 0]
        return drawn * (self.high - self.low) + self.low


class DenoisingDiffusionFourier(DenoisingDiffusion):
    name, note = "denoising-diffusion-pytorch, our network", "the same with diffutils.networks.MLP"

    def network(self) -> nn.Module:
        return OurMLP(self.seed, per_thousand)


class Diffusers(Contender):
    name, packages = "diffusers", ("diffusers",)
    note = (
        "DDPMScheduler, eps, linear, T = 1000; the loop of its training tutorial, with 500 steps of warm-up, a cosine rate "
        "and clipped gradients; a plain MLP; DPMSolverMultistepScheduler"
    )

    def network(self) -> nn.Module:
        return PlainMLP()

    def build(self) -> Iterator[None]:
        from diffusers import DDPMScheduler

        self.model, scheduler = self.network(), DDPMScheduler(num_train_timesteps=1000)

        def loss(x: Tensor) -> Tensor:
            noise, t = torch.randn_like(x), torch.randint(0, 1000, (len(x),))
            return nn.functional.mse_loss(self.model(scheduler.add_noise(x, noise, t), t), noise)

        def before(optimizer: torch.optim.Optimizer, made: int) -> None:
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            # Its schedule counts steps; how many there will be, only the clock knows.
            rate = 1e-3 * min(1.0, (made + 1) / 500) * 0.5 * (1 + math.cos(math.pi * min(1.0, self.used)))
            for group in optimizer.param_groups:
                group["lr"] = rate

        return adam_steps(self.model.parameters(), self.batches(256), loss, before=before)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        from diffusers import DPMSolverMultistepScheduler

        scheduler = DPMSolverMultistepScheduler(num_train_timesteps=1000)
        scheduler.set_timesteps(CALLS)
        x = torch.randn(count, 2)
        for t in scheduler.timesteps:
            x = scheduler.step(self.model(x, t), t, x).prev_sample
        return x


class DiffusersFourier(Diffusers):
    name, note = "diffusers, our network", "the same with diffutils.networks.MLP"

    def network(self) -> nn.Module:
        return OurMLP(self.seed, per_thousand)


class TorchCFM(Contender):
    name, packages = "torchcfm", ("torchcfm",)
    note = "its 2-D example: optimal-transport flow matching with sigma 0.01, its MLP, Adam; Euler's method"

    def build(self) -> Iterator[None]:
        from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher

        self.model = load("torchcfm.models.models").MLP(dim=2, time_varying=True)
        matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.01)

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
    note = "the same with diffutils.networks.MLP"

    def network(self) -> nn.Module:
        return OurMLP(self.seed, lambda sigma: log_noise(sigma.log()))


def log_noise(log_level: Tensor) -> Tensor:
    """The logarithm of a noise level, about -6 to 4, as a time of 0 to 100."""
    return 40 + 25 * log_level / 4


def per_thousand(t: Tensor) -> Tensor:
    """A time of 0 to 999 as one of 0 to 100."""
    return t / 10


PEERS = (
    SmallDiffusion, TorchCFM, Azula, DenoisingDiffusion, Diffusers, KDiffusion,
    AzulaFourier, DenoisingDiffusionFourier, DiffusersFourier, KDiffusionFourier,
)  # fmt: skip
