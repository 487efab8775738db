"""Write the pair of every chapter: ``chapters/NAME.ipynb`` from ``chapters/NAME.md``, by executing it.

The text notebook is the source. Its pair is what Colab opens and what nbval compares with, so the pair keeps the
outputs of cells tagged ``nbval-check-output`` and no others. Cell ids are counted, not drawn, so that an unchanged
chapter gives an unchanged file. The pair knows the address of the repository (``repository.py``): a badge opens it
in Colab, and its first cell installs the package where that is missing. The source does not.

``python tools/notebooks.py`` executes what is not in the cache and writes; ``--check`` only compares the pairs' cells
with their sources, executes nothing, and exits with 1 if one is out of step.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
from execution import cache_path, execute, notebook_paths
from nbformat import NotebookNode
from repository import Repository, address_in, configured, repository, with_address, with_badge

CHECKED = "nbval-check-output"


def source_notebook(chapter: Path) -> NotebookNode:
    """Return the text notebook as a notebook without outputs, its cells named by their number."""
    notebook = jupytext.read(chapter)
    # The version of the tool that wrote the pair says nothing about the chapter and would change the file.
    notebook.metadata.get("jupytext", {}).get("text_representation", {}).pop("jupytext_version", None)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:03d}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def is_checked(cell: NotebookNode) -> bool:
    """Return whether the outputs of this cell are kept and compared."""
    return cell.cell_type == "code" and CHECKED in cell.metadata.get("tags", [])


def paired_notebook(chapter: Path) -> NotebookNode:
    """Return the pair of an executed chapter: its cells, with the outputs of checked cells from the cache."""
    from jupyter_cache import get_cache

    notebook = source_notebook(chapter)
    cache = get_cache(cache_path())
    executed = cache.get_cache_bundle(cache.match_cache_notebook(notebook).pk).nb
    for count, (cell, ran) in enumerate(zip(_code_cells(notebook), _code_cells(executed), strict=True), start=1):
        if is_checked(cell):
            cell.outputs = [_merged_stream(chapter, ran.outputs)]
            cell.execution_count = count  # nbval takes a cell without a count for one that never ran
    return notebook


def addressed(notebook: NotebookNode, found: Repository | None, name: str) -> NotebookNode:
    """Write the repository's address into the pair of that file name, or take it out where there is none; return it.

    It stands in the first cell and in a badge that opens the pair in Colab.
    """
    top = notebook.cells[0]
    top.source = with_badge(top.source, found and found.in_colab(f"chapters/{name}"))
    for cell in _code_cells(notebook):
        cell.source = with_address(cell.source, found)
    return notebook


def _addresses(notebook: NotebookNode) -> list[str]:
    return [found for cell in _code_cells(notebook) if (found := address_in(cell.source)) is not None]


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _merged_stream(chapter: Path, outputs: list[NotebookNode]) -> NotebookNode:
    if not outputs or any(output.output_type != "stream" or output.name != "stdout" for output in outputs):
        kinds = [output.output_type for output in outputs]
        raise SystemExit(f"{chapter.name}: a cell tagged {CHECKED} must print text and nothing else, it gave {kinds}")
    return nbformat.v4.new_output("stream", name="stdout", text="".join(output.text for output in outputs))


def differences(chapter: Path) -> list[str]:
    """Return what is out of step between a chapter and its pair, one sentence each; empty if nothing is."""
    pair = chapter.with_suffix(".ipynb")
    if not pair.exists():
        return [f"{pair.name} is missing"]
    expected, found = source_notebook(chapter), nbformat.read(pair, as_version=4)
    problems = []
    if _addresses(expected) != ['"", ""']:
        problems.append(f"{chapter.name} must have one place for the repository's address, and leave it empty")
    # A copy of the book may come from anywhere: any address is in step, but where one is written down it is that one.
    if (written := configured()) and _addresses(found) != [f'"{written.url}", "{written.branch}"']:
        problems.append(f"{pair.name} has another address than repository.url of _config.yml")
    # the badge is compared with the rest of its cell
    addressed(expected, written, pair.name) if written else addressed(found, None, pair.name)
    if len(expected.cells) != len(found.cells):
        problems.append(f"{pair.name} has {len(found.cells)} cells, its source {len(expected.cells)}")
    if expected.metadata != found.metadata:
        problems.append(f"{pair.name} has other notebook metadata than its source")
    for ours, theirs in zip(expected.cells, found.cells):
        keys = ("id", "cell_type", "source", "metadata")
        if any(ours[key] != theirs[key] for key in keys):
            problems.append(f"{pair.name}, {ours['id']} differs from its source")
        if theirs.cell_type == "code" and bool(theirs.outputs) != is_checked(theirs):
            problems.append(f"{pair.name}, {ours['id']}: outputs are kept where, and only where, a cell is tagged {CHECKED}")
    return problems


def main(arguments: list[str]) -> int:
    """Write the pairs, or with ``--check`` only compare them."""
    chapters = notebook_paths()
    if arguments == ["--check"]:
        problems = [problem for chapter in chapters for problem in differences(chapter)]
        print("\n".join(problems) if problems else f"{len(chapters)} pairs are in step")
        return int(bool(problems))
    if arguments:
        print(f"usage: {Path(__file__).name} [--check]", file=sys.stderr)
        return 2
    if not execute(chapters):
        return 1
    found = repository()
    for chapter in chapters:
        pair = chapter.with_suffix(".ipynb")
        nbformat.write(addressed(paired_notebook(chapter), found, pair.name), pair)
    print(f"wrote {len(chapters)} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
