"""The same network in the training and sampling loops of several libraries, and the bare calls that none can do without."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import peers  # noqa: F401  (torchvision loads beside a CPU build of torch only after it)
import torch
from torch import Tensor, nn

from diffutils.device import make_generator
from diffutils.models.ddpm import DDPM
from diffutils.samplers import DDIM
from diffutils.training_run import TrainingRun
from diffutils.unet import UNet

WALK = 25  # steps from noise to data
STEPS = 10  # of a block of training
OPTIONS: dict[str, tuple[str, str | None]] = {
    # label: precision, compile mode
    "float32": ("float32", None),
    "bfloat16": ("bfloat16", None),
    "float32, CUDA graphs": ("float32", "reduce-overhead"),
    "bfloat16, compiled": ("bfloat16", "default"),
    "bfloat16, CUDA graphs": ("bfloat16", "reduce-overhead"),
}


class Loop:
    """The same network in one library's loop.

    Args:
        model: the book's model; its network is trained.
        data: (N, *model.shape) in [-1, 1], on the device.
        batch: examples in a step of training and in a walk of sampling.
    """

    name, packages = "", ()

    def __init__(self, model: DDPM, data: Tensor, batch: int) -> None:
        self.model, self.data, self.batch, self.device = model.to(data.device), data, batch, data.device
        self.network = self.model.network
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def train(self) -> None:
        raise NotImplementedError

    def sample(self) -> Tensor:
        raise NotImplementedError

    def noise(self) -> Tensor:
        return torch.randn(self.batch, *self.model.shape, device=self.device)


class Bare(Loop):
    """Forward, backward and a fused optimizer on one batch; as many passes as a walk has steps."""

    name = "bare calls"

    def build(self) -> None:
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)
        self.x, self.target = self.noise(), self.noise()
        self.t = torch.randint(1, 1000, (self.batch,), device=self.device)

    def train(self) -> None:
        for _ in range(STEPS):
            self.optimizer.zero_grad()
            nn.functional.mse_loss(self.network(self.x, self.t), self.target).backward()
            self.optimizer.step()

    @torch.no_grad()
    def sample(self) -> Tensor:
        for _ in range(WALK):
            answer = self.network(self.x, self.t)
        return answer


class Diffutils(Loop):
    """The book's loop, with an average of the weights; DDIM."""

    name, option = "diffutils", "float32"

    def build(self) -> None:
        self.precision, mode = OPTIONS[self.option]
        self.run = TrainingRun(
            self.model, self.data, steps=10**6, batch_size=self.batch, lr=1e-4, ema_decay=0.999, device=self.device,
            precision=self.precision, compile_mode=mode, block=STEPS,
        )  # fmt: skip
        self.generator = make_generator(0, self.device)
        self.sampler = DDIM(self.model, self.model.schedule.respaced(WALK))

    def train(self) -> None:
        self.run.advance(after_block=TrainingRun.stop)

    def sample(self) -> Tensor:
        shape = (self.batch, *self.model.shape)
        return self.sampler.sample(shape, generator=self.generator, precision=self.precision)


class Diffusers(Loop):
    """The loop of its example of unconditional training, which reads every loss; its DDIM."""

    name, packages = "diffusers", ("diffusers",)

    def build(self) -> None:
        from accelerate import Accelerator
        from diffusers import DDIMScheduler, DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        self.accelerator = Accelerator(cpu=self.device.type == "cpu")
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        loader = torch.utils.data.DataLoader(self.data.cpu(), batch_size=self.batch, shuffle=True, drop_last=True)
        rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=10**6)
        prepared = self.accelerator.prepare(self.network, optimizer, loader, rate)
        self.network, self.optimizer, loader, self.rate = prepared
        self.average = EMAModel(self.network.parameters(), decay=0.9999)
        self.average.to(self.device)
        self.batches = itertools.chain.from_iterable(itertools.repeat(loader))
        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        self.walk = DDIMScheduler.from_config(self.scheduler.config)
        self.walk.set_timesteps(WALK)

    def train(self) -> None:
        for clean in itertools.islice(self.batches, STEPS):
            noise = torch.randn_like(clean)
            t = torch.randint(0, 1000, (len(clean),), device=clean.device).long()
            loss = nn.functional.mse_loss(self.network(self.scheduler.add_noise(clean, noise, t), t), noise)
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.rate.step()
            self.optimizer.zero_grad()
            self.average.step(self.network.parameters())
            loss.detach().item()

    @torch.no_grad()
    def sample(self) -> Tensor:
        x = self.noise()
        for t in self.walk.timesteps:
            x = self.walk.step(self.network(x, t), t, x).prev_sample
        return x


class DenoisingDiffusion(Loop):
    """Its Trainer, which reads images from a folder and every loss; its DDIM."""

    name, packages = "denoising-diffusion-pytorch", ("denoising-diffusion-pytorch",)

    def build(self) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion, Trainer

        class Told(nn.Module):
            # what the library asks a network, and its third argument
            def __init__(self, network: UNet) -> None:
                super().__init__()
                self.network, self.channels, self.out_dim = network, network.channels, network.channels
                self.self_condition = self.random_or_learned_sinusoidal_cond = False

            def forward(self, x: Tensor, t: Tensor, _: None = None) -> Tensor:
                return self.network(x, t)

        self.folder = tempfile.TemporaryDirectory()
        images = save_images(self.data, Path(self.folder.name, "images"))
        model = GaussianDiffusion(Told(self.network), image_size=self.model.shape[-1], sampling_timesteps=WALK)
        self.diffusion = model.to(self.device)
        self.trainer = Trainer(
            self.diffusion, str(images), train_batch_size=self.batch, train_num_steps=0, num_samples=4,
            save_and_sample_every=10**9, results_folder=self.folder.name, calculate_fid=False,
        )  # fmt: skip

    def train(self) -> None:
        self.trainer.train_num_steps += STEPS
        self.trainer.train()

    def sample(self) -> Tensor:
        return self.diffusion.sample(batch_size=self.batch)


def save_images(data: Tensor, folder: Path) -> Path:
    """Write images in [-1, 1] as PNG files and return their folder."""
    from PIL import Image

    folder.mkdir()
    pixels = ((data + 1) * 127.5).byte().permute(0, 2, 3, 1).squeeze(-1).cpu().numpy()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


LOOPS: tuple[type[Loop], ...] = (Bare, Diffutils, Diffusers, DenoisingDiffusion)
