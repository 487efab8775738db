"""How good samples are: distances in floors, modes, and the KL divergence from samples to an exact density."""

from __future__ import annotations

import math

from common import ROOT  # noqa: F401  (puts diffutils on the path)

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from diffutils.datasets import grid_mixture
from diffutils.distributions import GaussianMixture
from diffutils.metrics import energy_distance, mmd, mode_coverage, sliced_wasserstein

GRID = grid_mixture()
METRICS = {"sliced Wasserstein": sliced_wasserstein, "energy distance": energy_distance, "MMD": mmd}


def kl_to_density(x: Tensor, law: GaussianMixture, k: int = 5) -> float:
    """Return KL(law of x || law) in nats: minus the k-nearest-neighbour entropy of x minus its mean log density.

    Args:
        x: (n, d) samples, more than k of them.
        law: the density compared with.
        k: which neighbour measures the density around a sample.

    Source: Kozachenko and Leonenko 1987, for the entropy.
    """
    x = x.double()
    n, dim = x.shape
    radius = torch.from_numpy(cKDTree(x.numpy()).query(x.numpy(), k + 1)[0][:, k])
    digamma = torch.digamma(torch.tensor([float(n), float(k)], dtype=torch.float64))
    unit_ball = dim / 2 * math.log(math.pi) - math.lgamma(dim / 2 + 1)
    entropy = dim * radius.clamp(min=1e-12).log().mean() + unit_ball + digamma[0] - digamma[1]
    return float(-entropy - law.log_prob(x).mean())


def on_the_grid(x: Tensor) -> dict[str, float]:
    """Return what can be said of samples (n, 2) of the grid because its law is known."""
    modes = mode_coverage(x, GRID)
    return {"modes": modes.found, "share": modes.share_within, "KL": kl_to_density(x, GRID)}
