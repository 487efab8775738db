"""The estimates of the benchmarks that no library checks for them."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from diffutils.device import make_generator
from diffutils.distributions import GaussianMixture

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import gpu  # noqa: E402  (found through the line above)
import points  # noqa: E402
from common import RESULTS, settled  # noqa: E402
from digits import SETS, nearest, replaced  # noqa: E402
from growth import power  # noqa: E402
from limits import REAL, as_real  # noqa: E402
from quality import kl_to_density  # noqa: E402


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_kl_of_a_shifted_gaussian_is_half_the_square_of_the_shift(dim):
    law = GaussianMixture(torch.ones(1), torch.zeros(1, dim, dtype=torch.float64), 0.25)
    x = law.sample(20_000, generator=make_generator(0))
    x[:, 0] += 0.4
    # |shift|^2 / (2 variance) = 0.32; the standard error of both averages together is below 0.01.
    assert kl_to_density(x, law) == pytest.approx(0.32, abs=0.04)


def test_kl_of_a_narrower_gaussian():
    law = GaussianMixture(torch.ones(1), torch.zeros(1, 2, dtype=torch.float64), 1.0)
    x = 0.5 * law.sample(20_000, generator=make_generator(1))
    # 2 (log(1 / 0.5) + 0.5^2 / 2 - 1 / 2)
    assert kl_to_density(x, law) == pytest.approx(0.6363, abs=0.04)


def test_copies_of_one_point_are_infinitely_far_in_kl_but_give_a_number():
    law = GaussianMixture(torch.ones(1), torch.zeros(1, 2), 1.0)
    assert 20 < kl_to_density(torch.zeros(100, 2), law) < 1000


def test_a_distance_is_told_from_that_of_real_data_by_its_own_scatter():
    real = (1.0, 1.2, 0.8, 1.1, 0.9)
    shifts = {
        "steady": (0.2, 0.21, 0.19, 0.2, 0.2),
        "unsteady": (1.0, -0.9, 0.8, -0.7, 0.5),
        "below": (-0.3, -0.29, -0.3, -0.31, -0.3),
    }
    rows = [{"seed": seed, "contender": REAL, "d": value} for seed, value in enumerate(real)]
    for name, added in shifts.items():
        rows += [{"seed": seed, "contender": name, "d": x + y} for seed, (x, y) in enumerate(zip(real, added))]
    assert as_real(rows, "d", list(shifts)) == ["unsteady", "below"]


def test_the_digits_page_says_who_comes_nearest_and_what_guidance_does():
    found = {"diffutils": 4.0, "diffutils, ancestral": 3.5, "diffutils, guided": 1.6, "azula": 14.0, "k-diffusion": 7.0}
    rows = [
        {"contender": name, "seed": seed, "steps": 1, "frechet": value + shift, "nearest": 1.1 + 0.1 * shift}
        for name, value in found.items()
        for seed, shift in enumerate((-0.5, 0.5))
    ]
    # copies of training images are no contender, whatever their distance
    rows.append({"contender": "training images", "seed": 0, "frechet": 0.9})
    said = nearest(rows)
    assert "diffutils, guided comes to 1.60 floors, with a nearest-neighbour ratio of 1.10." in said
    assert "from 3.50 to 1.60." in said
    assert "Of the others, k-diffusion comes nearest: 7.00." in said


def test_the_points_page_names_the_nearest_by_each_figure_in_at_most_50_calls():
    values = {"diffutils": (1.0, 50), "diffutils, ancestral, 100 calls": (0.5, 100), "azula": (3.0, 50), "torchcfm": (1.05, 50)}
    rows = [
        {"contender": name, "seed": seed, "calls": calls} | dict.fromkeys(points.METRICS, value + seed * (name != "torchcfm"))
        for name, (value, calls) in values.items()
        for seed in range(3)
    ]
    said = points.nearest("moons", [*rows, {"contender": "real data", "seed": 0, "MMD": 0.1}])
    assert said.count("\n- ") == len(points.METRICS)
    assert "- MMD: **torchcfm** 1.05" not in said
    assert "- MMD: **diffutils** 2.00, **torchcfm** 1.05; the seeds do not settle the order" in said


def test_the_page_of_the_points_is_made_of_its_numbers():
    kept = json.loads((RESULTS / "points.json").read_text())
    page = points.report(kept["rows"], list(points.SETS), points.Plan(**kept["plan"]), kept["setting"])
    assert page == (RESULTS / "points.md").read_text().rstrip()


def test_rows_of_points_are_kept_only_if_the_plan_and_the_machine_are_the_same(tmp_path):
    path, plan, where = tmp_path / "points.json", points.Plan(20.0, 3, 20_000, 1, 10), {"processor": "a"}
    assert points.kept(["grid"], path, plan, where) == []
    rows = [{"set": "grid"}, {"set": "moons"}]
    path.write_text(json.dumps({"setting": where, "plan": asdict(plan), "rows": rows}))
    assert points.kept(["grid"], path, plan, where) == [{"set": "moons"}]
    assert points.kept(["grid"], path, replace(plan, draws=4), where) == []
    assert points.kept(["grid"], path, replace(plan, floor_pairs=40), where) == []
    assert points.kept(["grid"], path, plan, {"processor": "b"}) == []


def test_figures_of_points_are_means_over_sets_and_each_set_has_judges_of_its_own(monkeypatch):
    seeds = []

    def figure(metric, x, draw, *, seed, **_):
        seeds.append(seed)
        return float(x.mean())

    monkeypatch.setattr(points, "over_floor", figure)
    sets = [torch.full((5, 2), value) for value in (1.0, 2.0, 6.0)]
    floors = dict.fromkeys(points.METRICS)
    assert points.quality("moons", sets, floors, 0) == dict.fromkeys(points.METRICS, 3.0)
    points.quality("moons", sets, floors, 1)
    assert len(set(seeds)) == 2 * len(sets), "each set of each seed has its own"
    assert points.quality("moons", [sets[0], sets[1] * math.nan], floors, 0) == {}


def test_the_command_on_the_page_of_points_is_the_plan():
    said = points.Plan(2.5, 3, 1_000_000, 4, 40).options()
    assert said == "--seconds 2.5 --seeds 3 --training-points 1000000 --draws 4 --floor-pairs 40"


@pytest.mark.parametrize("name, least", [("seconds", 0.0), ("seeds", 1), ("training_points", 1), ("draws", 1), ("floor_pairs", 2)])
def test_a_plan_of_points_refuses_what_cannot_be_measured(name, least):
    plan = points.Plan(20.0, 3, 20_000, 1, 10)
    with pytest.raises(ValueError, match=name):
        replace(plan, **{name: least - (name != "seconds")})


def test_seeds_settle_an_order_where_their_gaps_agree_and_not_where_they_scatter():
    assert settled({0: 1.0, 1: 1.4, 2: 1.2}, {0: 2.0, 1: 2.5, 2: 2.2})
    # 8x8 digits, ours and k-diffusion's: 0.05, 0.47 and 0.32 apart
    assert not settled({0: 1.03, 1: 0.98, 2: 0.91}, {0: 1.08, 1: 1.45, 2: 1.23})
    assert not settled({0: 1.0}, {0: 2.0}) and not settled({0: 1.0, 1: 1.0}, {2: 5.0, 3: 5.0})


def test_each_seed_holds_out_other_images_and_trains_on_the_rest():
    digits = SETS["digits8"]
    (train, _), (held_out, _) = digits.parts(0)
    images = digits.load()[0]
    assert len(held_out) == digits.held_out and len(train) + len(held_out) == len(images)
    torch.testing.assert_close(torch.cat([train, held_out]).double().sum(0), images.double().sum(0))
    assert torch.equal(held_out, digits.parts(0)[1][0])
    assert not torch.equal(held_out, digits.parts(1)[1][0])


@pytest.mark.parametrize(
    "contender, seed, anew",
    [("azula", 1, False), ("azula", 2, True), ("azula", 3, True), ("torchcfm", 2, False), ("real images", 2, True), ("real images", 3, False)],
)
def test_a_run_from_a_seed_on_replaces_its_own_rows_alone(contender, seed, anew):
    assert replaced({"contender": contender, "seed": seed}, ["azula"], 2, {2}) == anew


def test_the_page_of_the_gpu_is_made_of_its_numbers():
    kept = json.loads((RESULTS / "gpu.json").read_text())
    page = gpu.report(kept["options"], kept["loops"], kept["setting"])
    assert page == (RESULTS / "gpu.md").read_text().rstrip()


def test_a_gpu_kept_busy_takes_as_many_times_longer_as_its_batch_is_larger():
    rows = [{"model": "digits", "option": "float32", "batch": b, "training": 500.0} for b in (16, 1024)]
    assert "digits: 64 times the batch, 64.0 times the time" in gpu.growth(rows)


def test_the_operations_of_a_pass_are_those_of_its_layers():
    weights = sum(p.numel() for p in gpu.KINDS["points"].make().parameters() if p.ndim == 2)
    assert 0.95 < gpu.flops("points") / (2 * weights) <= 1


def test_power_is_that_of_the_three_largest_sizes():
    rows = [{"n": n, "seconds": 7.0 if n < 100 else 0.5 * n**1.5} for n in (1, 10, 100, 1000, 10_000)]
    assert power(rows, "n", "seconds") == pytest.approx(1.5)
