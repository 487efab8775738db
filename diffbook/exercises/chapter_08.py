"""Checkers for the exercises of chapter 8, the ELBO ledger."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache

import torch
from torch import Tensor

from diffbook.exercises.answers import NotYet, call, compare, exercise, present
from diffutils import datasets
from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture
from diffutils.objectives import Bound, bayes_x0_errors, expected_terms, optimal_variance
from diffutils.schedule import Schedule


@exercise("8.1")
def _best_variances(error: Callable[[float, float], float], v_for_beta: float, v_for_tilde: float, gap: float) -> str:
    for v, level in ((0.5, 0.3), (3.0, 0.9), (0.0, 0.6)):
        noise, noisy = 1 - level, level * v + 1 - level
        compare(
            f"the error for v = {v:g}, alpha_bar = {level:g}",
            call(error, v, level),
            v * noise / noisy,
            mistakes={
                "This is the error of the best guess of the noise, not of x_0.": v * level / noisy,
                "This is the error for data with variance 1. A smaller v is easier to guess, a larger one "
                "harder.": noise,
                "The denominator is right. The numerator must vanish where there is no noise.": v / noisy,
                "This is the error of a guess that does not look at x_t.": v,
                "This is the error of x_t / sqrt(alpha_bar), a guess that does not know the law of the "
                "data.": noise / level,
                "The variance of x_t is missing in the denominator: it is 1 for v = 1 only.": v * noise,
                "This is the error's square root.": math.sqrt(v * noise / noisy),
            },
        )
    compare(
        "the v for beta",
        v_for_beta,
        1.0,
        mistakes={"Data that are one point leave no doubt about x_0, and the best variance is smaller than beta.": 0.0},
    )
    compare(
        "the v for beta_tilde",
        v_for_tilde,
        0.0,
        mistakes={"With v = 1 there is doubt about x_0, and the best variance is larger than beta_tilde.": 1.0},
    )
    entropy = math.log(2 * math.pi * math.e)
    compare(
        "the gap",
        gap,
        0.0,
        mistakes={
            "This is the bound itself. The gap is what it has beyond the entropy.": entropy,
            "This is the bound itself, in bits. The gap is what it has beyond the entropy.": entropy / math.log(2),
        },
    )
    return "A bound is exact where every true reverse step is a Gaussian of the variance that the model gives it."


@lru_cache(maxsize=1)
def _information_after_400() -> tuple[float, float, float, float]:
    """I(x_0; x_t) at t = 400 and 401, KL(q(x_400) || N(0, I)) and h(x_400) of the grid, in nats."""
    grid, long = datasets.grid_mixture(), Schedule.linear(1000)
    # The grid is the product of two equal laws on the line.
    axis = GaussianMixture(torch.full((5,), 0.2), grid.means[:5, 1:], float(grid.covariances[0, 0, 0]))
    levels = [(float(long.alpha_bar[t]), float(long.sigma2[t])) for t in (400, 401)]
    entropy, later = (2 * axis.entropy(level, sigma2=noise) for level, noise in levels)
    known, known_later = (
        h - math.log(2 * math.pi * math.e * noise) for h, (_, noise) in zip((entropy, later), levels)
    )
    return known, known_later, 2 * axis.kl_to_standard_normal(levels[0][0], sigma2=levels[0][1]), entropy


@exercise("8.2")
def _cut_chain(changed: int | Tensor | Iterable[int | Tensor], floor: float, excess: float) -> str:
    given = _indices(present(changed))
    if not given <= set(range(401)):
        raise NotYet("The indices asked for are those of L_0, L_1, ..., L_400.")
    if given - {400}:
        raise NotYet(
            f"L_{min(given - {400})} is the same in both ledgers: it belongs to a step, or to the decoder, that both "
            "chains have, and the oracle is the same."
        )
    if not given:
        raise NotYet("The cut chain starts from N(0, I) at a time at which the long one is still under way.")
    known, known_later, kl, entropy = _information_after_400()
    bit = math.log(2)
    compare(
        "the floor of L_T",
        floor,
        known,
        tolerance=1e-4,
        mistakes={
            "This is the excess of L_T.": kl,
            "This is the whole L_T.": known + kl,
            "This is the entropy of x_T. The entropy of the noise in it is to be taken off.": entropy,
            "This is the floor of the long chain's L_400: what its step from 401 to 400 pays.": known - known_later,
            "This is half of it: the grid has two dimensions.": known / 2,
            "This is in bits.": known / bit,
        },
    )
    compare(
        "the excess of L_T",
        excess,
        kl,
        tolerance=1e-2,
        mistakes={
            "This is the floor, or all of L_T. The excess is what L_T has beyond its floor.": known,
            "This is the excess of one dimension: the grid has two.": kl / 2,
            "This is the excess in bits.": kl / bit,
        },
    )
    return "The floor is what x_T still knows about x_0, the excess the price of a start where the chain did not end."


def _indices(answer: int | Tensor | Iterable[int | Tensor]) -> set[int]:
    """The whole numbers of an answer that is one of them or several; a tensor's element is none until it is one."""
    try:
        return {int(i) for i in (answer if isinstance(answer, Iterable) and getattr(answer, "ndim", 1) else [answer])}
    except (TypeError, ValueError):
        raise NotYet("The indices asked for are whole numbers, such as 7 for L_7.") from None


@lru_cache(maxsize=1)
def _forty_steps() -> tuple[Schedule, Tensor]:
    """The schedule of the DPM for points, and the errors of the grid's oracle on it."""
    grid, forty = datasets.grid_mixture(), Schedule.cosine(40)
    # The error per dimension is that of one of the grid's two equal laws on the line.
    axis = GaussianMixture(torch.full((5,), 0.2), grid.means[:5, 1:], float(grid.covariances[0, 0, 0]))
    return forty, bayes_x0_errors(axis, forty)


def _check_difference(difference: float, learned: Bound) -> None:
    forty, oracle = _forty_steps()
    errors = present(learned).x0_errors

    def bound(of: Tensor, variance: Tensor | str, dim: int = 2) -> float:
        # L_T compares the same two laws whatever the variances are: it is taken from the ledger as it stands.
        return float(expected_terms(forty, of, dim, variance=variance)[:-1].sum()) + learned.L_T

    table = optimal_variance(forty, errors)
    right = bound(errors, table) - learned.total
    compare(
        "the difference in nats, with the noise of dpm_bound in both bounds",
        difference,
        right,
        tolerance=2e-3,
        mistakes={
            "A variance for each x_t gives the smaller bound, so the table's minus that one is positive.": -right,
            "The difference is asked for in nats. This is in bits.": right / math.log(2),
            "This is the difference per dimension. The bounds are those of both together.": right / 2,
            "Here one dimension stands against two: expected_terms must be told that d is 2.": bound(errors, table, 1)
            - learned.L_T / 2
            - learned.total,
            "This is the difference with beta_t. The table holds the best variance for each step.": bound(
                errors, "beta"
            )
            - learned.total,
            "Here the table and the errors are the oracle's. The network has errors of its own, and they are "
            "larger.": bound(oracle, optimal_variance(forty, oracle)) - learned.total,
            "The table is made from the oracle's errors. The best one for this network follows from its own.": bound(
                errors, optimal_variance(forty, oracle)
            )
            - learned.total,
            "This is the bound with the table. Take off the bound with the learned variance.": right + learned.total,
        },
    )


@exercise("8.3")
def _worth(difference: float, worth: Callable[[Tensor], float], learned: Bound) -> str:
    _check_difference(difference, learned)
    local = torch.rand(50, 3, dtype=torch.float64, generator=make_generator(0)).square() + 0.01
    local = local * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    right = 1.5 * (local.mean().log() - local.log().mean())
    by_dimension = 0.5 * (local.mean(0).log() - local.log().mean(0)).sum()
    by_deviations = 1.5 * (2 * local.sqrt().mean().log() - local.log().mean())
    compare(
        "the worth of variances of shape (50, 3)",
        call(worth, local),
        right,
        mistakes={
            "The sign is turned: the smaller bound is the one with a variance for each x_t.": -right,
            "This is twice as much: a Gaussian's log-density has half the logarithm of its variance.": 2 * right,
            "This is the worth in one dimension on average. The terms of the dimensions add up.": right / 3,
            "This is in bits.": right / math.log(2),
            "Here each dimension has a number of its own. The table has one for all.": by_dimension,
            "This is zero, as it is for a table that holds the geometric mean. The best table holds the arithmetic "
            "one.": 0.0,
            "Here the mean of the standard deviations stands in the table. The mean of the variances is the "
            "best.": by_deviations,
            "This is a sum over the 50 points. The term of a step is a mean over them.": 50 * right,
        },
    )
    return "It is a mean of logarithms against the logarithm of a mean: what it is worth to know where x_t is."


@exercise("8.4")
def _other_units(in_bits: Callable[[float, int, float], float], bound_grows: float, gap_grows: float) -> str:
    bit = math.log(2)
    for entropy, dim, scale in ((0.75, 2, 10.0), (-3.0, 3, 0.5)):
        shift = math.log(scale)
        compare(
            f"the bits per dimension of {entropy:g} nats, d = {dim}, c = {scale:g}",
            call(in_bits, entropy, dim, scale),
            (entropy / dim + shift) / bit,
            mistakes={
                "This is in nats. A nat is 1 / log 2 bits.": entropy / dim + shift,
                "A nat is more than a bit: divide by log 2 where you multiply.": (entropy / dim + shift) * bit,
                "These are the bits of all dimensions together.": (entropy + dim * shift) / bit,
                "The logarithm of c comes in once per dimension, and here it is divided by d as if it came in once in "
                "all.": (entropy + shift) / dim / bit,
                "The entropy is turned into bits here, and log c is not.": entropy / dim / bit + shift,
                "The sign of log c is turned: on a wider range the density is smaller.": (entropy / dim - shift) / bit,
                "This is what the entropy was before the data were multiplied.": entropy / dim / bit,
                "The entropy grows with log c, not with log c squared: that would be the variance.": (
                    entropy / dim + 2 * shift
                )
                / bit,
                "The entropy is not multiplied by c. Write the new density and take its logarithm.": scale
                * entropy
                / dim
                / bit,
            },
        )
    grown = 2 * math.log(10)
    compare(
        "the growth of the bound",
        bound_grows,
        grown,
        tolerance=1e-2,
        mistakes={
            "This is the growth in one dimension: the grid has two.": grown / 2,
            "This is the growth in bits.": grown / bit,
            "The bound on the data in new units is another one: the decoder's density changes.": 0.0,
            "The bound falls as the density grows, and here the density becomes smaller.": -grown,
        },
    )
    compare(
        "the growth of the gap",
        gap_grows,
        0.0,
        mistakes={
            "The entropy grows too, and the gap is what the bound has beyond it.": grown,
            "The entropy grows too, and by the same: nothing is left for the gap.": -grown,
        },
    )
    return "A bound depends on the units of the data, a gap does not."
