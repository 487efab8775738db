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
def _fifty_steps(beta_end: float, betas_of_visits: Callable[[Tensor, int], Tensor]) -> str:
    long, steep = Schedule.linear(1000), Schedule.linear(50, 1e-4, number("beta_end", beta_end, 0, 1))
    excess = float(steep.log_alpha_bar[-1] - long.log_alpha_bar[-1])
    if abs(excess) > 1e-2:
        amount, change = ("More", "larger") if excess > 0 else ("Less", "smaller")
        raise NotYet(
            f"{amount} signal is left than after the long schedule: alpha_bar at the end is {math.exp(excess):.3g} "
            f"times as large. Try a {change} beta_end."
        )
    for schedule, k in ((long, 20), (Schedule.cosine(60), 4)):
        alpha_bar = schedule.alpha_bar
        kept, single = alpha_bar[k::k] / alpha_bar[:-1:k], 1 - alpha_bar[1:] / alpha_bar[:-1]
        compare(
            f"the betas of the visits with k = {k}",
            call(betas_of_visits, alpha_bar, k),
            1 - kept,
            mistakes={
                "These are the shares of the variance that the steps keep. Beta is one minus that.": kept,
                "This is the noise since the time 0. A step starts from the last visit, where some noise is there "
                "already.": 1 - alpha_bar[k::k],
                "These are betas of the long schedule, of single steps. A step from visit to visit does the work of k "
                "of them.": single[k - 1 :: k],
                "The betas of k steps do not add up: the noise of the first is shrunk by the others. Which number of a "
                "step is multiplied from step to step?": single.reshape(-1, k).sum(1),
                "A step multiplies x by sqrt(1 - beta), so 1 - beta is the quotient of two alpha_bar, without a "
                "root.": 1 - kept.sqrt(),
            },
        )
    return "Both ways end with as little signal as the thousand steps, and the last betas are 0.353 and 0.330."


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
                "The sign is turned. Either the flow back stands above, or the step turns the wrong way: for points in "
                "rows, R x is x @ R.T.": -right,
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
def _shifted_limit(variance: float, mean: Callable[[float, Tensor], Tensor], description: Iterable[str]) -> str:
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
    m = torch.tensor([1.0, -0.5], dtype=torch.float64)
    for beta in (0.1, 0.4):
        root, shrink = math.sqrt(beta), math.sqrt(1 - beta)
        compare(
            f"the mean of the limit for beta = {beta:g}",
            call(mean, beta, m),
            root * m / (1 - shrink),
            mistakes={
                "Every step adds sqrt(beta) m on average, so the mean does not go to 0.": torch.zeros(()),
                "This is the mean of the draws. Each step shrinks what is there and adds sqrt(beta) m.": m,
                "This is what one step adds. What is left of the steps before comes on top.": root * m,
                "The step multiplies the mean by sqrt(1 - beta), not by 1 - beta.": m / root,
                "The draw is multiplied by sqrt(beta), and so is its mean.": m / (1 - shrink),
                "The draw is multiplied by sqrt(beta), not by beta.": beta * m / (1 - shrink),
            },
        )
    given = words(description, "isotropic", "standard", "rotation invariant")
    if "standard" in given:
        raise NotYet("Mean and variance are right, and standard means that they are 0 and 1.")
    if "rotation invariant" in given:
        raise NotYet("Turn the cloud about the origin: its mean, which is not 0, moves.")
    if "isotropic" not in given:
        raise NotYet("Every coordinate has the same variance, and they are uncorrelated: there is a word for it.")
    return "A mean in the noise moves the limit away from the origin, many times as far. Its shape stays round."
