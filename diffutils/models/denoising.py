"""What the models that remove noise share: a network, a schedule, and what the network predicts.

Home chapter: the reverse process (chapters/05_reverse_process.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffutils.schedule import Schedule
from diffutils.validation import check_choice, check_dtype, check_int, require

# A network's raw output can stand for these; a score has no bounded scale at small t, so no network is asked for it.
TARGETS = ("eps", "x0", "v")


class DenoisingModel(nn.Module):
    """A network, the noise levels it is trained on, and what its output means: a denoiser that can be trained.

    The weights alone do not say what they were trained for. The ``state_dict`` of such a model does: it holds the
    schedule and the meaning of the outputs too, and a model that differs in them refuses it.

    Args:
        network: a module (x_t, t) -> a tensor of x_t's shape, t being the time, an int (in sampling) or
            a (B,) LongTensor (in training); see ``networks``.
        schedule: the noise schedule.
        prediction: what the network's output means: "eps", "x0" or "v"; None is what its attribute ``prediction``
            says, where it has one, and else ``usual``.
        shape: shape of one example, without the batch axis; None means (network.dim,), for networks of points.

    Raises:
        ValueError: if an argument is of another kind, a name is another, the network says that it predicts something
            else, or no shape is given and the network has no ``dim``.
    """

    usual = "eps"
    variance_output: str | None = None

    def __init__(
        self, network: nn.Module, schedule: Schedule, prediction: str | None, shape: Sequence[int] | None
    ) -> None:
        super().__init__()
        require(isinstance(network, nn.Module), "network", type(network).__name__, "a torch.nn.Module")
        require(isinstance(schedule, Schedule), "schedule", type(schedule).__name__, "a Schedule")
        said = getattr(network, "prediction", prediction)
        prediction = prediction or said or self.usual
        self.prediction = check_choice("prediction", prediction, TARGETS)
        require(said in (None, prediction), "prediction", prediction, f"{said!r}, as the network says")
        self.network, self.schedule = network, schedule
        if shape is None and hasattr(network, "dim"):
            shape = (network.dim,)
        require(shape is not None, "shape", shape, "the shape of one example, since the network has no `dim`")
        self.shape = tuple(check_int("shape", size, 1) for size in shape)

    def _check_shape(self, x: Tensor) -> None:
        require(isinstance(x, Tensor), "x", type(x).__name__, "a torch.Tensor")
        require(tuple(x.shape[1:]) == self.shape, "x.shape", tuple(x.shape), f"(B, {', '.join(map(str, self.shape))})")
        check_dtype("x", x, self)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the weights are good for; torch makes it a part of the ``state_dict``."""
        outputs = {"prediction": self.prediction, "variance_output": self.variance_output}
        return {**outputs, "beta": self.schedule.beta, "timesteps": self.schedule.timesteps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Look whether weights fit this model; ``load_state_dict`` calls it before it changes any.

        Raises:
            ValueError: if they were trained on other noise levels, but for rounding, or their outputs mean something
                else, or they do not say.
        """
        names = self.get_extra_state().keys()
        known = isinstance(state, dict) and state.keys() >= names
        require(known, "the state's _extra_state", state, f"that of such a model, with {', '.join(names)}")
        for name in ("prediction", "variance_output"):
            require(state[name] == getattr(self, name), f"the state's {name}", state[name], repr(getattr(self, name)))
        beta, own = state["beta"], self.schedule
        same_times = beta.shape == own.beta.shape and torch.equal(state["timesteps"], own.timesteps)
        fits = same_times and torch.allclose(beta, own.beta, rtol=1e-6, atol=1e-12)
        found = f"T = {len(beta) - 1}, beta_T = {float(beta[-1]):.6g}"
        require(fits, "the state's schedule", found, f"that of this model, {own!r} with beta_T = {float(own.beta[-1]):.6g}")
