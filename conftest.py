"""A chapter that passed with the code as it stands is not run again.

nbval runs a chapter from its first cell to its last, in about a minute. When all cells of a chapter pass, a stamp is
left under ``_build/nbval``, named after everything that decides the outcome: the notebook, the packages, the
libraries, Python and what nbval replaces before it compares. If any of it changes while the tests run, no stamp is
left. ``--run-unchanged`` ignores the stamps.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "tools"))

from execution import code_fingerprint  # noqa: E402  (found through the line above)

STAMPS = ROOT / "_build" / "nbval"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that ignores the stamps."""
    parser.addoption("--run-unchanged", action="store_true", help="run chapters that have passed unchanged, too")


def stamp(notebook: Path) -> Path:
    """Return the file that exists once ``notebook`` has passed with the code as it stands."""
    digest = hashlib.sha256(code_fingerprint().encode())
    digest.update(sys.version.encode())
    digest.update((ROOT / "tests" / "nbval.cfg").read_bytes())
    digest.update(notebook.read_bytes())
    return STAMPS / f"{notebook.stem}-{digest.hexdigest()[:16]}"


def passed_unchanged(notebook: Path, config: pytest.Config) -> bool:
    """Return whether this notebook may be left out."""
    return config.option.nbval_lax and not config.option.run_unchanged and stamp(notebook).exists()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out chapters that passed unchanged."""
    is_notebook = collection_path.suffix == ".ipynb"
    return True if is_notebook and passed_unchanged(collection_path, config) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the chapters first and the last of them foremost: later chapters take longer."""
    chapters = [item for item in items if item.path.suffix == ".ipynb"]
    order = {path: index for index, path in enumerate(sorted({item.path for item in chapters}, reverse=True))}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which chapters are left out and how to run them all the same."""
    left_out = [path.name for path in sorted(ROOT.glob("chapters/*.ipynb")) if passed_unchanged(path, config)]
    return [f"passed before, unchanged since (--run-unchanged runs them): {', '.join(left_out)}"] if left_out else []


class _Outcomes:
    """Counts the cells that passed and failed in each notebook, in the process that prints the summary."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.stamps = {path: stamp(path) for path in ROOT.glob("chapters/*.ipynb")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        notebook = report.nodeid.split("::")[0]
        if report.failed:
            self.failed[notebook] += 1
        elif report.when == "call" and report.passed:
            self.passed[notebook] += 1

    def pytest_sessionfinish(self) -> None:
        for name, count in self.passed.items():
            notebook = ROOT / name
            if notebook.suffix == ".ipynb" and not self.failed[name] and count == _code_cells(notebook):
                self._leave_stamp(notebook)

    def _leave_stamp(self, notebook: Path) -> None:
        # What was there when the tests began is what the chapter ran with only if it is there still.
        if self.stamps.get(notebook) == stamp(notebook):
            STAMPS.mkdir(parents=True, exist_ok=True)
            stamp(notebook).touch()


def _code_cells(notebook: Path) -> int:
    return sum(cell.cell_type == "code" for cell in nbformat.read(notebook, as_version=4).cells)


def pytest_configure(config: pytest.Config) -> None:
    """Count outcomes once, in the controlling process."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Outcomes(), "chapter-outcomes")
