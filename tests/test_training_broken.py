"""What a training run leaves alone, and what is left of it when a step breaks."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from test_training import OPTIONS, Dropping, Regression, Stopping, all_of, line, stopped_at
from torch import Tensor

from diffutils.datasets import two_moons
from diffutils.models.flows import Glow
from diffutils.training_run import TrainingError, TrainingRun

GENERATORS = ("manual_seed", "manual_seed_all", "get_rng_state", "set_rng_state")


@pytest.fixture
def accelerators(monkeypatch) -> dict[str, mock.MagicMock]:
    """Note what is asked of CUDA's and of MPS's global generators, and do nothing of it."""
    mocks = {name: mock.MagicMock() for name in ("cuda", "mps")}
    for name, noted in mocks.items():
        noted.get_rng_state.return_value = torch.full((16,), 7, dtype=torch.uint8)
        for function in (*GENERATORS, "device"):
            monkeypatch.setattr(getattr(torch, name), function, getattr(noted, function), raising=False)
    return mocks


def asked_of(noted: mock.MagicMock) -> list[str]:
    """The functions that change a generator, in the order in which they were called."""
    return [name for name, _, _ in noted.mock_calls if name in GENERATORS and name != "get_rng_state"]


def test_a_run_on_the_processor_leaves_the_generators_of_all_else_alone(accelerators) -> None:
    run = TrainingRun(Dropping(), line(), **OPTIONS)
    with run._seeded_layers():
        drawn = torch.rand(5)
    assert torch.equal(drawn, torch.rand(5, generator=torch.Generator().manual_seed(OPTIONS["seed"])))
    assert [asked_of(noted) for noted in accelerators.values()] == [[], []]


@pytest.mark.parametrize(("own", "other"), [("cuda", "mps"), ("mps", "cuda")])
def test_a_run_on_an_accelerator_seeds_that_one_alone_and_puts_it_back(accelerators, own, other) -> None:
    run, before = TrainingRun(Dropping(), line(), **OPTIONS), torch.get_rng_state()
    run.device, noted = torch.device(own), accelerators[own]
    with run._seeded_layers():
        noted.manual_seed.assert_called_once_with(OPTIONS["seed"])
        torch.rand(5)
    assert asked_of(noted) == ["manual_seed", "set_rng_state"] and asked_of(accelerators[other]) == []
    assert torch.equal(noted.set_rng_state.call_args.args[0], noted.get_rng_state.return_value)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("own", ["cuda", "mps"])
def test_a_run_that_goes_on_puts_its_accelerators_generator_where_it_was(accelerators, own) -> None:
    run = TrainingRun(Dropping(), line(), **OPTIONS)
    run.device, noted = torch.device(own), accelerators[own]
    run._layers_state = {"cpu": torch.get_rng_state(), own: torch.full((16,), 9, dtype=torch.uint8)}
    with run._seeded_layers():
        assert torch.equal(noted.set_rng_state.call_args.args[0], run._layers_state[own])
    noted.manual_seed.assert_not_called()


# -- a run that breaks -------------------------------------------------------------------------------------------------


class Breaking(Dropping):
    """Its loss is NaN in the call ``break_at``; it counts its calls in a buffer."""

    def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        self.calls += 1
        loss = super().loss(x, generator=generator)
        return loss * torch.nan if int(self.calls) == self.break_at else loss


def broken_at(step: int, model: Regression, **options) -> tuple[TrainingRun, dict]:
    """Return a run that broke at a step, and a copy of its state after the block before that one."""
    run, states = TrainingRun(model, line(noise=1.0), **{**OPTIONS, **options}), []
    with pytest.raises(TrainingError, match=f"not finite at step {step} of 90; .* from after step {(step - 1) // 10 * 10}"):
        run.advance(after_block=lambda run: states.append(copy.deepcopy(run.state_dict())))
    return run, states[-1]


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("step", [11, 15, 40])
def test_a_run_that_broke_holds_the_last_good_block_and_no_more(step, ema_decay) -> None:
    run, good = broken_at(step, Breaking(step), ema_decay=ema_decay)
    last = (step - 1) // 10 * 10
    whole = stopped_at(last, Breaking(), ema_decay=ema_decay)
    assert run.step == whole.step == last == int(run.model.calls)
    assert all(map(torch.equal, all_of(run), all_of(whole)))
    assert all(torch.equal(value, good["model"][name]) for name, value in run.model.state_dict().items())


def test_a_run_that_broke_refuses_to_go_on_until_a_good_state_is_put_back() -> None:
    run, good = broken_at(15, Breaking(15))
    before = [value.clone() for value in all_of(run)]
    for refused in (run.advance, run.state_dict):
        with pytest.raises(TrainingError, match="load_state_dict must put a good state back .* step 15 of 90"):
            refused()
    assert all(map(torch.equal, before, all_of(run)))
    run.model.break_at = None
    run.load_state_dict(good)
    run.advance()
    whole = TrainingRun(Breaking(), line(noise=1.0), **OPTIONS)
    whole.advance()
    assert run.step == 90 and all(map(torch.equal, all_of(run), all_of(whole)))


def test_a_run_that_broke_stays_broken_if_no_state_could_be_put_back() -> None:
    run, good = broken_at(15, Breaking(15))
    with pytest.raises(RuntimeError, match="weight"):
        run.load_state_dict({**good, "model": {}})
    with pytest.raises(TrainingError, match="step 15 of 90"):
        run.advance()


def test_a_stop_asked_for_in_a_step_that_broke_does_not_stop_what_comes_later() -> None:
    run, states = TrainingRun(Stopping(15), line(), **OPTIONS), []
    run.model.stop_at(15, run)
    with pytest.raises(TrainingError, match="step 15 of 90"):
        run.advance(after_block=lambda run: states.append(copy.deepcopy(run.state_dict())))
    run.model.break_at = run.model.call = None
    run.load_state_dict(states[-1])
    run.advance()
    assert run.step == 90


def test_a_flow_whose_first_block_broke_starts_from_the_first_batch_of_the_next_run() -> None:
    class BreakingGlow(Glow):
        def loss(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
            return super().loss(x, generator=generator) * torch.nan

    flow = BreakingGlow(2, steps=2, hidden=8)
    run = TrainingRun(flow, two_moons(200, seed=0), steps=5, ema_decay=0.9, device="cpu")
    with pytest.raises(TrainingError, match="before training"):
        run.advance()
    first = flow.layers[0]
    for layer in (first, run.averaged.layers[0]):
        assert not layer.started and torch.equal(layer.shift, torch.zeros(2))
    batch = 7.0 + two_moons(100, seed=1)
    flow.loss(batch)
    torch.testing.assert_close(first.shift, batch.mean(dim=0))


def test_a_state_of_fewer_steps_leaves_no_later_losses() -> None:
    run = stopped_at(30, Dropping())
    run.load_state_dict(stopped_at(10, Dropping()).state_dict())
    for values in (run.losses, run.norms):
        assert (values[:10] > 0).all() and torch.equal(values[10:], torch.zeros(80))
