"""The training loop: what it computes, step by step, what it refuses, and what it does when a loss breaks."""

from __future__ import annotations

import copy
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from diffutils.device import make_generator
from diffutils.training import TrainingRecord, train
from diffutils.training_run import BLOCK, TrainingError, TrainingRun, lr_factor


class Regression(nn.Module):
    """Fits y = w x + b to pairs (x, y): a convex loss with a known minimum. Breaks at call ``break_at`` if asked to."""

    def __init__(self, break_at: int | None = None, how: str = "loss") -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.register_buffer("running", torch.zeros(1))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.break_at, self.how, self.history = break_at, how, []

    def loss(self, x: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        self.calls += 1
        self.history.append((self.weight.item(), self.bias.item()))
        self.running = self.running + 1.0
        loss = (self.weight * x[:, 0] + self.bias - x[:, 1]).square().mean()
        if self.break_at is not None and int(self.calls) == self.break_at:
            # the square root's slope at 0 is infinite: a finite loss with a gradient that is not
            return loss * math.nan if self.how == "loss" else loss + (0.0 * self.weight).sqrt().sum()
        return loss


def line(n: int = 400, noise: float = 0.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=generator)
    return torch.stack([x, 2 * x - 1 + noise * torch.randn(n, generator=generator)], dim=1)


def run(model: nn.Module, data: torch.Tensor | None = None, **options) -> TrainingRecord:
    defaults = {"steps": 120, "batch_size": 64, "lr": 0.05, "device": "cpu", "progress": False}
    return train(model, line() if data is None else data, **{**defaults, **options})


def test_it_finds_the_minimum() -> None:
    model = Regression()
    record = run(model, steps=600)
    assert model.weight.item() == pytest.approx(2, abs=1e-2)
    assert model.bias.item() == pytest.approx(-1, abs=1e-2)
    assert record.losses.shape == (600,) and record.steps == 600 and record.seconds > 0
    assert record.losses[-1] < 1e-3 < record.losses[0]
    assert not model.training


def test_it_is_the_plain_loop_written_out() -> None:
    """Batches, clipping, AdamW, warm-up, cosine and average, against a loop without any of the package's parts."""
    model, plain, data = Regression(), Regression(), line(noise=0.5)
    record = run(model, data, steps=70, warmup=10, clip_norm=0.3, ema_decay=0.9, weight_decay=0.1, seed=5)
    generator = torch.Generator().manual_seed(5)
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in plain.parameters()}
    average, losses = None, []
    for k in range(1, 71):
        batch = data[torch.randint(len(data), (64,), generator=generator)]
        loss = plain.loss(batch)
        grads = torch.autograd.grad(loss, list(plain.parameters()))
        norm = math.sqrt(sum(float(g.square().sum()) for g in grads))
        rate = 0.05 * (k / 10 if k <= 10 else 0.5 * (1 + math.cos(math.pi * (k - 11) / 60)))
        with torch.no_grad():
            for p, g in zip(plain.parameters(), grads, strict=True):
                g = g * min(1.0, 0.3 / (norm + 1e-6))
                m, v = moments[p]
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                p.mul_(1 - rate * 0.1).sub_(rate * (m / (1 - 0.9**k)) / ((v / (1 - 0.999**k)).sqrt() + 1e-8))
        now = torch.cat([p.detach() for p in plain.parameters()])
        average = now if average is None else 0.9 * average + 0.1 * now
        losses.append(loss.item())
    torch.testing.assert_close(record.losses, torch.tensor(losses), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([p.detach() for p in model.parameters()]), average, rtol=1e-4, atol=1e-5)


def test_the_average_takes_float_buffers_and_leaves_counters() -> None:
    model = Regression()
    run(model, steps=40, ema_decay=0.5)
    assert int(model.calls) == 40
    # average of 1, 2, ... with decay 1/2 after n steps: n - 1 + 2^-(n-1)
    assert model.running.item() == pytest.approx(39.0, abs=1e-4)


def test_without_the_average_the_last_weights_stay() -> None:
    model = Regression()
    run(model, steps=40)
    assert model.running.item() == 40.0


def test_learning_rate() -> None:
    factors = [lr_factor(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1) and factors[10] == pytest.approx(1)
    assert factors[55] == pytest.approx(0.5) and 0 < factors[99] < 1e-3
    assert all(a >= b for a, b in zip(factors[10:], factors[11:], strict=False))
    assert lr_factor(99, 100, 10, cosine=False) == 1.0
    assert lr_factor(0, 1, 0) == 1.0 and lr_factor(4, 5, 5) == 1.0


def test_the_seed_alone_decides() -> None:
    models = [Regression() for _ in range(3)]
    data = line(noise=1.0)
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(int(torch.randint(1000, ())))
        run(model, data, seed=seed)
    assert torch.equal(models[0].weight, models[1].weight)
    assert not torch.equal(models[0].weight, models[2].weight)


def test_data_and_global_generator_are_left_alone() -> None:
    data = line()
    copy_of_data, state = data.clone(), torch.get_rng_state()
    run(Regression(), data)
    assert torch.equal(data, copy_of_data) and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("step", [1, 3, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 20])
def test_a_broken_step_is_named_and_good_weights_are_kept(step: int, how: str) -> None:
    model = Regression(step, how)
    with pytest.raises(TrainingError, match=f"the {how} is not finite at step {step} of 120"):
        run(model)
    good_steps = (step - 1) // BLOCK * BLOCK
    assert (model.weight.item(), model.bias.item()) == model.history[good_steps]
    assert len(set(model.history[: good_steps + 1])) == good_steps + 1
    assert issubclass(TrainingError, RuntimeError)


@pytest.mark.parametrize("error", [TrainingError, KeyboardInterrupt])
def test_whatever_ends_the_loop_the_model_holds_its_averages_and_is_ready_for_use(error) -> None:
    class Ending(Regression):
        def loss(self, x: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
            if int(self.calls) == BLOCK + 10 and error is KeyboardInterrupt:
                raise error
            return super().loss(x, generator=generator)

    model = Ending(BLOCK + 11)
    with pytest.raises(error):
        run(model, ema_decay=0.9)
    made = BLOCK if error is TrainingError else BLOCK + 10
    whole = TrainingRun(Regression(), line(), steps=120, batch_size=64, lr=0.05, ema_decay=0.9, device="cpu", block=10)
    whole.advance(after_block=lambda run: run.stop() if run.step == made else None)
    assert not model.training and torch.equal(model.weight, whole.averaged.weight)
    assert not torch.equal(model.weight, whole.model.weight)


def test_the_message_says_which_weights_are_held() -> None:
    with pytest.raises(RuntimeError, match="its weights from before training"):
        run(Regression(2))
    with pytest.raises(RuntimeError, match=f"its weights from after step {BLOCK}"):
        run(Regression(BLOCK + 2))


BAD = [
    {"steps": 0}, {"steps": 2.5}, {"steps": True}, {"batch_size": 0}, {"lr": 0.0}, {"lr": math.nan}, {"lr": -1.0},
    {"warmup": 121}, {"warmup": -1}, {"clip_norm": 0.0}, {"ema_decay": 1.0}, {"ema_decay": 0.0}, {"seed": -1},
    {"weight_decay": -0.1}, {"betas": (1.0, 0.9)}, {"betas": 0.9}, {"lr": "1e-3"}, {"lr": True}, {"cosine": "no"},
    {"betas": ("0.9", "0.99")}, {"device": "tpu9"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_it_refuses_bad_arguments_before_any_work(wrong: dict) -> None:
    model = Regression()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        run(model, **wrong)
    assert int(model.calls) == 0


@pytest.mark.parametrize(
    "data",
    [torch.zeros(4, 2, dtype=torch.uint8), torch.zeros(0, 2), torch.tensor([[1.0, math.inf]]), [[1.0, 2.0]],
     torch.zeros(4, 2, dtype=torch.float64)],
)  # fmt: skip
def test_it_refuses_bad_data(data) -> None:
    with pytest.raises(ValueError, match="data"):
        run(Regression(), data)


def test_it_refuses_a_model_without_loss_or_weights() -> None:
    with pytest.raises(ValueError, match="loss"):
        run(nn.Linear(1, 1))
    for loss in (3, lambda x: x.mean(), lambda *, generator: 0.0):
        model = Regression()
        model.loss = loss
        with pytest.raises(ValueError, match=r"model must be a module with a method loss\(x, \*, generator\), got 'Reg"):
            run(model)
    frozen = Regression().requires_grad_(False)
    with pytest.raises(ValueError, match="trainable"):
        run(frozen)


@pytest.mark.parametrize(("loss", "found"), [(lambda x, *, generator: x[:, :1], r"torch.Size\(\[64, 1\]\)"),
                                             (lambda x, *, generator: 3.0, "3.0")])  # fmt: skip
def test_it_refuses_a_loss_that_is_not_one_number(loss, found) -> None:
    model = Regression()
    model.loss = loss
    with pytest.raises(ValueError, match=f"model.loss must be one number, such as the mean over the batch, got {found}"):
        run(model)


def test_frozen_weights_stay() -> None:
    model = Regression()
    model.bias.requires_grad_(False)
    run(model)
    assert model.bias.item() == 0 and model.weight.item() != 0


def bar_of_a_run(progress: bool, delay: float) -> str:
    """What training prints in a process of its own: tqdm reads its environment once, when it is imported."""
    script = (
        "import torch, diffutils.training_run as training_run; from tests.test_training import Regression, run;"
        f"training_run.BAR_DELAY = {delay}; run(Regression(), progress={progress})"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TQDM_")}
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True).stderr


def test_the_bar_shows_the_loss() -> None:
    shown = bar_of_a_run(progress=True, delay=0.0)
    assert "training" in shown and "loss=" in shown


@pytest.mark.parametrize(("progress", "delay"), [(False, 0.0), (True, 60.0)])
def test_no_bar_is_shown_when_unwanted_or_for_a_short_run(progress, delay) -> None:
    assert bar_of_a_run(progress, delay) == ""


def test_smoothed_losses() -> None:
    record = TrainingRecord(torch.arange(5.0), 1.0, 5)
    torch.testing.assert_close(record.smoothed(3), torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="window"):
        record.smoothed(6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_step_waits_for_the_gpu() -> None:
    """torch is told to raise at the first synchronisation: that must be the check at the end of the first block."""
    seen = []

    class Quiet(Regression):
        def loss(self, x, *, generator=None):
            torch.cuda.set_sync_debug_mode("error")
            seen.append(x.shape)
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            return (self.weight * noise[:, 0] + self.bias - x[:, 1]).square().mean()

    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            train(Quiet(), line(), steps=2 * BLOCK, device="cuda", progress=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(seen) == BLOCK


def test_generator_is_on_the_training_device() -> None:
    seen = []

    class Spy(Regression):
        def loss(self, x, *, generator=None):
            seen.append((x.device.type, generator.device.type))
            return super().loss(x)

    run(Spy(), steps=2)
    assert seen == [("cpu", "cpu")] * 2
    assert make_generator(0).device.type == "cpu"


# -- a run that stops and goes on --------------------------------------------------------------------------------------


class Dropping(Regression):
    """A regression whose loss draws from the run's generator and, for dropout, from torch's own."""

    def loss(self, x: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        noise = torch.randn(len(x), generator=generator)
        weight = nn.functional.dropout(self.weight.expand(len(x)), 0.5, training=self.training)
        self.running = self.running + noise.mean()
        return (weight * x[:, 0] + self.bias - x[:, 1] + 0.1 * noise).square().mean()


OPTIONS = dict(steps=90, batch_size=16, lr=0.05, ema_decay=0.9, weight_decay=0.1, seed=3, device="cpu", block=10)


def all_of(run: TrainingRun) -> list[torch.Tensor]:
    models = [run.model] if run.averaged is None else [run.model, run.averaged]
    return [run.losses, run.norms, *(value for model in models for value in model.state_dict().values())]


def stopped_at(step: int, model: nn.Module, **options) -> TrainingRun:
    run = TrainingRun(model, line(noise=1.0), **{**OPTIONS, **options})
    run.advance(after_block=lambda run: run.stop() if run.step >= step else None)
    return run


@pytest.mark.parametrize("step", [10, 40, 80])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_run_goes_on_bit_for_bit_in_another_object(step, ema_decay) -> None:
    whole = TrainingRun(Dropping(), line(noise=1.0), **{**OPTIONS, "ema_decay": ema_decay})
    whole.advance()
    first = stopped_at(step, Dropping(), ema_decay=ema_decay)
    assert first.step == step
    state = {name: value for name, value in first.state_dict().items()}
    second = TrainingRun(Dropping(), line(noise=1.0), **{**OPTIONS, "ema_decay": ema_decay})
    second.load_state_dict(state)
    assert second.step == step
    torch.manual_seed(99)  # what was drawn between the two must not matter
    second.advance()
    assert second.step == 90 and (second.averaged is None) == (ema_decay is None)
    assert all(map(torch.equal, all_of(whole), all_of(second)))


def test_a_run_goes_on_in_the_same_object() -> None:
    whole = TrainingRun(Dropping(), line(noise=1.0), **OPTIONS)
    whole.advance()
    parts = stopped_at(30, Dropping())
    parts.advance()
    assert parts.step == 90 and all(map(torch.equal, all_of(whole), all_of(parts)))


def test_a_run_can_be_stopped_within_a_block() -> None:
    run = TrainingRun(Stopping(), line(), **OPTIONS)
    run.model.stop_at(13, run)
    run.advance()
    assert run.step == 13 and run.state_dict()["losses"].shape == (13,)
    run.advance()
    assert run.step == 90


class Stopping(Regression):
    """Stops its own run while a step is made, as a signal would."""

    def stop_at(self, call: int, run: TrainingRun) -> None:
        self.call, self.run = call, [run]

    def loss(self, x: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        if int(self.calls) + 1 == self.call:
            self.run[0].stop()
        return super().loss(x)


def test_the_loop_of_a_run_is_train() -> None:
    run = TrainingRun(Regression(), line(noise=1.0), **OPTIONS)
    run.advance()
    model = Regression()
    record = train(model, line(noise=1.0), **{k: v for k, v in OPTIONS.items() if k != "block"}, progress=False)
    assert torch.equal(record.losses, run.losses) and torch.equal(model.weight, run.averaged.weight)


def test_a_state_that_does_not_fit_is_refused() -> None:
    state = stopped_at(50, Dropping()).state_dict()
    with pytest.raises(ValueError, match=r"state\['step'\] must be an integer in 0..40, got 50"):
        TrainingRun(Dropping(), line(), **{**OPTIONS, "steps": 40}).load_state_dict(state)
    del state["optimizer"]
    with pytest.raises(ValueError, match="state must be what state_dict returns; it lacks optimizer"):
        TrainingRun(Dropping(), line(), **OPTIONS).load_state_dict(state)


OTHER = [
    ("steps", 100, "100, got 90"), ("batch_size", 8, "8, got 16"), ("lr", 0.1, "0.1, got 0.05"),
    ("betas", (0.5, 0.9), "(0.5, 0.9), got (0.9, 0.999)"), ("weight_decay", 0, "0.0, got 0.1"), ("warmup", 7, "7, got 4"),
    ("cosine", False, "False, got True"), ("clip_norm", None, "inf, got 1.0"), ("ema_decay", None, "None, got 0.9"),
    ("ema_decay", 0.8, "0.8, got 0.9"), ("seed", 4, "4, got 3"), ("precision", "bfloat16", "'bfloat16', got 'float32'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "both"), OTHER)
def test_a_state_of_other_arguments_is_refused_and_changes_nothing(name, value, both) -> None:
    state = stopped_at(50, Dropping()).state_dict()
    other = TrainingRun(Dropping(), line(), **{**OPTIONS, name: value})
    before = [value.clone() for value in all_of(other)]
    with pytest.raises(ValueError, match=f"the state's {name} must be this run's, {re.escape(both)}$"):
        other.load_state_dict(state)
    assert other.step == 0 and all(map(torch.equal, before, all_of(other)))


def test_a_state_of_other_data_or_frozen_weights_is_refused() -> None:
    state, frozen = stopped_at(50, Dropping()).state_dict(), Dropping()
    frozen.bias.requires_grad_(False)
    for model, data, message in ((Dropping(), line(399), r"data.shape must be this run's, \(399, 2\), got \(400, 2\)"),
                                 (frozen, line(), r"frozen must be this run's, \['bias'\], got \[\]")):  # fmt: skip
        with pytest.raises(ValueError, match=f"the state's {message}"):
            TrainingRun(model, data, **OPTIONS).load_state_dict(state)


@pytest.mark.parametrize("part", ["model", "averages", "optimizer"])
def test_a_state_with_a_part_that_does_not_fit_leaves_the_run_as_it_was(part) -> None:
    state, run = stopped_at(50, Dropping()).state_dict(), TrainingRun(Dropping(), line(), **OPTIONS)
    before = [value.clone() for value in all_of(run)]
    wrong = {"model": {"bias": torch.ones(1)}, "averages": {"bias": torch.ones(1)}, "optimizer": {"param_groups": []}}
    with pytest.raises((RuntimeError, ValueError, KeyError)):
        run.load_state_dict({**state, part: wrong[part]})
    assert run.step == 0 and all(map(torch.equal, before, all_of(run)))


def test_without_a_cosine_a_run_may_go_on_for_more_steps() -> None:
    options = {**OPTIONS, "cosine": False, "warmup": 5}
    longer = TrainingRun(Dropping(), line(noise=1.0), **{**options, "steps": 120})
    longer.load_state_dict(stopped_at(90, Dropping(), **options).state_dict())
    longer.advance()
    whole = TrainingRun(Dropping(), line(noise=1.0), **{**options, "steps": 120})
    whole.advance()
    assert longer.step == 120 and all(map(torch.equal, all_of(whole), all_of(longer)))


def test_a_state_stays_as_it_is_while_the_run_that_loaded_it_goes_on() -> None:
    state = copy.deepcopy(stopped_at(50, Dropping()).state_dict())
    runs = [TrainingRun(Dropping(), line(noise=1.0), **OPTIONS) for _ in range(2)]
    for run in runs:
        run.load_state_dict(state)
        run.advance()
    assert all(map(torch.equal, *map(all_of, runs)))
    assert state["optimizer"]["state"][0]["step"] == 50


# -- options for speed -------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """A model around a network, which notes the dtype of its products."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.seen = nn.Linear(1, 1), []

    def loss(self, x: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        y = self.network(x[:, :1])
        self.seen.append(y.dtype)
        return (y - x[:, 1:]).square().mean()


def test_bfloat16_is_used_for_products_and_for_nothing_else() -> None:
    plain, rounded = Network(), Network()
    rounded.load_state_dict(plain.state_dict())
    records = [run(m, precision=p, steps=400) for m, p in ((plain, "float32"), (rounded, "bfloat16"))]
    assert set(plain.seen) == {torch.float32} and set(rounded.seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in rounded.parameters()) and records[1].losses.dtype == torch.float32
    assert not torch.equal(records[0].losses, records[1].losses)
    # 8 significant bits: half a unit in the last place is 2^-9 of a value, and a mean over 64 gains digits
    assert rounded.network.weight.item() == pytest.approx(plain.network.weight.item(), rel=2**-7)


@pytest.mark.parametrize("wrong", [{"precision": "float16"}, {"compile_mode": "fast"}])
def test_unknown_options_for_speed_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        run(Regression(), **wrong)
