"""What all samplers share: a denoiser, a schedule, and a walk from noise to data (home chapter: 10, fast sampling).

A sampler is one rule, ``step(x_t, t, s)``: given the state at time t it returns a state at an earlier time s. ``sample``
starts at x_T ~ N(0, I) and applies the rule from each time of its schedule to the one before. To take fewer steps, give
the sampler a respaced schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from diffutils.process import Value, convert_at
from diffutils.samplers.denoiser import Denoiser, ask, check_levels, check_sizes, predict_x0, start, x0_weights
from diffutils.schedule import Schedule
from diffutils.speed import PRECISIONS, autocast
from diffutils.validation import check_bool, check_choice, check_float, check_int, count_not_finite, require


class Sampler:
    """A rule from x_t to x_s, s < t, and the walk that applies it; the samplers of this package are its subclasses.

    Args:
        denoiser: callable of (x_t, t) with an attribute ``prediction``: a network or an oracle. It is given the int
            ``schedule.timesteps[t]``, so that a network trained on a long schedule serves a respaced one.
        schedule: the noise schedule, possibly respaced.
        clip: (low, high) to which the guess of x_0 is clipped; whatever else a rule needs is derived from the clipped
            guess. For data with known bounds only (images), never for unbounded points.

    Attributes:
        calls: how often the denoiser was called since the last ``sample`` began.

    A sampler keeps the weights of the steps that it has taken: to change a setting, make another sampler. It serves one
    walk at a time: threads need one each. A network is asked in the mode it is in: ``eval()`` it if it has dropout.

    Raises:
        ValueError: if the denoiser does not say what it predicts or cannot work on the schedule, or ``clip`` is unfit.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule, *, clip: tuple[float, float] | None = None) -> None:
        check_levels(denoiser, schedule)
        self.denoiser, self.schedule = denoiser, schedule
        self.clip = None if clip is None else _check_clip(clip)
        self.calls = 0
        # What the walk needs at every step and is computed once: the weights of ``_apply`` and standard deviations.
        self._weights: dict[tuple, tuple[Tensor, float]] = {}
        self._sigmas: dict[tuple[int, int], float] = {}

    @torch.no_grad()
    def step(self, x_t: Tensor, t: int, s: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return x_s for a state x_t, both (B, ...).

        Args:
            x_t: (B, ...) the state at time t.
            t: where the state is, in 1..T.
            s: where it goes, in 0..t-1; at s = 0 no noise is added.
            generator: source of the noise, if the rule adds any; None is torch's default.

        Raises:
            ValueError: if a time is out of range, or the denoiser's answer has not the shape of ``x_t``.
        """
        t = check_int("t", t, 1, self.schedule.T)
        return self._step(x_t, t, check_int("s", s, 0, t - 1), generator)

    @torch.no_grad()
    def sample(
        self,
        shape: Sequence[int] | None = None,
        *,
        x_T: Tensor | None = None,
        trajectory: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        precision: str = "float32",
    ) -> Tensor:
        """Walk from t = T to t = 0.

        Args:
            shape: (B, ...) of the samples; not needed where ``x_T`` is given.
            x_T: (B, ...) the state to start from; None draws it from N(0, I).
            trajectory: return every state instead of the last.
            generator: source of all noise; None is torch's default.
            device: where to sample when ``x_T`` is not given; None is the denoiser's own device, else the CPU.
            precision: of the denoiser's products, see ``speed.autocast``; the states stay in their own dtype.

        Returns:
            (B, ...) samples, or with ``trajectory`` (T + 1, B, ...) in which entry t is x_t and entry 0 the samples.

        Raises:
            ValueError: if neither or both of shape and x_T are given, or one of them is unfit; or, at the end, if the
                denoiser has led to samples that are not finite.
        """
        check_choice("precision", precision, PRECISIONS)
        check_bool("trajectory", trajectory)
        x = start(self.denoiser, shape, x_T, generator, device)
        self.calls = 0
        T = self.schedule.T
        states = x.new_empty((T + 1, *x.shape)) if trajectory else None
        if trajectory:
            states[T] = x
        with autocast(x.device, precision):
            for t in range(T, 0, -1):
                x = self._step(x, t, t - 1, generator)
                if trajectory:
                    states[t - 1] = x
        check_end(x)
        return states if trajectory else x

    def stream(
        self,
        shape: Sequence[int],
        *,
        at_most: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        precision: str = "float32",
    ) -> Iterator[Tensor]:
        """Yield the samples of ``sample(shape)`` in chunks of ``at_most``; the memory does not grow with their number.

        Args:
            shape: (B, ...) of all samples together.
            at_most: samples in a chunk; the last has what is left. Other chunks are other draws from the same law.
            generator, device, precision: as for ``sample``; one generator serves all chunks.

        Raises:
            ValueError: if a size is not a positive integer, at once; what ``sample`` raises, with the first chunk.
        """
        count, *rest = check_sizes(shape)
        check_int("at_most", at_most, 1)
        options = {"generator": generator, "device": device, "precision": precision}
        return (self.sample((min(at_most, count - first), *rest), **options) for first in range(0, count, at_most))

    def guess(self, x_t: Tensor, t: int) -> Tensor:
        """Return the denoiser's guess of x_0 at time t, of x_t's shape, clipped where the sampler clips."""
        return self._apply(self._x0, x_t, self._answer(x_t, t), t)

    def noise(self, x_t: Value, x0_hat: Value, t: int) -> Value:
        """Return the noise eps that leads from ``x0_hat`` to x_t, all of one shape."""
        level = self.schedule.levels[t]
        return convert_at(x0_hat, x_t, level.sqrt_alpha_bar, level.sqrt_one_minus_alpha_bar, "x0", "eps")

    def _answer(self, x_t: Tensor, t: int) -> Tensor:
        """Return the denoiser's answer at time t; where the sampler clips, its clipped guess of x_0."""
        self.calls += 1
        if self.clip is None:
            return ask(self.denoiser, self.schedule, x_t, t)
        return self._clipped(predict_x0(self.denoiser, self.schedule, x_t, t))

    def _apply(self, rule: Callable, x_t: Tensor, answer: Tensor, t: int, *to: float) -> Tensor:
        """Return rule(x_t, x0_hat, t, *to), a new tensor, for a rule that is linear in x_t and in the guess of x_0.

        The guess is linear in x_t and in the denoiser's answer, so the rule is, too. Then two weights say all of it:
        what it makes of (1, 0) and of (0, 1). They are computed once, in float64, and a step of the walk is one sum. A
        clipped guess is not linear: there the rule is given the tensors.
        """
        if self.clip is not None:
            return rule(x_t, answer, t, *to)
        key = (rule.__name__, x_t.dtype, t, *to)
        if (weights := self._weights.get(key)) is None:
            of_xt, of_answer = x0_weights(self.denoiser, self.schedule, t)
            # torch multiplies by a tensor of no axes in half the time that it takes for a float.
            weight_xt = torch.tensor(rule(1.0, of_xt, t, *to), dtype=x_t.dtype, device="cpu")
            weights = self._weights[key] = weight_xt, rule(0.0, of_answer, t, *to)
        return (weights[0] * x_t).add_(answer, alpha=weights[1])

    def _sigma(self, t: int, s: int) -> float:
        """Return the standard deviation of the noise that a step adds."""
        if (t, s) not in self._sigmas:
            self._sigmas[t, s] = math.sqrt(self._sigma2(t, s))
        return self._sigmas[t, s]

    @staticmethod
    def _x0(x_t: Value, x0_hat: Value, t: int) -> Value:
        return x0_hat

    def _clipped(self, x0_hat: Tensor) -> Tensor:
        return x0_hat if self.clip is None else x0_hat.clamp(*self.clip)

    def _step(self, x_t: Tensor, t: int, s: int, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no rule")


def require_finite_levels(name: str, schedule: Schedule) -> None:
    """Raise ``ValueError`` for a sampler or model that divides by sqrt(alpha_bar_T), if that is 0."""
    lowest = float(schedule.alpha_bar[-1])
    require(lowest > 0, "schedule.alpha_bar[-1]", lowest, f"above 0 for {name}, whose noise levels must be finite")


def check_end(x: Tensor, source: str = "denoiser") -> None:
    """Raise ``ValueError`` that blames ``source`` if samples are not finite."""
    if not x.is_meta and (bad := count_not_finite(x)):
        raise ValueError(f"{source} must lead to finite samples, got {bad} NaN or infinite values of {x.numel()}")


def _check_clip(clip: tuple[float, float]) -> tuple[float, float]:
    require(isinstance(clip, Sequence) and len(clip) == 2, "clip", clip, "a tuple (low, high)")
    low, high = check_float("clip[0]", clip[0]), check_float("clip[1]", clip[1])
    require(low < high, "clip", clip, "a pair with low < high")
    return low, high
