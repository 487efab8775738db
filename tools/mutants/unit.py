"""Plant each fault and run the unit tests, those nearest to the fault first, until one fails."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from diffbook.faults import Fault
from mutants import workers

ROOT = Path(__file__).resolve().parents[2]
# Tests of the book, of its pages in a browser and of its tools; tests that plant faults themselves, and tests that compare
# with another process, where no fault is planted: those would fail for another reason.
OTHERS = ("accessibility", "book", "browser", "links", "tools", "faults", "mutants", "museum", "determinism")
# Whose tests a module's are, where no file bears its name.
HOMES = {
    "oracle": {"distributions", "learned"},
    "parameters": {"distributions"},
    "quadrature": {"distributions"},
    "denoiser": {"samplers", "learned"},
    "ancestral": {"learned"},
    "bound": {"learned", "optimal"},
    "stochastic": {"learned"},
    "ddpm": {"learned", "dpm"},
    "parts": {"flows", "gan", "vae"},
    "diagrams": {"figures"},
    "interactive": {"exact"},
    "training_run": {"training"},
}
SECONDS = 1500.0
OPTIONS = ("-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:unraisableexception")
WHEN_IMPORTED = " (when imported)"
DURATIONS = ROOT / "_build" / "mutants" / "durations.json"
# What the tests of properties are about. They draw many examples and take long.
CORE = {"process", "schedule", "samplers", "oracle", "distributions"}


class _Watch:
    """Leaves out what needs a browser, runs quick tests first, and keeps what failed first and how long each test took."""

    def __init__(self, nearness: dict[str, int], durations: dict[str, float]) -> None:
        self.nearness, self.known = nearness, durations
        self.failed: str | None = None
        self.every: list[str] = []
        self.durations: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "browser" not in item.fixturenames]
        items.sort(key=lambda item: (self.nearness.get(item.path.name, 0), self.known.get(item.nodeid, 0.0)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(report.nodeid + WHEN_IMPORTED)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self._note(report.nodeid)

    def _note(self, test: str) -> None:
        self.failed = self.failed or test
        self.every.append(test.removesuffix(WHEN_IMPORTED))


def test_files() -> list[Path]:
    """Return the files of the unit tests of the package."""
    files = sorted((ROOT / "tests").glob("test_*.py"))
    return [file for file in files if not any(file.stem.startswith(f"test_{other}") for other in OTHERS)]


def warm_up() -> None:
    """Import what the tests import, and forget the tests: what they compute when imported is to meet the fault."""
    # A counterexample is enough: no minutes are spent on a smaller one.
    search = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", phases=search, database=None)
    hypothesis.settings.load_profile("mutants")
    workers.warm_up()
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        code = pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider", *map(str, test_files())])
    if code != 0:
        raise SystemExit("the unit tests cannot be collected")
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "") or "").startswith(str(ROOT / "tests")):
            del sys.modules[name]
    workers.settle()


def _run_tests(files: list[Path], nearness: dict, durations: dict) -> tuple[str | None, dict[str, float]]:
    watch = _Watch(nearness, durations)
    code = pytest.main([*OPTIONS, "-x", *map(str, files)], plugins=[watch])
    # 0 passed, 1 a test failed, 2 a file could not be imported, 5 there was no test; all else is no verdict on a fault.
    if code not in (0, 1, 2, 5) or (code in (0, 5)) != (watch.failed is None):
        raise RuntimeError(f"pytest ended with {code!r}, first failure: {watch.failed}")
    return watch.failed, watch.durations


def confirm(tests: list[str], processes: int) -> list[str]:
    """Run these tests without any fault; return those that fail, whose failures say nothing about faults."""
    shares = [share for i in range(2 * processes) if (share := tests[i :: 2 * processes])]
    failed = []
    for share, result, error in workers.run(shares, _failing, processes=processes, seconds=SECONDS):
        failed += share if error else result
    return failed


def _failing(tests: list[str]) -> list[str]:
    watch = _Watch({}, {})
    names = [test.removesuffix(WHEN_IMPORTED) for test in tests]
    code = pytest.main([*OPTIONS, *names], plugins=[watch])
    return [test for test, name in zip(tests, names) if name in watch.every or code not in (0, 1)]


def _near(fault: Fault) -> dict[str, int]:
    """Return how far each file is from the fault: 0 named after its module, 1 tests of the core's properties, 2 another."""
    parts = [part for part in fault.target.split(".")[1:-1] if part.islower()]
    words = {word for part in parts for word in [*part.split("_"), *HOMES.get(part, ())]}
    core = not words.isdisjoint(CORE)
    return {
        file.name: (1 if core else 2) if "properties" in file.stem else 0 if words & {*file.stem.split("_")[1:]} else 2
        for file in test_files()
    }


def catch(fault: Fault, durations: dict[str, float], *, reach: int = 2) -> tuple[str | None, dict[str, float]]:
    """Return the first unit test that fails with the fault in place (None if all within ``reach`` pass), and times."""
    near, taken = _near(fault), {}
    with fault.planted():
        for distances in ((0, 1), range(2, reach + 1)):
            files = [file for file in test_files() if near[file.name] in distances]
            failed, seconds = _run_tests(files, near, durations) if files else (None, {})
            taken.update(seconds)
            if failed:
                return failed, taken
    return None, taken


def run(faults: list[Fault], processes: int, *, reach: int = 2) -> Iterator[tuple[Fault, str | None, str, float]]:
    """Plant the faults one by one; yield each with the test that catches it, an error, and its seconds.

    A ``reach`` of 1 runs only the tests nearest to each fault. How long a test took is kept for the next time, to run
    quick tests first.
    """
    os.chdir(ROOT)
    warm_up()
    durations = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}

    def work(fault: Fault) -> tuple[str | None, dict[str, float], float]:
        start = time.monotonic()
        return *catch(fault, durations, reach=reach), time.monotonic() - start

    for fault, result, error in workers.run(faults, work, processes=processes, seconds=SECONDS):
        test, taken, seconds = result or (None, {}, 0.0)
        durations.update({name: round(value, 2) for name, value in taken.items() if name not in durations})
        yield fault, test, error, seconds
    DURATIONS.parent.mkdir(parents=True, exist_ok=True)
    DURATIONS.write_text(json.dumps(durations))
