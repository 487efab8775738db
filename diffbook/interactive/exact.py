"""Figures that a page computes itself, from closed forms, at every position of their controls.

``exact`` joins a drawing in JavaScript, one of ``FIGURES`` in the folder ``scripts``, with numbers, controls and a
still picture. Jupyter, Colab and the built page show the same HTML: there is no kernel to ask. A drawing is one function

    draw(data, values) -> {picture: SVG markup, label, alt, height}

of the numbers and of what the controls say, which draws on a canvas 640 wide. ``plot.js`` holds what drawings share.
"""

from __future__ import annotations

import base64
import html
import json
import uuid
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from diffbook.dark import picture
from diffutils.validation import check_choice, require

FIGURES = ("flow", "forward", "schedule")
_WIDTH = 640


class ExactFigure:
    """A drawing, its numbers, its controls and its still picture; made by ``exact``."""

    def __init__(
        self,
        name: str,
        data: Mapping[str, Any],
        controls: Mapping[str, Sequence],
        start: Mapping[str, int],
        still: bytes,
        alt: str,
    ) -> None:
        self.name, self.data, self.controls, self.start = name, dict(data), dict(controls), dict(start)
        self._still, self._alt = still, alt

    def to_html(self) -> str:
        """Return the figure as HTML that needs no kernel and nothing from elsewhere."""
        content = json.dumps([self.data, self.controls, self.start])
        key = "exact-" + uuid.uuid5(uuid.NAMESPACE_OID, self.name + content).hex[:12]
        address = "data:image/png;base64," + base64.b64encode(self._still).decode()
        picture = f'<img src="{address}" alt="{html.escape(self._alt)}" width="{_WIDTH}" style="max-width:100%">'
        bars = "".join(self._bar(control) for control in self.controls)
        bar = f'<div class="exact-bar" hidden>{bars}<output aria-live="polite" style="display:block"></output></div>'
        return (
            f'<figure class="exact" id="{key}" style="margin:0"><div class="exact-picture">{picture}</div>{bar}'
            f"<script>{self._script(key)}</script></figure>"
        )

    def _bar(self, control: str) -> str:
        values, start = self.controls[control], self.start[control]
        return (
            f'<label style="display:flex;align-items:center"><span style="flex:0 0 5.5em">{html.escape(control)}</span>'
            f'<input type="range" name="{html.escape(control)}" min="0" max="{len(values) - 1}" value="{start}" '
            f'aria-valuetext="{html.escape(str(values[start]))}" style="flex:0 1 24em;min-width:0"></label>'
        )

    def _script(self, key: str) -> str:
        scripts = files("diffbook.interactive") / "scripts"
        parts = [(scripts / f"{name}.js").read_text(encoding="utf-8") for name in ("plot", self.name)]
        numbers = json.dumps([key, self.data, self.controls]).replace("</", "<\\/")
        return "(() => {\n" + "\n".join(parts) + _START.replace("NUMBERS", numbers) + "})();"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.to_html(), "text/plain": f"{self.name}: {', '.join(self.controls)}"}


_START = """
const [key, data, controls] = NUMBERS;
const figure = document.getElementById(key);
const [picture, bar] = [figure.querySelector(".exact-picture"), figure.querySelector(".exact-bar")];
const inputs = [...bar.querySelectorAll("input")];
const escaped = (words) => words.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
function show() {
  const values = Object.fromEntries(inputs.map((input) => [input.name, controls[input.name][input.value]]));
  const drawn = draw(data, values);
  picture.innerHTML =
    `<svg role="img" aria-label="${escaped(drawn.alt)}" viewBox="0 0 640 ${drawn.height}" ` +
    `style="width:100%;max-width:640px;font-size:14px">${drawn.picture}</svg>`;
  bar.querySelector("output").textContent = drawn.label;
  for (const input of inputs) input.setAttribute("aria-valuetext", `${values[input.name]}`);
}
inputs.forEach((input) => input.addEventListener("input", show));
bar.hidden = false;
show();
"""


def exact(
    name: str,
    data: Mapping[str, Any],
    controls: Mapping[str, Sequence],
    *,
    still: Figure,
    alt: str,
    start: Mapping[str, int] | None = None,
) -> ExactFigure:
    """Return the figure that draws itself in the page.

    Args:
        name: which drawing, one of ``FIGURES``.
        data: the numbers the drawing needs, as JSON can hold them.
        controls: for each control its values from left to right, numbers or words, at least two.
        still: the picture shown without scripts; it is closed here.
        alt: what that picture shows, in at least 30 characters.
        start: the position each control starts at, 0 where it is not named.

    Raises:
        ValueError: if the drawing is unknown, a control has fewer than two values, or a text or start is unfit.
    """
    check_choice("name", name, FIGURES)
    require(len(alt) >= 30, "alt", alt, "a description of at least 30 characters")
    controls = {control: list(values) for control, values in controls.items()}
    require(len(controls) >= 1, "controls", controls, "at least one control")
    for control, values in controls.items():
        require(len(values) >= 2, f"controls[{control!r}]", values, "at least two values")
    start = {control: (start or {}).get(control, 0) for control in controls}
    for control, position in start.items():
        most = len(controls[control]) - 1
        require(position in range(most + 1), f"start[{control!r}]", position, f"a position in 0..{most}")
    png = picture(still, dpi=100)
    plt.close(still)
    return ExactFigure(name, data, controls, start, png, alt)
