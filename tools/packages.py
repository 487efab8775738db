"""The packages of the book: their names and their modules."""

from __future__ import annotations

import importlib
import pkgutil

PACKAGES = ("diffutils", "diffbook")


def module_names(*packages: str) -> list[str]:
    """Return the names of all modules of these packages, or of all, a package before its modules."""
    found = {name: importlib.import_module(name).__path__ for name in packages or PACKAGES}
    return [module.name for name, path in found.items() for module in pkgutil.walk_packages(path, f"{name}.")]
