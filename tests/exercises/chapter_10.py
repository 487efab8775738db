"""Right and wrong answers to the exercises of chapter 10."""

import math

import torch

from diffutils.device import make_generator
from diffutils.schedule import Schedule
from exercises import Answers

# -- 10.1: statistics of a step --------------------------------------------------------------------------------------

UNIT = Schedule.linear(1000).transition(600, 200).beta_tilde
ONE_STEP = {"q(x_s | x_t, x_0)"}


def exact_noise(step):
    """What the noise adds, without a random number."""
    x, one = torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return float(step(x, 600, 200, x, 0.5, one) - step(x, 600, 200, x, 0.5, 0 * one)) ** 2 / UNIT


def drawn_noise(step):
    x, z = torch.full((4000, 2), 0.3), torch.randn(4000, 2, generator=make_generator(0))
    return step(x, 600, 200, 0 * x, 0.5, z).var() / UNIT


def spread_of_law(step):
    x_t, z = torch.randn(2, 50_000, dtype=torch.float64, generator=make_generator(0))
    signal = float(Schedule.linear(1000).sigma2[600]) ** 0.5
    return float(step(signal * x_t, 600, 200, 0 * x_t, 0.5, z).var() / UNIT)


# -- 10.2: roads between two addresses -------------------------------------------------------------------------------


def variance(u):
    return 1 - 2 * u + 2 * u**2


def road(factor):
    return lambda a, b, u: ((1 - u) * a + u * b) * factor(variance(u))


def arc(a, b, u):
    return math.cos(math.pi / 2 * u) * a + math.sin(math.pi / 2 * u) * b


STRETCHED = road(lambda v: v**-0.5)

# -- 10.3: one step of Heun's method ---------------------------------------------------------------------------------


def slope(y, nu, V):
    return nu * y / (V + nu**2)


def heun(start, end, V, *, first=0.5, second=0.5, at=slope):
    arrived = 1 - (start - end) * at(1.0, start, V)
    return 1 - (start - end) * (first * at(1.0, start, V) + second * at(arrived, end, V))


def exact(start, end, V):
    return ((V + end**2) / (V + start**2)) ** 0.5


def uphill(start, end, V):
    h = start - end
    return 1 + h / 2 * (slope(1.0, start, V) + slope(1.0 + h * slope(1.0, start, V), end, V))


def stale(start, end, V):
    return 1 - (start - end) / 2 * (slope(1.0, start, V) + slope(1.0, end, V))


def ratio(steps, last=-1, factor=heun):
    levels = Schedule.cosine(1000).respaced(steps).noise_levels.tolist()
    start, end = levels[last], levels[last - 1]
    return factor(start, end, 1.0) / exact(start, end, 1.0)


FIRST_STEP = heun(*Schedule.cosine(1000).respaced(3).noise_levels[[-1, -2]].tolist(), 1.0)

# -- 10.4: up and down -----------------------------------------------------------------------------------------------


def up(x_s, eps, now, above):
    ratio = math.sqrt(above / now)
    return ratio * x_s + (math.sqrt(1 - above) - ratio * math.sqrt(1 - now)) * eps


def nu(alpha_bar):
    return math.sqrt((1 - alpha_bar) / alpha_bar)


def in_y(x_s, eps, now, above):
    return x_s / math.sqrt(now) + (nu(above) - nu(now)) * eps


TRIP = (0.05, 0.028, 0.015)

ANSWERS = {
    "10.1": Answers(
        right=[(ONE_STEP, exact_noise), ("q(x_s | x_t, x_0)", drawn_noise)],
        wrong={
            r"\(10.3\) holds for every sigma": ({"q(x_s | x_0)", *ONE_STEP}, exact_noise),
            "follows from that of x_0": ({"q(x_s)", *ONE_STEP}, exact_noise),
            "One of the laws notices": (set(), exact_noise),
            r"'q\(x_t\)' is another": ({"q(x_t)"}, exact_noise),
            "Words are asked for": (1, exact_noise),
            "it notices nothing.* What stands behind its bar": (ONE_STEP, spread_of_law),
            "a standard deviation; a variance": (ONE_STEP, lambda step: exact_noise(step) ** 0.5),
            "in units of eta.2 beta_tilde": (ONE_STEP, lambda step: 4 * exact_noise(step)),
            "not yet in units": (ONE_STEP, lambda step: exact_noise(step) * UNIT),
            "not of the single step at 600": (
                ONE_STEP, lambda step: exact_noise(step) * UNIT / Schedule.linear(1000).beta_tilde[600]
            ),
            "its root does not belong": (ONE_STEP, lambda step: exact_noise(step) * UNIT**0.5),
            "yours is 1, 2 times": (ONE_STEP, lambda step: 2 * exact_noise(step)),
            "A function is asked for": (ONE_STEP, 0.25),
            "The number of the right step: the shape": (ONE_STEP, lambda step: torch.ones(2)),
        },
    ),
    "10.2": Answers(
        right=[(variance, STRETCHED, "line"), (lambda u: torch.tensor([variance(u)]), STRETCHED, {"line"})],
        wrong={
            "with the squares of the weights": (lambda u: 1, STRETCHED, "line"),
            "a standard deviation; a variance": (lambda u: variance(u) ** 0.5, STRETCHED, "line"),
            "in the middle only": (lambda u: 0.5, STRETCHED, "line"),
            "no minus between": (lambda u: 1 - 2 * u, STRETCHED, "line"),
            "the line as it was": (variance, road(lambda v: 1), "line"),
            "divided by its variance": (variance, road(lambda v: 1 / v), "line"),
            "wrong side of the fraction": (variance, road(lambda v: v**0.5), "line"),
            "This is the arc": (variance, arc, "line"),
            "the standard deviation of one draw": (
                variance, lambda a, b, u: ((1 - u) * a + u * b) / ((1 - u) * a + u * b).std(), "line",
            ),
            "the length of a": (
                variance, lambda a, b, u: ((1 - u) * a + u * b) / ((1 - u) * a + u * b).norm() * a.norm(), "line",
            ),
            "line at u = 0.5: yours": (variance, lambda a, b, u: a if u == 0.5 else STRETCHED(a, b, u), "line"),
            "Measure again": (variance, STRETCHED, "arc"),
            "'both' is another": (variance, STRETCHED, "both"),
        },
    ),
    "10.3": Answers(
        right=[(heun, ratio(3)), (lambda *levels: torch.tensor(heun(*levels), dtype=torch.float64), 1240)],
        wrong={
            "Euler's factor": (lambda *levels: heun(*levels, first=1, second=0), ratio(3)),
            "the exact factor of": (exact, ratio(3)),
            "that Euler's step has reached": (stale, ratio(3)),
            "their mean is asked for": (lambda *levels: heun(*levels, first=1, second=1), ratio(3)),
            "The step goes up": (uphill, ratio(3)),
            "the whole variance of y": (lambda start, end, V: heun(start, end, 0.0), ratio(3)),
            "other way round": (heun, 1 / ratio(3)),
            "Heun's factor alone": (heun, FIRST_STEP),
            "for Euler's method": (heun, ratio(3, factor=lambda *levels: heun(*levels, first=1, second=0))),
            "the first of five steps": (heun, ratio(5)),
            "the second step": (heun, ratio(3, -2)),
            "of the linear schedule": (heun, 1.0752),
            "How many times too far: yours is 10,": (heun, 10.0),
        },
    ),
    "10.4": Answers(
        right=[(up, TRIP, 1), (up, torch.tensor([0.047, 0.026, 0.0139]), 1.0)],
        wrong={
            "This is y_t": (in_y, TRIP, 1),
            "The sign of the step": (lambda x, e, n, a: in_y(x, -e, n, a) * math.sqrt(a), TRIP, 1),
            "x_s is taken for y_s": (lambda x, e, n, a: in_y(x * math.sqrt(n), e, n, a) * math.sqrt(a), TRIP, 1),
            "that of s is still in x_s": (lambda x, e, n, a: math.sqrt(a / n) * x + math.sqrt(1 - a) * e, TRIP, 1),
            "x_s in the place of x_0": (lambda x, e, n, a: math.sqrt(a) * x + math.sqrt(1 - a) * e, TRIP, 1),
            "are exchanged": (lambda x, e, n, a: up(x, e, a, n), TRIP, 1),
            "Three errors": (up, TRIP[:2], 1),
            "with 25, 50 and 100 steps": (up, 0.05, 1),
            "your errors do not fall": (up, TRIP[::-1], 1),
            "From 25 to 50 steps your error is divided by 4,": (up, (0.16, 0.04, 0.01), 2),
            "From 25 to 50 steps your error is divided by 3,": (up, (0.9, 0.3, 0.2), 1),
            "From 50 to 100 steps your error is divided by 1.33,": (up, (0.08, 0.04, 0.03), 1),
            "From 50 to 100 steps your error is divided by 3,": (up, (0.12, 0.06, 0.02), 1),
            "by 1.71, .* do not clip": (up, (0.0497, 0.0291, 0.0187), 1),
            "by 1.7, .* where you stand": (up, (0.0710, 0.0417, 0.0246), 1),
            "as small as mean squares": (up, [error**2 for error in TRIP], 1),
            "The error with 25 steps: yours is 0.8": (up, (0.8, 0.4, 0.2), 1),
            "must lie between 0 and 1": (up, (5.0, 0.3, 0.1), 1),
            "The errors are right": (up, TRIP, 2),
        },
    ),
}
