"""The command line trainer: what it refuses, what it writes, and that a run goes on as if it had not been ended."""

from __future__ import annotations

import contextlib
import csv
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import accelerate
import numpy as np
import pytest
import torch
from PIL import Image

from diffutils.datasets import digits_8x8
from diffutils.device import make_generator
from diffutils.models.ddpm import DDPM
from diffutils.samplers import DDIM
from diffutils.schedule import Schedule
from diffutils.train import CheckpointError, Recipe, checkpoint, command, images, load_model, session
from diffutils.train.command import main
from diffutils.train.parallel import ParallelRun
from diffutils.train.session import Outputs, Session
from diffutils.training import train
from diffutils.training_run import TrainingRun
from diffutils.unet import UNet

ROOT = Path(__file__).resolve().parent.parent
# A small model and a short run: 40 steps in about a second.
SMALL = dict(steps=40, batch=8, width=8, multipliers=[1], timesteps=50)
OFTEN = dict(log_every=5, checkpoint_every=5, sample_every=20, samples=4, sample_steps=3)


def words(out: Path, *more: str, **options) -> list[str]:
    """The command's arguments."""
    given = {**SMALL, **OFTEN, **options}
    named = [[f"--{k.replace('_', '-')}", *map(str, v if isinstance(v, list) else [v])] for k, v in given.items()]
    return ["--out", str(out), *(word for words in named for word in words), *more]


def environment(*path: Path) -> dict[str, str]:
    found = os.pathsep.join(map(str, (*path, ROOT)))
    return {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "DIFFUTILS_DEVICE": "cpu"}


def started(
    arguments: list[str], *, launch: Sequence[str] = ("-m",), path: Sequence[Path] = (), **options
) -> subprocess.Popen:
    command = [sys.executable, *launch, "diffutils.train", *arguments]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=ROOT, env=environment(*path), **pipes, **options)


def finished(process: subprocess.Popen, code: int = 0) -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == code, output + errors
    return output + errors


def tensors_of(out: Path) -> list[torch.Tensor]:
    run = checkpoint.load(out / checkpoint.NAME)["run"]
    moments = [value for state in run["optimizer"]["state"].values() for value in state.values()]
    return [run["losses"], run["norms"], run["generator"], *run["model"].values(), *run["averages"].values(), *moments]


def losses_of(out: Path) -> list[tuple[str, str, str]]:
    rows = list(csv.reader((out / "metrics.csv").open()))
    return [tuple(row[:3]) for row in rows]


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu():
    """Bit for bit is promised for one process on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFUTILS_DEVICE", "cpu")
        patch.delenv("DIFFUTILS_REQUIRE_CUDA", raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in the processes that are started here: the order of a sum is part of its bits
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, on_the_cpu) -> Path:
    """A run that was never ended."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(words(out)) == 0
    return out


def test_the_command_runs_as_a_module_and_says_what_it_made(tmp_path) -> None:
    out, handler = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    assert "all 5 steps made" in finished(started(words(out, steps=5, sample_every=100)))
    assert main(words(out / "here", steps=5, sample_every=100)) == 0
    assert all(map(torch.equal, tensors_of(out), tensors_of(out / "here")))
    assert signal.getsignal(signal.SIGTERM) == handler


# -- what a run leaves -------------------------------------------------------------------------------------------------


def test_a_run_writes_its_recipe_losses_samples_and_checkpoint(whole) -> None:
    assert {path.name for path in whole.iterdir()} == {"checkpoint.pt", "metrics.csv", "recipe.json", "samples"}
    assert sorted(path.name for path in (whole / "samples").iterdir()) == ["step-00000020.png", "step-00000040.png"]
    sheet = Image.open(whole / "samples" / "step-00000040.png")
    assert sheet.size == (8 * 10 + 2, 12) and sheet.mode == "L"
    rows = losses_of(whole)
    assert rows[0] == ("step", "loss", "gradient_norm") and [row[0] for row in rows[1:]] == [str(n) for n in range(5, 41, 5)]
    losses = checkpoint.load(whole / "checkpoint.pt")["run"]["losses"]
    assert float(rows[1][1]) == pytest.approx(losses[:5].mean().item(), rel=1e-5)


def test_it_trains_what_train_trains(whole) -> None:
    recipe = Recipe(**SMALL)
    model = recipe.build((1, 8, 8))
    data = digits_8x8()[0]
    train(model, data, steps=40, batch_size=8, lr=recipe.lr, ema_decay=recipe.ema, device="cpu", progress=False)
    loaded = load_model(whole)
    assert isinstance(loaded, DDPM) and not loaded.training and loaded.shape == (1, 8, 8)
    assert all(map(torch.equal, model.state_dict().values(), loaded.state_dict().values()))
    assert load_model(whole / "checkpoint.pt").prediction == "v"


def test_the_default_recipe_is_the_digits_model_of_chapter_5() -> None:
    model, chapter = Recipe().build((1, 8, 8)), UNet(channels=1, width=32, patch=2)
    assert all(map(torch.equal, model.network.state_dict().values(), chapter.state_dict().values()))
    assert torch.equal(model.schedule.beta, Schedule.cosine(1000).beta) and model.prediction == "v"
    assert (Recipe.steps, Recipe.batch, Recipe.lr, Recipe.ema) == (2000, 64, 4e-3, 0.995)


def test_the_seed_decides_the_weights() -> None:
    first, other = (Recipe(**SMALL, seed=seed).build((1, 8, 8)).network.stem.weight for seed in (0, 1))
    assert not torch.equal(first, other)


def test_other_options_change_the_run(tmp_path, whole) -> None:
    """Every option of the recipe reaches the run: each changes the losses, or the model's weights."""
    expected = tensors_of(whole)[0]
    changes = dict(batch=4, lr=1e-3, seed=1, width=16, patch=1, schedule="linear", timesteps=60, prediction="eps",
                   blocks=2, multipliers=[1, 1], precision="bfloat16")  # fmt: skip
    for name, value in changes.items():
        assert main(words(tmp_path / name, **{**dict(steps=5, sample_every=100), name: value})) == 0
        assert not torch.equal(tensors_of(tmp_path / name)[0], expected[:5]), name
    assert main([*words(tmp_path / "attention", steps=5), "--attention"]) == 0
    assert len(tensors_of(tmp_path / "attention")) > len(tensors_of(whole))


# -- ended and resumed -------------------------------------------------------------------------------------------------


def in_a_process_of_its_own(arguments: list[str]) -> multiprocessing.Process:
    """The command in a child of a server that has the libraries loaded, so that it trains within a moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accelerate", "torch._dynamo", "diffutils.train.command"])
    child = context.Process(target=_command, args=(arguments,))
    child.start()
    return child


def _command(arguments: list[str]) -> None:
    os.environ.update(environment())
    torch.set_num_threads(1)
    sys.exit(main(arguments))


def test_twenty_kills_lose_nothing_but_the_steps_since_the_last_checkpoint(tmp_path) -> None:
    """A run that is killed at random moments ends as one that was left in peace."""
    steps, drawn = dict(steps=300, sample_every=50), random.Random(0)
    in_peace = in_a_process_of_its_own(words(tmp_path / "in peace", **steps))
    out = tmp_path / "run"
    kills, before, resumed = 0, 0, 0
    while kills < 20 or before < 300:
        child = in_a_process_of_its_own(words(out, "--resume", **steps))
        # one in four while it still gets ready, the others while it trains: after it has written a row of its own
        table, ready = out / "metrics.csv", kills % 4 == 0
        rows = len(losses_of(out)) if table.exists() else 1
        while child.is_alive() and not ready:
            ready = table.exists() and len(losses_of(out)) > rows
            time.sleep(0.001)
        child.join(timeout=drawn.uniform(0, 0.5) if kills < 20 else 300)
        if child.is_alive():
            child.kill()
            child.join()
            kills += 1
        else:
            assert child.exitcode == 0
        if not (out / "checkpoint.pt").exists():
            continue
        step = checkpoint.load(out / "checkpoint.pt")["run"]["step"]
        assert step >= before and step % 5 == 0
        resumed, before = resumed + (0 < before < step), step
        if step == 300:
            in_peace.join(timeout=300)
            assert all(map(torch.equal, tensors_of(out), tensors_of(tmp_path / "in peace")))
            assert losses_of(out) == losses_of(tmp_path / "in peace")
            assert not list(out.rglob("*.unfinished"))
            if kills < 20:
                shutil.rmtree(out)
                before = 0
    assert resumed >= 5


def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(tmp_path, monkeypatch) -> None:
    out, long = tmp_path / "run", dict(steps=40, checkpoint_every=40, sample_every=40)
    backward = ParallelRun._backward

    def interrupted(run: ParallelRun, loss: torch.Tensor) -> None:
        if run.step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        backward(run, loss)

    with monkeypatch.context() as patch:
        patch.setattr(ParallelRun, "_backward", interrupted)
        assert main(words(out, **long)) == 128 + signal.SIGTERM
    assert checkpoint.load(out / "checkpoint.pt")["run"]["step"] == 13
    assert main(words(out, "--resume", **long)) == 0 == main(words(tmp_path / "in peace", **long))
    assert all(map(torch.equal, tensors_of(out), tensors_of(tmp_path / "in peace")))


def test_what_a_kill_left_behind_is_cleared_away(tmp_path, whole) -> None:
    """A half-written file, and rows of steps that the checkpoint does not know: the run goes on without them."""
    out = tmp_path / "run"
    assert main(words(out, steps=40, checkpoint_every=20, sample_every=20)) == 0
    state = checkpoint.load(out / "checkpoint.pt")
    shutil.rmtree(out)
    half = in_a_process_of_its_own(words(out, checkpoint_every=20))
    while not (out / "checkpoint.pt").exists():
        time.sleep(0.001)
    half.kill()
    half.join()
    step = checkpoint.load(out / "checkpoint.pt")["run"]["step"]
    with (out / "metrics.csv").open("a") as table:
        table.write(f"{step + 5},9.0,9.0,9.0\r\n{step + 10},9.")
    (out / "checkpoint.pt.1.unfinished").write_bytes(b"half")
    assert main(words(out, "--resume", checkpoint_every=20)) == 0
    assert losses_of(out) == losses_of(whole) and not (out / "checkpoint.pt.1.unfinished").exists()
    assert torch.equal(tensors_of(out)[0], state["run"]["losses"])


def test_samples_are_drawn_with_the_averaged_weights(whole) -> None:
    model = load_model(whole)
    sampler = DDIM(model, model.schedule.respaced(3), clip=(-1.0, 1.0))
    sheet = images.sheet(sampler.sample((4, 1, 8, 8), generator=make_generator(0)))
    assert sheet.tobytes() == Image.open(whole / "samples" / "step-00000040.png").tobytes()


def test_a_run_that_is_done_does_nothing_more(whole, capsys) -> None:
    state = (whole / "checkpoint.pt").read_bytes()
    assert main(words(whole, "--resume")) == 0
    assert "nothing to do" in capsys.readouterr().out and (whole / "checkpoint.pt").read_bytes() == state


# -- several processes -------------------------------------------------------------------------------------------------


# accelerate's own launcher starts several processes for GPUs only; with --cpu it starts one and says nothing.
# The processes find each other at a number: not every machine knows the address of its own name.
TWO = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc_per_node", "2", "-m"]


def test_two_processes_train_as_one(tmp_path, whole) -> None:
    """The same command with the same batch, shared by two processes (gloo): the same losses within float32's rounding."""
    # Each process believes that its machine has a GPU, as one may that is told to stay on the CPU.
    (tmp_path / "sitecustomize.py").write_text("import torch\ntorch._C._get_accelerator = lambda: torch.device('cuda')\n")
    out = tmp_path / "run"
    output = finished(started(words(out), launch=TWO, path=[tmp_path]))
    assert output.count("steps made") == 1 and "steps made by 2 processes" in output
    ours, theirs = tensors_of(out), tensors_of(whole)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-3, atol=1e-5)
    assert len(losses_of(out)) == len(losses_of(whole))
    # and one process goes on where two have ended, or says that they are done
    assert main(words(out, "--resume")) == 0


def test_what_stops_a_launch_is_said_by_whoever_meets_it(tmp_path) -> None:
    """The launcher ends the other processes at once, the first one among them: each says its error itself."""
    process = started(words(tmp_path / "run", steps=0), launch=TWO)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert re.search(r"^process [01]: error: steps must be an integer of at least 1, got 0$", errors, re.MULTILINE)


class Alone:
    """Stands for accelerate in one of several processes, of which the others are not there."""

    def __init__(self, index: int, processes: int) -> None:
        self.process_index, self.num_processes, self.device = index, processes, torch.device("cpu")
        self.is_main_process = index == 0

    def prepare(self, module):
        return module

    def backward(self, loss) -> None:
        loss.backward()

    def reduce(self, values, how):
        return 2 * values if how == "mean" else None


def test_each_process_takes_its_share_of_the_same_draws() -> None:
    data, recipe = digits_8x8()[0], Recipe(**SMALL)

    def first_loss(index: int, processes: int) -> torch.Tensor:
        torch.manual_seed(index)  # what a process draws elsewhere must not matter
        model = recipe.build((1, 8, 8))
        run = ParallelRun(Alone(index, processes), model, data, steps=1, batch_size=8, block=1)
        run.advance()
        return run.losses[0] / 2

    shares = torch.stack([first_loss(index, 4) for index in range(4)])
    assert len(shares.unique()) == 4
    torch.testing.assert_close(shares.mean(), first_loss(0, 1))
    # what ``reduce`` makes of the losses, here twice of each, is what the run keeps
    alone = TrainingRun(recipe.build((1, 8, 8)), data, steps=1, batch_size=8, device="cpu")
    alone.advance()
    torch.testing.assert_close(first_loss(0, 1), alone.losses[0])


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="batch must be a multiple of the number of processes, 3, got 8"):
        ParallelRun(Alone(0, 3), Recipe(**SMALL).build((1, 8, 8)), torch.zeros(4, 1, 8, 8), steps=1, batch_size=8)


# -- what is refused, and what stays -----------------------------------------------------------------------------------

WRONG = [
    (dict(steps=0), "steps must be an integer of at least 1, got 0"),
    (dict(batch=0), "batch"), (dict(lr=0.0), "lr"), (dict(ema=1.0), "ema"), (dict(seed=-1), "seed"),
    (dict(width=6), "width"), (dict(multipliers=[0]), "multipliers"), (dict(blocks=0), "blocks"),
    (dict(schedule="square"), "schedule must be one of 'cosine', 'linear', got 'square'"),
    (dict(prediction="score"), "prediction"), (dict(precision="half"), "precision"), (dict(compile_mode="x"), "compile"),
    (dict(patch=16), "size must be a multiple of 16"), (dict(log_every=3), "checkpoint_every must be a multiple of"),
    (dict(samples=0), "samples"), (dict(sample_steps=51), "sample_steps must be an integer in 1..50, got 51"),
    (dict(data="no such folder"), "data must be 'digits8', 'digits28' or an existing folder"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=str)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, capsys, wrong, message) -> None:
    assert main(words(tmp_path / "run", **wrong)) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def refuse_to_read(*args, **options) -> None:
    raise AssertionError("images are read")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(size=9), "size must be a multiple of 2 = patch * 2 ** (resolutions - 1), got 9"),
        (dict(width=6), "width must be a multiple of 4, got 6"),
        (dict(sample_steps=51), "sample_steps must be an integer in 1..50, got 51"),
        (dict(multipliers=[0]), "multipliers must be an integer of at least 1, got 0"),
    ],
    ids=str,
)
def test_what_the_options_tell_is_refused_before_an_image_is_read(tmp_path, capsys, monkeypatch, wrong, message) -> None:
    monkeypatch.setattr(images, "_read", refuse_to_read)
    folder = folder_of_images(tmp_path / "images")
    assert main(words(tmp_path / "run", **{"data": folder, "size": 8, **wrong})) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_shared_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(session, "wait_for_everyone", lambda accelerator: None)
    monkeypatch.setattr(images, "load", refuse_to_read)
    recipe = Recipe(**{**SMALL, "batch": 64})
    with pytest.raises(ValueError, match="batch must be a multiple of the number of processes, 3, got 64"):
        Session(Alone(0, 3), tmp_path / "run", recipe, Outputs(**OFTEN), None)
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_made_leaves_nothing_behind(tmp_path, capsys, monkeypatch) -> None:
    """Whatever only the run itself can find out, as that a model is too large for its device."""

    def fail(*args, **options) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(session, "ParallelRun", fail)
    assert main(words(tmp_path / "run")) == 2
    assert "error: out of memory" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", ["digits8", "digits28", "folder"])
def test_the_shape_of_the_images_is_known_before_they_are_read(tmp_path, data) -> None:
    data = str(folder_of_images(tmp_path / "images")) if data == "folder" else data
    recipe = Recipe(data=data, size=12, channels=3)
    assert recipe.image_shape() == tuple(recipe.load_images().shape[1:])


def test_a_folder_with_a_run_is_not_overwritten(whole, capsys) -> None:
    files = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert main(words(whole)) == 2
    assert "out must be a folder without a run, or --resume given" in capsys.readouterr().err
    assert main(words(whole, "--resume", lr=1e-3)) == 2
    assert "--lr must be 0.004, as the run began, or left out with --resume, got 0.001" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == files


def test_a_run_does_not_go_on_with_other_images(tmp_path, capsys) -> None:
    folder = folder_of_images(tmp_path / "images")
    given = dict(data=folder, size=8, steps=5, sample_every=5, channels=1)
    assert main(words(tmp_path / "run", **given)) == 0
    Image.new("L", (8, 8), 200).save(folder / "another.png")
    assert main(words(tmp_path / "run", "--resume", **given)) == 2
    assert "data must be the images that the run began with" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_checkpoint_that_was_cut_off_is_refused_and_kept(tmp_path, whole, capsys, kept) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    data = (out / "checkpoint.pt").read_bytes()
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    (out / "checkpoint.pt").write_bytes(cut)
    assert main(words(out, "--resume")) == 2
    assert "cannot be read: cut off, damaged or foreign" in capsys.readouterr().err
    assert (out / "checkpoint.pt").read_bytes() == cut and losses_of(out) == losses_of(whole)


class Intruder:
    """Would run a command if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_runs_no_code(tmp_path) -> None:
    trace = tmp_path / "trace"
    plain = pickle.dumps(Intruder(trace))
    for write in (lambda path: torch.save({"format": Intruder(trace)}, path), lambda path: path.write_bytes(plain)):
        write(tmp_path / "checkpoint.pt")
        with pytest.raises(CheckpointError, match="foreign"):
            checkpoint.load(tmp_path / "checkpoint.pt")
    assert not trace.exists()


@pytest.mark.parametrize("content", [{"weights": torch.zeros(2)}, torch.zeros(3), {"format": "diffutils.train 0"}])
def test_a_foreign_checkpoint_is_refused(tmp_path, content) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not one of this program: format must be 'diffutils.train 2'"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_model(tmp_path / "nothing.pt")


def test_a_checkpoint_of_another_schedule_is_refused_by_all_who_read_it(tmp_path, whole, capsys) -> None:
    """A schedule's definition may change from one version of the package to the next; its rounding may, on each machine."""
    state = checkpoint.load(whole / "checkpoint.pt")
    beta = state["beta"]
    for other in (beta * 1.001, beta[:-1]):
        checkpoint.save(tmp_path / "checkpoint.pt", {**state, "beta": other})
        with pytest.raises(CheckpointError, match="checkpoint.pt was made with another cosine schedule"):
            load_model(tmp_path)
        assert main(words(tmp_path, "--resume")) == 2
        assert "checkpoint.pt was made with another cosine schedule" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    checkpoint.save(tmp_path / "checkpoint.pt", {**state, "beta": torch.nextafter(beta, torch.ones(()).double())})
    assert torch.equal(load_model(tmp_path).schedule.beta, beta)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, whole) -> None:
    """Files may grow to less than a checkpoint's size, as on a disk with no room."""
    out = tmp_path / "run"
    assert main(words(out, steps=40, checkpoint_every=40)) == 0
    shutil.rmtree(out)
    size = (whole / "checkpoint.pt").stat().st_size
    begun = started(words(out, steps=40), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2,) * 2))
    said = finished(begun, 1)
    assert "could not be written" in said and "there is none before it" in said and "Traceback" not in said
    assert not (out / "checkpoint.pt").exists() and not list(out.rglob("*.unfinished"))
    shutil.rmtree(out)
    shutil.copytree(whole, out)
    before = (out / "checkpoint.pt").read_bytes()
    state = checkpoint.load(out / "checkpoint.pt")
    with limited_files(size // 2), pytest.raises(CheckpointError, match="the one that stands there is untouched"):
        checkpoint.save(out / "checkpoint.pt", state)
    assert (out / "checkpoint.pt").read_bytes() == before and not list(out.rglob("*.unfinished"))


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    """Until the new file takes its place at once, the old one is not touched."""
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(*names) -> None:
        assert path.read_bytes() == b"before" and Path(names[0]).read_bytes() == b"after"
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        checkpoint.write_atomically(path, b"after")
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


@contextlib.contextmanager
def limited_files(size: int):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(words(tmp_path / "file" / "run")) == 2
    assert "error:" in capsys.readouterr().err and (tmp_path / "file").read_text() == "in the way"


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_checkpoint(tmp_path, whole, capsys) -> None:
    assert main(words(tmp_path / "run", lr=1e30)) == 1
    assert "not finite at step" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


# -- which GPU ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_gpus(monkeypatch) -> list[str]:
    """A machine with GPUs, as far as choosing one goes; what is done is noted."""
    done = []

    def accelerator(cpu: bool = False) -> SimpleNamespace:
        done.append("cpu" if cpu else "gpu")
        return SimpleNamespace(device=torch.device(os.environ.get("ACCELERATE_TORCH_DEVICE", "cpu" if cpu else "cuda")))

    monkeypatch.setattr(accelerate, "Accelerator", accelerator)
    monkeypatch.setattr(command, "default_device", lambda: torch.device(os.environ["DIFFUTILS_DEVICE"]))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(str(device)))
    for name in ("LOCAL_RANK", "ACCELERATE_TORCH_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    return done


@pytest.mark.parametrize(
    ("named", "expected"),
    [("cuda:1", ["cuda:1", "gpu"]), ("cuda:0", ["cuda:0", "gpu"]), ("cuda", ["gpu"]), ("cpu", ["cpu"])],
)
def test_one_process_computes_on_the_gpu_that_is_named(with_gpus, monkeypatch, named, expected) -> None:
    monkeypatch.setenv("DIFFUTILS_DEVICE", named)
    command._accelerator()
    assert with_gpus == expected


def test_an_index_that_would_not_be_followed_is_refused(with_gpus, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setenv("DIFFUTILS_DEVICE", "cuda:1")
    with monkeypatch.context() as patch:
        patch.setenv("ACCELERATE_TORCH_DEVICE", "cuda:0")
        with pytest.raises(ValueError, match="DIFFUTILS_DEVICE must be .*ACCELERATE_TORCH_DEVICE.*cuda:0, got 'cuda:1'"):
            command._accelerator()
    with_gpus.clear()
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert main(words(tmp_path / "run")) == 2
    said = capsys.readouterr().err
    assert "DIFFUTILS_DEVICE must be a device without an index" in said and "CUDA_VISIBLE_DEVICES, got 'cuda:1'" in said
    assert not with_gpus and not (tmp_path / "run").exists()
    monkeypatch.setenv("DIFFUTILS_DEVICE", "cuda")
    command._accelerator()
    assert with_gpus == ["gpu"]


def test_help_says_how_a_gpu_is_chosen() -> None:
    said = " ".join(command.parser().format_help().split())
    assert "DIFFUTILS_DEVICE=cuda:1" in said and "CUDA_VISIBLE_DEVICES" in said


# -- images of one's own -----------------------------------------------------------------------------------------------


def folder_of_images(folder: Path) -> Path:
    """Three images of other sizes, kinds and depths, one of them in a folder below."""
    (folder / "below").mkdir(parents=True)
    Image.new("RGB", (20, 10), (255, 0, 0)).save(folder / "red.png")
    Image.new("L", (16, 16), 0).save(folder / "black.bmp")
    Image.new("RGBA", (9, 30), (255, 255, 255, 255)).save(folder / "below" / "white.webp", lossless=True)
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_a_folder_of_images_is_read_in_order_cropped_and_scaled(tmp_path) -> None:
    x = images.load(str(folder_of_images(tmp_path / "images")), size=8, channels=3)
    assert x.shape == (3, 3, 8, 8) and x.dtype == torch.float32
    white, black, red = x
    assert white.eq(1).all() and black.eq(-1).all() and red[0].eq(1).all() and red[1:].eq(-1).all()
    grey = images.load(str(tmp_path / "images"), size=4, channels=1)
    assert grey.shape == (3, 1, 4, 4) and grey[2].mean().item() == pytest.approx(2 * 76 / 255 - 1, abs=1e-6)


def test_the_middle_square_is_taken(tmp_path) -> None:
    wide = Image.new("L", (30, 10), 0)
    wide.paste(255, (10, 0, 20, 10))
    wide.save(tmp_path / "wide.png")
    assert images.load(str(tmp_path), size=10, channels=1).eq(1).all()


def test_a_folder_without_images_or_with_a_broken_one_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="a folder that holds images"):
        images.load(str(tmp_path), size=8, channels=3)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="broken.png"):
        images.load(str(tmp_path), size=8, channels=3)


@pytest.mark.parametrize("name", ["grey.png", "grey.tiff", "turned.tiff", "big-endian.tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_greys_of_16_bits_are_scaled_and_not_clipped(tmp_path, name, channels) -> None:
    """The greys k of 8 bits, as 257 k in 16: both are the same share of white."""
    greys = np.arange(256).reshape(16, 16)
    image, options = Image.fromarray((257 * greys).astype(np.uint16)), {}
    if name == "big-endian.tiff":
        image = Image.frombytes("I;16B", (16, 16), (257 * greys).astype(">u2").tobytes())
    if name == "turned.tiff":
        options, greys = {"exif": Image.Exif()}, greys[::-1, ::-1]
        options["exif"][0x0112] = 3
    image.save(tmp_path / name, **options)
    assert Image.open(tmp_path / name).mode == ("I;16B" if name == "big-endian.tiff" else "I;16")
    x = images.load(str(tmp_path), size=16, channels=channels)
    expected = torch.from_numpy(greys.copy()).float() / 127.5 - 1
    assert x.shape == (1, channels, 16, 16) and x.eq(expected).all()


def test_a_grey_between_those_of_8_bits_goes_to_the_nearest(tmp_path) -> None:
    Image.new("I;16", (4, 4), 257 * 7 + 129).save(tmp_path / "grey.png")
    assert images.load(str(tmp_path), size=4, channels=1).eq(8 / 127.5 - 1).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_whose_white_is_unknown_are_refused(tmp_path, mode) -> None:
    Image.new(mode, (8, 8), 1).save(tmp_path / "depth.tiff")
    with pytest.raises(ValueError, match=f"8 or 16 bits .*, got .*depth.tiff of mode '{mode}'"):
        images.load(str(tmp_path), size=8, channels=1)


def test_colour_images_are_trained_on_and_drawn(tmp_path) -> None:
    folder = folder_of_images(tmp_path / "images")
    assert main(words(tmp_path / "run", data=folder, size=8, steps=5, sample_every=5, samples=9)) == 0
    sheet = Image.open(tmp_path / "run" / "samples" / "step-00000005.png")
    assert sheet.mode == "RGB" and sheet.size == (82, 22)
    assert load_model(tmp_path / "run").shape == (3, 8, 8)
