"""The command line trainer in several processes, and which GPU it takes."""

from __future__ import annotations

import os
import re
from types import SimpleNamespace

import accelerate
import pytest
import torch
from trainer import SMALL, Alone, finished, losses_of, started, tensors_of, words

from diffutils.datasets import digits_8x8
from diffutils.train import Recipe, command
from diffutils.train.command import main
from diffutils.train.parallel import ParallelRun
from diffutils.training_run import TrainingRun

pytestmark = pytest.mark.usefixtures("on_the_cpu")


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
