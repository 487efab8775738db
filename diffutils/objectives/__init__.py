"""Objectives: what a denoiser is trained on, and the bound behind it (home chapters: 5, reverse process; 8, ledger).

The negative log-likelihood of the reverse chain is bounded term by term, in nats (Ho et al. 2020, equation 5):

    -log p_theta(x_0) <= L_T + L_{T-1} + ... + L_1 + L_0,
    L_T     = KL(q(x_T | x_0) || N(0, I)),                          constant in theta, and not zero
    L_{t-1} = E KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)),  t = 2..T
    L_0     = E[-log p_theta(x_0 | x_1)].

Between two Gaussians with covariances beta_tilde_t I and sigma_t^2 I in d dimensions the KL is

    d/2 (r - 1 - log r) + |mu_tilde - mu_theta|^2 / (2 sigma_t^2),   r = beta_tilde_t / sigma_t^2,

with sigma_t^2, a variance, in the denominator; where sigma_t^2 differs from one coordinate to the next, the sum of such
terms over the coordinates. Dropping the weights leaves L_simple (equation 14).

``simple`` holds L_simple; ``bound`` the bound term by term, measured; ``stochastic`` the bound as a training loss, from
one time per example; ``optimal`` the best variance of each step and the bound's expectation.
"""

from diffutils.objectives.bound import Bound, prior_term, variational_bound
from diffutils.objectives.optimal import bayes_x0_errors, expected_terms, optimal_variance
from diffutils.objectives.simple import draw_uniform_times, l_simple, simple_weight
from diffutils.objectives.stochastic import l_bound, l_hybrid

__all__ = [
    "Bound",
    "bayes_x0_errors",
    "draw_uniform_times",
    "expected_terms",
    "l_bound",
    "l_hybrid",
    "l_simple",
    "optimal_variance",
    "prior_term",
    "simple_weight",
    "variational_bound",
]
