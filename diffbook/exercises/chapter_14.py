"""Checkers for the exercises of chapter 14, what makes it good."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from diffbook.exercises.answers import NotYet, call, compare, exercise, number
from diffutils.schedule import Schedule


@exercise("14.1")
def _preconditioning(preconditioning: Callable[[float, float], tuple[float, float, float]]) -> str:
    for nu, sigma in ((0.8, 0.5), (3.0, 2.0)):
        total, given = sigma**2 + nu**2, call(preconditioning, nu, sigma)
        if isinstance(given, Mapping) or not hasattr(given, "__len__") or len(given) != 3:
            raise NotYet("Three numbers are asked for: c_skip, c_out and c_in.")
        right = [sigma**2 / total, sigma * nu / math.sqrt(total), 1 / math.sqrt(total)]
        numbers = [number(f"the number {name}", one) for name, one in zip(("c_skip", "c_out", "c_in"), given)]
        if _same(sorted(numbers), sorted(right)) and not _same(numbers, right):
            raise NotYet("These are the right numbers in another order: c_skip, c_out, c_in is asked for.")
        where = f"for nu = {nu:g} and sigma_data = {sigma:g}"
        compare(
            f"the number c_in {where}",
            numbers[2],
            1 / math.sqrt(total),
            mistakes={
                "This gives the input the variance 1 / (sigma_data^2 + nu^2); take the root.": 1 / total,
                "This multiplies the input by its standard deviation; divide.": math.sqrt(total),
                "This is right for data of variance 1.": 1 / math.sqrt(1 + nu**2),
                "The noise is a part of the input, too.": 1 / sigma,
            },
        )
        compare(
            f"the number c_skip {where}",
            numbers[0],
            sigma**2 / total,
            mistakes={
                "This is the share of the noise in the variance of y.": nu**2 / total,
                "This is right for data of variance 1.": 1 / (1 + nu**2),
                "This is the root of the best number.": sigma / math.sqrt(total),
                "With this the network would have to remove its own input's noise alone.": 1.0,
                "This asks the network for x_0 itself: c_out could be smaller.": 0.0,
            },
        )
        compare(
            f"the number c_out {where}",
            numbers[1],
            sigma * nu / math.sqrt(total),
            mistakes={
                "This is the variance of what is left of x_0; its root is asked for.": sigma**2 * nu**2 / total,
                "This is negative, and c_out is to be positive.": -sigma * nu / math.sqrt(total),
                "This is right for data of variance 1.": nu / math.sqrt(1 + nu**2),
                "The data's standard deviation is lost.": nu / math.sqrt(total),
            },
        )
    return "At small nu the network is asked for the noise, at large nu for the data."


def _same(numbers: list[float], others: list[float]) -> bool:
    return all(math.isclose(one, other, rel_tol=1e-6) for one, other in zip(numbers, others))


@exercise("14.2")
def _averages(decay_for: Callable[[int], float], start_left: Callable[[float, int], float], steps_needed: int) -> str:
    for n in (10, 500):
        compare(
            f"the decay for n = {n}",
            call(decay_for, n),
            0.5 ** (1 / n),
            mistakes={
                "After so many steps this still counts 1/e, not half.": math.exp(-1 / n),
                "This is near that of 1/e, and not exact: solve d^n = 1/2.": 1 - 1 / n,
                "This is the first order of the answer: solve d^n = 1/2 exactly.": 1 - math.log(2) / n,
                "This is what d^n is, not d.": 0.5,
            },
        )
        compare(
            f"the share of the start for d = 0.99 and n = {n}",
            call(start_left, 0.99, n),
            0.99**n,
            tolerance=1e-4,
            mistakes={
                "This is the share that all later weights have.": 1 - 0.99**n,
                "This is the share of the first step's weights, not of the start.": 0.01 * 0.99 ** (n - 1),
                "This counts one step less.": 0.99 ** (n - 1),
                "This counts one step more.": 0.99 ** (n + 1),
            },
        )
    compare(
        "the number of steps",
        steps_needed,
        2301,
        tolerance=1e-9,
        mistakes={
            "After so many steps it is still a little more than one percent.": 2300,
            "One step earlier it is less than a percent already.": 2302,
            "This is not rounded up to a whole number.": math.log(0.01) / math.log(0.998),
            "This is for ten percent.": math.ceil(math.log(0.1) / math.log(0.998)),
        },
    )
    return "That is why a decay belongs to a length of training."


@exercise("14.3")
def _guided_gaussians(
    guided_variance: Callable[[float, float, float], float], largest_strength: Callable[[float, float], float]
) -> str:
    for S, weak, g in ((0.7, 0.8, 1.5), (1.0, 2.0, 0.5)):
        precision = (1 + g) / S - g / weak
        compare(
            f"the guided variance for S = {S:g}, S_weak = {weak:g}, g = {g:g}",
            call(guided_variance, S, weak, g),
            1 / precision,
            mistakes={
                "This is one over the variance.": precision,
                "This is the standard deviation.": precision**-0.5,
                "Variances do not add up so; scores, and with them 1/S, do.": (1 + g) * S - g * weak,
                "The two models have changed places.": 1 / ((1 + g) / weak - g / S),
                "The better model has the weight 1 + g.": 1 / (1 / S - g / weak),
            },
        )
    for S, weak in ((0.9, 0.5), (2.0, 1.5)):
        compare(
            f"the strength at which it breaks for S = {S:g}, S_weak = {weak:g}",
            call(largest_strength, S, weak),
            weak / (S - weak),
            mistakes={
                "This is 1 + g.": S / (S - weak),
                "This is one over it.": (S - weak) / weak,
                "This is the ratio of the variances. At which g does the bracket in (14.11) become 0?": weak / S,
                "This is negative, and would be right if the weak model were the wider one.": weak / (weak - S),
            },
        )
    return "So the weaker model has to be wrong in the right direction."


@exercise("14.4")
def _push(push_factor: Callable[[float, float, float], float], left_at_half: float) -> str:
    def factor(bar_s: float, bar_t: float, sigma2: float) -> float:
        return math.sqrt(bar_s * bar_t) + math.sqrt((1 - bar_s - sigma2) * (1 - bar_t))

    def beta_tilde(bar_s: float, bar_t: float) -> float:
        return (1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)

    for bar_s, bar_t, eta in ((0.8, 0.3, 0.5), (0.5, 0.1, 1.0), (0.6, 0.2, 0.0)):
        variance = beta_tilde(bar_s, bar_t)
        compare(
            f"the factor for alpha_bar_s = {bar_s:g}, alpha_bar_t = {bar_t:g}, eta = {eta:g}",
            call(push_factor, bar_s, bar_t, eta),
            factor(bar_s, bar_t, eta**2 * variance),
            mistakes={
                "Eta stands here without its square.": factor(bar_s, bar_t, eta * variance),
                "This is the step without noise.": factor(bar_s, bar_t, 0.0),
                "This is the chain's own step, that of eta = 1.": factor(bar_s, bar_t, variance),
                "This is the part of x_0 alone; the noise guessed at t is a multiple of x_t, too.": (
                    math.sqrt(bar_s * bar_t)
                ),
            },
        )
    bars = Schedule.cosine(1000).alpha_bar.tolist()
    pairs = list(zip(bars[:900], bars[1:901]))
    compare(
        "the share that is left",
        left_at_half,
        math.prod(factor(s, t, 0.25 * beta_tilde(s, t)) for s, t in pairs),
        tolerance=1e-3,
        mistakes={
            "This is what the chain leaves, with eta = 1, and what one single step to 0 leaves.": math.sqrt(bars[900]),
            "This is what DDIM leaves without noise.": math.prod(factor(s, t, 0.0) for s, t in pairs),
            "This is for eta without its square.": math.prod(factor(s, t, 0.5 * beta_tilde(s, t)) for s, t in pairs),
        },
    )
    return "Half of eta is a quarter of the variance, and forgets a quarter as fast: about the fourth root of (14.9)."
