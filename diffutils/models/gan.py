r"""Generative adversarial networks (생성적 적대 신경망): a generator against a discriminator.

Home chapter: 1, overview of generative models.

The generator G turns noise z from N(0, I) into a sample G(z). The discriminator gives a logit D(x), and
sigmoid(D(x)) is its probability that x is real. Their losses, in nats per example (Goodfellow et al., 2014, equation 1
and, for the generator, the non-saturating form of section 3):

    L_D = E_x[ -log sigmoid(D(x)) ] + E_z[ -log(1 - sigmoid(D(G(z)))) ]     moves D only
    L_G = E_z[ -log sigmoid(D(G(z))) ]                                      moves G only

There is no likelihood: the density of G(z) is never computed, so a GAN can be judged by its samples only.

The two players can circle each other for ever. The remedy here is R1, a gradient penalty (Mescheder, Geiger and
Nowozin, 2018, section 4.1). With a weight r1 > 0 the discriminator's loss becomes

    L_D + (r1 / 2) E_x[ |grad_x D(x)|^2 ],   x real,

so that D pays for every slope where data lies. In the smallest GAN, where the players are two numbers, the eigenvalues
of the game at its solution are +-i/2 without the penalty and -r1/2 +- sqrt(r1^2 - 1)/2 with it: it damps the circling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from diffutils.models.parts import fully_connected
from diffutils.networks import seeded_init
from diffutils.process import draw_noise
from diffutils.validation import check_data, check_float, check_int


class GAN(nn.Module):
    """A non-saturating GAN for points, with R1 as an option.

    Args:
        dim: numbers per data point.
        latent_dim: numbers per noise vector z.
        hidden: width of both networks.
        depth: hidden layers of both networks.
        fourier: sines and cosines of each coordinate that the discriminator sees.
        r1: weight of the gradient penalty on real points, in nats times squared units of the data; 0 leaves it out.
        seed: fixes the initial weights; None leaves them to torch's global generator.

    Raises:
        ValueError: for a size below 1 (depth: below 0) or a negative r1.
    """

    def __init__(
        self,
        dim: int = 2,
        *,
        latent_dim: int = 8,
        hidden: int = 64,
        depth: int = 2,
        fourier: int = 3,
        r1: float = 0.0,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.dim = check_int("dim", dim, 1)
        self.latent_dim = check_int("latent_dim", latent_dim, 1)
        self.r1 = check_float("r1", r1, 0.0, inclusive=True)
        # the penalty is a gradient, of which training takes the gradient
        self.differentiates_twice = self.r1 > 0
        with seeded_init(seed):
            self.generator_network = fully_connected(latent_dim, dim, hidden=hidden, depth=depth)
            self.discriminator_network = fully_connected(dim, 1, hidden=hidden, depth=depth, fourier=fourier)

    @classmethod
    def for_points(cls, dim: int = 2, *, seed: int = 0) -> GAN:
        """Return the book's GAN of points: three hidden layers, and R1 with weight 1.

        Trained with ``train(model, data, steps=600, batch_size=128, lr=2e-3, betas=(0.0, 0.9), ema_decay=0.99)``, about
        three seconds on one CPU core, every run of it spreads over the grid, the swiss roll and the moons.

        Args:
            dim: numbers per data point; the data should have about unit variance.
            seed: fixes the initial weights.
        """
        return cls(dim, depth=3, r1=1.0, seed=seed)

    @classmethod
    def for_digits(cls, dim: int = 64, *, seed: int = 0) -> GAN:
        """Return the book's GAN of small images as vectors: wide networks, and R1 with weight 5.

        Trained with ``train(model, data, steps=1100, batch_size=64, lr=4e-3, betas=(0.0, 0.9), ema_decay=0.99)``, about
        seven seconds on one CPU core, its 8x8 digits cover about three quarters of held-out ones.

        Args:
            dim: numbers per image, with values in about [-1, 1].
            seed: fixes the initial weights.
        """
        return cls(dim, latent_dim=16, hidden=192, fourier=0, r1=5.0, seed=seed)

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return L_D + L_G, in nats per example, for real points ``x`` (B, d).

        L_D sees the fakes as constants and L_G sees the discriminator's parameters as constants, so the gradient of the
        sum is each player's own: one optimizer then takes simultaneous steps. The sum is not a quality: it does not
        fall as the samples get better.

        Raises:
            ValueError: for data that is not finite or of the wrong dimension.
        """
        discriminator_loss, generator_loss = self.losses(x, generator=generator)
        return discriminator_loss + generator_loss

    def losses(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return (L_D, L_G), each in nats per example, R1 within L_D where it is on; see ``loss``."""
        check_data("x", x, dim=self.dim, ndim=2)
        fake = self.generator_network(draw_noise(x.new_empty(len(x), self.latent_dim), generator=generator))
        real_logit = self.discriminator_network(x)
        fake_logit = self.discriminator_network(fake.detach())
        # -log sigmoid(a) = softplus(-a), and -log(1 - sigmoid(a)) = softplus(a), without overflow.
        discriminator_loss = softplus(-real_logit).mean() + softplus(fake_logit).mean()
        if self.r1 > 0:
            discriminator_loss = discriminator_loss + 0.5 * self.r1 * squared_slope(self.discriminator_network, x)
        constants = {name: value.detach() for name, value in self.discriminator_network.named_parameters()}
        verdict = functional_call(self.discriminator_network, constants, (fake,))
        return discriminator_loss, softplus(-verdict).mean()

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n points (n, d): one pass of the generator network each.

        Raises:
            ValueError: for n below 1.
        """
        check_int("n", n, 1)
        like = next(self.generator_network.parameters())
        return self.generator_network(draw_noise(like.new_empty(n, self.latent_dim), generator=generator))


def squared_slope(network: nn.Module, x: Tensor) -> Tensor:
    """Return the mean over points ``x`` (B, ...) of |grad_x D(x)|^2, differentiable in the weights of D = ``network``.

    The network must treat the points of a batch one by one (no batch norm): the gradient of a sum of logits is then
    each point's own. Works inside ``torch.no_grad`` too.

    Source: Mescheder, Geiger and Nowozin, 2018, equation 9, without the factor gamma / 2.
    """
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(network(at).sum(), at, create_graph=True)
        return slope.square().flatten(1).sum(dim=1).mean()
