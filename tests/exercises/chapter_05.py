"""Right and wrong answers to the exercises of chapter 5."""

import math

import torch

from exercises import Answers

BETAS = torch.tensor([0.1 / 150, 0.1 / 30], dtype=torch.float64)
GAP = 0.021315  # integrated over all 1000 steps by GaussianMixture.bayes_loss


def widening(schedule, w):
    return torch.sqrt((w + schedule.beta[1]) / w)


def wrong_widening(factor):
    """Another function of beta_1 and w, with growths that are right."""
    return (lambda schedule, w: factor(float(schedule.beta[1]), w)), BETAS


def parts(schedule, t, e):
    step = schedule.transition(t, t - 1)
    means = e * (step.posterior_x0 * float(schedule.noise_levels[t])) ** 2
    return step.beta, step.beta_tilde, means, step.sqrt_alpha


def best_variance(schedule, t, e):
    """The error in x_0 is noise_levels times that in the noise, and the posterior's mean has posterior_x0 of it."""
    _, tilde, means, _ = parts(schedule, t, e)
    return tilde + means


def wrong_variance(value):
    return (lambda schedule, t, e: value(*parts(schedule, t, e))), GAP


RIGHT_FLOORS = [[2.24, 3.5], [1.9, 3.2]]

ANSWERS = {
    "5.1": Answers(
        right=[(widening, BETAS), (widening, (0.0007, 0.0031))],
        wrong={
            "the factor of the variance": wrong_widening(lambda b, w: 1 + b / w),
            "It is variances that add up": wrong_widening(lambda b, w: 1 + math.sqrt(b / w)),
            "w is the variance already": wrong_widening(lambda b, w: math.sqrt(1 + b / w**2)),
            "beta for the standard deviation": wrong_widening(lambda b, w: math.sqrt(1 + b**2 / w)),
            "variance of the wider cluster": wrong_widening(lambda b, w: w + b),
            "standard deviation of the wider cluster": wrong_widening(lambda b, w: math.sqrt(w + b)),
            "the last beta of the table": (lambda s, w: math.sqrt(1 + float(s.beta[s.T]) / w), BETAS),
            "the step from t = 2": (lambda s, w: math.sqrt(1 + float(s.beta[2]) / w), BETAS),
            "Nothing grows here": (lambda s, w: math.sqrt(1 + float(s.beta[0]) / w), BETAS),
            "beta_tilde_1 is 0": (lambda s, w: math.sqrt(1 + float(s.beta_tilde[1]) / w), BETAS),
            "with 30 steps: yours is": (widening, [BETAS[0], BETAS[0]]),
            "in the wrong order": (widening, BETAS.flip(0)),
            "With 150 steps next to nothing has grown.*the root of it": (widening, (1.0e-6, 1.1e-5)),
            "the growth over the variance before": (widening, [0.12, 0.27]),
            "growth of the standard deviation": (widening, [0.0042, 0.0138]),
            "about twice the variance of the noise": (widening, 2.1 * BETAS),
            "the variance with the noise in it": (widening, (0.0066, 0.0161)),
            "This is a ratio": (widening, (1.11, 1.24)),
            r"the shape should be \(2,\)": (widening, 0.0007),
        },
    ),
    "5.2": Answers(
        right=[(best_variance, 0.0213), (best_variance, torch.tensor(GAP))],
        wrong={
            "is added to beta here": wrong_variance(lambda beta, tilde, means, a: beta + means),
            "part that comes from the difference": wrong_variance(lambda beta, tilde, means, a: means),
            "best if the means agree": wrong_variance(lambda beta, tilde, means, a: tilde),
            "the roots before it are squared too": (
                lambda s, t, e: s.beta_tilde[t] + s.beta[t] / (s.alpha[t] * s.sigma2[t]) * e, 0.0213,
            ),
            "one of the two usual choices": wrong_variance(lambda beta, tilde, means, a: beta),
            "counts twice here": wrong_variance(lambda beta, tilde, means, a: tilde + 2 * means),
            "counts half here": wrong_variance(lambda beta, tilde, means, a: tilde + means / 2),
            "not yet a difference of the means": (lambda s, t, e: parts(s, t, e)[1] + e, GAP),
            "w_t e with the variance beta[.]": wrong_variance(lambda beta, tilde, means, a: tilde + means / (2 * beta)),
            "w_t e with the variance beta_tilde[.]": wrong_variance(
                lambda beta, tilde, means, a: tilde + means / (2 * tilde)
            ),
            "An alpha is missing": wrong_variance(lambda beta, tilde, means, a: tilde + means * a**2),
            "must be a square too": (lambda s, t, e: parts(s, t, e)[1] + math.sqrt(parts(s, t, 1)[2]) * e, GAP),
            "This is the standard deviation": wrong_variance(lambda beta, tilde, means, a: (tilde + means) ** 0.5),
            "alpha_bar_t stands where": (
                lambda s, t, e: parts(s, t, e)[1] + parts(s, t, e)[2] * s.alpha[t] / s.alpha_bar[t], GAP
            ),
            "L_T is missing": (best_variance, GAP - 4e-5),
            "the gap with the variance beta[.]": (best_variance, 0.05177),
            "the gap with the variance beta_tilde[.]": (best_variance, 0.7602),
            "the gap for one coordinate": (best_variance, GAP / 2),
            "the gap in bits": (best_variance, GAP / math.log(2)),
            "the whole bound": (best_variance, 0.77476),
            "The decoder's variance is still beta_1": (best_variance, 0.02151),
            "The sign is turned": (best_variance, -GAP),
            "The gap: yours is 0.03": (best_variance, 0.03),
        },
    ),
    "5.3": Answers(
        right=[(RIGHT_FLOORS, "beta_tilde", "sampler"), (torch.tensor(RIGHT_FLOORS), "beta_tilde", "sampler")],
        wrong={
            "Divide by the floor": ([[0.05, 0.08], [0.04, 0.07]], "beta_tilde", "sampler"),
            "Is the first one that of beta": ([[3.5, 2.24], [3.2, 1.9]], "beta_tilde", "sampler"),
            "The network with beta_tilde: 1.48 floors. The full chain reaches that": (
                [[1.1, 1.48], [1.39, 1.61]],
                "beta_tilde",
                "sampler",
            ),
            "The oracle with beta_tilde: 9.00 floors. Twenty steps do not": (
                [[2.24, 3.5], [1.9, 9.0]],
                "beta_tilde",
                "sampler",
            ),
            "says another word for the network": ([[3.2, 2.2], [2.5, 2.6]], "beta_tilde", "sampler"),
            "says another word for the oracle": ([[2.2, 3.2], [2.6, 2.5]], "beta_tilde", "sampler"),
            "which of its columns is the larger": (RIGHT_FLOORS, "beta", "sampler"),
            "stands for a network without error": (RIGHT_FLOORS, "beta_tilde", "network"),
            "'oracle' is another": (RIGHT_FLOORS, "beta_tilde", "oracle"),
            r"the shape should be \(2, 2\)": ([2.24, 3.5, 1.9, 3.2], "beta_tilde", "sampler"),
        },
    ),
}
