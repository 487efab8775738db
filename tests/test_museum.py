"""Every exhibit of the bug museum is a bug: it plants, its statistic sees it, and it is gone afterwards."""

import math
from pathlib import Path

import jupytext
import pytest
import torch

from diffbook import museum
from diffbook.faults import Fault
from diffbook.museum import statistics

CHAPTER = Path(__file__).resolve().parent.parent / "chapters" / "12_bug_museum.md"
names = pytest.mark.parametrize("name", museum.exhibits)


@names
@pytest.mark.parametrize("seed", [0, 40_000])
def test_the_statistic_passes_the_right_code_and_fails_the_bug(name, seed):
    bug = museum.exhibits[name]
    right, wrong = bug.measure(seed)
    assert 0 <= right <= bug.bound
    assert wrong >= bug.factor * bug.bound


@names
def test_the_bug_is_gone_afterwards(name):
    bug = museum.exhibits[name]
    before = bug.statistic(1)
    with pytest.raises(KeyError), bug.planted():
        raise KeyError
    assert bug.statistic(1) == before


@names
def test_an_exhibit_is_a_small_change_of_diffutils_with_a_public_source(name):
    bug = museum.exhibits[name]
    changed = [line for line in bug.diff().splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert 2 <= len(changed) <= 8
    assert bug.diff().startswith("--- diffutils/")
    assert bug.room in museum.ROOMS
    assert bug.source.startswith("https://github.com/")
    assert bug.factor > 1


def test_the_museum_has_its_rooms_and_no_bug_twice():
    assert len(museum.exhibits) >= 14
    assert [room for room in museum.ROOMS if not any(bug.room == room for bug in museum.exhibits.values())] == []
    faults = {(bug.fault.target, bug.fault.before, bug.fault.after) for bug in museum.exhibits.values()}
    assert len(faults) == len(museum.exhibits)


@pytest.mark.parametrize("name", museum.PICTURED)
def test_samples_differ_with_the_bug_only_and_repeat(name):
    right, wrong = museum.samples(name, 50)
    again, _ = museum.samples(name, 50)
    assert right.shape == wrong.shape == (50, 2)
    assert torch.equal(right, again)
    assert not torch.equal(right, wrong)


def test_samples_of_an_exhibit_that_no_sampler_shows_are_refused():
    with pytest.raises(ValueError, match="name"):
        museum.samples("kl")


def test_a_z_score_of_a_variance_has_unit_spread():
    scores = [statistics.z_of_variance(2 * statistics.doubles(1000, 1, seed), 4.0) for seed in range(100)]
    assert 0.7 < math.sqrt(sum(z * z for z in scores) / 100) < 1.3


def test_a_statistic_that_does_not_see_its_bug_would_fail():
    # the net that catches the exhibits has no hole of its own: a harmless edit leaves the statistic where it was
    bug = museum.exhibits["padding"]
    harmless = Fault("harmless", bug.fault.target, "start, keep]", "start, 1 * keep]")
    with harmless.planted():
        assert bug.statistic(0) <= bug.bound


@pytest.mark.skipif(not CHAPTER.exists(), reason="the chapter is not there")
class TestChapter:
    """What the chapter shows is what is planted."""

    cells = jupytext.read(CHAPTER).cells if CHAPTER.exists() else []
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")

    @names
    def test_it_shows_the_diff_and_links_the_source(self, name):
        bug = museum.exhibits[name]
        changes = [line for line in bug.diff().splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        assert "\n".join(changes) in self.text
        assert f"]({bug.source})" in self.text

    def test_each_room_has_a_heading(self):
        for number, room in enumerate(museum.ROOMS, 1):
            assert f"## Room {number}: {room}\n" in self.text
