"""Right and wrong answers to the exercises of chapter 13."""

import torch

from exercises import Answers

# -- 13.1: the time of a run -----------------------------------------------------------------------------------------


def seconds(weights, examples, peak, share):
    return 2 * 3 * weights * examples / peak / share


def times(factor, power=0):
    return lambda weights, examples, peak, share: factor * share**power * seconds(weights, examples, peak, share)


DAYS = 15_000 / 86_400

# -- 13.2: the best interval -----------------------------------------------------------------------------------------


def interval(c, M):
    return (2 * M * c) ** 0.5


def lost(c, M):
    return c / interval(c, M) + interval(c, M) / (2 * M)


def scaled(function, factor):
    return lambda c, M: factor * function(c, M)


# -- 13.3: unequal shares --------------------------------------------------------------------------------------------


def summed(gradients, sizes):
    return torch.stack([size * gradient for size, gradient in zip(sizes, gradients)]).sum(0)


ANSWERS = {
    "13.1": Answers(
        right=[(seconds, DAYS), (seconds, torch.tensor(0.1736))],
        wrong={
            "the forward pass alone": (times(1 / 3), DAYS),
            "the backward pass alone": (times(2 / 3), DAYS),
            "two operations for each weight": (times(1 / 2), DAYS),
            "does not reach all": (times(1, 1), DAYS),
            "that makes it slower": (times(1, 2), DAYS),
            "share 0.4: yours": (times(10), DAYS),
            "These are seconds": (seconds, 15_000),
            "These are hours": (seconds, 15_000 / 3600),
            "These are minutes": (seconds, 250),
            "days of the run: yours": (seconds, 3),
        },
    ),
    "13.2": Answers(
        right=[(interval, lost)],
        wrong={
            "The 2 of the second part": (scaled(interval, 0.5**0.5), lost),
            "on the wrong side": (scaled(interval, 0.5), lost),
            "square of the interval": (lambda c, M: 2 * c * M, lost),
            "M = 86400: yours": (scaled(interval, 3), lost),
            "one of two equal parts": (interval, scaled(lost, 0.5)),
            "This is in percent": (interval, scaled(lost, 100)),
            "divide them by M": (interval, lambda c, M: M * lost(c, M)),
            "share that is lost for c = 10 and M = 86400: yours": (interval, scaled(lost, 3)),
        },
    ),
    "13.3": Answers(
        right=[(lambda gradients, sizes: summed(gradients, sizes) / sum(sizes),)],
        wrong={
            "the plain mean over the shares": (lambda gradients, sizes: gradients.mean(0),),
            "divide by the number of examples": (summed,),
            "not of examples": (lambda gradients, sizes: summed(gradients, sizes) / len(sizes),),
            "the sum of the shares' gradients": (lambda gradients, sizes: gradients.sum(0),),
            "shares of 4, 8, 16, 36: yours": (lambda gradients, sizes: 7 * gradients[0],),
        },
    ),
}
