"""Right and wrong answers to the exercises of chapter 2."""

import math

import torch

from exercises import Answers


def log_ratio(factor):
    def of_pairs(x, y, beta, theta):
        return factor(beta) * math.sin(theta) / beta * (x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0])

    return of_pairs


ANSWERS = {
    "2.1": Answers(
        right=[(lambda beta: beta,), (lambda beta: torch.tensor([beta]),)],
        wrong={
            "the right chain": (lambda beta: 1.0,),
            "the standard deviation": (math.sqrt,),
            "the noise of one step": (lambda beta: beta**2,),
            "This takes 1 for": (lambda beta: 1 / beta,),
            "not by its square": (lambda beta: beta / (2 - beta),),
            "Two variances of the step": (lambda beta: 1 / (2 - beta),),
            "not by its root": (lambda beta: beta**2 / (1 - math.sqrt(1 - beta)),),
            "for beta = 0.02: yours is 0.1, 5 times": (lambda beta: 0.1,),
            "A function is asked for": (0.1,),
        },
    ),
    "2.2": Answers(
        right=[(0.353,), (torch.tensor([0.3532]),)],
        wrong={
            "More signal": (0.3,),
            "larger beta_end": (0.352,),
            "Less signal": (0.4,),
            "smaller beta_end": (0.354,),
            "a number is asked for": ("large",),
            "between 0 and 1": (1.0,),
        },
    ),
    "2.3": Answers(
        right=[(log_ratio(lambda beta: 2 * math.sqrt(1 - beta)),)],
        wrong={
            "The sign is turned": (log_ratio(lambda beta: -2 * math.sqrt(1 - beta)),),
            "half of it": (log_ratio(lambda beta: math.sqrt(1 - beta)),),
            "twice as much": (log_ratio(lambda beta: 4 * math.sqrt(1 - beta)),),
            "A root is missing": (log_ratio(lambda beta: 2 * (1 - beta)),),
            "the way back turns by theta too": (lambda x, y, beta, theta: 1e-16 * x[:, 0],),
            "densities .* are missing": (
                lambda *a: log_ratio(lambda beta: 2 * math.sqrt(1 - beta))(*a) + (a[0] ** 2 - a[1] ** 2).sum(1) / 2,
            ),
            r"the shape should be \(5,\)": (lambda x, y, beta, theta: 4 * (1 - beta) * math.sin(theta) ** 2 / beta,),
        },
    ),
    "2.4": Answers(
        right=[(4, {"isotropic", "rotation invariant"}), (torch.tensor(4.0), ["rotation invariant", "isotropic"])],
        wrong={
            "standard deviation": (2, {"isotropic", "rotation invariant"}),
            "each step adds 4 beta": (1, {"isotropic", "rotation invariant"}),
            "not squared once more": (16, {"isotropic", "rotation invariant"}),
            "standard means": (4, {"isotropic", "standard", "rotation invariant"}),
            "Turn the cloud": (4, {"isotropic"}),
            "Every coordinate": (4, {"rotation invariant"}),
            "'round' is another": (4, "round"),
        },
    ),
}
