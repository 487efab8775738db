"""Faster arithmetic on the same mathematics: fewer bits in products, and networks that are compiled.

Both are options of the training loop (``training.train``) and of the sampling loop (``samplers.Sampler.sample``), and
both are off unless asked for: the book's numbers are those of float32, as written.

Home chapter: scaling up (chapters/13_scaling_up.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diffutils.networks import times_for
from diffutils.validation import check_choice

PRECISIONS = ("float32", "bfloat16")
# "reduce-overhead" records a GPU's work once and replays it (CUDA graphs); on a CPU it compiles as "default" does.
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")


def autocast(device: torch.device | str, precision: str) -> contextlib.AbstractContextManager:
    """Return a context in which matrix products and convolutions are computed in ``precision``.

    Args:
        device: where they are computed.
        precision: "float32" changes nothing. "bfloat16" keeps 8 significant bits of each factor and float32's range,
            so that no loss has to be scaled; weights, sums over a batch and the optimizer stay in float32.

    Raises:
        ValueError: for another precision.

    Source: Micikevicius et al. 2018 (arXiv:1710.03740), section 3, for what is kept in float32.
    """
    check_choice("precision", precision, PRECISIONS)
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def compile_networks(model: nn.Module, mode: str = "default") -> None:
    """Compile the networks a model is made of, in place: the modules right below it, when they are called next.

    Args:
        model: a model of the book; its own loss and sampling stay plain Python.
        mode: one of ``COMPILE_MODES``, as torch.compile takes them.

    Raises:
        ValueError: for another mode.
    """
    check_choice("mode", mode, COMPILE_MODES)
    for network in model.children():
        network.compile(mode=mode)
        # where torch itself keeps what it compiled, and drops it from copies
        network._compiled_call_impl = _called(network._compiled_call_impl, copies=mode != "default")


def _called(compiled: Callable, *, copies: bool) -> Callable:
    """Return a compiled network that serves samplers, which give it the time as an int and may keep its answers."""

    def call(x: Tensor, *times: int | Tensor) -> Any:
        # An int that changes is compiled anew, and with CUDA graphs each of its values is recorded anew.
        answer = compiled(x, *(times_for(t, x) if isinstance(t, int) else t for t in times))
        # A replayed graph writes every answer into the same memory.
        return answer.clone() if copies and isinstance(answer, Tensor) else answer

    return call
