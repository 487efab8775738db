"""Checkers for the exercises of chapter 2, the forward process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, number, words
from diffutils.device import make_generator
from diffutils.schedule import Schedule


@exercise("2.1")
def _variance_at_rest(variance: Callable[[float], float]) -> str:
    for beta in (0.1, 0.02, 0.5):
        compare(
            f"the variance at rest for beta = {beta:g}",
            call(variance, beta),
            beta,
            mistakes={
                "This is the variance of the right chain, the one with a root. Put the wrong noise, beta times eps, "
                "into v = (1 - beta) v + ...": 1.0,
                "This is the standard deviation at rest. The variance is its square.": math.sqrt(beta),
                "This is the variance of the noise of one step. Each step adds that much and keeps 1 - beta of what "
                "was there.": beta**2,
                "This takes 1 for the variance of a step's noise. The noise is beta times eps.": 1.0 / beta,
                "The step multiplies x by sqrt(1 - beta), so it multiplies the variance by 1 - beta, not by its "
                "square.": beta / (2 - beta),
                "Two variances of the step are mixed up. What does it multiply the variance of x by, and what is the "
                "variance of beta times eps?": 1 / (2 - beta),
                "The step multiplies x by sqrt(1 - beta), so it multiplies the variance by 1 - beta, not by its "
                "root.": beta**2 / (1 - math.sqrt(1 - beta)),
            },
        )
    return "The noise at rest is isotropic, and its variance is beta instead of 1."


@exercise("2.2")
def _beta_end(beta_end: float) -> str:
    long, steep = Schedule.linear(1000), Schedule.linear(50, 1e-4, number("beta_end", beta_end, 0, 1))
    excess = float(steep.log_alpha_bar[-1] - long.log_alpha_bar[-1])
    if abs(excess) > 1e-2:
        amount, change = ("More", "larger") if excess > 0 else ("Less", "smaller")
        raise NotYet(
            f"{amount} signal is left than after the long schedule: alpha_bar at the end is {math.exp(excess):.3g} "
            f"times as large. Try a {change} beta_end."
        )
    return "Fifty steps with betas up to 0.353 leave as little signal as a thousand up to 0.02."


@exercise("2.3")
def _log_ratio(log_ratio: Callable[[Tensor, Tensor, float, float], Tensor]) -> str:
    x, y = torch.randn(2, 5, 2, dtype=torch.float64, generator=make_generator(0))
    cross = x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]
    for beta, theta in ((0.1, 0.3), (0.4, 1.0)):
        right = 2 * math.sqrt(1 - beta) * math.sin(theta) / beta * cross
        compare(
            f"the log ratio for beta = {beta:g}, theta = {theta:g}",
            call(log_ratio, x, y, beta, theta),
            right,
            mistakes={
                "The sign is turned: the flow from x to y stands above, the one back below.": -right,
                "This is half of it: both flows have a term in x cross y, of opposite sign, and they add up.": right
                / 2,
                "This is twice as much: a Gaussian's exponent has a 2 in its denominator.": 2 * right,
                "A root is missing: the mean of the step is sqrt(1 - beta) R x.": math.sqrt(1 - beta) * right,
                "This is 0. The step q is the same on both sides of (2.10): the way back turns by theta too, not by "
                "its opposite.": torch.zeros(()),
                "The densities pi(x) and pi(y) are missing.": right + (x.square().sum(1) - y.square().sum(1)) / 2,
            },
        )
    return "Its mean over pairs of the chain at rest is the entropy production."


@exercise("2.4")
def _loud_limit(variance: float, description: Iterable[str]) -> str:
    compare(
        "the variance at rest",
        variance,
        4.0,
        mistakes={
            "This is the standard deviation at rest.": 2.0,
            "This is the variance of the right chain. Here each step adds 4 beta.": 1.0,
            "The factor 4 stands before the variance already: it is not squared once more.": 16.0,
        },
    )
    given = words(description, "isotropic", "standard", "rotation invariant")
    if "standard" in given:
        raise NotYet("The variance is right, and standard means that it is 1.")
    for one, why in (
        ("isotropic", "Every coordinate has the same variance, and they are uncorrelated: there is a word for it."),
        ("rotation invariant", "Turn the cloud: nothing changes. There is a word for it."),
    ):
        if one not in given:
            raise NotYet(why)
    return "The shape of the limit comes from the noise being isotropic, its size from the amount of noise."
