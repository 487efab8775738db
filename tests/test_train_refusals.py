"""The command line trainer: what it refuses, and what is left where something goes wrong."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from trainer import OFTEN, SMALL, Alone, finished, folder_of_images, losses_of, started, words

from diffutils.train import CheckpointError, Recipe, checkpoint, images, load_model, session
from diffutils.train.command import main
from diffutils.train.session import Outputs, Session

pytestmark = pytest.mark.usefixtures("on_the_cpu")


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
    refused = "out must be a folder without checkpoint.pt, recipe.json, metrics.csv, or the folder of a run with --resume given"
    assert refused in capsys.readouterr().err
    assert main(words(whole, "--resume", lr=1e-3)) == 2
    assert "--lr must be 0.004, as the run began, or left out with --resume, got 0.001" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("name", ["checkpoint.pt", "recipe.json", "metrics.csv"])
@pytest.mark.parametrize("more", [(), ("--resume",)])
def test_a_file_of_someone_else_is_not_overwritten(tmp_path, capsys, name, more) -> None:
    """What a run would write over; a table without a recipe is no run's, so that --resume does not take it either."""
    (tmp_path / name).write_text("{}")
    assert main(words(tmp_path, *more)) == 2
    assert "error: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "{}"


def test_what_looks_unfinished_and_is_not_of_the_run_stays(tmp_path) -> None:
    names = ["chapter.unfinished", "checkpoint.pt.old.unfinished", "deep/checkpoint.pt.1.unfinished", "samples/a.unfinished"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("draft")
    left = [tmp_path / name for name in ("recipe.json.7.unfinished", "samples/step-00000020.png.12.unfinished")]
    for path in left:
        path.write_text("half")
    assert main(words(tmp_path, steps=5)) == 0
    assert [(tmp_path / name).read_text() for name in names] == ["draft"] * 4 and not any(path.exists() for path in left)


def test_a_run_that_ended_before_its_first_checkpoint_begins_again_with_its_own_recipe(tmp_path, whole, capsys) -> None:
    out = tmp_path / "early"
    shutil.copytree(whole, out)
    (out / checkpoint.NAME).unlink()
    assert main(["--out", str(out), "--resume", "--lr", "0.001"]) == 2
    assert "--lr must be 0.004, as the run began" in capsys.readouterr().err
    often = [word for name, value in OFTEN.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["--out", str(out), "--resume", *often]) == 0
    assert "beginning: 1,797 images of 1 x 8 x 8" in capsys.readouterr().out
    assert (out / checkpoint.RECIPE).read_text() == (whole / checkpoint.RECIPE).read_text()
    assert losses_of(out) == losses_of(whole)


@pytest.mark.parametrize("text, message", [("{", "cannot be read"), ("null", "the run's recipe must be"), ('{"data": 1}', "one with")])
def test_a_recipe_that_cannot_be_used_is_refused_and_kept(tmp_path, capsys, text, message) -> None:
    (tmp_path / checkpoint.RECIPE).write_text(text)
    assert main(words(tmp_path, "--resume")) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.RECIPE]


def test_a_run_does_not_go_on_with_other_images(tmp_path, capsys) -> None:
    folder = folder_of_images(tmp_path / "images")
    given = dict(data=folder, size=8, steps=5, sample_every=5, channels=1)
    assert main(words(tmp_path / "run", **given)) == 0
    Image.new("L", (8, 8), 200).save(folder / "another.png")
    assert main(words(tmp_path / "run", "--resume", **given)) == 2
    assert "data must be the images that the run began with" in capsys.readouterr().err


def test_a_run_goes_on_with_its_images_in_another_place(tmp_path) -> None:
    folder = folder_of_images(tmp_path / "images")
    given = dict(size=8, steps=5, sample_every=5, channels=1)
    assert main(words(tmp_path / "run", data=folder, **given)) == 0
    moved = folder.rename(tmp_path / "moved")
    assert main(words(tmp_path / "run", "--resume", data=moved, **given)) == 0
    assert checkpoint.load_recipe(tmp_path / "run")["data"] == str(moved)


@pytest.mark.parametrize("out", ["images", "images/run", "."])
def test_a_run_whose_sheets_would_be_data_is_refused(tmp_path, capsys, monkeypatch, out) -> None:
    monkeypatch.setattr(images, "_read", refuse_to_read)
    folder = folder_of_images(tmp_path / "images")
    data = folder.rename(tmp_path / "samples") if out == "." else folder
    before = sorted(tmp_path.rglob("*"))
    assert main(words(tmp_path / out, data=data, size=8)) == 2
    assert f"out must be a folder outside data = '{data}'" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


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
    with pytest.raises(CheckpointError, match="not one of this program: format must be 'diffutils.train 4'"):
        load_model(tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "photo.png")
    with pytest.raises(CheckpointError, match=r"photo.png cannot be read: .* \(not tensors and plain values alone\)"):
        load_model(tmp_path / "photo.png")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_model(tmp_path / "nothing.pt")


def test_a_checkpoint_of_another_schedule_is_refused_by_all_who_read_it(tmp_path, whole, capsys) -> None:
    """A schedule's definition may change from one version of the package to the next; its rounding may, on each machine."""
    path, message = tmp_path / "checkpoint.pt", "checkpoint.pt does not fit .* recipe: the state's schedule must be that of"

    def save_with(beta: torch.Tensor) -> None:
        state = checkpoint.load(whole / "checkpoint.pt")
        for part in ("model", "averages"):
            state["run"][part]["_extra_state"]["beta"] = beta
        checkpoint.save(path, state)

    beta = load_model(whole).schedule.beta
    for other in (beta * 1.001, beta[:-1]):
        save_with(other)
        with pytest.raises(CheckpointError, match=message):
            load_model(tmp_path)
        assert main(words(tmp_path, "--resume")) == 2
        assert re.search(message, capsys.readouterr().err)
        assert list(tmp_path.iterdir()) == [path]
    save_with(torch.nextafter(beta, torch.ones(()).double()))
    assert torch.equal(load_model(tmp_path).schedule.beta, beta)


def test_a_checkpoint_of_another_network_is_refused(tmp_path, whole) -> None:
    """A network's definition may change from one version of the package to the next, too."""
    state = checkpoint.load(whole / "checkpoint.pt")
    del state["run"]["averages"]["network.stem.weight"]
    checkpoint.save(tmp_path / "checkpoint.pt", state)
    with pytest.raises(CheckpointError, match="does not fit what this version builds of its recipe(.|\n)*network.stem.weight"):
        load_model(tmp_path)


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
    assert re.search("not finite at step .* begin a new one with another lr in another --out", capsys.readouterr().err)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
