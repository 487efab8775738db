"""Checkers for the exercises of chapter 10, fast sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, number, present, words
from diffutils.device import make_generator
from diffutils.schedule import Schedule

Step = Callable[[Tensor, int, int, Tensor, float, Tensor], Tensor]


@exercise("10.1")
def _noise_of_a_jump(noticing: Iterable[str], noise_of_jump: Callable[[Step], float]) -> str:
    chosen = words(noticing, "q(x_s | x_0)", "q(x_s)", "q(x_s | x_t, x_0)")
    if "q(x_s | x_0)" in chosen:
        raise NotYet("Equation (10.3) holds for every sigma, so one of your laws stays what it was.")
    if "q(x_s)" in chosen:
        raise NotYet("The law of x_s follows from that of x_0 and from q(x_s | x_0). Does the latter change?")
    if not chosen:
        raise NotYet("One of the laws notices: sigma is a standard deviation in it.")
    schedule, eta = Schedule.linear(1000), 0.5
    beta_tilde = schedule.transition(600, 200).beta_tilde
    found = torch.tensor(
        [
            number("the number of the right step", call(noise_of_jump, _ddim_step(schedule, 2))),
            number("the number of the faulty step", call(noise_of_jump, _ddim_step(schedule, 1))),
        ]
    )
    if abs(found[0] - found[1]) < 0.05 * found.abs().max():
        raise NotYet(
            f"The right and the faulty step give the same number, {float(found[0]):.3g}: it notices nothing. You "
            "named the law that notices. What stands behind its bar? Hold that fixed, let only the noise vary, and take "
            "an eta at which the two steps differ."
        )
    right = torch.tensor([eta**2, eta], dtype=torch.float64)
    compare(
        "the numbers of the right and of the faulty step",
        found,
        right,
        tolerance=0.1,
        mistakes={
            "This is a standard deviation; a variance is asked for.": right.sqrt(),
            "This variance is not yet in units of beta_tilde.": right * beta_tilde,
            "The unit is the beta_tilde of the jump from 600 to 200, not of the single step at 600.": right
            * beta_tilde
            / schedule.beta_tilde[600],
            "This is in units of eta^2 beta_tilde; beta_tilde alone is the unit.": right / eta**2,
            "The units are beta_tilde, a variance already: its root does not belong there.": right * beta_tilde**0.5,
        },
    )
    return "A step from one and the same x_t gives the fault away, where no law of x_s does, and hardly any picture."


def _ddim_step(schedule: Schedule, power: int) -> Step:
    """Return a step of DDIM whose noise has variance eta ** power times beta_tilde."""

    def step(x_t: Tensor, t: int, s: int, x0_hat: Tensor, eta: float, noise: Tensor) -> Tensor:
        now, before = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s])
        eps = (x_t - math.sqrt(now) * x0_hat) / math.sqrt(1 - now)
        sigma2 = eta**power * schedule.transition(t, s).beta_tilde
        return math.sqrt(before) * x0_hat + math.sqrt(1 - before - sigma2) * eps + math.sqrt(sigma2) * noise

    return step


@exercise("10.2")
def _between_two_addresses(
    variance_on_line: Callable[[float], float], stretched: Callable[[Tensor, Tensor, float], Tensor], farther: str
) -> str:
    a, b = torch.randn(2, 4, 3, dtype=torch.float64, generator=make_generator(0))
    for u in (0.2, 0.5, 0.9):
        variance = (1 - u) ** 2 + u**2
        compare(
            f"the variance at u = {u:g}",
            call(variance_on_line, u),
            variance,
            mistakes={
                "The weights of a and b add up to 1, but variances add with the squares of the weights.": 1.0,
                "This is a standard deviation; a variance is asked for.": math.sqrt(variance),
                "This is right in the middle only; u is an argument.": 0.5,
                "The variances of two independent parts add up, with no minus between them.": (1 - u) ** 2 - u**2,
            },
        )
    for u in (0.2, 0.5, 0.9):
        line, variance = (1 - u) * a + u * b, (1 - u) ** 2 + u**2
        compare(
            f"the stretched line at u = {u:g}",
            call(stretched, a, b, u),
            line / math.sqrt(variance),
            mistakes={
                "This is the line as it was.": line,
                "This divides by the standard deviation of one draw. The variance of the law is known: it depends on u "
                "alone.": line / line.std(),
                "This gives the line the length of a. The lengths of draws vary; the variance of the law is known, and "
                "it depends on u alone.": line / line.norm() * a.norm(),
                "The line is divided by its variance; what has variance 1 after that?": line / variance,
                "The line shrinks: the factor stands on the wrong side of the fraction.": line * math.sqrt(variance),
                "This is the arc. Keep the direction of the line and change its length.": (
                    math.cos(math.pi / 2 * u) * a + math.sin(math.pi / 2 * u) * b
                ),
            },
        )
    chosen = words(farther, "line", "arc")
    if chosen != {"line"}:
        raise NotYet("The two functions are right. Which of the two roads leaves the law of x_T? Measure again.")
    return "A network knows the x_T it was trained on, and those have variance 1: length counts, not the road."


@exercise("10.3")
def _heun_from_far(heun_factor: Callable[[float, float, float], float], too_far: float) -> str:
    for nu_t, nu_s, V in ((3.0, 1.0, 0.5), (0.8, 0.5, 2.0)):
        h, first, second = nu_t - nu_s, nu_t / (V + nu_t**2), nu_s / (V + nu_s**2)
        euler = 1 - h * first
        compare(
            f"the factor for nu_t = {nu_t:g}, nu_s = {nu_s:g}, V = {V:g}",
            call(heun_factor, nu_t, nu_s, V),
            _heun(nu_t, nu_s, V),
            mistakes={
                "This is Euler's factor: the slope at the end is not in it.": euler,
                "This is the exact factor of (10.7). Heun's method has only two slopes.": _exact(nu_t, nu_s, V),
                "The second slope belongs to the point that Euler's step has reached, not to the start.": (
                    1 - h / 2 * (first + second)
                ),
                "The two slopes are added; their mean is asked for.": 1 - h * (first + second * euler),
                "The step goes up: nu_s - nu_t is negative.": 1 + h / 2 * (first + second * (1 + h * first)),
                "The slope of (10.6) has V + nu^2 below, the whole variance of y, not nu^2.": _heun(nu_t, nu_s, 0.0),
            },
        )
    cosine = Schedule.cosine(1000)
    third, second, first = cosine.respaced(3).noise_levels[1:].tolist()
    five = cosine.respaced(5).noise_levels[-2:].tolist()
    wide = Schedule.linear(1000).respaced(3).noise_levels[-2:].tolist()
    ratio = _heun(first, second, 1.0) / _exact(first, second, 1.0)
    mine = number("how many times too far", too_far, 0)
    mistakes = {
        "This is the exact factor over Heun's; it is asked for the other way round.": 1 / ratio,
        "This is Heun's factor alone. How large should it have been?": _heun(first, second, 1.0),
        "This is the ratio for Euler's method, which does not mind the long step.": (
            (1 - (first - second) * first / (1 + first**2)) / _exact(first, second, 1.0)
        ),
        "This is the first of five steps. Heun's method pays two calls for each step but the last.": (
            _heun(five[1], five[0], 1.0) / _exact(five[1], five[0], 1.0)
        ),
        "This is the second step; the first one begins at T.": _heun(second, third, 1.0) / _exact(second, third, 1.0),
        "This is the first step of the linear schedule; the walk is over the cosine one.": (
            _heun(wide[1], wide[0], 1.0) / _exact(wide[1], wide[0], 1.0)
        ),
    }
    # The nearest, for two are less than 1 % apart; in shares, for they lie between a thousandth and a thousand.
    nearest = min(mistakes, key=lambda sentence: abs(mine / mistakes[sentence] - 1))
    if abs(mine / mistakes[nearest] - 1) < 0.02:
        raise NotYet(nearest)
    compare("how many times too far", mine, ratio, tolerance=0.02)
    return (
        "Half of the way is the first slope's, the second slope makes up for most of the rest, and the small part that "
        "is left is a part of 20,000."
    )


def _heun(nu_t: float, nu_s: float, V: float) -> float:
    """Return what a step of Heun's method multiplies y - m by, for data N(m, V)."""
    h, first = nu_t - nu_s, nu_t / (V + nu_t**2)
    return 1 - h / 2 * (first + nu_s / (V + nu_s**2) * (1 - h * first))


def _exact(nu_t: float, nu_s: float, V: float) -> float:
    return math.sqrt((V + nu_s**2) / (V + nu_t**2))


@exercise("10.4")
def _round_trip(
    step_up: Callable[[Tensor, Tensor, float, float], Tensor], errors: Sequence[float], order: int
) -> str:
    x_s, eps = torch.randn(2, 5, 2, dtype=torch.float64, generator=make_generator(0))
    for now, above in ((0.9, 0.7), (0.5, 0.04)):
        y_s, up = x_s / math.sqrt(now), math.sqrt(1 / above - 1) - math.sqrt(1 / now - 1)
        right = math.sqrt(above) * (y_s + up * eps)
        compare(
            f"the state at alpha_bar_t = {above:g} from {now:g}",
            call(step_up, x_s, eps, now, above),
            right,
            mistakes={
                "This is y_t; the state asked for is x_t, so a factor is missing.": y_s + up * eps,
                "The sign of the step is turned: on the way up the noise level grows.": (
                    math.sqrt(above) * (y_s - up * eps)
                ),
                "Here x_s is taken for y_s: divide it by its own root of alpha_bar first.": (
                    math.sqrt(above) * (x_s + up * eps)
                ),
                "The noise of t is added, but that of s is still in x_s.": (
                    math.sqrt(above) * y_s + math.sqrt(1 - above) * eps
                ),
                "This is the closed form with x_s in the place of x_0.": (
                    math.sqrt(above) * x_s + math.sqrt(1 - above) * eps
                ),
                "The two alpha_bar are exchanged.": math.sqrt(now) * (x_s / math.sqrt(above) - up * eps),
            },
        )
    if not isinstance(present(errors), (Sequence, Tensor)) or isinstance(errors, str) or len(errors) != 3:
        raise NotYet("Three errors are asked for, with 25, 50 and 100 steps.")
    few, some, many = (number("an error of the round trip", error, 0, 1) for error in errors)
    if not few > some > many:
        raise NotYet("More steps must bring the digits closer to where they began, and your errors do not fall.")
    if few < 0.005:  # ten models give 0.047 to 0.050
        raise NotYet("Your errors are as small as mean squares; their roots are asked for.")
    for steps, before, after in ((25, few, some), (50, some, many)):
        # Ten models give 1.83 to 1.87, short trainings 1.9; the digits clipped on the way down 1.6 to 1.7, and so does
        # the network asked one time too high.
        if not 1.75 < before / after < 2.1:
            raise NotYet(
                f"From {steps} to {2 * steps} steps your error is divided by {before / after:.3g}, which is not what "
                "our model does. Ask for the noise at the end where you stand, do not clip, and go down by the DDIM of "
                "the chapter."
            )
    number("the error with 25 steps", few, 0.02, 0.12)
    if number("the order", order) != 1:
        raise NotYet("The errors are right. An order p divides the error by 2^p when the steps are doubled.")
    return "Up and down, Euler's method errs like h^2 in each step, and there are 1/h of them."
