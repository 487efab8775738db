"""Right and wrong answers to the exercises of chapter 11."""

import math

import torch

from diffutils.device import make_generator
from diffutils.doctor import Moments, diagnose, reference_law
from diffutils.schedule import Schedule
from exercises import Answers

# -- 11.1: the squares of the ends -----------------------------------------------------------------------------------

LAW = reference_law()
WANTED = Schedule.quadratic(200, 1e-4, 0.02)
SLIP = (torch.arange(200, dtype=torch.float64) / 199 * (4e-4 - 1e-8) + 1e-8) ** 2
MEMORY = -0.5 * math.log(float(SLIP.sum()))  # L_T: 1 - alpha_bar_T is the sum of such small betas
PRICE = LAW.kl_to_standard_normal()
BETAS = WANTED.beta[1:]

# -- 11.2: steps for an honest start ---------------------------------------------------------------------------------

DIGITS = Moments(500.0, 40 * 0.95 ** torch.arange(400, dtype=torch.float64))
CENTRED = Moments(0.0, DIGITS.spread)


def first(fits):
    """The least T, by trying all."""
    alpha_bars = (Schedule.linear(T, 1e-4, 0.02) for T in range(400, 3000, 5))
    return next(schedule.T for schedule in alpha_bars if fits(float(schedule.alpha_bar[-1])))


def kl(moments, alpha_bar):
    variances = 1 + alpha_bar * (moments.spread - 1)
    return 0.5 * float((variances - 1 - variances.log()).sum() + alpha_bar * moments.mean_square)


def memory(moments, alpha_bar):
    return 0.5 * float(torch.log1p(alpha_bar / (1 - alpha_bar) * moments.spread).sum())


STEPS, FEWER = (first(lambda a, m=m: kl(m, a) <= 1e-5) for m in (DIGITS, CENTRED))
NO_MEMORY = first(lambda a: kl(DIGITS, a) + memory(DIGITS, a) <= 1e-5)
TWICE = first(lambda a: kl(DIGITS, a) <= 2e-5)

# -- 11.3: sizes of an image -----------------------------------------------------------------------------------------

IMAGES = torch.randn(60, 1, 8, 8, generator=make_generator(0)).cumsum(-1).cumsum(-2) / 8 - 1
LONG = Schedule.linear(1000)


def doctor(shrink):
    return [diagnose(LONG, shrink(k)) for k in (1, 2, 4)]


REPORTS = doctor(lambda k: torch.nn.functional.avg_pool2d(IMAGES, k))
PRICES = [report.start for report in REPORTS]


def hiding(alpha_bar, k):
    return 1 / (1 + k**2 * (1 - alpha_bar) / alpha_bar)


# -- 11.4: two predictions -------------------------------------------------------------------------------------------


def parts(alpha_bar):
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def v(x_t, x0, alpha_bar):
    a, s = parts(alpha_bar)
    return a * (x_t - a * x0) / s - s * x0


def other(formula):
    return lambda x_t, x0, alpha_bar: formula(x_t, x0, *parts(alpha_bar))


ABLE = {"x0", "v"}

ANSWERS = {
    "11.1": Answers(
        right=[(PRICE, "like noise", BETAS), (torch.tensor(1.005 * PRICE), {"like noise"}, BETAS.tolist())],
        wrong={
            "This is L_T": (MEMORY, "like noise", BETAS),
            "what x_T remembers": (MEMORY - PRICE, "like noise", BETAS),
            "This is in bits": (PRICE / math.log(2), "like noise", BETAS),
            "the schedule that was wanted, not": (
                LAW.kl_to_standard_normal(float(WANTED.alpha_bar[-1])), "like noise", BETAS
            ),
            "price of the start in nats: yours is .* percent off": (1.5 * PRICE, "like noise", BETAS),
            "Where does the sampler start": (PRICE, "like the data", BETAS),
            "'blurred' is another": (PRICE, "blurred", BETAS),
            "the betas of the slip": (PRICE, "like noise", SLIP),
            "evenly spaced betas": (PRICE, "like noise", Schedule.linear(200, 1e-4, 0.02).beta[1:]),
            "the evenly spaced numbers": (PRICE, "like noise", BETAS.sqrt()),
            r"the shape should be \(200,\)": (PRICE, "like noise", WANTED.beta),
        },
    ),
    "11.2": Answers(
        right=[(STEPS, FEWER, DIGITS), (torch.tensor(STEPS + 15), FEWER - 15, DIGITS)],
        wrong={
            "as they are: .* for the other digits": (FEWER, STEPS, DIGITS),
            "centred: .* for the other digits": (STEPS, STEPS, DIGITS),
            "There L_T is small enough": (NO_MEMORY, FEWER, DIGITS),
            "has a 2 in it": (TWICE, FEWER, DIGITS),
            "that is not honest": (STEPS, 300, DIGITS),
            "at least .* nats; by the lower bound fewer steps will do": (2500, FEWER, DIGITS),
            "a number is asked for": ("many", FEWER, DIGITS),
        },
    ),
    "11.3": Answers(
        right=[(PRICES, hiding, IMAGES), (torch.tensor(PRICES), hiding, IMAGES)],
        wrong={
            "Three prices are asked for": (PRICES[:2], hiding, IMAGES),
            "images as they are, at half": (PRICES[0], hiding, IMAGES),
            "in the wrong order": (PRICES[::-1], hiding, IMAGES),
            "This is L_T": ([report.L_T for report in REPORTS], hiding, IMAGES),
            "per pixel": ([price / n for price, n in zip(PRICES, (64, 16, 4))], hiding, IMAGES),
            "keeps one pixel": ([d.start for d in doctor(lambda k: IMAGES[..., ::k, ::k])], hiding, IMAGES),
            "at side 2: yours is": ([3 * price for price in PRICES], hiding, IMAGES),
            "not k times": (PRICES, lambda a, k: hiding(a, k**0.5), IMAGES),
            "The result for alpha_bar = 0.5 and k = 2: yours": (PRICES, lambda a, k: 0.1, IMAGES),
            "more noise, not less": (PRICES, lambda a, k: hiding(a, 1 / k), IMAGES),
            "Turn it back into alpha_bar": (PRICES, lambda a, k: a / k**2, IMAGES),
            "is a signal-to-noise ratio; turn": (PRICES, lambda a, k: a / (1 - a) / k**2, IMAGES),
        },
    ),
    "11.4": Answers(
        right=[(2e-6, v, ABLE), (torch.tensor(0.0), v, ["v", "x0"])],
        wrong={
            "more than rounding": (0.5, v, ABLE),
            "The sign is turned": (0, lambda *given: -v(*given), ABLE),
            "This is the noise": (0, other(lambda x, x0, a, s: (x - a * x0) / s), ABLE),
            "The factors are exchanged": (0, other(lambda x, x0, a, s: s * (x - a * x0) / s - a * x0), ABLE),
            "A division is missing: all of it": (0, other(lambda x, x0, a, s: a * x - x0), ABLE),
            "its standard deviation belongs": (0, other(lambda x, x0, a, s: (a * x - x0) / s**2), ABLE),
            r"The guess of v at alpha_bar = 0\.3: yours": (0, lambda x, x0, alpha_bar: x, ABLE),
            "the state is the noise itself": (0, v, {"eps", "x0", "v"}),
            "what does a guess of it say": (0, v, {"score"}),
            "one of the four": (0, v, "v"),
            "what is v then": (0, v, {"x0"}),
            "'data' is another": (0, v, {"data"}),
        },
    ),
}
