"""Guidance of a model by a weaker version of itself (home chapter: 14, what makes it good).

Two models of the same data, one trained longer, err in the same places, and the weaker one errs more. So the way from
the weaker one's answer to the better one's is a way from more error to less, and one can go farther along it:

    guided = answer + strength * (answer - weaker answer).

The answers of one kind of prediction are linear in each other, so it does not matter whether they are eps, x_0, v or
scores. For scores, the guided one is that of p (p / p_weaker)^strength at each noise level, p and p_weaker being the
densities that the two models stand for.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from diffutils.samplers.denoiser import Denoiser, prediction_of
from diffutils.validation import check_float, check_int, check_same_shape, require


class Guided(nn.Module):
    """A denoiser that goes beyond its own answer, away from that of a weaker one.

    Args:
        denoiser: the better one; what it predicts is what the guided one predicts.
        weaker: one that predicts the same quantity, such as a copy from earlier in the training.
        strength: how far beyond, at least 0; at 0 the answers are the better denoiser's own.
        between: (first, last) network times, ends included, at which the weaker one is asked; None is always. Elsewhere
            the answer is the better denoiser's, and costs one network call instead of two.

    Raises:
        ValueError: if the two predict different things, or a number is out of its range.

    Source: Karras et al. 2024 (arXiv:2406.02507), whose w is 1 + strength; Kynkaanniemi et al. 2024
    (arXiv:2404.07724) for the interval.
    """

    def __init__(
        self, denoiser: Denoiser, weaker: Denoiser, strength: float = 1.0, *, between: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.prediction = prediction_of(denoiser)
        same = prediction_of(weaker) == self.prediction
        require(same, "weaker.prediction", prediction_of(weaker), f"{self.prediction!r}, as the denoiser's")
        schedules = [part.schedule for part in (denoiser, weaker) if hasattr(part, "schedule")]
        if schedules:
            # A sampler holds its own schedule against this one.
            self.schedule, other = schedules[0], schedules[-1]
            alike = other is self.schedule or (other.visits(self.schedule) and self.schedule.visits(other))
            require(alike, "weaker.schedule", other, f"that of the denoiser, {self.schedule!r}")
        self.denoiser, self.weaker = denoiser, weaker
        self.strength = check_float("strength", strength, low=0.0, inclusive=True)
        self.between = None if between is None else _check_interval(between)

    def forward(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Return the guided answer, of x_t's shape (B, ...), at network time t: an int, or a (B,) LongTensor."""
        answer = self.denoiser(x_t, t)
        strength = self._strength_at(t, answer)
        if isinstance(strength, float) and strength == 0.0:
            return answer
        weaker = check_same_shape("weaker(x_t, t)", self.weaker(x_t, t), "denoiser(x_t, t)", answer)
        return answer + strength * (answer - weaker)

    def _strength_at(self, t: int | Tensor, answer: Tensor) -> float | Tensor:
        """Return the strength at t: one number, or for a tensor of times one for each example."""
        if self.between is None:
            return self.strength
        first, last = self.between
        if not isinstance(t, Tensor):
            return self.strength if first <= t <= last else 0.0
        inside = (first <= t) & (t <= last)
        return self.strength * inside.to(answer).reshape(-1, *[1] * (answer.ndim - 1))


def _check_interval(between: Sequence[int]) -> tuple[int, int]:
    require(isinstance(between, Sequence) and len(between) == 2, "between", between, "a pair (first, last)")
    first = check_int("between[0]", between[0], 0)
    return first, check_int("between[1]", between[1], first)
