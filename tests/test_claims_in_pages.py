"""The claims that the built book shows, three times each, agree: where a cell printed them, in the chapter's table, in the summary."""

from functools import cache

import pytest
from book_pages import claim_anchor, printed_claims
from bs4 import BeautifulSoup

from pages import ROOT

CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("[0-9]*.md"))
Rows = dict[str, tuple[str, str, str]]
# What typesetting makes of a quote, dashes and dots.
TYPESET = {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "--", "—": "---", "…": "..."}


def plain(text: str) -> str:
    """A text without what typesetting does to it."""
    for typeset, typed in TYPESET.items():
        text = text.replace(typeset, typed)
    return " ".join(text.split())


def words(element) -> str:
    return plain(element.get_text())


def rows(table) -> Rows:
    """The rows of a table of claims by number: what was checked, the measured value and the bound."""
    cells = [[words(cell) for cell in row.find_all("td")] for row in table.find("tbody").find_all("tr")]
    return {number: tuple(rest) for number, *rest in cells}


def printed(page) -> Rows:
    """What the cells of a page printed; a claim that is made again counts with its last measurement."""
    found = [claim for block in page.find_all("pre") for claim in printed_claims(block.get_text())]
    return {claim.number: (plain(claim.text), plain(claim.measured), plain(claim.bound)) for claim in found}


@pytest.fixture(scope="module")
def read(site):
    """A page of the built book, parsed."""
    return cache(lambda name: BeautifulSoup((site / f"{name}.html").read_text(), "html.parser"))


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapters_table_says_what_its_cells_printed(read, name):
    page = read(f"chapters/{name}")
    assert rows(page.find("table", class_="claims")) == printed(page)


@pytest.mark.parametrize("name", [*CHAPTERS, "glossary"])
def test_the_summary_says_what_the_page_printed_and_links_to_the_cell(read, name):
    page, summary = read(f"chapters/{name}"), read("pages/claims")
    links = {words(link): link["href"] for link in summary.select(f"td a[href^='../chapters/{name}.html']")}
    said = printed(page)
    assert links == {number: f"../chapters/{name}.html#{claim_anchor(number)}" for number in said}
    for number in said:
        anchor = page.find(id=claim_anchor(number))
        cell = BeautifulSoup(str(anchor.find("pre") or anchor.find_next("pre")), "html.parser")
        assert number in printed(cell), "the link leads to a cell that does not print the claim"
    table = summary.find("a", href=next(iter(links.values()))).find_parent("table")
    assert rows(table) == said
