r"""Noise-conditional score networks: one network for the scores of the data at a ladder of noise levels.

The data x keep their place and noise is added to them, x_tilde = x + nu_t z, at levels nu_1 < ... < nu_T that form a
geometric ladder. Denoising score matching needs only the score of that noise, which is -z / nu_t: the minimiser of

    E | s_theta(x + nu_t z, t) + z / nu_t |^2

is the score of the law of x_tilde, because the conditional score averages to the marginal one. Each level is weighted
by lambda(nu) = nu^2, which makes all of them about equally large. Sampling is annealed Langevin dynamics.

With x_t = x_tilde / sqrt(1 + nu_t^2), alpha_bar_t = 1 / (1 + nu_t^2) and s_theta = -eps_theta / nu_t this is
L_simple: nu^2 |s_theta + z / nu|^2 = |z - eps_theta|^2. The network is therefore a denoiser like any other of this
book, and its inputs are the x_t, whose size does not change from level to level. Song & Ermon count their levels from
the largest: their sigma_i is nu_{T+1-i}.

Home chapter: three roads to diffusion (chapters/07_three_roads.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffutils.models.denoising import DenoisingModel
from diffutils.networks import MLP
from diffutils.process import convert_at, draw_device, draw_noise
from diffutils.samplers import AnnealedLangevin
from diffutils.samplers.base import require_finite_levels
from diffutils.schedule import Schedule
from diffutils.validation import check_data, check_int, require


class NCSN(DenoisingModel):
    """A noise-conditional score network; also a denoiser, for every function that takes one.

    Args:
        network: a module (x_t, t) -> a tensor of x_t's shape, t being the level, an int (in sampling)
            or a (B,) LongTensor (in training); see ``networks``.
        schedule: the ladder, ``Schedule.geometric`` say; any schedule is one.
        prediction: what the network's output means: "eps", "x0" or "v"; None is what its attribute ``prediction``
            says, where it has one, and else "v". With "v" the score is that of a standard normal law plus a correction by
            the network, which is nearly all of the truth where the noise is strong.
        shape: shape of one example, without the batch axis; None means (network.dim,), for networks of points.

    Raises:
        ValueError: as ``DenoisingModel``, or if alpha_bar_T is 0.

    Source: Song & Ermon 2019 (arXiv:1907.05600); the network's output as v: Karras et al. 2022 (arXiv:2206.00364),
    table 1, with unit data variance.
    """

    usual = "v"

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: str | None = None,
        *,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(network, schedule, prediction, shape)
        require_finite_levels(type(self).__name__, schedule)

    @classmethod
    def for_points(cls, dim: int = 2, *, seed: int = 0) -> NCSN:
        """Return the book's score network of points: a small MLP on 20 levels from 0.035 to 4.

        The largest level is about the greatest distance between two points of standardised data in the plane (Song &
        Ermon 2020, technique 1), so the modes are one blur there. The smallest is half the width of the finest detail
        of the book's sets (0.07), so the last law hardly differs from the data's, and the score's share of the noise
        is still large enough to be learned. Between them, neighbours differ by a factor of 1.28.

        Trained with ``train(model, data, steps=1400, batch_size=2048, lr=1.2e-2, ema_decay=0.99)``, under 20 seconds on
        one CPU core, its scores are within 10 % of the grid's at every level (``tests/test_ncsn.py``).

        Args:
            dim: number of coordinates d of a point; the data should have about unit variance.
            seed: fixes the initial weights.
        """
        network = MLP(dim, width=80, depth=2, time_dim=32, seed=seed)
        return cls(network, Schedule.geometric(20, 0.035, 4.0))

    def forward(self, x_t: Tensor, t: Tensor | int) -> Tensor:
        """Return the network's prediction for x_t (B, *shape) at level t, an int or (B,): the house's denoiser."""
        return self.network(x_t, t)

    def score(self, x_tilde: Tensor, t: Tensor | int) -> Tensor:
        """Return s_theta(x_tilde, t), the score of x + nu_t z, for x_tilde (B, *shape) in the units of the data.

        Args:
            x_tilde: (B, *shape) data with noise of standard deviation nu_t.
            t: the level, in 1..T where T is the noisiest: an int or (B,).

        Raises:
            ValueError: if t is out of range.
        """
        tables = (self.schedule.sqrt_alpha_bar, self.schedule.sqrt_one_minus_alpha_bar, self.schedule.noise_levels)
        a, s, level = (self.schedule.gather(table, t, x_tilde, minimum=1) for table in tables)
        return self._score(x_tilde, t, a, s, level)

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return nu_t^2 |s_theta(x + nu_t z, t) + z / nu_t|^2, averaged over levels, the batch and the dimensions.

        This is the paper's loss times 2 / d. From equal generators it is ``l_simple(..., target="eps")``, up to
        rounding.

        Raises:
            ValueError: if x does not have the model's shape, or is not finite floating-point data (looked for on the
                CPU only: a GPU would have to be waited for at every step).

        Source: Song & Ermon 2019 (arXiv:1907.05600), equations (5) and (6), with lambda(sigma) = sigma^2.
        """
        self._check_shape(x)
        require(x.is_floating_point(), "x.dtype", x.dtype, "a floating-point dtype (scale images first)")
        if x.device.type == "cpu":
            check_data("x", x, min_ndim=1)
        device = draw_device(generator, x.device)
        t = torch.randint(1, self.schedule.T + 1, (len(x),), generator=generator, device=device).to(x.device)
        z = draw_noise(x, generator=generator)
        tables = (self.schedule.sqrt_alpha_bar, self.schedule.sqrt_one_minus_alpha_bar, self.schedule.noise_levels)
        a, s, level = self.schedule.at_times(tables, t, x)
        score = self._score(x + level * z, t, a, s, level)
        return (level * score + z).square().mean()

    def _score(self, x_tilde: Tensor, t: Tensor | int, a: Tensor, s: Tensor, level: Tensor) -> Tensor:
        x_t = a * x_tilde
        return -convert_at(self(x_t, t), x_t, a, s, self.prediction, "eps") / level

    def sample(
        self,
        n: int,
        *,
        step: float = 0.5,
        steps_per_level: int = 5,
        denoise: bool = True,
        trajectory: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return n samples of shape (n, *shape) by annealed Langevin dynamics, on the network's device.

        ``Ancestral(model, model.schedule).sample((n, *model.shape))`` samples the same network in the other way, with
        one call per level.

        Args:
            n: how many samples.
            step: step size over nu_t^2, in (0, 4).
            steps_per_level: steps at each level; network calls are T times as many, and one for ``denoise``.
            denoise: end with the network's E[x_0 | x_tilde] at the last level.
            trajectory: return every state x_t, (T + 1, n, *shape), entry 0 the samples.
            generator: source of all noise; None is torch's default.

        Raises:
            ValueError: if n < 1 or an argument is out of range.
        """
        sampler = AnnealedLangevin(
            self, self.schedule, step=step, steps_per_level=steps_per_level, denoise=denoise
        )
        return sampler.sample((check_int("n", n, 1), *self.shape), trajectory=trajectory, generator=generator)
