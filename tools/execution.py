"""Execute the chapters side by side into the cache that the book and the paired notebooks are made from.

The cache is jupyter-cache's. It knows a notebook by its code cells alone, so that a change in prose executes nothing;
a change in the book's packages or in a library that decides numbers must execute everything, and therefore is part of the
path of the cache. With each executed chapter the cache keeps what the execution took.

Run as ``python tools/execution.py`` from anywhere.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import platform
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path

from packages import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 1800
NUMERIC_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "POT", "mlxtend", "matplotlib")
# One thread a chapter, because chapters run side by side; no progress bars, because a page keeps each refresh as a line;
# no widget state, because a page has no kernel to bring it to life. What the shell says otherwise does not count: the
# cache keeps what was executed, and knows nothing of the shell.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "DIFFUTILS_STATIC": "1"}


def notebook_paths() -> list[Path]:
    """Return all text notebooks: the chapters in reading order, then the glossary."""
    return sorted((ROOT / "chapters").glob("*.md"))


def code_fingerprint() -> str:
    """Return a hash of everything but the notebooks that decides what a chapter computes."""
    digest = hashlib.sha256()
    kinds = ("*.py", "*.js")
    for path in sorted(path for package in PACKAGES for kind in kinds for path in (ROOT / package).rglob(kind)):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    for name in NUMERIC_LIBRARIES:
        digest.update(f"{name}=={version(name)}".encode())
    for variable in ("DIFFUTILS_DEVICE", "DIFFUTILS_REQUIRE_CUDA"):
        digest.update(f"{variable}={os.environ.get(variable, '')}".encode())
    return digest.hexdigest()[:16]


def cache_path() -> Path:
    """Return the folder of the execution cache for the code as it stands."""
    return ROOT / "_build" / ".jupyter_cache" / code_fingerprint()


def execute(notebooks: list[Path]) -> bool:
    """Execute those chapters that the cache does not hold; print tracebacks and return False if one fails."""
    from jupyter_cache import get_cache

    os.environ.update(ENVIRONMENT)
    cache = get_cache(cache_path())
    for path in notebooks:
        cache.add_nb_to_project(str(path), read_data={"name": "myst_nb_md", "type": "plugin"})
    todo = [record.uri for record in cache.list_unexecuted(filter_uris=[str(path) for path in notebooks])]
    print(f"{len(todo)} of {len(notebooks)} notebooks to execute", flush=True)
    if not todo:
        return True
    # A process for each chapter, so that what its children took is what the chapter took. Later chapters take longer
    # and start first, so that none is left to run alone at the end.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=1) as pool:
        reports = pool.map(_execute_one, sorted(todo, reverse=True))
        return all([_print_report(*report) for report in reports])


def _print_report(uri: str, seconds: float, traceback: str | None) -> bool:
    if traceback:
        print(f"FAILED {uri}\n{traceback}", file=sys.stderr, flush=True)
    else:
        print(f"executed {Path(uri).name} in {seconds:.0f} s", flush=True)
    return not traceback


def _execute_one(uri: str) -> tuple[str, float, str | None]:
    """Execute one chapter into the cache; return its address, its seconds and the traceback if it failed."""
    from jupyter_cache import get_cache
    from jupyter_cache.cache.db import NbProjectRecord
    from jupyter_cache.executors.utils import create_cache_bundle, single_nb_execution

    cache = get_cache(cache_path())
    project = cache.get_project_notebook(uri)
    result = single_nb_execution(project.nb, str(Path(uri).parent), TIMEOUT_SECONDS, allow_errors=False)
    if result.err:
        NbProjectRecord.set_traceback(uri, result.exc_string, cache.db)
    else:
        bundle = create_cache_bundle(project, result.cwd, None, result.time, None)
        bundle.data.update(_what_it_took())
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    return uri, result.time, result.exc_string


def _what_it_took() -> dict[str, float | str]:
    """Return what the kernel that this process has started and ended took, and on what."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * kilobyte,
        "date": date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{n} {version(n)}" for n in NUMERIC_LIBRARIES)]),
    }


def processor() -> str:
    """Return the name of the processor as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(not execute(notebook_paths()))
