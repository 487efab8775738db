"""The Fréchet distance of features, where it is known in closed form, and the classifier that makes features."""

from __future__ import annotations

import pytest
import torch

from diffutils.datasets import digits_8x8
from diffutils.device import make_generator
from diffutils.frechet import classifier_features, frechet_distance


def features(n: int = 500, seed: int = 0) -> torch.Tensor:
    x = torch.randn(n, 4, generator=make_generator(seed), dtype=torch.float64)
    return x * torch.tensor([2.0, 1.0, 0.5, 0.1])


def test_a_set_that_is_stretched_and_moved() -> None:
    x = features()
    y = 1.5 * x + 0.3
    moved = (0.5 * x.mean(0) + 0.3).square().sum()
    assert frechet_distance(x, y) == pytest.approx(float(moved + 0.25 * torch.cov(x.T).trace()), rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y), rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_covariances_that_do_not_commute() -> None:
    """In two dimensions the trace of the root is known: sqrt(tr(A B) + 2 sqrt(det(A B)))."""
    x = features()[:, :2]
    y = features(seed=1)[:, :2] @ torch.tensor([[1.0, 0.7], [0.0, 0.4]], dtype=torch.float64)
    a, b = torch.cov(x.T), torch.cov(y.T)
    cross = ((a @ b).trace() + 2 * torch.linalg.det(a @ b).sqrt()).sqrt()
    expected = (x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-9)


def test_a_feature_that_never_moves() -> None:
    x, still = features(), torch.zeros(500, 1, dtype=torch.float64)
    assert frechet_distance(torch.cat([x, still], 1), torch.cat([2 * x, still], 1)) == pytest.approx(
        frechet_distance(x, 2 * x), rel=1e-9
    )


def test_one_feature_and_float32() -> None:
    x = features()[:, :1]
    assert frechet_distance(x.float(), 3 * x.float()) == pytest.approx(frechet_distance(x, 3 * x), rel=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(4, 3), r"x.shape must be \(n, d\) with n of at least 2, got \(1, 3\)"),
        (torch.zeros(4, 3), torch.zeros(4, 3, 1), r"y.shape must be \(n, d\)"),
        (torch.zeros(4, 3), torch.zeros(4, 2), r"y.shape must be \(m, 3\), as x has, got \(4, 2\)"),
        (torch.zeros(4, 3), torch.full((4, 3), torch.nan), "y must be finite everywhere"),
    ],
)
def test_sets_that_cannot_be_compared(x, y, message) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(x, y)


def test_a_classifier_sees_other_digits_and_not_other_halves() -> None:
    images, labels = digits_8x8()
    order = torch.randperm(len(images), generator=make_generator(0))  # in their own order, writers differ
    images, labels = images[order], labels[order]
    seen = classifier_features(images[:1000], labels[:1000])
    rest, kinds = seen(images[1000:]), labels[1000:]
    assert rest.shape == (len(images) - 1000, 64) and rest.dtype == torch.float64 and bool((rest >= 0).all())
    assert torch.equal(rest, classifier_features(images[:1000], labels[:1000])(images[1000:]))
    halves = frechet_distance(rest[::2], rest[1::2])
    assert frechet_distance(rest[kinds < 5], rest[kinds >= 5]) > 20 * halves
    other = classifier_features(images[:1000], labels[:1000], units=16, seed=1)(images[1000:])
    assert other.shape == (len(rest), 16)


def test_a_classifier_wants_a_label_for_each_image() -> None:
    with pytest.raises(ValueError, match=r"labels.shape must be \(10,\), got \(9,\)"):
        classifier_features(torch.zeros(10, 4), torch.zeros(9))
    with pytest.raises(ValueError, match="units must be"):
        classifier_features(torch.zeros(10, 4), torch.zeros(10), units=0)
