"""A local Sphinx extension: the reference of the book's packages, made from their docstrings by autodoc and napoleon.

The docstrings are written to be read in an editor. Here they become reStructuredText without being changed: indented
formulas keep their lines, and the bars and stars of mathematics are not taken for markup.
"""

from __future__ import annotations

import importlib
import re

from docutils import nodes
from docutils.statemachine import StringList
from packages import module_names
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SECTIONS = ("Args:", "Returns:", "Raises:", "Attributes:", "Shapes:", "Source:")
# Stands for the colon in the docstring of a property while napoleon, which would take what is before it for a type,
# looks at the text.
COLON = "\N{RATIO}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    # napoleon listens with priority 500.
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    app.add_directive("package-reference", PackageReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class PackageReference(SphinxDirective):
    """A section for each module of the package it is given: its docstring and those of its public members."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [self.section(name) for name in module_names(*self.arguments)]

    def section(self, name: str) -> nodes.section:
        """Return the section of one module; a package shows its docstring only, its modules follow."""
        is_package = hasattr(importlib.import_module(name), "__path__")
        options = [] if is_package else ["   :members:"]
        # Its package stands in the heading above.
        section = nodes.section("", nodes.title(text=name.partition(".")[2]), ids=[nodes.make_id(name)])
        lines = ["```{eval-rst}", f".. automodule:: {name}", *options, "```"]
        self.state.nested_parse(StringList(lines, source=self.env.docname), self.content_offset, section)
        return section


def _before_napoleon(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = as_restructured_text(lines)
    if what in ("property", "attribute"):
        lines[:] = [line.replace(":", COLON) for line in lines]


def _after_napoleon(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = [line.replace(COLON, ":") for line in lines]


def as_restructured_text(lines: list[str]) -> list[str]:
    """Return a docstring with its indented formulas as literal blocks and its mathematics protected from markup."""
    result: list[str] = []
    literal = False
    heading = False
    for index, line in enumerate(lines):
        indented = line.startswith("    ")
        if line and not indented:
            literal, heading = False, line in SECTIONS
        starts_block = indented and not literal and not heading and not lines[index - 1].strip()
        if starts_block and not _continues_list(result):
            result += ["::", ""]
            literal = True
        result.append(line if literal and indented else _protected(line))
    return result


def _continues_list(before: list[str]) -> bool:
    text = next((line for line in reversed(before) if line.strip()), "")
    return text.lstrip().startswith(("- ", "* "))


def _protected(line: str) -> str:
    """Escape bars, and stars that begin no list, outside of code."""
    parts = re.split(r"(``.*?``)", line)
    return "".join(part if part.startswith("``") else re.sub(r"([|*])", r"\\\1", part) for part in parts)
