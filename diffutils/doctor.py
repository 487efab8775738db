r"""The schedule doctor: any schedule in, a diagnosis out (home chapter: 11, the schedule doctor).

A sampler that starts at N(0, I) and walks the reverse chain back can be wrong in two ways that no network repairs. With
p the law it makes when every reverse step has the exact mean and the best single variance, and q_t the law of x_t,

    KL(q(x_1) || p(x_1)) <= KL(q_T || N(0, I)) + sum_{t=2}^T E KL(q(x_{t-1} | x_t) || p(x_{t-1} | x_t)).
                            the start             the steps

The start is what a chain that ends too early costs, the steps are what long steps cost. Both are in nats. Three more
numbers say what a schedule does with its T steps:

    I_t = I(x_0; x_t)               what x_t still tells of x_0, in nats; L_T = I_T + KL(q_T || N(0, I)), on average
    r_t = 1 - E|x_0 - E[x_0 | x_t]|^2 / E|x_0 - E x_0|^2    the share of the data's variance that x_t explains
    I_{t-1} - I_t                   the work of step t: what the forward step destroys, the reverse step has to make

For one Gaussian everything has a closed form; for a mixture on the line it is integrated by quadrature. Of all laws
with one mean and one covariance the Gaussian has the largest I_t and the smallest KL(q_T || N(0, I)) and r_t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffutils.distributions import GaussianMixture
from diffutils.objectives import expected_terms, optimal_variance
from diffutils.quadrature import normal_nodes
from diffutils.schedule import Schedule
from diffutils.validation import check_data, check_float, check_int, require

LOG_2PI = math.log(2 * math.pi)
# KL(q_t || N(0, 1)) is a difference of numbers of order 1: below this it is the rounding of the quadrature.
_NOISE = 1e-13
_CHUNK = 64


def reference_law() -> GaussianMixture:
    """Return the law a schedule is judged on when no other is given: two unequal bumps on the line, standardised.

    The bumps are 0.2 wide and hold 70 % and 30 % of the points; mean 0, variance 1.
    """
    weights, width = torch.tensor([0.7, 0.3], dtype=torch.float64), 0.2
    apart = math.sqrt((1 - width**2) / 0.21)
    means = torch.tensor([[-0.3 * apart], [0.7 * apart]], dtype=torch.float64)
    return GaussianMixture(weights, means, width**2)


@dataclass(frozen=True)
class Moments:
    """The mean and the covariance of a law, as far as a schedule can see them: it treats all directions alike.

    Attributes:
        mean_square: |E x_0|^2.
        spread: (d,) float64, the variances along the principal axes.
    """

    mean_square: float
    spread: Tensor

    @classmethod
    def of(cls, data: Tensor | GaussianMixture) -> Moments:
        """Return the moments of samples (N, ...) or of a law.

        Raises:
            ValueError: if the samples are fewer than two, not finite, or all equal.
        """
        if isinstance(data, GaussianMixture):
            law = data.to(dtype=torch.float64, device="cpu")
            mean, covariance = law.mean, law.covariance
        else:
            flat = check_data("data", data).flatten(1).detach().cpu().double()
            require(len(flat) >= 2, "data.shape", tuple(data.shape), "at least two samples")
            mean, covariance = flat.mean(0), torch.cov(flat.T).reshape(flat.shape[1], -1)
        spread = torch.linalg.eigvalsh(covariance).clamp(min=0.0)
        require(float(spread.max()) > 0, "data", "samples that are all equal", "samples that differ")
        return cls(float(mean.square().sum()), spread)


@dataclass(frozen=True)
class Diagnosis:
    """What ``diagnose`` found; every quantity in nats is for one example, not for one dimension.

    Attributes:
        schedule: the patient.
        dim: numbers per example, d.
        exact: True where the law of the data was given, False where only its mean and covariance were. Then
            ``start`` and ``explained`` are lower and ``information`` is an upper bound for the law they come from,
            ``L_T`` is exact, and ``steps`` is the Gaussian's, which is 0 for isotropic covariances.
        alpha_bar_T, snr_T: what is left of the data at the end; 0 for pure noise.
        L_T: the bound's last term, E KL(q(x_T | x_0) || N(0, I)), in nats.
        start: KL(q_T || N(0, I)), in nats: the price of a start from N(0, I).
        start_at: (T + 1,) float64, KL(q_t || N(0, I)) at every t, which a schedule cut at t would pay. Infinite at
            t = 0 for data that fill no volume.
        steps: sum over t = 2..T of E KL(q(x_{t-1} | x_t) || the best Gaussian step), in nats: the price of long steps.
        step_at: (T + 1,) float64, that price at each t; 0 at t = 0 and 1.
        information: (T + 1,) float64, I(x_0; x_t) in nats; infinite at t = 0.
        explained: (T + 1,) float64, the share of the data's variance that x_t explains; 1 at t = 0.
        dead_from: the first t that explains less than ``dead_below``; None if there is none.
        wasted: the share of the T steps that together do at most ``idle_share`` of the work.
        samples: how many samples an honest start must withstand; honest: whether it does.
    """

    schedule: Schedule
    dim: int
    exact: bool
    L_T: float
    start_at: Tensor = field(repr=False)
    step_at: Tensor = field(repr=False)
    information: Tensor = field(repr=False)
    explained: Tensor = field(repr=False)
    dead_from: int | None
    wasted: float
    samples: int

    @property
    def alpha_bar_T(self) -> float:
        """What the T steps keep of the data's variance."""
        return float(self.schedule.alpha_bar[-1])

    @property
    def snr_T(self) -> float:
        """The terminal signal-to-noise ratio."""
        return float(self.schedule.snr[-1])

    @property
    def start(self) -> float:
        """KL(q_T || N(0, I)) in nats."""
        return float(self.start_at[-1])

    @property
    def steps(self) -> float:
        """The price of all steps together, in nats."""
        return float(self.step_at.sum())

    @property
    def largest_beta(self) -> tuple[float, int]:
        """The largest beta and its time."""
        t = int(self.schedule.beta.argmax())
        return float(self.schedule.beta[t]), t

    @property
    def betas_rise(self) -> bool:
        """Whether no beta is smaller than the one before it."""
        return bool((self.schedule.beta[1:].diff() >= 0).all())

    @property
    def unnoticed_below(self) -> float:
        """With fewer samples than this no test tells N(0, I) from q_T: true minus false alarms stay below one half.

        n samples differ by n KL nats, and by Pinsker's inequality a test's advantage is at most sqrt(n KL / 2).
        """
        return math.inf if self.start == 0 else 1 / (2 * self.start)

    @property
    def honest(self) -> bool:
        """Whether no test on ``samples`` samples could notice that the start is N(0, I) and not q_T."""
        return self.unnoticed_below >= self.samples

    def __str__(self) -> str:
        beta, at = self.largest_beta
        word = "" if self.exact else "at least "
        dead = "never" if self.dead_from is None else f"from t = {self.dead_from}"
        dead += ", the first step (are these betas?)" if self.dead_from == 1 else ""
        few = self.unnoticed_below
        notice = "no test notices" if few == math.inf else f"no test with fewer than {_short(few)} samples notices"
        notice = notice if few > 1 else "a single sample may tell"
        lines = [
            f"{self.schedule.name}, T = {self.schedule.T}",
            f"  alpha_bar_T {self.alpha_bar_T:.3g}, terminal SNR {self.snr_T:.3g}",
            f"  L_T {self.L_T:.3g} nats",
            f"  start from N(0, I): {'honest' if self.honest else 'not honest'}, {word}{self.start:.3g} nats",
            f"    {notice}",
            f"  steps: {self.steps:.3g} nats",
            f"    largest beta {beta:.3g} at t = {at}",
            f"  signal dead {dead}",
            f"    {100 * self.wasted:.0f} % of the steps are wasted",
        ]
        return "\n".join(lines)


def diagnose(
    schedule: Schedule | Tensor | Sequence[float],
    data: GaussianMixture | Tensor | Moments | None = None,
    *,
    dead_below: float = 0.01,
    idle_share: float = 0.01,
    samples: int = 50_000,
) -> Diagnosis:
    """Examine a schedule; a mixture on the line costs about a second for 1000 steps.

    Args:
        schedule: a ``Schedule``, or a list of T betas as libraries keep them, the first for t = 1. For a list of
            running products (``alphas_cumprod``) give ``Schedule.from_alpha_bar(list)``.
        data: the law of the data: a mixture on the line, or one Gaussian in any dimension. Or samples (N, ...), of
            which only the ``Moments`` are used. None is ``reference_law()``.
        dead_below: the signal is dead where x_t explains less than this share of the data's variance.
        idle_share: the wasted steps do together at most this share of the chain's work.
        samples: a start is honest if no test on so many samples can notice it. (50,000 are what FID is measured on.)

    Raises:
        ValueError: if the betas are no schedule, the law is neither of the two, or a number is out of range.

    Source: the bound's terms as in Ho et al. 2020, equation (5); the floors of chapter 8; Lin et al. 2024
    (arXiv:2305.08891) for what a terminal SNR above 0 does.
    """
    schedule = schedule if isinstance(schedule, Schedule) else Schedule(schedule)
    dead_below = check_float("dead_below", dead_below, 0.0, 1.0)
    idle_share = check_float("idle_share", idle_share, 0.0, 1.0, inclusive=True)
    samples = check_int("samples", samples, 1)
    law = reference_law() if data is None else data
    moments = law if isinstance(law, Moments) else Moments.of(law)
    on_the_line = isinstance(law, GaussianMixture) and law.components > 1
    tables = _line_tables(schedule, law) if on_the_line else _gaussian_tables(schedule, moments)
    information, errors, start = tables
    dim, variance = len(moments.spread), float(moments.spread.mean())
    explained = 1 - errors / variance
    dead = (explained < dead_below).nonzero().flatten()
    alpha_bar, sigma2 = float(schedule.alpha_bar[-1]), float(schedule.sigma2[-1])
    x0_square = variance + moments.mean_square / dim
    return Diagnosis(
        schedule=schedule,
        dim=dim,
        exact=isinstance(law, GaussianMixture),
        L_T=0.5 * dim * (alpha_bar * (x0_square - 1) - math.log(sigma2)),
        start_at=start,
        step_at=_step_prices(schedule, errors, information, dim),
        information=information,
        explained=explained,
        dead_from=int(dead[0]) if len(dead) else None,
        wasted=_idle(information, idle_share),
        samples=samples,
    )


def _gaussian_tables(schedule: Schedule, moments: Moments) -> tuple[Tensor, Tensor, Tensor]:
    """I_t, the least error of x_0 per dimension, and KL(q_t || N(0, I)), each (T + 1,), for one Gaussian."""
    signal = schedule.snr[1:, None] * moments.spread
    information = 0.5 * torch.log1p(signal).sum(1)
    errors = (moments.spread / (1 + signal)).mean(1)
    change = schedule.alpha_bar[:, None] * (moments.spread - 1)
    start = 0.5 * (change - torch.log1p(change)).sum(1) + 0.5 * schedule.alpha_bar * moments.mean_square
    return _begin(math.inf, information), _begin(0.0, errors), start


def _line_tables(schedule: Schedule, law: GaussianMixture) -> tuple[Tensor, Tensor, Tensor]:
    """The same three tables for a mixture on the line, by the trapezoidal rule around each of its components."""
    require(law.dim == 1, "data.dim", law.dim, "1 for a mixture; one Gaussian may have any dimension")
    law = law.to(dtype=torch.float64, device="cpu")
    width = law.covariances.flatten().sqrt()
    nodes, weights = normal_nodes(1)
    # The grid of ``quadrature`` is fine enough for a component 20 times narrower than another. Equal ones need a tenth.
    stride = 10 if float(width.max() / width.min()) < 1.5 else 1
    z, weights = nodes[::stride, 0], weights[::stride] / weights[::stride].sum()
    rows = []
    for levels in zip(schedule.alpha_bar.split(_CHUNK), schedule.sigma2.split(_CHUNK)):
        a, s = (level[:, None].expand(-1, len(z)) for level in levels)
        present = [k for k in range(law.components) if law.weights[k] > 0]
        rows.append(sum(_line_part(law, k, z, weights, a, s) for k in present))
    entropy, errors, start = torch.cat(rows).T
    information = entropy[1:] - 0.5 * torch.log(2 * math.pi * math.e * schedule.sigma2[1:])
    return _begin(math.inf, information.clamp(min=0.0)), errors, start.where(start > _NOISE, 0.0)


def _line_part(law: GaussianMixture, k: int, z: Tensor, weights: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The share of component k in the entropy of q_t, in E Var(x_0 | x_t) and in KL(q_t || N(0, 1)): (times, 3)."""
    scale = (a * law.covariances[k, 0, 0] + s).sqrt()
    x = a.sqrt() * law.means[k, 0] + scale * z
    flat = dict(alpha_bar=a.flatten(), sigma2=s.flatten())
    mine = law.responsibilities(x.reshape(-1, 1), **flat)[:, k].reshape(x.shape)
    # q_t = w_k N(x; component k) / r_k, for every k; so far out that r_k vanishes, the weight of x has done so too.
    log_own = math.log(float(law.weights[k])) - z.square() / 2 - scale.log() - 0.5 * LOG_2PI
    log_q = log_own - mine.clamp(min=1e-300).log()
    spread = law.variance_x0(x.reshape(-1, 1), **flat).reshape(x.shape)
    values = torch.stack([-log_q, spread, log_q + x.square() / 2 + 0.5 * LOG_2PI], dim=-1)
    return law.weights[k] * torch.einsum("n,tnv->tv", weights, values)


def _begin(first: float, rest: Tensor) -> Tensor:
    return torch.cat([rest.new_tensor([first]), rest])


def _step_prices(schedule: Schedule, errors: Tensor, information: Tensor, dim: int) -> Tensor:
    """E KL(q(x_{t-1} | x_t) || the best isotropic Gaussian step), (T + 1,): a term of the bound minus its floor."""
    best = optimal_variance(schedule, errors)
    terms = expected_terms(schedule, errors, dim, variance=best)
    floors = information[:-1] - information[1:]
    price = torch.zeros_like(errors)
    price[2:] = (terms[1:-1] - floors[1:]).clamp(min=0.0)
    return price


def _idle(information: Tensor, share: float) -> float:
    """The largest share of steps that do together at most ``share`` of the work; step 1 is never among them."""
    work = (information[1:-1] - information[2:]).clamp(min=0.0).sort().values
    if len(work) == 0:
        return 0.0
    idle = int((work.cumsum(0) <= share * work.sum()).sum())
    return idle / (len(information) - 1)


def _short(count: float) -> str:
    return f"{count:.0f}" if count < 1e6 else f"{count:.1e}"
