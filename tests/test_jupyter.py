"""What a reader meets in JupyterLab: a real server, a real kernel, a browser.

A chapter opens as a notebook from its text and from its pair; a slider is live, and moves by keyboard.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import jupytext
import nbformat
import pytest
from playwright.sync_api import TimeoutError

from pages import ROOT

CHAPTER = ROOT / "chapters" / "03_reparameterization.md"
TITLE = jupytext.read(CHAPTER).cells[0].source.partition("\n")[0].lstrip("# ")
SLIDER = """
import matplotlib.pyplot as plt
from diffbook.interactive import slider

def draw(height):
    fig, ax = plt.subplots()
    ax.bar(0, height)
    return fig

slider(draw, [1, 2, 3], name="height", label="h = {}".format,
       alt="A bar, one unit wide and {} units high.".format)
"""
PATIENCE = 60_000  # milliseconds: a server beside other tests is slow to answer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a JupyterLab without settings of its own, in a folder with a chapter and a notebook."""
    folder = tmp_path_factory.mktemp("jupyter")
    reader = folder / "book"
    reader.mkdir()
    for path in (CHAPTER, CHAPTER.with_suffix(".ipynb")):
        shutil.copy(path, reader)
    cells = [nbformat.v4.new_code_cell(SLIDER)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), reader / "slider.ipynb")
    rooms = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    own = {room: str(folder / room) for room in rooms}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # a reader's shell: while a book is built, sliders are for pages
    shell = {name: value for name, value in os.environ.items() if name != "DIFFUTILS_STATIC"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=")
    command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={reader}"]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env={**shell, **own, "PYTHONPATH": path}, stdout=output, stderr=output)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/api", process, log)
        yield address
    finally:
        process.kill()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen, log) -> None:
    for _ in range(PATIENCE // 250):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=1).close()
            return
        time.sleep(0.25)
    pytest.fail(f"no answer from JupyterLab:\n{log.read_text()}")


@pytest.fixture
def lab(browser, server):
    """A function that opens a file of the server in a tab of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)

    def open_file(path: str):
        # a workspace of its own: the tabs of another test would be opened again
        page.goto(f"{server}/lab/workspaces/{path.replace('.', '-')}/tree/{path}")
        page.wait_for_selector(".jp-FileEditor, .jp-Notebook .jp-CodeCell")
        return page

    yield open_file
    context.close()


def run(page) -> None:
    """Run the only cell; a key that comes before JupyterLab knows its shortcuts is lost, so it is pressed again."""
    for _ in range(10):
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        with contextlib.suppress(TimeoutError):
            page.wait_for_selector(".jp-InputPrompt:has-text('['):not(:has-text('[ ]'))", timeout=5000)
            return
    pytest.fail("the cell does not run")


def test_a_slider_is_live(lab) -> None:
    page = lab("slider.ipynb")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    run(page)
    picture, handle = page.locator(".widget-html img"), page.locator(".widget-slider .noUi-handle")
    assert picture.get_attribute("alt") == "A bar, one unit wide and 1 units high."
    first = picture.get_attribute("src")
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('.widget-html img[alt="A bar, one unit wide and 2 units high."]')
    assert picture.get_attribute("src") != first
    assert page.locator(".widget-label", has_text="h = 2").count() == 1
    # the page's own slider, for readers without a kernel, stays away
    assert page.locator("figure.slider").count() == 0


def test_the_pair_opens_as_a_notebook(lab) -> None:
    page = lab(CHAPTER.with_suffix(".ipynb").name)
    assert page.locator(".jp-RenderedMarkdown h1").first.inner_text().startswith(TITLE)
    assert page.locator(".jp-Dialog").count() == 0


def test_the_text_opens_as_a_notebook(lab) -> None:
    page = lab(CHAPTER.name)
    # as README.md says: Open With, Notebook
    page.locator(f'.jp-DirListing-item[title*="{CHAPTER.name}"]').click(button="right")
    page.get_by_text("Open With", exact=True).hover()
    page.locator(".lm-Menu-itemLabel").get_by_text("Notebook", exact=True).click()
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    assert page.locator(".jp-RenderedMarkdown h1").first.inner_text().startswith(TITLE)
