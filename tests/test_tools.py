"""The build keeps its promises: what executes a chapter again, what reaches the page, when a chapter is not run again."""

import shutil

import book_extension
import conftest
import execution
import pytest
from docutils import nodes
from docutils.utils import new_document
from myst_nb.core.render import NbElementRenderer


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of what the fingerprint and the stamps look at, that a test may change."""
    shutil.copytree(execution.ROOT / "diffutils", tmp_path / "diffutils", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    shutil.copy(execution.ROOT / "tests" / "nbval.cfg", tmp_path / "tests")
    (tmp_path / "chapter.ipynb").write_text("{}")
    monkeypatch.setattr(execution, "ROOT", tmp_path)
    monkeypatch.setattr(conftest, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", ["schedule.py", "models/ddpm.py"])
def test_a_change_in_the_package_moves_the_cache_and_the_stamp(project, module):
    notebook = project / "chapter.ipynb"
    before = execution.cache_path(), conftest.stamp(notebook)
    assert before == (execution.cache_path(), conftest.stamp(notebook))
    path = project / "diffutils" / module
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


def test_the_alternative_text_of_an_output_reaches_its_picture(monkeypatch):
    class Data:
        mime_type = "image/png"
        output_metadata = {"image/png": {"alt": "A line that rises to the right."}}

    monkeypatch.setattr(NbElementRenderer, "render_image", lambda self, data: [nodes.image(uri="picture.png")])
    book_extension._carry_alternative_text()
    (image,) = NbElementRenderer.render_image(None, Data())
    assert image["alt"] == "A line that rises to the right."
