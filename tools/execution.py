"""Execute the chapters in parallel into the cache that the book and the paired notebooks are made from.

The cache is jupyter-cache's. It knows a notebook by its code cells alone, so that a change in prose executes nothing;
a change in ``diffutils`` or in a library that decides numbers must execute everything, and therefore is part of the
path of the cache.

Run as ``python tools/execution.py`` from anywhere.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 600
NUMERIC_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "POT", "mlxtend", "matplotlib")
# One thread a chapter, because chapters run side by side; no progress bars, because a page keeps each refresh as a line;
# no widget state, because a page has no kernel to bring it to life.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "DIFFUTILS_STATIC": "1"}


def notebook_paths() -> list[Path]:
    """Return all text notebooks: the chapters in reading order, then the glossary."""
    return sorted((ROOT / "chapters").glob("*.md"))


def code_fingerprint() -> str:
    """Return a hash of everything but the notebooks that decides what a chapter computes."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "diffutils").rglob("*.py")):
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
    from jupyter_cache.executors import load_executor

    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    cache = get_cache(cache_path())
    for path in notebooks:
        cache.add_nb_to_project(str(path), read_data={"name": "myst_nb_md", "type": "plugin"})
    uris = [str(path) for path in notebooks]
    todo = cache.list_unexecuted(filter_uris=uris)
    print(f"{len(todo)} of {len(notebooks)} notebooks to execute", flush=True)
    if not todo:
        return True
    result = load_executor("local-parallel", cache).run_and_cache(filter_uris=uris, timeout=TIMEOUT_SECONDS)
    for uri in sorted(result.succeeded):
        record = cache.get_cached_project_nb(uri)
        seconds = f"{record.data['execution_seconds']:.0f} s" if record else "vain: it was edited meanwhile"
        print(f"executed {Path(uri).name} in {seconds}")
    for uri in result.excepted + result.errored:
        print(f"FAILED {uri}\n{cache.get_project_record(uri).traceback}", file=sys.stderr)
    return not cache.list_unexecuted(filter_uris=uris)


if __name__ == "__main__":
    sys.exit(not execute(notebook_paths()))
