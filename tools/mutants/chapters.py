"""Plant each fault and run the chapters, quick ones first, until a cell of one raises.

A chapter is executed cell by cell. Before each cell the process forks a copy of itself, which waits. The cell then runs
without a fault, and what it calls of the two packages is recorded. Each fault in a function that was called for the first time
is handed to the copy: from there on a fork of it runs this cell and the rest of the chapter with the fault planted. All
cells before could not have met the fault, so this is what the whole chapter would have done, in a fraction of the time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import jupytext
import matplotlib
import torch
from packages import PACKAGES

import diffbook
from diffbook.faults import Fault, _layers
from mutants import workers

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = tuple(str(ROOT / name) for name in PACKAGES)
# Chapter 9 trains every model on every set, for nine minutes. Chapter 12 plants faults itself.
LEFT_OUT = ("09_", "12_")
# What a quick chapter catches need not be tried in these, which take a minute each; the slowest is last.
SLOW = ("11_", "06_", "07_", "08_", "01_", "05_", "13_", "14_")
SECONDS = 600.0


def paths() -> list[Path]:
    """Return the chapters that are run and the glossary: quick ones in reading order, then slow ones."""
    found = [path for path in sorted((ROOT / "chapters").glob("*.md")) if not path.stem.startswith(LEFT_OUT)]
    return sorted(found, key=lambda path: next((i for i, name in enumerate(SLOW, 1) if path.stem.startswith(name)), 0))


def warm_up() -> None:
    """Import what the chapters import, and let figures go nowhere."""
    matplotlib.use("agg")
    workers.warm_up()
    diffbook.figures.display = lambda *_: None
    workers.settle()


def code_of(fault: Fault) -> CodeType:
    """Return the code that the fault will replace."""
    return _layers(fault.target)[-1].__code__


def _cells(path: Path) -> list[CodeType]:
    cells = [(i, cell) for i, cell in enumerate(jupytext.read(path).cells) if cell.cell_type == "code"]
    return [compile(cell.source, f"{path.name}, cell {i}", "exec") for i, cell in cells]


def _recorded(cell: CodeType, names: dict[str, Any]) -> set[CodeType]:
    """Run a cell; return the code of the two packages that it called."""
    called: set[CodeType] = set()

    def look(frame, event, argument) -> None:
        called.add(frame.f_code)

    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        sys.settrace(look)
        try:
            exec(cell, names)
        finally:
            sys.settrace(None)
    return {code for code in called if code.co_filename.startswith(FOLDERS)}


def _rest(fault: Fault, cells: list[CodeType], names: dict[str, Any]) -> str | None:
    """Run cells with the fault in place; return what the first that raises has to say, or None."""
    with fault.planted():
        for cell in cells:
            try:
                exec(cell, names)
            except Exception as error:  # whatever a cell raises is how the chapter notices
                text = str(error).partition("\n")[0].partition(" | measured")[0]
                return f"{type(error).__name__}: {text}"[:160]
    return None


def run(path: Path, faults: list[Fault], processes: int) -> Iterator[tuple[Fault, str | None, str, float]]:
    """Execute one chapter; yield each fault in what it calls, how it fails with it, an error, and seconds."""
    names: dict[str, Any] = {"__name__": "__main__"}
    torch.set_default_dtype(torch.float32)  # the glossary, a chapter before, sets another
    cells, waiting = _cells(path), {code_of(fault): [] for fault in faults}
    for fault in faults:
        waiting[code_of(fault)].append(fault)
    for index, cell in enumerate(cells):
        copy = _Copy(cells[index:], names, processes)
        called = _recorded(cell, names)
        met = [fault for code in called & waiting.keys() for fault in waiting.pop(code)]
        yield from copy.plant(met)


class _Copy:
    """A copy of this process as it was before a cell, that runs the rest of the chapter with faults when told to."""

    def __init__(self, cells: list[CodeType], names: dict[str, Any], processes: int) -> None:
        self._connection, other = workers.pipe()
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid:
            other.close()
            return
        try:
            def work(fault: Fault) -> tuple[str | None, float]:
                start = time.monotonic()
                return _rest(fault, cells, names), time.monotonic() - start

            for report in workers.run(other.recv(), work, processes=processes, seconds=SECONDS):
                other.send(report)
            other.send(None)
        finally:
            os._exit(0)

    def plant(self, faults: list[Fault]) -> Iterator[tuple[Fault, str | None, str, float]]:
        """Hand the faults over and yield what comes back."""
        self._connection.send(faults)
        while (report := self._connection.recv()) is not None:
            fault, result, error = report
            failure, seconds = result or (None, 0.0)
            yield fault, failure, error, seconds
        os.waitpid(self._pid, 0)
        self._connection.close()
