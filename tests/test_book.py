"""The book keeps its own contract: pairs in step, claims, exercises, figures that are described, links that lead somewhere."""

import ast
import re
from pathlib import Path

import jupytext
import notebooks
import pytest
import yaml
from execution import notebook_paths

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = notebook_paths()
CHAPTERS = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
PAGES = [ROOT / "index.md", *sorted((ROOT / "pages").glob("*.md")), *NOTEBOOKS]
notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list:
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == kind]


def code(path: Path) -> str:
    return "\n".join(cell.source for cell in cells(path, "code"))


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def number_of(path: Path) -> str:
    """What the claims and equations of a notebook are numbered with: 4 for chapter 4, G for the glossary."""
    return path.stem[:2].lstrip("0") if path.stem[0].isdigit() else path.stem[0].upper()


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def test_the_table_of_contents_holds_every_page():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [parts["root"]] + [entry["file"] for part in parts["parts"] for entry in part["chapters"]]
    assert sorted(listed) == sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in PAGES)


@chapter
def test_the_front_page_says_what_the_chapter_says_it_takes(path):
    link = rf"\* - \[{number_of(path)}\. [^\]]+\]\(chapters/{path.stem}\.md\)"
    row = re.search(link + r"\n  - (\d+)\n  - (.+)\n  - (.+)", (ROOT / "index.md").read_text())
    assert row, "no row in the table of chapters"
    top = prose(path).partition("\n## ")[0]
    named = re.findall(r"\]\((\d\d)_\w+\.md\)", top[top.index("**You need**") : top.index("**Time:**")])
    assert re.search(r"\*\*Time:\*\* about (\d+) minutes to read", top)[1] == row[1]
    assert row[2] == "none" or set(map(int, row[2].split(", "))) <= set(map(int, named))


@notebook
def test_each_chapter_and_its_pair_are_in_step(path):
    assert notebooks.differences(path) == []


@notebook
def test_what_a_pair_keeps_is_what_a_claim_prints(path):
    for cell in jupytext.read(path.with_suffix(".ipynb")).cells:
        for output in cell.get("outputs", []):
            for line in output.text.splitlines():
                assert re.fullmatch(rf"claim {number_of(path)}\.\d+ holds: .+ \| bound .+ \| measured .+", line), line


@chapter
def test_a_chapter_makes_five_claims_and_shows_their_table_last(path):
    source = code(path)
    assert len(re.findall(r"\bclaims\.(?:at_most|at_least|between|equal)\(", source)) >= 5
    shown = [cell for cell in cells(path, "code") if cell.source.strip() == "claims"]
    assert len(shown) == 1
    assert "## What this chapter proved" in prose(path)


def makes_a_claim(node: ast.AST, helpers: set[str]) -> bool:
    """Whether running these lines makes a claim, by ``claims`` itself or by a function of the chapter that does."""
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return any(
        f.id in helpers if isinstance(f, ast.Name) else isinstance(f, ast.Attribute) and ast.unparse(f.value) == "claims"
        for f in calls
    )


@notebook
def test_every_claim_is_compared_by_nbval(path):
    helpers: set[str] = set()
    for cell in cells(path, "code"):
        for node in ast.parse(cell.source).body:
            if not makes_a_claim(node, helpers):
                continue
            if isinstance(node, ast.FunctionDef):
                helpers.add(node.name)
            else:
                assert "nbval-check-output" in tags(cell), cell.source


@chapter
def test_a_chapter_trains_and_samples(path):
    source = code(path)
    # a run of one's own trains when it is told to advance
    assert re.search(r"\btrain\(|\bTrainingRun\(.*\.advance\(", source, re.DOTALL)
    assert re.search(r"\b(?:sample|ancestral)\w*\(", source)


@chapter
def test_each_exercise_has_a_start_a_hint_and_a_solution_that_is_checked(path):
    number, text = number_of(path), path.read_text()
    section = text[text.index("\n## Exercises\n") : text.index("\n## Papers\n")]
    exercises = section.split("\n> **Exercise ")[1:]
    assert len(exercises) >= 3
    for index, exercise in enumerate(exercises, 1):
        name = f"{number}.{index}"
        parts = [
            rf"{name}\.\*\* .+?",
            rf'```{{code-cell}} ipython3\n:tags: \[hide-cell, start\]\n.+?\ncheck\("{name}", .+?\)\n```',
            rf"<details>\n<summary>Hint {name}</summary>\n\n.+?\n\n</details>",
            rf"<details>\n<summary>Solution {name}</summary>\n\n.+?\n\n</details>",
            rf'```{{code-cell}} ipython3\n:tags: \[hide-cell, solution\]\n.*?\nassert check\("{name}", .+?\)\n.*?```',
        ]
        assert re.fullmatch(r"\n\n".join(parts), exercise.strip(), re.DOTALL), exercise


@notebook
def test_code_cells_are_short(path):
    for cell in cells(path, "code"):
        if not {"hide-input", "hide-cell", "nbval-check-output"} & set(tags(cell)):
            lines = [line for line in cell.source.splitlines() if line.strip()]
            assert len(lines) <= 14, cell.source


@notebook
def test_chapters_use_only_what_jupyter_colab_and_github_render_too(path):
    text = prose(path)
    assert not re.search(r"^(?:```|:::)\{", text, re.MULTILINE), "a MyST directive"
    assert not re.search(r"\{[a-z:-]+\}`", text), "a MyST role"


@notebook
def test_numbered_equations_are_numbered_once_and_referred_to_where_they_exist(path):
    text = prose(path)
    number = number_of(path)
    tagged = re.findall(r"\\tag\{([\w.]+)\}", text)
    assert len(tagged) == len(set(tagged))
    assert all(tag.startswith(f"{number}.") for tag in tagged)
    assert set(re.findall(rf"\(({number}\.\d+)\)", text)) <= set(tagged)


@page
def test_relative_links_lead_to_a_file(path):
    text = path.read_text()
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
        assert (path.parent / target).exists(), target


@page
def test_no_page_advises_the_foreign_package_of_the_same_name(path):
    assert not re.search(r"pip install +(?:-\S+ +)*diffutils", path.read_text())


def test_a_pair_out_of_step_is_noticed(tmp_path):
    source = CHAPTERS[0]
    for suffix in (".md", ".ipynb"):
        (tmp_path / source.name).with_suffix(suffix).write_text(source.with_suffix(suffix).read_text())
    copy = tmp_path / source.name
    assert notebooks.differences(copy) == []
    copy.write_text(copy.read_text().replace("# ", "# Another title: ", 1))
    assert any("differs from its source" in problem for problem in notebooks.differences(copy))
    copy.with_suffix(".ipynb").unlink()
    assert notebooks.differences(copy) == [f"{source.stem}.ipynb is missing"]
