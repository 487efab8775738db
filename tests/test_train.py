"""The command line trainer: what it writes, and that a run goes on as if it had not been ended."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import pytest
import torch
from PIL import Image
from trainer import SMALL, environment, finished, losses_of, started, tensors_of, words

from diffutils.datasets import digits_8x8
from diffutils.device import make_generator
from diffutils.models.ddpm import DDPM
from diffutils.samplers import DDIM
from diffutils.schedule import Schedule
from diffutils.train import Recipe, checkpoint, images, load_model
from diffutils.train.command import main
from diffutils.train.parallel import ParallelRun
from diffutils.training import train
from diffutils.unet import UNet

pytestmark = pytest.mark.usefixtures("on_the_cpu")


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
    assert all(map(torch.equal, model.parameters(), loaded.parameters()))
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


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path, capsys) -> None:
    """The second is refused, whether it would go on or begin; a run that was killed holds its folder no longer."""
    out, steps = tmp_path / "run", dict(steps=300, sample_every=50)
    first = in_a_process_of_its_own(words(out, **steps))
    while not (out / "checkpoint.pt").exists():
        time.sleep(0.001)
    assert main(words(out, "--resume", **steps)) == 2 and first.is_alive()
    assert "out must be a folder in which no other process trains" in capsys.readouterr().err
    first.kill()
    first.join()
    assert main(words(out, "--resume", **steps)) == 0 and not (out / "checkpoint.pt.lock").exists()
    assert [row[0] for row in losses_of(out)[1:]] == [str(step) for step in range(5, 301, 5)]


def test_a_run_does_not_go_back_behind_what_another_process_made_while_it_began(tmp_path, whole, monkeypatch, capsys) -> None:
    """One whose checkpoint was read before the other ended, and one that found an empty folder."""
    build = Recipe.build

    def slowly(*arguments) -> DDPM:
        shutil.copytree(whole, tmp_path / "run", dirs_exist_ok=True)
        return build(*arguments)

    assert main(words(tmp_path / "run", steps=5, sample_every=100)) == 0
    early = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    for more in ((), ("--resume",)):
        shutil.rmtree(tmp_path / "run")
        if more:
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "checkpoint.pt").write_bytes(early)
        with monkeypatch.context() as patch:
            patch.setattr(Recipe, "build", slowly)
            assert main(words(tmp_path / "run", *more, steps=5, sample_every=100)) == 2
        assert "out must be a folder in which no other process trained meanwhile" in capsys.readouterr().err
        assert losses_of(tmp_path / "run") == losses_of(whole)


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


def test_a_sheet_is_written_though_its_folder_was_removed(tmp_path, monkeypatch) -> None:
    save = checkpoint.save

    def saved(*arguments) -> None:
        save(*arguments)
        shutil.rmtree(tmp_path / "run" / "samples", ignore_errors=True)

    monkeypatch.setattr(checkpoint, "save", saved)
    assert main(words(tmp_path / "run", steps=10, checkpoint_every=5, sample_every=5)) == 0
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir()] == ["step-00000010.png"]


def test_a_sheet_takes_no_more_steps_than_there_are(tmp_path) -> None:
    assert main(["--out", str(tmp_path / "run"), "--timesteps", "3", "--width", "8", "--steps", "2", "--samples", "1"]) == 0
    assert (tmp_path / "run" / "samples" / "step-00000002.png").exists()


def test_a_run_that_is_done_does_nothing_more(whole, capsys) -> None:
    state = (whole / "checkpoint.pt").read_bytes()
    assert main(words(whole, "--resume")) == 0
    assert "nothing to do" in capsys.readouterr().out and (whole / "checkpoint.pt").read_bytes() == state
