"""Checkers for the exercises of chapter 13, scaling up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffbook.exercises.answers import call, compare, exercise
from diffutils.device import make_generator


@exercise("13.1")
def _time_of_a_run(training_seconds: Callable[[float, float, float, float], float], days: float) -> str:
    for weights, examples, peak, share in ((200e6, 500e6, 1e14, 0.4), (1e6, 3e7, 2e12, 0.25)):
        right = 6 * weights * examples / (share * peak)
        compare(
            f"the seconds for {weights:g} weights, {examples:g} examples, {peak:g} operations a second, share {share:g}",
            call(training_seconds, weights, examples, peak, share),
            right,
            mistakes={
                "This is the forward pass alone; the backward pass is twice as much again.": right / 3,
                "This is the backward pass alone.": 2 * right / 3,
                "A multiplication comes with an addition: two operations for each weight, not one.": right / 2,
                "The program does not reach all that the device can do.": right * share,
                "The program reaches a share of the peak: that makes it slower.": right * share**2,
            },
        )
    compare(
        "the days of the run",
        days,
        15_000 / 86_400,
        tolerance=0.01,
        mistakes={
            "These are seconds; a day has 86,400.": 15_000,
            "These are hours; a day has 24.": 15_000 / 3600,
            "These are minutes.": 250,
        },
    )
    return "Such an estimate is made before a run is paid for. What a device reaches is measured, as (13.3) was."


@exercise("13.2")
def _best_interval(best_interval: Callable[[float, float], float], lost_share: Callable[[float, float], float]) -> str:
    for c, M in ((10.0, 86_400.0), (60.0, 3_600.0)):
        right, least = math.sqrt(2 * c * M), math.sqrt(2 * c / M)
        compare(
            f"the best interval for c = {c:g} and M = {M:g}",
            call(best_interval, c, M),
            right,
            mistakes={
                "The 2 of the second part is lost.": math.sqrt(c * M),
                "The 2 stands on the wrong side: half an interval is lost, so intervals may be longer.": (
                    math.sqrt(c * M / 2)
                ),
                "This is the square of the interval.": 2 * c * M,
            },
        )
        compare(
            f"the share that is lost for c = {c:g} and M = {M:g}",
            call(lost_share, c, M),
            least,
            mistakes={
                "This is one of two equal parts.": least / 2,
                "This is in percent; a share is asked for.": 100 * least,
                "These are the seconds lost between two failures; divide them by M.": least * M,
            },
        )
    return "A checkpoint that takes a quarter of the time is worth writing twice as often."


@exercise("13.3")
def _unequal_shares(combine: Callable[[Tensor, Sequence[int]], Tensor]) -> str:
    examples = torch.randn(64, 5, dtype=torch.float64, generator=make_generator(0))
    for sizes in ((4, 8, 16, 36), (16, 16, 16, 16), (63, 1)):
        means = torch.stack([share.mean(0) for share in examples.split(sizes)])
        weights = torch.tensor(sizes, dtype=torch.float64)[:, None]
        compare(
            f"the gradient from shares of {', '.join(map(str, sizes))}",
            call(combine, means.clone(), sizes),
            examples.mean(0),
            mistakes={
                "This is the plain mean over the shares: a small share counts as much as a large one.": means.mean(0),
                "This is the gradient of the summed loss; divide by the number of examples.": (means * weights).sum(0),
                "This is divided by the number of shares, not of examples.": (means * weights).mean(0),
                "This is the sum of the shares' gradients.": means.sum(0),
            },
        )
    return "The command asks for equal shares, and refuses a batch that cannot be shared equally."
