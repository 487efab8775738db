"""What all models that remove noise share: what their network predicts, and a state that says what it is good for."""

from __future__ import annotations

import copy

import pytest
import torch

from diffutils.models.ddpm import DDPM
from diffutils.models.dpm import DPM
from diffutils.models.ncsn import NCSN
from diffutils.networks import MLP
from diffutils.schedule import Schedule

SCHEDULE = Schedule.cosine(10)
KINDS = pytest.mark.parametrize("kind", [DDPM, NCSN])


@KINDS
def test_what_the_network_says_that_it_predicts_is_believed_and_not_overruled(kind) -> None:
    network, usual = MLP(2), "eps" if kind is DDPM else "v"
    assert kind(network, SCHEDULE).prediction == usual
    network.prediction = "x0"
    assert kind(network, SCHEDULE).prediction == kind(network, SCHEDULE, "x0").prediction == "x0"
    with pytest.raises(ValueError, match="prediction must be 'x0', as the network says, got 'eps'"):
        kind(network, SCHEDULE, "eps")


def small(kind, seed: int = 0, **other):
    """A model whose networks differ with the seed."""
    outputs = 4 if kind is DPM else None
    return kind(**{"network": MLP(2, width=4, depth=1, outputs=outputs, seed=seed), "schedule": SCHEDULE, **other})


@pytest.mark.parametrize("kind", [DDPM, DPM, NCSN])
def test_a_state_goes_through_a_file_into_a_model_of_its_kind(kind, tmp_path) -> None:
    torch.save(small(kind, seed=1).state_dict(), tmp_path / "model.pt")
    model = small(kind)
    assert not torch.equal(model.network.first.weight, small(kind, seed=1).network.first.weight)
    model.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert all(map(torch.equal, model.parameters(), small(kind, seed=1).parameters()))


def respaced_and_trained_so() -> Schedule:
    """A schedule with the betas of SCHEDULE whose network is told other times."""
    return Schedule(SCHEDULE.beta[1:], timesteps=2 * SCHEDULE.timesteps[1:])


OTHERS = [
    (dict(schedule=Schedule.linear(10, 1e-4, 0.4)), "the state's schedule must be that of this model, .* got 'T = 10, beta_T = "),
    (dict(schedule=Schedule.cosine(11)), "the state's schedule must be that of this model, .* got 'T = 11, beta_T = "),
    (dict(schedule=respaced_and_trained_so()), "the state's schedule must be"),
    (dict(prediction="x0"), "the state's prediction must be '.*', got 'x0'"),
]


@KINDS
@pytest.mark.parametrize(("other", "message"), OTHERS, ids=str)
def test_weights_for_another_purpose_are_refused_before_any_is_put_in(kind, other, message) -> None:
    model = small(kind)
    before = copy.deepcopy(list(model.parameters()))
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(small(kind, seed=1, **other).state_dict())
    assert all(map(torch.equal, model.parameters(), before))


def test_outputs_with_a_variance_are_not_taken_for_those_with_another() -> None:
    free = small(DPM)
    ranged = DDPM(MLP(2, width=4, depth=1, outputs=4), SCHEDULE, "v", variance_output="range")
    with pytest.raises(ValueError, match="the state's variance_output must be 'range', got 'free'"):
        ranged.load_state_dict(free.state_dict())


def test_a_rounding_of_the_schedule_is_no_other_schedule() -> None:
    state = small(DDPM).state_dict()
    state["_extra_state"]["beta"] = torch.nextafter(SCHEDULE.beta, torch.ones(()).double())
    small(DDPM).load_state_dict(state)


def test_weights_that_do_not_say_what_they_are_for_are_refused() -> None:
    state = small(DDPM).state_dict()
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match="_extra_state"):
        small(DDPM).load_state_dict(state)


@pytest.mark.parametrize("state", [{}, None, {"prediction": "eps"}])
def test_a_state_without_what_it_is_for_is_refused_by_name(state) -> None:
    model = small(DDPM)
    with pytest.raises(ValueError, match="the state's _extra_state must be .* prediction, variance_output, beta"):
        model.load_state_dict({**model.state_dict(), "_extra_state": state})


@pytest.mark.parametrize("kind", [DDPM, DPM, NCSN])
def test_what_a_loss_cannot_take_is_named(kind) -> None:
    model, x = small(kind), torch.zeros(4, 2)
    for wrong, message in ((x.numpy(), "x must be a torch.Tensor"), (x.double(), r"x.dtype must be .*x.to\(torch.float32")):
        for call in (model.loss, getattr(model, "bound", model.loss)):
            with pytest.raises(ValueError, match=message):
                call(wrong)
    with pytest.raises(ValueError, match="generator must be a torch.Generator or None, got 'int'"):
        model.loss(x, generator=0)


@KINDS
def test_a_loss_looked_at_in_inference_mode_does_not_spoil_training(kind) -> None:
    model = kind(MLP(2, width=4, depth=1), Schedule.geometric(5, 0.1, 2.0))
    with torch.inference_mode():
        model.loss(torch.zeros(4, 2))
    model.loss(torch.zeros(4, 2)).backward()
