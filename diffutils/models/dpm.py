r"""Diffusion probabilistic models (확산 확률 모델): the first diffusion model, trained on its whole variational bound.

The forward process is the Gaussian chain of ``process``. The reverse kernel has a learned mean and a learned variance
for each coordinate, both functions of x_t and t,

    p_theta(x_{t-1} | x_t) = N(mu_theta(x_t, t), diag sigma_theta^2(x_t, t)),      p(x_T) = N(0, I),

and the loss is the bound on -log p_theta(x_0) with all of its terms, in nats (Sohl-Dickstein et al. 2015, sections 2.2
to 2.4). It differs from ``ddpm.DDPM`` in these two things alone, so that it shares everything else.

What is put as in later work: mu_theta is the posterior's mean at the network's guess of x_0, and sigma_theta^2 is
beta_tilde_t + (beta_t - beta_tilde_t) rho with log rho from the network ("free" in ``samplers.denoiser``), a form that
holds the best Gaussian kernel with a diagonal covariance. The paper also learned the forward betas and used radial
basis functions; here the schedule is fixed and the network is the book's.

Home chapters: three roads to diffusion (chapters/07_three_roads.md); the ELBO ledger (chapters/08_elbo_ledger.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffutils.models.ddpm import DDPM
from diffutils.networks import MLP
from diffutils.objectives import l_bound
from diffutils.schedule import Schedule


class DPM(DDPM):
    """A diffusion probabilistic model: a reverse chain with learned means and variances; also a denoiser.

    Args:
        network: a module (x_t, t) -> a tensor with twice the channels (or coordinates) of x_t, t being the time,
            an int (in sampling) or a (B,) LongTensor (in training); see ``networks``.
        schedule: the noise schedule.
        prediction: what the first half of the network's output means: "eps", "x0" or "v".
        shape: shape of one example, without the batch axis; None means (network.dim,), for networks of points.

    Raises:
        ValueError: as ``DDPM``.

    Source: Sohl-Dickstein et al. 2015 (arXiv:1503.03585).
    """

    def __init__(
        self, network: nn.Module, schedule: Schedule, prediction: str = "v", *, shape: Sequence[int] | None = None
    ) -> None:
        super().__init__(network, schedule, prediction, variance_output="free", shape=shape)

    @classmethod
    def for_points(cls, dim: int = 2, *, seed: int = 0) -> DPM:
        """Return the book's model of points: the default MLP with twice the outputs, 40 steps of the cosine schedule.

        Args:
            dim: number of coordinates d of a point; the data should have about unit variance.
            seed: fixes the initial weights.
        """
        return cls(MLP(dim, outputs=2 * dim, seed=seed), Schedule.cosine(40))

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return an unbiased estimate of the mean bound on -log p(x) over the batch (B, *shape), in nats per example.

        Each example stands for one of the T terms; the batch's times are spread evenly over 1..T.

        Raises:
            ValueError: if x does not have the model's shape, or is not finite floating-point data.
        """
        self._check_shape(x)
        return l_bound(self, self.schedule, x, generator=generator).mean()
