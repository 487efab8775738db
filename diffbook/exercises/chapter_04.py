"""Checkers for the exercises of chapter 4, the closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, number, word
from diffutils.schedule import Schedule


@exercise("4.1")
def _later_jump(later_jump: Callable[[Schedule, int, int], Any]) -> str:
    schedule = Schedule.linear(1000)
    bar, beta = schedule.alpha_bar, schedule.beta
    for s, t in ((100, 400), (0, 250), (999, 1000)):
        factor, variance = _several(call(later_jump, schedule, s, t), "the factor and the variance")
        kept = float(bar[t] / bar[s])
        compare(
            f"the factor of x_s for s = {s}, t = {t}",
            factor,
            math.sqrt(kept),
            mistakes={
                "This is the part of the variance of x_s that is left. x_s itself is multiplied by its root.": kept,
                "This is the factor of x_0. The jump starts at x_s, which has been shrunk s times "
                "already.": bar[t].sqrt(),
                "The fraction is upside down: a jump forwards in time makes x_s smaller.": math.sqrt(1 / kept),
                "This is the variance of the noise. The factor comes first.": 1 - kept,
                "This slice is one step too early: entry t of a table belongs to the step that ends at "
                "x_t.": (bar[t - 1] / bar[max(s - 1, 0)]).sqrt(),
                "There is an alpha too many: alpha_s belongs to the step that ends at x_s.": (
                    bar[t] / bar[max(s - 1, 0)]
                ).sqrt(),
                "There is an alpha missing: the step that ends at x_t belongs to the jump.": (
                    bar[t - 1] / bar[s]
                ).sqrt(),
                "These are the first t - s steps of the schedule. The steps from s to t have other betas.": bar[
                    t - s
                ].sqrt(),
            },
        )
        compare(
            f"the variance of the noise for s = {s}, t = {t}",
            variance,
            1 - kept,
            mistakes={
                "This is the variance of all the noise since x_0. A part of it is in x_s already.": 1 - bar[t],
                "A difference of the two variances forgets that the jump shrinks the noise that x_s brings "
                "along.": bar[s] - bar[t],
                "This is the standard deviation of the noise.": math.sqrt(1 - kept),
                "The factor and the variance add up to 1 here. The square of the factor belongs in that "
                "sum.": 1 - math.sqrt(kept),
                "This is the part of the variance that is kept. The noise brings the rest.": kept,
                "These are the betas from s to t added up. Each noise is shrunk by the steps after it.": beta[
                    s + 1 : t + 1
                ].sum(),
            },
        )
    return "From any time to any later one there is a jump, and two of them in a row make one."


@exercise("4.2")
def _two_draws(two_draws: Callable[[Tensor, Tensor, Tensor, Tensor], Any], t_mean: float, t_variance: float) -> str:
    for a, b, tau2, bar in ((0.3, 0.6, 0.02, 0.5), (0.1, 0.8, 0.3, 0.2)):
        tensors = torch.tensor((a, b, tau2, bar), dtype=torch.float64)
        factor, variance = _several(call(two_draws, *tensors), "the factor and the variance")
        place = f"for A = {a}, B = {b}, tau2 = {tau2}, alpha_bar = {bar}"
        compare(
            f"the factor of x_0 {place}",
            factor,
            a + b * math.sqrt(bar),
            mistakes={
                "This leaves out the x_0 that x_t brings along.": a,
                "This takes x_t for x_0. By (4.7) the mean of x_t is smaller.": a + b,
                "A root is missing: see the mean in (4.7).": a + b * bar,
                "This is the variance. The factor comes first.": b**2 * (1 - bar) + tau2,
            },
        )
        right = b**2 * (1 - bar) + tau2
        compare(
            f"the variance {place}",
            variance,
            right,
            mistakes={
                "This is the variance when x_t is known. Here x_t is drawn, so it varies too.": tau2,
                "This is what x_t contributes. The second draw adds noise of its own.": b**2 * (1 - bar),
                "B multiplies x_t. What does it do to the variance of x_t?": b * (1 - bar) + tau2,
                "The variance of x_t is not 1 when x_0 is known.": b**2 + tau2,
                "This puts the standard deviation of x_t where its variance belongs.": b**2 * math.sqrt(1 - bar) + tau2,
                "The number tau2 is a variance already: it is not squared.": b**2 * (1 - bar) + tau2**2,
                "With x_0 given, A x_0 adds nothing to the variance.": right + a**2,
                "This is the standard deviation.": math.sqrt(right),
            },
        )
    schedule = Schedule.linear(1000)
    alpha, before, after = schedule.alpha[1:], schedule.sigma2[:-1], schedule.sigma2[1:]
    change = (alpha - alpha.sqrt()) * before / after
    _largest("factor of x_0", t_mean, (change * schedule.sqrt_alpha_bar[1:]).abs())
    _largest("variance", t_variance, (alpha - alpha**2) * before**2 / after)
    return "With the root in (4.11), a draw of x_t and a draw back leave the law of x_(t-1) as it was."


def _largest(what: str, answer: Any, difference: Tensor) -> None:
    """Check the t at which a difference, given for t = 1..T, is largest, but for a ten-thousandth of it."""
    given, right = number(f"the t of the {what}", answer), int(difference.argmax()) + 1
    if given not in range(1, len(difference) + 1):
        raise NotYet(f"The t of the {what} should be one of 1 to {len(difference)}, and this is {given:g}.")
    share = float(difference[int(given) - 1] / difference.max())
    if share >= 1 - 1e-4:
        return
    if given == right - 1:
        raise NotYet(f"The t of the {what} is one too small: entry 0 of a table cut with [1:] is for t = 1.")
    raise NotYet(
        f"At t = {given:g} the difference in the {what} is {100 * share:.4g} percent of the largest one. Compute it at "
        "every t, and do not divide it by anything."
    )


@exercise("4.3")
def _error_factors(error_factors: Callable[[Tensor], Any], ratio: str) -> str:
    for bar in (0.3, 0.8):
        found = call(error_factors, torch.tensor(bar, dtype=torch.float64))
        eps, x0, score = _several(found, "the factors for eps, x_0 and the score")
        a, s = math.sqrt(bar), math.sqrt(1 - bar)
        compare(
            f"the factor for eps at alpha_bar = {bar}",
            eps,
            a,
            mistakes={
                "For eps this is the error in v for an error of 1 in eps: upside down.": 1 / a,
                "For eps this is the factor of the squared error.": bar,
                "For eps this is the size of the factor of x_0. Solve for both and compare.": s,
                "For eps this has the wrong sign: a larger v at the same x_t means more noise.": -a,
            },
        )
        compare(
            f"the factor for x_0 at alpha_bar = {bar}",
            x0,
            -s,
            mistakes={
                "For x_0 this has the wrong sign: with the same x_t, more noise leaves less data.": s,
                "For x_0 this is the error for an error of 1 in eps, not in v.": -s / a,
                "For x_0 a root is missing.": -(1 - bar),
                "For x_0 this is the factor of the squared error.": 1 - bar,
                "For x_0 this is the size of the factor of eps. Solve for both and compare.": a,
                "For x_0 this is the error in v for an error of 1 in x_0: upside down.": -1 / s,
            },
        )
        compare(
            f"the factor for the score at alpha_bar = {bar}",
            score,
            -a / s,
            mistakes={
                "For the score the sign is wrong: it points against the noise.": a / s,
                "For the score this is the error for an error of 1 in eps, not in v.": -1 / s,
                "For the score a root is missing.": -bar / (1 - bar),
                "For the score this is the factor of the squared error.": bar / (1 - bar),
                "For the score the fraction is upside down.": -s / a,
                "For the score this forgets to divide by the standard deviation of the noise.": -a,
            },
        )
    if word(ratio, "larger", "same", "the same", "smaller") not in ("same", "the same"):
        raise NotYet("The factors are right. Multiply both errors by one of them, then divide.")
    return "At one t, the ratio of two losses is the same under each of the four names."


@exercise("4.4")
def _short_training(largest_excess: float, ratio: float) -> str:
    tried = (5, 20, 40, 60, 90)
    t = number("the t of the largest excess", largest_excess)
    if t not in tried:
        raise NotYet(f"The times to choose from are {', '.join(map(str, tried))}; {t:g} is another.")
    if t == 90:
        raise NotYet("At t = 90 next to nothing of the data is left in x_t, so there is little for a network to learn.")
    if t > 5:
        raise NotYet(f"At t = {t:g} the two ratios hardly differ.")
    given = number("the ratio after 100 steps", ratio)
    if given < 1:
        raise NotYet(f"This is {given:.3g}. Is this how much larger it is? The ratio itself is asked for.")
    if given < 1.12:
        raise NotYet(f"A ratio of {given:.3g} at t = 5 is that of a longer training, as in the figure.")
    if given > 100:
        raise NotYet(f"This is {given:.4g}. The ratio itself is asked for, not a percentage.")
    if given > 1.6:
        raise NotYet(
            f"A ratio of {given:.3g} at t = 5 is too large. Is the average over the weights too long? With "
            "ema_decay=0.99 it still holds much of the untrained network after 100 steps."
        )
    return "A hundred steps teach the network where the clusters are. What they look like inside takes longer."


def _several(answer: Any, names: str) -> Any:
    """Return the numbers of an answer that is asked to hold as many as there are names, joined by "," and "and"."""
    count = names.count(",") + names.count(" and ") + 1
    try:
        parts = tuple(answer)
    except TypeError:
        parts = ()
    if len(parts) != count:
        raise NotYet(f"The function should return {count} numbers: {names}. This is {answer!r}.")
    return parts
