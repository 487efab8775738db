"""Right and wrong answers to the exercises of chapter 8."""

import math

import torch

from diffutils.datasets import grid_mixture
from diffutils.models.dpm import DPM
from diffutils.objectives import Bound, bayes_x0_errors, expected_terms, optimal_variance
from exercises import Answers

BIT = math.log(2)
FLOOR, EXCESS = 0.216987, 1.0743e-4  # nats, as the solution prints them


def error(v, level):
    return 1 / (1 / v + level / (1 - level)) if v else 0.0


def best(function=error, v_for_beta=1, v_for_tilde=0, gap=0.0):
    return function, v_for_beta, v_for_tilde, gap


def gain(of, table=torch.mean):
    """What the logarithm of a table's number exceeds the mean of the logarithms by, times a factor."""
    return lambda s: of(s) * float(table(s).log() - s.log().mean())


def learned_bound():
    """A ledger as the trained DPM's: errors above the oracle's, 0.19 nats below the best table."""
    larger = ORACLE * torch.linspace(1, 1.4, 41)
    terms = expected_terms(FORTY, larger, 2, variance=optimal_variance(FORTY, larger), x0_square=1.02)
    terms[3:7] -= 0.0475
    return Bound(terms, torch.zeros(41), terms.sum() + torch.zeros(5), larger)


FORTY = DPM.for_points(2).schedule
ORACLE = bayes_x0_errors(grid_mixture(), FORTY)
LEARNED = learned_bound()


def above(errors=LEARNED.x0_errors, variance=None, dim=2):
    """The bound of a table over the learned one."""
    variance = optimal_variance(FORTY, errors) if variance is None else variance
    return float(expected_terms(FORTY, errors, dim, variance=variance, x0_square=1.02).sum()) - LEARNED.total


def save(of, table=torch.mean, difference=0.19):
    return difference, gain(of, table), LEARNED


def differ(difference):
    return save(lambda s: 1.5, difference=difference)


def growth(function):
    return function, 2 * math.log(10), 0.0


def bits(h, d, c):
    return math.log2(math.exp(h / d) * c)


ANSWERS = {
    "8.1": Answers(
        right=[best(), best(lambda v, level: torch.tensor(error(v, level)), 1.0, 0.0, 1e-9)],
        wrong={
            "guess of the noise": best(lambda v, level: error(v, level) * level / (1 - level)),
            "data with variance 1": best(lambda v, level: 1 - level),
            "vanish where there is no noise": best(lambda v, level: error(v, level) / (1 - level)),
            "does not look at x_t": best(lambda v, level: v),
            "does not know the law": best(lambda v, level: (1 - level) / level),
            "missing in the denominator": best(lambda v, level: v * (1 - level)),
            "square root": best(lambda v, level: math.sqrt(error(v, level))),
            "one point leave no doubt": best(v_for_beta=0),
            "The v for beta: yours is 0.5": best(v_for_beta=0.5),
            "larger than beta_tilde": best(v_for_tilde=1),
            "The v for beta_tilde: yours is 0.5": best(v_for_tilde=0.5),
            "the bound itself. The gap": best(gap=math.log(2 * math.pi * math.e)),
            "the bound itself, in bits": best(gap=math.log2(2 * math.pi * math.e)),
            "The gap: yours is 0.053": best(gap=0.053),
        },
    ),
    "8.2": Answers(
        right=[
            ({400}, FLOOR, EXCESS),
            (400, 0.217, 0.000107),
            ([400], torch.tensor(FLOOR), torch.tensor([EXCESS])),
            ({torch.tensor(400)}, FLOOR, EXCESS),
            (torch.tensor(400), FLOOR, EXCESS),
        ],
        wrong={
            "are whole numbers": ({"L_400"}, FLOOR, EXCESS),
            "those of L_0, L_1": ({401}, FLOOR, EXCESS),
            "L_399 is the same": ({399, 400}, FLOOR, EXCESS),
            "L_0 is the same": (range(401), FLOOR, EXCESS),
            "still under way": (set(), FLOOR, EXCESS),
            "This is the excess of L_T": ({400}, EXCESS, FLOOR),
            "the whole L_T": ({400}, FLOOR + EXCESS, EXCESS),
            "entropy of the noise in it": ({400}, 2.83777, EXCESS),
            "step from 401 to 400": ({400}, 0.001950674, EXCESS),
            "half of it": ({400}, FLOOR / 2, EXCESS),
            "This is in bits": ({400}, FLOOR / BIT, EXCESS),
            "the floor, or all of L_T": ({400}, FLOOR, FLOOR),
            "beyond its floor": ({400}, FLOOR, FLOOR + EXCESS),
            "excess of one dimension": ({400}, FLOOR, EXCESS / 2),
            "excess in bits": ({400}, FLOOR, EXCESS / BIT),
            "The excess of L_T: yours is 0.01": ({400}, FLOOR, 0.01),
        },
    ),
    "8.3": Answers(
        right=[save(lambda s: s.shape[1] / 2), save(lambda s: torch.tensor(1.5), difference=torch.tensor(above()))],
        wrong={
            "The sign is turned": save(lambda s: -1.5),
            "twice as much": save(lambda s: 3),
            "one dimension on average": save(lambda s: 0.5),
            "This is in bits": save(lambda s: 1.5 / BIT),
            "a number of its own": (0.19, lambda s: sum(gain(lambda _: 0.5)(c) for c in s.unbind(1)), LEARNED),
            "This is zero": save(lambda s: 1.5, lambda s: s.log().mean().exp()),
            "mean of the standard deviations": save(lambda s: 1.5, lambda s: s.sqrt().mean().square()),
            "sum over the 50 points": save(lambda s: s.numel() / 2),
            "for each x_t gives the smaller bound": differ(-0.19),
            "asked for in nats. This is in bits": differ(0.19 / BIT),
            "the difference per dimension": differ(0.095),
            "one dimension stands against two": differ(above(dim=1)),
            "the difference with beta_t": differ(above(variance="beta")),
            "table and the errors are the oracle's": differ(above(ORACLE)),
            "made from the oracle's errors": differ(above(variance=optimal_variance(FORTY, ORACLE))),
            "Take off the bound with the learned": differ(above() + LEARNED.total),
            "The difference in nats, with the noise of dpm_bound in both bounds: yours is 1.9": differ(1.9),
        },
    ),
    "8.4": Answers(
        right=[growth(bits), (lambda h, d, c: torch.tensor(bits(h, d, c)), torch.tensor(4.605), 0)],
        wrong={
            "in nats": growth(lambda h, d, c: BIT * bits(h, d, c)),
            "more than a bit": growth(lambda h, d, c: BIT**2 * bits(h, d, c)),
            "all dimensions together": growth(lambda h, d, c: d * bits(h, d, c)),
            "once per dimension": growth(lambda h, d, c: math.log2(math.exp(h) * c) / d),
            "and log c is not": growth(lambda h, d, c: bits(h, d, 1) + math.log(c)),
            "sign of log c": growth(lambda h, d, c: bits(h, d, 1 / c)),
            "before the data were multiplied": growth(lambda h, d, c: bits(h, d, 1)),
            "not with log c squared": growth(lambda h, d, c: bits(h, d, c**2)),
            "not multiplied by c": growth(lambda h, d, c: c * bits(h, d, 1)),
            "in one dimension": (bits, math.log(10), 0),
            "growth in bits": (bits, 2 * math.log2(10), 0),
            "the decoder's density changes": (bits, 0, 0),
            "becomes smaller": (bits, -2 * math.log(10), 0),
            "entropy grows too, and the gap": (bits, 2 * math.log(10), 2 * math.log(10)),
            "entropy grows too, and by the same": (bits, 2 * math.log(10), -2 * math.log(10)),
        },
    ),
}
