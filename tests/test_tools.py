"""The build keeps its promises: what executes a chapter again, what reaches the page, when a chapter is not run again."""

import base64
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import book_extension
import book_pages
import execution
import front_picture
import nbformat
import package_reference
import pytest
import seeds
import torch
from docutils import nodes
from docutils.utils import new_document
from myst_nb.core.render import MimeData, NbElementRenderer
from packages import PACKAGES, module_names
from PIL import Image, ImageChops, ImageStat

# By its place: the tests' own conftest.py goes by the same name.
_SPEC = importlib.util.spec_from_file_location("root_conftest", execution.ROOT / "conftest.py")
conftest = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(conftest)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of what the fingerprint and the stamps look at, that a test may change."""
    for package in PACKAGES:
        shutil.copytree(execution.ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    shutil.copy(execution.ROOT / "tests" / "nbval.cfg", tmp_path / "tests")
    (tmp_path / "chapter.ipynb").write_text("{}")
    monkeypatch.setattr(execution, "ROOT", tmp_path)
    monkeypatch.setattr(conftest, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "module", ["diffutils/schedule.py", "diffutils/models/ddpm.py", "diffbook/claims.py", "diffbook/exercises/chapter_02.py"]
)
def test_a_change_in_a_package_moves_the_cache_and_the_stamp(project, module):
    notebook = project / "chapter.ipynb"
    before = execution.cache_path(), conftest.stamp(notebook)
    assert before == (execution.cache_path(), conftest.stamp(notebook))
    path = project / module
    path.write_text(path.read_text() + "\n# changed\n")
    assert execution.cache_path() != before[0]
    assert conftest.stamp(notebook) != before[1]


def test_another_version_of_a_library_or_another_device_moves_the_cache(project, monkeypatch):
    paths = {execution.cache_path()}
    monkeypatch.setenv("DIFFUTILS_DEVICE", "cuda")
    paths.add(execution.cache_path())
    monkeypatch.setattr(execution, "version", lambda name: "0.0")
    paths.add(execution.cache_path())
    assert len(paths) == 3


@pytest.mark.parametrize("changed", ["chapter.ipynb", "tests/nbval.cfg"])
def test_a_change_of_the_notebook_or_of_the_comparison_moves_the_stamp_only(project, changed):
    notebook = project / "chapter.ipynb"
    before = execution.cache_path(), conftest.stamp(notebook)
    (project / changed).write_text("another")
    assert execution.cache_path() == before[0]
    assert conftest.stamp(notebook) != before[1]


def block(text: str) -> nodes.document:
    document = new_document("page")
    document += nodes.math_block(text, text, nowrap=False)
    return document


def test_a_tagged_equation_is_left_as_it_is_written():
    document = block(r"\begin{aligned} a &= b \\ c &= d \end{aligned} \tag{4.1}")
    book_extension._keep_tags(None, document, "page")
    (equation,) = document.findall(nodes.math_block)
    assert equation["nowrap"]
    assert equation.astext() == r"\[\begin{aligned} a &= b \\ c &= d \end{aligned} \tag{4.1}\]"


def test_an_equation_without_a_tag_is_left_to_sphinx():
    document = block(r"a = b")
    book_extension._keep_tags(None, document, "page")
    (equation,) = document.findall(nodes.math_block)
    assert not equation["nowrap"] and equation.astext() == "a = b"


@pytest.mark.parametrize(
    ("before", "after", "together"),
    [
        ("the point ", ", and", "x_t,"),
        ("a point (", "). Then", "(x_t)."),
        ("a point (", " here)", "(x_t"),
        ("", ".", "x_t."),
        ("the point ", " is", None),
        ("the ", "-axis, too", None),
    ],
)
def test_punctuation_stays_with_its_formula(before, after, together):
    document = new_document("page")
    document += nodes.paragraph("", before, nodes.math("x_t", "x_t"), nodes.Text(after))
    book_extension._keep_together(None, document, "page")
    (paragraph,) = document.findall(nodes.paragraph)
    assert [whole.astext() for whole in paragraph.findall(nodes.inline)] == ([together] if together else [])
    assert paragraph.astext() == f"{before}x_t{after}"


def test_of_two_equal_texts_the_one_beside_the_formula_loses_its_punctuation():
    document = new_document("page")
    links = [nodes.reference("", "one"), nodes.Text("."), nodes.reference("", "two"), nodes.math("x_t", "x_t")]
    document += nodes.paragraph("", "", *links, nodes.Text("."), nodes.Text(" Then"))
    book_extension._keep_together(None, document, "page")
    assert document.astext() == "one.twox_t. Then"
    assert [whole.astext() for whole in document.findall(nodes.inline)] == ["x_t."]


def test_the_picture_of_the_landing_page_is_what_its_program_draws():
    drawn, kept = (Image.open(source) for source in (io.BytesIO(front_picture.draw()), front_picture.PICTURE))
    assert drawn.size == kept.size
    assert ImageStat.Stat(ImageChops.difference(drawn.convert("RGBA"), kept.convert("RGBA"))).mean[3] < 2
    first, *between, last = front_picture.TIMES
    times = f"$t = {first}$, {', '.join(map(str, between))} and {last}"
    said = f"{front_picture.POINTS} points are shown at six times of the destruction, {times}"
    assert said in " ".join((execution.ROOT / "index.md").read_text(encoding="utf-8").split())


def test_only_what_is_printed_in_columns_keeps_its_lines():
    document = new_document("page")
    texts = ("steps    8   16\nEuler  0.2  0.1\n", "two words  apart\nand a sentence\n", "steps    8   16\nEuler  0.2  0.1\n")
    for text, kind in zip(texts, ("output", "output", "source")):
        document += nodes.literal_block(text, text, classes=[kind])
    book_extension._find_columns(None, document)
    assert [("columns" in block["classes"]) for block in document.findall(nodes.literal_block)] == [True, False, False]


def png(colour: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class Renderer:
    """Stands in for what renders a notebook's outputs; keeps the files that it writes."""

    def __init__(self) -> None:
        self.files = {}

    def write_file(self, path, content, overwrite=False, exists_ok=False):
        self.files[path[0]] = content
        return path[0]


@pytest.fixture
def rendered(monkeypatch):
    """Render an output's picture as the book does; the nodes, and what was written."""
    monkeypatch.setattr(NbElementRenderer, "render_image", lambda self, data: [nodes.image(uri="picture.png")])
    book_extension._bring_pictures()

    def render(**metadata):
        renderer = Renderer()
        data = MimeData("image/png", png("white"), output_metadata={"image/png": metadata})
        return NbElementRenderer.render_image(renderer, data), renderer.files

    return render


def test_the_alternative_text_of_an_output_reaches_its_picture(rendered):
    (image,), files = rendered(alt="A line that rises to the right.")
    assert image["alt"] == "A line that rises to the right." and image["classes"] == []
    assert Image.open(io.BytesIO(files[image["uri"]])).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_and_its_dark_twin_reach_the_page_each_for_its_theme(rendered):
    images, files = rendered(alt="A line that rises to the right.", dark=png("black"))
    assert [image["classes"] for image in images] == [["only-light"], ["only-dark"]]
    pixels = [Image.open(io.BytesIO(files[image["uri"]])).getpixel((0, 0)) for image in images]
    assert pixels == [(255, 255, 255), (0, 0, 0)]
    assert {image["alt"] for image in images} == {"A line that rises to the right."}


LINE = "claim 4.2 holds: a | b agree: largest z-score | bound <= 5 | measured 1.3"


def printed(*outputs: str) -> nbformat.NotebookNode:
    streams = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in outputs]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[stream]) for stream in streams])


def test_a_printed_claim_is_read_back():
    (claim,) = book_pages.printed_claims(f"something else\n{LINE}\nclaim 4.3 FAILS: no")
    expected = ("4.2", "a | b agree: largest z-score", "<= 5", "1.3", "claim-4-2")
    assert (claim.number, claim.text, claim.bound, claim.measured, claim.anchor) == expected


def test_a_claim_made_again_is_listed_once_with_its_last_measurement():
    notebook = printed(LINE, LINE.replace("4.2", "4.3"), LINE.replace("1.3", "1.4"))
    claims = book_pages.claims_of(book_pages.Executed(execution.ROOT, "title", notebook, {}))
    assert [(claim.number, claim.measured) for claim in claims] == [("4.2", "1.4"), ("4.3", "1.3")]


def test_the_output_of_a_claim_is_an_anchor_and_only_once():
    document = new_document("page")
    document += [nodes.literal_block(text=LINE), nodes.literal_block(text=LINE), nodes.literal_block(text="x = 1")]
    book_pages._anchor_claims(None, document)
    assert [block["ids"] for block in document.findall(nodes.literal_block)] == [["claim-4-2"], [], []]


def test_executing_a_notebook_keeps_what_it_took_and_reports_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(execution, "cache_path", lambda: tmp_path / "cache")
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n```{code-cell} ipython3\n%s\n```\n"
    for name, source in {"good": "print(1)", "bad": "1 / 0"}.items():
        (tmp_path / f"{name}.md").write_text(head % source)
    from jupyter_cache import get_cache

    cache = get_cache(execution.cache_path())
    for name in ("good", "bad"):
        cache.add_nb_to_project(str(tmp_path / f"{name}.md"), read_data={"name": "myst_nb_md", "type": "plugin"})
    good, bad = (execution._execute_one(str(tmp_path / f"{name}.md")) for name in ("good", "bad"))
    assert execution._print_report(*good) and not execution._print_report(*bad)
    assert "ZeroDivisionError" in capsys.readouterr().err
    took = cache.get_cached_project_nb(str(tmp_path / "good.md")).data
    assert took["peak_bytes"] > 10e6 and took["cpu_seconds"] > 0.05
    assert "torch" in took["versions"] and "cores" in took["machine"]
    assert [record.uri for record in cache.list_unexecuted()] == [str(tmp_path / "bad.md")]


def test_a_docstring_keeps_its_formulas_and_its_sections():
    docstring = ["Return |x|^2 * 2, not ``|x|``.", "", "    a = |b|", "    c = d * e", "", "After.", ""]
    docstring += ["- an item", "", "    of two paragraphs", "", "Args:", "    x: any *x*.", "", "    y: more."]
    assert package_reference.as_restructured_text(docstring) == [
        r"Return \|x\|^2 \* 2, not ``|x|``.", "", "::", "", "    a = |b|", "    c = d * e", "", "After.", "",
        "- an item", "", "    of two paragraphs", "", "Args:", r"    x: any \*x\*.", "", "    y: more.",
    ]  # fmt: skip


def test_the_reference_holds_every_module():
    names = module_names()
    files = [path for package in PACKAGES for path in (execution.ROOT / package).rglob("*.py")]
    assert {"diffutils.schedule", "diffutils.models", "diffutils.models.ddpm", "diffbook.claims"} <= set(names)
    assert len(names) == len(files) - len(PACKAGES)  # a package itself is no module of it


def test_a_build_takes_nothing_from_the_shell(monkeypatch):
    for name in execution.ENVIRONMENT:
        monkeypatch.setenv(name, "")
    book_extension._use_cache(None, SimpleNamespace())
    assert {name: os.environ[name] for name in execution.ENVIRONMENT} == execution.ENVIRONMENT


def test_importing_the_tools_leaves_the_environment_alone():
    """A test's process imports all tests: what one of them sets for itself would be there for every other."""
    names = ["book_extension", "book_pages", "colab", "notebooks", "package_reference", "packages", "seeds", "mutants.__main__"]
    ask = f"import os, {', '.join(names)}" + "\nprint(set(os.environ.items()) ^ before)"
    ask = f"import os, torch\nbefore = set(os.environ.items())\n{ask}"
    environment = {**os.environ, "PYTHONPATH": str(execution.ROOT / "tools")}
    answer = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


@pytest.mark.parametrize("shift", [0, 7919])
def test_processes_that_a_chapter_starts_have_its_shifted_seeds(shift):
    ask = "import torch; from diffutils.device import make_generator; print(torch.rand(1, generator=make_generator(3)).item())"
    before = dict(os.environ)
    with seeds.shifted_children(shift):
        answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert float(answer) == torch.rand(1, generator=torch.Generator().manual_seed(3 + shift)).item()
    assert dict(os.environ) == before


@pytest.mark.parametrize("module", ["schedule", None])
def test_no_stamp_is_left_for_code_that_changed_while_the_tests_ran(project, monkeypatch, module):
    notebook = project / "chapters" / "chapter.ipynb"
    notebook.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), notebook)
    monkeypatch.setattr(conftest, "STAMPS", project / "stamps")
    outcomes = conftest._Outcomes()
    outcomes.passed["chapters/chapter.ipynb"] = 1
    if module:
        (project / "diffutils" / f"{module}.py").write_text("changed = True\n")
    outcomes.pytest_sessionfinish()
    assert conftest.stamp(notebook).exists() == (module is None)


def test_other_seeds_give_other_noise_and_other_weights():
    ask = """
import torch
from diffutils.networks import MLP
from diffutils.device import make_generator
print(torch.rand(1, generator=make_generator(0)).item(), next(MLP(2, seed=0).parameters())[0, 0].item())
"""
    found = []
    for shift in (0, 0, 7919):
        with seeds.shifted_children(shift):
            found.append(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split())
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(found[0], found[2], strict=True))
