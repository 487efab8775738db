"""``python -m mutants [WORD ...]``: plant the faults that a WORD is found in (all by default) and run the unit tests.

``python -m mutants chapters [more] [02 ...] [WORD ...]``: run the chapters instead, those with the numbers given, or
all. It takes hours, and what it has found is kept at once: with ``more`` it goes on where an earlier run was ended.
``python -m mutants operators [MODULE ...]``: plant the edits of cosmic-ray's operators in the core and run its own tests.
"""

from __future__ import annotations

import os
import sys
import time

from diffbook.faults import Fault
from mutants import chapters, faults, table, unit

MORE = "more"


def main(words: list[str]) -> int:
    """Plant the faults, print a line for each, write the table; return 1 if one gets past the unit tests."""
    start, results = time.monotonic(), table.load()
    work = {"chapters": _chapters, "operators": _operators}.get(words[0] if words else "", _unit)
    try:
        count, missed = work(words[work is not _unit :], results)
    finally:
        table.save(results, faults())
    print(f"{count} faults, {missed} not caught, {(time.monotonic() - start) / 60:.1f} minutes")
    return int(missed > 0 and work is not _chapters)


def _chosen(words: list[str]) -> list[Fault]:
    return [fault for fault in faults() if not words or any(word in table.key(fault) for word in words)]


def _caught(chosen: list[Fault], reach: int) -> dict[Fault, str | None]:
    """The test that catches each fault; a fault that could not be judged is missing."""
    processes, caught = os.cpu_count() or 1, {}
    for fault, test, error, seconds in unit.run(chosen, processes, reach=reach):
        if not error:
            caught[fault] = test
        _say(fault, test, error, seconds)
    broken = unit.confirm(sorted({test for test in caught.values() if test}), processes)
    for fault in [fault for fault, test in caught.items() if test in broken]:
        _say(fault, None, f"{caught.pop(fault)} fails without the fault, too", 0.0)
    return caught


def _unit(words: list[str], results: dict) -> tuple[int, int]:
    chosen = _chosen(words)
    caught = _caught(chosen, 2)
    for fault, test in caught.items():
        results.setdefault(table.key(fault), {})["unit"] = test
    return len(chosen), sum(not caught.get(fault) for fault in chosen)


def _chapters(words: list[str], results: dict) -> tuple[int, int]:
    numbers = [word for word in words if word.isdigit()]
    chosen = _chosen([word for word in words if word != MORE and not word.isdigit()])
    paths = [path for path in chapters.paths() if not numbers or path.stem[:2] in numbers]
    if MORE in words:
        paths = [path for path in paths if path.stem not in results.get(table.RUN, [])]
    chapters.warm_up()
    tried = {fault: results.setdefault(table.key(fault), {}).setdefault("chapters", {}) for fault in chosen}
    for failures in tried.values() if MORE not in words else ():
        for path in paths:
            failures.pop(path.stem, None)
    for path in paths:
        left = [fault for fault in chosen if not any(tried[fault].values()) and path.stem not in tried[fault]]
        whole = len(chosen) == len(faults()) or path.stem in results.get(table.RUN, [])
        table.note_run(results, path.stem, whole=False)
        for fault, failure, error, seconds in chapters.run(path, left, os.cpu_count() or 1):
            if not error:
                tried[fault][path.stem] = failure
            _say(fault, failure and f"{path.stem}: {failure}", error, seconds)
            table.save(results, faults())
        table.note_run(results, path.stem, whole=whole)
        table.save(results, faults())
    return len(chosen), sum(not any(tried[fault].values()) for fault in chosen)


def _operators(words: list[str], results: dict) -> tuple[int, int]:
    from mutants import operators

    count, missed = 0, 0
    for module in words or operators.MODULES:
        edits = operators.faults([module])
        caught = _caught(edits, 1)
        survivors = [table.key(edit) for edit in edits if not caught.get(edit)]
        results.setdefault(table.OPERATORS, {})[module] = {"edits": len(edits), "survivors": survivors}
        table.save(results, faults())
        count, missed = count + len(edits), missed + len(survivors)
    return count, missed


def _say(fault: Fault, caught: str | None, error: str, seconds: float) -> None:
    verdict = f"caught by {caught}" if caught else f"ERROR {error}" if error else "NOT CAUGHT"
    print(f"{seconds:5.1f} s  {table.key(fault)}: {verdict}", flush=True)


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("OMP_NUM_THREADS must be 1, as `make` sets it: a forked process waits for ever for its parent's threads")
    sys.exit(main(sys.argv[1:]))
