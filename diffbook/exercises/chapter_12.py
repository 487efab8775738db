"""Checkers for the exercises of chapter 12, the bug museum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from diffbook import museum
from diffbook.exercises.answers import NotYet, call, compare, exercise, number, present, words
from diffbook.faults import Fault
from diffutils.device import make_generator
from diffutils.schedule import Schedule

Loss = Callable[[Tensor, Tensor], Tensor]
RESPACED = "diffutils.schedule.Schedule.respaced"


@exercise("12.1")
def _noise_in_the_last_step(statistic: float, difference: Callable[[float, str], float]) -> str:
    measured = number("the statistic with beta_tilde", statistic)
    if measured != 0:
        raise NotYet(
            f"The statistic is not {measured:.3g}. Look whether the sampler has the variance beta_tilde while the "
            "noise in the last step is switched on."
        )
    for beta_1 in (1e-4, 0.04):
        right = math.sqrt(2 * beta_1)
        compare(
            f"the difference for beta_1 = {beta_1:g} and the variance beta",
            call(difference, beta_1, "beta"),
            right,
            mistakes={
                "This is the noise of one step. The other step has noise too, and it is another.": math.sqrt(beta_1),
                "This is the mean square; its root is asked for.": 2 * beta_1,
                "Two independent noises meet: their variances add up, not their standard deviations.": (
                    2 * math.sqrt(beta_1)
                ),
                "This is the right code's difference; the bug is switched on here.": 0.0,
            },
        )
        compare(
            f"the difference for beta_1 = {beta_1:g} and the variance beta_tilde",
            call(difference, beta_1, "beta_tilde"),
            0.0,
            mistakes={
                "The tilde makes a difference at t = 1: put alpha_bar_0 into the formula of beta_tilde.": right,
            },
        )
    return "A test of the last step needs the variance whose first entry is not 0 anyway."


@exercise("12.2")
def _leading_times(fault: Fault, statistic: Callable[[], float]) -> str:
    if not isinstance(present(fault), Fault):
        raise NotYet(f"A Fault is asked for, and this is of type {type(fault).__name__}.")
    if fault.target != RESPACED:
        raise NotYet(f"The function to edit is {RESPACED}, and yours is {fault.target}.")
    try:
        fault.diff()
        with fault.planted():
            pass
    except ValueError:
        raise NotYet(
            "This edit cannot be made. The old words must occur once in the body of the function, letter for letter, "
            "and with the new ones it must be Python that does something else."
        ) from None
    with fault.planted():
        for T, steps in ((1000, 5), (100, 10)):
            _look_at_leading(T, steps)
    without = number("the statistic without the bug", call(statistic))
    with fault.planted():
        planted = number("the statistic with the bug", call(statistic))
    if abs(without) > 1e-9:
        raise NotYet(f"The fault is right. On the right code the statistic must be 0, and yours is {without:.3g}.")
    if planted < -1e-9:
        raise NotYet("The fault is right. The statistic is negative with the bug, and a distance has no sign.")
    if abs(planted) < 0.01:
        raise NotYet(
            f"The fault is right, but the statistic does not notice it: with the bug it is {planted:.3g}. Is the "
            "schedule made inside the function, and does the number depend on where it ends? A ratio of two small "
            "numbers says more than their difference."
        )
    return "A sampler that starts from pure noise there starts at a time that expects some signal."


def _look_at_leading(T: int, steps: int) -> None:
    """Raise ``NotYet`` unless a short schedule, made with the fault planted, has the leading times and their states."""
    long = Schedule.linear(T)
    try:
        short = long.respaced(steps)
    except IndexError as error:
        if "used as indices" in str(error):
            raise NotYet("Times are whole numbers, and / makes floats of them: write // in r = T / steps.") from None
        raise NotYet(f"With {steps} steps of {T}, one of the times lies beyond {T}: k = 0 must stay time 0.") from None
    times = short.timesteps[1:].tolist()
    if times[-1] == T:
        raise NotYet(f"With {steps} steps of {T} the last time is still {T}, and the bug is that it is not.")
    if times != list(range(1, T, T // steps)):
        listed = ", ".join(map(str, times))
        raise NotYet(f"{steps} steps of {T}: the times should be 1, {1 + T // steps}, ...; yours are {listed}.")
    if not torch.allclose(short.alpha_bar[1:], long.alpha_bar[times], rtol=1e-9, atol=0):
        raise NotYet("Only the labels of the times have moved. The states must be those of the earlier times too.")
    if bool((short.beta[1:] <= 0).any() or (short.beta[1:] >= 1).any()):
        raise NotYet("The first beta is not between 0 and 1: k = 0 must stay time 0, and a negative index is not.")


@exercise("12.3")
def _stretched_noise(seeing: Iterable[int], fourth_moment: float, statistic: Callable[[Tensor], float]) -> str:
    known = {"5": "no-root", "8": "eta", "9": "uniform"}
    several = isinstance(present(seeing), Iterable) and not isinstance(seeing, str)
    chosen = words({str(one) for one in seeing} if several else {str(seeing)}, *known)
    replaced = "torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype)"
    uniform = replaced.replace("randn", "rand")
    mended = Fault("mended", "diffutils.process.draw_noise", replaced, f"12**0.5 * ({uniform} - 0.5)")
    with mended.planted():
        exhibits = {place: museum.exhibits[name] for place, name in known.items()}
        sees = {place for place, exhibit in exhibits.items() if exhibit.statistic(0) > exhibit.bound}
    for place in known:
        if (place in chosen) != (place in sees):
            raise NotYet(f"Look at statistic {place} again: which moment of the noise is it made of?")
    compare(
        "the fourth moment",
        fourth_moment,
        12**2 / 5 / 2**4,
        tolerance=0.01,
        mistakes={
            "This is the fourth moment of Gaussian noise.": 3.0,
            "This belongs to noise between -1 and 1, whose variance is 1/3.": 1 / 5,
            "This belongs to noise between -1/2 and 1/2, whose variance is 1/12.": 1 / 80,
            "This is the fourth moment minus 3, the excess.": 12**2 / 5 / 2**4 - 3,
        },
    )
    gauss, stretched = [], []
    for seed in range(3):
        gauss.append(number("a statistic", call(statistic, torch.randn(100_000, generator=make_generator(seed)))))
        draw = torch.rand(100_000, generator=make_generator(seed))
        stretched.append(number("a statistic", call(statistic, 12**0.5 * (draw - 0.5))))
    if max(gauss) >= 5:
        raise NotYet(f"For Gaussian noise the statistic must stay below 5; yours is {max(gauss):.3g}.")
    if max(stretched) < -5:
        raise NotYet("The statistic is negative for the mended noise: a distance has no sign.")
    if min(stretched) <= 5 and min(stretched) > 5 * max(map(abs, gauss)):
        raise NotYet("The statistic tells the two apart, but 5 of what? Divide it by how much it varies over sets.")
    if min(stretched) <= 5:
        raise NotYet(
            f"The statistic does not see the mended noise: it is {min(stretched):.3g} there and {max(gauss):.3g} for "
            "Gaussian noise. Mean and variance are the same; what else differs?"
        )
    return "A law is more than its first two moments, and a statistic sees only what it is made of."


@exercise("12.4")
def _mean_of_single_losses(gap: Callable[[Loss, Tensor, Tensor], float], silent: Iterable[str]) -> str:
    drawn = torch.randn(8, 2, dtype=torch.float64, generator=make_generator(1)).square()
    rising = torch.arange(1.0, 9.0, dtype=torch.float64)[:, None]
    order = drawn.mean(1).argsort()
    for errors in (drawn[order], drawn[order.flip(0)]):
        batch = float(_broadcast_loss(rising, errors))
        single = [float(_broadcast_loss(rising[i : i + 1], errors[i : i + 1])) for i in range(8)]
        pairs = [float(_broadcast_loss(rising[i : i + 2], errors[i : i + 2])) for i in range(0, 8, 2)]
        right = abs(batch - sum(single) / 8)
        compare(
            "the gap of a loss with the bug",
            call(gap, _broadcast_loss, rising, errors),
            right,
            mistakes={
                "The gap is a distance, and yours has a sign.": -right,
                "These are single losses added up; their mean is asked for.": abs(batch - sum(single)),
                "This is a share of the loss; the difference itself is asked for.": right * 8 / sum(single),
                "This is a square; the difference itself is asked for.": right**2,
                "Your smaller batches have two examples, and the bug acts in them.": abs(batch - sum(pairs) / 4),
            },
        )
        for loss in (_right_loss, _right_loss_of_squares):
            if abs(number("the gap of a right loss", call(gap, loss, rising, errors))) > 1e-9:
                raise NotYet("For a loss without the bug the gap must be 0. Make it of the loss that is given.")
    chosen = words(silent, "a batch of one", "equal weights", "equal errors", "weights of mean 1")
    if "weights of mean 1" in chosen:
        raise NotYet("The gap is right. Weights of mean 1 may still stand beside large or beside small errors.")
    for word, why in (
        ("a batch of one", "The gap is right. Which product do the shapes (1, 1) and (1,) give?"),
        ("equal weights", "The gap is right. Whose weight an error gets: when does that not matter?"),
        ("equal errors", "The gap is right. Whose error a weight meets: when does that not matter?"),
    ):
        if word not in chosen:
            raise NotYet(why)
    return "What the bug loses is the covariance of weights and errors, so a test must give it one."


def _right_loss(weights: Tensor, errors: Tensor) -> Tensor:
    return (weights * errors).mean()


def _right_loss_of_squares(weights: Tensor, errors: Tensor) -> Tensor:
    return (weights * errors.square()).mean()


def _broadcast_loss(weights: Tensor, errors: Tensor) -> Tensor:
    if weights.ndim != 2 or errors.ndim != 2:
        raise NotYet("A batch of one keeps its shape, (1, 1) and (1, d): cut it out with [i : i + 1].")
    return (weights * errors.mean(dim=1)).mean()
