"""What caught each fault: kept in tests/mutants.json, shown in tests/MUTANTS.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

from diffbook.faults import Fault
from mutants.why import WHY, WHY_NOT

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "mutants.json"
PAGE = ROOT / "tests" / "MUTANTS.md"
# Keys beside those of the faults: the chapters that were run, and what was found by rule.
RUN, OPERATORS = "chapters that were run", "operators"

_HEAD = """\
# Planted faults, and what catches them

This page is written by `make mutants` and `make mutants-chapters`. Each line is one small bug of `tools/mutants/`. It is
switched on alone (`diffbook.faults`), and then

- the unit tests run, those named after its module first, until one fails: *unit test* names that one. The command
  fails if a fault gets past all of them. Tests that plant faults themselves (of `faults`, `mutants`, `museum`) and tests
  of the book's pages and tools take no part: they would fail for another reason.
- the chapters run, quick ones first, as `make seeds` runs them, until a cell raises: *chapter* names that one and the
  claim, or what else was raised. A fault that no chapter catches is no defect of a chapter. Two chapters are left out:
  9, which takes nine minutes, and 12, which plants faults itself.

"""


def key(fault: Fault) -> str:
    """Return the name of a fault that no other has."""
    return f"{fault.target}: {fault.name}"


def load() -> dict[str, dict]:
    """Return what is known of each fault."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def note_run(results: dict, chapter: str, *, whole: bool) -> None:
    """Note that a chapter was run with all faults that were left, or with a part of them."""
    part = f"{chapter} (in part)"
    results[RUN] = sorted({*results.get(RUN, []), chapter if whole else part} - {part if whole else chapter})


def save(results: dict[str, dict], faults: list[Fault]) -> None:
    """Keep what is known of the faults there are, and write the page."""
    names = {key(fault): None for fault in faults} | {RUN: None, OPERATORS: None}
    known = {name: results[name] for name in names if name in results}
    RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(known, faults), encoding="utf-8")


def page(results: dict[str, dict], faults: list[Fault]) -> str:
    """Return the tables as Markdown."""
    rows: dict[str, list[str]] = {}
    for fault in faults:
        entry = results.get(key(fault), {})
        parts = fault.target.split(".")
        function = next(i for i, part in enumerate(parts) if i == len(parts) - 1 or not part.islower())
        cells = (fault.name, f"`{'.'.join(parts[function:])}`", _unit(entry), _chapter(entry, key(fault)))
        rows.setdefault(".".join(parts[:function]), []).append(_row(cells))
    heads = _row(("what is wrong", "where", "unit test", "chapter")) + "\n|---|---|---|---|\n"
    tables = [f"## {module}\n\n{heads}" + "\n".join(lines) + "\n" for module, lines in rows.items()]
    return _HEAD + _summary(results, faults) + "\n" + "\n".join(tables) + _by_rule(results.get(OPERATORS, {}))


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def _unit(entry: dict) -> str:
    if "unit" not in entry:
        return "not run yet"
    return f"`{entry['unit'].removeprefix('tests/')}`" if entry["unit"] else "**none**"


def _chapter(entry: dict, name: str) -> str:
    if "chapters" not in entry:
        return "not run yet"
    for chapter, failure in sorted(entry["chapters"].items()):
        if failure:
            return f"{chapter}: {failure}"
    return "none: " + (WHY.get(name) or _why(sorted(entry["chapters"])))


def _why(chapters: list[str]) -> str:
    if not chapters:
        return "no chapter that was run calls it"
    return f"{', '.join(chapters)} call it, and every cell still runs and every claim still holds"


def _summary(results: dict[str, dict], faults: list[Fault]) -> str:
    entries = [results.get(key(fault), {}) for fault in faults]
    unit = sum(bool(entry.get("unit")) for entry in entries)
    both = [entry for entry in entries if "chapters" in entry]
    chapter = sum(any(entry["chapters"].values()) for entry in both)
    called = sum(bool(entry["chapters"]) for entry in both)
    only = sum(any(entry["chapters"].values()) and not entry.get("unit") for entry in both)
    return (
        f"{len(faults)} faults. Caught by a unit test: {unit}. Chapters that were run: "
        f"{', '.join(results.get(RUN, [])) or 'none yet'}. They call the functions of {called} faults and catch {chapter}; "
        f"caught by a chapter and by no unit test: {only}.\n"
    )


def _by_rule(operators: dict[str, dict]) -> str:
    if not operators:
        return ""
    text = (
        "\n## Edits by rule\n\n`make mutants-operators` applies cosmic-ray's operators at every place in the core "
        "(`tools/mutants/operators.py`) and runs the tests of the module and of the core's properties. Edits that none of "
        "them catches are listed with the reason.\n\n"
    )
    text += _row(("module", "edits", "caught")) + "\n|---|---|---|\n"
    for module, found in operators.items():
        text += _row((module, str(found["edits"]), str(found["edits"] - len(found["survivors"])))) + "\n"
    survivors = [name for found in operators.values() for name in found["survivors"]]
    edits = sum(found["edits"] for found in operators.values())
    text += f"\n{edits} edits, {edits - len(survivors)} caught.\n"
    if survivors:
        text += "\n" + _row(("not caught", "why")) + "\n|---|---|\n"
        text += "\n".join(_row((f"`{name.removeprefix('diffutils.')}`", _explained(name))) for name in survivors) + "\n"
    return text


def _explained(name: str) -> str:
    return next((why for pattern, why in WHY_NOT.items() if re.search(pattern, name)), "not explained yet")
