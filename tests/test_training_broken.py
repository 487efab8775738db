"""What a training run leaves alone, and what is left of it when a step breaks."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from test_training import OPTIONS, Dropping, line

from diffutils.training_run import TrainingRun


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
