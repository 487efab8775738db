r"""Gaussian mixtures: a data law whose whole diffusion is known exactly. Home chapter: overview.

Let ``q(x_0) = sum_k w_k N(x_0; m_k, S_k)`` and ``x_t = sqrt(ab) x_0 + sqrt(s2) eps`` with ``ab = alpha_bar_t`` and
``s2 = 1 - ab``. Then, with ``C_k = ab S_k + s2 I`` and ``u_k(x) = C_k^{-1} (x - sqrt(ab) m_k)``,

- the noisy law is a mixture again:  ``q_t = sum_k w_k N(sqrt(ab) m_k, C_k)``;
- the responsibilities are           ``r_k(x) = w_k N(x; sqrt(ab) m_k, C_k) / q_t(x)``;
- the score is                       ``grad log q_t(x) = -sum_k r_k u_k``;
- the noise to expect is             ``E[eps | x_t = x] = sqrt(s2) sum_k r_k u_k``;
- the data to expect is              ``E[x_0 | x_t = x] = sum_k r_k (m_k + sqrt(ab) S_k u_k)``.

Averages are over the posterior r_k(x), never over the prior w_k. With ``S_k = V diag(lam) V^T`` every C_k shares the
eigenvectors V, so one eigen-decomposition serves every noise level: C_k has eigenvalues ``ab lam + s2``.

Sources: the marginal and conditional Gaussians of a linear model (Bishop 2006, section 2.3.3); the link between score
and expectation is Tweedie's formula (Efron 2011), in the form that Vincent 2011 uses for denoising.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffutils.oracle import Oracle
from diffutils.parameters import batch_level, cast, check_weights, decompose, master, scalar_levels
from diffutils.process import draw_device
from diffutils.quadrature import normal_nodes
from diffutils.validation import check_choice, check_data, check_float, check_int, require


class GaussianMixture:
    """A mixture of K Gaussians in d dimensions, with its diffusion to any noise level in closed form.

    Parameters are kept in float64 on the CPU and cast to the dtype and device of the points they meet, so an answer
    has the dtype and device of its ``x``; ``sample`` and the parameter attributes have those of ``means``.

    Args:
        weights: (K,) non-negative, summing to 1.
        means: (K, d) floating point.
        covariances: (K, d, d) symmetric positive definite matrices, (K,) variances, or one variance as a float.

    Raises:
        ValueError: if a shape does not fit, a value is not finite, the weights are not a distribution or a
            covariance is not symmetric positive definite.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor | float) -> None:
        check_data("means", means)
        require(means.ndim == 2, "means.shape", tuple(means.shape), "(K, d)")
        weights = check_weights(weights, means.shape[0])
        eigenvalues, basis = decompose(covariances, *means.shape)
        self._set(weights, master(means), eigenvalues, basis, means.dtype, means.device)

    def _set(self, weights, means, eigenvalues, basis, dtype, device) -> None:
        self._weights, self._means, self._eigenvalues, self._basis = weights, means, eigenvalues, basis
        self.dtype, self.device = dtype, torch.device(device)
        self._casts: dict = {}

    def _sibling(self, weights=None, means=None, eigenvalues=None, dtype=None, device=None) -> GaussianMixture:
        """A mixture with the same eigenvectors and some parts replaced."""
        other = object.__new__(GaussianMixture)
        other._set(
            self._weights if weights is None else weights,
            self._means if means is None else means,
            self._eigenvalues if eigenvalues is None else eigenvalues,
            self._basis,
            dtype or self.dtype,
            device or self.device,
        )
        return other

    # -- parameters ----------------------------------------------------------------------------------------------

    @property
    def components(self) -> int:
        """K, the number of Gaussians."""
        return self._means.shape[0]

    @property
    def dim(self) -> int:
        """d, the dimension of a point."""
        return self._means.shape[1]

    @property
    def weights(self) -> Tensor:
        """(K,) mixture weights."""
        return cast(self._weights, self.dtype, self.device)

    @property
    def means(self) -> Tensor:
        """(K, d) component means."""
        return cast(self._means, self.dtype, self.device)

    @property
    def covariances(self) -> Tensor:
        """(K, d, d) component covariances."""
        return cast(self._covariances(), self.dtype, self.device)

    def _covariances(self) -> Tensor:
        if self._basis is None:
            return torch.diag_embed(self._eigenvalues)
        return (self._basis * self._eigenvalues[:, None, :]) @ self._basis.mT

    @property
    def mean(self) -> Tensor:
        """(d,) mean of the whole mixture."""
        return cast(self._weights @ self._means, self.dtype, self.device)

    @property
    def covariance(self) -> Tensor:
        """(d, d) covariance of the whole mixture: within the components plus between their means."""
        centred = self._means - self._weights @ self._means
        between = torch.einsum("k,ki,kj->ij", self._weights, centred, centred)
        within = torch.einsum("k,kij->ij", self._weights, self._covariances())
        return cast(within + between, self.dtype, self.device)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> GaussianMixture:
        """Return the same mixture, sampling in ``dtype`` on ``device``."""
        require(dtype is None or dtype.is_floating_point, "dtype", dtype, "a floating-point dtype")
        return self._sibling(dtype=dtype, device=device)

    # -- the law itself ------------------------------------------------------------------------------------------

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, d) independent points, on the generator's device and then moved to the mixture's."""
        check_int("n", n, 1)
        place = draw_device(generator, self.device)
        weights, means, eigenvalues, basis = self._tables(self.dtype, place)
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dim, generator=generator, device=place, dtype=self.dtype)
        noise = eigenvalues[chosen].sqrt() * noise
        if basis is not None:
            noise = torch.einsum("nij,nj->ni", basis[chosen], noise)
        return (means[chosen] + noise).to(self.device)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log q(x) in nats: (B, d) -> (B,)."""
        ab, s2 = self._levels(x, 1.0, None)
        return self._log_joint(*self._whiten(x, ab, s2)).logsumexp(dim=1)

    def score(self, x: Tensor) -> Tensor:
        """Return grad log q(x): (B, d) -> (B, d)."""
        return self.score_t(x, 1.0)

    def responsibilities(self, x: Tensor, alpha_bar: float | Tensor = 1.0, *, sigma2=None) -> Tensor:
        """Return r_k(x), the probability that component k made the noisy x: (B, d) -> (B, K)."""
        ab, s2 = self._levels(x, alpha_bar, sigma2)
        return self._log_joint(*self._whiten(x, ab, s2)).softmax(dim=1)

    def mahalanobis(self, x: Tensor) -> Tensor:
        """Return the distance of x to each mean in that component's standard deviations: (B, d) -> (B, K)."""
        ab, s2 = self._levels(x, 1.0, None)
        projected, eigenvalues = self._whiten(x, ab, s2)
        return (projected.square() / eigenvalues).sum(dim=-1).sqrt()

    # -- the diffused law ----------------------------------------------------------------------------------------

    def diffused(self, alpha_bar: float, *, sigma2: float | None = None) -> GaussianMixture:
        """Return q_t, the law of ``sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps``, a mixture again."""
        ab, s2 = scalar_levels(alpha_bar, sigma2)
        return self._sibling(means=math.sqrt(ab) * self._means, eigenvalues=ab * self._eigenvalues + s2)

    def score_t(self, x_t: Tensor, alpha_bar: float | Tensor, *, sigma2: float | Tensor | None = None) -> Tensor:
        """Return the exact score grad log q_t(x_t): (B, d) -> (B, d).

        Args:
            x_t: (B, d) noisy points.
            alpha_bar: one float, or a (B,) tensor with one level per point, in [0, 1]; 1 means no noise.
            sigma2: ``1 - alpha_bar``, for callers that know it better than the subtraction does: near
                alpha_bar = 1 a float32 alpha_bar has lost it (``Schedule.sigma2`` has it in full).

        Raises:
            ValueError: if a shape, dtype or range is wrong.
        """
        responsibility, slope = self._posterior_slopes(x_t, *self._levels(x_t, alpha_bar, sigma2))
        return -torch.einsum("bk,bkd->bd", responsibility, slope)

    def expected_eps(self, x_t: Tensor, alpha_bar: float | Tensor, *, sigma2: float | Tensor | None = None) -> Tensor:
        """Return E[eps | x_t] = -sqrt(1 - alpha_bar) score: the best possible noise prediction. See ``score_t``."""
        ab, s2 = self._levels(x_t, alpha_bar, sigma2)
        responsibility, slope = self._posterior_slopes(x_t, ab, s2)
        return s2.sqrt()[..., 0] * torch.einsum("bk,bkd->bd", responsibility, slope)

    def expected_x0(self, x_t: Tensor, alpha_bar: float | Tensor, *, sigma2: float | Tensor | None = None) -> Tensor:
        """Return E[x_0 | x_t], exact at both ends (x_t itself at alpha_bar = 1, the mean at 0). See ``score_t``."""
        ab, s2 = self._levels(x_t, alpha_bar, sigma2)
        _, means, eigenvalues, _ = self._tables(x_t.dtype, x_t.device)
        projected, noisy_eigenvalues = self._whiten(x_t, ab, s2)
        responsibility = self._log_joint(projected, noisy_eigenvalues).softmax(dim=1)
        shift = self._unproject(ab.sqrt() * eigenvalues / noisy_eigenvalues * projected)
        return torch.einsum("bk,bkd->bd", responsibility, means + shift)

    def variance_x0(self, x_t: Tensor, alpha_bar: float | Tensor, *, sigma2: float | Tensor | None = None) -> Tensor:
        """Return Var(x_0 | x_t) of each coordinate, (B, d), within the components plus between. See ``score_t``."""
        ab, s2 = self._levels(x_t, alpha_bar, sigma2)
        _, means, eigenvalues, basis = self._tables(x_t.dtype, x_t.device)
        projected, noisy_eigenvalues = self._whiten(x_t, ab, s2)
        share = self._log_joint(projected, noisy_eigenvalues).softmax(dim=1)[..., None]
        centres = means + self._unproject(ab.sqrt() * eigenvalues / noisy_eigenvalues * projected)
        within = s2 * eigenvalues / noisy_eigenvalues
        if basis is not None:
            within = torch.einsum("bkj,kij->bki", within.expand(projected.shape), basis.square())
        between = (centres - (share * centres).sum(1, keepdim=True)).square()
        return (share * (within + between)).sum(1)

    def reverse_posterior(self, x_t: Tensor, alpha_bar_s: float, alpha_bar_t: float) -> GaussianMixture:
        """Return the exact q(x_s | x_t) for s < t, a mixture with responsibilities at x_t for weights.

        Within component k, x_s ~ N(sqrt(ab_s) m_k, C_k) is observed through x_t = sqrt(a) x_s + sqrt(1 - a) eps with
        ``a = alpha_bar_t / alpha_bar_s``; the product of the two Gaussians is Gaussian.

        Args:
            x_t: (d,) one noisy point.
            alpha_bar_s: level of the earlier, cleaner time, in (0, 1]; 1 gives q(x_0 | x_t).
            alpha_bar_t: level of x_t, in (0, alpha_bar_s).
        """
        check_data("x_t", x_t, dim=self.dim, min_ndim=1)
        require(x_t.ndim == 1, "x_t.shape", tuple(x_t.shape), f"({self.dim},)")
        ab_s = check_float("alpha_bar_s", alpha_bar_s, 0.0, math.nextafter(1.0, 2.0))
        ab_t = check_float("alpha_bar_t", alpha_bar_t, 0.0, ab_s)
        point = master(x_t)
        step, step_noise = ab_t / ab_s, (ab_s - ab_t) / ab_s
        clean = ab_s * self._eigenvalues + (1.0 - ab_s)
        noisy = ab_t * self._eigenvalues + (1.0 - ab_t)
        gain = math.sqrt(step) * clean / noisy
        projected, _ = self._whiten(point[None], *self._levels(point[None], ab_t, None))
        means = math.sqrt(ab_s) * self._means + self._unproject(gain * projected)[0]
        weights = self.responsibilities(point[None], ab_t)[0]
        return self._sibling(weights, means, step_noise * clean / noisy, dtype=x_t.dtype, device=x_t.device)

    def denoiser(self, schedule, prediction: str = "eps") -> Oracle:
        """Return the best possible network: a callable (x_t, t) with an attribute ``prediction``."""
        return Oracle(self, schedule, prediction)

    # -- integrals -----------------------------------------------------------------------------------------------

    def bayes_loss(
        self,
        alpha_bar: float,
        *,
        method: str = "auto",
        samples: int = 20_000,
        generator: torch.Generator | None = None,
        sigma2: float | None = None,
    ) -> float:
        """Return the least possible E||eps - eps_hat(x_t)||^2 / d, reached by ``expected_eps``.

        It is the average over x_t of the trace of Cov(eps | x_t), per dimension: 0 where x_t gives the noise away
        (alpha_bar = 0), 1 where it says nothing about it (alpha_bar -> 1).

        Args:
            alpha_bar: one level in [0, 1].
            method: "quadrature" (d at most 2), "monte_carlo" (any d), or "auto": the first wherever it can be had.
            samples: number of Monte Carlo draws of x_t.
            generator: source of those draws.
            sigma2: see ``score_t``.
        """
        ab, s2 = scalar_levels(alpha_bar, sigma2)
        check_choice("method", method, ("auto", "quadrature", "monte_carlo"))
        if method == "auto":
            method = "quadrature" if self.dim <= 2 else "monte_carlo"
        if method == "quadrature":
            return self._integrate(lambda x: self._eps_variance(x, ab, s2), ab, s2)
        check_int("samples", samples, 1)
        source = self.to(dtype=torch.float64, device="cpu").diffused(ab, sigma2=s2)
        chunks = [source.sample(min(4096, samples - i), generator=generator) for i in range(0, samples, 4096)]
        return float(torch.cat([self._eps_variance(x, ab, s2) for x in chunks]).mean())

    def entropy(self, alpha_bar: float = 1.0, *, sigma2: float | None = None) -> float:
        """Return the differential entropy of q_t in nats, by quadrature (d at most 2)."""
        ab, s2 = scalar_levels(alpha_bar, sigma2)
        noisy = self.diffused(ab, sigma2=s2)
        return -self._integrate(noisy.log_prob, ab, s2)

    def kl_to_standard_normal(self, alpha_bar: float = 1.0, *, sigma2: float | None = None) -> float:
        """Return KL(q_t || N(0, I)) in nats, by quadrature (d at most 2).

        To about 1e-13 in 1-D. In 2-D to about 1e-9 where the widths of the components differ at most threefold, and to
        1e-3 where they differ more.
        """
        ab, s2 = scalar_levels(alpha_bar, sigma2)
        noisy = self.diffused(ab, sigma2=s2)
        normal = 0.5 * self.dim * math.log(2.0 * math.pi)
        return self._integrate(lambda x: noisy.log_prob(x) + 0.5 * x.square().sum(dim=1) + normal, ab, s2)

    def _eps_variance(self, x: Tensor, ab: float, s2: float) -> Tensor:
        """trace Cov(eps | x_t = x) / d as within plus between components: a sum of positive terms."""
        responsibility, slope = self._posterior_slopes(x, *self._levels(x, ab, s2))
        average = torch.einsum("bk,bkd->bd", responsibility, slope)
        within = (ab * self._eigenvalues / (ab * self._eigenvalues + s2)).sum(dim=1)
        between = s2 * (slope - average[:, None]).square().sum(dim=-1)
        return (responsibility * (within + between)).sum(dim=1) / self.dim

    def _integrate(self, function: Callable[[Tensor], Tensor], ab: float, s2: float) -> float:
        """E[function(x_t)]: the trapezoidal rule in each component's own axes, in float64."""
        nodes, weights = normal_nodes(self.dim)
        scale = (ab * self._eigenvalues + s2).sqrt()
        total = 0.0
        for k in range(self.components):
            offset = nodes * scale[k]
            if self._basis is not None:
                offset = offset @ self._basis[k].mT
            total += float(self._weights[k] * (weights @ function(math.sqrt(ab) * self._means[k] + offset)))
        return total

    # -- shared arithmetic ---------------------------------------------------------------------------------------

    def _tables(self, dtype: torch.dtype, device: torch.device) -> tuple:
        key = (dtype, device)
        if key not in self._casts:
            parts = (self._weights, self._means, self._eigenvalues, self._basis)
            with torch.inference_mode(False):  # autograd may meet them later
                self._casts[key] = tuple(None if part is None else cast(part, dtype, device) for part in parts)
        return self._casts[key]

    def _levels(self, x: Tensor, alpha_bar: float | Tensor, sigma2: float | Tensor | None) -> tuple[Tensor, Tensor]:
        """Check x and the noise level; return alpha_bar and 1 - alpha_bar shaped to broadcast over (B, K, d)."""
        check_data("x", x, dim=self.dim)
        require(x.ndim == 2, "x.shape", tuple(x.shape), f"(B, {self.dim})")
        if not isinstance(alpha_bar, Tensor) and not isinstance(sigma2, Tensor):
            return tuple(x.new_tensor(value).view(1, 1, 1) for value in scalar_levels(alpha_bar, sigma2))
        alpha_bar = torch.as_tensor(alpha_bar)
        sigma2 = 1.0 - alpha_bar if sigma2 is None else torch.as_tensor(sigma2)
        return batch_level("alpha_bar", alpha_bar, x), batch_level("sigma2", sigma2, x)

    def _whiten(self, x: Tensor, ab: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
        """x - sqrt(ab) m_k in the axes of component k, (B, K, d), and the eigenvalues of C_k there."""
        _, means, eigenvalues, basis = self._tables(x.dtype, x.device)
        projected = x[:, None, :] - ab.sqrt() * means
        if basis is not None:
            projected = torch.einsum("bki,kij->bkj", projected, basis)
        return projected, ab * eigenvalues + s2

    def _unproject(self, projected: Tensor) -> Tensor:
        basis = self._tables(projected.dtype, projected.device)[3]
        return projected if basis is None else torch.einsum("bkj,kij->bki", projected, basis)

    def _log_joint(self, projected: Tensor, eigenvalues: Tensor) -> Tensor:
        """log of w_k N(x; sqrt(ab) m_k, C_k), (B, K)."""
        weights = self._tables(projected.dtype, projected.device)[0]
        quadratic = projected.square() / eigenvalues + eigenvalues.log() + math.log(2.0 * math.pi)
        return weights.log() - 0.5 * quadratic.sum(dim=-1)

    def _posterior_slopes(self, x: Tensor, ab: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
        """Responsibilities (B, K) and u_k = C_k^{-1} (x - sqrt(ab) m_k), (B, K, d)."""
        projected, eigenvalues = self._whiten(x, ab, s2)
        return self._log_joint(projected, eigenvalues).softmax(dim=1), self._unproject(projected / eigenvalues)
