r"""The variance schedule: how much noise each step of the forward process adds.

A schedule is a list of variances beta_1, ..., beta_T, each in (0, 1). Everything else follows from it:

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
from typing import Any, Sequence

import torch
from torch import Tensor

from diffutils.validation import check_float, check_int, require

_CACHE_LIMIT = 128


class Schedule:
    """A variance schedule beta_1..beta_T and every table that follows from it.

    Args:
        beta: the T variances, each in (0, 1), for t = 1..T.
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
        ValueError: if ``beta`` is not a non-empty 1-D list of numbers in (0, 1), or ``timesteps`` does not fit it.

    Source: Ho et al. 2020, section 2, https://arxiv.org/abs/2006.11239
    """

    def __init__(self, beta: Tensor | Sequence[float], name: str = "custom", timesteps: Any = None) -> None:
        betas = _checked_betas(beta)
        self._fill(betas, torch.log1p(-betas).cumsum(0), name, _checked_timesteps(timesteps, len(betas)))

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

    def _fill_posterior(self) -> None:
        share = self.beta[1:] / self.sigma2[1:]
        # At t = 1 the posterior is x_0 itself: make that exact instead of exact up to rounding.
        share[0] = 1.0
        start = torch.zeros(1, dtype=torch.float64)
        self.beta_tilde = torch.cat([start, share * self.sigma2[:-1]])
        self.posterior_x0 = torch.cat([start, share * self.sqrt_alpha_bar[:-1]])
        keep = self.sqrt_alpha[1:] * self.sigma2[:-1] / self.sigma2[1:]
        self.posterior_xt = torch.cat([start, keep])

    @classmethod
    def linear(cls, T: int = 1000, beta_start: float | None = None, beta_end: float | None = None) -> Schedule:
        """Return betas in equal steps from ``beta_start`` to ``beta_end`` (Ho et al. 2020, section 4).

        The defaults 0.1 / T and 20 / T are the paper's 1e-4 and 0.02 at T = 1000 and give other T nearly the same
        alpha_bar_T, about 4e-5. They need T > 20; give ``beta_end`` for a shorter schedule.

        Raises:
            ValueError: if T < 1 or a beta is outside (0, 1).
        """
        T, start, end = _ends(T, beta_start, beta_end)
        return cls(torch.linspace(start, end, T, dtype=torch.float64), "linear")

    @classmethod
    def quadratic(cls, T: int = 1000, beta_start: float | None = None, beta_end: float | None = None) -> Schedule:
        """Return betas whose square roots lie in equal steps, from ``beta_start`` to ``beta_end``.

        The defaults are those of ``linear``. Source: the "quad" option of Ho et al.'s released code, and Tashiro et
        al. 2021 (CSDI), https://arxiv.org/abs/2107.03502

        Raises:
            ValueError: if T < 1 or a beta is outside (0, 1).
        """
        T, start, end = _ends(T, beta_start, beta_end)
        return cls(torch.linspace(math.sqrt(start), math.sqrt(end), T, dtype=torch.float64) ** 2, "quadratic")

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
        """Return the cosine schedule: alpha_bar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) * pi/2).

        Betas are clipped at ``max_beta``, because alpha_bar_T would be 0 otherwise.

        Raises:
            ValueError: if T < 1, s < 0 or max_beta is outside (0, 1).

        Source: Nichol and Dhariwal 2021, eq. 17, https://arxiv.org/abs/2102.09672
        """
        T = check_int("T", T, 1)
        s = check_float("s", s, 0.0, inclusive=True)
        max_beta = check_float("max_beta", max_beta, 0.0, 1.0)
        f = torch.cos((torch.linspace(0, 1, T + 1, dtype=torch.float64) + s) / (1 + s) * math.pi / 2) ** 2
        return cls((1 - f[1:] / f[:-1]).clamp(max=max_beta), "cosine")

    @classmethod
    def sigmoid(
        cls, T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, clip_min: float = 1e-9
    ) -> Schedule:
        """Return the sigmoid schedule: alpha_bar falls along a logistic curve from 1 to ``clip_min``.

        alpha_bar_t = (S(end) - S(start + (end - start) t/T)) / (S(end) - S(start)), S(u) = 1 / (1 + exp(-u / tau)).
        This is a curve for alpha_bar. Another schedule of the same name puts the betas themselves on a logistic curve.

        Raises:
            ValueError: if T < 1, start >= end, tau <= 0 or clip_min is outside (0, 1).

        Source: Chen 2023, Algorithm 1, https://arxiv.org/abs/2301.10972, after Jabri et al. 2022.
        """
        T = check_int("T", T, 1)
        start, tau = check_float("start", start), check_float("tau", tau, 0.0)
        end = check_float("end", end, start)
        clip_min = check_float("clip_min", clip_min, 0.0, 1.0)
        curve = torch.sigmoid(torch.linspace(start, end, T + 1, dtype=torch.float64) / tau)
        alpha_bar = ((curve[-1] - curve) / (curve[-1] - curve[0])).clamp(clip_min, 1.0)
        return cls(1 - alpha_bar[1:] / alpha_bar[:-1], "sigmoid")

    @classmethod
    def constant(cls, T: int, beta: float) -> Schedule:
        """Return the schedule whose T variances all equal ``beta``.

        Raises:
            ValueError: if T < 1 or beta is outside (0, 1).
        """
        T = check_int("T", T, 1)
        beta = check_float("beta", beta, 0.0, 1.0)
        return cls(torch.full((T,), beta, dtype=torch.float64), "constant")

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
        levels = _checked_levels(levels)
        before = torch.cat([torch.zeros(1, dtype=torch.float64), levels[:-1]])
        # Differences of the levels themselves: those of alpha_bar would lose the digits of a small step.
        scale = torch.hypot(torch.ones(1, dtype=torch.float64), levels)
        beta = _checked_betas((levels - before) / scale * ((levels + before) / scale))
        result = cls.__new__(cls)
        log_alpha_bar = torch.where(levels < 1, -torch.log1p(levels.square()), -2 * scale.log())
        result._fill(beta, log_alpha_bar, name, torch.arange(1, len(beta) + 1))
        return result

    @classmethod
    def geometric(cls, T: int, sigma_min: float, sigma_max: float) -> Schedule:
        """Return the schedule whose noise levels are a geometric ladder from ``sigma_min`` at 1 to ``sigma_max`` at T.

        Args:
            T: how many levels; a ladder of one level is ``sigma_max`` alone.
            sigma_min: the smallest noise level, in the units of the data.
            sigma_max: the largest.

        Raises:
            ValueError: if T < 1, or not 0 < sigma_min < sigma_max.

        Source: Song & Ermon 2019 (arXiv:1907.05600), section 4.1: sigma_i / sigma_{i+1} is constant.
        """
        T = check_int("T", T, 1)
        sigma_min = check_float("sigma_min", sigma_min, 0.0)
        sigma_max = check_float("sigma_max", sigma_max, sigma_min)
        share = torch.arange(T - 1, -1, -1, dtype=torch.float64) / max(T - 1, 1)
        ladder = (math.log(sigma_max) + share * (math.log(sigma_min) - math.log(sigma_max))).exp()
        return cls.from_noise_levels(ladder, "geometric")

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
        result = Schedule.__new__(type(self))
        result._fill(-torch.expm1(log_alpha_bar.diff()), log_alpha_bar[1:], self.name, self.timesteps[kept[1:]])
        return result

    def gather(self, table: Tensor, t: int | Tensor, like: Tensor, *, minimum: int = 0) -> Tensor:
        """Return ``table[t]`` in the dtype and on the device of ``like``, shaped to broadcast against it.

        Args:
            table: one of this schedule's tables, (T + 1,).
            t: one time for all, or one per sample: an integer tensor (B,) with B = len(like).
            like: the data, (B, ...).
            minimum: the least t allowed, 0 or 1.

        Returns:
            (1, 1, ..., 1) for one time, (B, 1, ..., 1) for one per sample. One time costs no synchronisation with a
            GPU; neither do times held in a CPU tensor.

        Raises:
            ValueError: if t is not an integer, is outside minimum..T, or has not one entry per sample.
        """
        t = self.check_time(t, len(like) if like.ndim else 1, minimum=minimum)
        if isinstance(t, int):
            return torch.full((1,) * like.ndim, float(table[t]), dtype=like.dtype, device=like.device)
        values = self._cast(table, t.device, like.dtype)[t]
        return values.to(like.device).reshape(-1, *[1] * (like.ndim - 1))

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
        low, high = (int(bound) for bound in torch.stack([t.min(), t.max()]).tolist())
        require(minimum <= low and high <= self.T, "t", f"{low}..{high}", f"integers in {minimum}..{self.T}")
        return t.long()

    def _cast(self, table: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        key = (id(table), device, dtype)
        source, copy = self._cache.get(key, (None, None))
        if source is not table:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            # dtype first: a device without float64 must never see the table itself.
            copy = table.to(dtype).to(device)
            self._cache[key] = (table, copy)
        return copy

    def __len__(self) -> int:
        return self.T

    def __repr__(self) -> str:
        return f"Schedule({self.name!r}, T={self.T}, alpha_bar_T={float(self.alpha_bar[-1]):.3g})"


def _numbers(argument: str, value: Any, allowed: str) -> Tensor:
    """Return a copy of T numbers as a float64 CPU tensor (T,)."""
    try:
        # dtype at once: a list read in torch's default float32 would lose digits before it reaches float64.
        values = torch.as_tensor(value, dtype=torch.float64, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{argument} must be {allowed}, got {value!r}") from None
    require(values.ndim == 1 and len(values) >= 1, f"{argument}.shape", tuple(values.shape), "(T,) with T at least 1")
    return values


def _checked_betas(beta: Any) -> Tensor:
    values = _numbers("beta", beta, "a list of T numbers in (0, 1)")
    outside = (~((values > 0) & (values < 1))).nonzero().flatten()
    if len(outside):
        first = int(outside[0])
        require(False, f"beta[{first}] (t = {first + 1})", float(values[first]), "in (0, 1)")
    return values


def _checked_levels(levels: Any) -> Tensor:
    values = _numbers("levels", levels, "a list of T positive increasing numbers")
    require(bool(torch.isfinite(values).all()), "levels", values.tolist(), "finite")
    increasing = float(values[0]) > 0 and bool((values.diff() > 0).all())
    require(increasing, "levels", values.tolist(), "positive and increasing: the least noise first")
    return values


def _checked_timesteps(timesteps: Any, T: int) -> Tensor:
    if timesteps is None:
        return torch.arange(1, T + 1)
    values = torch.as_tensor(timesteps).cpu()
    integer = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
    require(integer, "timesteps.dtype", values.dtype, "an integer dtype")
    require(tuple(values.shape) == (T,), "timesteps.shape", tuple(values.shape), f"({T},), one time per step")
    increasing = int(values[0]) >= 1 and bool((values.diff() > 0).all())
    require(increasing, "timesteps", values.tolist(), "increasing from at least 1")
    return values.long()


def _ends(T: Any, beta_start: float | None, beta_end: float | None) -> tuple[int, float, float]:
    T = check_int("T", T, 1)
    if beta_start is None:
        beta_start = 0.1 / T
    if beta_end is None:
        require(T > 20, "T", T, "above 20 for the default beta_end = 20 / T to be below 1; or give beta_end")
        beta_end = 20 / T
    return T, check_float("beta_start", beta_start, 0.0, 1.0), check_float("beta_end", beta_end, 0.0, 1.0)
