"""Checkers for the exercises of chapter 5, the reverse process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, word
from diffutils.datasets import grid_mixture
from diffutils.distributions import GaussianMixture
from diffutils.schedule import Schedule


@exercise("5.1")
def _last_noise(widening: Callable[[Schedule, float], float], grown: Any) -> str:
    for schedule, w in ((Schedule.linear(150), 0.006), (Schedule.linear(30), 0.013)):
        beta = float(schedule.beta[1])
        compare(
            f"the factor for T = {schedule.T} and w = {w}",
            call(widening, schedule, w),
            math.sqrt(1 + beta / w),
            mistakes={
                "This is the factor of the variance. The one of the standard deviation is asked for.": 1 + beta / w,
                "Standard deviations are added here. It is variances that add up.": 1 + math.sqrt(beta / w),
                "The argument w is the variance already: it is not squared.": math.sqrt(1 + beta / w**2),
                "This takes beta for the standard deviation of the noise.": math.sqrt(1 + beta**2 / w),
                "This is the variance of the wider cluster, not a factor.": w + beta,
                "This is the standard deviation of the wider cluster. Divide by the one before.": math.sqrt(w + beta),
                "This takes the last beta of the table. The reverse chain ends at the other end of it.": math.sqrt(
                    1 + float(schedule.beta[-1]) / w
                ),
                "This takes the step from t = 2 to t = 1. The last one starts at t = 1.": math.sqrt(
                    1 + float(schedule.beta[2]) / w
                ),
                "Nothing grows here. In the tables, beta_0 stands for no noise, and beta_tilde_1 is 0.": 1.0,
            },
        )
    compare("the growths", grown, torch.ones(2), tolerance=math.inf)
    given = torch.as_tensor(grown).detach().cpu().double()
    right = torch.stack([Schedule.linear(steps).beta[1] for steps in (150, 30)])
    if bool(((given.flip(0) - right).abs() < 0.3 * right).all()):
        raise NotYet("The two growths are in the wrong order: the first is asked for with 150 steps.")
    for steps, w, growth, beta in zip((150, 30), (0.006, 0.013), given.tolist(), right.tolist()):
        if abs(growth) < 0.1 * beta:
            raise NotYet(
                f"With {steps} steps next to nothing has grown. Was the noise multiplied by beta_1? Its standard deviation "
                "is the root of it."
            )
        compare(
            f"the growth with {steps} steps",
            growth,
            beta,
            tolerance=0.3,  # five standard errors of the growth at 5000 points
            mistakes={
                "This is about twice the variance of the noise. Is it the squared distance, the sum over both "
                "coordinates?": 2 * beta,
                "This is the variance with the noise in it. Subtract the one without.": w + beta,
                "This is the growth over the variance before. Give the difference itself, not divided by "
                "anything.": beta / w,
                "This is a ratio. Take the difference of the two variances.": 1 + beta / w,
                "This is the growth of the standard deviation. Take the difference of the variances.": (
                    math.sqrt(w + beta) - math.sqrt(w)
                ),
            },
        )
    return "The noise of the last step is only noise: it widens the clusters, and the more the fewer steps there are."


@exercise("5.2")
def _best_variance(best_variance: Callable[[Schedule, int, float], float], gap: float) -> str:
    schedule = Schedule.linear(1000)
    for t, error in ((2, 0.9), (20, 0.5), (500, 0.1)):
        beta, tilde = float(schedule.beta[t]), float(schedule.beta_tilde[t])
        alpha, sigma2 = float(schedule.alpha[t]), float(schedule.sigma2[t])
        means = beta**2 / (alpha * sigma2) * error
        compare(
            f"the best variance at t = {t} for an error of {error}",
            call(best_variance, schedule, t, error),
            tilde + means,
            mistakes={
                "The difference of the means is added to beta here. Take the derivative of (5.6) again.": beta + means,
                "This is the part that comes from the difference of the means. The other part of (5.6) counts "
                "too.": means,
                "This is the variance that is best if the means agree. They do not.": tilde,
                "This is beta, one of the two usual choices.": beta,
                "The difference of the means counts twice here. Both parts of (5.6) carry a half.": tilde + 2 * means,
                "The difference of the means counts half here. Both parts of (5.6) carry a half.": tilde + means / 2,
                "An error in the noise is not yet a difference of the means: (5.8) has the factor.": tilde + error,
                "This adds w_t e with the variance beta. The 1/(2 sigma_t^2) in w_t is no part of the difference "
                "of the means.": tilde + means / (2 * beta),
                "This adds w_t e with the variance beta_tilde. The 1/(2 sigma_t^2) in w_t is no part of the difference "
                "of the means.": tilde + means / (2 * tilde),
                "An alpha is missing in the step from the error in the noise to the means.": tilde + means * alpha,
                "Here alpha_bar_t stands where (5.8) has alpha_t.": tilde
                + means * alpha / float(schedule.alpha_bar[t]),
                "The error is a mean square, so the factor before it must be a square too.": tilde
                + beta / math.sqrt(alpha * sigma2) * error,
                "The error is a mean square, so beta and the roots before it are squared too.": tilde
                + beta / (alpha * sigma2) * error,
                "This is the standard deviation, the root of the best variance.": math.sqrt(tilde + means),
            },
        )
    beta, entropy = schedule.beta[1:], 2 * _axis().entropy()
    between = (schedule.beta**2 / (schedule.alpha * schedule.sigma2))[1:] * _least_errors(schedule)
    best = schedule.beta_tilde[1:] + between
    right, with_beta, with_tilde, with_decoder = (
        _bound(schedule, variance, between) - entropy
        for variance in (best, beta, torch.cat([beta[:1], schedule.beta_tilde[2:]]), torch.cat([beta[:1], best[1:]]))
    )
    compare(
        "the gap",
        gap,
        right,
        tolerance=0.001,
        mistakes={
            "L_T is missing in the sum.": right + float(schedule.sigma2[-1].log()),
            "This is the gap with the variance beta.": with_beta,
            "This is the gap with the variance beta_tilde.": with_tilde,
            "The decoder's variance is still beta_1 here. The best variance at t = 1 is another.": with_decoder,
            "This is the gap for one coordinate. The points have two.": right / 2,
            "This is the gap in bits.": right / math.log(2),
            "This is the whole bound. Subtract the exact value.": right + entropy,
            "The sign is turned: a bound from above cannot be below the exact value.": -right,
        },
    )
    return (
        "With the variance beta the gap was more than twice as large, and what was above 0.0213 came from the choice "
        "of beta alone."
    )


@exercise("5.3")
def _few_steps(floors: Any, suffers_more: str, fault: str) -> str:
    compare("the table of distances", floors, torch.ones(2, 2), tolerance=math.inf)
    table = torch.as_tensor(floors).cpu().double()
    if float(table.max()) < 0.5:
        raise NotYet("Two sets of real points are about 1 floor apart, and yours are much closer. Divide by the floor.")
    if bool((table[:, 0] > table[:, 1]).all()):
        raise NotYet(
            "The first column is larger than the second in both rows. Is the first one that of beta? And is the first "
            "row that of the network?"
        )
    # Five seeds gave 1.3 to 2.3 and 2.5 to 3.7; the full chain has 1.1 to 2.0.
    ranges = (("beta", 0.9, 3.3), ("beta_tilde", 2.1, 5.0))
    for row, name in enumerate(("network", "oracle")):
        for column, (variance, low, high) in enumerate(ranges):
            value = float(table[row, column])
            if not low < value < high:
                few = "The full chain reaches that." if value < low else "Twenty steps do not cost that much."
                raise NotYet(f"The {name} with {variance}: {value:.2f} floors. {few}")
    if word(suffers_more, "beta", "beta_tilde") != "beta_tilde":
        raise NotYet("Your own table says another word. Look again which of its columns is the larger one.")
    for row, name in enumerate(("network", "oracle")):
        if float(table[row, 0]) >= float(table[row, 1]):
            raise NotYet(f"Your own table says another word for the {name}. Is that row in the order asked for?")
    if word(fault, "network", "sampler") != "sampler":
        raise NotYet("The oracle stands for a network without error. How far off is it in the same column?")
    return "Even a perfect network would not help here: the Gaussian steps are too long."


def _axis() -> GaussianMixture:
    """One coordinate of a point of the grid: the grid is the product of two such laws."""
    grid = grid_mixture().to(dtype=torch.float64)
    weights = torch.full((5,), 0.2, dtype=torch.float64)
    return GaussianMixture(weights, grid.means[:5, 1:], float(grid.covariances[0, 0, 0]))


def _least_errors(schedule: Schedule) -> Tensor:
    """The oracle's mean squared error in the noise at t = 1..T, per coordinate, by the trapezoidal rule."""
    axis = _axis()
    z = torch.linspace(-7, 7, 61, dtype=torch.float64)
    weights = torch.softmax(-z.square() / 2, 0)
    kept, sigma2 = (table[1:, None, None] for table in (schedule.alpha_bar, schedule.sigma2))
    width = (kept * axis.covariances[0, 0, 0] + sigma2).sqrt()
    x = kept.sqrt() * axis.means + width * z  # (T, 5, 61): around each of the five parts at every t
    level, noise = (table.expand(x.shape).flatten() for table in (kept, sigma2))
    about_x0 = axis.variance_x0(x.reshape(-1, 1), level, sigma2=noise).reshape(x.shape)
    return (kept / sigma2 * about_x0).mean(1) @ weights


def _bound(schedule: Schedule, variance: Tensor, between: Tensor) -> float:
    """The oracle's bound for the grid in nats; ``between`` is the mean squared difference of the means."""
    ratio = schedule.beta_tilde[1:] / variance
    spread = torch.cat([torch.log(2 * math.pi * variance[:1]), (ratio - 1 - ratio.log())[1:]])
    return float((spread + between / variance).sum() - schedule.sigma2[-1].log())
