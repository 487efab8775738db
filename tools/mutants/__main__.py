"""Plant the faults: ``python -m mutants [WORD ...]`` runs the unit tests, ``python -m mutants chapters [WORD ...]`` the
chapters; all faults, or those that a WORD is found in."""

from __future__ import annotations

import os
import sys
import time

from diffutils.faults import Fault
from mutants import chapters, faults, table, unit


def main(words: list[str]) -> int:
    """Plant the faults, print a line for each, write the table; return 1 if a fault gets past the unit tests."""
    work = _chapters if words[:1] == ["chapters"] else _unit
    words = words[1:] if work is _chapters else words
    every = faults()
    chosen = [fault for fault in every if not words or any(word in table.key(fault) for word in words)]
    results, start = table.load(), time.monotonic()
    try:
        missed = work(chosen, results)
    finally:
        table.save(results, every)
    print(f"{len(chosen)} faults, {missed} not caught, {(time.monotonic() - start) / 60:.1f} minutes")
    return int(missed > 0 and work is _unit)


def _unit(chosen: list[Fault], results: dict) -> int:
    processes, caught = os.cpu_count() or 1, {}
    for fault, test, error, seconds in unit.run(chosen, processes):
        if not error:
            caught[fault] = test
        _say(fault, test, error, seconds)
    broken = unit.confirm(sorted({test for test in caught.values() if test}), processes)
    for fault, test in caught.items():
        if test in broken:
            _say(fault, None, f"{test} fails without the fault, too", 0.0)
        else:
            results.setdefault(table.key(fault), {})["unit"] = test
    return sum(not caught.get(fault) or caught[fault] in broken for fault in chosen)


def _chapters(chosen: list[Fault], results: dict) -> int:
    chapters.warm_up()
    left = {fault: [] for fault in chosen}
    for path in chapters.paths():
        for fault, failure, error, seconds in chapters.run(path, list(left), 1):
            left[fault].append(path.stem)
            if failure:
                left.pop(fault)
                results.setdefault(table.key(fault), {}).update(chapter=path.stem, failure=failure, chapters=[])
            _say(fault, failure and f"{path.stem}: {failure}", error, seconds)
        for fault, called in left.items():
            results.setdefault(table.key(fault), {}).update(chapter=None, failure=None, chapters=called)
        table.save(results, faults())
    return len(left)


def _say(fault: Fault, caught: str | None, error: str, seconds: float) -> None:
    verdict = f"caught by {caught}" if caught else f"ERROR {error}" if error else "NOT CAUGHT"
    print(f"{seconds:5.1f} s  {table.key(fault)}: {verdict}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
