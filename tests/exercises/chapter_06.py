"""Right and wrong answers to the exercises of chapter 6."""

import math

import torch

from diffutils.device import make_generator
from exercises import Answers

LOG_25 = math.log(25)
FREE = 25 * 0.004975124262273312  # 25 variances of a mode of the grid
NORMAL = torch.distributions.Normal(0.0, 1.0)
STEEP = 0.5 / float(NORMAL.icdf(torch.tensor(0.5005, dtype=torch.float64)))
DATA = torch.randn(4000, 2, generator=make_generator(1)) @ torch.tensor([[1.0, 0.5], [0.0, 0.7]])
TRAINED = 0.5 * float(torch.logdet(2 * math.pi * math.e * torch.cov(DATA.T)))


def area(factor):
    return lambda sigma: factor * math.pi * sigma**2


def share(width, slope):
    return math.erf(width / slope / math.sqrt(8))


def best(covariance):
    return torch.distributions.MultivariateNormal(torch.zeros(len(covariance)).double(), covariance).entropy()


def thread(function):
    return (function, STEEP)


def linear(function):
    return (function, TRAINED, DATA)


ANSWERS = {
    "6.1": Answers(
        right=[(area(50), 0), (lambda sigma: torch.tensor(50 * math.pi) * sigma**2, -0.001)],
        wrong={
            "the area around one mode": (area(2), 0),
            "each of the two coordinates": (area(25), 0),
            "squares the mean of r": (area(12.5 * math.pi), 0),
            "square of sigma": (lambda sigma: 50 * math.pi * sigma, 0),
            "at sigma = 0.05: yours is": (area(3), 0),
            "A function is asked for": (50 * math.pi * 0.07**2, 0),
            "worth log 25 nats": (area(50), LOG_25),
            "the floor of one mode": (area(50), -LOG_25),
            "the floor, or the entropy": (area(50), 0.7534),
            "without scaling": (area(50), FREE - math.log(FREE) - 1),
            "The price: yours is 1, off by 1": (area(50), 1.0),
        },
    ),
    "6.2": Answers(
        right=[
            (lambda scale, dim: scale ** (-2 * dim), {"mass"}),
            (lambda scale, dim: math.exp(-2 * dim * math.log(scale)), "mass"),
        ],
        wrong={
            "with the right sign": (lambda scale, dim: 1.0, "mass"),
            "This is upside down": (lambda scale, dim: scale ** (2 * dim), "mass"),
            "before the noise's density": (lambda scale, dim: scale**-dim, "mass"),
            r"This is \|det J\|. The turned": (lambda scale, dim: scale**dim, "mass"),
            "each of the dim coordinates": (lambda scale, dim: scale**-2, "mass"),
            "neither reads the log-determinant": (lambda scale, dim: scale ** (-2 * dim), {"mass", "round trip"}),
            "look like a failure": (lambda scale, dim: scale ** (-2 * dim), ["training loss", "mass"]),
            "the number that notices": (lambda scale, dim: scale ** (-2 * dim), set()),
            "'volume' is another": (lambda scale, dim: scale ** (-2 * dim), {"mass", "volume"}),
        },
    ),
    "6.3": Answers(
        right=[
            (share, STEEP),
            (lambda width, slope: 2 * NORMAL.cdf(width / slope / 2) - 1, 0.4 / 0.001),
            (lambda width, slope: torch.erf(width / slope / math.sqrt(8)), 399),
        ],
        wrong={
            "the rough value": thread(lambda width, slope: 0.4 * width / slope),
            "falls to both sides": thread(lambda width, slope: width / slope / math.sqrt(2 * math.pi)),
            "one half of the interval": thread(lambda width, slope: share(width, slope) / 2),
            "to the left of the interval's right end": thread(lambda width, slope: 0.5 + share(width, slope) / 2),
            "outside the interval": thread(lambda width, slope: 1 - share(width, slope)),
            "twice as long": thread(lambda width, slope: share(2 * width, slope)),
            "of variance 1/2": thread(lambda width, slope: math.erf(width / slope / 2)),
            "needs less noise": thread(lambda width, slope: share(width * slope, 1)),
            "half of it on each": (share, STEEP / 2),
            "not the whole on each": (share, 2 * STEEP),
            "uniform on a unit interval": (share, 1000),
            "one over the answer": (share, 1 / STEEP),
            "The steepness: yours is 350": (share, 350.0),
        },
    ),
    "6.4": Answers(
        right=[linear(best), (lambda covariance: float(best(covariance)), TRAINED + 0.01, DATA)],
        wrong={
            "square root of the determinant": linear(lambda covariance: 2 * best(covariance)),
            "the NLL at the mean": linear(lambda covariance: 0.5 * torch.logdet(2 * math.pi * covariance)),
            "not once before the determinant": linear(
                lambda covariance: 0.5 * (torch.logdet(covariance) + math.log(2 * math.pi * math.e))
            ),
            "independent coordinates": linear(lambda covariance: best(torch.diag(covariance.diag()))),
            "two are counted here": linear(
                lambda covariance: 0.5 * torch.logdet(covariance) + math.log(2 * math.pi * math.e)
            ),
            "sign before the log-determinant": linear(
                lambda covariance: len(covariance) * math.log(2 * math.pi * math.e) - best(covariance)
            ),
            "This is per dimension": linear(lambda covariance: best(covariance) / len(covariance)),
            "in bits": linear(lambda covariance: best(covariance) / math.log(2)),
            "the other sign": linear(lambda covariance: -best(covariance)),
            r"a number is asked for": (best, "low", DATA),
            r"0\.10 nats below .* An affine flow cannot": (best, TRAINED - 0.1, DATA),
            "mean log-likelihood of your flow": (best, -TRAINED, DATA),
            r"0\.20 nats above": (best, TRAINED + 0.2, DATA),
        },
    ),
}
