"""Right and wrong answers to the exercises of chapter 4."""

import math

import torch

from diffutils.process import convert
from diffutils.schedule import Schedule
from exercises import Answers


def product_of_alphas(schedule, first, last):
    return math.prod(float(a) for a in schedule.alpha[first : last + 1])


def jump(schedule, s, t):
    kept = product_of_alphas(schedule, s + 1, t)
    return torch.tensor([kept**0.5, 1 - kept], dtype=torch.float64)


def jump_with(factor=None, variance=None):
    """The right jump with another factor or another variance, functions of the schedule's tables, s and t."""

    def answer(schedule, s, t):
        right = jump(schedule, s, t)
        tables = schedule.alpha_bar, schedule.beta, s, t
        return factor(*tables) if factor else right[0], variance(*tables) if variance else right[1]

    return (answer,)


def draws_by_torch(a, b, tau2, bar):
    return torch.stack([a + b * torch.sqrt(bar), b**2 * (1 - bar) + tau2])


def factors_by_torch(alpha_bar):
    signal, spread = torch.sqrt(alpha_bar), torch.sqrt(1 - alpha_bar)
    return signal, -spread, -signal / spread


def two_draws(factor=lambda a, b, bar: a + b * bar**0.5, variance=lambda a, b, tau2, bar: b * b * (1 - bar) + tau2):
    return lambda a, b, tau2, bar: (factor(a, b, bar), variance(a, b, tau2, bar))


def with_times(t_factor, t_variance):
    return two_draws(), t_factor, t_variance


def with_variance(variance):
    return two_draws(variance=variance), 313, 1000


def factors(place=None, value=None):
    """The right factors, or one of them replaced by a function of sqrt(alpha_bar) and sqrt(1 - alpha_bar)."""

    def answer(alpha_bar):
        a, s = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        result = [a, -s, -a / s]
        if place is not None:
            result[place] = value(a, s)
        return result

    return answer


def factors_by_conversion(alpha_bar):
    """Convert two values of v at one x_t and take the difference."""
    schedule, x_t = Schedule.constant(1, 1 - alpha_bar), torch.zeros(2, 1, dtype=torch.float64)
    v = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    return [float(convert(schedule, v, x_t, 1, "v", name).diff(dim=0)) for name in ("eps", "x0", "score")]


def wrong_factor(place, value):
    return factors(place, value), "same"


ANSWERS = {
    "4.1": Answers(
        right=[(jump,), (lambda schedule, s, t: schedule.transition(t, s)[:2],)],
        wrong={
            "part of the variance of x_s that is left": jump_with(lambda bar, beta, s, t: bar[t] / bar[s]),
            "factor of x_0": jump_with(lambda bar, beta, s, t: bar[t].sqrt()),
            "upside down": jump_with(lambda bar, beta, s, t: (bar[s] / bar[t]).sqrt()),
            "The factor comes first": (lambda *a: jump(*a).flip(0),),
            "one step too early": jump_with(lambda bar, beta, s, t: (bar[t - 1] / bar[max(s - 1, 0)]).sqrt()),
            "an alpha too many": jump_with(lambda bar, beta, s, t: (bar[t] / bar[max(s - 1, 0)]).sqrt()),
            "an alpha missing": jump_with(lambda bar, beta, s, t: (bar[t - 1] / bar[s]).sqrt()),
            "the first t - s steps": jump_with(lambda bar, beta, s, t: bar[t - s].sqrt()),
            "The factor of x_s for s = 100, t = 400: yours is 1": jump_with(lambda bar, beta, s, t: 1.0),
            "all the noise since x_0": jump_with(None, lambda bar, beta, s, t: 1 - bar[t]),
            "A difference of the two variances": jump_with(None, lambda bar, beta, s, t: bar[s] - bar[t]),
            "standard deviation of the noise": jump_with(None, lambda bar, beta, s, t: (1 - bar[t] / bar[s]).sqrt()),
            "add up to 1 here": jump_with(None, lambda bar, beta, s, t: 1 - (bar[t] / bar[s]).sqrt()),
            "part of the variance that is kept": jump_with(None, lambda bar, beta, s, t: bar[t] / bar[s]),
            "betas from s to t added up": jump_with(None, lambda bar, beta, s, t: beta[s + 1 : t + 1].sum()),
            "should return 2 numbers: the factor and the variance": (lambda schedule, s, t: 0.5,),
            "A function is asked for": (0.5,),
        },
    ),
    "4.2": Answers(
        right=[
            with_times(313, 1000),
            with_times(torch.tensor(313), torch.tensor([1000])),
            with_times(311, 1000),
            (draws_by_torch, 316, 1000),
        ],
        wrong={
            "The factor comes first": (lambda *a: two_draws()(*a)[::-1], 313, 1000),
            "leaves out the x_0 that x_t brings": (two_draws(lambda a, b, bar: a), 313, 1000),
            "takes x_t for x_0": (two_draws(lambda a, b, bar: a + b), 313, 1000),
            r"A root is missing: see the mean in \(4.7\)": (two_draws(lambda a, b, bar: a + b * bar), 313, 1000),
            "variance when x_t is known": with_variance(lambda a, b, tau2, bar: tau2),
            "adds noise of its own": with_variance(lambda a, b, tau2, bar: b**2 * (1 - bar)),
            "What does it do to the variance": with_variance(lambda a, b, tau2, bar: b * (1 - bar) + tau2),
            "not 1 when x_0 is known": with_variance(lambda a, b, tau2, bar: b**2 + tau2),
            "deviation of x_t where its variance": with_variance(lambda a, b, tau2, bar: b**2 * (1 - bar) ** 0.5 + tau2),
            "a variance already": with_variance(lambda a, b, tau2, bar: b**2 * (1 - bar) + tau2**2),
            "With x_0 given, A x_0 adds nothing": with_variance(lambda a, b, tau2, bar: a**2 + b**2 * (1 - bar) + tau2),
            "This is the standard deviation": with_variance(lambda a, b, tau2, bar: (b**2 * (1 - bar) + tau2) ** 0.5),
            "The t of the variance is one too small": with_times(313, 999),
            "At t = 300 the difference in the factor of x_0 is 99[.]8": with_times(300, 1000),
            "At t = 1000 the difference in the factor of x_0 is 3.3": with_times(1000, 1000),
            "At t = 1 the difference in the variance is 0 percent": with_times(313, 1),
            "should be one of 1 to 1000, and this is 0": with_times(0, 1000),
            "should be one of 1 to 1000, and this is 2.5": with_times(313, 2.5),
        },
    ),
    "4.3": Answers(
        right=[(factors(), "same"), (factors_by_conversion, "same"), (factors_by_torch, "the same")],
        wrong={
            "For eps this is the error in v": wrong_factor(0, lambda a, s: 1 / a),
            "For eps this is the factor of the squared error": wrong_factor(0, lambda a, s: a * a),
            "For eps this is the size of the factor of x_0": wrong_factor(0, lambda a, s: s),
            "For eps this has the wrong sign": wrong_factor(0, lambda a, s: -a),
            "For x_0 this has the wrong sign": wrong_factor(1, lambda a, s: s),
            "For x_0 this is the error for an error of 1 in eps": wrong_factor(1, lambda a, s: -s / a),
            "For x_0 a root is missing": wrong_factor(1, lambda a, s: -s * s),
            "For x_0 this is the factor of the squared error": wrong_factor(1, lambda a, s: s * s),
            "For x_0 this is the size of the factor of eps": wrong_factor(1, lambda a, s: a),
            "For x_0 this is the error in v": wrong_factor(1, lambda a, s: -1 / s),
            "For the score the sign is wrong": wrong_factor(2, lambda a, s: a / s),
            "For the score this is the error for an error of 1 in eps": wrong_factor(2, lambda a, s: -1 / s),
            "For the score a root is missing": wrong_factor(2, lambda a, s: -((a / s) ** 2)),
            "For the score this is the factor of the squared error": wrong_factor(2, lambda a, s: (a / s) ** 2),
            "For the score the fraction is upside down": wrong_factor(2, lambda a, s: -s / a),
            "forgets to divide by the standard deviation": wrong_factor(2, lambda a, s: -a),
            "should return 3 numbers": (lambda bar: (math.sqrt(bar), -math.sqrt(1 - bar)), "same"),
            "The factors are right": (factors(), "larger"),
            "'equal' is another": (factors(), "equal"),
        },
    ),
    # After 100 steps the ratio at t = 5 was 1.20 to 1.33 with ten seeds, with and without an average over the weights.
    "4.4": Answers(
        right=[(5, 1.27), (5.0, torch.tensor(1.2)), (5, 1.35)],
        wrong={
            "next to nothing of the data": (90, 1.002),
            "At t = 20 the two ratios hardly differ": (20, 1.04),
            "The times to choose from are 5, 20, 40, 60, 90; 3 is another": (3, 1.13),
            "This is 0.23. Is this how much larger it is": (5, 0.23),
            "that of a longer training": (5, 1.05),
            "With ema_decay=0.99": (5, 2.2),
            "not a percentage": (5, 127),
            "a number is asked for": (5, "more"),
        },
    ),
}
