"""Checkers for the exercises of chapter 3, reparameterization."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, number
from diffutils.schedule import Schedule


@exercise("3.1")
def _baseline(
    best_baseline: Callable[[int, float], float], variance_left: Callable[[int, float], float], power: float
) -> str:
    for d, sigma in ((4, 0.6), (100, 0.5)):
        s2 = sigma**2
        best = d + s2 * (d + 2)
        compare(
            f"the best constant for d = {d}, sigma = {sigma:g}",
            call(best_baseline, d, sigma),
            best,
            mistakes={
                "This is the mean of f. The best constant is a little larger: the mean of |eps|^4 is d(d + 2), not "
                "d^2.": d + s2 * d,
                "This is d times as much: the mean of |eps|^2, by which you divide, is d.": d * best,
                "This takes the mean of |eps|^4 for 3d: it counts the fourth powers of the coordinates and leaves out "
                "the products of two.": d + 3 * s2,
                "The square of sigma is missing: |x|^2 holds sigma^2 |eps|^2.": d + sigma * (d + 2),
                "This is twice as much: the parabola E[|eps|^2] b^2 - 2 E[f |eps|^2] b has a 2 in both terms of its "
                "slope.": 2 * best,
            },
        )
        without = d**2 / s2 + 2 * (d + 2) ** 2 + s2 * (d + 2) * (d + 4) - 4
        left = without - best**2 / s2
        compare(
            f"the variance left for d = {d}, sigma = {sigma:g}",
            call(variance_left, d, sigma),
            left,
            mistakes={
                "This is (3.4), the variance without a baseline.": without,
                "This is the variance with the mean of f as the baseline. The best constant leaves a little "
                "less.": left + 4 * s2,
                "This is the mean square of the estimate. The square of its mean, 2, is still to be taken "
                "off.": left + 4,
                "The weight is (f - b) / sigma, so the square of b is divided by sigma^2.": without - best**2,
                "This is the variance of all d coordinates together. It is asked for per coordinate.": d * left,
                "This is the standard deviation, not the variance.": math.sqrt(left),
                "The sign before the term with b is turned: a baseline that fits takes variance away.": without
                + best**2 / s2,
            },
        )
    compare(
        "the power of d",
        power,
        1.0,
        mistakes={
            "This is the power without a baseline. Look at which terms of your variance are left for large d.": 2.0,
            "This is the power of the pathwise variance. Double d in your own: it does not stay.": 0.0,
        },
    )
    return "A constant takes away the part of f that does not vary; what varies still grows with d."


def _moments(omega: float) -> tuple[float, float, float]:
    """The mean of the gradient estimate, and the mean squares of the pathwise and the score-function estimate."""
    doubled = math.exp(-2 * omega**2) * math.cos(omega)
    mean = -omega * math.exp(-(omega**2) / 2) * math.sin(omega / 2)
    return mean, omega**2 * (1 - doubled) / 2, (1 + (1 - 4 * omega**2) * doubled) / 2


@exercise("3.2")
def _two_variances(
    pathwise_variance: Callable[[Tensor], float], score_variance: Callable[[Tensor], float], equal_omega: float
) -> str:
    for omega in (0.6, 1.5, 8.0):
        mean, path, score = _moments(omega)
        of_f = (1 + math.exp(-2 * omega**2) * math.cos(omega)) / 2 - math.exp(-(omega**2)) * math.cos(omega / 2) ** 2
        path_right, score_right = path - mean**2, score - mean**2
        compare(
            f"the pathwise variance for omega = {omega:g}",
            call(pathwise_variance, torch.tensor(omega, dtype=torch.float64)),
            path_right,
            tolerance=0.01,
            mistakes={
                "This is the mean square of the pathwise estimate. A variance takes off the square of the mean.": path,
                "This is the standard deviation of the pathwise estimate, not the variance.": math.sqrt(path_right),
                "This is the variance of the score-function estimate. The pathwise one is asked for.": score_right,
                "The derivative of cos(omega x) brings a factor omega out. It is missing.": path_right / omega**2,
                "The factor omega of the derivative is squared in a variance.": path_right / omega,
                "This holds for large omega only, where the square of the sine is 1/2 on average.": omega**2 / 2,
            },
        )
        compare(
            f"the score function's variance for omega = {omega:g}",
            call(score_variance, torch.tensor(omega, dtype=torch.float64)),
            score_right,
            tolerance=0.01,
            mistakes={
                "This is the mean square of the score-function estimate. A variance takes off the square of the "
                "mean.": score,
                "This is the standard deviation of the score-function estimate, not the variance.": math.sqrt(
                    score_right
                ),
                "This is the variance of the pathwise estimate. The score-function one is asked for.": path_right,
                "This is the variance of f(x). The estimate is f(x) times eps / sigma.": of_f,
                "This holds for large omega only, where the square of the cosine is 1/2 on average.": 0.5,
            },
        )
    _check_crossing(number("the omega of equal variances", equal_omega, 0, 20))
    return "Beyond it the slopes of f are large and say little about its average; its values stay between -1 and 1."


def _check_crossing(omega: float) -> None:
    low, high = 0.5, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        _, path, score = _moments(middle)
        low, high = (middle, high) if path < score else (low, middle)
    if omega < low - 0.01:
        raise NotYet(
            f"At omega = {omega:.4g} the pathwise estimate has the smaller variance. They are equal further up."
        )
    if omega > low + 0.01:
        raise NotYet(
            f"At omega = {omega:.4g} the score function has the smaller variance. They are equal further down."
        )


@exercise("3.3")
def _one_noise(reused_variance: Callable[[Schedule], float]) -> str:
    for schedule, name in (
        (Schedule([0.1, 0.3, 0.2]), "three steps with beta = 0.1, 0.3, 0.2"),
        (Schedule.linear(100), "the linear schedule, T = 100"),
    ):
        beta, alpha, alpha_bar = schedule.beta[1:], schedule.alpha[1:], schedule.alpha_bar[1:]
        kept = alpha_bar[-1] / alpha_bar
        total = float((beta * kept).sqrt().sum())
        compare(
            f"the variance for {name}",
            call(reused_variance, schedule),
            total**2,
            mistakes={
                "This is what independent noises make. One noise adds its factors first, and their sum is "
                "squared.": schedule.sigma2[-1],
                "This is the factor of the noise, its standard deviation. The variance is the square.": total,
                "This is how many times too much it is. The function is asked for the variance "
                "itself.": total**2 / float(schedule.sigma2[-1]),
                "The later steps are left out: they shrink the noise of an earlier one.": float(beta.sqrt().sum()) ** 2,
                "You are off by one step: the noise of step s is shrunk by the steps after s, not by step s "
                "itself.": float((beta * kept * alpha).sqrt().sum()) ** 2,
                "The last step is left out: range(1, T) ends at T - 1.": (
                    float((beta * alpha_bar[-2] / alpha_bar)[:-1].sqrt().sum()) ** 2
                ),
                "The steps are turned round: the noise of step s meets the steps from s + 1 to T, not those from 1 to "
                "s.": float((beta * alpha_bar).sqrt().sum()) ** 2,
                "The noise of a step enters with the root of beta.": float((beta * kept.sqrt()).sum()) ** 2,
                "A step multiplies what was there by the root of alpha.": float((beta.sqrt() * kept).sum()) ** 2,
                "All steps from s + 1 to T shrink the noise: that is a quotient of alpha_bar, not of "
                "alpha.": float((beta * alpha[-1] / alpha).sqrt().sum()) ** 2,
            },
        )
    return f"For the chapter's schedule it is {total**2:.1f}, where independent noises make less than 1."
