"""Checkers for the exercises of chapter 11, the schedule doctor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, number, present, words
from diffutils.device import make_generator
from diffutils.doctor import Moments, reference_law
from diffutils.schedule import Schedule


@exercise("11.1")
def _squares_of_the_ends(start: float, samples: str, mended: Tensor) -> str:
    slip = Schedule(torch.linspace(1e-4**2, 0.02**2, 200, dtype=torch.float64) ** 2)
    roots = torch.linspace(1e-4**0.5, 0.02**0.5, 200, dtype=torch.float64)
    law, left = reference_law(), float(slip.alpha_bar[-1])
    right = law.kl_to_standard_normal(left)
    compare(
        "the price of the start in nats",
        start,
        right,
        tolerance=0.01,
        mistakes={
            "This is L_T, and most of it is memory, which costs a sampler nothing.": -0.5 * math.log(1 - left),
            "This is what x_T remembers; the price of the start is the other part of L_T.": (
                -0.5 * math.log(1 - left) - right
            ),
            "This is in bits; nats are asked for.": right / math.log(2),
            "This is the price of the schedule that was wanted, not of the one that was written.": (
                law.kl_to_standard_normal(float((1 - roots**2).prod()))
            ),
        },
    )
    if words(samples, "like the data", "like noise", "a single point") != {"like noise"}:
        raise NotYet("The price is right. Where does the sampler start, and how far do 200 such short steps lead?")
    compare(
        "the betas that were wanted",
        mended,
        roots**2,
        mistakes={
            "These are the betas of the slip.": slip.beta[1:],
            "These are evenly spaced betas; the schedule that was wanted is quadratic.": (
                torch.linspace(1e-4, 0.02, 200, dtype=torch.float64)
            ),
            "These are the evenly spaced numbers; the betas are their squares.": roots,
        },
    )
    return "The loss falls all the same, for the network learns what it is shown."


@exercise("11.2")
def _steps_for_an_honest_start(as_they_are: int, centred: int, digits: Moments) -> str:
    around_zero = Moments(0.0, present(digits).spread)
    for name, answer, moments, other in (
        ("as they are", as_they_are, digits, around_zero),
        ("centred", centred, around_zero, digits),
    ):
        given, right = number(f"the steps for the digits {name}", answer, 1), _least(_start, moments, 1e-5)
        if abs(given - right) <= 20:
            continue
        for sentence, mistake in {
            "This is the answer for the other digits.": _least(_start, other, 1e-5),
            "There L_T is small enough; what is remembered does a sampler no harm.": _least(_bound, moments, 1e-5),
            "There the bound is twice what an honest start costs: (11.3) has a 2 in it.": _least(_start, moments, 2e-5),
        }.items():
            if abs(given - mistake) <= 20:
                raise NotYet(f"The digits {name}: {given:.0f} steps are not right. {sentence}")
        price = _start(moments, _alpha_bar(round(given)))
        verdict = "that is not honest" if price > 1e-5 else "by the lower bound fewer steps will do"
        raise NotYet(f"The digits {name}: with {given:.0f} steps the start costs at least {price:.2g} nats; {verdict}.")
    return "Without the mean the bound falls like the square of alpha_bar_T, so it asks for half of the steps only."


def _alpha_bar(T: int) -> float:
    return float(Schedule.linear(T, 1e-4, 0.02).alpha_bar[-1])


def _start(moments: Moments, alpha_bar: float) -> float:
    """Return KL(N(m, C) || N(0, I)) after noising, for the Gaussian with these moments."""
    change = alpha_bar * (moments.spread - 1)
    return 0.5 * float((change - torch.log1p(change)).sum()) + 0.5 * alpha_bar * moments.mean_square


def _bound(moments: Moments, alpha_bar: float) -> float:
    """Return L_T, in nats per example."""
    excess = alpha_bar * (moments.spread.sum() + moments.mean_square - len(moments.spread))
    return 0.5 * float(excess - len(moments.spread) * math.log1p(-alpha_bar))


def _least(price: Callable[[Moments, float], float], moments: Moments, most: float) -> int:
    """Return the least T at which the price is at most this."""
    low, high = 1, 8192
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if price(moments, _alpha_bar(middle)) > most else (low, middle)
    return high


@exercise("11.3")
def _size_of_the_image(prices: Sequence[float], same_hiding: Callable[[float, int], float], images: Tensor) -> str:
    if not isinstance(present(prices), (Sequence, Tensor)) or isinstance(prices, str) or len(prices) != 3:
        raise NotYet("Three prices are asked for: of the images as they are, at half and at a quarter of the side.")
    alpha_bar = float(Schedule.linear(1000).alpha_bar[-1])
    shrunk = [torch.nn.functional.avg_pool2d(present(images), factor) for factor in (1, 2, 4)]
    found = [_prices(small, alpha_bar) for small in shrunk]
    for index in (2, 1, 0):
        side, (right, bound) = shrunk[index].shape[-1], found[index]
        thinned = images[..., :: 2**index, :: 2**index]
        compare(
            f"the price in nats at side {side}",
            prices[index],
            right,
            tolerance=0.01,
            mistakes={
                "The prices stand in the wrong order: the largest image comes first.": found[2 - index][0],
                "This is L_T; the price of the start is a part of it.": bound,
                "This is the price per pixel; that of the whole image is asked for.": right / side**2,
                "This is the price of an image that keeps one pixel of each square, nearly the large one's over the "
                "number of pixels in a square; average the squares.": (
                    _prices(thinned, alpha_bar)[0] if index else right
                ),
            },
        )
    for level, k in ((0.5, 2), (0.9, 3), (0.01, 4)):
        compare(
            f"the result for alpha_bar = {level:g} and k = {k}",
            call(same_hiding, level, k),
            level / (level + k**2 * (1 - level)),
            mistakes={
                "Each number stands there k^2 times, not k times.": level / (level + k * (1 - level)),
                "The large image would be easier to see: it needs more noise, not less.": (
                    k**2 * level / (k**2 * level + 1 - level)
                ),
                "It is the signal-to-noise ratio that falls by k^2. Turn it back into alpha_bar.": level / k**2,
                "This is a signal-to-noise ratio; turn it into alpha_bar.": level / (1 - level) / k**2,
            },
        )
    return "A large image says the same thing many times, so it takes more noise to drown it."


def _prices(images: Tensor, alpha_bar: float) -> tuple[float, float]:
    """Return the Gaussian's price of the start and L_T, both in nats."""
    flat = images.flatten(1).double().cpu()
    mean, covariance, eye = flat.mean(0), torch.cov(flat.T), torch.eye(flat.shape[1], dtype=torch.float64)
    moved = 0.5 * alpha_bar * float(mean.square().sum() + covariance.trace() - len(mean))
    root = torch.linalg.cholesky((1 - alpha_bar) * eye + alpha_bar * covariance)
    return moved - float(root.diagonal().log().sum()), moved - 0.5 * len(mean) * math.log1p(-alpha_bar)


@exercise("11.4")
def _twins(difference: float, v_from_x0: Callable[[Tensor, Tensor, float], Tensor], able: Iterable[str]) -> str:
    if abs(number("the largest difference", difference)) > 1e-3:
        raise NotYet("The samples differ by more than rounding. Give both walks a fresh generator of one seed.")
    x_t, x0 = torch.randn(2, 4, 3, dtype=torch.float64, generator=make_generator(0))
    for level in (0.3, 0.0):
        a, s = math.sqrt(level), math.sqrt(1 - level)
        right = (a * x_t - x0) / s
        compare(
            f"the guess of v at alpha_bar = {level:g}",
            call(v_from_x0, x_t, x0, level),
            right,
            mistakes={
                "The sign is turned: v has plus the noise and minus the data in it.": -right,
                "This is the noise; v is made of it and of x_0.": (x_t - a * x0) / s,
                "The factors are exchanged: in v, that of x_0 in x_t stands at the noise.": x_t - 2 * a * x0,
                "A division is missing: all of it is divided by the standard deviation of the noise.": a * x_t - x0,
                "That is divided by the variance of the noise; its standard deviation belongs there.": right / s,
            },
        )
    chosen = words(able, "eps", "x0", "score", "v")
    if chosen & {"eps", "score"}:
        raise NotYet("At alpha_bar = 0 the state is the noise itself: what does a guess of it say about the data?")
    if "x0" not in chosen:
        raise NotYet("A guess of x_0 is one of the four. Does any formula have to be applied to it?")
    if "v" not in chosen:
        raise NotYet("Your function is right. Put alpha_bar = 0 into it: what is v then?")
    return "Both say the same thing; what differs is how well a network learns them."
