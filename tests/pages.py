"""A browser without a network, and the built book in it: what the tests of pages share."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from packages import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
SOURCES = (
    *("chapters/*.md", "pages/**/*", "index.md", "_config.yml", "_toc.yml"),
    *(f"{package}/**/*.{kind}" for package in PACKAGES for kind in ("py", "js")),
    "tools/*.py",
)
ROOMS = [path for room in ("chapters", "pages") for path in (ROOT / room).glob("*.md")]
PAGES = ["index", *sorted(f"{path.parent.name}/{path.stem}" for path in ROOMS)]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def unavailable(why: str) -> None:
    """Skip the test, or fail it where a browser is required (``BOOK_REQUIRE_BROWSER=1``)."""
    if os.environ.get("BOOK_REQUIRE_BROWSER") == "1":
        pytest.fail(why)
    pytest.skip(why)


@contextlib.contextmanager
def chromium():
    """Launch a headless Chromium and close it."""
    if CHROMIUM is None:
        unavailable("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def built_site() -> Path:
    """Return the folder of the built book; skip the test unless it is no older than what it is made of."""
    built = SITE / "index.html"
    if not built.exists():
        unavailable("the book is not built: `make book` builds it")
    # Sphinx leaves pages alone whose sources have not changed; its inventory is written by every build.
    when = (SITE / "objects.inv").stat().st_mtime
    sources = [path for pattern in SOURCES for path in ROOT.glob(pattern) if path.is_file()]
    sources = [path for path in sources if "__pycache__" not in path.parts and path.suffix != ".ipynb"]
    newer = [path for path in sources if path.stat().st_mtime > when]
    if newer:
        unavailable(f"the built book is older than {newer[0].relative_to(ROOT)}: `make book` builds it again")
    return SITE


class Visit:
    """A page in a tab of its own, and all that went wrong while it was open."""

    def __init__(self, browser, address: str, mode: str = "light", width: int = 1280) -> None:
        self.problems: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.context.add_init_script(f"localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}')")
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        self.page.on("request", self._only_from_disk)
        self.page.on("console", self._no_errors)
        self.page.goto(address)
        self.page.wait_for_load_state("load")

    def _only_from_disk(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.problems.append(f"from elsewhere: {request.url}")

    def _no_errors(self, message) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.context.close()

    def wait_for_mathematics(self) -> None:
        """Wait until every formula is set."""
        self.page.wait_for_function("performance.getEntriesByName('formulas').length", timeout=30_000)


def address_of(site: Path, name: str) -> str:
    return (site / f"{name}.html").as_uri()
