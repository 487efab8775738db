"""Where to compute: a GPU where there is one, unless the environment says otherwise.

Two environment variables, read at each call:

- ``DIFFUTILS_DEVICE`` names the device to use ("cpu", "cuda", "cuda:1", "mps");
- ``DIFFUTILS_REQUIRE_CUDA=1`` makes the absence of a CUDA device an error, so that a GPU test cannot pass on a CPU.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from diffutils.validation import check_int

_LAST_SEED = 2**64 - 1


def default_device() -> torch.device:
    """Return the device to compute on: ``DIFFUTILS_DEVICE`` if set, else CUDA, else Apple's MPS, else the CPU.

    Raises:
        RuntimeError: if ``DIFFUTILS_REQUIRE_CUDA=1`` and the device would not be a CUDA device.
        ValueError: if ``DIFFUTILS_DEVICE`` names a device that torch does not know or this machine does not have.
    """
    named = os.environ.get("DIFFUTILS_DEVICE")
    if named:
        device = _parse("DIFFUTILS_DEVICE", named)
    elif torch.cuda.is_available():
        device = torch.device("cuda")
    elif torch.backends.mps.is_available():
        device = torch.device("mps")
    else:
        device = torch.device("cpu")
    if os.environ.get("DIFFUTILS_REQUIRE_CUDA") == "1" and device.type != "cuda":
        raise RuntimeError(f"DIFFUTILS_REQUIRE_CUDA=1 but the device is {device}: no CUDA device was found or chosen")
    return device


def find_device(device: torch.device | str | None) -> torch.device:
    """Return the device that an argument ``device`` means: ``default_device`` for None.

    Raises:
        ValueError: if torch does not know it or this machine does not have it.
    """
    return default_device() if device is None else _parse("device", device)


def _parse(argument: str, named: torch.device | str) -> torch.device:
    try:
        device = torch.device(named)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{argument} must name a device of this machine, got {str(named)!r}: {error}") from None
    return device


def make_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a ``torch.Generator`` on ``device``, seeded with ``seed``.

    Raises:
        ValueError: if the seed is no integer in 0..2^64 - 1, or the machine has no such device.
    """
    return torch.Generator(device=find_device(device)).manual_seed(check_int("seed", seed, 0, _LAST_SEED))


def seed_default_generators(seed: int, device: torch.device | str = "cpu") -> None:
    """Seed the generators from which torch initialises layers and drops units: the CPU's, and that of ``device``.

    ``torch.manual_seed`` would reseed every other accelerator as well, and nobody would put those back.
    """
    check_int("seed", seed, 0, _LAST_SEED)
    torch.default_generator.manual_seed(seed)
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def default_generators(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the generators that ``seed_default_generators`` seeds."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_default_generators(device: torch.device, state: dict[str, Tensor]) -> None:
    """Put back what ``default_generators`` returned."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["mps"].cpu())
