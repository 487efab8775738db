"""Run chapters where nothing of the book is: a stand-in for Colab, without a network.

``python tools/colab.py [02 ...]`` (``make colab``) makes an environment with what Colab has, at the versions of
requirements.txt, a repository of the last commit, and a folder with the few packages that the book needs besides. Then
the index is cut off. Each chapter's notebook is put alone into an empty folder, with the repository's address in its
first cell, and run

- once from the first cell to the last: the first installs the book's package, every claim must hold;
- again in the same kernel: no failure, and no claim that changes its number;
- then its exercises alone, the last first: a cell that was left for the reader to fill in must not break another.

The environment is kept in ``_build/colab`` and made anew when requirements.txt changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import nbformat
from execution import ENVIRONMENT, ROOT, TIMEOUT_SECONDS
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from notebooks import addressed
from repository import Repository

HOME = ROOT / "_build" / "colab"
# Colab has more; of what a chapter imports, this. ipykernel stands for its own kernel.
COLAB = ("torch", "numpy", "matplotlib", "ipywidgets", "scikit-learn", "tqdm", "accelerate", "ipykernel")
# What the book's package asks for besides, and what builds it.
BESIDES = ("POT", "mlxtend", "setuptools")
DISTRIBUTION = "diffusion-models-proved"
CLAIM = re.compile(r"^claim (\S+) holds: (.*?) \|", re.MULTILINE)


def pins(names: tuple[str, ...]) -> list[str]:
    """Return the lines of requirements.txt for these packages."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line.partition("==")[0] in names]


class Colab:
    """An environment with what Colab has, a repository with the book, and no index.

    Args:
        home: the folder that holds both.

    Raises:
        subprocess.CalledProcessError: if a package cannot be had.
    """

    def __init__(self, home: Path = HOME) -> None:
        self.python = home / "bin" / "bin" / "python"
        self.wheels, self.repository = home / "wheels", home / "book.git"
        made = home / hashlib.sha256("\n".join(pins(COLAB + BESIDES)).encode()).hexdigest()[:16]
        if not made.exists():
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home / "bin", with_pip=True)
            self.pip("install", *pins(COLAB))
            self.pip("download", "--dest", str(self.wheels), *pins(BESIDES), *pins(COLAB[1:2]), "wheel")
            made.touch()
        shutil.rmtree(self.repository, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(self.repository)], check=True)
        branches = ["git", "-C", str(self.repository), "branch", "--force", "colab", _commit()]
        subprocess.run(branches, check=True)

    def pip(self, *words: str) -> str:
        """Run pip of the environment; return what it says."""
        command = [str(self.python), "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def version(self, name: str) -> str:
        """Return the version of an installed package, or nothing."""
        ask = f"import importlib.metadata as m; print(m.version({name!r}))"
        found = subprocess.run([str(self.python), "-c", ask], capture_output=True, text=True)
        return found.stdout.strip()

    def environment(self) -> dict[str, str]:
        """Return the environment of a kernel: no index, and none of this process's paths."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        settings = {name: value for name, value in ENVIRONMENT.items() if name != "DIFFUTILS_STATIC"}
        return {**kept, **index, **settings, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}

    def run(self, pair: Path, folder: Path) -> str:
        """Run one notebook as the module says; return a line on it.

        Raises:
            CellExecutionError: if a cell fails.
            AssertionError: if the package was there before, torch was touched, or a claim changed its number.
        """
        if self.version(DISTRIBUTION):
            self.pip("uninstall", "--yes", DISTRIBUTION)
        notebook = nbformat.read(pair, as_version=4)
        notebook = addressed(notebook, Repository(f"file://{self.repository}", "colab"), pair.name)
        torch, start = self.version("torch"), time.monotonic()
        client = _Client(notebook, self, folder)
        with client.setup_kernel():
            first = client.run_cells()
            seconds = time.monotonic() - start
            assert self.version(DISTRIBUTION) and self.version("torch") == torch, "torch was touched"
            again = client.run_cells()
            assert first == again, f"claims of a second run: {sorted(set(first) ^ set(again))}"
            client.run_cells(reversed([cell for cell in client.code if "solution" in cell.metadata.get("tags", [])]))
        return f"{pair.stem}: {len(first)} claims, {seconds:.0f} s; again: the same; torch {torch} stays"


class _Client(NotebookClient):
    """A client for one notebook whose cells are run more than once, in any order."""

    def __init__(self, notebook: nbformat.NotebookNode, colab: Colab, folder: Path) -> None:
        super().__init__(notebook, timeout=TIMEOUT_SECONDS, resources={"metadata": {"path": str(folder)}})
        self.code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self._command = [str(colab.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self._environment = colab.environment()

    def create_kernel_manager(self):
        """Start the kernel of the other environment."""
        manager = super().create_kernel_manager()
        manager.kernel_spec.argv = self._command
        return manager

    def start_new_kernel(self, **options) -> None:
        """Start it in that environment's surroundings."""
        super().start_new_kernel(env=self._environment, **options)

    def run_cells(self, cells=None) -> list[tuple[str, str]]:
        """Run cells, all by default; return the claims that they printed."""
        claims = []
        for cell in self.code if cells is None else cells:
            self.execute_cell(cell, self.nb.cells.index(cell))
            text = "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")
            claims += CLAIM.findall(text)
        return claims


def _commit() -> str:
    ask = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()


def main(numbers: list[str]) -> int:
    """Run the chapters with these numbers, or all; return 1 if one fails."""
    colab, failed = Colab(), 0
    for pair in sorted((ROOT / "chapters").glob("*.ipynb")):
        if numbers and not pair.name.startswith(tuple(numbers)):
            continue
        folder = HOME / "content"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(pair, folder)
        try:
            print(colab.run(folder / pair.name, folder), flush=True)
        except (CellExecutionError, AssertionError) as error:
            failed += 1
            print(f"{pair.stem} FAILED: {str(error)[-2000:]}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
