"""The device is chosen by what is there and by two environment variables."""

import pytest
import torch

from diffutils.device import default_device, make_generator


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv("DIFFUTILS_DEVICE", raising=False)
    monkeypatch.delenv("DIFFUTILS_REQUIRE_CUDA", raising=False)


def test_the_named_device_wins(monkeypatch):
    monkeypatch.setenv("DIFFUTILS_DEVICE", "cpu")
    assert default_device() == torch.device("cpu")


@pytest.mark.parametrize("cuda, mps, best", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_there_is(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device() == torch.device(best)


@pytest.mark.parametrize("named", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_named_in_the_error(monkeypatch, named):
    monkeypatch.setenv("DIFFUTILS_DEVICE", named)
    with pytest.raises(ValueError, match=f"DIFFUTILS_DEVICE must name a device of this machine, got '{named}'"):
        default_device()


def test_requiring_cuda_on_a_cpu_is_an_error_and_no_fallback(monkeypatch):
    monkeypatch.setenv("DIFFUTILS_REQUIRE_CUDA", "1")
    monkeypatch.setenv("DIFFUTILS_DEVICE", "cpu")
    with pytest.raises(RuntimeError, match="DIFFUTILS_REQUIRE_CUDA=1 but the device is cpu"):
        default_device()


def test_requiring_cuda_without_any_is_an_error(monkeypatch):
    monkeypatch.setenv("DIFFUTILS_REQUIRE_CUDA", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="no CUDA device was found"):
        default_device()


def test_generators_of_one_seed_agree():
    first, second = (torch.randn(4, generator=make_generator(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.randn(4, generator=make_generator(8)))


@pytest.mark.parametrize("named", ["tpu9", "cuda:99"])
def test_an_argument_that_names_no_device_is_named_in_the_error(named):
    with pytest.raises(ValueError, match=f"device must name a device of this machine, got '{named}'"):
        make_generator(0, named)


@pytest.mark.parametrize("seed", [-1, "a", 0.5, True, 2**70])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed must be an integer in 0..18446744073709551615, got"):
        make_generator(seed)
