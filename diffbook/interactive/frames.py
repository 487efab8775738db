"""A slider through pictures drawn beforehand: live where a kernel runs, and alive without one in the built page.

``slider(draw, values, ...)`` draws one figure for each value. In Jupyter and Colab the result is an ipywidgets slider.
In a built page, where no kernel answers, it is an HTML slider over the same pictures: it follows mouse, touch and arrow
keys, and shows its first picture where scripts are switched off. While the book is built only the HTML is emitted
(``DIFFUTILS_STATIC=1``), because a widget's state would be dead weight in a page.
"""

from __future__ import annotations

import base64
import html
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from diffbook.dark import as_webp, building, picture
from diffutils.validation import check_float, require

_DPI = 100


@dataclass(frozen=True)
class Frame:
    """One position of a slider: its label, its alternative text, and its picture as lossless WebP, light and dark."""

    label: str
    alt: str
    picture: bytes
    dark: bytes | None = None

    @property
    def address(self) -> str:
        """The picture as a data address."""
        return _address(self.picture)

    @property
    def dark_address(self) -> str | None:
        """The dark picture as a data address, or None where there is none."""
        return _address(self.dark) if self.dark else None


def _address(picture: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture).decode()


class Slider:
    """Frames and the slider that moves through them; made by ``slider``."""

    def __init__(
        self, name: str, frames: Sequence[Frame], start: int, width: int, seconds: float | None = None
    ) -> None:
        self.name, self.frames, self.start, self.width, self.seconds = name, tuple(frames), start, width, seconds

    def widget(self) -> ipywidgets.Widget:
        """Return the live slider for a running kernel."""
        choice = ipywidgets.SelectionSlider(
            options=[(frame.label, index) for index, frame in enumerate(self.frames)],
            value=self.start,
            description=self.name,
            style={"description_width": "initial"},
            readout=False,  # its box cuts labels that are longer than a few letters
        )
        label = ipywidgets.Label(self.frames[self.start].label)
        picture = ipywidgets.HTML(self._image(self.start))

        def move(change: dict[str, Any]) -> None:
            label.value = self.frames[change["new"]].label
            picture.value = self._image(change["new"])

        choice.observe(move, names="value")
        return ipywidgets.VBox([ipywidgets.HBox([choice, label, *self._player(choice)]), picture])

    def _player(self, choice: ipywidgets.SelectionSlider) -> list[ipywidgets.Widget]:
        if self.seconds is None:
            return []
        milliseconds = round(1000 * self.seconds)
        player = ipywidgets.Play(value=self.start, max=len(self.frames) - 1, interval=milliseconds, repeat=True)
        ipywidgets.link((player, "value"), (choice, "index"))
        return [player]

    def _image(self, index: int) -> str:
        frame = self.frames[index]
        return f'<img src="{frame.address}" alt="{html.escape(frame.alt)}" width="{self.width}" style="max-width:100%">'

    def to_html(self) -> str:
        """Return the slider as HTML that needs no kernel and nothing from elsewhere."""
        words = self.name + "".join(f.label + f.alt for f in self.frames)
        key = "slider-" + uuid.uuid5(uuid.NAMESPACE_OID, words).hex[:12]
        first = self.frames[self.start]
        button = "" if self.seconds is None else ' <button type="button">Play</button>'
        # The picture at the start is in the page already.
        light = [f.address if f is not first else None for f in self.frames]
        rows = [[f.label, f.alt, address, f.dark_address] for f, address in zip(self.frames, light)]
        frames = json.dumps(rows).replace("</", "<\\/")
        return (
            f'<figure class="slider" id="{key}" style="margin:0">{self._image(self.start)}'
            f'<div class="slider-bar" hidden><label>{html.escape(self.name)} '
            f'<input type="range" min="0" max="{len(self.frames) - 1}" value="{self.start}" '
            f'style="width: min(50vw, 24em); vertical-align: middle" '
            f'aria-valuetext="{html.escape(first.label)}"></label> '
            f"<output>{html.escape(first.label)}</output>{button}</div>"
            f"<script>{_SCRIPT % (json.dumps(key), frames, json.dumps(self.seconds))}</script></figure>"
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = f"{self.name}: {self.frames[0].label} to {self.frames[-1].label}"
        if building():
            return {"text/html": self.to_html(), "text/plain": text}
        live = self.widget()._repr_mimebundle_()
        bundle = live[0] if isinstance(live, tuple) else live
        return {**bundle, "text/html": self.to_html(), "text/plain": text}


# A loop plays by itself while it is in sight, unless the reader's system asks for less motion. Whoever moves the slider
# or presses the button has taken over.
_SCRIPT = """(() => {
  const figure = document.getElementById(%s);
  const frames = %s;
  const seconds = %s;
  const [image, bar] = [figure.querySelector("img"), figure.querySelector(".slider-bar")];
  const [input, output] = [bar.querySelector("input"), bar.querySelector("output")];
  const still = image.src;
  bar.hidden = false;
  const show = () => {
    const [label, alt, light, dark] = frames[input.value];
    const night = dark !== null && document.documentElement.dataset.theme === "dark";
    image.src = night ? dark : light ?? still;
    image.classList.toggle("only-dark", night);
    image.alt = alt;
    output.textContent = label;
    input.setAttribute("aria-valuetext", label);
  };
  show();
  new MutationObserver(show).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  const button = bar.querySelector("button");
  let timer = null;
  const next = () => {
    input.value = (Number(input.value) + 1) %% frames.length;
    show();
  };
  const play = (on) => {
    clearInterval(timer);
    timer = on ? setInterval(next, 1000 * seconds) : null;
    button.textContent = on ? "Pause" : "Play";
  };
  input.addEventListener("input", () => { if (button) { sight.disconnect(); play(false); } show(); });
  if (!button) return;
  const sight = new IntersectionObserver((entries) => play(entries.at(-1).isIntersecting), { threshold: 0.5 });
  button.addEventListener("click", () => { sight.disconnect(); play(timer === null); });
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) sight.observe(image);
})();"""


def slider(
    draw: Callable[[Any], Figure],
    values: Sequence[Any],
    *,
    name: str,
    alt: Callable[[Any], str],
    label: Callable[[Any], str] = str,
    start: int = 0,
    seconds: float | None = None,
) -> Slider:
    """Draw one figure for each value and return the slider that moves through them.

    Args:
        draw: value -> figure; the figures must have one size, and are closed here.
        values: the positions, from left to right; at least two.
        name: what the slider sets, a symbol such as "t".
        alt: value -> what the figure at this value shows, in at least 30 characters.
        label: value -> the text beside the slider.
        start: the position shown first.
        seconds: how long each picture is shown when the slider plays as a loop, which it then does by itself while it
            is in sight; at least 0.2, so that nothing flickers. None is a slider that only the reader moves.

    Raises:
        ValueError: if there are fewer than two values, an alt text is too short, ``start`` is no position, or
            ``seconds`` is too short.
    """
    values = list(values)
    require(len(values) >= 2, "values", values, "a sequence of at least two positions")
    require(start in range(len(values)), "start", start, f"a position in 0..{len(values) - 1}")
    if seconds is not None:
        seconds = check_float("seconds", seconds, 0.2, inclusive=True)
    texts = [alt(value) for value in values]
    for text in texts:
        require(len(text) >= 30, "alt", text, "a description of at least 30 characters")
    frames, width = [], 0
    for value, text in zip(values, texts):
        fig = draw(value)
        width = round(fig.get_figwidth() * _DPI)
        light = as_webp(picture(fig, dpi=_DPI))
        dark = as_webp(picture(fig, dpi=_DPI, dark=True)) if building() else None
        frames.append(Frame(label(value), text, light, dark))
        plt.close(fig)
    return Slider(name, frames, start, width, seconds)
