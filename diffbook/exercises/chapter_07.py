"""Checkers for the exercises of chapter 7, three roads to diffusion."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, number, word
from diffutils.datasets import grid_mixture
from diffutils.device import make_generator
from diffutils.samplers.langevin import stationary_variance
from diffutils.schedule import Schedule

LADDERS = (2, 4, 8, 20, 40)


@exercise("7.1")
def _step_and_time(step_for: Callable[[float], float], steps_for: Callable[[float, float], int]) -> str:
    for bias in (0.01, 0.25):
        compare(
            f"the step for a bias of {bias:g}",
            call(step_for, bias),
            4 * bias / (1 + bias),
            mistakes={
                "This is right to first order in the bias only. (7.10) can be solved exactly.": 4 * bias,
                "A 4 is lost: V is 1, and delta is divided by 4 V.": bias / (1 + bias),
                "With this step the standard deviation is wrong by the bias. The variance is asked for.": 4
                - 4 / (1 + bias) ** 2,
                "The walk settles on a law that is too wide, not too narrow.": -4 * bias / (1 - bias),
                "The sign of the bias is turned: 1 - delta / 4 is 1 / (1 + bias).": 4 * bias / (1 - bias),
                "This is half of the step. The drift of (7.9) has delta / 2, and (7.10) is written in delta.": 2
                * bias
                / (1 + bias),
            },
        )
    for delta, missing in ((0.2, 0.01), (4 / 101, 0.01)):
        steps = call(steps_for, delta, missing)
        exact = _steps(1 - delta / 2, missing)
        given = number("the number of steps", steps)
        if given != round(given):
            raise NotYet("A walk takes a whole number of steps, the least one that is enough.")
        compare(
            f"the number of steps for delta = {delta:.3g}, missing = {missing:g}",
            given,
            math.ceil(exact),
            mistakes={
                "One step more is needed: round up.": math.floor(exact),
                "This is one step too many.": math.ceil(exact) + 1,
                "This is twice as many. A step multiplies the deviation of a walker by 1 - delta / 2; what does it do "
                "to a variance?": math.ceil(2 * exact),
                "The score has the factor delta / 2 in (7.9), not delta.": math.ceil(_steps(1 - delta, missing)),
                "This takes exp(-delta / 2) for 1 - delta / 2, which is near but not the same.": math.ceil(
                    -math.log(missing) / delta
                ),
                "This is measured from 1. The walk comes to rest at another variance, and that is what it must be "
                "close to.": math.ceil(_steps(1 - delta / 2, 1 - (1 - missing) / stationary_variance(1.0, delta))),
                "This takes 1 - missing for the share that may still be missing.": math.ceil(
                    _steps(1 - delta / 2, 1 - missing)
                ),
                "This is enough for the standard deviation. The variance needs a little longer.": math.ceil(
                    _steps(1 - delta / 2, 1 - (1 - missing) ** 2)
                ),
            },
        )
    return "A tenth of the bias takes about ten times the steps."


def _steps(factor: float, missing: float) -> float:
    """How many steps, not rounded, make the square of ``factor`` to their power as small as ``missing``."""
    return math.log(missing) / (2 * math.log(factor))


@exercise("7.2")
def _last_step(without: Callable[[float, float], float], with_it: Callable[[float, float], float]) -> str:
    for V, nu in ((0.5, 0.4), (2.0, 1.0)):
        noisy = V + nu**2
        where = f"at V = {V:g}, nu = {nu:g}"
        compare(
            f"the variance without the last step {where}",
            call(without, V, nu),
            noisy,
            mistakes={
                "The points of the last level still carry its noise.": V,
                "Variances of independent parts add, and the noise's variance is not nu.": V + nu,
                "Variances of independent parts add, standard deviations do not.": (math.sqrt(V) + nu) ** 2,
                "This is the standard deviation without the last step. The variance is its square.": math.sqrt(noisy),
                "This is the factor by which the clusters are too wide. Their variance is asked for.": noisy / V,
                "This is what the noise of the last level adds. The whole variance is asked for.": nu**2,
            },
        )
        compare(
            f"the variance with the last step {where}",
            call(with_it, V, nu),
            V**2 / noisy,
            mistakes={
                "The expected x0 is an average, and averages vary less than what they are averages of.": V,
                "This is what the step starts from: it takes noise away.": noisy,
                "This is the factor on a deviation. A variance takes its square, and the noisy points have a variance "
                "of their own.": V / noisy,
                "The factor is squared, as it should be. It works on the noisy points, and they are wider than the "
                "data.": V**3 / noisy**2,
                "This is the variance of x0 when the noisy point is known. The variance of its mean is asked for.": V
                * nu**2
                / noisy,
                "This is the standard deviation with the last step. The variance is its square.": V / math.sqrt(noisy),
            },
        )
    return "Without the step the clusters are too wide, with it too narrow, and both by the same factor."


@exercise("7.3")
def _few_or_many(ratio: Callable[[int], float], enough_40: int, enough_120: int, safer: str) -> str:
    for levels in (4, 20):
        right = (4 / 0.035) ** (1 / (levels - 1))
        compare(
            f"the ratio for {levels} levels",
            call(ratio, levels),
            right,
            mistakes={
                "There is one gap less than there are levels.": (4 / 0.035) ** (1 / levels),
                "This is the weaker level over the stronger one.": 1 / right,
                "This is the ratio of the variances. The ratio of the levels is its root.": right**2,
                "A geometric ladder has the same ratio everywhere: each rung multiplies, so the ratios multiply to "
                "4 / 0.035.": 4 / 0.035 / (levels - 1),
                "This is the difference of neighbours on an even ladder. Ours is geometric.": 3.965 / (levels - 1),
            },
        )
    for calls, given, right in ((40, enough_40, 8), (120, enough_120, 4)):
        levels = number(f"the levels at {calls} calls", given)
        if levels not in LADDERS:
            raise NotYet(f"The numbers of levels to choose from are {', '.join(map(str, LADDERS))}.")
        if levels < right:
            steps = f"{levels:.0f} levels with {calls / levels:.0f} steps each"
            raise NotYet(f"At {calls} calls, {steps} leave more than a tenth of the points far from every cluster.")
        if levels > right:
            raise NotYet(f"At {calls} calls, {levels:.0f} levels are enough, and a smaller number is too.")
    if word(safer, "few levels", "many levels") == "few levels":
        raise NotYet("The numbers are right. Look at them again: at which end of the list does the walk fail?")
    return (
        "With too few levels more calls bring the points to clusters, but with the wrong weights. Too many levels cost "
        "little: one step at each is enough."
    )


@exercise("7.4")
def _flat_weight(weight: Callable[[float], float], share: float) -> str:
    for nu in (0.1, 3.0):
        compare(
            f"the weight at nu = {nu:g}",
            call(weight, nu),
            nu**-2,
            mistakes={
                "The norm is squared, so the factor that comes out of it is squared too.": 1 / nu,
                "It is turned upside down: s is epsilon divided by nu.": nu**2,
                "This is the weight for lambda = nu squared, which is NCSN's own choice.": 1.0,
                "The factor 1/2 belongs to 1/2T, which is left out here.": nu**-2 / 2,
            },
        )
    mixture, ladder = grid_mixture(), Schedule.geometric(20, 0.035, 4.0)
    levels, draws = ladder.noise_levels[1:], make_generator(0)
    noise_left = torch.tensor(
        [
            mixture.bayes_loss(float(a), method="monte_carlo", samples=2000, generator=draws)
            for a in ladder.alpha_bar[1:]
        ],
        dtype=torch.float64,
    )
    cluster = float(mixture.covariances[0, 0, 0])
    right = _first_five(noise_left / levels**2)
    what, of_weights = "the share of the five smallest levels", _first_five(levels**-2)
    found = number(what, share, 0, 1)
    if abs(found - (1 - right)) < 5e-3:  # as far as the draws may be off
        raise NotYet("This is the share of the other fifteen levels.")
    if abs(found - of_weights) < 1e-3:  # near the right one, and so with a tolerance of its own
        raise NotYet(
            "This is their share of the weights. A level's loss is its weight times the noise that the oracle cannot "
            "tell."
        )
    compare(
        what,
        found,
        right,
        tolerance=1e-2,
        mistakes={
            "This is their share with lambda = nu squared.": _first_five(noise_left),
            "This is their share with the weight 1 / nu.": _first_five(noise_left / levels),
            "This takes each cluster alone. At larger levels the clusters merge, and the noisy point says less about "
            "its noise.": _first_five(cluster / (cluster + levels**2) / levels**2),
        },
    )
    return "With equal weights the loss listens to the smallest levels and to hardly anything else."


def _first_five(loss: Tensor) -> float:
    """The share of the first five entries in the sum of all."""
    return float(loss[:5].sum() / loss.sum())
