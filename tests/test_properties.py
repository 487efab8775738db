"""Properties of the forward process that hold for every schedule, time, shape and dtype, looked for by hypothesis.

Laws are compared by composing their affine maps, never by sampling: a Gaussian chain is a factor and a variance.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import EPS, examples, normal, powers, rounding, schedules, schedules_with_signal, shapes, times
from torch.testing import assert_close

from diffutils.process import PREDICTIONS, convert, diffuse, forward_step, posterior
from diffutils.schedule import Schedule

DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def relative(found: float, wanted: float) -> float:
    """The difference of two numbers over the second's size; 0 where they are equal, even both 0."""
    return 0.0 if found == wanted else abs(found - wanted) / max(abs(wanted), 1e-300)


# -- tables ---------------------------------------------------------------------------------------------------------


@examples(150)
@given(schedules())
def test_tables_of_any_schedule_are_the_formulas(schedule):
    near = rounding(schedule)
    beta, alpha, alpha_bar, sigma2 = schedule.beta, schedule.alpha, schedule.alpha_bar, schedule.sigma2
    assert_close(alpha + beta, torch.ones_like(beta), rtol=0, atol=near)
    assert_close(alpha_bar + sigma2, torch.ones_like(beta), rtol=0, atol=4 * EPS)
    assert bool((alpha_bar.diff() <= 0).all()) and bool((sigma2.diff() >= 0).all())
    roots = [(schedule.sqrt_alpha, alpha), (schedule.sqrt_beta, beta), (schedule.sqrt_alpha_bar, alpha_bar)]
    for root, square in [*roots, (schedule.sqrt_one_minus_alpha_bar, sigma2)]:
        assert_close(root**2, square, rtol=near, atol=1e-300)
    finite = [schedule.beta_tilde, schedule.posterior_x0, schedule.posterior_xt, schedule.noise_levels[:-1]]
    assert all(bool(torch.isfinite(table).all()) for table in finite)
    first = [float(table[1]) for table in (schedule.beta_tilde, schedule.posterior_xt, schedule.posterior_x0)]
    assert first == [0, 0, 1]
    # beta_tilde_t is beta_t times (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) < 1, and is known to be left of x_{t-1}
    assert bool((schedule.beta_tilde <= beta * (1 + near)).all())
    assert bool((schedule.beta_tilde[1:] <= sigma2[:-1] * (1 + near)).all())
    assert bool((schedule.timesteps.diff() >= 1).all()) and int(schedule.timesteps[0]) == 0


@examples(150)
@given(schedules(), st.data())
def test_respacing_keeps_every_number_of_the_law_bit_for_bit(schedule, data):
    steps = data.draw(st.integers(1, schedule.T))
    short = schedule.respaced(steps)
    assert (short.T, short.name) == (steps, schedule.name)
    kept = [round_half_up(k * schedule.T, steps) for k in range(steps + 1)]
    assert kept[0] == 0 and kept[-1] == schedule.T
    for name in ("log_alpha_bar", "alpha_bar", "sigma2", "sqrt_alpha_bar", "snr", "noise_levels", "timesteps"):
        assert torch.equal(getattr(short, name), getattr(schedule, name)[kept]), name
    for k, (s, t) in enumerate(zip(kept, kept[1:]), start=1):
        jump, near = schedule.transition(t, s), rounding(schedule)
        assert abs(float(short.beta[k]) - jump.beta) <= near * float(schedule.sigma2[t])
        assert abs(float(short.beta_tilde[k]) - jump.beta_tilde) <= near * float(schedule.sigma2[s])
        assert abs(float(short.posterior_x0[k]) - jump.posterior_x0) <= near
        assert relative(float(short.posterior_xt[k]), jump.posterior_xt) <= near
        assert relative(float(short.sqrt_alpha[k]), jump.sqrt_alpha) <= near


def round_half_up(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, in integers."""
    return (2 * numerator + denominator) // (2 * denominator)


@examples(150)
@given(schedules(), st.data())
def test_jumps_compose(schedule, data):
    # From r to s to t is from r to t, forwards; and backwards, given x_0, from t to s to r is from t to r.
    assume(schedule.T >= 2)
    r, s, t = data.draw(times(schedule, 3))
    first, second, whole = schedule.transition(s, r), schedule.transition(t, s), schedule.transition(t, r)
    near = rounding(schedule)
    assert relative(second.sqrt_alpha * first.sqrt_alpha, whole.sqrt_alpha) <= near
    beta = second.sqrt_alpha**2 * first.beta + second.beta
    assert abs(beta - whole.beta) <= 2 * near * float(schedule.sigma2[t])
    posterior_x0 = first.posterior_x0 + first.posterior_xt * second.posterior_x0
    assert abs(posterior_x0 - whole.posterior_x0) <= 4 * near
    assert relative(first.posterior_xt * second.posterior_xt, whole.posterior_xt) <= 2 * near
    beta_tilde = first.beta_tilde + first.posterior_xt**2 * second.beta_tilde
    assert abs(beta_tilde - whole.beta_tilde) <= 4 * near * float(schedule.sigma2[r])
    if r == 0:
        assert (whole.posterior_x0, whole.posterior_xt, whole.beta_tilde) == (1.0, 0.0, 0.0)
        assert relative(whole.beta, float(schedule.sigma2[t])) <= near


def test_stretching_a_schedule_that_ends_early_leaves_no_nan():
    # At t = 8 the stretched sqrt(alpha_bar) is a_1 (a_8 - a_9) / (a_1 - a_9) = 1e-40: 1 - (a_1 - a_8) / (a_1 - a_9) is 0.
    schedule = Schedule.constant(9, 1 - 1e-10).with_zero_terminal_snr()
    assert not bool(schedule.beta.isnan().any())


# -- laws -----------------------------------------------------------------------------------------------------------


@examples(60)
@given(schedules())
def test_marginals_of_the_chain_are_the_closed_form(schedule):
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    factor, variance, near = one, 0.0, rounding(schedule)
    for t in range(1, schedule.T + 1):
        # what a step does to x_{t-1} and to the noise, read off the step itself
        keep, spread = forward_step(schedule, one, t, noise=zero), forward_step(schedule, zero, t, noise=one)
        factor, variance = keep * factor, float(keep) ** 2 * variance + float(spread) ** 2
        assert relative(float(factor), float(diffuse(schedule, one, t, noise=zero))) < near
        assert relative(variance, float(diffuse(schedule, zero, t, noise=one)) ** 2) < 4 * near


def log_normal(x: float, mean: float, variance: float) -> float:
    return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi * variance))


@examples(150)
@given(schedules(), st.floats(-3, 3), st.floats(-4, 4), st.floats(-4, 4), st.data())
def test_posterior_times_marginal_is_the_joint(schedule, x0, first_noise, second_noise, data):
    # log q(x_{t-1} | x_t, x_0) + log q(x_t | x_0) = log q(x_t | x_{t-1}) + log q(x_{t-1} | x_0), where a chain goes
    assume(schedule.T >= 2)
    t = data.draw(st.integers(2, schedule.T))
    start = torch.tensor([x0], dtype=torch.float64)
    before = diffuse(schedule, start, t - 1, noise=torch.full_like(start, first_noise))
    after = forward_step(schedule, before, t, noise=torch.full_like(start, second_noise))
    mean, variance = posterior(schedule, start, after, t)
    a, s2, keep = schedule.sqrt_alpha_bar, schedule.sigma2, schedule.sqrt_alpha[t]
    left = log_normal(float(before), float(mean), float(variance)) + log_normal(float(after), float(a[t] * x0), s2[t])
    right = log_normal(float(after), float(keep * before), schedule.beta[t])
    right += log_normal(float(before), float(a[t - 1] * x0), s2[t - 1])
    # A residual of some standard deviations is what is left of numbers of size `scale`.
    scale = max(1.0, abs(x0), abs(float(before)), abs(float(after)))
    narrow = min(float(variance), float(s2[t - 1]), float(schedule.beta[t])) ** 0.5
    assert abs(left - right) < 30 * (rounding(schedule) + EPS * scale / narrow) * (1 + first_noise**2 + second_noise**2)


# -- conversions ----------------------------------------------------------------------------------------------------


def direction(name: str, a: float, s: float) -> tuple[float, float]:
    """A quantity as (c0, c1) in c0 x_0 + c1 eps."""
    return {"eps": (0.0, 1.0), "x0": (1.0, 0.0), "v": (-s, a), "score": (0.0, -1 / s)}[name]


def weights(source: str, target: str, a: float, s: float) -> tuple[float, float]:
    """P and Q in target = P source + Q x_t, by solving for them among the vectors (c0, c1); x_t is (a, s)."""
    (p0, p1), (q0, q1) = direction(source, a, s), direction(target, a, s)
    # determinants written so that a^2 + s^2 = 1 is used and not computed
    with_xt = {"eps": -a, "x0": s, "v": -1.0, "score": a / s}
    P = with_xt[target] / with_xt[source]
    return P, (0.0 if source == target else (p0 * q1 - p1 * q0) / with_xt[source])


@examples(250)
@given(schedules_with_signal(), shapes(), st.sampled_from(DTYPES), st.integers(0, 10**6), st.data())
def test_conversions_are_right_and_return(schedule, shape, dtype, seed, data):
    source, target = (data.draw(st.sampled_from(PREDICTIONS)) for _ in range(2))
    t = data.draw(st.integers(1, schedule.T))
    a, s = float(schedule.sqrt_alpha_bar[t]), float(schedule.sqrt_one_minus_alpha_bar[t])
    # 1 / s^2 and s / a must be numbers of the dtype, with room
    assume(a > 1e-15 and s > 1e-15)
    value, x_t = normal(shape, seed, dtype), normal(shape, seed + 1, dtype)
    when = torch.full((shape[0],), t) if data.draw(st.booleans()) else t
    made = convert(schedule, value, x_t, when, source, target)
    assert (made.shape, made.dtype) == (value.shape, dtype)
    P, Q = weights(source, target, a, s)
    unit = 8 * torch.finfo(dtype).eps
    exact = P * value.double() + Q * x_t.double()
    size = (P * value.double()).abs() + (Q * x_t.double()).abs()
    assert bool(((made.double() - exact).abs() <= unit * size).all()), (source, target, a, s)
    # An error of `made` comes back divided by P: no formula can do better.
    back = convert(schedule, made, x_t, when, target, source)
    assert bool(((back.double() - value.double()).abs() <= 2 * unit * size / abs(P)).all()), (source, target, a, s)


@examples(60)
@given(schedules(), shapes(), st.sampled_from(DTYPES), st.integers(0, 10**6), st.data())
def test_one_time_for_all_is_the_same_time_for_each(schedule, shape, dtype, seed, data):
    x, noise = normal(shape, seed, dtype), normal(shape, seed + 1, dtype)
    chosen = torch.tensor(data.draw(st.lists(st.integers(1, schedule.T), min_size=shape[0], max_size=shape[0])))
    for function in (
        lambda x, e, t: diffuse(schedule, x, t, noise=e),
        lambda x, e, t: forward_step(schedule, x, t, noise=e),
        lambda x, e, t: posterior(schedule, x, e, t)[0],
        lambda x, e, t: convert(schedule, e, x, t, "v", "x0"),
    ):
        together = function(x, noise, chosen)
        apart = [function(x[i : i + 1], noise[i : i + 1], int(t)) for i, t in enumerate(chosen)]
        assert torch.equal(together, torch.cat(apart))


@examples(100)
@given(schedules(), shapes(), st.sampled_from(DTYPES), st.integers(0, 10**6), st.data())
def test_a_dtype_rounds_and_does_nothing_else(schedule, shape, dtype, seed, data):
    # Numbers of few digits are taken through weights that were computed with many.
    x, other = normal(shape, seed, dtype), normal(shape, seed + 1, dtype)
    t = data.draw(st.integers(1, schedule.T))
    of_x = (schedule.sqrt_alpha_bar, schedule.sqrt_alpha, schedule.posterior_x0)
    of_other = (schedule.sqrt_one_minus_alpha_bar, schedule.sqrt_beta, schedule.posterior_xt)
    made = (diffuse(schedule, x, t, noise=other), forward_step(schedule, x, t, noise=other))
    for found, first, second in zip((*made, posterior(schedule, x, other, t)[0]), of_x, of_other):
        assert (found.shape, found.dtype) == (shape, dtype)
        one, two = first[t] * x.double(), second[t] * other.double()
        allowed = 4 * torch.finfo(dtype).eps * (one.abs() + two.abs()) + 1e-37
        assert bool(((found.double() - (one + two)).abs() <= allowed).all())
    variance = posterior(schedule, x, other, t)[1]
    exact = float(schedule.beta_tilde[t])
    assert variance.dtype == dtype and abs(float(variance) - exact) <= 4 * torch.finfo(dtype).eps * exact + 1e-37


# -- input ----------------------------------------------------------------------------------------------------------

ABOVE_ONE = st.floats(min_value=1.0, exclude_min=True)
NOT_A_VARIANCE = st.one_of(st.floats(max_value=0.0), ABOVE_ONE, st.sampled_from([math.nan, math.inf, -math.inf]))
SOME_VARIANCES = st.lists(st.floats(0.01, 0.99), max_size=8)


@examples(100)
@given(SOME_VARIANCES, SOME_VARIANCES, NOT_A_VARIANCE)
def test_a_beta_outside_its_range_is_named_by_its_place(before, after, bad):
    with pytest.raises(ValueError, match=rf"^beta\[{len(before)}\] \(t = {len(before) + 1}\) must be in \(0, 1\)"):
        Schedule([*before, bad, *after])


@examples(60)
@given(SOME_VARIANCES, st.lists(st.floats(0.01, 0.99) | st.just(1.0), min_size=1, max_size=8))
def test_pure_noise_before_the_end_is_refused(before, after):
    with pytest.raises(ValueError, match=rf"^beta\[{len(before)}\] .*; only the last may be 1"):
        Schedule([*before, 1.0, *after])


@examples(100)
@given(st.lists(powers(-3, 3), min_size=2, max_size=8))
def test_levels_that_do_not_rise_are_refused(levels):
    assume(levels != sorted(set(levels)))
    with pytest.raises(ValueError, match="^levels must be"):
        Schedule.from_noise_levels(levels)
    falling = [1 / (1 + level**2) for level in levels]
    with pytest.raises(ValueError, match=r"^alpha_bar\[\d\] \(t = \d\) must be"):
        Schedule.from_alpha_bar(falling)


@examples(100)
@given(
    st.one_of(
        st.text(), st.none(), st.booleans(), st.binary(), st.floats(), st.just([]), st.just([[0.1, 0.2]]),
        st.lists(st.text(), min_size=1, max_size=3), st.dictionaries(st.text(), st.floats()), st.just(torch.ones(2, 2)),
    )
)  # fmt: skip
def test_what_is_no_list_of_numbers_is_refused_by_the_arguments_name(value):
    makers = {"beta": Schedule, "levels": Schedule.from_noise_levels, "alpha_bar": Schedule.from_alpha_bar}
    for name, make in makers.items():
        with pytest.raises(ValueError, match=rf"^{name}"):
            make(value)


NOT_A_COUNT = st.one_of(
    st.integers(max_value=0), st.floats(), st.text(), st.none(), st.booleans(), st.lists(st.integers(), max_size=2)
)


@examples(60)
@given(NOT_A_COUNT)
def test_a_number_of_steps_must_be_a_positive_integer(count):
    makers = [Schedule.linear, Schedule.cosine, Schedule.sigmoid, Schedule.quadratic]
    makers += [lambda T: Schedule.constant(T, 0.1), lambda T: Schedule.geometric(T, 0.1, 1.0)]
    for make in makers:
        with pytest.raises(ValueError, match="^T must be an integer"):
            make(count)
    with pytest.raises(ValueError, match="^steps must be an integer in 1..7"):
        Schedule.constant(7, 0.1).respaced(count)


@examples(60)
@given(schedules(), st.data())
def test_a_time_outside_the_schedule_is_refused(schedule, data):
    x = torch.zeros(2, 3, dtype=torch.float64)
    outside = st.one_of(st.integers(max_value=0), st.integers(min_value=schedule.T + 1))
    wrong = data.draw(st.one_of(outside, st.floats(), st.text(), st.none(), st.booleans()))
    for call in (
        lambda t: forward_step(schedule, x, t),
        lambda t: posterior(schedule, x, x, t),
        lambda t: convert(schedule, x, x, t, "v", "x0"),
        lambda t: schedule.transition(t, 0),
    ):
        with pytest.raises(ValueError, match="^t must be an integer in 1"):
            call(wrong)
    t = data.draw(st.integers(1, schedule.T))
    with pytest.raises(ValueError, match="^s must be an integer in 0"):
        schedule.transition(t, data.draw(st.one_of(st.integers(min_value=t), st.integers(max_value=-1))))


@examples(60)
@given(st.lists(st.floats(1e-9, 1 - 1e-9), min_size=1, max_size=12))
def test_lists_tuples_tensors_and_arrays_are_one_schedule(betas):
    tensor = torch.tensor(betas, dtype=torch.float64)
    tables = [Schedule(form).log_alpha_bar for form in (betas, tuple(betas), tensor, tensor.numpy())]
    assert all(torch.equal(table, tables[0]) for table in tables)
