"""The planted faults fit the code, and what runs them can tell a fault that is caught from one that is not."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import mutants
import pytest
from mutants import __main__ as command
from mutants import chapters, table, unit, workers

from diffbook.faults import Fault

SOUND = Fault("nothing changes", "diffutils.process.diffuse", "signal, x0, spread,", "signal, x0, spread.clone(),")
WRONG = Fault("no root", "diffutils.process.diffuse", "signal, x0, spread,", "signal, x0, spread.square(),")
TESTS = """
    import torch
    from diffutils.process import diffuse
    from diffutils.schedule import Schedule

    SCHEDULE = Schedule.linear(50)
    AT_IMPORT = float(diffuse(SCHEDULE, torch.zeros(1, 1), 50, noise=torch.ones(1, 1)))

    def test_passes():
        pass

    def test_noise():
        assert abs(AT_IMPORT - float(SCHEDULE.sqrt_one_minus_alpha_bar[50])) < 1e-7

    def test_of_a_page(browser):
        assert False
"""


@pytest.mark.parametrize("fault", mutants.faults(), ids=table.key)
def test_every_fault_can_be_planted(fault):
    with fault.planted():
        pass


def test_there_are_enough_faults_and_no_two_alike():
    faults = mutants.faults()
    assert len(faults) >= 60
    edits = {(fault.target, fault.before, fault.after) for fault in faults}
    assert len({table.key(fault) for fault in faults}) == len(edits) == len(faults)


@pytest.fixture
def small_suite(tmp_path, monkeypatch):
    """A suite of three tests in the place of the book's."""
    file = tmp_path / "test_small.py"
    file.write_text(textwrap.dedent(TESTS))
    monkeypatch.setattr(unit, "test_files", lambda: [file])
    return file


def outcome(work, job):
    """What ``work`` makes of the job in a process of its own, as in ``make mutants``."""
    ((_, result, error),) = workers.run([job], work, processes=1, seconds=120)
    return result, error


def test_a_fault_is_caught_by_the_test_that_fails(small_suite):
    result, error = outcome(lambda fault: unit.catch(fault, {}), WRONG)
    assert not error and result[0].endswith("test_small.py::test_noise")


def test_a_fault_that_changes_nothing_is_not_caught(small_suite):
    result, error = outcome(lambda fault: unit.catch(fault, {}), SOUND)
    assert not error and result[0] is None and len(result[1]) == 2


def test_a_fault_that_breaks_the_import_of_a_test_is_caught(small_suite):
    before = "signal, spread = schedule"
    broken = Fault("raises", "diffutils.process.diffuse", before, f"raise ArithmeticError\n    {before}")
    result, error = outcome(lambda fault: unit.catch(fault, {}), broken)
    assert not error and result[0].endswith("test_small.py" + unit.WHEN_IMPORTED)


def test_a_fault_that_does_not_fit_is_an_error_and_not_caught(small_suite):
    unfit = Fault("nowhere", "diffutils.process.diffuse", "no such text", "none")
    result, error = outcome(lambda fault: unit.catch(fault, {}), unfit)
    assert result is None and "not 0 times" in error


def test_a_test_that_fails_without_a_fault_says_nothing(small_suite):
    small_suite.write_text("def test_right():\n    pass\n\ndef test_wrong():\n    assert False\n")
    names = [f"{small_suite}::test_right", f"{small_suite}::test_wrong"]
    found, error = outcome(unit._failing, names)
    assert not error and len(found) <= 1
    assert outcome(unit._failing, [f"{small_suite}::test_gone"])[0] == [f"{small_suite}::test_gone"]


def test_processes_report_what_they_return_raise_or_never_end_with():
    def work(job):
        if job == "raise":
            raise KeyError("lost")
        if job == "die":
            os._exit(3)
        if job == "sleep":
            time.sleep(60)
        return job, os.getpid()

    jobs = ["return", "raise", "die", "sleep", "again"]
    reports = {job: (result, error) for job, result, error in workers.run(jobs, work, processes=2, seconds=3)}
    assert reports["return"][0][0] == "return" and reports["again"][0][1] not in (os.getpid(), reports["return"][0][1])
    assert reports["raise"][0] is None and "KeyError: 'lost'" in reports["raise"][1]
    assert reports["die"] == (None, "the process died")
    assert reports["sleep"] == (None, "ended after 3 s")


def test_the_table_says_what_caught_each_fault():
    results = {
        table.key(WRONG): {"unit": "tests/test_process.py::test_a", "chapters": {"02_x": None, "04_y": "claim 4.1 | x"}},
        table.key(SOUND): {"unit": None, "chapters": {"04_y": None}},
        table.RUN: ["02_x", "04_y"],
        table.OPERATORS: {"process": {"edits": 9, "survivors": ["diffutils.process.diffuse: line"]}},
    }
    page = table.page(results, [WRONG, SOUND])
    assert "| no root | `diffuse` | `test_process.py::test_a` | 04_y: claim 4.1 \\| x |" in page
    assert "| nothing changes | `diffuse` | **none** | none: 04_y call it" in page
    assert "2 faults. Caught by a unit test: 1. Chapters that were run: 02_x, 04_y. They call the functions of 2" in page
    assert "| process | 9 | 8 |" in page and "| `process.diffuse: line` | not explained yet |" in page


@pytest.fixture
def two_chapters(monkeypatch):
    """Chapters 02 and 04 that are never run: what is asked of them is noted, and the second catches SOUND."""
    asked = []

    def run(path, faults, processes):
        for fault in faults:
            asked.append((path.stem, fault.name))
            yield fault, "ClaimError" if (path.stem, fault) == ("04_y", SOUND) else None, "", 0.0

    monkeypatch.setattr(chapters, "paths", lambda: [Path("02_x.md"), Path("04_y.md")])
    monkeypatch.setattr(chapters, "run", run)
    monkeypatch.setattr(chapters, "warm_up", lambda: None)
    monkeypatch.setattr(command, "faults", lambda: [WRONG, SOUND])
    monkeypatch.setattr(table, "save", lambda results, faults: None)
    return asked


def test_chapters_are_run_until_one_catches_the_fault(two_chapters):
    results = {}
    assert command._chapters(["nothing changes"], results) == (1, 0)
    assert results[table.RUN] == ["02_x (in part)", "04_y (in part)"]
    assert command._chapters([], results) == (2, 1)
    assert results[table.RUN] == ["02_x", "04_y"]
    assert results[table.key(SOUND)]["chapters"] == {"02_x": None, "04_y": "ClaimError"}
    # what is known of the others stands
    assert command._chapters(["nothing changes"], results) == (1, 0)
    assert results[table.RUN] == ["02_x", "04_y"]


def test_a_run_of_the_chapters_goes_on_where_it_was_ended(two_chapters):
    results = {
        table.key(SOUND): {"chapters": {"02_x": None}},
        table.key(WRONG): {"chapters": {"02_x": None, "04_y": None}},
        table.RUN: ["02_x", "04_y (in part)"],
    }
    assert command._chapters(["more"], results) == (2, 1)
    assert two_chapters == [("04_y", "nothing changes")]
    assert results[table.RUN] == ["02_x", "04_y"]
