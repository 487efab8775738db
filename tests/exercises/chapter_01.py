"""Right and wrong answers to the exercises of chapter 1."""

import math

import torch

from exercises import Answers

log_sigmoid = torch.nn.functional.logsigmoid


def slope(loss):
    """Return the slope of a function of the logit, found by autograd."""

    def at(logit):
        logit.requires_grad_()
        return torch.autograd.grad(loss(logit), logit)[0]

    return at


first = slope(lambda logit: log_sigmoid(-logit))
second = slope(lambda logit: -log_sigmoid(logit))
E8 = math.exp(8)


def bound(log_weights):
    largest = log_weights.amax(0)
    return largest + (log_weights - largest).exp().mean(0).log()


def in_place(log_weights):
    largest = log_weights.max(0).values
    log_weights -= largest
    return largest + log_weights.exp().mean(0).log()


MEASURED = [-2.006, -1.803, -1.742, -1.735]
BITS = [value / math.log(2) for value in MEASURED]


class Trained:
    """What the checker asks of a trained VAE."""

    def importance_bound(self, points, k, *, generator):
        luck = 0.02 * torch.randn(len(points), generator=generator) / k**0.5
        return MEASURED[len(str(k)) - 1] + luck


ITS_OWN = (Trained(), torch.zeros(500, 2))
LIMIT = "log p(x)"

ANSWERS = {
    "1.1": Answers(
        right=[
            (first, second, E8),
            (lambda d: -1 / (1 + math.exp(-d)), lambda d: -1 / (1 + math.exp(d)), torch.tensor(2980.0)),
        ],
        wrong={
            "sign of the first form's slope": (torch.sigmoid, second, E8),
            "the first form's slope in the probability.*The chain rule": (lambda d: -1 / torch.sigmoid(-d), second, E8),
            "value of the first form": (lambda d: log_sigmoid(-d), second, E8),
            r"other form. The first form has": (second, first, E8),
            "slope of sigma.D. alone": (slope(torch.sigmoid), second, E8),
            "sign of this slope": (first, lambda d: torch.sigmoid(-d), E8),
            "slope of -log sigma.D. in the probability.*The chain rule": (first, lambda d: -1 / torch.sigmoid(d), E8),
            "value of -log sigma": (first, lambda d: -log_sigmoid(d), E8),
            "other form. This one has": (first, first, E8),
            "the other way round": (first, second, 1 / E8),
            "one sign": (first, second, -E8),
            "difference of the two": (first, second, 1 - 2 / (1 + E8)),
            "the logarithm of the factor": (first, second, 8),
            "-1.4 percent": (first, second, 0.99966 / 0.00034),
            "at D = -1: yours is -1, 3.718 times": (lambda d: -1.0, second, E8),
            "A function is asked for": (-0.00034, second, E8),
        },
    ),
    "1.2": Answers(
        right=[
            (bound, MEASURED, LIMIT, *ITS_OWN),
            (in_place, MEASURED, LIMIT, *ITS_OWN),
            (lambda w: w.logsumexp(0) - math.log(len(w)), torch.tensor([-2.1, -1.85, -1.75, -1.73]), LIMIT, *ITS_OWN),
        ],
        wrong={
            "mean of the logarithms": (lambda w: w.mean(0), MEASURED, LIMIT, *ITS_OWN),
            "sign of log k": (lambda w: w.logsumexp(0) + math.log(len(w)), MEASURED, LIMIT, *ITS_OWN),
            "k = 1, 10, 100 and 1000": (bound, dict(zip((1, 10, 100, 1000), MEASURED)), LIMIT, *ITS_OWN),
            "factor 1/k": (lambda w: w.logsumexp(0), MEASURED, LIMIT, *ITS_OWN),
            "logarithm of the mean is missing": (lambda w: w.exp().mean(0), MEASURED, LIMIT, *ITS_OWN),
            "largest weight alone": (lambda w: w.amax(0), MEASURED, LIMIT, *ITS_OWN),
            "This is in bits": (lambda w: bound(w) / math.log(2), MEASURED, LIMIT, *ITS_OWN),
            r"the shape should be \(5,\)": (lambda w: w.logsumexp(1) - math.log(w.shape[1]), MEASURED, LIMIT, *ITS_OWN),
            "near -2000 break it": (lambda w: w.exp().mean(0).log(), MEASURED, LIMIT, *ITS_OWN),
            "small was added": (lambda w: (w.exp().mean(0) + 1e-12).log(), MEASURED, LIMIT, *ITS_OWN),
            "a floor was set": (lambda w: bound(w.clamp(min=-700)), MEASURED, LIMIT, *ITS_OWN),
            "should be about -2003": (
                lambda w: w.exp().mean(0).log().nan_to_num(neginf=-1e4), MEASURED, LIMIT, *ITS_OWN,
            ),
            "Four numbers": (bound, -1.735, LIMIT, *ITS_OWN),
            "1, 10, 100 and 1000": (bound, MEASURED[:3], LIMIT, *ITS_OWN),
            "a number is asked for": (bound, [*MEASURED[:3], "-1.7"], LIMIT, *ITS_OWN),
            "sums over the points": (bound, [500 * value for value in MEASURED], LIMIT, *ITS_OWN),
            "losses: the sign is turned": (bound, [-value for value in MEASURED], LIMIT, *ITS_OWN),
            "from k = 1000 down": (bound, MEASURED[::-1], LIMIT, *ITS_OWN),
            "in the place of the mean": (bound, [v + i * math.log(10) for i, v in enumerate(MEASURED)], LIMIT, *ITS_OWN),
            "nearly the same": (bound, [-2.006, -2.012, -2.001, -2.004], LIMIT, *ITS_OWN),
            "does not tighten it": (bound, [-2.157, -2.010, -2.036, -2.036], LIMIT, *ITS_OWN),
            "per coordinate": (bound, [value / 2 for value in MEASURED], LIMIT, *ITS_OWN),
            "bounds in bits": (bound, BITS, LIMIT, *ITS_OWN),
            "k = 1: yours is 1.06.*all there": (bound, [1.06, 1.35, 1.46, 1.52], LIMIT, *ITS_OWN),
            "k = 1: yours is -1.28.*log p.z": (bound, [-1.28, -1.04, -1.03, -1.03], LIMIT, *ITS_OWN),
            "k = 10: yours is -1.65": (bound, [-2.006, -1.65, -1.742, -1.735], LIMIT, *ITS_OWN),
            "k = 1000: yours is -1.69": (bound, [*MEASURED[:3], -1.69], LIMIT, *ITS_OWN),
            "where the bound starts": (bound, MEASURED, "ELBO", *ITS_OWN),
            "starts, at k = 1": (bound, MEASURED, "the ELBO", *ITS_OWN),
            "data's own law": (bound, MEASURED, "log q(x)", *ITS_OWN),
            "no reason to stop at 0": (bound, MEASURED, "0", *ITS_OWN),
            "'infinity' is another": (bound, MEASURED, "infinity", *ITS_OWN),
        },
    ),
    "1.3": Answers(
        right=[(0.761, 0.773, "steps"), (torch.tensor(0.753), 0.791, "steps")],
        wrong={
            "trained network, 0.957 is a share for more": (0.957, 0.773, "steps"),
            "best possible network, 0.995 is a share for more": (0.761, 0.995, "steps"),
            "trained network, 0.239 is about the share outside": (0.239, 0.773, "steps"),
            "best possible network, 0.227 is about the share outside": (0.761, 0.227, "steps"),
            "trained network, 0.412 is a share for fewer": (0.412, 0.773, "steps"),
            "best possible network, 0.364 is a share for fewer": (0.761, 0.364, "steps"),
            "between 0 and 1": (76.1, 77.3, "steps"),
            "has no fault": (0.761, 0.773, "network"),
            "'noise' is another": (0.761, 0.773, "noise"),
        },
    ),
}
