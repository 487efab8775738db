"""Schedules against the papers' formulas, against exact rational arithmetic, and against bad input."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import pytest
import torch
from torch.testing import assert_close

from diffutils.schedule import Schedule

NAMED = {
    "linear": Schedule.linear(),
    "cosine": Schedule.cosine(),
    "quadratic": Schedule.quadratic(),
    "sigmoid": Schedule.sigmoid(),
    "constant": Schedule.constant(100, 0.05),
    "short": Schedule.linear(50, 1e-4, 0.02),
    "one step": Schedule([0.3]),
    "geometric": Schedule.geometric(25, 0.02, 40.0),
}


@pytest.fixture(params=NAMED, name="schedule")
def _schedule(request):
    return NAMED[request.param]


def test_tables_are_one_based_float64_on_the_cpu(schedule):
    tables = "beta alpha alpha_bar log_alpha_bar beta_tilde snr sigma2 sqrt_alpha_bar sqrt_one_minus_alpha_bar"
    for name in tables.split():
        table = getattr(schedule, name)
        assert (table.shape, table.dtype, table.device.type) == ((schedule.T + 1,), torch.float64, "cpu"), name
    assert len(schedule) == schedule.T
    assert [float(x[0]) for x in (schedule.beta, schedule.alpha, schedule.alpha_bar)] == [0.0, 1.0, 1.0]
    assert float(schedule.sigma2[0]) == 0.0 and math.copysign(1, schedule.sigma2[0]) == 1
    assert float(schedule.snr[0]) == math.inf
    assert schedule.beta_tilde[:2].tolist() == [0.0, 0.0]
    assert schedule.timesteps.tolist() == list(range(schedule.T + 1)) and schedule.timesteps.dtype == torch.long


def test_every_table_agrees_with_exact_fractions():
    beta = [0.001, 0.25, 0.5, 0.999]
    schedule = Schedule(beta)
    alpha_bar = [Fraction(1)]
    for b in beta:
        alpha_bar.append(alpha_bar[-1] * (1 - Fraction(b)))
    close = dict(rtol=1e-14, atol=0.0)
    exact = lambda values: torch.tensor([float(v) for v in values], dtype=torch.float64)  # noqa: E731
    steps = range(1, 5)
    assert_close(schedule.alpha_bar, exact(alpha_bar), **close)
    assert_close(schedule.sigma2, exact(1 - a for a in alpha_bar), **close)
    assert_close(schedule.snr[1:], exact(a / (1 - a) for a in alpha_bar[1:]), **close)
    tilde = [Fraction(beta[t - 1]) * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) for t in steps]
    assert_close(schedule.beta_tilde[1:], exact(tilde), **close)
    x0 = [math.sqrt(alpha_bar[t - 1]) * beta[t - 1] / float(1 - alpha_bar[t]) for t in steps]
    assert_close(schedule.posterior_x0[1:], exact(x0), **close)
    x_t = [math.sqrt(1 - beta[t - 1]) * float((1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])) for t in steps]
    assert_close(schedule.posterior_xt[1:], exact(x_t), **close)


def test_nothing_is_lost_where_alpha_bar_is_nearly_one_or_nearly_zero():
    tiny = Schedule([1e-18, 2e-18, 3e-18])
    assert_close(tiny.sigma2, torch.tensor([0, 1e-18, 3e-18, 6e-18], dtype=torch.float64), rtol=1e-12, atol=0.0)
    assert_close(tiny.beta_tilde[2:], torch.tensor([2 / 3, 1.5], dtype=torch.float64) * 1e-18, rtol=1e-12, atol=0.0)
    assert_close(tiny.snr[1:], torch.tensor([1, 1 / 3, 1 / 6], dtype=torch.float64) * 1e18, rtol=1e-12, atol=0.0)
    steep = Schedule.constant(300, 0.9)
    assert float(steep.alpha_bar[300]) == pytest.approx(1e-300, rel=1e-11, abs=0)
    assert float(steep.snr[300]) == pytest.approx(1e-300, rel=1e-11, abs=0)


def test_invariants(schedule):
    assert bool((schedule.alpha_bar.diff() < 0).all()) and bool((schedule.snr.diff() < 0).all())
    assert_close(schedule.alpha, 1 - schedule.beta, rtol=0.0, atol=1e-15)
    assert_close(schedule.alpha.cumprod(0), schedule.alpha_bar, rtol=1e-12, atol=0.0)
    assert_close(schedule.sqrt_alpha_bar**2 + schedule.sqrt_one_minus_alpha_bar**2, torch.ones(schedule.T + 1).double())
    assert bool((schedule.beta_tilde <= schedule.beta).all())


def test_linear_is_ho_et_al():
    schedule = Schedule.linear()
    assert_close(schedule.beta[[1, 2, 1000]], torch.tensor([1e-4, 1e-4 + 0.0199 / 999, 0.02], dtype=torch.float64))
    assert float(schedule.alpha_bar[-1]) == pytest.approx(4.0358e-05, rel=1e-4)


@pytest.mark.parametrize("T", [25, 100, 5000])
def test_linear_defaults_keep_the_sum_of_betas(T):
    schedule = Schedule.linear(T)
    assert float(schedule.beta.sum()) == pytest.approx(10.05)
    assert float(schedule.alpha_bar[-1]) < math.exp(-10.05)


def test_cosine_is_nichol_and_dhariwal():
    T, s = 1000, 0.008
    schedule = Schedule.cosine(T)
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    expected = torch.tensor([value / f[0] for value in f], dtype=torch.float64)
    clipped = schedule.beta == 0.999
    assert clipped.nonzero().flatten().tolist() == [1000]
    assert_close(schedule.alpha_bar[:T], expected[:T], rtol=1e-9, atol=0.0)
    assert float(schedule.alpha_bar[T]) == pytest.approx(expected[T - 1].item() * 0.001, rel=1e-9)


def test_quadratic_has_evenly_spaced_roots():
    schedule = Schedule.quadratic(200, 1e-3, 0.09)
    step = (0.3 - math.sqrt(1e-3)) / 199
    assert_close(schedule.sqrt_beta[1:].diff(), torch.full((199,), step, dtype=torch.float64), rtol=1e-9, atol=0.0)
    assert schedule.beta[[1, 200]].tolist() == pytest.approx([1e-3, 0.09])


@pytest.mark.parametrize("start, end, tau", [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.3), (-3.0, 3.0, 1.1)])
def test_sigmoid_is_chen(start, end, tau):
    T = 400
    schedule = Schedule.sigmoid(T, start, end, tau)

    def logistic(u: float) -> float:
        return 1 / (1 + math.exp(-u / tau))

    # Algorithm 1 of the paper, line by line, with its t in [0, 1].
    gamma = [
        min(max((logistic(end) - logistic(t / T * (end - start) + start)) / (logistic(end) - logistic(start)), 1e-9), 1)
        for t in range(T + 1)
    ]
    assert_close(schedule.alpha_bar, torch.tensor(gamma, dtype=torch.float64), rtol=1e-6, atol=1e-15)
    assert float(schedule.alpha_bar[-1]) == pytest.approx(1e-9)


def test_constant_is_geometric():
    schedule = Schedule.constant(30, 0.2)
    assert_close(schedule.alpha_bar, 0.8 ** torch.arange(31, dtype=torch.float64))


def test_noise_levels_and_schedules_translate_into_each_other(schedule):
    levels = schedule.noise_levels
    assert levels.dtype == torch.float64 and float(levels[0]) == 0.0 and math.copysign(1, levels[0]) == 1
    assert_close(levels[1:], schedule.snr[1:].rsqrt(), rtol=1e-13, atol=0.0)
    assert_close(levels[1:], (schedule.sigma2 / schedule.alpha_bar).sqrt()[1:], rtol=1e-12, atol=0.0)
    back = Schedule.from_noise_levels(levels[1:])
    assert_close(back.noise_levels, levels, rtol=1e-12, atol=0.0)
    assert_close(back.alpha_bar, schedule.alpha_bar, rtol=1e-11, atol=0.0)
    assert_close(back.beta, schedule.beta, rtol=1e-9, atol=0.0)


def test_noise_levels_agree_with_exact_fractions_at_any_scale():
    for scale in (Fraction(1, 10**12), Fraction(1), Fraction(10**6)):
        nu = [scale * f for f in (Fraction(1, 4), Fraction(1, 2), Fraction(3))]
        schedule = Schedule.from_noise_levels([float(n) for n in nu])
        exact = lambda values: torch.tensor([float(v) for v in values], dtype=torch.float64)  # noqa: E731
        beta = [(n**2 - m**2) / (1 + n**2) for m, n in zip([0, *nu], nu)]
        close = dict(rtol=1e-13, atol=0.0)
        assert_close(schedule.beta[1:], exact(beta), **close)
        assert_close(schedule.alpha_bar[1:], exact(1 / (1 + n**2) for n in nu), **close)
        assert_close(schedule.sigma2[1:], exact(n**2 / (1 + n**2) for n in nu), **close)
        assert_close(schedule.noise_levels[1:], exact(nu), **close)


def test_a_geometric_ladder_has_one_ratio_and_the_ends_asked_for():
    schedule = Schedule.geometric(10, 0.01, 1.0)
    levels = schedule.noise_levels[1:]
    assert levels[[0, -1]].tolist() == pytest.approx([0.01, 1.0], rel=1e-14)
    # Song and Ermon 2019, section 5: ten levels from 1 down to 0.01
    assert_close(levels[1:] / levels[:-1], torch.full((9,), 100 ** (1 / 9), dtype=torch.float64), rtol=1e-12, atol=0.0)
    assert schedule.timesteps.tolist() == list(range(11)) and schedule.name == "geometric"
    for T, ends in ((1, [2.0]), (2, [0.5, 2.0])):
        assert Schedule.geometric(T, 0.5, 2.0).noise_levels[1:].tolist() == pytest.approx(ends, rel=1e-14)
    short = schedule.respaced(5)
    assert_close(short.noise_levels, schedule.noise_levels[short.timesteps], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.cosine, Schedule.quadratic, Schedule.sigmoid])
@pytest.mark.parametrize("steps", [10, 7, 1000, 1])
def test_respaced(make, steps):
    parent = make(1000)
    short = parent.respaced(steps)
    kept = short.timesteps
    assert short.T == steps and len(kept) == steps + 1 and kept[0] == 0 and kept[-1] == 1000
    spacing = 1000 / steps
    assert max(abs(int(time) - k * spacing) for k, time in enumerate(kept)) <= 0.5
    assert torch.equal(short.alpha_bar, parent.alpha_bar[kept])
    assert torch.equal(short.sigma2, parent.sigma2[kept]) and torch.equal(short.snr, parent.snr[kept])
    ratio = parent.alpha_bar[kept[1:]] / parent.alpha_bar[kept[:-1]]
    assert_close(short.beta[1:], 1 - ratio, rtol=1e-9, atol=1e-13)
    assert_close(short.alpha.cumprod(0), short.alpha_bar, rtol=1e-10, atol=0.0)
    assert short.beta_tilde[:2].tolist() == [0.0, 0.0] and short.posterior_x0[1] == 1.0


def test_respaced_twice_maps_to_the_first_parent():
    parent = Schedule.linear()
    nested = parent.respaced(100).respaced(10)
    assert nested.timesteps.tolist() == list(range(0, 1001, 100))
    assert torch.equal(nested.alpha_bar, parent.alpha_bar[::100])


def test_a_jump_of_one_step_is_the_tables_bit_for_bit(schedule):
    tables = (schedule.sqrt_alpha, schedule.beta, schedule.posterior_x0, schedule.posterior_xt, schedule.beta_tilde)
    for t in range(1, schedule.T + 1):
        assert schedule.transition(t, t - 1) == tuple(float(table[t]) for table in tables)


def test_the_numbers_of_a_time_are_the_tables_bit_for_bit(schedule):
    names = ("timesteps", "sqrt_alpha_bar", "sqrt_one_minus_alpha_bar", "log_alpha_bar", "noise_levels")
    assert len(schedule.levels) == schedule.T + 1
    for t, level in enumerate(schedule.levels):
        assert level == tuple(getattr(schedule, name)[t].item() for name in names)


def test_gather_one_time_and_one_per_sample():
    schedule = Schedule.linear()
    like = torch.zeros(4, 3, 8, 8)
    one = schedule.gather(schedule.alpha_bar, 7, like)
    assert one.shape == (1, 1, 1, 1) and one.dtype == torch.float32
    assert float(one) == pytest.approx(float(schedule.alpha_bar[7]), rel=1e-7)
    each = schedule.gather(schedule.alpha_bar, torch.tensor([0, 1, 999, 1000]), like)
    assert each.shape == (4, 1, 1, 1) and each.dtype == torch.float32
    assert_close(each.flatten(), schedule.alpha_bar[[0, 1, 999, 1000]].float(), rtol=0.0, atol=0.0)
    assert schedule.gather(schedule.beta, torch.tensor(5), like[:, 0, 0, 0]).shape == (1,)
    double = schedule.gather(schedule.alpha_bar, torch.tensor([3] * 4, dtype=torch.int32), like.double())
    assert torch.equal(double.flatten(), schedule.alpha_bar[[3] * 4])


def test_gather_takes_a_number_for_a_batch_of_one():
    schedule, like = Schedule.linear(), torch.tensor(0.5)
    assert schedule.gather(schedule.beta, 7, like).shape == ()
    assert schedule.gather(schedule.beta, torch.tensor([7]), like).tolist() == [float(schedule.beta[7].float())]
    with pytest.raises(ValueError, match=r"^t\.shape must be \(1,\)"):
        schedule.gather(schedule.beta, torch.tensor([7, 8]), like)


def test_gather_caches_copies_up_to_a_limit_and_does_not_mistake_tables():
    schedule = Schedule.linear(100)
    like, t = torch.zeros(1), torch.tensor([50])
    held = []
    for _ in range(300):
        scaled = schedule.alpha_bar * 2
        assert float(schedule.gather(scaled, t, like)) == pytest.approx(2 * float(schedule.alpha_bar[50]))
        held.append(len(schedule._cache))
    assert max(held) == 128 and held[:3] == [1, 2, 3]
    other = copy.deepcopy(schedule)
    assert float(other.gather(other.alpha_bar, t, like)) == pytest.approx(float(schedule.alpha_bar[50]))


@pytest.mark.parametrize(
    "t, word",
    [
        (-1, "0..1000"),
        (1001, "0..1000"),
        (1.0, "integer"),
        (True, "integer"),
        (None, "integer"),
        (torch.tensor([0.0, 1.0]), "dtype"),
        (torch.tensor([True, False]), "dtype"),
        (torch.tensor([1, 2, 3]), "shape"),
        (torch.tensor([1]), "shape"),
        (torch.tensor([[1, 2]]), "shape"),
        (torch.tensor([5, -1]), "-1..5"),
        (torch.tensor([5, 1001]), "5..1001"),
        (torch.tensor(1001), "0..1000"),
        (torch.tensor(2.0), "dtype"),
    ],
)
def test_gather_refuses_bad_times(t, word):
    schedule = Schedule.linear()
    with pytest.raises(ValueError, match="^t.*" + word.replace(".", r"\.")):
        schedule.gather(schedule.beta, t, torch.zeros(2, 3))


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: Schedule([]), "beta.shape"),
        (lambda: Schedule([[0.1]]), "beta.shape"),
        (lambda: Schedule("linear"), "beta"),
        (lambda: Schedule([0.1, 0.0]), r"beta\[1\]"),
        (lambda: Schedule([1.0, 0.1]), r"beta\[0\]"),
        (lambda: Schedule([0.1, math.nextafter(1.0, 2.0)]), r"beta\[1\]"),
        (lambda: Schedule([0.1, 0.2, -0.1]), r"beta\[2\]"),
        (lambda: Schedule([float("nan")]), r"beta\[0\]"),
        (lambda: Schedule([0.1, 0.2], timesteps=[1]), "timesteps.shape"),
        (lambda: Schedule([0.1, 0.2], timesteps=[2, 1]), "timesteps"),
        (lambda: Schedule([0.1, 0.2], timesteps=["a", "b"]), "timesteps must be a list of 2 integers"),
        (lambda: Schedule([0.5, True]), "beta must be a list of T numbers"),
        (lambda: Schedule(torch.tensor([True])), "beta must be a list of T numbers"),
        (lambda: Schedule(torch.tensor([0.1 + 0.5j]).numpy()), "beta must be a list of T numbers"),
        (lambda: Schedule(torch.tensor([0.1 + 0.5j])), "beta must be a list of T numbers"),
        (lambda: Schedule([0.1, 0.2], timesteps=[0, 1]), "timesteps"),
        (lambda: Schedule([0.1, 0.2], timesteps=[1, 1]), "timesteps"),
        (lambda: Schedule([0.1, 0.2], timesteps=[1.0, 2.0]), "timesteps.dtype"),
        (lambda: Schedule([0.1], timesteps=[True]), "timesteps.dtype"),
        (lambda: Schedule([0.1], timesteps=[1 + 0j]), "timesteps.dtype"),
        (lambda: Schedule.linear(0), "T"),
        (lambda: Schedule.linear(2.5), "T"),
        (lambda: Schedule.linear(20), "T"),
        (lambda: Schedule.linear(10, 0.1, 1.0), "beta_end"),
        (lambda: Schedule.linear(10, 0.1, 0.0), "beta_end"),
        (lambda: Schedule.linear(10, 0.0, 0.1), "beta_start"),
        (lambda: Schedule.linear(10, 1.0, 0.1), "beta_start"),
        (lambda: Schedule.quadratic(-1), "T"),
        (lambda: Schedule.quadratic(10, 0.1, 2.0), "beta_end"),
        (lambda: Schedule.cosine(0), "T"),
        (lambda: Schedule.cosine(10, s=-0.1), "s"),
        (lambda: Schedule.cosine(10, max_beta=1.0), "max_beta"),
        (lambda: Schedule.cosine(10, max_beta=0.0), "max_beta"),
        (lambda: Schedule.sigmoid(0), "T"),
        (lambda: Schedule.sigmoid(10, start=3.0, end=3.0), "end"),
        (lambda: Schedule.sigmoid(10, tau=0.0), "tau must be a finite number"),
        (lambda: Schedule.sigmoid(10, tau=-0.5), "tau must be a finite number"),
        (lambda: Schedule.sigmoid(10, clip_min=1.5), "clip_min must be a finite number"),
        (lambda: Schedule.sigmoid(10, clip_min=0.0), "clip_min"),
        (lambda: Schedule.sigmoid(10, clip_min=1.0), "clip_min"),
        (lambda: Schedule.constant(0, 0.1), "T"),
        (lambda: Schedule.constant(10, 1.0), "beta must"),
        (lambda: Schedule.constant(10, 0.0), "beta must"),
        (lambda: Schedule.constant(10, None), "beta must"),
        (lambda: Schedule.from_noise_levels([]), "levels.shape"),
        (lambda: Schedule.from_noise_levels("ladder"), "levels"),
        (lambda: Schedule.from_noise_levels([0.0, 1.0]), "levels"),
        (lambda: Schedule.from_noise_levels([2.0, 1.0]), "levels"),
        (lambda: Schedule.from_noise_levels([1.0, float("inf")]), "levels"),
        (lambda: Schedule.from_noise_levels([1.0, 1e300]), r"beta\[1\]"),
        (lambda: Schedule.from_noise_levels([1.0, 1e12]), r"beta\[1\]"),
        (lambda: Schedule.from_alpha_bar([]), "alpha_bar.shape"),
        (lambda: Schedule.from_alpha_bar([1.0, 0.5]), r"alpha_bar\[0\].*without the 1 of t = 0"),
        (lambda: Schedule.from_alpha_bar([0.9, 0.0, 0.0]), r"alpha_bar\[1\]"),
        (lambda: Schedule.from_alpha_bar([0.9, 0.5, 0.5]), r"alpha_bar\[2\].*below the entry before"),
        (lambda: Schedule.from_alpha_bar([0.9, 0.5, -0.1]), r"alpha_bar\[2\]"),
        (lambda: Schedule.from_alpha_bar([0.9, float("nan")]), r"alpha_bar\[1\]"),
        (lambda: Schedule([0.5]).with_zero_terminal_snr(), "T"),
        # 1e-20 is lost in log(alpha_bar): the last two entries are one number.
        (lambda: Schedule([0.5, 0.5, 0.5, 1e-20]).with_zero_terminal_snr(), r"alpha_bar\[T-1\].*got 0\.1"),
        (lambda: Schedule.geometric(0, 0.1, 1.0), "T"),
        (lambda: Schedule.geometric(5, 0.0, 1.0), "sigma_min"),
        (lambda: Schedule.geometric(5, 1.0, 1.0), "sigma_max"),
        (lambda: Schedule.linear().respaced(0), "steps"),
        (lambda: Schedule.linear().respaced(1001), "steps"),
        (lambda: Schedule.linear().respaced(10.0), "steps"),
    ],
)
def test_bad_input_names_the_argument(make, argument):
    with pytest.raises(ValueError, match="^" + argument):
        make()


TERMINAL = {
    "linear": Schedule.linear().with_zero_terminal_snr(),
    "cosine": Schedule.cosine().with_zero_terminal_snr(),
    "short": Schedule.linear(50, 1e-4, 0.02).with_zero_terminal_snr(),
    "list": Schedule([0.25, 0.5, 1.0]),
    "one step": Schedule([1.0]),
    "respaced": Schedule.linear().with_zero_terminal_snr().respaced(7),
    "alpha_bar": Schedule.from_alpha_bar([0.9, 0.4, 0.0]),
}


@pytest.mark.parametrize("name", TERMINAL)
def test_a_last_beta_of_one_makes_pure_noise_and_every_other_entry_is_finite(name):
    schedule = TERMINAL[name]
    ends = dict(beta=1, alpha=0, alpha_bar=0, sqrt_alpha_bar=0, sqrt_alpha=0, sqrt_beta=1, sigma2=1, snr=0)
    ends |= dict(sqrt_one_minus_alpha_bar=1, noise_levels=math.inf, log_alpha_bar=-math.inf, posterior_xt=0)
    for table, end in ends.items():
        values = getattr(schedule, table)
        assert float(values[-1]) == end, table
        assert bool(torch.isfinite(values[1:-1]).all()), table
    before = schedule.T - 1
    # q(x_{T-1} | x_T, x_0) does not look at x_T: it is q(x_{T-1} | x_0).
    assert float(schedule.beta_tilde[-1]) == float(schedule.sigma2[before])
    assert float(schedule.posterior_x0[-1]) == float(schedule.sqrt_alpha_bar[before])
    jump = schedule.transition(schedule.T, 0)
    assert (jump.beta, jump.sqrt_alpha, jump.posterior_x0, jump.posterior_xt, jump.beta_tilde) == (1, 0, 1, 0, 0)
    gathered = schedule.gather(schedule.alpha_bar, torch.tensor([schedule.T, 0]), torch.zeros(2, 3))
    assert gathered.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", ["linear", "cosine", "quadratic", "short", "geometric"])
def test_zero_terminal_snr_is_algorithm_1_of_lin_et_al(name):
    schedule = NAMED[name]
    # The algorithm line by line, 0-based as in the paper.
    root = schedule.alpha_bar[1:].sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * first / (first - last)
    alpha_bar = root**2
    alphas = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    stretched = schedule.with_zero_terminal_snr()
    assert_close(stretched.alpha_bar[1:], alpha_bar, rtol=1e-9, atol=0.0)
    assert_close(stretched.beta[1:], 1 - alphas, rtol=1e-9, atol=0.0)
    assert float(stretched.alpha_bar[1]) == float(schedule.alpha_bar[1]) and float(stretched.alpha_bar[-1]) == 0.0
    assert bool((stretched.alpha_bar.diff() < 0).all()) and bool((stretched.snr <= schedule.snr).all())
    again = stretched.with_zero_terminal_snr()
    assert_close(again.alpha_bar, stretched.alpha_bar, rtol=1e-12, atol=0.0)
    assert torch.equal(stretched.timesteps, schedule.timesteps) and "zero terminal snr" in repr(stretched)


def test_zero_terminal_snr_keeps_the_times_and_the_digits():
    parent = Schedule.linear()
    short = parent.respaced(10).with_zero_terminal_snr()
    assert torch.equal(short.timesteps, parent.respaced(10).timesteps)
    tiny = Schedule([1e-18, 1e-18, 0.5]).with_zero_terminal_snr()
    # a = 1 - u with u = (0.5, 1)e-18, and a_1 - a_3 = 1 - sqrt(1/2): a_1 (1 - 0.5e-18 / 0.2929) = 1 - 2.207e-18
    u = 0.5e-18 + 0.5e-18 / (1 - math.sqrt(0.5))
    assert float(tiny.sigma2[2]) == pytest.approx(2 * u, rel=1e-9, abs=0)


def test_from_alpha_bar_is_the_inverse_of_the_running_product(schedule):
    back = Schedule.from_alpha_bar(schedule.alpha_bar[1:], schedule.name)
    assert_close(back.alpha_bar, schedule.alpha_bar, rtol=1e-12, atol=0.0)
    assert_close(back.beta, schedule.beta, rtol=1e-9, atol=1e-15)
    assert back.name == schedule.name and Schedule.from_alpha_bar([0.5, 0.1]).name == "custom"
    assert Schedule.from_alpha_bar([0.5, 0.1]).beta.tolist() == pytest.approx([0, 0.5, 0.8])


def test_repr_names_the_schedule():
    assert repr(Schedule.linear()) == "Schedule('linear', T=1000, alpha_bar_T=4.04e-05)"


def test_times_of_your_own_are_kept_and_handed_on():
    schedule = Schedule([0.1, 0.2, 0.3, 0.4], timesteps=torch.tensor([5, 7, 8, 20], dtype=torch.int32))
    assert schedule.timesteps.tolist() == [0, 5, 7, 8, 20] and schedule.timesteps.dtype == torch.long
    assert schedule.respaced(2).timesteps.tolist() == [0, 7, 20]
    assert Schedule([0.1, 0.2], timesteps=[1, 9]).timesteps.tolist() == [0, 1, 9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(clip_min=1e-3), "clip_min must be in .0, .*, below alpha_bar at T - 1, got 0.001"),
        (dict(tau=0.02), "tau must be so large that each step"),
        (dict(start=40.0, end=50.0), "tau must be so large that each step"),
    ],
)
def test_a_sigmoid_that_is_flat_somewhere_is_refused_by_its_own_argument(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule.sigmoid(1000, **arguments)


def test_unsigned_times_are_compared_as_numbers() -> None:
    with pytest.raises(ValueError, match="timesteps must be increasing"):
        Schedule(torch.tensor([0.1, 0.2]), timesteps=torch.tensor([200, 100], dtype=torch.uint8))


def test_a_schedule_visits_itself_and_what_is_respaced_from_it_and_no_other() -> None:
    long = Schedule.cosine(100)
    for other in (long, Schedule.cosine(100), long.respaced(20), long.respaced(50)):
        assert long.visits(other)
    assert long.respaced(50).visits(long.respaced(50).respaced(10))
    for other in (Schedule.cosine(20), Schedule.cosine(200), Schedule.linear(100), long.with_zero_terminal_snr()):
        assert not long.visits(other)
    assert not long.respaced(20).visits(long)
    # the same noise levels, but a network is told other times
    assert not Schedule([0.1, 0.2]).visits(Schedule([0.1, 0.2], timesteps=[1, 9]))
