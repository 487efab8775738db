"""Run every chapter with other seeds: a claim must hold by what it says, not by the luck of one draw.

``python tools/seeds.py [COUNT] [NAME ...]`` runs the chapters whose name contains one of the NAMEs (all by default)
COUNT times (10 by default). Each time every generator that a chapter makes is seeded with another number, and so are
the data sets and the training runs, which make theirs through the same function, and the processes that a chapter
starts. Prints one line for each run and exits with 1 if a claim failed.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from execution import ENVIRONMENT, notebook_paths

SHIFT = 7919  # far enough apart that no seed of one run is a seed of another


def run(job: tuple[Path, int]) -> tuple[str, int, float, str | None]:
    """Execute one chapter with shifted seeds; return its name, the seed, CPU seconds and the error, if any."""
    path, seed = job
    shift_seeds(seed * SHIFT)
    started, error = time.process_time(), None
    try:
        with contextlib.redirect_stdout(io.StringIO()), shifted_children(seed * SHIFT):
            execute_cells(path)
    except Exception as caught:  # whatever a chapter raises is what this run reports
        error = f"{type(caught).__name__}: {caught}"
    return path.stem, seed, time.process_time() - started, error


@contextlib.contextmanager
def shifted_children(shift: int) -> Iterator[None]:
    """Shift the seeds of every Python process that is started meanwhile: Python runs ``sitecustomize`` when it starts."""
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory() as folder:
        lines = ["import sys", f"sys.path.append({str(Path(__file__).parent)!r})", "import seeds"]
        Path(folder, "sitecustomize.py").write_text("\n".join([*lines, f"seeds.shift_seeds({shift})", ""]))
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, [before])])
        try:
            yield
        finally:
            del os.environ["PYTHONPATH"]
            if before is not None:
                os.environ["PYTHONPATH"] = before


def shift_seeds(shift: int) -> None:
    """Seed every generator that diffutils makes or seeds in this process with a number that is ``shift`` larger.

    Data, noise, initial weights and dropout follow; the judges do not: the directions of sliced distances, the classifier
    of the Frechet distance. To be called before a module of the package is imported. Figures are not shown any more.
    """
    import matplotlib

    import diffutils.device as device

    matplotlib.use("agg")
    plain, default = device.make_generator, device.seed_default_generators
    # Before any other module of the package binds the names.
    device.make_generator = lambda seed, place="cpu": plain(seed + shift, place)
    device.seed_default_generators = lambda seed, place="cpu": default(seed + shift, place)

    import diffbook.figures as figures

    figures.display = lambda *_: None


def execute_cells(path: Path) -> None:
    """Run the code cells of a text notebook one after the other, in this process."""
    import jupytext

    names: dict = {"__name__": "__main__"}
    for index, cell in enumerate(jupytext.read(path).cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{path.name}, cell {index}", "exec"), names)


def main(arguments: list[str]) -> int:
    """Run the chapters over the seeds, two processes a time on two cores."""
    count = int(arguments[0]) if arguments else 10
    paths = [path for path in notebook_paths() if not arguments[1:] or any(n in path.stem for n in arguments[1:])]
    os.environ.update(ENVIRONMENT)
    failures = 0
    jobs = [(path, seed) for seed in range(1, count + 1) for path in paths]
    # A fresh process for each run: modules that are imported already would keep the seeds of the run before.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        for name, seed, seconds, error in pool.imap_unordered(run, jobs, chunksize=1):
            failures += error is not None
            print(f"{name:24s} seed {seed:2d}  {seconds:6.1f} CPU-s  {error or 'all claims hold'}", flush=True)
    print(f"{len(jobs)} runs, {failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
