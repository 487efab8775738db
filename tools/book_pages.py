"""A local Sphinx extension: pages of the book that are written from what its chapters printed when they were executed.

- ``{claims-summary}``: every claim of every chapter, with its bound, what was measured, and a link to the cell that
  proves it. The cell's output gets the anchor that the link leads to.
- ``{execution-statistics}``: what each chapter took, when, and on what.

All chapters are executed before the first page is read, side by side, into the cache that the pages then come from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from execution import cache_path, execute, notebook_paths
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

CLAIM = re.compile(r"^claim (?P<number>\S+) holds: (?P<text>.+) \| bound (?P<bound>.+) \| measured (?P<measured>.+)$")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", _execute_chapters)
    app.connect("doctree-read", _anchor_claims)
    app.connect("env-get-outdated", lambda *_: ["pages/claims", "pages/statistics"])
    app.add_directive("claims-summary", ClaimsSummary)
    app.add_directive("execution-statistics", ExecutionStatistics)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


@dataclass(frozen=True)
class Executed:
    """A chapter as the cache holds it: its source, its title, its cells with outputs and what they took."""

    path: Path
    title: str
    notebook: NotebookNode
    took: dict[str, float | str]


@dataclass(frozen=True)
class PrintedClaim:
    """A line that a claim has printed."""

    number: str
    text: str
    bound: str
    measured: str

    @property
    def anchor(self) -> str:
        """The address, within its page, of the output that holds the line."""
        return claim_anchor(self.number)


def claim_anchor(number: str) -> str:
    """Return the anchor of a claim: "claim-4-2" for claim 4.2."""
    return f"claim-{number.replace('.', '-').lower()}"


def printed_claims(text: str) -> list[PrintedClaim]:
    """Return the claims among the lines of an output."""
    return [PrintedClaim(**match.groupdict()) for line in text.splitlines() if (match := CLAIM.match(line))]


@lru_cache(maxsize=1)
def executed_chapters() -> tuple[Executed, ...]:
    """Return all chapters, in reading order, from the cache."""
    import jupytext
    from jupyter_cache import get_cache

    cache, chapters = get_cache(cache_path()), []
    for path in notebook_paths():
        source = jupytext.read(path)
        record = cache.match_cache_notebook(source)
        title = next(cell.source for cell in source.cells if cell.cell_type == "markdown").partition("\n")[0]
        notebook = cache.get_cache_bundle(record.pk).nb
        chapters.append(Executed(path, title.lstrip("# "), notebook, record.data))
    return tuple(chapters)


def claims_of(chapter: Executed) -> list[PrintedClaim]:
    """Return the claims that a chapter has printed, in order; one made again shows its last measurement."""
    found: dict[str, PrintedClaim] = {}
    for cell in chapter.notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stdout":
                found.update({claim.number: claim for claim in printed_claims(output.text)})
    return list(found.values())


def _execute_chapters(app: Sphinx) -> None:
    if not execute(notebook_paths()):
        raise ExtensionError("a chapter failed; its traceback is printed above")


def _anchor_claims(app: Sphinx, doctree: nodes.document) -> None:
    taken = set(doctree.ids)
    for block in doctree.findall(nodes.literal_block):
        for claim in printed_claims(block.astext()):
            if claim.anchor not in taken:
                taken.add(claim.anchor)
                block["ids"].append(claim.anchor)


class _Generated(SphinxDirective):
    """A directive whose content is made from the executed chapters."""

    def parsed(self, *lines: str) -> list[nodes.Node]:
        """Return what lines of Markdown, without headings, stand for."""
        container = nodes.Element()
        self.state.nested_parse(StringList(lines, source=self.env.docname), self.content_offset, container)
        return container.children


class ClaimsSummary(_Generated):
    """Every claim of the book, a section for each chapter."""

    def run(self) -> list[nodes.Node]:
        chapters = [(chapter, claims_of(chapter)) for chapter in executed_chapters()]
        total = sum(len(claims) for _, claims in chapters)
        sections = [self.section(chapter, claims) for chapter, claims in chapters]
        return [*self.parsed(f"They are **{total} claims** on {len(chapters)} pages."), *sections]

    def section(self, chapter: Executed, claims: list[PrintedClaim]) -> nodes.section:
        """Return the section of one chapter: its title and the table of its claims."""
        table = ["| claim | what was checked | measured | bound |", "|---|---|---|---|"]
        for claim in claims:
            number = f'<a href="../chapters/{chapter.path.stem}.html#{claim.anchor}">{claim.number}</a>'
            table.append(f"| {number} | {_plain(claim.text)} | {_plain(claim.measured)} | {_plain(claim.bound)} |")
        title = nodes.title(text=chapter.title)
        return nodes.section("", title, *self.parsed(*table), ids=[nodes.make_id(chapter.title)])


class ExecutionStatistics(_Generated):
    """What each chapter took when it was executed."""

    def run(self) -> list[nodes.Node]:
        chapters = executed_chapters()
        lines = ["| chapter | seconds | CPU seconds | peak memory, MB | date |", "|---|---|---|---|---|"]
        for chapter in chapters:
            took = chapter.took
            name = f'<a href="../chapters/{chapter.path.stem}.html">{chapter.title}</a>'
            seconds, cpu = took["execution_seconds"], took["cpu_seconds"]
            lines.append(f"| {name} | {seconds:.0f} | {cpu:.0f} | {took['peak_bytes'] / 1e6:.0f} | {took['date']} |")
        for what in ("machine", "versions"):
            found = sorted({str(chapter.took[what]) for chapter in chapters})
            lines += ["", f"**{what.capitalize()}**: {'; '.join(found)}."]
        return self.parsed(*lines)


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>$|~])", r"\\\1", text)
