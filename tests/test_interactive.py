"""A slider shows the right picture for each position, with a kernel and without one."""

import base64
import io
import json
import re

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from diffbook.interactive import slider


def draw(value):
    fig = plt.figure(figsize=(2, 1), layout="none")
    fig.set_facecolor((value / 10, 0, 0))
    return fig


def alt(value):
    return f"A panel filled with red of strength {value} out of ten."


@pytest.fixture
def reds(monkeypatch):
    monkeypatch.delenv("DIFFUTILS_STATIC", raising=False)
    return slider(draw, [0, 5, 10], name="strength <r>", alt=alt, label=lambda value: f"r = {value}", start=1)


def red_of(address: str) -> float:
    data = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
    return float(np.asarray(Image.open(io.BytesIO(data)))[..., 0].mean()) / 255


def test_each_frame_holds_its_own_picture_and_text(reds):
    assert [frame.label for frame in reds.frames] == ["r = 0", "r = 5", "r = 10"]
    assert [red_of(frame.address) for frame in reds.frames] == pytest.approx([0, 0.5, 1], abs=0.01)
    assert reds.frames[2].alt == alt(10)
    assert reds.width == 200
    assert not plt.get_fignums()


def test_the_live_slider_moves_the_picture(reds):
    bar, picture = reds.widget().children
    choice, label = bar.children
    assert isinstance(choice, ipywidgets.SelectionSlider)
    for index in range(3):
        choice.value = index
        shown = re.search(r'src="([^"]+)"', picture.value).group(1)
        assert shown == reds.frames[index].address
        assert label.value == reds.frames[index].label
        assert alt([0, 5, 10][index]) in picture.value


def test_the_page_has_a_labelled_range_and_starts_where_it_was_told(reds):
    page = reds.to_html()
    assert 'type="range" min="0" max="2" value="1"' in page
    assert "strength &lt;r&gt;" in page and "strength <r>" not in page
    assert page.index(reds.frames[1].address) < page.index("<script>")
    assert all(page.count(frame.address) == 1 for frame in reds.frames)
    assert not re.search(r'(?:src|href)="https?:', page)


def test_a_built_page_stores_no_widget(reds, monkeypatch):
    monkeypatch.setenv("DIFFUTILS_STATIC", "1")
    assert set(reds._repr_mimebundle_()) == {"text/html", "text/plain"}
    monkeypatch.delenv("DIFFUTILS_STATIC")
    assert "application/vnd.jupyter.widget-view+json" in reds._repr_mimebundle_()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": [1]}, "values must be a sequence of at least two positions"),
        ({"start": 3}, r"start must be a position in 0\.\.2"),
        ({"seconds": 0.1}, "seconds must be"),
        ({"alt": lambda value: "red"}, "alt must be a description of at least 30 characters"),
    ],
)
def test_bad_input_is_refused_before_anything_is_drawn(arguments, message):
    def never(value):
        raise AssertionError("drawn")

    with pytest.raises(ValueError, match=message):
        slider(never, **{"values": [0, 5, 10], "name": "r", "alt": alt, **arguments})


def loop():
    return slider(draw, [0, 5, 10], name="r", alt=alt, label=lambda value: f"r = {value}", seconds=0.2)


def test_a_loop_has_a_player_where_a_kernel_runs():
    bar, _ = loop().widget().children
    choice, _, player = bar.children
    assert isinstance(player, ipywidgets.Play) and player.interval == 200
    player.value = 2
    assert choice.index == 2


def test_a_loop_plays_in_the_page_until_the_reader_takes_over(browser):
    page = browser.new_page()
    page.set_content(loop().to_html())
    label, button, bar = page.locator("output"), page.locator("button"), page.locator("input")
    for text in ("r = 5", "r = 10", "r = 0"):
        page.wait_for_function("text => document.querySelector('output').textContent === text", arg=text, timeout=5000)
    button.click()
    assert button.inner_text() == "Play"
    held = label.inner_text()
    page.wait_for_timeout(700)
    assert label.inner_text() == held
    button.click()
    page.wait_for_function("text => document.querySelector('output').textContent !== text", arg=held, timeout=5000)
    bar.press("Home")  # where a key changes nothing, the loop goes on: one of the two does
    bar.press("End")
    page.wait_for_timeout(700)
    assert (label.inner_text(), button.inner_text()) == ("r = 10", "Play")
    page.close()


def test_a_loop_waits_for_a_reader_who_wants_less_motion(browser):
    page = browser.new_context(reduced_motion="reduce").new_page()
    page.set_content(loop().to_html())
    page.wait_for_timeout(700)
    assert page.locator("output").inner_text() == "r = 0"
    page.locator("button").click()
    page.wait_for_function("document.querySelector('output').textContent !== 'r = 0'", timeout=5000)
    page.context.close()


def test_the_page_holds_each_pictures_own_text(reds):
    frames = json.loads(re.search(r"const frames = (.*);", reds.to_html()).group(1).replace("<\\/", "</"))
    assert [row[:2] for row in frames] == [[frame.label, frame.alt] for frame in reds.frames]
    # the picture at the start is the page's own
    assert [row[2:] for row in frames] == [[reds.frames[0].address, None], [None, None], [reds.frames[2].address, None]]


def test_in_the_book_a_frame_has_a_dark_twin_and_the_page_shows_it_in_the_dark(browser, monkeypatch):
    monkeypatch.setenv("DIFFUTILS_STATIC", "1")
    lines = slider(lambda value: plt.figure(figsize=(2, 1)), [0, 1], name="v", alt=alt)
    for frame in lines.frames:
        light, dark = (Image.open(io.BytesIO(data)).getpixel((5, 5)) for data in (frame.picture, frame.dark))
        assert light == (255, 255, 255) and dark == (18, 18, 18)
    page = browser.new_page()
    page.set_content(f'<html data-theme="light"><body>{lines.to_html()}</body></html>')
    picture = page.locator("img")
    for theme, address in (("light", "address"), ("dark", "dark_address"), ("light", "address")):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        assert picture.get_attribute("src") == getattr(lines.frames[0], address)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.locator("input").press("ArrowRight")
    assert picture.get_attribute("src") == lines.frames[1].dark_address
    assert "only-dark" in picture.get_attribute("class")
    page.close()


def test_pictures_lose_nothing():
    noise = np.random.default_rng(0).random((10, 20, 3))

    def draw_noise(value):
        fig = plt.figure(figsize=(2, 1), layout="none")
        fig.figimage(np.kron(noise, np.ones((10, 10, 1))))
        return fig

    frame = slider(draw_noise, [0, 1], name="v", alt=alt).frames[0]
    shown = np.asarray(Image.open(io.BytesIO(frame.picture)))[5::10, 5::10]
    assert np.abs(shown[::-1] / 255 - noise).max() < 0.005 or np.abs(shown / 255 - noise).max() < 0.005
