"""The address of the book's repository: where it is found, and what is made of it."""

from __future__ import annotations

import re
import subprocess
from types import SimpleNamespace

import book_extension
import jupytext
import nbformat
import notebooks
import pytest
import repository
import torch
from execution import ROOT, notebook_paths
from repository import Repository

SOURCES = [*notebook_paths(), ROOT / "tools" / "chapter_template.md"]


@pytest.fixture
def book(tmp_path):
    """A folder under git, on a branch of its own, with settings that a test may change."""
    git(tmp_path, "init", "--quiet", "--initial-branch", "draft")
    (tmp_path / "_config.yml").write_text("title: a book\n")
    return tmp_path


def git(folder, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def configure(book, **settings: str) -> None:
    lines = "".join(f"  {name}: {value}\n" for name, value in settings.items())
    (book / "_config.yml").write_text(f"title: a book\nrepository:\n{lines}")


def test_the_settings_come_first(book):
    git(book, "remote", "add", "origin", "https://example.org/remote/book.git")
    configure(book, url="https://example.org/owner/book", branch="stable")
    assert repository.repository(book) == Repository("https://example.org/owner/book", "stable")
    configure(book, url="https://example.org/owner/book")
    assert repository.repository(book) == Repository("https://example.org/owner/book", "draft")


def test_the_remote_is_second_and_nothing_is_third(book):
    assert repository.repository(book) is None
    git(book, "remote", "add", "origin", "git@example.org:owner/book.git")
    assert repository.repository(book) == Repository("https://example.org/owner/book", "draft")
    assert repository.configured(book) is None


def test_a_commit_without_a_branch_counts_as_main(book):
    git(book, "remote", "add", "origin", "https://example.org/owner/book")
    git(book, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--allow-empty", "-m", "first")
    git(book, "checkout", "--quiet", "--detach")
    assert repository.repository(book).branch == "main"


def test_a_folder_without_git_has_no_repository(tmp_path, monkeypatch):
    (tmp_path / "_config.yml").write_text("")
    assert repository.repository(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert repository.repository(tmp_path) is None


@pytest.mark.parametrize("url", ["example.org/owner/book", "/srv/book.git", "http://example.org/owner/book", "git@example.org:o/b"])
def test_settings_that_are_no_https_address_are_refused(book, url):
    configure(book, url=url)
    with pytest.raises(ValueError, match="repository.url of _config.yml must be an https address, got"):
        repository.repository(book)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://example.org/owner/book.git", "https://example.org/owner/book"),
        ("https://name:secret@example.org/owner/book.git", "https://example.org/owner/book"),
        ("https://secret@example.org:8443/owner/book/", "https://example.org:8443/owner/book"),
        ("ssh://git@example.org:2222/owner/book.git", "https://example.org/owner/book"),
        ("git@example.org:group/owner/book.git", "https://example.org/group/owner/book"),
        ("/srv/git/book.git", None), ("../book", None), ("file:///srv/book", None), ("C:\\book", None),
        ("https://example.org", None), ("", None),
    ],
)  # fmt: skip
def test_remotes_become_addresses_for_readers(remote, address):
    assert repository.public_address(remote) == address


def test_github_has_a_colab_button_and_others_have_none():
    options = Repository("https://github.com/OWNER/REPOSITORY", "main").theme_options()
    assert options["launch_buttons"]["colab_url"].endswith("colab.research.google.com")
    assert options["repository_branch"] == "main" and options["use_repository_button"]
    assert "launch_buttons" not in Repository("https://example.org/owner/book", "main").theme_options()


def test_pages_get_buttons_only_where_the_repository_is_known(monkeypatch):
    config = SimpleNamespace(html_theme_options={"show_toc_level": 2, "use_repository_button": False})
    monkeypatch.setattr(book_extension, "repository", lambda: None)
    book_extension._show_repository(None, config)
    assert config.html_theme_options == {"show_toc_level": 2, "use_repository_button": False}
    monkeypatch.setattr(book_extension, "repository", lambda: Repository("https://example.org/owner/book", "main"))
    book_extension._show_repository(None, config)
    assert config.html_theme_options["use_repository_button"] and config.html_theme_options["show_toc_level"] == 2


# -- in the notebooks --------------------------------------------------------------------------------------------------


def first_cell(path) -> str:
    return next(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code")


def test_all_chapters_begin_with_the_same_cell_without_an_address():
    cells = {first_cell(path) for path in SOURCES}
    assert len(cells) == 1
    assert repository.address_in(cells.pop()) == '"", ""'


ON_GITHUB = Repository("https://github.com/OWNER/BOOK", "draft")
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/OWNER/BOOK/blob/draft/chapters/a.ipynb)"
)


def changed(ours: nbformat.NotebookNode, theirs: nbformat.NotebookNode) -> list[int]:
    pairs = zip(ours.cells, theirs.cells, strict=True)
    return [index for index, (one, other) in enumerate(pairs) if one.source != other.source]


def test_the_address_goes_in_and_out_of_a_notebook():
    source = notebooks.source_notebook(SOURCES[0])
    found = Repository("https://example.org/owner/book", "main")
    filled = notebooks.addressed(notebooks.source_notebook(SOURCES[0]), found, "a.ipynb")
    assert 'REPOSITORY, BRANCH = "https://example.org/owner/book", "main"' in filled.cells[1].source
    assert changed(source, filled) == [1]
    assert notebooks.addressed(filled, None, "a.ipynb") == source


def test_where_colab_can_read_the_repository_a_badge_stands_below_the_title():
    source = notebooks.source_notebook(SOURCES[0])
    filled = notebooks.addressed(notebooks.source_notebook(SOURCES[0]), ON_GITHUB, "a.ipynb")
    title, text = source.cells[0].source.split("\n\n", 1)
    assert filled.cells[0].source == f"{title}\n\n{BADGE}\n\n{text}"
    assert changed(source, filled) == [0, 1]
    again = notebooks.addressed(filled, ON_GITHUB, "a.ipynb")
    assert again.cells[0].source.count("Open in Colab") == 1
    assert notebooks.addressed(again, None, "a.ipynb") == source


def test_a_pair_is_in_step_whatever_address_it_has_unless_one_is_written_down(tmp_path, monkeypatch):
    chapter = tmp_path / SOURCES[0].name
    chapter.write_text(SOURCES[0].read_text())
    pair = chapter.with_suffix(".ipynb")
    written = nbformat.read(SOURCES[0].with_suffix(".ipynb"), as_version=4)
    nbformat.write(notebooks.addressed(written, ON_GITHUB, pair.name), pair)
    monkeypatch.setattr(notebooks, "configured", lambda: None)
    assert notebooks.differences(chapter) == []
    monkeypatch.setattr(notebooks, "configured", lambda: ON_GITHUB)
    assert notebooks.differences(chapter) == []
    pair.write_text(pair.read_text().replace("/blob/draft/", "/blob/main/"))
    assert notebooks.differences(chapter) == [f"{pair.name}, cell-000 differs from its source"]
    monkeypatch.setattr(notebooks, "configured", lambda: Repository("https://example.org/two/book", "main"))
    assert "another address than repository.url" in notebooks.differences(chapter)[0]


def test_the_readmes_program_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(program.replace("steps=1000", "steps=2"), names)
    assert names["samples"].shape == (1000, 2)
    assert all(map(torch.equal, names["again"].parameters(), names["model"].cpu().parameters()))
