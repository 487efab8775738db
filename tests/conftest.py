"""Fixtures of the tests that open pages."""

from pathlib import Path

import pytest
from pages import built_site, chromium


@pytest.fixture(scope="module")
def site() -> Path:
    """The folder of the built book, no older than what it is made of."""
    return built_site()


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium without a network."""
    with chromium() as launched:
        yield launched
