"""Figures that draw themselves: their numbers are those of diffutils, wherever the controls stand."""

import math
import re

import matplotlib.pyplot as plt
import pytest
import torch

from diffbook.interactive import exact, forward_process, probability_flow, quantile_path, schedule_shape
from diffutils.distributions import GaussianMixture
from diffutils.doctor import diagnose
from diffutils.samplers import Euler, Heun
from diffutils.schedule import Schedule

MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.5, 0.2]).double(),
    torch.tensor([[-1.3], [0.4], [1.6]]).double(),
    torch.tensor([0.02, 0.05, 0.01]).double(),
)
ALT = "A picture that shows nothing at all, on purpose."


def ladder(steps: int) -> Schedule:
    return Schedule.geometric(steps + 1, 0.02, 20.0)


@pytest.mark.parametrize("start", [-2.5, -0.4, 0.1, 3.0])
def test_quantiles_are_carried_as_by_the_differential_equation(start):
    schedule = ladder(1000)
    solver = Heun(MIXTURE.denoiser(schedule), schedule, variable="noise_level")
    walk = solver.sample(x_T=torch.tensor([[start]]).double(), trajectory=True)
    levels = schedule.alpha_bar[[1001, 500, 1]]
    ours = quantile_path(MIXTURE, torch.tensor([start]).double(), levels)
    torch.testing.assert_close(ours, walk[[1001, 500, 1], :, 0], rtol=0, atol=1e-4)


def test_a_quantile_path_starts_where_it_is_and_keeps_order():
    starts = torch.linspace(-12, 12, 41).double()
    levels = torch.tensor([0.01, 0.5, 0.999]).double()
    paths = quantile_path(MIXTURE, starts, levels)
    torch.testing.assert_close(paths[0], starts, rtol=0, atol=1e-9)
    assert (paths.diff(dim=1) > 0).all()


def cdf(x: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """P(x_t <= x) for the mixture, by the library's normal law."""
    spread = (alpha_bar * MIXTURE.covariances[:, 0, 0] + 1 - alpha_bar).sqrt()
    parts = torch.distributions.Normal(math.sqrt(alpha_bar) * MIXTURE.means[:, 0], spread)
    return (MIXTURE.weights * parts.cdf(x[:, None])).sum(1)


def test_the_forward_figure_holds_the_times_and_prices_of_its_schedule():
    schedule = Schedule.linear(100)
    figure = forward_process(MIXTURE, schedule, positions=5)
    times = figure.controls["t"]
    assert times == [0, 25, 50, 75, 100] == list(figure.data["kl"]) and figure.start == {"t": 0}
    for t in times:
        alpha_bar = float(schedule.alpha_bar[t])
        assert figure.data["alpha_bar"][t] == alpha_bar
        assert figure.data["kl"][t] == MIXTURE.kl_to_standard_normal(alpha_bar)


def test_the_flow_figure_starts_and_ends_at_the_same_quantiles_of_its_levels():
    data = probability_flow(MIXTURE, points=9).data
    shares = (torch.arange(9) + 0.5).double() / 9
    for points, level in ((data["starts"], 20.0), (data["ends"], 0.02)):
        torch.testing.assert_close(cdf(torch.tensor(points).double(), 1 / (1 + level**2)), shares, rtol=0, atol=1e-5)
    assert data["lambdas"] == pytest.approx([-math.log(20), math.log(50)])
    middle = [path[30][1] for path in data["paths"]]
    level = math.sqrt(20 * 0.02)
    torch.testing.assert_close(cdf(torch.tensor(middle).double(), 1 / (1 + level**2)), shares, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def page(browser):
    """A tab of a browser."""
    return browser.new_page()


def label(page, figure, **positions: int) -> str:
    """What the figure says with its controls at these positions."""
    page.set_content(figure.to_html())
    for name, position in positions.items():
        slider = page.locator(f"input[name='{name.replace('_', ' ')}']")
        slider.evaluate("(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", position)
    return page.locator("output").inner_text()


@pytest.mark.parametrize("position, t", [(0, 0), (15, 300), (50, 1000)])
def test_the_forward_figure_knows_alpha_bar_and_draws_the_density(page, position, t):
    schedule = Schedule.linear(1000)
    said = label(page, forward_process(MIXTURE, schedule), t=position)
    assert said.startswith(f"t = {t}, ")
    alpha_bar, kl = map(float, re.search(r"ᾱ = (\S+), .*= (\S+) nats", said).groups())
    assert alpha_bar == pytest.approx(float(schedule.alpha_bar[t]), rel=0.03)
    assert kl == pytest.approx(MIXTURE.kl_to_standard_normal(float(schedule.alpha_bar[t])), rel=0.06)
    points = page.locator("polyline").first.get_attribute("points").split()
    drawn = [tuple(map(float, point.split(","))) for point in points]
    x = torch.linspace(-4, 4, len(drawn)).double()[:, None]
    density = MIXTURE.diffused(float(schedule.alpha_bar[t])).log_prob(x).exp()
    top = torch.tensor([200 - y for _, y in drawn]).double() / 190
    highest = float(MIXTURE.log_prob(torch.linspace(-4, 4, 401).double()[:, None]).exp().max())
    # one decimal of the axis, and a tenth of a pixel
    torch.testing.assert_close(top / top.max(), density / density.max(), rtol=0, atol=0.002)
    assert float(top.max()) <= 1 and (t > 0 or float(top.max()) > highest / (highest + 0.1))


@pytest.mark.parametrize("method, sampler", [(0, Euler), (1, Heun)])
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_the_flow_figure_walks_as_the_samplers_do(page, method, sampler, steps):
    figure = probability_flow(MIXTURE)
    said = label(page, figure, method=method, N=steps - 1)
    schedule = ladder(steps)
    starts = torch.tensor(figure.data["starts"]).double()[:, None]
    walk = sampler(MIXTURE.denoiser(schedule), schedule, variable="noise_level").sample(x_T=starts, trajectory=True)
    ends = walk[1, :, 0]
    error = float((ends - torch.tensor(figure.data["ends"]).double()).square().mean().sqrt())
    assert float(said.split("error ")[1]) == pytest.approx(error, rel=0.06, abs=1e-5)
    assert f" {steps * (1 + method)} call" in said


@pytest.mark.parametrize(
    "kind, T, last, schedule",
    [
        (0, 7, 2, Schedule.linear(500, 1e-4, 0.02)),
        (0, 0, 7, Schedule.linear(10, 1e-4, 0.4)),
        (1, 8, 4, Schedule.quadratic(1000, 1e-4, 0.05)),
        (0, 3, 2, Schedule.linear(50, 1e-4, 0.02)),
        (2, 9, 0, Schedule.cosine(2000)),
        (2, 0, 0, Schedule.cosine(10)),
    ],
)
def test_the_schedule_figure_measures_what_is_left(page, kind, T, last, schedule):
    said = label(page, schedule_shape(), schedule=kind, T=T, last_beta=last)
    left, cost, verdict = re.search(r"at T is (\S+), the start costs (.+) nats: (.+)", said).groups()
    report = diagnose(schedule)
    assert float(left) == pytest.approx(report.alpha_bar_T, rel=0.06)
    assert report.start < 1e-12 if "less" in cost else float(cost) == pytest.approx(report.start, rel=0.06)
    assert verdict == ("honest" if report.honest else "not honest")


def test_the_page_needs_nothing_from_elsewhere_and_shows_a_still_without_scripts():
    figure = forward_process(MIXTURE, Schedule.linear(100))
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert not re.search(r"""(?:src|href)=["']https?:""", bundle["text/html"])
    assert bundle["text/html"].index("data:image/png;base64,") < bundle["text/html"].index("<script>")
    assert not plt.get_fignums()


def test_words_stay_words_wherever_they_stand():
    request = dict(controls={"t": [0, 1, 2]}, start={"t": 2}, alt='A picture named "<none>", of nothing at all.')
    one, other = (exact("forward", {"word": word}, still=plt.figure(), **request) for word in ("</script>", "b"))
    page = one.to_html()
    assert page.count("</script>") == 1 and 'alt="A picture named &quot;&lt;none&gt;&quot;, of nothing' in page
    assert 'max="2" value="2" aria-valuetext="2"' in page
    # two figures of one drawing on a page draw into their own places
    ids = [re.search(r'id="(exact-\w+)"', figure.to_html()).group(1) for figure in (one, other, one)]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "other"}, "name must be one of"),
        ({"alt": "short"}, "alt must be"),
        ({"controls": {}}, "controls must be"),
        ({"controls": {"t": [1]}}, "controls\\['t'\\] must be at least two values"),
        ({"start": {"t": 2}}, "start\\['t'\\] must be a position in 0..1"),
    ],
)
def test_unfit_figures_are_refused(change, message):
    request = {"name": "forward", "data": {}, "controls": {"t": [0, 1]}, "alt": ALT, **change}
    with pytest.raises(ValueError, match=message):
        exact(still=plt.figure(), **request)
    plt.close("all")


def test_laws_in_the_plane_are_refused():
    plane = GaussianMixture(torch.ones(1), torch.zeros(1, 2), 1.0)
    for make in (lambda: forward_process(plane, Schedule.linear(100)), lambda: probability_flow(plane)):
        with pytest.raises(ValueError, match="mixture.dim"):
            make()
