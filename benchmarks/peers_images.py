"""Libraries a learner could pick, each trained on images with its own network, loss and sampler.

Each brings its own U-Net, in the settings of its own example of digits where there is one, and smaller where that is
made for a GPU: ``note`` says which. No image is padded: every network halves 28 pixels at most twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from peers import Contender, adam_steps, load
from torch import Tensor, nn

CALLS, BATCH = 40, 32


class ImageContender(Contender):
    """One library on one set of images (N, 1, side, side) in [-1, 1]; samples have the same shape.

    ``network`` is the module that is trained, ``networks`` those whose calls are counted while it samples.
    """

    network: nn.Module

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        return (self.network,)

    @property
    def side(self) -> int:
        return self.data.shape[-1]

    def noise(self, count: int) -> Tensor:
        return torch.randn(count, 1, self.side, self.side)

    def steps_of(
        self, model: nn.Module, loss_of: Callable[[Tensor], Tensor], after: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Return steps of AdamW at 1e-3 on batches of 32."""
        return adam_steps(model.parameters(), self.batches(BATCH), loss_of, after=after)


class SmallDiffusionImages(ImageContender):
    name, packages = "smalldiffusion", ("smalldiffusion",)
    note = (
        "its Fashion-MNIST example at half the width and depth: Scaled(Unet), ch 32, ch_mult (1, 1, 2), attention at "
        "half the side, log-linear noise levels of 0.01 to 20, lr 7e-4, average of weights; its accelerated sampler, "
        "20 steps, gam 1.6"
    )

    def build(self) -> Iterator[None]:
        from ema_pytorch import EMA
        from smalldiffusion import Scaled, ScheduleLogLinear, Unet, training_loop
        from torch.utils.data import DataLoader

        model = Scaled(Unet)(
            self.side, 1, 1, ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, attn_resolutions=(self.side // 2,)
        )
        self.schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
        self.average = EMA(model, beta=0.999, update_after_step=0, update_every=1)
        self.network = self.average.ema_model
        loader = DataLoader(self.data, batch_size=BATCH, shuffle=True)
        steps = training_loop(loader, model, self.schedule, epochs=10**9, lr=7e-4)
        return (self.average.update() for _ in steps)

    def sample(self, count: int) -> Tensor:
        from smalldiffusion import samples

        *_, x = samples(self.network, self.schedule.sample_sigmas(20), gam=1.6, batchsize=count)
        return x


class AzulaImages(ImageContender):
    name, packages = "azula", ("azula",)
    note = (
        "KarrasDenoiser and VPSchedule of its README; its UNet with 32 and 64 channels, a block each, and its "
        "SineEncoding of the noise level; its DDIM sampler, 40 steps"
    )

    def build(self) -> Iterator[None]:
        from azula.denoise import KarrasDenoiser
        from azula.nn.layers import SineEncoding
        from azula.nn.unet import UNet
        from azula.noise import VPSchedule

        class Modulated(nn.Module):
            # the library leaves it to its user to turn a time into the features that modulate the blocks
            def __init__(self) -> None:
                super().__init__()
                self.time = SineEncoding(64)
                self.unet = UNet(1, 1, hid_channels=(32, 64), hid_blocks=(1, 1), mod_features=64)

            def forward(self, x: Tensor, t: Tensor) -> Tensor:
                return self.unet(x, self.time(t))

        self.network = Modulated()
        self.model = KarrasDenoiser(self.network, VPSchedule())
        return self.steps_of(self.model, lambda x: self.model.loss(x, torch.rand(len(x))))

    def sample(self, count: int) -> Tensor:
        from azula.sample import DDIMSampler

        sampler = DDIMSampler(self.model.eval(), steps=CALLS, silent=True)
        return sampler(sampler.init((count, 1, self.side, self.side)))


class DenoisingDiffusionImages(ImageContender):
    name, packages = "denoising-diffusion-pytorch", ("denoising-diffusion-pytorch",)
    note = (
        "Unet(dim=16, dim_mults=(1, 2, 4)), GaussianDiffusion by its defaults (v, sigmoid schedule, T = 1000); for short "
        "runs lr 1e-3 where the README has 8e-5, and the average of weights of its Trainer taken at every step and not "
        "at every tenth; its DDIM, 40 steps"
    )

    def build(self) -> Iterator[None]:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA

        unet = Unet(dim=16, dim_mults=(1, 2, 4), channels=1)
        model = GaussianDiffusion(unet, image_size=self.side, timesteps=1000, sampling_timesteps=CALLS)
        # Its Trainer updates the average at every tenth step, and from the hundredth on: made for 700,000 steps.
        self.average = EMA(model, beta=0.995, update_after_step=0, update_every=1)
        self.network = self.average.ema_model.model
        # the library scales images of [0, 1] itself
        return self.steps_of(model, lambda x: model((x + 1) / 2), self.average.update)

    def sample(self, count: int) -> Tensor:
        return self.average.ema_model.sample(batch_size=count) * 2 - 1


class DiffusersImages(ImageContender):
    name, packages = "diffusers", ("diffusers",)
    note = (
        "the network of the diffusion course's MNIST unit without its classes: UNet2DModel of 32, 64, 64 channels, 1 "
        "layer where it has 2, attention in two blocks; DDPMScheduler, squaredcos_cap_v2, eps; DDIMScheduler, which clips "
        "x_0 by default, 40 steps"
    )

    def build(self) -> Iterator[None]:
        from diffusers import DDPMScheduler, UNet2DModel

        self.network = UNet2DModel(
            sample_size=self.side,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
        self.scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")

        def loss(x: Tensor) -> Tensor:
            noise, t = torch.randn_like(x), torch.randint(0, 1000, (len(x),))
            return nn.functional.mse_loss(self.network(self.scheduler.add_noise(x, noise, t), t).sample, noise)

        return self.steps_of(self.network, loss)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        from diffusers import DDIMScheduler

        # Its DPMSolverMultistepScheduler does not clip, and with eps and this schedule comes to four times the distance.
        scheduler = DDIMScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(CALLS)
        x = self.noise(count)
        for t in scheduler.timesteps:
            x = scheduler.step(self.network.eval()(x, t).sample, t, x).prev_sample
        return x


class TorchCFMImages(ImageContender):
    name, packages = "torchcfm", ("torchcfm",)
    note = (
        "its MNIST example: UNetModel, 32 channels, 1 block, attention at a quarter of the side (at the full side it "
        "would take most of the time), optimal-transport flow matching with sigma 0, lr 1e-3; Euler's method, 40 steps"
    )

    def build(self) -> Iterator[None]:
        from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher

        shape = (1, self.side, self.side)
        sizes = {"channel_mult": (1, 2, 2), "attention_resolutions": str(self.side // 4)}
        self.network = load("torchcfm.models.unet.unet").UNetModelWrapper(shape, 32, 1, **sizes)
        matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)

        def loss(x: Tensor) -> Tensor:
            t, x_t, flow = matcher.sample_location_and_conditional_flow(torch.randn_like(x), x)
            return ((self.network(t, x_t) - flow) ** 2).mean()

        return self.steps_of(self.network, loss)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        from torchdiffeq import odeint

        field = lambda t, x: self.network.eval()(t, x)  # noqa: E731
        return odeint(field, self.noise(count), torch.linspace(0, 1, CALLS + 1), method="euler")[-1]


class KDiffusionImages(ImageContender):
    name, packages = "k-diffusion", ("k-diffusion",)
    note = (
        "its MNIST configuration at a quarter of the width and half of the depth: ImageDenoiserModelV1, depths "
        "(1, 2, 2), channels (32, 32, 64), attention last, sigma_data 0.6162, average of weights; lr 1e-3 where it has "
        "2e-4; its DPM-Solver++(2M) on 40 of Karras' noise levels"
    )

    def build(self) -> Iterator[None]:
        from ema_pytorch import EMA

        layers, image_v1 = load("k_diffusion.layers"), load("k_diffusion.models.image_v1")
        network = image_v1.ImageDenoiserModelV1(
            1, 128, depths=(1, 2, 2), channels=(32, 32, 64), self_attn_depths=(False, False, True), dropout_rate=0.05
        )
        model = layers.Denoiser(network, sigma_data=0.6162)
        self.average = EMA(model, beta=0.9999, update_after_step=0, update_every=1)
        self.network = self.average.ema_model.inner_model
        draw = load("k_diffusion.utils").rand_cosine_interpolated

        def loss(x: Tensor) -> Tensor:
            sigma = draw((len(x),), *[self.side] * 3, sigma_data=0.6162, min_value=1e-2, max_value=80.0)
            return model.loss(x, torch.randn_like(x), sigma).mean()

        return self.steps_of(model, loss, self.average.update)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        sampling = load("k_diffusion.sampling")
        sigmas = sampling.get_sigmas_karras(CALLS, 1e-2, 80.0)
        model = self.average.ema_model.eval()
        return sampling.sample_dpmpp_2m(model, self.noise(count) * 80.0, sigmas, disable=True)


IMAGE_PEERS = (
    SmallDiffusionImages, AzulaImages, DenoisingDiffusionImages, DiffusersImages, TorchCFMImages, KDiffusionImages,
)  # fmt: skip
