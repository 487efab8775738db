"""Links land where they say: anchors are headings, and a term of the glossary is linked where a chapter first uses it."""

import re
from pathlib import Path

import jupytext
import pytest
from execution import notebook_paths

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = notebook_paths()
CHAPTERS = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
PAGES = [ROOT / "index.md", *sorted((ROOT / "pages").glob("*.md")), *NOTEBOOKS]
GLOSSARY = ROOT / "chapters" / "glossary.md"

# term: how a chapter writes it, and the heading of its entry in the glossary
TERMS = {
    "surrogate loss": (r"surrogate", "surrogate-loss"),
    "reversible transform": (r"reversible transform", "reversible-transform"),
    "invertible function": (r"invertible function", "invertible-function"),
    "non-equilibrium thermodynamics": (r"non-?equilibrium\s+thermodynamics", "non-equilibrium-thermodynamics"),
    "equilibrium": (r"(?<!non-)(?<!non)\bequilibrium\b|steady\s+state", "equilibrium-and-steady-state"),
    "sequence": (r"\bsequence\b", "sequence-the-path-of-a-markov-chain"),
    "isotropic Gaussian": (r"\bisotropic\b", "isotropic-gaussian"),
    "rotation invariance": (r"rotation(?:ally)?[\s-]+invarian", "rotation-invariance-of-a-density"),
    "reparameterization trick": (r"reparameteri[sz]", "reparameterization-trick"),
}


def prose(path: Path) -> str:
    """The words of a page: no code, no header."""
    if path in NOTEBOOKS:
        return "\n\n".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown")
    return re.sub(r"^(`{3,})[^:{].*?^\1", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """The anchor that GitHub and MyST give a heading: lower case, hyphens for spaces, punctuation dropped."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower().replace(" ", "-"))


def anchors(path: Path) -> set[str]:
    # MyST is told to make anchors for three levels of headings (_config.yml).
    found, seen = set(), {}
    for heading in re.findall(r"^#{1,3} +(.+?)\s*$", prose(path), re.MULTILINE):
        name = slug(heading)
        found.add(f"{name}-{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return found


def first_use(text: str, pattern: str) -> re.Match | None:
    """The first use of a term in running text: headings, maths, code and the addresses of links do not count."""

    def blank(match: re.Match) -> str:
        return " " * len(match[0])

    for skipped in (r"^#+ .*$", r"\$\$.*?\$\$", r"\$[^$\n]*\$", r"`[^`\n]*`", r"\]\([^)]*\)", r"^## Papers.*\Z"):
        text = re.sub(skipped, blank, text, flags=re.MULTILINE | re.DOTALL if skipped[1] != "#" else re.MULTILINE)
    return re.search(pattern, text, re.IGNORECASE)


def paragraph(text: str, position: int) -> str:
    """The paragraph around a position."""
    end = text.find("\n\n", position)
    return text[text.rfind("\n\n", 0, position) + 1 : end if end >= 0 else len(text)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_anchor_is_a_heading_of_the_page_it_points_to(path):
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)", prose(path)):
        page = path if not target else (path.parent / target).resolve()
        assert page in PAGES, f"{target} is no page of the book"
        assert anchor in anchors(page), f"{page.name} has no heading with the anchor {anchor}"


def test_each_term_has_its_entry():
    assert {anchor for _, anchor in TERMS.values()} <= anchors(GLOSSARY)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_first_use_of_a_term_links_to_its_entry(path):
    text = prose(path)
    for term, (pattern, anchor) in TERMS.items():
        use = first_use(text, pattern)
        if use:
            around = paragraph(text, use.start())
            assert f"](glossary.md#{anchor})" in around, f"{term} is first used here without its link:\n{around}"


def test_every_term_is_used_and_linked_in_some_chapter():
    linked = "".join(prose(path) for path in CHAPTERS)
    assert [term for term, (_, anchor) in TERMS.items() if f"glossary.md#{anchor}" not in linked] == []


def test_every_source_of_the_study_note_is_on_the_references_page():
    text = (ROOT / "pages" / "references.md").read_text()
    listed = re.findall(r"^- \[(\d-\d)\] (?s:.*?)(?=^- |^#|\Z)", text, re.MULTILINE)
    # nine notes with this many sources each
    counts = (1, 3, 2, 2, 3, 3, 3, 1, 3)
    assert listed == [f"{note}-{k}" for note, count in enumerate(counts, 1) for k in range(1, count + 1)]
    entries = re.split(r"^- \[\d-\d\] ", text, flags=re.MULTILINE)[1:]
    for name, entry in zip(listed, entries, strict=True):
        assert re.search(r"\]\(https?://", entry), f"[{name}] has no link"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_page_cites_is_on_the_references_page(path):
    collected = (ROOT / "pages" / "references.md").read_text()
    cited = re.findall(r"\]\((https?://[^)\s]+)\)", prose(path))
    assert sorted({link for link in cited if link not in collected}) == []


def test_a_first_use_is_found_in_words_only():
    text = "# Isotropic\n\n$isotropic$ and `isotropic` and [x](isotropic.md)\n\nAn [isotropic Gaussian](glossary.md#a) here."
    use = first_use(text, r"\bisotropic\b")
    assert text[use.start() - 4 : use.start()] == "An ["
    assert paragraph(text, use.start()).strip() == "An [isotropic Gaussian](glossary.md#a) here."
    assert "glossary" not in paragraph(text, 2)


def test_anchors_are_those_of_github(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Sequence: the path of a Markov chain\n\n```bash\n# no heading\n```\n\n## What's $x$?\n\n## Twice\n\n## Twice\n")
    assert anchors(page) == {"sequence-the-path-of-a-markov-chain", "whats-x", "twice", "twice-1"}
