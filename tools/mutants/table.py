"""What caught each fault: kept in tests/mutants.json, shown in tests/MUTANTS.md."""

from __future__ import annotations

import json
from pathlib import Path

from diffutils.faults import Fault
from mutants.why import WHY

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "mutants.json"
PAGE = ROOT / "tests" / "MUTANTS.md"

_HEAD = """\
# Planted faults, and what catches them

This page is written by `make mutants` and `make mutants-chapters`. Each line is one small bug of `tools/mutants/`. It is
switched on alone (`diffutils.faults`), and then

- the unit tests run, those named after its module first, until one fails: *unit test* names that one. The command
  fails if a fault gets past all of them. Tests that plant faults themselves (of `faults`, `mutants`, `museum`) and tests
  of the book's pages and tools take no part: they would fail for another reason.
- the chapters run in reading order, as `make seeds` runs them, until a cell raises: *chapter* names that one and the
  claim, or what else was raised. A fault that no chapter catches is no defect of a chapter. Two chapters are left out:
  9, which takes nine minutes, and 12, which plants faults itself.

"""


def key(fault: Fault) -> str:
    """Return the name of a fault that no other has."""
    return f"{fault.target}: {fault.name}"


def load() -> dict[str, dict]:
    """Return what is known of each fault."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def save(results: dict[str, dict], faults: list[Fault]) -> None:
    """Keep what is known of the faults there are, and write the page."""
    known = {key(fault): results[key(fault)] for fault in faults if key(fault) in results}
    RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(known, faults), encoding="utf-8")


def page(results: dict[str, dict], faults: list[Fault]) -> str:
    """Return the table as Markdown."""
    rows: dict[str, list[str]] = {}
    for fault in faults:
        entry = results.get(key(fault), {})
        module, _, function = fault.target.removeprefix("diffutils.").partition(".")
        while function and function.partition(".")[0].islower() and "." in function:
            part, _, function = function.partition(".")
            module += f".{part}"
        cells = (fault.name, f"`{function}`", _unit(entry), _chapter(entry, key(fault)))
        rows.setdefault(module, []).append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    tables = [
        f"## diffutils.{module}\n\n| what is wrong | where | unit test | chapter |\n|---|---|---|---|\n" + "\n".join(lines) + "\n"
        for module, lines in rows.items()
    ]
    return _HEAD + _summary(results, faults) + "\n" + "\n".join(tables)


def _unit(entry: dict) -> str:
    if "unit" not in entry:
        return "not run yet"
    return f"`{entry['unit'].removeprefix('tests/')}`" if entry["unit"] else "**none**"


def _chapter(entry: dict, name: str) -> str:
    if entry.get("chapter"):
        return f"{entry['chapter']}: {entry['failure']}"
    if "chapters" not in entry:
        return "not run yet"
    return "none: " + (WHY.get(name) or _why(entry["chapters"]))


def _why(chapters: list[str]) -> str:
    if not chapters:
        return "no chapter that was run calls it"
    return f"{', '.join(chapters)} call it, and every cell still runs and every claim still holds"


def _summary(results: dict[str, dict], faults: list[Fault]) -> str:
    entries = [results.get(key(fault), {}) for fault in faults]
    unit = sum(bool(entry.get("unit")) for entry in entries)
    both = [entry for entry in entries if "unit" in entry and "chapters" in entry]
    chapter = sum(bool(entry.get("chapter")) for entry in both)
    only = sum(bool(entry.get("chapter")) and not entry["unit"] for entry in both)
    return (
        f"{len(faults)} faults. Caught by a unit test: {unit}. Also run in the chapters: {len(both)}; caught there: {chapter}; "
        f"caught by a chapter and by no unit test: {only}; by a unit test only: {len(both) - chapter}.\n"
    )
