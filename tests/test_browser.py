"""The built book as a browser shows it: without a network, at three widths, in both themes.

These tests look at the pages under ``_build/html``. Where the book has not been built, is older than its sources, or
no Chromium is found, they are skipped and say so; with ``BOOK_REQUIRE_BROWSER=1``, as in continuous integration, a skip
is a failure.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from pages import PAGES, Visit, address_of

WIDTHS = (360, 768, 1280)
each_page = pytest.mark.parametrize("name", PAGES)


@each_page
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_page_is_whole_at_every_width(browser, site, name, mode):
    with Visit(browser, address_of(site, name), mode) as visit:
        page = visit.page
        if page.locator(".math").count():
            visit.wait_for_mathematics()
            unset = page.evaluate("[...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).length")
            assert unset == 0, "formulas that are not set"
            assert page.locator("mjx-merror").count() == 0
        assert page.evaluate("document.documentElement.dataset.theme") == mode
        assert page.locator(".output.stderr").all_inner_texts() == [], "what a cell warned of"
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"scrolls sideways at {width} pixels"
        assert visit.problems == []


TABLES = ["index", "pages/claims", *(name for name in PAGES if name.startswith("chapters/"))]
TOO_WIDE = """[...document.querySelectorAll('.bd-article div.math')]
    .filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.innerText.slice(0, 8))"""
# A formula in a line cannot be broken: what does not fit is cut off at the edge of the page.
CUT_OFF = """[...document.querySelectorAll('.bd-article mjx-container:not([display])')]
    .filter(formula => formula.getBoundingClientRect().right
        > formula.closest('p, li, td, th, dd, blockquote, div').getBoundingClientRect().right + 1)
    .map(formula => formula.parentElement.parentElement.innerText.slice(0, 60))"""


@each_page
def test_formulas_fit_a_phone(browser, site, name):
    with Visit(browser, address_of(site, name), width=min(WIDTHS)) as visit:
        if not visit.page.locator(".math").count():
            return
        visit.wait_for_mathematics()
        visit.page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
        visit.page.wait_for_timeout(100)  # a fold tells that it has opened in a moment of its own
        assert visit.page.evaluate(TOO_WIDE) == []
        assert visit.page.evaluate(CUT_OFF) == []


@pytest.mark.parametrize("name", TABLES)
def test_the_map_of_chapters_and_all_claims_fit_a_phone(browser, site, name):
    kind = "table.claims" if name.startswith("chapters/") else "table"
    with Visit(browser, address_of(site, name), width=min(WIDTHS)) as visit:
        tables = visit.page.locator(f".bd-article {kind}")
        assert tables.count() > 0
        widths = tables.evaluate_all("found => found.map(t => [t.offsetWidth, t.parentElement.clientWidth])")
        assert [width for width, room in widths if width > room] == []


@pytest.mark.parametrize("name", [name for name in PAGES if re.match(r"chapters/\d", name)])
def test_an_exercise_keeps_its_secrets_until_asked(browser, site, name):
    with Visit(browser, address_of(site, name)) as visit:
        exercises = visit.page.locator("section[id='exercises']")
        folds = exercises.locator("details")
        kinds = ["Your turn: a start to fill in", "Hint", "Solution", "The solution in code"]
        words = [re.sub(r" [\d.]+$", "", text.strip()) for text in folds.locator("summary").all_inner_texts()]
        assert words == kinds * (len(words) // 4) and len(words) >= 12
        for fold in folds.all()[:4]:
            inside = fold.locator(":scope > :not(summary)").first
            assert not inside.is_visible()
            fold.locator("summary").press("Enter")
            assert inside.is_visible()
        assert visit.problems == []


@each_page
def test_every_slider_of_a_page_moves(browser, site, name):
    with Visit(browser, address_of(site, name)) as visit:
        for figure in visit.page.locator("figure.slider").all():
            slider, picture, label = figure.locator("input"), figure.locator("img"), figure.locator("output")
            seen = []
            slider.focus()
            for key in ("End", "Home"):  # a loop stops as soon as its reader moves it
                slider.press(key)
            for key in ("Home", "ArrowRight", "End"):
                slider.press(key)
                seen.append((label.inner_text(), picture.get_attribute("alt"), picture.get_attribute("src")))
                assert slider.get_attribute("aria-valuetext") == label.inner_text()
                assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
            assert len({src for *_, src in seen}) == 3, "pictures that do not change"
            assert len({text for text, *_ in seen}) == 3, "labels that do not change"
        assert visit.problems == []


@each_page
def test_every_figure_that_draws_itself_answers(browser, site, name):
    with Visit(browser, address_of(site, name), "dark") as visit:
        for figure in visit.page.locator("figure.exact").all():
            drawing, label = figure.locator("svg[role=img]"), figure.locator("output")
            for control in figure.locator("input").all():
                seen = set()
                control.focus()
                for key in ("End", "Home"):
                    control.press(key)
                    seen.add((label.inner_text(), drawing.inner_html(), control.get_attribute("aria-valuetext")))
                    assert len(drawing.get_attribute("aria-label")) > 30
                assert all(len(set(parts)) == 2 for parts in zip(*seen)), "a control that changes nothing"
        assert visit.problems == []


def test_a_slider_follows_the_mouse(browser, site):
    with Visit(browser, address_of(site, "chapters/01_overview")) as visit:
        figure = visit.page.locator("figure.slider").first
        slider = figure.locator("input")
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        before = figure.locator("output").inner_text()
        visit.page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
        assert figure.locator("output").inner_text() != before
        assert slider.input_value() == slider.get_attribute("max")


@pytest.mark.parametrize("name, kind", [("01_overview", "slider"), ("11_schedule_doctor", "exact")])
def test_a_figure_follows_a_finger(browser, site, name, kind):
    context = browser.new_context(has_touch=True, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(address_of(site, f"chapters/{name}"))
    figure = page.locator(f"figure.{kind}").first
    slider, before = figure.locator("input").last, figure.locator("output").inner_text()
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert slider.input_value() == slider.get_attribute("max")
    assert figure.locator("output").inner_text() != before
    context.close()


@each_page
def test_a_page_without_scripts_shows_its_pictures(browser, site, name):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address_of(site, name))
    for figure in page.locator("figure.slider").all():
        assert figure.locator("img").evaluate("image => image.naturalWidth > 100")
        assert not figure.locator(".slider-bar").is_visible()
    for figure in page.locator("figure.exact").all():
        assert figure.locator("img").evaluate("image => image.naturalWidth > 100")
        assert not figure.locator(".exact-bar").is_visible()
    context.close()


def test_the_search_finds_a_word_in_its_chapter(browser, site):
    with Visit(browser, (site / "search.html").as_uri() + "?q=reparameterization") as visit:
        results = visit.page.locator("#search-results li a")
        results.first.wait_for()
        assert any("03_reparameterization" in link.get_attribute("href") for link in results.all())
        assert visit.problems == []


class Html(HTMLParser):
    """The links, anchors and pictures of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.pictures: list[dict[str, str | None]] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "img":
            self.pictures.append(found)


@pytest.fixture(scope="module")
def parsed(site) -> dict[Path, Html]:
    """Every page of the built book."""
    return {path: Html(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_link_within_the_book_leads_somewhere(parsed):
    broken = []
    for path, html in parsed.items():
        for link in html.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = target in parsed or target.exists()
            if not known or (parts.fragment and target in parsed and unquote(parts.fragment) not in parsed[target].anchors):
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_every_picture_says_what_it_shows(parsed):
    mute = [
        f"{path.name}: {picture.get('src', '')[:60]}"
        for path, html in parsed.items()
        for picture in html.pictures
        if len(picture.get("alt") or "") < 30 and "_static" not in (picture.get("src") or "")
    ]
    assert mute == []


def test_the_book_fits_on_a_stick_and_each_page_loads_fast(site):
    sizes = {path: path.stat().st_size for path in site.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 25e6
    for path, size in sizes.items():
        if path.suffix == ".html":
            pictures = re.findall(r'src="([^":]+\.(?:png|svg|webp))"', path.read_text())
            total = size + sum((path.parent / picture).stat().st_size for picture in set(pictures))
            assert total < 3e6, f"{path.name} is {total / 1e6:.1f} MB"
