"""The two packages: diffutils stands alone, small enough to be read; diffbook builds on it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from execution import ROOT
from packages import PACKAGES

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# What only the book needs, or only a part of the package that says so when it is missing.
BOOK_ALONE = ("diffbook", "matplotlib", "IPython", "ipywidgets", "accelerate")


def test_diffutils_is_imported_without_the_book_and_without_a_library_to_draw_with():
    ask = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({BOOK_ALONE!r}))  # importing one of them raises
import diffutils
for module in pkgutil.walk_packages(diffutils.__path__, "diffutils."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    answer = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_can_be_read_in_one_go(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
