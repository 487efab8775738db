"""Checkers for the exercises of chapter 1, the overview of generative models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, number, present, word
from diffutils import datasets
from diffutils.device import make_generator
from diffutils.metrics import mode_coverage
from diffutils.models.vae import VAE
from diffutils.samplers import Ancestral
from diffutils.schedule import Schedule

Slope = Callable[[Tensor], float | Tensor]
DRAWS = (1, 10, 100, 1000)
# What luck may do to each: six standard deviations of the difference of two means over 500 points.
ROOMS = (0.3, 0.12, 0.05, 0.03)


@exercise("1.1")
def _slopes(slope_of_first_form: Slope, slope_of_non_saturating: Slope, times: float) -> str:
    for logit in (-1.0, 2.0, -8.0):
        fooled = 1 / (1 + math.exp(-logit))
        swapped = "This is the slope of the other form."
        compare(
            f"the slope of the first form at D = {logit:g}",
            call(slope_of_first_form, torch.tensor(logit, dtype=torch.float64)),
            -fooled,
            tolerance=1e-3,
            mistakes={
                "The sign of the first form's slope is turned: log(1 - sigma(D)) falls as D rises.": fooled,
                "This is the first form's slope in the probability sigma(D). The chain rule goes on to the "
                "logit D.": -1 / (1 - fooled),
                "This is the value of the first form, not its slope.": math.log(1 - fooled),
                f"{swapped} The first form has log(1 - sigma(D)).": fooled - 1,
                "This is the slope of sigma(D) alone. The logarithm has one too.": fooled * (1 - fooled),
            },
        )
        compare(
            f"the slope of -log sigma(D) at D = {logit:g}",
            call(slope_of_non_saturating, torch.tensor(logit, dtype=torch.float64)),
            fooled - 1,
            tolerance=1e-3,
            mistakes={
                "The sign of this slope is turned: -log sigma(D) falls as D rises.": 1 - fooled,
                "This is the slope of -log sigma(D) in the probability sigma(D). The chain rule goes on to the "
                "logit D.": -1 / fooled,
                "This is the value of -log sigma(D), not its slope.": -math.log(fooled),
                f"{swapped} This one has -log sigma(D).": -fooled,
            },
        )
    _check_factor(number("the factor at D = -8", times))
    return "Where the first form is flat, its rival has nearly its full slope, and the generator goes on learning."


def _check_factor(times: float) -> None:
    right = math.exp(8.0)
    for sentence, mistake in {
        "This is the factor the other way round: how many times as steep the first form is.": 1 / right,
        "Both slopes have one sign, so their quotient is positive.": -right,
        "This is the difference of the two. How many times as steep is a quotient.": math.tanh(4.0),
        "This is the logarithm of the factor.": 8.0,
    }.items():
        if abs(times / mistake - 1) < 0.01:
            raise NotYet(sentence)
    compare("the factor at D = -8", times, right, tolerance=0.01)


@exercise("1.2")
def _importance(
    bound_of: Callable[[Tensor], Tensor], bounds: Iterable[float], limit: str, vae: VAE, points: Tensor
) -> str:
    log_weights = 2 * torch.randn(7, 5, dtype=torch.float64, generator=make_generator(0)) - 3
    right = log_weights.logsumexp(0) - math.log(7)
    compare(
        "the bound of five points from seven draws each",
        call(bound_of, log_weights),
        right,
        mistakes={
            "This is the mean of the logarithms, which is the ELBO from seven draws. (1.7) takes the logarithm of a "
            "mean.": log_weights.mean(0),
            "The factor 1/k is missing: (1.7) takes a mean, not a sum.": log_weights.logsumexp(0),
            "The sign of log k is turned: a mean divides the sum by k.": log_weights.logsumexp(0) + math.log(7),
            "The logarithm of the mean is missing.": log_weights.exp().mean(0),
            "This is the largest weight alone.": log_weights.amax(0),
            "This is in bits. The natural logarithm gives nats.": right / math.log(2),
        },
    )
    far = torch.as_tensor(call(bound_of, log_weights - 2000)).detach().to("cpu", torch.float64)
    if not bool(far.isfinite().all()):
        raise NotYet(
            "The formula is right, and log weights near -2000 break it: their exponentials are 0 in floating point. "
            "Take the largest log weight out first, or let a function of torch do so."
        )
    if float((far - (right - 2000)).abs().max()) > 0.01:
        raise NotYet(
            "The formula is right for large weights. For log weights near -2000 something small was added, or a floor "
            f"was set: the bound here should be about {float(right.min()) - 2000:.0f}."
        )
    _check_bounds(bounds, vae, points)
    _check_limit(limit)
    return "The bound tightens around a fixed model, most of all with the first draws, and does not make it better."


def _check_bounds(bounds: Iterable[float], vae: VAE, points: Tensor) -> None:
    given = bounds.tolist() if isinstance(present(bounds), Tensor) else bounds
    four = list(given) if isinstance(given, Iterable) and not isinstance(given, Mapping) else []
    if len(four) != len(DRAWS):
        raise NotYet("Four numbers are asked for, the mean bound for k = 1, 10, 100 and 1000.")
    values = [number(f"the bound for k = {k}", value) for k, value in zip(DRAWS, four)]
    bound, points = present(vae).importance_bound, present(points)
    right = [float(bound(points, k, generator=make_generator(k, points.device)).mean()) for k in DRAWS]
    if _near(values, right):
        return
    for sentence, mistake in {
        "These are sums over the points. The mean is asked for.": [len(points) * value for value in right],
        "These are losses: the sign is turned.": [-value for value in right],
        "These are bounds in bits. The natural logarithm gives nats.": [value / math.log(2) for value in right],
        "These are bounds per coordinate. A point has two, and the density is that of both together.": [
            value / 2 for value in right
        ],
        "A sum in the place of the mean adds log 10 for every factor of 10.": [
            value + math.log(k) for value, k in zip(right, DRAWS)
        ],
        "These are the bounds from k = 1000 down to 1; the smallest k comes first.": right[::-1],
    }.items():
        if _near(values, mistake):
            raise NotYet(sentence)
    if all(abs(value - right[0]) < 0.15 for value in values[1:]):
        raise NotYet(
            "The four are nearly the same. Averaging more draws of the ELBO does not tighten it: k does, in (1.7)."
        )
    k, value, true = next((k, v, r) for k, v, r, room in zip(DRAWS, values, right, ROOMS) if abs(v - r) > room)
    raise NotYet(
        f"The bound for k = {k}: yours is {value:.3f}, and that of your VAE on these points is {true:.3f}, give or take "
        "a little. In log weights of your own: are log p(x | z), log p(z) and minus log q(z | x) all there?"
    )


def _near(values: list[float], others: list[float]) -> bool:
    """Whether two lists of bounds agree but for the luck of the draws, in units of the larger one."""
    scale = max(1.0, abs(others[-1]) / 10)
    return all(abs(value - other) <= scale * room for value, other, room in zip(values, others, ROOMS))


def _check_limit(limit: str) -> None:
    wrong = {
        "ELBO": "The ELBO is where the bound starts, at k = 1.",
        "log q(x)": "That is the data's own law, at about -0.75. More draws do not change the model, only what we "
        "know of it.",
        "0": "A log-density has no reason to stop at 0. What does (1.6) say the ELBO falls short of?",
    }
    given = word(limit.removeprefix("the ") if isinstance(limit, str) else limit, "log p(x)", *wrong)
    if given in wrong:
        raise NotYet(wrong[given])


@lru_cache
def _share_of_best_network(n: int = 10_000) -> float:
    mixture, schedule = datasets.grid_mixture(), Schedule.cosine(100)
    sampler = Ancestral(mixture.denoiser(schedule), schedule.respaced(10))
    return mode_coverage(sampler.sample((n, 2), generator=make_generator(0)), mixture).share_within


@exercise("1.3")
def _ten_calls(share_of_trained: float, share_of_best: float, cause: str) -> str:
    best = _share_of_best_network()
    for name, answer, low, high in (
        ("trained", share_of_trained, 0.68, 0.84),
        ("best possible", share_of_best, best - 0.035, best + 0.035),
    ):
        share = number(f"the share of the {name} network", answer, 0, 1)
        if share > high:
            raise NotYet(
                f"With the {name} network, {share:.3g} is a share for more than ten calls. Is the sampler's schedule "
                "the respaced one?"
            )
        if share < 0.3:
            raise NotYet(f"With the {name} network, {share:.3g} is about the share outside. That within is asked for.")
        if share < low:
            raise NotYet(
                f"With the {name} network, {share:.3g} is a share for fewer than ten calls, or for a denoiser with "
                "another schedule than the model's."
            )
    if word(cause, "network", "steps") == "network":
        raise NotYet("The best possible network has no fault, and with ten calls it gives hardly a larger share.")
    return "With ten calls even a perfect network loses as much: the large steps are to blame."
