"""Right and wrong answers to the exercises of chapter 8."""

import math

import torch
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
        right=[({400}, FLOOR, EXCESS), (400, 0.217, 0.000107), ([400], torch.tensor(FLOOR), torch.tensor([EXCESS]))],
        wrong={
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
        right=[(0.19, gain(lambda s: s.shape[1] / 2)), (torch.tensor(0.16), gain(lambda s: torch.tensor(1.5)))],
        wrong={
            "The sign is turned": (0.19, gain(lambda s: -1.5)),
            "twice as much": (0.19, gain(lambda s: 3)),
            "one dimension on average": (0.19, gain(lambda s: 0.5)),
            "This is in bits": (0.19, gain(lambda s: 1.5 / BIT)),
            "a number of its own": (0.19, lambda s: sum(gain(lambda _: 0.5)(column) for column in s.unbind(1))),
            "This is zero": (0.19, gain(lambda s: 1.5, lambda s: s.log().mean().exp())),
            "mean of the standard deviations": (0.19, gain(lambda s: 1.5, lambda s: s.sqrt().mean().square())),
            "sum over the 50 points": (0.19, gain(lambda s: s.numel() / 2)),
            "for each x_t gives the smaller bound": (-0.19, gain(lambda s: 1.5)),
            "must lie between": (1.9, gain(lambda s: 1.5)),
        },
    ),
    "8.4": Answers(
        right=[growth(bits), (lambda h, d, c: torch.tensor(bits(h, d, c)), torch.tensor(4.605), 0)],
        wrong={
            "in nats": growth(lambda h, d, c: BIT * bits(h, d, c)),
            "more than a bit": growth(lambda h, d, c: BIT**2 * bits(h, d, c)),
            "all dimensions together": growth(lambda h, d, c: d * bits(h, d, c)),
            "once per dimension": growth(lambda h, d, c: math.log2(math.exp(h) * c) / d),
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
