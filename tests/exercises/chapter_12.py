"""Right and wrong answers to the exercises of chapter 12."""

import math

import torch

from diffbook.faults import Fault
from diffbook.museum.statistics import product_of_alphas
from diffutils.schedule import Schedule
from exercises import Answers

# -- 12.1: two last steps --------------------------------------------------------------------------------------------


def difference(with_beta, with_tilde=lambda beta_1: 0.0):
    return lambda beta_1, variance: (with_beta if variance == "beta" else with_tilde)(beta_1)


def root(beta_1):
    return math.sqrt(2 * beta_1)


# -- 12.2: times that lead -------------------------------------------------------------------------------------------


OLD = "(2 * k * self.T + steps) // (2 * steps)"


def edit(times, target="diffutils.schedule.Schedule.respaced", old=OLD):
    return Fault("leading times", target, old, times)


LEADING = edit("max(0, 1 + (k - 1) * self.T // steps)")
OUTSIDE = Schedule.linear(1000).respaced(5)


def missing_times():
    return 1000 - int(Schedule.linear(1000).respaced(5).timesteps[-1])


# -- 12.3: noise with two right moments ------------------------------------------------------------------------------


def z_of_moment(noise):
    return abs(float(noise.double().pow(4).mean()) - 3) / math.sqrt(96 / len(noise))


def none_beyond_two(noise):
    """A Gaussian set of this size always has a number beyond 2."""
    return 0 if noise.abs().max() > 2 else 100


# -- 12.4: a batch and its examples ----------------------------------------------------------------------------------

SILENT = {"a batch of one", "equal weights", "equal errors"}


def singles(loss, weights, errors, size=1):
    return torch.stack([loss(w, e) for w, e in zip(weights.split(size), errors.split(size))])


def gap(loss, weights, errors):
    return (loss(weights, errors) - singles(loss, weights, errors).mean()).abs()


def signed(sign):
    return lambda loss, w, e: sign * (loss(w, e) - singles(loss, w, e).mean())


ANSWERS = {
    "12.1": Answers(
        right=[(0, difference(root)), (torch.tensor(0.0), difference(lambda b: torch.tensor([2 * b]).double() ** 0.5))],
        wrong={
            "The statistic is not 0.04": (0.04, difference(root)),
            "the noise of one step": (0, difference(math.sqrt)),
            "This is the mean square": (0, difference(lambda beta_1: 2 * beta_1)),
            "Two independent noises meet": (0, difference(lambda beta_1: 2 * math.sqrt(beta_1))),
            "the right code's difference": (0, difference(lambda beta_1: 0)),
            "The tilde makes a difference": (0, difference(root, root)),
            "beta_tilde: yours is 0.0001": (0, difference(root, lambda beta_1: beta_1)),
        },
    ),
    "12.2": Answers(
        right=[(LEADING, missing_times), (edit("1 + (k - 1) * (self.T // steps) if k > 0 else 0"), product_of_alphas)],
        wrong={
            "A Fault is asked for": ("leading times", missing_times),
            "The function to edit": (edit("0", "diffutils.process.diffuse"), missing_times),
            "the last time is still 1000": (edit("k * (self.T // steps)"), missing_times),
            "yours are 200, 400, 600, 800, 999": (edit("k * self.T // steps - (k == steps)"), missing_times),
            "10 steps of 100: the times": (edit("max(0, 200 * k - 199) if steps == 5 else 9 * k"), missing_times),
            "Only the labels of the times": (
                edit("self.timesteps[1 + torch.arange(steps) * (self.T // steps)]", old="self.timesteps[kept[1:]]"),
                missing_times,
            ),
            "a negative index is not": (edit("1 + (k - 1) * self.T // steps"), missing_times),
            "write // in r": (edit("1 + (k - 1) * self.T / steps if k else 0"), missing_times),
            "one of the times lies beyond 1000": (edit("1 + k * self.T // steps"), missing_times),
            "a distance has no sign": (LEADING, lambda: -missing_times()),
            "k = 0 must stay time 0": (edit("1 + max(0, k - 1) * self.T // steps"), missing_times),
            "This edit cannot be made": (edit("0", old="round(k * self.T / steps)"), missing_times),
            "must occur once": (edit("length", old="steps"), missing_times),
            "must be Python": (edit("k * ("), missing_times),
            "On the right code the statistic must be 0": (LEADING, lambda: missing_times() - 1000),
            "does not notice it": (LEADING, lambda: Schedule.linear(1000).respaced(5).T - 5),
            "Is the schedule made inside": (LEADING, lambda: float(OUTSIDE.timesteps[-1] - 1000)),
            "A function is asked for": (LEADING, 0.0),
        },
    ),
    "12.3": Answers(
        right=[(set(), 1.8, z_of_moment), ([], torch.tensor(1.797), none_beyond_two)],
        wrong={
            "Look at statistic 5": ({5}, 1.8, z_of_moment),
            "Look at statistic 8": ({8}, 1.8, z_of_moment),
            "Look at statistic 9": (9, 1.8, z_of_moment),
            "'16' is another": ({16}, 1.8, z_of_moment),
            "'none' is another": ("none", 1.8, z_of_moment),
            "of Gaussian noise": (set(), 3, z_of_moment),
            "between -1 and 1": (set(), 0.2, z_of_moment),
            "between -1/2 and 1/2": (set(), 0.0125, z_of_moment),
            "the excess": (set(), -1.2, z_of_moment),
            "must stay below 5; yours is 3": (set(), 1.8, lambda x: abs(x.pow(4).mean() - 1.8) / (96 / len(x)) ** 0.5),
            "a distance has no sign": (set(), 1.8, lambda x: (x.pow(4).mean() - 3) / (96 / len(x)) ** 0.5),
            "but 5 of what": (set(), 1.8, lambda x: (x.pow(4).mean() - 3).abs()),
            "does not see the mended noise": (set(), 1.8, lambda x: x.mean().abs() * len(x) ** 0.5),
            "what else differs": (set(), 1.8, lambda x: (x.square().mean() - 1).abs() * (len(x) / 2) ** 0.5),
        },
    ),
    "12.4": Answers(
        right=[(gap, SILENT), (lambda *given: float(gap(*given)), sorted(SILENT))],
        wrong={
            "yours has a sign": (signed(1), SILENT),
            "is a distance, and": (signed(-1), SILENT),
            "single losses added up": (lambda loss, w, e: abs(loss(w, e) - singles(loss, w, e).sum()), SILENT),
            "a share of the loss": (lambda loss, w, e: gap(loss, w, e) / singles(loss, w, e).mean(), SILENT),
            "A batch of one keeps its shape": (
                lambda loss, w, e: abs(loss(w, e) - sum(loss(w[i], e[i]) for i in range(8)) / 8), SILENT
            ),
            "This is a square": (lambda *given: gap(*given) ** 2, SILENT),
            "have two examples": (lambda loss, w, e: abs(loss(w, e) - singles(loss, w, e, 2).mean()), SILENT),
            "of the loss that is given": (lambda loss, w, e: abs((w * e).mean() - w.mean() * e.mean()), SILENT),
            "For a loss without the bug": (lambda loss, w, e: abs((w * e).mean() - loss(w, e)), SILENT),
            "may still stand beside": (gap, {*SILENT, "weights of mean 1"}),
            r"shapes \(1, 1\) and": (gap, SILENT - {"a batch of one"}),
            "Whose weight an error gets": (gap, SILENT - {"equal weights"}),
            "Whose error a weight meets": (gap, SILENT - {"equal errors"}),
            "'never' is another": (gap, "never"),
        },
    ),
}
