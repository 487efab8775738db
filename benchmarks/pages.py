"""How soon the pages of the built book can be read: each in a new browser context, from disk, at two widths.

Ready means that the text and pictures stand and MathJax has set every formula. Each page is opened several times, and
the median counts. ``make book`` first; a Chromium is needed, and an idle machine.

    python benchmarks/pages.py              # about a minute
    python benchmarks/pages.py --repeats 9
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from pages import PAGES, Visit, address_of, built_site, chromium  # noqa: E402

WIDTHS = (1280, 360)


def seconds(browser, address: str, width: int) -> tuple[float, float]:
    """Return when the first words are painted and when the page is ready, in seconds after it is asked for."""
    start = time.monotonic()
    with Visit(browser, address, width=width) as visit:
        if visit.page.locator(".math").count():
            visit.wait_for_mathematics()
        ready = time.monotonic() - start
        paint = visit.page.evaluate("performance.getEntriesByType('paint')[0].startTime / 1000")
    return paint, ready


def measure(site: Path, repeats: int) -> list[dict]:
    """Return a row for each page: its size and the medians of what was measured."""
    rows = []
    with chromium() as browser:
        for name in PAGES:
            row = {"page": name, "MB": round((site / f"{name}.html").stat().st_size / 1e6, 2)}
            for width in WIDTHS:
                paints, readies = zip(*(seconds(browser, address_of(site, name), width) for _ in range(repeats)))
                row[f"first words, {width} px"] = round(statistics.median(paints), 2)
                row[f"ready, {width} px"] = round(statistics.median(readies), 2)
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
        f"Seconds from asking for a page on disk; median of {repeats} visits.",
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
