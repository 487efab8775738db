"""A browser for tests: Debian's or any other Chromium, without a network."""

import contextlib
import os
import shutil

import pytest

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
