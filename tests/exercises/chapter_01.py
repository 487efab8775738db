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


MEASURED = [-2.006, -1.803, -1.742, -1.735]
BITS = [value / math.log(2) for value in MEASURED]
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
            (bound, MEASURED, LIMIT),
            (lambda w: torch.logsumexp(w, 0) - math.log(len(w)), torch.tensor([-2.42, -2.32, -2.31, -2.315]), LIMIT),
            (bound, [-2.786, -2.69, -2.682, -2.677], LIMIT),
            (bound, [-1.959, -1.693, -1.669, -1.645], LIMIT),
        ],
        wrong={
            "mean of the logarithms": (lambda w: w.mean(0), MEASURED, LIMIT),
            "sign of log k": (lambda w: w.logsumexp(0) + math.log(len(w)), MEASURED, LIMIT),
            "k = 1, 10, 100 and 1000": (bound, dict(zip((1, 10, 100, 1000), MEASURED)), LIMIT),
            "factor 1/k": (lambda w: w.logsumexp(0), MEASURED, LIMIT),
            "logarithm of the mean is missing": (lambda w: w.exp().mean(0), MEASURED, LIMIT),
            "largest weight alone": (lambda w: w.amax(0), MEASURED, LIMIT),
            "This is in bits": (lambda w: bound(w) / math.log(2), MEASURED, LIMIT),
            r"the shape should be \(5,\)": (lambda w: w.logsumexp(1) - math.log(w.shape[1]), MEASURED, LIMIT),
            "near -2000 break it": (lambda w: w.exp().mean(0).log(), MEASURED, LIMIT),
            "small was added": (lambda w: (w.exp().mean(0) + 1e-12).log(), MEASURED, LIMIT),
            "a floor was set": (lambda w: bound(w.clamp(min=-700)), MEASURED, LIMIT),
            "should be about -2003": (lambda w: w.exp().mean(0).log().nan_to_num(neginf=-1e4), MEASURED, LIMIT),
            "Four numbers": (bound, -1.735, LIMIT),
            "1, 10, 100 and 1000": (bound, MEASURED[:3], LIMIT),
            "a number is asked for": (bound, [*MEASURED[:3], "-1.7"], LIMIT),
            "sums over the points": (bound, [500 * value for value in MEASURED], LIMIT),
            "sign is turned": (bound, [-value for value in MEASURED], LIMIT),
            "order of k": (bound, MEASURED[::-1], LIMIT),
            "grows too fast": (bound, [v + i * math.log(10) for i, v in enumerate(MEASURED)], LIMIT),
            "nearly the same": (bound, [-2.006, -2.012, -2.001, -2.004], LIMIT),
            "No model's mean": (bound, [-0.9, -0.75, -0.7, -0.6], LIMIT),
            "reaches more than that": (bound, [-4.1, -4.0, -3.9, -3.8], LIMIT),
            "do not rise in this way": (bound, [-2.5, -2.0, -1.6, -1.5], LIMIT),
            "Are all four its own": (bound, [-2.0, -1.95, -1.9, -1.7], LIMIT),
            "rise in this way.*same points": (bound, [-2.5, -2.0, -1.2, -0.75], LIMIT),
            "per coordinate": (bound, [value / 2 for value in MEASURED], LIMIT),
            "bounds in bits": (bound, BITS, LIMIT),
            "where the bound starts": (bound, MEASURED, "ELBO"),
            "starts, at k = 1": (bound, MEASURED, "the ELBO"),
            "data's own law": (bound, MEASURED, "log q(x)"),
            "no reason to stop at 0": (bound, MEASURED, "0"),
            "'infinity' is another": (bound, MEASURED, "infinity"),
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
