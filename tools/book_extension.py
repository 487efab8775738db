r"""A local Sphinx extension: what this book needs and Jupyter Book does not do by itself.

- The execution cache lives in a folder named after the code the chapters import (see ``execution.py``), so that a
  change in a package of the book executes the chapters again.
- The alternative text that ``diffbook.figures.show`` stores with a picture reaches the page, and so does its dark twin.
  Pages hold pictures as lossless WebP, which weighs less than half of PNG.
- An equation of several lines keeps its ``\tag``: Sphinx would wrap it into an environment in which tags are errors.
- No line ends between a formula and the comma after it or the bracket before it.
- A table that a cell has printed keeps its columns where the page is narrow.
- Nothing is left of Thebe, which would fetch a kernel from elsewhere, and whose script the theme loads twice.
- A folded cell says what it holds: the start of an exercise, the code of its solution.
- The empty corner of a table is a cell, not a header without words.
- The theme's source maps, which serve its makers and weigh three megabytes, are left out.
- Where the book's repository is known, pages have a button that leads to it, and chapters one that opens them in Colab.
- Mathematics is set by scripts and fonts that lie beside the pages, so that the book can be read without a network.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

from docutils import nodes
from execution import ENVIRONMENT, ROOT, TIMEOUT_SECONDS, cache_path
from myst_nb.core.render import MimeData, NbElementRenderer
from repository import repository
from sphinx.application import Sphinx
from sphinx.config import Config

from diffbook.dark import as_webp

MATHJAX_SCRIPT = "tex-chtml-full.js"
# A header cell without words, as in the corner of a table, would be announced as a header all the same.
EMPTY_HEADER = re.compile(r"<th[^>]*>\s*(?:<p>\s*</p>)?\s*</th>")
# What is written on a folded cell, closed and open, by the tag that stands beside hide-cell.
PROMPTS = {
    "tag_start": ("Your turn: a start to fill in", "Your turn"),
    "tag_solution": ("The solution in code", "The solution in code"),
}
# Hides from a screen reader what a fold says.
FOLD_LABEL = ' aria-label="Toggle hidden content"'
OPENING, CLOSING = re.compile(r"[(\[]+$"), re.compile(r"[,.;:!?)\]]+")
COLUMNS = re.compile(r"\S {2,}\S")
MATHJAX_FONTS = "output/chtml/fonts/woff-v2"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    # Before myst-nb reads its settings, which it does at the same event with the default priority.
    app.connect("config-inited", _use_cache, priority=100)
    app.connect("config-inited", _bring_mathjax, priority=100)
    app.connect("config-inited", _drop_thebe)
    app.connect("config-inited", _show_repository)
    app.connect("doctree-read", _say_what_is_folded)
    app.connect("doctree-read", _find_columns)
    app.connect("doctree-resolved", _keep_tags)
    app.connect("doctree-resolved", _keep_together)
    app.connect("html-page-context", _mend_html)
    app.connect("build-finished", _drop_what_no_browser_loads)
    _bring_pictures()
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _use_cache(app: Sphinx, config: Config) -> None:
    os.environ.update(ENVIRONMENT)
    config.nb_execution_cache_path = str(cache_path())
    config.nb_execution_timeout = TIMEOUT_SECONDS


def _show_repository(app: Sphinx, config: Config) -> None:
    if found := repository():
        config.html_theme_options |= found.theme_options()


def _bring_mathjax(app: Sphinx, config: Config) -> None:
    target = ROOT / "_build" / "static"
    for source in distribution("sphinx-mathjax-offline").files:
        path = source.as_posix().partition("/static/mathjax/")[2]
        if path == MATHJAX_SCRIPT or Path(path).parent.as_posix() == MATHJAX_FONTS:
            copy = target / "mathjax" / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.locate(), copy)
    config.html_static_path = [*config.html_static_path, str(target)]
    config.mathjax_path = f"mathjax/{MATHJAX_SCRIPT}"


def _drop_thebe(app: Sphinx, config: Config) -> None:
    for listeners in app.events.listeners.values():
        for listener in [found for found in listeners if found.handler.__module__.startswith("sphinx_thebe")]:
            listeners.remove(listener)
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if "thebe" not in entry[0]]


def _keep_tags(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for block in doctree.findall(nodes.math_block):
        if r"\tag" in block.astext() and not block.get("nowrap"):
            block[:] = [nodes.Text(rf"\[{block.astext()}\]")]
            block["nowrap"] = True


def _keep_together(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    # To a browser a formula is a box, and a line may end after a box.
    for formula in list(doctree.findall(nodes.math)):
        parent, place = formula.parent, formula.parent.index(formula)
        left, right = (parent[i] if 0 <= i < len(parent) else None for i in (place - 1, place + 1))
        before = OPENING.search(left) if isinstance(left, nodes.Text) else None
        after = CLOSING.match(right) if isinstance(right, nodes.Text) else None
        if before or after:
            parent.replace(formula, whole := nodes.inline(classes=["together"]))
            whole += [nodes.Text(before[0] if before else ""), formula, nodes.Text(after[0] if after else "")]
        # By place: docutils finds a text by what it says, and an earlier one may say the same.
        if before:
            parent[place - 1] = nodes.Text(left[: before.start()])
        if after:
            parent[place + 1] = nodes.Text(right[after.end() :])


def _say_what_is_folded(app: Sphinx, doctree: nodes.document) -> None:
    for cell in doctree.findall(nodes.container):
        for tag in PROMPTS.keys() & set(cell["classes"]):
            cell["prompt_show"], cell["prompt_hide"] = PROMPTS[tag]


def _find_columns(app: Sphinx, doctree: nodes.document) -> None:
    for block in doctree.findall(nodes.literal_block):
        lines = block.astext().splitlines()
        if "output" in block["classes"] and sum(bool(COLUMNS.search(line)) for line in lines) > 1:
            block["classes"].append("columns")


def _mend_html(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    if "body" in context:
        context["body"] = EMPTY_HEADER.sub("<td></td>", context["body"]).replace(FOLD_LABEL, "")


def _drop_what_no_browser_loads(app: Sphinx, exception: Exception | None) -> None:
    static = Path(app.outdir, "_static")
    # Source maps, and translations of the theme, which are read when the pages are made.
    for path in (path for kind in ("map", "mo", "po") for path in static.glob(f"**/*.{kind}")):
        path.unlink()
    # The style sheets name each font twice, and every browser of today takes the first, compressed one.
    for path in static.glob("**/*.ttf"):
        if path.with_suffix(".woff2").exists():
            path.unlink()


def _bring_pictures() -> None:
    plain = NbElementRenderer.render_image

    def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        metadata = data.output_metadata.get(data.mime_type, {})
        if data.mime_type != "image/png":
            return plain(self, data)
        themes = {"only-light": data.content, "only-dark": metadata["dark"]} if "dark" in metadata else {"": data.content}
        return [image for theme, content in themes.items() for image in in_theme(self, data, content, theme)]

    def in_theme(self: NbElementRenderer, data: MimeData, content: str, theme: str) -> list[nodes.Element]:
        images = plain(self, replace(data, content=content))
        picture = as_webp(base64.b64decode(content))
        for image in images:
            image["uri"] = self.write_file([f"{sha256(picture).hexdigest()}.webp"], picture, exists_ok=True)
            image["classes"] += theme.split()
            if alt := data.output_metadata.get(data.mime_type, {}).get("alt"):
                image["alt"] = alt
        return images

    NbElementRenderer.render_image = render_image
