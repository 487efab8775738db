"""The Fréchet distance between two sets of images, and a small classifier whose features they are compared by.

Distances between pixels say little about images: a digit that moves by a pixel is far from itself. So each image is
first turned into features, numbers that a classifier has learned to look at, and each set into the Gaussian with the
mean mu and the covariance C of its features. The squared distance between two Gaussians in the Wasserstein sense is

    F = |mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2)).

With the features of a large network trained on photographs this is the FID of Heusel et al. Like every distance of
``metrics`` it is read against its floor: between two finite sets of real images it is not zero.

Home chapter: fast sampling (chapters/10_fast_sampling.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from diffutils.validation import check_data, check_int, require


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return F of two sets of features, computed in float64 on the CPU.

    Args:
        x, y: features, (n, d) and (m, d), n and m at least 2.

    Raises:
        ValueError: if a set is not finite, has fewer than two rows, or the lengths of their rows differ.

    Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500), equation (6).
    """
    for name, features in (("x", x), ("y", y)):
        check_data(name, features)
        shape = tuple(features.shape)
        require(features.ndim == 2 and len(features) > 1, f"{name}.shape", shape, "(n, d) with n of at least 2")
    require(x.shape[1] == y.shape[1], "y.shape", tuple(y.shape), f"(m, {x.shape[1]}), as x has")
    x, y = (features.detach().cpu().double() for features in (x, y))
    first, second = (torch.atleast_2d(torch.cov(features.T)) for features in (x, y))
    values, basis = torch.linalg.eigh(first)
    # Where a feature never moves, rounding may put an eigenvalue a little below 0.
    root = basis * values.clamp(min=0).sqrt() @ basis.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross)


def classifier_features(
    images: Tensor, labels: Tensor, *, units: int = 64, seed: int = 0
) -> Callable[[Tensor], Tensor]:
    """Train a classifier with one hidden layer of ``units`` on real images; return the function to that layer.

    Args:
        images: (N, ...) real images.
        labels: (N,) their classes.
        units: number of features d.
        seed: of the weights and the order of the images.

    Returns:
        A function from images (n, ...) on any device to features (n, d), float64 on the CPU.

    Raises:
        ValueError: if the images are not finite floating-point data or there is not one label for each.
    """
    check_data("images", images)
    require(tuple(labels.shape) == (len(images),), "labels.shape", tuple(labels.shape), f"({len(images)},)")
    network = MLPClassifier((check_int("units", units, 1),), alpha=1e-2, tol=1e-3, random_state=check_int("seed", seed, 0))
    network.fit(images.cpu().flatten(1).numpy(), labels.cpu().numpy())
    weight, bias = (torch.from_numpy(part[0]).double() for part in (network.coefs_, network.intercepts_))
    return lambda x: torch.relu(x.detach().cpu().flatten(1).double() @ weight + bias)
