"""Right and wrong answers to the exercises of chapter 9."""

import math

import torch
from scipy.stats import chi2, kendalltau, pearsonr, spearmanr

from exercises import Answers

REAL = 0.969142  # what (9.1) gives for 597 samples and 597 test digits
COLUMNS = {
    "moons": ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0]),
    "digits": ([1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 3.0, 2.0]),
}
ORDER = ["distance", "coverage", "share"]


EXACT = "donot_use_mm_for_euclid_dist"


def nearest(samples, stored):
    return torch.stack([(stored - sample).norm(dim=1).min() for sample in samples])


def tau(x, y):
    return kendalltau(x, y).statistic


def pairs(x):
    return len(x) * (len(x) - 1) / 2


def share(blur, sd):
    return chi2.cdf(9 * sd**2 / (sd**2 + blur**2), df=2)


def lazy(function):
    return 1, REAL, function


def ranked(function):
    return function, "digits", COLUMNS


def blurred(function):
    return function, ORDER


ANSWERS = {
    "9.1": Answers(
        right=[
            lazy(nearest),
            lazy(lambda samples, stored: torch.cdist(samples, stored, compute_mode=EXACT).amin(1)),
            (0.84, torch.tensor(0.9691), lambda samples, stored: nearest(samples, stored).tolist()),
        ],
        wrong={
            "not exactly zero.*rounds": lazy(lambda samples, stored: torch.cdist(samples, stored).amin(1)),
            "measured between two such sets": (0, REAL, nearest),
            "distance of two such sets": (3, REAL, nearest),
            "less than 1 even for real data": (1, 1, nearest),
            "Only 597 of them": (1, 0.9960206, nearest),
            "Here 1200 stands": (1, 0.8677616, nearest),
            "share that is missed": (1, 1 - REAL, nearest),
            "ends at i = k - 1": (1, 1 - (1 - REAL) * 591 / 1188, nearest),
            "begins at i = 0": (1, 1 - (1 - REAL) * 1193 / 596, nearest),
            "limit for large n": (1, 0.96875, nearest),
            "The coverage: yours is 0.9": (1, 0.9, nearest),
            "one number for each stored image": lazy(lambda samples, stored: nearest(stored, samples)),
            "squared distances": lazy(lambda samples, stored: nearest(samples, stored) ** 2),
            "root of the dimension": lazy(lambda samples, stored: nearest(samples, stored) / math.sqrt(stored.shape[1])),
            "sum of absolute": lazy(lambda samples, stored: torch.cdist(samples, stored, p=1).min(1).values),
            "means over all stored": lazy(lambda samples, stored: torch.cdist(samples, stored).mean(1)),
            "to the mean of the stored": lazy(lambda samples, stored: (samples - stored.mean(0)).norm(dim=1)),
            "the farthest": lazy(lambda samples, stored: torch.cdist(samples, stored).max(1).values),
            "among the samples": lazy(lambda samples, _: torch.cdist(samples, samples).kthvalue(2, dim=1).values),
            "not how near it is": lazy(lambda samples, stored: torch.cdist(samples, stored).min(1).indices),
            r"Take \.values": lazy(lambda samples, stored: torch.cdist(samples, stored).min(1)),
            r"the shape should be \(6,\)": lazy(lambda samples, stored: nearest(samples, stored).mean()),
        },
    ),
    "9.2": Answers(
        right=[ranked(tau), (lambda x, y: torch.tensor(tau(x, y)), "digits", COLUMNS)],
        wrong={
            "share of pairs in the same order": ranked(lambda x, y: (1 + tau(x, y)) / 2),
            "This is a count": ranked(lambda x, y: tau(x, y) * pairs(x)),
            "The sign is turned": ranked(lambda x, y: -tau(x, y)),
            "This is half of it": ranked(lambda x, y: tau(x, y) / 2),
            "This is twice as much": ranked(lambda x, y: 2 * tau(x, y)),
            "no pair with itself": ranked(lambda x, y: tau(x, y) * pairs(x) / (len(x) ** 2 / 2)),
            "correlation of the values": ranked(lambda x, y: pearsonr(x, y).statistic),
            "Spearman's": ranked(lambda x, y: spearmanr(x, y).statistic),
            "'grid' is another": (tau, "grid", COLUMNS),
            r"For moons it is 0.67, and there is a data set with less": (tau, "moons", COLUMNS),
        },
    ),
    "9.3": Answers(
        right=[blurred(share), (lambda blur, sd: torch.tensor(share(blur, sd)), tuple(ORDER))],
        wrong={
            "without the blur": blurred(lambda blur, sd: share(0, sd)),
            "share outside": blurred(lambda blur, sd: 1 - share(blur, sd)),
            "share on the line": blurred(lambda blur, sd: chi2.cdf(9 * sd**2 / (sd**2 + blur**2), df=1)),
            "do not add up": blurred(lambda blur, sd: chi2.cdf(9 * sd**2 / (sd + blur) ** 2, df=2)),
            "ratio of the variances": blurred(lambda blur, sd: chi2.cdf(9 * sd / math.hypot(sd, blur), df=2)),
            "a 2 is missing": blurred(lambda blur, sd: chi2.cdf(18 * sd**2 / (sd**2 + blur**2), df=2)),
            "a set has none": (share, set(ORDER)),
            "'first' is another": (share, "first"),
            "3 is another": (share, 3),
            "'nll' is another": (share, ["distance", "nll", "share"]),
            "stand in the list once": (share, "share"),
            "turn it": (share, ORDER[::-1]),
            "how wide a cluster should be": (share, ["share", "distance", "coverage"]),
            "and it comes first": (share, ["coverage", "distance", "share"]),
        },
    ),
}
