"""Plant each fault and run the unit tests, those nearest to the fault first, until one fails."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffutils.faults import Fault
from mutants import workers

ROOT = Path(__file__).resolve().parents[2]
# Tests of the book, of its pages in a browser and of its tools; tests that plant faults themselves: those would fail for
# another reason.
OTHERS = ("accessibility", "book", "browser", "links", "tools", "faults", "mutants", "museum")
SECONDS = 1500.0


class _Watch:
    """Leaves out what needs a browser, runs quick tests first, and keeps what failed first and how long each test took."""

    def __init__(self, nearness: dict[str, int], durations: dict[str, float]) -> None:
        self.nearness, self.known = nearness, durations
        self.failed: str | None = None
        self.durations: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "browser" not in item.fixturenames]
        items.sort(key=lambda item: (self.nearness.get(item.path.name, 0), self.known.get(item.nodeid, 0.0)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = self.failed or f"{report.nodeid} (when imported)"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed = self.failed or report.nodeid


def test_files() -> list[Path]:
    """Return the files of the unit tests of the package."""
    files = sorted((ROOT / "tests").glob("test_*.py"))
    return [file for file in files if not any(file.stem.startswith(f"test_{other}") for other in OTHERS)]


def warm_up() -> None:
    """Import what the tests import, and forget the tests: what they compute when imported is to meet the fault."""
    workers.warm_up()
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        code = pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider", *map(str, test_files())])
    if code != 0:
        raise SystemExit("the unit tests cannot be collected")
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "") or "").startswith(str(ROOT / "tests")):
            del sys.modules[name]
    workers.settle()


def _run_tests(files: list[Path], nearness: dict[str, int], durations: dict[str, float]) -> tuple[str | None, dict]:
    watch = _Watch(nearness, durations)
    options = ["-q", "-x", "--tb=no", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    code = pytest.main([*options, *map(str, files)], plugins=[watch])
    # 0 passed, 1 a test failed, 2 a file could not be imported; whatever else pytest says is no verdict on a fault.
    if code not in (0, 1, 2) or (code == 0) != (watch.failed is None):
        raise RuntimeError(f"pytest ended with {code!r}, first failure: {watch.failed}")
    return watch.failed, watch.durations


def baseline(processes: int) -> dict[str, float]:
    """Run all unit tests without a fault, in the same way; return the seconds of each test. All must pass."""
    files, durations = test_files(), {}
    shares = [files[i::4] for i in range(4)]
    for share, result, error in workers.run(shares, lambda s: _run_tests(s, {}, {}), processes=processes, seconds=SECONDS):
        if error or result[0]:
            raise SystemExit(f"without any fault: {error or result[0] + ' fails'}")
        durations.update(result[1])
    return durations


def _near(fault: Fault) -> dict[str, int]:
    """Return for each file how far from the fault it is: 0 named after its module, 1 speaks of it, 2 any other."""
    function = fault.target.rsplit(".", 1)[1]
    module = fault.target.split(".")[1:-1]
    words = {word for part in module if part.islower() for word in part.split("_")}
    distance = {}
    for file in test_files():
        named = not words.isdisjoint(file.stem.split("_")[1:])
        text = file.read_text(encoding="utf-8")
        spoken = function in text or any(word in text for word in module if not word.islower())
        distance[file.name] = 0 if named else 1 if spoken else 2
    return distance


def catch(fault: Fault, durations: dict[str, float]) -> str | None:
    """Return the first unit test that fails with the fault in place, or None if all pass."""
    near = _near(fault)
    with fault.planted():
        for distances in ((0,), (1, 2)):
            files = [file for file in test_files() if near[file.name] in distances]
            failed = _run_tests(files, near, durations)[0] if files else None
            if failed:
                return failed
    return None


def run(faults: list[Fault], processes: int) -> Iterator[tuple[Fault, str | None, str, float]]:
    """Plant the faults one by one; yield each with the test that catches it, an error, and its seconds."""
    os.chdir(ROOT)
    warm_up()
    durations = baseline(processes)

    def work(fault: Fault) -> tuple[str | None, float]:
        start = time.monotonic()
        return catch(fault, durations), time.monotonic() - start

    for fault, result, error in workers.run(faults, work, processes=processes, seconds=SECONDS):
        test, seconds = result or (None, 0.0)
        yield fault, test, error, seconds
