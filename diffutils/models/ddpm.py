"""Denoising diffusion probabilistic models: a network, a noise schedule, and what the network predicts.

The forward process turns data into noise by a fixed schedule; the network f learns, from pairs of x_t and the noise
that made it, to undo one step at every t. Training minimises L_simple,

    E |target - f(x_t, t)|^2,   t uniform on 1..T,   x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps,

where the target is eps, x_0 or v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0. Sampling runs the chain back.

Home chapter: the reverse process (chapters/05_reverse_process.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffutils.networks import MLP
from diffutils.objectives import l_simple
from diffutils.samplers import ancestral
from diffutils.schedule import Schedule
from diffutils.validation import check_choice, check_int, require

# A network's raw output can stand for these; a score has no bounded scale at small t, so no network is asked for it.
TARGETS = ("eps", "x0", "v")


class DDPM(nn.Module):
    """A denoising diffusion model; also a denoiser, for every function that takes one.

    Args:
        network: a module (x_t, t) -> a tensor of x_t's shape, t being the integer time; see ``networks``.
        schedule: the noise schedule.
        prediction: what the network's output means: "eps", "x0" or "v".
        shape: shape of one example, without the batch axis; None means (network.dim,), for networks of points.

    Raises:
        ValueError: if ``prediction`` is another name, or no shape is given and the network has no ``dim``.

    Source: Ho et al. 2020 (arXiv:2006.11239); v-prediction: Salimans & Ho 2022 (arXiv:2202.00512), appendix D.
    """

    def __init__(
        self, network: nn.Module, schedule: Schedule, prediction: str = "eps", *, shape: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        require(isinstance(network, nn.Module), "network", type(network).__name__, "a torch.nn.Module")
        require(isinstance(schedule, Schedule), "schedule", type(schedule).__name__, "a Schedule")
        self.prediction = check_choice("prediction", prediction, TARGETS)
        self.network = network
        self.schedule = schedule
        if shape is None and hasattr(network, "dim"):
            shape = (network.dim,)
        require(shape is not None, "shape", shape, "the shape of one example, since the network has no `dim`")
        self.shape = tuple(check_int("shape", size, 1) for size in shape)

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

    def forward(self, x_t: Tensor, t: Tensor | int) -> Tensor:
        """Return the network's prediction for x_t (B, *shape) at network time t, an int or (B,)."""
        return self.network(x_t, t)

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return L_simple on the batch x of shape (B, *shape): one time per example, plain mean squared error.

        Raises:
            ValueError: if x does not have the model's shape, or is not finite floating-point data.

        Source: Ho et al. 2020 (arXiv:2006.11239), equation (14).
        """
        require(tuple(x.shape[1:]) == self.shape, "x.shape", tuple(x.shape), f"(B, {', '.join(map(str, self.shape))})")
        return l_simple(self, self.schedule, x, generator=generator)

    def sample(
        self,
        n: int,
        *,
        variance: str | Tensor = "beta_tilde",
        clip: tuple[float, float] | None = None,
        schedule: Schedule | None = None,
        trajectory: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return n samples of shape (n, *shape) by ancestral sampling, on the network's device.

        Args:
            n: how many samples.
            variance: the variance of a reverse step: "beta", "beta_tilde" or a table of length T + 1.
            clip: bounds for the guess of x_0, for bounded data such as images; never for unbounded points.
            schedule: a respaced version of the model's schedule, for fewer steps; None is the model's own.
            trajectory: return all states, (T + 1, n, *shape), entry t being x_t.
            generator: source of all noise; None is torch's default.

        Raises:
            ValueError: if n < 1 or an argument is out of range.
        """
        return ancestral(
            self,
            self.schedule if schedule is None else schedule,
            (check_int("n", n, 1), *self.shape),
            variance=variance,
            clip=clip,
            trajectory=trajectory,
            generator=generator,
        )
