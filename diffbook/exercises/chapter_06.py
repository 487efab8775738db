"""Checkers for the exercises of chapter 6, flows in depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, number, present, words
from diffutils.datasets import grid_mixture
from diffutils.device import make_generator


@exercise("6.1")
def _price_on_the_grid(mean_area: Callable[[float], float], price: float) -> str:
    for sigma in (0.05, 0.3):
        one = 2 * math.pi * sigma**2
        compare(
            f"the mean area at sigma = {sigma:g}",
            call(mean_area, sigma),
            25 * one,
            mistakes={
                "This is the area around one mode. A(x) counts all points of the plane that are denser than x, and "
                "the other modes have some too.": one,
                "The mean of r squared has a part from each of the two coordinates.": 25 * one / 2,
                "This squares the mean of r. What the area needs is the mean of r squared.": 25 * one * math.pi / 4,
                "Areas grow with the square of sigma.": 25 * one / sigma,
            },
        )
    variance = float(grid_mixture().covariances[0, 0, 0])
    compare(
        "the price",
        price,
        0.0,
        tolerance=1e-2,
        mistakes={
            "Knowing which of the 25 modes a point is from is worth log 25 nats. The entropy has to count "
            "that.": math.log(25),
            "This is the floor of one mode. The mean area of the grid is larger, and the floor goes with its "
            "logarithm.": -math.log(25),
            "This is the floor, or the entropy. The price is what one has above the other.": 1
            + math.log(50 * math.pi * variance),
            "This is the price without scaling. The second bound of (6.5) is lower.": 25 * variance
            - math.log(25 * variance)
            - 1,
        },
    )
    return "All modes are equally dense, so one volume factor serves them all, and NICE's floor is the entropy itself."


@exercise("6.2")
def _turned_sign(mass: Callable[[float, int], float], noticed: Iterable[str]) -> str:
    for scale, dim in ((1.5, 3), (0.5, 2), (2.0, 1)):
        compare(
            f"the mass at scale = {scale:g}, dim = {dim}",
            call(mass, scale, dim),
            scale ** (-2 * dim),
            mistakes={
                "This is the mass with the right sign.": 1.0,
                "This is upside down: dividing by |det J| makes a density smaller where the map stretches.": scale
                ** (2 * dim),
                "This is the factor that stands before the noise's density. The integral of that density over x is "
                "not 1 either.": scale**-dim,
                "This is |det J|. The turned density carries one over it, and the integral of the noise's density over "
                "x is one over it again.": scale**dim,
                "A determinant has a factor for each of the dim coordinates.": scale**-2,
            },
        )
    given = words(noticed, "round trip", "mass", "training loss")
    if "round trip" in given:
        raise NotYet(
            "The mass is right. The round trip uses the map and its inverse, and neither reads the log-determinant."
        )
    if "training loss" in given:
        raise NotYet(
            "The mass is right. Training now rewards a map that shrinks volume: what does its loss do, and does that "
            "look like a failure?"
        )
    if "mass" not in given:
        raise NotYet("You have just computed the number that notices.")
    return "Only the mass notices: the map still inverts, and the loss looks better than ever."


@exercise("6.3")
def _thread(share: Callable[[Tensor, Tensor], Tensor | float], steepness: float) -> str:
    normal = torch.distributions.Normal(0.0, 1.0)
    for width, slope in ((1.0, 0.5), (0.6, 1.0)):
        half = torch.tensor(width / (2 * slope), dtype=torch.float64)
        right = torch.erf(half / math.sqrt(2))
        compare(
            f"the share at width = {width:g}, slope = {slope:g}",
            call(share, torch.tensor(width, dtype=torch.float64), torch.tensor(slope, dtype=torch.float64)),
            right,
            tolerance=1e-5,
            mistakes={
                "This is the rough value. It holds when the interval is short, and the function is asked to hold "
                "always.": 0.4 * width / slope,
                "This takes the density at z = 0 for the whole interval, but it falls to both sides. Ask the "
                "distribution function.": width / slope / math.sqrt(2 * math.pi),
                "This is one half of the interval. It lies on both sides of 0.": right / 2,
                "This counts everything to the left of the interval's right end.": 0.5 + right / 2,
                "This is what lies outside the interval.": 1 - right,
                "This interval is twice as long: all of it has the length width / slope, so each half has half of "
                "that.": torch.erf(2 * half / math.sqrt(2)),
                "The error function belongs to a normal law of variance 1/2, and the noise has variance "
                "1.": torch.erf(half),
                "The slope is that of the map from z to x. A steeper map needs less noise to cross the gap, not "
                "more.": torch.erf(torch.tensor(width * slope / math.sqrt(8))),
            },
        )
    right = 0.5 / float(normal.icdf(torch.tensor(0.5005, dtype=torch.float64)))
    compare(
        "the steepness",
        steepness,
        right,
        tolerance=5e-3,
        mistakes={
            "This is half of it: the thousandth lies on both sides of z = 0, half of it on each.": right / 2,
            "This is twice as much: the gap's piece of noise has one half on each side of z = 0, not the whole on "
            "each.": 2 * right,
            "This would be so for noise that is uniform on a unit interval. The normal density at 0 is lower.": 1000.0,
            "This is one over the answer: the inverse map's slope is asked for, and it must be steep.": 1 / right,
        },
    )
    return "A thread ten times as thin needs a map ten times as steep, and no finite slope leaves the gap empty."


@exercise("6.4")
def _linear_flow(best_nll: Callable[[Tensor], float], trained_nll: float, data: Tensor) -> str:
    root = torch.randn(3, 3, dtype=torch.float64, generator=make_generator(0))
    for covariance in (torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64), root @ root.T + torch.eye(3)):
        dim, right = len(covariance), _gaussian_entropy(covariance)
        compare(
            f"the NLL in {dim} dimensions",
            call(best_nll, covariance),
            right,
            mistakes={
                "This is twice as much: a normal density has the square root of the determinant.": 2 * right,
                "This is the NLL at the mean. The exponent adds one half per dimension on average.": right - dim / 2,
                "The factor 2 pi e stands before each of the dim axes, not once before the determinant.": right
                - 0.5 * (dim - 1) * math.log(2 * math.pi * math.e),
                "This is the NLL of independent coordinates. The linear layers can turn the axes.": _gaussian_entropy(
                    torch.diag(covariance.diagonal())
                ),
                "This is per dimension. The NLL of a whole point is asked for.": right / dim,
                "Each dimension adds log(2 pi e) / 2, and two are counted here.": (
                    right - (dim - 2) / 2 * math.log(2 * math.pi * math.e)
                ),
                "The sign before the log-determinant is turned: wider data cost more.": (
                    dim * math.log(2 * math.pi * math.e) - right
                ),
                "This is in bits. The NLL is asked for in nats.": right / math.log(2),
                "This is the log-likelihood. The NLL has the other sign.": -right,
            },
        )
    found = number("the trained NLL", trained_nll)
    points = torch.as_tensor(present(data)).detach().to("cpu", torch.float64)
    best = _gaussian_entropy(torch.cov(points.T))
    excess = found - best
    if abs(found + best) < 0.03:
        raise NotYet("This is the mean log-likelihood of your flow. The NLL has the other sign.")
    if excess < -0.03:
        raise NotYet(
            f"The formula is right, and the trained NLL lies {-excess:.2f} nats below it on these data. An affine flow "
            "cannot: something in your Glow still bends."
        )
    if excess > 0.03:
        raise NotYet(
            f"The formula is right, and the trained NLL lies {excess:.2f} nats above it on these data. Train longer, "
            "and give the mean over the data in nats per point."
        )
    return "Without its couplings Glow is one Gaussian, and training finds the one with the data's own covariance."


def _gaussian_entropy(covariance: Tensor) -> float:
    """The entropy of a Gaussian (nats): what it costs on data that have its mean and covariance."""
    return 0.5 * float(torch.logdet(2 * math.pi * math.e * covariance))
