"""The first cell of a chapter where the book's package is, where it is not, and where it can be had."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import colab
import nbformat
import notebooks
import pytest
from execution import ROOT
from repository import Repository, with_address

PAIR = ROOT / "chapters" / "02_forward_process.ipynb"
FOUND = Repository("https://example.org/owner/book", "draft")


def first_cell(found: Repository | None) -> str:
    notebook = notebooks.addressed(nbformat.read(PAIR, as_version=4), found, PAIR.name)
    return next(cell.source for cell in notebook.cells if cell.cell_type == "code")


@pytest.fixture
def pip(monkeypatch):
    """What pip was asked for, with an answer that a test may change."""
    calls, answer = [], subprocess.CompletedProcess([], 0, "", "")

    def run(command, **options):
        calls.append(command)
        return answer

    monkeypatch.setattr(subprocess, "run", run)
    return calls, answer


@pytest.fixture
def without_the_package(monkeypatch):
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "diffutils" else plain(name))


def test_where_the_package_is_nothing_happens(pip, capsys):
    exec(first_cell(FOUND), {})
    assert pip[0] == [] and capsys.readouterr().out == ""


def test_without_an_address_it_says_what_to_do(pip, without_the_package):
    with pytest.raises(ModuleNotFoundError, match=r"clone the book and run `pip install \.` in its folder"):
        exec(first_cell(None), {})
    assert pip[0] == []


def test_with_an_address_pip_is_asked_for_the_branch_and_for_the_torch_that_is_there(pip, without_the_package, capsys):
    exec(first_cell(FOUND), {})
    from importlib.metadata import version

    torch = f"torch=={version('torch')}"
    assert pip[0] == [[sys.executable, "-m", "pip", "install", "--quiet", "git+https://example.org/owner/book@draft", torch]]
    said = capsys.readouterr().out
    assert said == f"The book's package is installed from https://example.org/owner/book, branch draft; {torch} stays.\n"


def test_what_pip_says_when_it_fails_is_passed_on(pip, without_the_package):
    pip[1].returncode, pip[1].stderr = 1, "no such branch"
    with pytest.raises(RuntimeError, match="pip could not install the book's package: no such branch"):
        exec(first_cell(FOUND), {})


def test_pip_installs_the_package_from_a_repository_without_a_network(tmp_path):
    """The real pip, a repository in a folder, a target of its own; dependencies are there already, as in Colab."""
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(tmp_path / "book.git")], check=True)
    branch = ["git", "-C", str(tmp_path / "book.git"), "branch", "--force", "draft", colab._commit()]
    subprocess.run(branch, check=True)
    source = with_address(first_cell(FOUND), Repository(f"file://{tmp_path}/book.git", "draft"))
    # A target keeps the environment of the tests as it is; without isolation the build asks for nothing from elsewhere.
    pip = '"install", "--target", ".", "--no-deps", "--no-build-isolation", "--quiet", package]'
    source = source.replace('"install", "--quiet", package, torch_as_it_is]', pip)
    script = tmp_path / "cell.py"
    hide = "import importlib.util, sys\nfind = importlib.util.find_spec\n"
    hide += "importlib.util.find_spec = lambda name: None if name == 'diffutils' else find(name)\n"
    show = "\nsys.path.insert(0, '.')\nimport diffutils, json\nprint(json.dumps(diffutils.__file__))\n"
    script.write_text(hide + source + show)
    environment = {**os.environ, "PIP_NO_INDEX": "1"}
    ran = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    where = json.loads(ran.stdout.splitlines()[-1])
    assert os.path.realpath(tmp_path / "diffutils" / "__init__.py") == os.path.realpath(os.path.join(tmp_path, where))
    scripts = ROOT / "diffbook" / "interactive" / "scripts"
    installed = {path.name for path in (tmp_path / "diffbook" / "interactive" / "scripts").iterdir()}
    assert {path.name for path in scripts.glob("*.js")} <= installed


def test_the_simulation_has_the_versions_of_the_book():
    lines = colab.pins(colab.COLAB + colab.BESIDES)
    assert len(lines) == len(colab.COLAB + colab.BESIDES) and all("==" in line for line in lines)
