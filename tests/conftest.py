"""Fixtures of the tests that open pages, and of those that run the trainer's command."""

from pathlib import Path

import pytest
import torch
from trainer import words

from diffutils.train.command import main
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


@pytest.fixture(scope="module")
def on_the_cpu():
    """Bit for bit is promised for one process on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFUTILS_DEVICE", "cpu")
        patch.delenv("DIFFUTILS_REQUIRE_CUDA", raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in the processes that are started: the order of a sum is part of its bits
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, on_the_cpu) -> Path:
    """The folder of a run of the trainer that was never ended."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(words(out)) == 0
    return out
