"""Right and wrong answers to the exercises of chapter 3."""

import math

import torch

from diffutils.process import forward_step
from exercises import Answers


def best(d, sigma):
    return d + sigma**2 * (d + 2)


def left(d, sigma):
    return 4 * (d + 1) + 2 * sigma**2 * (d + 2)


def without(d, sigma):
    return d**2 / sigma**2 + 2 * (d + 2) ** 2 + sigma**2 * (d + 2) * (d + 4) - 4


def by_moments(d, sigma):
    """Return the mean of |x|^2 |eps|^2 over d, from Gaussian moments, as a tensor."""
    return torch.tensor([d * d + sigma**2 * d * (d + 2)]) / d


GRID = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
WEIGHTS = torch.exp(-(GRID**2) / 2) * (GRID[1] - GRID[0]) / math.sqrt(2 * math.pi)


def slopes(omega):
    return -omega * torch.sin(omega * (0.5 + GRID))


def values(omega):
    return torch.cos(omega * (0.5 + GRID)) * GRID


def mean(x):
    return float((x * WEIGHTS).sum())


def path(omega):
    return mean(slopes(omega) ** 2) - mean(slopes(omega)) ** 2


def score(omega):
    return mean(values(omega) ** 2) - mean(values(omega)) ** 2


def variance_of_f(omega):
    f = torch.cos(omega * (0.5 + GRID))
    return mean(f**2) - mean(f) ** 2


def doubled(omega):
    return torch.exp(-2 * omega**2) * torch.cos(omega)


def mean_of_both(omega):
    return -omega * torch.exp(-(omega**2) / 2) * torch.sin(omega / 2)


def simulated(draws):
    """Return the variance of an estimate from a million draws, which is right to a part of a percent."""

    def variance(omega):
        eps = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
        return draws(omega, 0.5 + eps, eps).var()

    return variance


def by_running(schedule):
    """Return the square of what a chain makes of the noise 1 in every step."""
    x = torch.zeros(1, dtype=torch.float64)
    for t in range(1, schedule.T + 1):
        x = forward_step(schedule, x, t, noise=torch.ones_like(x))
    return x**2


def squared_sum(factor):
    """Return a function of the schedule: the square of the sum of these factors of beta, alpha and alpha_bar."""
    return lambda s: factor(s.beta[1:], s.alpha[1:], s.alpha_bar[1:]).sum() ** 2


ANSWERS = {
    "3.1": Answers(
        right=[(best, left, 1), (by_moments, lambda d, s: without(d, s) - best(d, s) ** 2 / s**2, torch.tensor(1.0))],
        wrong={
            r"This is the mean of f\. The best constant is a little larger": (lambda d, s: d + s**2 * d, left, 1),
            "This is d times as much": (lambda d, s: d * best(d, s), left, 1),
            "the products of two": (lambda d, s: d + 3 * s**2, left, 1),
            "square of sigma is missing": (lambda d, s: d + s * (d + 2), left, 1),
            "a 2 in both terms": (lambda d, s: 2 * best(d, s), left, 1),
            r"This is \(3.4\)": (best, without, 1),
            "leaves a little less": (best, lambda d, s: left(d, s) + 4 * s**2, 1),
            "mean square of the estimate": (best, lambda d, s: left(d, s) + 4, 1),
            "is divided by sigma": (best, lambda d, s: without(d, s) - best(d, s) ** 2, 1),
            "per coordinate": (best, lambda d, s: d * left(d, s), 1),
            "the standard deviation, not": (best, lambda d, s: math.sqrt(left(d, s)), 1),
            "takes variance away": (best, lambda d, s: without(d, s) + best(d, s) ** 2 / s**2, 1),
            "the power without a baseline": (best, left, 2),
            "the pathwise variance": (best, left, 0),
            "left for d = 4, sigma = 0.6: yours is 20, -18 percent": (best, lambda d, s: 4 * (d + 1), 1),
        },
    ),
    "3.2": Answers(
        right=[
            (path, score, 0.909),
            (
                simulated(lambda omega, x, eps: omega * torch.sin(omega * x)),
                simulated(lambda omega, x, eps: torch.cos(omega * x) * eps),
                torch.tensor(0.905),
            ),
            (
                lambda w: w**2 * (1 - doubled(w)) / 2 - mean_of_both(w) ** 2,
                lambda w: (1 + (1 - 4 * w**2) * doubled(w)) / 2 - mean_of_both(w) ** 2,
                0.909,
            ),
        ],
        wrong={
            "mean square of the pathwise": (lambda w: mean(slopes(w) ** 2), score, 0.909),
            "mean square of the score-function": (path, lambda w: mean(values(w) ** 2), 0.909),
            "the standard deviation of the pathwise": (lambda w: math.sqrt(path(w)), score, 0.909),
            "the standard deviation of the score-function": (path, lambda w: math.sqrt(score(w)), 0.909),
            "variance of the score-function estimate. The pathwise": (score, path, 0.909),
            "variance of the pathwise estimate. The score": (path, path, 0.909),
            "brings a factor omega": (lambda w: path(w) / w**2, score, 0.909),
            "squared in a variance": (lambda w: path(w) / w, score, 0.909),
            "the square of the sine": (lambda w: w**2 / 2, score, 0.909),
            "the variance of f": (path, variance_of_f, 0.909),
            "the square of the cosine": (path, lambda w: 0.5, 0.909),
            "equal further up": (path, score, 0.5),
            "equal further down": (path, score, 1.0),
            "between 0 and 20": (path, score, -0.909),
        },
    ),
    "3.3": Answers(
        right=[
            (by_running,),
            (squared_sum(lambda beta, alpha, alpha_bar: (beta * alpha_bar[-1] / alpha_bar).sqrt()),),
        ],
        wrong={
            "what independent noises make": (lambda s: 1 - s.alpha_bar[-1],),
            "its standard deviation": (lambda s: by_running(s).sqrt(),),
            "how many times too much": (lambda s: by_running(s) / (1 - s.alpha_bar[-1]),),
            "The later steps are left out": (squared_sum(lambda beta, alpha, alpha_bar: beta.sqrt()),),
            "off by one step": (squared_sum(lambda beta, alpha, ab: (beta * ab[-1] * alpha / ab).sqrt()),),
            "The last step is left out": (
                squared_sum(lambda beta, alpha, ab: (beta * ab[-2] / ab)[:-1].sqrt()),
            ),
            "The steps are turned round": (squared_sum(lambda beta, alpha, alpha_bar: (beta * alpha_bar).sqrt()),),
            "the root of beta": (squared_sum(lambda beta, alpha, ab: beta * (ab[-1] / ab).sqrt()),),
            "the root of alpha": (squared_sum(lambda beta, alpha, ab: beta.sqrt() * ab[-1] / ab),),
            "a quotient of alpha_bar": (squared_sum(lambda beta, alpha, ab: (beta * alpha[-1] / alpha).sqrt()),),
            "times the right one": (lambda s: s.T,),
        },
    ),
}
