r"""Variational autoencoders (변분 오토인코더): a latent variable model trained by a lower bound.

Home chapters: 1, overview of generative models; 8, the ELBO ledger.

The model: z ~ N(0, I), x | z ~ N(f(z), s^2 I), with f the decoder network. Its likelihood p(x) is an integral over z.
An encoder gives an approximate posterior q(z|x) = N(m(x), diag v(x)^2), and with it the evidence lower bound

    ELBO(x) = E_q[ log p(x|z) ] - KL( q(z|x) || p(z) ) = log p(x) - KL( q(z|x) || p(z|x) )

(Kingma and Welling, 2014, equations 1 to 3, 10). The gap is the last term. More draws from q close it: with weights
w_i = p(x, z_i) / q(z_i|x),

    bound_k(x) = E log (1/k) sum_{i<=k} w_i,    ELBO = bound_1 <= bound_k <= log p(x),    rising with k

(Burda, Grosse and Salakhutdinov, 2016, equations 8 and 9 and theorem 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffutils.models.parts import fully_connected
from diffutils.networks import seeded_init
from diffutils.process import draw_noise
from diffutils.validation import check_data, check_dtype, check_float, check_int

_LOG_2PI = math.log(2 * math.pi)

# Draws of z held at once when an importance bound is computed: bounds its memory.
_DRAWS = 200_000


def _log_normal(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return log N(value; mean, diag exp(log_std)^2) summed over the last axis, in nats."""
    return (-0.5 * ((value - mean) / log_std.exp()) ** 2 - log_std - 0.5 * _LOG_2PI).sum(dim=-1)


class VAE(nn.Module):
    """A VAE for points with a Gaussian decoder.

    Args:
        dim: numbers per data point.
        latent_dim: numbers per latent vector z.
        hidden: width of both networks.
        depth: hidden layers of both networks; 0 (and no ``fourier``) makes encoder and decoder linear.
        decoder_std: s, the standard deviation of x given z, in the units of the data; None learns it (one number).
        fourier: sines and cosines of each coordinate that the networks see, of x in the encoder, of z in the decoder.
        seed: fixes the initial weights; None leaves them to torch's global generator.

    Raises:
        ValueError: for a size below 1 (depth: below 0) or a standard deviation that is not positive.
    """

    def __init__(
        self,
        dim: int = 2,
        *,
        latent_dim: int = 2,
        hidden: int = 64,
        depth: int = 3,
        decoder_std: float | None = None,
        fourier: int = 4,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.dim = check_int("dim", dim, 1)
        self.latent_dim = check_int("latent_dim", latent_dim, 1)
        # Starting at the scale of the data lets the decoder ignore z and stay there: start well below it.
        start = 0.2 if decoder_std is None else check_float("decoder_std", decoder_std, 0.0)
        with seeded_init(seed):
            self.encoder = fully_connected(dim, 2 * latent_dim, hidden=hidden, depth=depth, fourier=fourier)
            self.decoder = fully_connected(latent_dim, dim, hidden=hidden, depth=depth, fourier=fourier)
        self.decoder_log_std = nn.Parameter(torch.tensor(math.log(start)), requires_grad=decoder_std is None)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log standard deviation of q(z|x), each (B, latent_dim)."""
        mean, log_std = self.encoder(x).chunk(2, dim=-1)
        return mean, log_std

    def _draw_latent(self, x: Tensor, k: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return k latents for each x, (k, B, latent_dim), and log q(z|x), (k, B)."""
        mean, log_std = self.encode(x)
        z = mean + log_std.exp() * draw_noise(x.new_empty(k, *mean.shape), generator=generator)
        return z, _log_normal(z, mean, log_std)

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        mean = self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        return _log_normal(x, mean, self.decoder_log_std)

    def elbo(self, x: Tensor, *, samples: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Return an unbiased estimate of the ELBO of each example (B,), in nats: minus the sum of ``elbo_terms``.

        Args:
            x: points (B, d).
            samples: draws of z that are averaged; the KL term is exact.
            generator: of the draws.

        Raises:
            ValueError: for data that is not finite or of the wrong dimension, or fewer than one draw.
        """
        reconstruction, kl = self.elbo_terms(x, samples=samples, generator=generator)
        return -(reconstruction + kl)

    def elbo_terms(
        self, x: Tensor, *, samples: int = 1, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the two terms of the bound on -log p(x), each (B,) in nats: E_q[-log p(x|z)] and KL(q(z|x) || p(z)).

        They are the L_0 and the L_T of a chain with one step. The first is estimated with ``samples`` draws of z, the
        second is exact. Arguments and errors as in ``elbo``.

        Source: Kingma and Welling 2014 (arXiv:1312.6114), equations (3) and (10).
        """
        check_dtype("x", check_data("x", x, dim=self.dim, ndim=2), self)
        check_int("samples", samples, 1)
        mean, log_std = self.encode(x)
        z = mean + log_std.exp() * draw_noise(x.new_empty(samples, *mean.shape), generator=generator)
        kl = (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(dim=-1)
        return -self._log_likelihood(x, z).mean(dim=0), kl

    @torch.no_grad()
    def importance_bound(self, x: Tensor, k: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return log (1/k) sum_i w_i of each example (B,), in nats: close to log p(x) once k is large.

        Args:
            x: points (B, d).
            k: draws of z for each example; they are taken block by block, so k may be large.
            generator: of the draws.

        Raises:
            ValueError: for data that is not finite or of the wrong dimension, or k below 1.
        """
        check_dtype("x", check_data("x", x, dim=self.dim, ndim=2), self)
        check_int("k", k, 1)
        block = max(1, min(k, _DRAWS // len(x)))
        sizes = [block] * (k // block) + [k % block] * (k % block > 0)
        parts = []
        for size in sizes:
            z, log_q = self._draw_latent(x, size, generator)
            log_prior = _log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
            parts.append(torch.logsumexp(self._log_likelihood(x, z) + log_prior - log_q, dim=0))
        return torch.logsumexp(torch.stack(parts), dim=0) - math.log(k)

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return minus the mean ELBO of ``x`` (B, d), in nats per example, differentiable.

        Raises:
            ValueError: for data that is not finite or of the wrong dimension.
        """
        return -self.elbo(x, generator=generator).mean()

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n points (n, d) from p(x): one pass of the decoder each, its noise included.

        Raises:
            ValueError: for n below 1.
        """
        check_int("n", n, 1)
        like = self.decoder_log_std
        mean = self.decoder(draw_noise(like.new_empty(n, self.latent_dim), generator=generator))
        return mean + like.exp() * draw_noise(like.new_empty(n, self.dim), generator=generator)
