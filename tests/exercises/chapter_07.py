"""Right and wrong answers to the exercises of chapter 7."""

import math

import torch

from exercises import Answers


def step_for(bias):
    return 4 - 4 / (1 + bias)


def steps_for(delta, missing):
    count, left = 0, 1.0
    while left > missing:
        count, left = count + 1, left * (1 - delta / 2) ** 2
    return count


def until(factor, missing):
    return math.ceil(math.log(missing) / (2 * math.log(factor)))


def settled(delta):
    return 1 / (1 - delta / 4)


def walk(function):
    return (step_for, function)


def noisy(V, nu):
    return V + nu**2


def mean(V, nu):
    return V**2 / (V + nu**2)


def ratio(levels):
    return (4 / 0.035) ** (1 / (levels - 1))


def rungs(function):
    return (function, 8, 4, "many levels")


def grow(nu):
    return nu**-2


ANSWERS = {
    "7.1": Answers(
        right=[
            (step_for, steps_for),
            (lambda bias: torch.tensor(4 * bias / (1 + bias)), lambda delta, missing: until(1 - delta / 2, missing)),
        ],
        wrong={
            "first order": (lambda bias: 4 * bias, steps_for),
            "A 4 is lost": (lambda bias: bias / (1 + bias), steps_for),
            "the standard deviation is wrong": (lambda bias: 4 - 4 / (1 + bias) ** 2, steps_for),
            "too wide, not too narrow": (lambda bias: 4 - 4 / (1 - bias), steps_for),
            "The sign of the bias is turned": (lambda bias: 4 * bias / (1 - bias), steps_for),
            "half of the step": (lambda bias: 2 * bias / (1 + bias), steps_for),
            "for a bias of 0.01: yours is 0.1": (lambda bias: 0.1, steps_for),
            "a whole number of steps": walk(lambda delta, missing: math.log(missing) / (2 * math.log(1 - delta / 2))),
            "round up": walk(lambda delta, missing: steps_for(delta, missing) - 1),
            "one step too many": walk(lambda delta, missing: steps_for(delta, missing) + 1),
            "what does it do to a variance": walk(lambda delta, missing: until(math.sqrt(1 - delta / 2), missing)),
            "not delta": walk(lambda delta, missing: until(1 - delta, missing)),
            "near but not the same": walk(lambda delta, missing: math.ceil(-math.log(missing) / delta)),
            "measured from 1": walk(lambda delta, missing: until(1 - delta / 2, 1 - (1 - missing) / settled(delta))),
            "takes 1 - missing": walk(lambda delta, missing: until(1 - delta / 2, 1 - missing)),
            "enough for the standard deviation": walk(
                lambda delta, missing: until(1 - delta / 2, 1 - (1 - missing) ** 2)
            ),
            "missing = 0.01: yours is 300": walk(lambda delta, missing: 300),
        },
    ),
    "7.2": Answers(
        right=[(noisy, mean), (lambda V, nu: torch.tensor(V + nu * nu), lambda V, nu: 1 / (1 / V + (nu / V) ** 2))],
        wrong={
            "still carry its noise": (lambda V, nu: V, mean),
            "the noise of the last level adds": (lambda V, nu: nu * nu, mean),
            "noise's variance is not nu": (lambda V, nu: V + nu, mean),
            "standard deviations do not": (lambda V, nu: (math.sqrt(V) + nu) ** 2, mean),
            "standard deviation without": (lambda V, nu: math.sqrt(noisy(V, nu)), mean),
            "too wide. Their variance": (lambda V, nu: noisy(V, nu) / V, mean),
            "averages vary less": (noisy, lambda V, nu: V),
            "it takes noise away": (noisy, noisy),
            "the factor on a deviation": (noisy, lambda V, nu: V / noisy(V, nu)),
            "wider than the data": (noisy, lambda V, nu: V**3 / noisy(V, nu) ** 2),
            "when the noisy point is known": (noisy, lambda V, nu: 1 / (1 / V + 1 / nu**2)),
            "standard deviation with the": (noisy, lambda V, nu: math.sqrt(mean(V, nu))),
            "with the last step at V = 0.5, nu = 0.4: yours is": (noisy, lambda V, nu: V - nu**2),
        },
    ),
    "7.3": Answers(
        right=[
            (ratio, 8, 4, "many levels"),
            (lambda levels: math.exp(math.log(4 / 0.035) / (levels - 1)), torch.tensor(8), 4.0, "many levels"),
        ],
        wrong={
            "one gap less": rungs(lambda levels: (4 / 0.035) ** (1 / levels)),
            "the weaker level over": rungs(lambda levels: 1 / ratio(levels)),
            "ratio of the variances": rungs(lambda levels: ratio(levels) ** 2),
            "each rung multiplies": rungs(lambda levels: 4 / 0.035 / (levels - 1)),
            "an even ladder": rungs(lambda levels: (4 - 0.035) / (levels - 1)),
            "The ratio for 4 levels: yours is 1.28": rungs(lambda levels: 1.28),
            "to choose from are 2, 4, 8, 20, 40": (ratio, 10, 4, "many levels"),
            "At 40 calls, 4 levels with 10 steps each": (ratio, 4, 4, "many levels"),
            "At 120 calls, 2 levels with 60 steps each": (ratio, 8, 2, "many levels"),
            "At 40 calls, 20 levels are enough": (ratio, 20, 4, "many levels"),
            "At 120 calls, 8 levels are enough": (ratio, 8, 8, "many levels"),
            "at which end of the list": (ratio, 8, 4, "few levels"),
            "'many' is another": (ratio, 8, 4, "many"),
        },
    ),
    "7.4": Answers(
        right=[(grow, 0.935), (lambda nu: (1 / nu) ** 2, torch.tensor(0.93))],
        wrong={
            "is squared too": (lambda nu: 1 / nu, 0.935),
            "upside down": (lambda nu: nu**2, 0.935),
            "NCSN's own choice": (lambda nu: 1.0, 0.935),
            "The factor 1/2 belongs to 1/2T": (lambda nu: nu**-2 / 2, 0.935),
            "of the other fifteen levels": (grow, 0.0625),
            "with lambda = nu squared": (grow, 0.3),
            "their share of the weights": (grow, 0.9175),
            "the weight 1 / nu": (grow, 0.744),
            "the other fifteen": (grow, 0.065),
            "each cluster alone": (grow, 0.979),
            "the five smallest levels: yours is 0.5": (grow, 0.5),
            "the five smallest levels: yours is 0.92": (grow, 0.92),
            "the five smallest levels: a number is asked for": (grow, "most"),
        },
    ),
}
