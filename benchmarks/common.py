"""What the benchmarks share: a clock of CPU seconds, turns, the versions and the machine, and how results are written."""

from __future__ import annotations

import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from scipy.stats import t as student  # noqa: E402


class Clock:
    """CPU seconds of this process that were spent inside ``with clock.running():``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds += time.process_time() - start


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds that one call takes."""
    clock = Clock()
    with clock.running():
        work()
    return clock.seconds


def ratios(work: Callable[[], Any], bare: Callable[[], Any], *, rounds: int) -> list[float]:
    """Return work / bare of every round, in CPU seconds; each round runs both, in an order that changes."""
    for warm in (work, bare):
        warm()
    found = []
    for round_number in range(rounds):
        order = (work, bare) if round_number % 2 else (bare, work)
        seconds = {each: cpu_seconds(each) for each in order}
        found.append(seconds[work] / seconds[bare])
    return found


def wait(device: torch.device) -> None:
    """Return when a device has done all that it was given; a CPU always has."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def setting(*packages: str) -> dict[str, Any]:
    """Return what a reader needs to know to believe the numbers: versions, processor, threads."""
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions.update({name: version(name) for name in packages})
    return {"versions": versions, "processor": model, "threads": torch.get_num_threads()}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def described(where: dict[str, Any]) -> str:
    """Return a setting as a sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    threads = "one thread" if where["threads"] == 1 else f"{where['threads']} threads"
    return f"{where['processor']}, {threads}; {versions}."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns, but for the first, are aligned to the right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the mean of some values and, where there are several, half of the way from the lowest to the highest."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean}±{(max(values) - min(values)) / 2:.{digits}f}"


def settled(ours: dict[int, float], theirs: dict[int, float]) -> bool:
    """Return whether the seeds that two contenders share tell them apart: a paired t-test at five per cent, two-sided."""
    gaps = [ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()]
    if len(gaps) < 2:
        return False
    error = statistics.stdev(gaps) / math.sqrt(len(gaps))
    return abs(statistics.mean(gaps)) > float(student.ppf(0.975, len(gaps) - 1)) * error


def write(name: str, text: str, data: dict[str, Any]) -> None:
    """Write a result as Markdown and as JSON, and print it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text.rstrip() + "\n")
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    print("\n" + text)
