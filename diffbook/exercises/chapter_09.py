"""Checkers for the exercises of chapter 9, all models side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, Unanswered, call, compare, exercise, number, present, word, words
from diffutils.device import make_generator
from diffutils.metrics import expected_coverage


@exercise("9.1")
def _lazy_model(floors: float, coverage: float, exposes: Callable[[Tensor, Tensor], Tensor]) -> str:
    guess = number("the distance in floors", floors)
    if guess < 0.5:
        raise NotYet(
            "The lazy model gives back training images, not test images: for the distance they are real data like any "
            "other, and a floor is measured between two such sets."
        )
    if guess > 1.5:
        raise NotYet("The stored images follow the law of the test images. What is the distance of two such sets?")
    compare(
        "the coverage",
        coverage,
        expected_coverage(597, 597),
        tolerance=2e-4,
        mistakes={
            "Formula (9.1) gives less than 1 even for real data: by chance a test digit can be far from all "
            "samples.": 1.0,
            "This is the coverage with all 1200 stored images as samples. Only 597 of them are given back.": (
                expected_coverage(1200, 597)
            ),
            "Here 1200 stands where the number of test digits belongs.": (
                expected_coverage(597, 1200)
            ),
            "This is the share that is missed.": 1 - expected_coverage(597, 597),
            "This is nearly right: the product ends at i = k - 1.": expected_coverage(597, 597, k=6),
            "This is nearly right: the product begins at i = 0.": 1
            - (1 - expected_coverage(597, 597)) * (597 + 596) / 596,
            "This is the limit for large n = m. The formula holds for 597.": 1 - 2.0**-5,
        },
    )
    _check_exposure(exposes)
    return "Distance and coverage cannot tell a memory from a model. The distance to the training data can."


def _check_exposure(exposes: Callable[[Tensor, Tensor], Tensor]) -> None:
    stored = torch.randn(9, 4, dtype=torch.float64, generator=make_generator(0))
    new = torch.randn(4, 4, dtype=torch.float64, generator=make_generator(1))
    samples = torch.cat([stored[[5, 2]], new])
    differences = samples[:, None] - stored
    every = differences.square().sum(2).sqrt()
    right, given = every.min(1).values, call(exposes, samples, stored)
    if isinstance(given, tuple) and hasattr(given, "values"):
        raise NotYet("A minimum over one dimension comes in two parts, the numbers and their places. Take .values.")
    if tuple(getattr(given, "shape", ())) == (9,):
        raise NotYet("There is one number for each stored image. Ask the samples instead, one number for each.")
    by_sums = differences.abs().sum(2).min(1).values
    among = (samples[:, None] - samples).square().sum(2).sqrt().fill_diagonal_(math.inf).min(1).values
    compare(
        "the distances of 6 samples to 9 stored images",
        given,
        right,
        tolerance=1e-5,
        mistakes={
            "These are squared distances.": right.square(),
            "The distance is Euclidean: it is not divided by the root of the dimension.": right / 2,
            "This is the sum of absolute differences, not the Euclidean distance.": by_sums,
            "These are means over all stored images. A copy is near one of them and far from the rest.": every.mean(1),
            "These are distances to the mean of the stored images. A copy is no nearer to it than a new image.": (
                (samples - stored.mean(0)).square().sum(1).sqrt()
            ),
            "These are distances to the farthest stored image.": every.max(1).values,
            "These are distances among the samples. A lazy model that gives no image twice has those of real "
            "data.": among,
            "This says which stored image is nearest, not how near it is.": every.argmin(1),
        },
    )
    many = torch.rand(40, 64, generator=make_generator(2)) * 2 - 1  # of so many points torch.cdist is not exact
    if bool((torch.as_tensor(call(exposes, many[:30], many)) != 0).any()):
        raise NotYet(
            "For 30 copies in float32 yours is not exactly zero: |a|^2 + |b|^2 - 2ab rounds, and torch.cdist takes this "
            'way for more than 25 points unless it is given compute_mode="donot_use_mm_for_euclid_dist".'
        )


@exercise("9.2")
def _rank_correlation(
    correlation: Callable[[Sequence[float], Sequence[float]], float],
    least: str,
    scores: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> str:
    for x, y in PAIRS:
        agree, disagree = _counts(x, y)
        pairs = len(x) * (len(x) - 1) / 2
        tau = (agree - disagree) / pairs
        compare(
            f"the correlation of {x} and {y}",
            call(correlation, x, y),
            tau,
            mistakes={
                "This is the share of pairs in the same order. Those in the other order count too, against it.": agree
                / pairs,
                "This is a count. Divide it by the number of pairs.": agree - disagree,
                "The sign is turned: two columns agree if a model that is better in one is better in the other.": -tau,
                "This is half of it: there are n (n - 1) / 2 pairs of models.": tau / 2,
                "This is twice as much: count each pair of models once, in the sum and among the pairs.": 2 * tau,
                "The number of pairs is not n^2 / 2: a model makes no pair with itself.": 2
                * (agree - disagree)
                / len(x) ** 2,
                "This is the correlation of the values. Only their order counts.": _pearson(x, y),
                "This is the correlation of the ranks, which is Spearman's. Kendall's counts pairs.": _pearson(
                    _ranks(x), _ranks(y)
                ),
            },
        )
    taus = {name: _tau(*columns) for name, columns in present(scores).items()}
    given = word(least, *taus)
    if taus[given] > min(taus.values()):
        raise NotYet(f"For {given} it is {taus[given]:.2f}, and there is a data set with less.")
    return f"For {given} it is {taus[given]:.2f}: which model is the better one depends on the column."


PAIRS = (
    ([0.3, 1.7, 0.9, 2.6, 1.1, 2.0], [11.0, 40.0, 10.0, 30.0, 20.0, 90.0]),
    ([5.0, 1.0, 4.0, 2.0, 3.0], [0.1, 0.4, 0.2, 0.9, 0.5]),
    ([4.0, 1.0, 3.0, 2.0], [-1.0, -4.0, -2.0, 7.0]),
)


def _counts(x: Sequence[float], y: Sequence[float]) -> tuple[int, int]:
    """How many pairs have the same order in x and y, and how many the opposite one."""
    signs = [(x[i] - x[j]) * (y[i] - y[j]) for i in range(len(x)) for j in range(i)]
    return sum(sign > 0 for sign in signs), sum(sign < 0 for sign in signs)


def _tau(x: Sequence[float], y: Sequence[float]) -> float:
    agree, disagree = _counts(x, y)
    return (agree - disagree) / (len(x) * (len(x) - 1) / 2)


def _ranks(x: Sequence[float]) -> list[int]:
    return [sum(other < value for other in x) for value in x]


def _pearson(x: Sequence[float], y: Sequence[float]) -> float:
    return float(torch.corrcoef(torch.tensor([x, y], dtype=torch.float64))[0, 1])


SCORES = ("distance", "coverage", "share")


@exercise("9.3")
def _blur(share: Callable[[float, float], float], order: Iterable[str]) -> str:
    for blur, sd in ((0.2, 0.07), (0.05, 0.07), (0.1, 0.3)):
        ratio = sd**2 / (sd**2 + blur**2)
        compare(
            f"the share within three standard deviations for blur = {blur:g}, sd = {sd:g}",
            call(share, blur, sd),
            1 - math.exp(-4.5 * ratio),
            mistakes={
                "This is the share of real data, without the blur.": 1 - math.exp(-4.5),
                "This is the share outside.": math.exp(-4.5 * ratio),
                "This is the share on the line. In the plane two coordinates can leave the circle.": math.erf(
                    3 * math.sqrt(ratio / 2)
                ),
                "Standard deviations do not add up, variances do.": 1 - math.exp(-4.5 * (sd / (sd + blur)) ** 2),
                "A root is missing or one too many: the exponent has the ratio of the variances.": 1
                - math.exp(-4.5 * math.sqrt(ratio)),
                "The exponent is half the squared radius: a 2 is missing.": 1 - math.exp(-9 * ratio),
            },
        )
    if isinstance(order, Set):
        raise NotYet("An order is asked for, and a set has none. Write a list.")
    given = [order] if isinstance(order, str) or not isinstance(order, Iterable) else list(order)
    if any(one is ... for one in given):
        raise Unanswered
    words(given, *SCORES)
    if sorted(given) != sorted(SCORES):
        raise NotYet(f"Each of {', '.join(SCORES)} is to stand in the list once.")
    if given == list(SCORES[::-1]):
        raise NotYet("This is the order from the sharpest to the blindest: turn it.")
    if given[-1] != "share":
        raise NotYet("One of the three knows how wide a cluster should be. It is not the last of your list.")
    if given[0] != "distance":
        raise NotYet("One of the three moves no more than from one draw of real data to the next, and it comes first.")
    return "A score that knows the law sees what one that looks at two clouds of points does not."
