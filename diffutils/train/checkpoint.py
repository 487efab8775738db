"""Checkpoints that are whole or not there.

A checkpoint is written beside its place, brought to the disk, and then renamed, which happens at once or not at all: a
run that is killed at any moment leaves the last whole checkpoint. It is read with torch's ``weights_only``, which builds
tensors and plain values and runs no code, whatever the file holds.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

NAME, RECIPE, TABLE, SAMPLES = "checkpoint.pt", "recipe.json", "metrics.csv", "samples"
# Held by the process that trains in a folder.
LOCK = f"{NAME}.lock"
FORMAT = "diffutils.train 4"
# The end of the names of files that are being written, and the whole names that this program gives.
UNFINISHED = ".unfinished"
OURS = re.compile(rf"({re.escape(NAME)}|{re.escape(RECIPE)}|{re.escape(TABLE)}|step-\d+\.png)\.\d+{re.escape(UNFINISHED)}")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which, why, and what still stands."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that ``path`` holds either what it held before or all of ``data``, whatever happens.

    Raises:
        OSError: if it could not be written; then ``path`` is as it was and nothing is left beside it.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _bring_to_disk(path.parent)


def _bring_to_disk(folder: Path) -> None:
    """The renaming itself must outlive a power cut; where folders cannot be opened (Windows), the system sees to it."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, tensors and plain values in dicts and lists, as the checkpoint at ``path``.

    Raises:
        CheckpointError: if the disk is full or the folder cannot be written; the checkpoint before it stays.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        kept = "the one that stands there is untouched" if path.exists() else "there is none before it"
        raise CheckpointError(f"the checkpoint {path} could not be written ({error}); {kept}") from error


def load(path: Path) -> dict[str, Any]:
    """Return the state that ``save`` wrote, with its tensors on the CPU.

    Raises:
        CheckpointError: if there is no such file, it is cut off or damaged, or it is not one of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
        # torch's own words on what is not to be unpickled advise to unpickle it all the same.
        said = "not tensors and plain values alone" if isinstance(error, pickle.UnpicklingError) else str(error)
        reason = said.partition("\n")[0][:200]
        raise CheckpointError(f"the checkpoint {path} cannot be read: cut off, damaged or foreign ({reason})") from error
    found = state.get("format") if isinstance(state, dict) else type(state).__name__
    if found != FORMAT:
        raise CheckpointError(f"the checkpoint {path} is not one of this program: format must be {FORMAT!r}, got {found!r}")
    return state


def load_recipe(folder: Path) -> dict[str, Any] | None:
    """Return the recipe of the run that was begun in ``folder``, perhaps without a checkpoint; None where there is none.

    Raises:
        CheckpointError: if the recipe cannot be read.
    """
    path = folder / RECIPE
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8")) or {}
    except ValueError as error:
        raise CheckpointError(f"the recipe {path} cannot be read: {error}") from None


def put_back(path: Path, load_state_dict: Callable[[dict[str, Any]], Any], state: dict[str, Any]) -> None:
    """Put a part of the checkpoint at ``path`` into what was built of its recipe.

    Args:
        path: to be named.
        load_state_dict: of the model or the run.
        state: what it takes.

    Raises:
        CheckpointError: if it does not fit: this version builds another schedule or network of the same recipe.
    """
    try:
        load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint {path} does not fit what this version builds of its recipe: {error}") from error


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process was writing in a run's folder; a file of any other name stays."""
    for path in (*folder.iterdir(), *(folder / SAMPLES).iterdir()):
        if OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
