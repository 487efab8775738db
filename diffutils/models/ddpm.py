"""Denoising diffusion probabilistic models: a network, a noise schedule, and what the network predicts.

The forward process turns data into noise by a fixed schedule; the network f learns, from pairs of x_t and the noise
that made it, to undo one step at every t. Training minimises L_simple,

    E |target - f(x_t, t)|^2,   t uniform on 1..T,   x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps,

where the target is eps, x_0 or v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0. Sampling runs the chain back.

A network with twice as many outputs can give the variance of each reverse step too (``variance_output``). L_simple does
not see a variance, so a small share of the variational bound is added to the loss: L_hybrid of Nichol and Dhariwal.

Home chapters: the reverse process (chapters/05_reverse_process.md); the ELBO ledger (chapters/08_elbo_ledger.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffutils.models.denoising import DenoisingModel
from diffutils.networks import MLP
from diffutils.objectives import Bound, l_hybrid, l_simple, variational_bound
from diffutils.samplers import LEARNED, VARIANCE_OUTPUTS, Ancestral
from diffutils.schedule import Schedule
from diffutils.unet import UNet
from diffutils.validation import check_choice, check_int, require


class DDPM(DenoisingModel):
    """A denoising diffusion model; also a denoiser, for every function that takes one.

    Args:
        network: a module (x_t, t) -> a tensor of x_t's shape, t being the time, an int (in sampling) or
            a (B,) LongTensor (in training); see ``networks``. With a ``variance_output`` it has twice as many channels
            (numbers of a point): first the prediction.
        schedule: the noise schedule.
        prediction: what the network's output means: "eps", "x0" or "v"; None is what its attribute ``prediction``
            says, where it has one, and else "eps". With eps and alpha_bar_T = 0 a model can be trained, not sampled.
        variance_output: what its second half means, "range" or "free" (see ``samplers.denoiser``); None where the
            network gives no variance.
        shape: shape of one example, without the batch axis; None means (network.dim,), for networks of points.

    Raises:
        ValueError: if a name is another, the network says that it predicts something else, or no shape is given and
            the network has no ``dim``; at the call, if the network has not as many outputs as it should.

    Source: Ho et al. 2020 (arXiv:2006.11239); v-prediction: Salimans & Ho 2022 (arXiv:2202.00512), appendix D; learned
    variance: Nichol & Dhariwal 2021 (arXiv:2102.09672), section 3.1.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: str | None = None,
        *,
        variance_output: str | None = None,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(network, schedule, prediction, shape)
        if variance_output is not None:
            check_choice("variance_output", variance_output, VARIANCE_OUTPUTS)
        self.variance_output = variance_output

    @classmethod
    def for_points(cls, dim: int = 2, *, seed: int = 0) -> DDPM:
        """Return the book's model of points: the default MLP, 100 steps of the cosine schedule, v-prediction.

        Trained with ``train(model, data, steps=1000, ema_decay=0.99)``, about 12 seconds on one CPU core, it samples
        the grid, the swiss roll and the moons about as well as a second real set would (``tests/test_ddpm.py``).

        Args:
            dim: number of coordinates d of a point; the data should have about unit variance.
            seed: fixes the initial weights.
        """
        return cls(MLP(dim, seed=seed), Schedule.cosine(100), "v")

    @classmethod
    def for_images(cls, shape: Sequence[int] = (1, 28, 28), *, seed: int = 0) -> DDPM:
        """Return the book's model of small images: a narrow U-Net, 1000 steps of the cosine schedule, v-prediction.

        It is made for minutes on a CPU: 24 channels, no attention, and from 16 pixels on 2x2 patches of pixels, a
        quarter of the positions. ``benchmarks/digits.py`` trains it beside other libraries: in small batches, sampled
        with x_0 clipped to [-1, 1], and where it is still blurred guided by its own early average (``samplers.Guided``).

        Args:
            shape: (channels, height, width) of an image in [-1, 1]; both sides even, or multiples of 4 from 16 on.
            seed: fixes the initial weights.

        Raises:
            ValueError: if the shape has not three sizes, or a side is of another kind.
        """
        require(len(shape) == 3, "shape", tuple(shape), "(channels, height, width)")
        channels, *sides = (check_int("shape", size, 1) for size in shape)
        patch = 2 if min(sides) >= 16 else 1
        fits = all(side % (2 * patch) == 0 for side in sides)
        require(fits, "shape", tuple(shape), f"(channels, height, width) with sides that are multiples of {2 * patch}")
        return cls(UNet(channels, 24, patch=patch, seed=seed), Schedule.cosine(1000), "v", shape=shape)

    def forward(self, x_t: Tensor, t: Tensor | int) -> Tensor:
        """Return the network's prediction for x_t (B, *shape) at network time t, an int or (B,)."""
        return self.network(x_t, t) if self.variance_output is None else self.with_variance(x_t, t)[0]

    def with_variance(self, x_t: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        """Return the prediction and the variance output, each of x_t's shape (B, *shape).

        Raises:
            ValueError: if the model has no ``variance_output``, or the network not twice as many outputs.
        """
        require(self.variance_output is not None, "variance_output", None, f"one of {VARIANCE_OUTPUTS}")
        answer = self.network(x_t, t)
        channels = x_t.shape[1]
        require(answer.shape[1] == 2 * channels, "network(x_t, t).shape[1]", answer.shape[1], f"{2 * channels}")
        return answer[:, :channels], answer[:, channels:]

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return L_simple on the batch x of shape (B, *shape): one time per example, plain mean squared error.

        With a ``variance_output`` it is L_hybrid: L_simple plus a thousandth of the bound per dimension.

        Raises:
            ValueError: if x does not have the model's shape, or is not finite floating-point data.

        Source: Ho et al. 2020 (arXiv:2006.11239), equation (14); Nichol & Dhariwal 2021, equation (16).
        """
        self._check_shape(x)
        if self.variance_output is None:
            return l_simple(self, self.schedule, x, generator=generator)
        return l_hybrid(self, self.schedule, x, generator=generator)

    def bound(
        self,
        x: Tensor,
        *,
        variance: str | Tensor | None = None,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Bound:
        """Return the variational bound on -log p(x), term by term, in nats per example: T * draws network calls.

        Args:
            x: (B, *shape); of a single example the standard errors are NaN.
            variance: sigma_t^2: "learned", "beta", "beta_tilde" or a table; None is "learned" where the network gives
                one, else "beta".
            draws: noisy versions of each example at each t.
            generator: source of their noise; None is torch's default.

        Raises:
            ValueError: if an argument is out of range.
        """
        self._check_shape(x)
        if variance is None:
            variance = "beta" if self.variance_output is None else LEARNED
        return variational_bound(self, self.schedule, x, variance=variance, draws=draws, generator=generator)

    def elbo(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return an unbiased estimate of the lower bound on log p(x) of each example, (B,) float64, in nats.

        It is ``bound`` with its sign turned and one draw: T network calls, no gradient.
        """
        return -self.bound(x, generator=generator).per_example

    def sample(
        self,
        n: int,
        *,
        variance: str | Tensor | None = None,
        clip: tuple[float, float] | None = None,
        schedule: Schedule | None = None,
        trajectory: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return n samples of shape (n, *shape) by ancestral sampling, on the network's device.

        Every other sampler takes the model itself: ``DDIM(model, model.schedule.respaced(20)).sample((n, 2))``.

        Args:
            n: how many samples.
            variance: sigma_t^2: "learned", "beta", "beta_tilde" or a table of length T + 1; None is "learned" where
                the network gives one, else "beta_tilde".
            clip: bounds for the guess of x_0, for bounded data such as images; never for unbounded points.
            schedule: a respaced version of the model's schedule, for fewer steps; None is the model's own.
            trajectory: return all states, (T + 1, n, *shape), entry t being x_t.
            generator: source of all noise; None is torch's default.

        Raises:
            ValueError: if n < 1 or an argument is out of range.
        """
        if variance is None:
            variance = "beta_tilde" if self.variance_output is None else LEARNED
        sampler = Ancestral(self, self.schedule if schedule is None else schedule, variance=variance, clip=clip)
        return sampler.sample((check_int("n", n, 1), *self.shape), trajectory=trajectory, generator=generator)
