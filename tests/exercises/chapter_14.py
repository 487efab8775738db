"""Right and wrong answers to the exercises of chapter 14."""

import math

import numpy
import torch

from diffutils.schedule import Schedule
from exercises import Answers

# -- 14.1: preconditioning -------------------------------------------------------------------------------------------


def precondition(nu, sigma):
    root = math.hypot(nu, sigma)
    return (sigma / root) ** 2, nu * sigma / root, 1 / root


def but(place, value):
    """Return the right function with one of its three numbers replaced."""

    def changed(nu, sigma):
        numbers = list(precondition(nu, sigma))
        numbers[place] = value(nu, sigma)
        return tuple(numbers)

    return (changed,)


# -- 14.2: averages --------------------------------------------------------------------------------------------------


def decay(n):
    return 2 ** (-1 / n)


def start(d, n):
    return math.exp(n * math.log(d))


# -- 14.3: guided Gaussians ------------------------------------------------------------------------------------------


def guided(S, weak, g):
    return S * weak / ((1 + g) * weak - g * S)


def limit(S, weak):
    return 1 / (S / weak - 1)


# -- 14.4: a push ----------------------------------------------------------------------------------------------------


def push(bar_s, bar_t, eta, power=2.0):
    kept = bar_t / bar_s
    sigma2 = eta**power * (1 - bar_s) * (1 - kept) / (1 - bar_t)
    return (bar_s * bar_t) ** 0.5 + ((1 - bar_s - sigma2) * (1 - bar_t)) ** 0.5


def walked(eta, power=2.0):
    bars = Schedule.cosine(1000).alpha_bar[:901].tolist()
    return math.prod(push(s, t, eta, power) for s, t in zip(bars, bars[1:]))


LEFT = walked(0.5)

ANSWERS = {
    "14.1": Answers(
        right=[(precondition,), (lambda nu, sigma: numpy.array(precondition(nu, sigma)),)],
        wrong={
            "Three numbers are asked for": (lambda nu, sigma: 1.0,),
            "c_skip, c_out and c_in": (lambda nu, sigma: dict(zip("soi", precondition(nu, sigma))),),
            "in another order": (lambda nu, sigma: precondition(nu, sigma)[::-1],),
            "take the root": but(2, lambda nu, sigma: 1 / (nu**2 + sigma**2)),
            "divide": but(2, math.hypot),
            "for data of variance 1": but(2, lambda nu, sigma: 1 / math.hypot(nu, 1)),
            "a part of the input, too": but(2, lambda nu, sigma: 1 / sigma),
            "share of the noise": but(0, lambda nu, sigma: nu**2 / (nu**2 + sigma**2)),
            "^.*right for data of variance 1": but(0, lambda nu, sigma: 1 / (1 + nu**2)),
            "root of the best number": but(0, lambda nu, sigma: sigma / math.hypot(nu, sigma)),
            "its own input's noise": but(0, lambda nu, sigma: 1.0),
            "for x_0 itself": but(0, lambda nu, sigma: 0.0),
            "its root is asked for": but(1, lambda nu, sigma: (nu * sigma) ** 2 / (nu**2 + sigma**2)),
            "to be positive": but(1, lambda nu, sigma: -nu * sigma / math.hypot(nu, sigma)),
            "This is right for data of variance 1": but(1, lambda nu, sigma: nu / math.hypot(nu, 1)),
            "standard deviation is lost": but(1, lambda nu, sigma: nu / math.hypot(nu, sigma)),
            "c_out for nu = 0.8 and sigma_data = 0.5: yours": but(1, lambda nu, sigma: 7.0),
        },
    ),
    "14.2": Answers(
        right=[(decay, start, 2301), (decay, lambda d, n: numpy.float32(d) ** n, 2301)],
        wrong={
            "counts 1/e, not half": (lambda n: math.exp(-1 / n), start, 2301),
            "near that of 1/e": (lambda n: 1 - 1 / n, start, 2301),
            "first order": (lambda n: 1 - math.log(2) / n, start, 2301),
            "not d": (lambda n: 0.5, start, 2301),
            "all later weights": (decay, lambda d, n: 1 - d**n, 2301),
            "first step's weights": (decay, lambda d, n: (1 - d) * d ** (n - 1), 2301),
            "one step more": (decay, lambda d, n: d ** (n + 1), 2301),
            "One step earlier": (decay, start, 2302),
            "one step less": (decay, lambda d, n: d ** (n - 1), 2301),
            "a little more than one percent": (decay, start, 2300),
            "not rounded up": (decay, start, math.log(0.01) / math.log(0.998)),
            "ten percent": (decay, start, 1151),
            "number of steps: yours": (decay, start, 5),
        },
    ),
    "14.3": Answers(
        right=[(guided, limit)],
        wrong={
            "one over the variance": (lambda S, weak, g: 1 / guided(S, weak, g), limit),
            "standard deviation": (lambda S, weak, g: guided(S, weak, g) ** 0.5, limit),
            "do not add up so": (lambda S, weak, g: (1 + g) * S - g * weak, limit),
            "changed places": (lambda S, weak, g: guided(weak, S, g), limit),
            r"the weight 1 \+ g": (lambda S, weak, g: 1 / (1 / S - g / weak), limit),
            "guided variance for S = 0.7, S_weak = 0.8, g = 1.5: yours": (lambda S, weak, g: 9.0, limit),
            r"This is 1 \+ g": (guided, lambda S, weak: 1 + limit(S, weak)),
            "the ratio of the variances": (guided, lambda S, weak: weak / S),
            "This is one over it": (guided, lambda S, weak: 1 / limit(S, weak)),
            "the wider one": (guided, lambda S, weak: -limit(S, weak)),
        },
    ),
    "14.4": Answers(
        right=[(push, LEFT), (push, torch.tensor(LEFT))],
        wrong={
            "without its square": (lambda s, t, eta: push(s, t, eta, 1.0), LEFT),
            "the step without noise": (lambda s, t, eta: push(s, t, 0.0), LEFT),
            "the chain's own step": (lambda s, t, eta: push(s, t, 1.0), LEFT),
            "the part of x_0 alone": (lambda s, t, eta: (s * t) ** 0.5, LEFT),
            "what the chain leaves": (push, walked(1.0)),
            "leaves without noise": (push, walked(0.0)),
            "for eta without its square": (push, walked(0.5, 1.0)),
            "share that is left: yours": (push, 2.0),
        },
    ),
}
