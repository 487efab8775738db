"""Right and wrong answers to the exercises of chapter 2."""

import math

import torch

from exercises import Answers


def log_ratio(factor):
    def of_pairs(x, y, beta, theta):
        return factor(beta) * math.sin(theta) / beta * (x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0])

    return of_pairs


def visits(alpha_bar, k):
    return 1 - alpha_bar[k::k] / alpha_bar[:-1:k]


def mean_at_rest(beta, m):
    return math.sqrt(beta) * m / (1 - math.sqrt(1 - beta))


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
        right=[
            (0.353, visits),
            (torch.tensor([0.3532]), lambda alpha_bar, k: 1 - alpha_bar[::k][1:] / alpha_bar[::k][:-1]),
        ],
        wrong={
            "More signal": (0.3, visits),
            "larger beta_end": (0.352, visits),
            "Less signal": (0.4, visits),
            "smaller beta_end": (0.354, visits),
            "a number is asked for": ("large", visits),
            "between 0 and 1": (1.0, visits),
            "shares of the variance": (0.353, lambda alpha_bar, k: alpha_bar[k::k] / alpha_bar[:-1:k]),
            "noise since the time 0": (0.353, lambda alpha_bar, k: 1 - alpha_bar[k::k]),
            "of single steps": (
                0.353,
                lambda alpha_bar, k: 1 - alpha_bar[k::k] / alpha_bar[k - 1 :: k][: len(alpha_bar) // k],
            ),
            "do not add up": (
                0.353,
                lambda alpha_bar, k: (1 - alpha_bar[1:] / alpha_bar[:-1]).reshape(-1, k).sum(1),
            ),
            "without a root": (0.353, lambda alpha_bar, k: 1 - (alpha_bar[k::k] / alpha_bar[:-1:k]).sqrt()),
            r"the shape should be \(50,\)": (0.353, lambda alpha_bar, k: 1 - alpha_bar[1:] / alpha_bar[:-1]),
        },
    ),
    "2.3": Answers(
        right=[(log_ratio(lambda beta: 2 * math.sqrt(1 - beta)),)],
        wrong={
            r"The sign is turned.*x @ R\.T": (log_ratio(lambda beta: -2 * math.sqrt(1 - beta)),),
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
        right=[
            (4, mean_at_rest, {"isotropic"}),
            (torch.tensor(4.0), lambda beta, m: (1 + math.sqrt(1 - beta)) / math.sqrt(beta) * m, "Isotropic"),
            (4, lambda beta, m: m.mul_(math.sqrt(beta) / (1 - math.sqrt(1 - beta))), "isotropic"),
        ],
        wrong={
            "does not go to 0": (4, lambda beta, m: 0 * m, {"isotropic"}),
            "mean of the draws": (4, lambda beta, m: m, {"isotropic"}),
            "what one step adds": (4, lambda beta, m: math.sqrt(beta) * m, {"isotropic"}),
            "not by 1 - beta": (4, lambda beta, m: m / math.sqrt(beta), {"isotropic"}),
            "and so is its mean": (4, lambda beta, m: m / (1 - math.sqrt(1 - beta)), {"isotropic"}),
            "not by beta": (4, lambda beta, m: math.sqrt(beta) * mean_at_rest(beta, m), {"isotropic"}),
            "standard deviation": (2, mean_at_rest, {"isotropic"}),
            "each step adds 4 beta": (1, mean_at_rest, {"isotropic"}),
            "not squared once more": (16, mean_at_rest, {"isotropic"}),
            "standard means": (4, mean_at_rest, {"isotropic", "standard"}),
            "Turn the cloud": (4, mean_at_rest, {"isotropic", "rotation invariant"}),
            "Every coordinate": (4, mean_at_rest, set()),
            "'round' is another": (4, mean_at_rest, "round"),
        },
    ),
}
