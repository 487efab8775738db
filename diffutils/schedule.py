r"""The variance schedule: how much noise each step of the forward process adds.

A schedule is a list of variances beta_1, ..., beta_T, each in (0, 1). Only the last may be 1: x_T is pure noise then.
Everything else follows from them:

    alpha_t     = 1 - beta_t                                        what one step keeps of the variance
    alpha_bar_t = alpha_1 * ... * alpha_t                           what t steps keep of it
    sigma2_t    = 1 - alpha_bar_t                                   what t steps have added
    snr_t       = alpha_bar_t / (1 - alpha_bar_t)                   signal-to-noise ratio of x_t
    beta_tilde_t = beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) variance of q(x_{t-1} | x_t, x_0)

The score-based papers leave the data as they are and add noise of standard deviation nu_t. Their noisy data are
x_t / sqrt(alpha_bar_t), so one ladder of noise levels is one schedule, and the other way round:

    nu_t^2 = (1 - alpha_bar_t) / alpha_bar_t = 1 / snr_t            alpha_bar_t = 1 / (1 + nu_t^2)

Time is 1-based: tables have length T + 1 and index 0 means "no noise". Tables are float64 on the CPU and are built
from log(alpha_bar), so that 1 - alpha_bar keeps its digits where alpha_bar is nearly 1, and alpha_bar keeps its own
where it is nearly 0. They are cast to the data's dtype only when they are gathered.

Home chapter: the forward process (02).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffutils.schedule_inputs import checked_alpha_bar, checked_betas, checked_levels, checked_timesteps
from diffutils.schedule_kinds import NamedSchedules
from diffutils.validation import check_int, require

_CACHE_LIMIT = 128


class Transition(NamedTuple):
    """The numbers of one jump between times s < t: those of q(x_t | x_s) and of q(x_s | x_t, x_0).

    sqrt_alpha is the factor of x_s in x_t and beta the variance of the noise; posterior_x0 and posterior_xt are the
    weights of x_0 and x_t in the posterior's mean and beta_tilde is its variance, 0 at s = 0.
    """

    sqrt_alpha: float
    beta: float
    posterior_x0: float
    posterior_xt: float
    beta_tilde: float


class Level(NamedTuple):
    """The numbers of one time t: entry t of the schedule's tables of these names, as an int and floats."""

    timestep: int
    sqrt_alpha_bar: float
    sqrt_one_minus_alpha_bar: float
    log_alpha_bar: float
    noise_level: float


class Schedule(NamedSchedules):
    """A variance schedule beta_1..beta_T and every table that follows from it.

    Args:
        beta: the T variances, each in (0, 1), for t = 1..T. The last may be 1: then alpha_bar_T and snr_T are 0,
            log_alpha_bar_T is minus and noise_levels_T plus infinity, and every other entry of a table is finite.
        name: what to call the schedule in tables and legends.
        timesteps: the T times to give a network at steps 1..T, increasing; 1..T when None. They differ from 1..T
            only for a respaced schedule, whose network was trained on the times of the schedule it came from.

    Attributes (float64 CPU tensors of length T + 1, index 0 is "no noise"):
        beta, alpha, alpha_bar, log_alpha_bar: the variances, 1 - beta, their running product and its logarithm.
        sqrt_alpha, sqrt_beta: the factors of x_{t-1} and of the noise in one step.
        sigma2: 1 - alpha_bar. sqrt_alpha_bar and sqrt_one_minus_alpha_bar: the factors of x_0 and of eps in x_t.
        snr: alpha_bar / (1 - alpha_bar); infinite at index 0.
        noise_levels: 1 / sqrt(snr), the standard deviation of the noise in x_t / sqrt(alpha_bar_t); 0 at index 0.
        beta_tilde: variance of q(x_{t-1} | x_t, x_0); 0 at indices 0 and 1 (Ho et al. 2020, eq. 7).
        posterior_x0, posterior_xt: weights of x_0 and of x_t in that posterior's mean (the same eq. 7).
        timesteps: LongTensor (T + 1,), the time a network must be given at step t.

    Raises:
        ValueError: if ``beta`` is not a non-empty 1-D list of such numbers, or ``timesteps`` does not fit it.

    Source: Ho et al. 2020, section 2, https://arxiv.org/abs/2006.11239
    """

    def __init__(self, beta: Tensor | Sequence[float], name: str = "custom", timesteps: Any = None) -> None:
        betas = checked_betas(beta)
        self._fill(betas, torch.log1p(-betas).cumsum(0), name, checked_timesteps(timesteps, len(betas)))

    @classmethod
    def _from_logs(cls, beta: Tensor, log_alpha_bar: Tensor, name: str, timesteps: Tensor) -> Schedule:
        """A schedule from betas and log(alpha_bar) that agree already: neither is computed from the other again."""
        result = cls.__new__(cls)
        result._fill(beta, log_alpha_bar, name, timesteps)
        return result

    def _fill(self, beta: Tensor, log_alpha_bar: Tensor, name: str, timesteps: Tensor) -> None:
        self.T = len(beta)
        self.name = name
        self.timesteps = torch.cat([torch.zeros(1, dtype=torch.long), timesteps])
        start = torch.zeros(1, dtype=torch.float64)
        self.beta = torch.cat([start, beta])
        self.log_alpha_bar = torch.cat([start, log_alpha_bar])
        self.alpha = self.log_alpha_bar.diff(prepend=start).exp()
        self.alpha_bar = self.log_alpha_bar.exp()
        # 1 - alpha_bar would lose all its digits where alpha_bar is nearly 1.
        # 0 - y and not -y: the latter would put a minus sign on the zero at t = 0.
        self.sigma2 = 0 - torch.expm1(self.log_alpha_bar)
        self.sqrt_alpha, self.sqrt_beta = self.alpha.sqrt(), self.beta.sqrt()
        self.sqrt_alpha_bar = (self.log_alpha_bar / 2).exp()
        self.sqrt_one_minus_alpha_bar = self.sigma2.sqrt()
        inverse_snr = torch.expm1(-self.log_alpha_bar)
        inverse_snr[0] = 0.0
        self.snr, self.noise_levels = 1 / inverse_snr, inverse_snr.sqrt()
        self._fill_posterior()
        self._cache: dict[tuple, tuple[Tensor, Tensor]] = {}
        self._transitions: dict[tuple[int, int], Transition] = {}

    def _fill_posterior(self) -> None:
        share = self.beta[1:] / self.sigma2[1:]
        # At t = 1 the posterior is x_0 itself: make that exact instead of exact up to rounding.
        share[0] = 1.0
        start = torch.zeros(1, dtype=torch.float64)
        self.beta_tilde = torch.cat([start, share * self.sigma2[:-1]])
        self.posterior_x0 = torch.cat([start, share * self.sqrt_alpha_bar[:-1]])
        keep = self.sqrt_alpha[1:] * self.sigma2[:-1] / self.sigma2[1:]
        self.posterior_xt = torch.cat([start, keep])

    @cached_property
    def levels(self) -> list[Level]:
        """The numbers of each time 0..T, as an int and floats: a walk reads them at every step."""
        tables = (self.sqrt_alpha_bar, self.sqrt_one_minus_alpha_bar, self.log_alpha_bar, self.noise_levels)
        return [Level(*row) for row in zip(*(table.tolist() for table in (self.timesteps, *tables)))]

    def transition(self, t: int, s: int) -> Transition:
        """Return the numbers of the jump between times s < t, as floats; for s = t - 1 they are the tables' own.

        Skipping steps changes beta: it is 1 - alpha_bar_t / alpha_bar_s, not a beta of this schedule.

        Raises:
            ValueError: unless 0 <= s < t <= T.

        Source: Song et al. 2021 (DDIM), https://arxiv.org/abs/2010.02502, section 4.2.
        """
        t = check_int("t", t, 1, self.T)
        s = check_int("s", s, 0, t - 1)
        if (t, s) not in self._transitions:
            self._transitions[t, s] = self._transition(t, s)
        return self._transitions[t, s]

    def _transition(self, t: int, s: int) -> Transition:
        if s == t - 1:
            tables = (self.sqrt_alpha, self.beta, self.posterior_x0, self.posterior_xt, self.beta_tilde)
            return Transition(*(float(table[t]) for table in tables))
        kept = float(self.log_alpha_bar[t] - self.log_alpha_bar[s])
        beta, sqrt_alpha, before, after = -math.expm1(kept), math.exp(kept / 2), self.sigma2[s], self.sigma2[t]
        share = beta / float(after) if s else 1.0
        weight_x0, keep = share * float(self.sqrt_alpha_bar[s]), sqrt_alpha * float(before / after)
        return Transition(sqrt_alpha, beta, weight_x0, keep, share * float(before))

    @classmethod
    def from_noise_levels(cls, levels: Tensor | Sequence[float], name: str = "ladder") -> Schedule:
        """Return the schedule whose ``noise_levels`` are the given ones: alpha_bar_t = 1 / (1 + nu_t^2).

        Then beta_t = (nu_t^2 - nu_{t-1}^2) / (1 + nu_t^2). Levels and tables are exact to rounding, however small or
        large the levels are.

        Args:
            levels: nu_1 < nu_2 < ... < nu_T, positive, in the units of the data. (Song & Ermon 2019 count them from the
                largest: their sigma_i is nu_{T+1-i}.)
            name: what to call the schedule.

        Raises:
            ValueError: if ``levels`` is not a non-empty 1-D list of positive increasing numbers, or two neighbours are
                so close, or a step so long, that a beta rounds to 0 or 1.

        Source: Song et al. 2021 (arXiv:2011.13456), section 3.4 and appendix B: variance exploding and preserving.
        """
        levels = checked_levels(levels)
        before = torch.cat([torch.zeros(1, dtype=torch.float64), levels[:-1]])
        # Differences of the levels themselves: those of alpha_bar would lose the digits of a small step.
        scale = torch.hypot(torch.ones(1, dtype=torch.float64), levels)
        beta = checked_betas((levels - before) / scale * ((levels + before) / scale), below_one=True)
        log_alpha_bar = torch.where(levels < 1, -torch.log1p(levels.square()), -2 * scale.log())
        return cls._from_logs(beta, log_alpha_bar, name, torch.arange(1, len(beta) + 1))

    @classmethod
    def from_alpha_bar(cls, alpha_bar: Tensor | Sequence[float], name: str = "custom") -> Schedule:
        """Return the schedule with these running products: beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}.

        Args:
            alpha_bar: alpha_bar_1 > ... > alpha_bar_T in (0, 1), without the 1 of t = 0; the last may be 0. Libraries
                keep such a list as ``alphas_cumprod`` and count its entries from 0: their networks are given t - 1.
            name: what to call the schedule.

        Raises:
            ValueError: if ``alpha_bar`` is not a non-empty 1-D list of such numbers.
        """
        log_alpha_bar = checked_alpha_bar(alpha_bar).log()
        beta = checked_betas(-torch.expm1(log_alpha_bar.diff(prepend=torch.zeros(1, dtype=torch.float64))))
        return cls._from_logs(beta, log_alpha_bar, name, torch.arange(1, len(beta) + 1))

    def with_zero_terminal_snr(self) -> Schedule:
        """Return this schedule stretched so that x_T is pure noise: alpha_bar_T = 0 and beta_T = 1.

        sqrt(alpha_bar) is shifted to end at 0 and scaled to start where it did, at t = 1. A network that predicts eps
        says nothing about x_0 at T then: it has to predict v or x_0.

        Raises:
            ValueError: if T is 1, where start and end are one number, or the last step changes nothing.

        Source: Lin et al. 2024, algorithm 1, https://arxiv.org/abs/2305.08891
        """
        require(self.T >= 2, "T", self.T, "at least 2 for a schedule whose start is to stay and whose end is to move")
        before, last = float(self.alpha_bar[-2]), self.log_alpha_bar[-1]
        falls = bool(self.log_alpha_bar[-2] > last)
        require(falls, "alpha_bar[T-1]", before, "above alpha_bar[T], or two steps would end in pure noise")
        # With a = sqrt(alpha_bar) it is a_1 (1 - share), share = (a_1 - a_t) / (a_1 - a_T), or, where share is nearly
        # 1, a_t (1 - a_T / a_t) a_1 / (a_1 - a_T): in logarithms, and each where it keeps its digits.
        log_alpha_bar = self.log_alpha_bar[1:]
        fall = torch.expm1((log_alpha_bar - log_alpha_bar[0]) / 2)
        share = fall / fall[-1]
        left = torch.log(-torch.expm1((last - log_alpha_bar) / 2))
        early, late = log_alpha_bar[0] + 2 * torch.log1p(-share), log_alpha_bar + 2 * (left - left[0])
        log_alpha_bar = torch.where(share < 0.5, early, late)
        log_alpha_bar[-1] = -math.inf
        beta = -torch.expm1(log_alpha_bar.diff(prepend=torch.zeros(1, dtype=torch.float64)))
        return self._from_logs(beta, log_alpha_bar, f"{self.name}, zero terminal snr", self.timesteps[1:])

    def respaced(self, steps: int) -> Schedule:
        """Return the schedule that visits only ``steps`` of this one's times, the last of them T.

        Step k of the result stands for time round(k T / steps) of this schedule: alpha_bar is the same there, bit for
        bit, and beta is 1 - alpha_bar_t / alpha_bar_s between neighbours s < t. ``timesteps`` holds the times that a
        network trained on this schedule must be given.

        Raises:
            ValueError: if steps is outside 1..T.

        Source: Nichol and Dhariwal 2021, section 4; Song et al. 2021 (DDIM), section 4.2.
        """
        steps = check_int("steps", steps, 1, self.T)
        if steps == self.T:
            return self
        kept = torch.tensor([(2 * k * self.T + steps) // (2 * steps) for k in range(steps + 1)])
        log_alpha_bar = self.log_alpha_bar[kept]
        beta, times = -torch.expm1(log_alpha_bar.diff()), self.timesteps[kept[1:]]
        return self._from_logs(beta, log_alpha_bar[1:], self.name, times)

    def visits(self, other: Schedule) -> bool:
        """Return whether the other's times are among this one's, with the same alpha_bar: is it this, perhaps respaced?"""
        place = torch.searchsorted(self.timesteps, other.timesteps).clamp(max=self.T)
        same_times = bool((self.timesteps[place] == other.timesteps).all())
        return same_times and torch.allclose(self.alpha_bar[place], other.alpha_bar, rtol=1e-6, atol=0.0)

    def gather(self, table: Tensor, t: int | Tensor, like: Tensor, *, minimum: int = 0) -> Tensor:
        """Return ``table[t]`` as ``gather_all`` does."""
        return self.gather_all([table], t, like, minimum=minimum)[0]

    def gather_all(
        self, tables: Sequence[Tensor], t: int | Tensor, like: Tensor, *, minimum: int = 0
    ) -> list[Tensor]:
        """Return ``table[t]`` of each table in the dtype and on the device of ``like``, shaped to broadcast against it.

        Args:
            tables: of this schedule's tables, each (T + 1,).
            t: one time for all, or one per sample: an integer tensor (B,) with B = len(like).
            like: the data, (B, ...).
            minimum: the least t allowed, 0 or 1.

        Returns:
            A tensor for each table: (1, 1, ..., 1) for one time, (B, 1, ..., 1) for one per sample. One time costs no
            synchronisation with a GPU; neither do times held in a CPU tensor.

        Raises:
            ValueError: if t is not an integer, is outside minimum..T, or has not one entry per sample.
        """
        t = self.check_time(t, len(like) if like.ndim else 1, minimum=minimum)
        if isinstance(t, int):
            shape = (1,) * like.ndim
            return [torch.full(shape, float(table[t]), dtype=like.dtype, device=like.device) for table in tables]
        return self.at_times(tables, t, like)

    def at_times(self, tables: Sequence[Tensor], t: Tensor, like: Tensor) -> list[Tensor]:
        """Return ``table[t]`` of each table as ``gather_all`` does, for times (B,) that are not looked at.

        A look at them, or a table that is copied to a GPU at every call, would make a training loop wait for the GPU.
        """
        values = (self._cast(table, t.device, like.dtype).index_select(0, t) for table in tables)
        return [value.to(like.device).reshape(-1, *[1] * (like.ndim - 1)) for value in values]

    def network_times(self, t: Tensor) -> Tensor:
        """Return the times (B,) that a network must be given at steps t (B,), which are not looked at."""
        return self.at_times([self.timesteps], t, t)[0]

    def check_time(self, t: int | Tensor, batch: int, *, minimum: int = 0) -> int | Tensor:
        """Return t as an int, or as a LongTensor (batch,), if every entry is in minimum..T.

        Raises:
            ValueError: if t is not an integer or an integer tensor of shape (batch,), or is outside minimum..T.
        """
        if not isinstance(t, Tensor):
            return check_int("t", t, minimum, self.T)
        integer = not (t.is_floating_point() or t.is_complex() or t.dtype == torch.bool)
        require(integer, "t.dtype", t.dtype, "an integer dtype")
        if t.ndim == 0:
            return check_int("t", int(t), minimum, self.T)
        require(tuple(t.shape) == (batch,), "t.shape", tuple(t.shape), f"({batch},), one time per sample")
        low, high = (int(bound) for bound in torch.stack(torch.aminmax(t)).tolist())
        require(minimum <= low and high <= self.T, "t", f"{low}..{high}", f"integers in {minimum}..{self.T}")
        return t.long()

    def _cast(self, table: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        key = (id(table), device, dtype)
        source, copy = self._cache.get(key, (None, None))
        if source is not table:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            # dtype first: a device without float64 must never see the table itself. Autograd may meet the copy later.
            with torch.inference_mode(False):
                copy = table.to(dtype).to(device)
            self._cache[key] = (table, copy)
        return copy

    def __len__(self) -> int:
        return self.T

    def __repr__(self) -> str:
        return f"Schedule({self.name!r}, T={self.T}, alpha_bar_T={float(self.alpha_bar[-1]):.3g})"
