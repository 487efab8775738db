"""The command ``python -m diffutils.train``: arguments in, a folder with a trained model out.

It computes where ``DIFFUTILS_DEVICE`` says (``diffutils.device``). In one process that may be one GPU of several,
"cuda:1"; the processes of a launch share out those that ``CUDA_VISIBLE_DEVICES`` leaves them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import typing
from pathlib import Path
from typing import Any

import torch

from diffutils.device import default_device
from diffutils.train import checkpoint
from diffutils.train.recipe import Recipe
from diffutils.train.session import Outputs, Session
from diffutils.training_run import TrainingError
from diffutils.validation import require

EXAMPLES = """\
examples:
  python -m diffutils.train --out runs/digits
  python -m diffutils.train --out runs/digits --resume
  python -m diffutils.train --out runs/photos --data photos --size 64 --width 64 --multipliers 1 2 4 --attention
  accelerate launch --num_processes 4 -m diffutils.train --out runs/photos --data photos --precision bfloat16

devices:
  DIFFUTILS_DEVICE=cpu in the environment keeps off the GPU, and DIFFUTILS_DEVICE=cuda:1 names one for a run in one
  process. A launch of several processes chooses its GPUs by CUDA_VISIBLE_DEVICES.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; an option that is not given is absent from what it returns."""
    made = argparse.ArgumentParser(
        prog="python -m diffutils.train",
        description="Train a diffusion model on images. Under `accelerate launch` it runs on several devices.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the run, made if missing")
    made.add_argument("--resume", action="store_true", help="go on with the run in that folder, or begin it")
    _add_fields(made.add_argument_group("what is trained (kept by --resume, but for the place of the data)"), Recipe)
    _add_fields(made.add_argument_group("what is written, and when"), Outputs)
    return made


def _add_fields(group: argparse._ArgumentGroup, kind: type) -> None:
    types = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
        options: dict[str, Any] = {"help": f"{field.metadata['help']} (default: {_shown(default)})"}
        if types[field.name] is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif types[field.name] == list[int]:
            options |= {"type": int, "nargs": "+", "metavar": "N"}
        else:
            options |= {"type": type(default) if default is not None else str, "metavar": field.name.upper()}
        group.add_argument(f"--{field.name.replace('_', '-')}", **options)


def _shown(default: Any) -> str:
    if isinstance(default, list):
        return " ".join(map(str, default))
    return {None: "no", True: "yes", False: "no"}[default] if default is None or isinstance(default, bool) else f"{default}"


def main(arguments: list[str]) -> int:
    """Train as the arguments say; return 0 if all steps are made, 1 if training failed, 2 if it could not begin."""
    given = vars(parser().parse_args(arguments))
    out, resume = given.pop("out"), given.pop("resume", False)
    names = {field.name for field in dataclasses.fields(Recipe)}
    recipe_given = {name: value for name, value in given.items() if name in names}
    try:
        # A checkpoint is read, and every argument looked at, before anything is written or any process is waited for.
        path = out / checkpoint.NAME
        state = checkpoint.load(path) if resume and path.exists() else None
        saved = state["recipe"] if state else checkpoint.load_recipe(out) if resume else None
        taken = [name for name in (checkpoint.NAME, checkpoint.RECIPE, checkpoint.TABLE) if (out / name).exists()]
        free = f"a folder without {', '.join(taken)}, or the folder of a run with --resume given"
        require(saved is not None or not taken, "out", str(out), free)
        recipe = Recipe(**recipe_given) if saved is None else _resumed(saved, recipe_given)
        given.setdefault("sample_steps", min(Outputs.sample_steps, recipe.timesteps))
        outputs = Outputs(**{name: value for name, value in given.items() if name not in names})
        session = Session(_accelerator(), out, recipe, outputs, state)
    except (ValueError, RuntimeError, OSError) as error:
        return _fail(error, 2)
    before = {number: signal.signal(number, session.stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return session.run()
    except TrainingError as error:
        return _fail(f"{error} A run keeps its lr: begin a new one with another lr in another --out.", 1)
    except (checkpoint.CheckpointError, OSError) as error:
        return _fail(error, 1)
    finally:
        session.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(error: Exception | str, code: int) -> int:
    # Whichever process of a launch fails first says so: the launcher ends the others before they could.
    whose = f"process {os.environ['RANK']}: " if "RANK" in os.environ else ""
    print(f"{whose}error: {error}", file=sys.stderr)
    return code


def _resumed(saved: dict[str, Any], given: dict[str, Any]) -> Recipe:
    """Return the recipe of a run that goes on; refuse an option that says otherwise, and what is no recipe.

    The data may have moved: whether they are the images that the run began with is seen when they are read.
    """
    fields = sorted(field.name for field in dataclasses.fields(Recipe))
    require(isinstance(saved, dict) and sorted(saved) == fields, "the run's recipe", saved, f"one with {', '.join(fields)}")
    for name, value in given.items():
        if name != "data" and saved[name] != value:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} must be {saved[name]!r}, as the run began, or left out with --resume, got {value!r}")
    return Recipe(**{**saved, **given})


def _accelerator() -> Any:
    """Return the accelerator of this process.

    In one process it computes on the GPU whose index ``DIFFUTILS_DEVICE`` names. A launch gives each process its GPU; which
    GPUs it has is chosen by ``CUDA_VISIBLE_DEVICES``.

    Raises:
        RuntimeError: if there is no library accelerate.
        ValueError: if an index is named and accelerate chooses by something else.
    """
    try:
        from accelerate import Accelerator
    except ImportError:
        raise RuntimeError("training from the command line needs a library: pip install accelerate") from None
    device = default_device()
    if device.type != "cuda" or device.index is None:
        return Accelerator(cpu=device.type == "cpu")
    alone = os.environ.get("LOCAL_RANK", "-1") == "-1"
    by_launch = "a device without an index in a launch, which chooses by CUDA_VISIBLE_DEVICES"
    require(alone, "DIFFUTILS_DEVICE", str(device), by_launch)
    # accelerate takes "cuda", which is the current GPU, unless a variable of its own names another device.
    torch.cuda.set_device(device)
    accelerator = Accelerator()
    chosen, by_accelerate = accelerator.device, "the device that accelerate takes (see ACCELERATE_TORCH_DEVICE)"
    require(chosen in (device, torch.device("cuda")), "DIFFUTILS_DEVICE", str(device), f"{by_accelerate}, {chosen}")
    return accelerator
