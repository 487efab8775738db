"""Figures that answer: live where a kernel runs, and alive without one in the built page.

``slider`` moves through pictures drawn beforehand, for what takes a kernel to compute (``frames``). ``exact`` computes
its picture in the page from a closed form, at every position of its controls (``exact``). Both follow mouse, touch and
keyboard, need nothing from elsewhere, and show a still picture where scripts are switched off.
"""

from diffbook.interactive.closed_forms import forward_process, probability_flow, quantile_path, schedule_shape
from diffbook.interactive.exact import FIGURES, ExactFigure, exact
from diffbook.interactive.frames import Frame, Slider, slider

__all__ = [
    "FIGURES",
    "ExactFigure",
    "Frame",
    "Slider",
    "exact",
    "forward_process",
    "probability_flow",
    "quantile_path",
    "schedule_shape",
    "slider",
]
