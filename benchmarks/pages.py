"""How soon the pages of the built book can be read: each in a new browser context, from disk, at two widths.

A page is ready when its text and pictures stand and every formula is set; those in view are set first. Each page is
opened several times, and the median counts. ``make book`` first; a Chromium is needed, and an idle machine.

    python benchmarks/pages.py              # about five minutes
    python benchmarks/pages.py --repeats 9
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from pages import PAGES, Visit, address_of, built_site, chromium  # noqa: E402

WIDTHS = (1280, 360)
LOADED = "{startTime: performance.getEntriesByType('navigation')[0].loadEventEnd}"  # all there is without formulas
# In the browser's own timeline, in milliseconds.
STEPS = {
    "first words": "performance.getEntriesByType('paint')[0].startTime",
    "all in view": f"(performance.getEntriesByName('formulas in view')[0] ?? {LOADED}).startTime",
    "ready": f"(performance.getEntriesByName('formulas')[0] ?? {LOADED}).startTime",
}


def seconds(browser, address: str, width: int) -> list[float]:
    """Return when each of STEPS is reached, in seconds after the browser began to fetch the page."""
    with Visit(browser, address, width=width) as visit:
        if visit.page.locator(".math").count():
            visit.wait_for_mathematics()
        return [visit.page.evaluate(step) / 1000 for step in STEPS.values()]


def measure(site: Path, repeats: int) -> list[dict]:
    """Return a row for each page: its size and the medians of what was measured."""
    rows = []
    with chromium() as browser:
        for name in PAGES:
            row = {"page": name, "MB": round((site / f"{name}.html").stat().st_size / 1e6, 2)}
            for width in WIDTHS:
                visits = [seconds(browser, address_of(site, name), width) for _ in range(repeats)]
                for step, times in zip(STEPS, zip(*visits)):
                    row[f"{step}, {width} px"] = round(statistics.median(times), 2)
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="visits to each page")
    repeats = parser.parse_args().repeats
    rows = measure(built_site(), repeats)
    columns = list(rows[0])
    lines = [
        f"Seconds after the browser began to fetch a page from disk, by step; median of {repeats} visits.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(str(row[column]) for column in columns)} |" for row in rows),
    ]
    results = ROOT / "benchmarks" / "results"
    (results / "pages.md").write_text("\n".join(lines) + "\n")
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    (results / "pages.json").write_text(json.dumps({"machine": machine, "repeats": repeats, "pages": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
