"""One training loop for every model of the book.

A model is an ``nn.Module`` whose ``loss(x, *, generator)`` returns one number: an estimate, from a batch x, of what is
to be made small. Everything else about training is the same for a GAN, a VAE, a flow and a diffusion model, and is
written once, here: random batches, AdamW, a learning rate that warms up linearly and then follows half a cosine down
to zero, clipped gradients, and an exponential moving average of the weights,

    average <- decay * average + (1 - decay) * weights   after every step.

Home chapter: the reverse process (chapters/05_reverse_process.md).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from dataclasses import dataclass
from typing import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from diffutils.device import default_device, make_generator
from diffutils.validation import check_data, check_float, check_int, require

# The loss is looked at once per block: looking at every step would make a GPU wait for the CPU each time.
BLOCK = 50
# torch has fused AdamW kernels for these; elsewhere its default implementation is used.
FUSED_DEVICES = ("cpu", "cuda", "mps")
# Seconds of training before a bar is shown.
BAR_DELAY = 2.0


class TrainingError(RuntimeError):
    """Training stopped because the loss or its gradient was not finite."""


@dataclass(frozen=True)
class TrainingRecord:
    """What a training run leaves behind.

    Attributes:
        losses: the loss of every step, shape (steps,), on the CPU.
        seconds: wall-clock time of the loop.
        steps: number of steps made.
    """

    losses: Tensor
    seconds: float
    steps: int

    def smoothed(self, window: int = 50) -> Tensor:
        """Return the running mean of the losses over ``window`` steps, of shape (steps - window + 1,)."""
        check_int("window", window, 1, self.steps)
        return self.losses.unfold(0, window, 1).mean(dim=1)


def train(
    model: nn.Module,
    data: Tensor,
    *,
    steps: int,
    batch_size: int = 512,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    warmup: int | None = None,
    cosine: bool = True,
    clip_norm: float | None = 1.0,
    ema_decay: float | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> TrainingRecord:
    """Train ``model`` on ``data`` and leave the trained weights in it, in evaluation mode and on ``device``.

    Args:
        model: a module with ``loss(x, *, generator) -> scalar Tensor``; its trainable parameters are what is learned.
        data: all examples, shape (N, ...), held on the device and indexed there.
        steps: number of gradient steps.
        batch_size: examples per step, drawn uniformly with replacement.
        lr: the highest learning rate.
        betas: AdamW's decay rates of the gradient's first and second moments.
        weight_decay: AdamW's decoupled weight decay.
        warmup: steps of linear warm-up; None means a twentieth of ``steps``.
        cosine: follow half a cosine from lr to zero after the warm-up; otherwise stay at lr.
        clip_norm: largest allowed norm of the gradient; None does not clip.
        ema_decay: decay of the exponential moving average of weights and buffers, which the model then holds at the
            end; None keeps the last weights.
        seed: fixes the batches, the noise inside the loss and dropout. (Initial weights are the model's own affair.)
        device: where to train; None means ``default_device()``. The model is moved there.
        progress: show a bar with the loss once training has taken two seconds.

    Returns:
        The losses, the seconds and the number of steps.

    Raises:
        ValueError: if an argument is out of its range; before any work is done.
        TrainingError: (a RuntimeError) if a loss or gradient is not finite. It names the first bad step, and the
            model holds the weights of the last block of steps known to be good.

    Source: AdamW, Loshchilov & Hutter 2019; the moving average as in Ho et al. 2020, appendix B.
    """
    check_data("data", data, min_ndim=1)
    require(callable(getattr(model, "loss", None)), "model", type(model).__name__, "a module with a loss(x) method")
    parameters = [p for p in model.parameters() if p.requires_grad]
    require(len(parameters) > 0, "model", type(model).__name__, "a module with trainable parameters")
    steps = check_int("steps", steps, 1)
    check_int("batch_size", batch_size, 1)
    check_float("lr", lr, low=0.0)
    require(isinstance(betas, tuple) and len(betas) == 2, "betas", betas, "a pair of numbers in [0, 1)")
    require(all(0 <= check_float("betas", b) < 1 for b in betas), "betas", betas, "a pair of numbers in [0, 1)")
    check_float("weight_decay", weight_decay, low=0.0, inclusive=True)
    warmup = steps // 20 if warmup is None else check_int("warmup", warmup, 0, steps)
    if clip_norm is not None:
        check_float("clip_norm", clip_norm, low=0.0)
    if ema_decay is not None:
        check_float("ema_decay", ema_decay, 0.0, 1.0)
    check_int("seed", seed, 0)

    device = default_device() if device is None else torch.device(device)
    model.to(device).train()
    data = data.to(device)
    generator = make_generator(seed, device)
    optimizer = torch.optim.AdamW(
        parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=device.type in FUSED_DEVICES
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, steps, warmup, cosine))
    averaged = None
    if ema_decay is not None:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)

    losses = torch.zeros(steps, device=device)
    norms = torch.zeros(steps, device=device)
    good = _snapshot(model)
    checked = 0
    start = time.perf_counter()
    with _seeded_layers(seed, device), _bar(steps, progress) as bar:
        for step in range(steps):
            batch = data[torch.randint(len(data), (batch_size,), generator=generator, device=device)]
            loss = model.loss(batch, generator=generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norms[step] = _clip(parameters, clip_norm)
            optimizer.step()
            scheduler.step()
            if averaged is not None:
                averaged.update_parameters(model)
            losses[step] = loss.detach()
            bar.update()
            if step + 1 - checked == BLOCK or step + 1 == steps:
                _check_block(model, losses, norms, checked, step + 1, good)
                good = _snapshot(model)
                bar.set_postfix(loss=f"{losses[checked : step + 1].mean().item():.4f}", refresh=False)
                checked = step + 1
    if averaged is not None:
        _restore(model, list(_tensors(averaged.module)))
    model.eval()
    return TrainingRecord(losses.cpu(), time.perf_counter() - start, steps)


@contextlib.contextmanager
def _seeded_layers(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout draws from torch's global generators: seed them here, and leave them as they were found."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def lr_factor(step: int, steps: int, warmup: int, cosine: bool = True) -> float:
    """Return the share of the highest learning rate that is used in 0-based step ``step`` of ``steps``.

    Linear from 1 / warmup to 1 over the first ``warmup`` steps; then half a cosine that would reach zero at ``steps``.
    """
    if step < warmup:
        return (step + 1) / warmup
    if not cosine:
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _clip(parameters: list[nn.Parameter], clip_norm: float | None) -> Tensor:
    """Clip the gradient's norm in place and return what it was before, without waiting for the device."""
    return nn.utils.clip_grad_norm_(parameters, math.inf if clip_norm is None else clip_norm)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


def _snapshot(model: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in _tensors(model)]


@torch.no_grad()
def _restore(model: nn.Module, values: list[Tensor]) -> None:
    for mine, value in zip(_tensors(model), values, strict=True):
        # an average of counters means nothing: integer buffers stay as they are
        if mine.is_floating_point():
            mine.copy_(value)


def _check_block(
    model: nn.Module, losses: Tensor, norms: Tensor, start: int, stop: int, good: list[Tensor]
) -> None:
    """Raise ``TrainingError`` if a loss or gradient of steps start..stop-1 (0-based) was not finite."""
    bad_loss = ~torch.isfinite(losses[start:stop])
    bad = bad_loss | ~torch.isfinite(norms[start:stop])
    if not bool(bad.any()):
        return
    first = int(bad.int().argmax())
    _restore(model, good)
    what = "loss" if bool(bad_loss[first]) else "gradient"
    held = f"after step {start}" if start else "before training"
    raise TrainingError(
        f"the {what} is not finite at step {start + first + 1} of {len(losses)}; "
        f"the model holds its weights from {held}. Try a smaller lr, and look for NaN or huge values in the loss."
    )


def _bar(steps: int, progress: bool) -> tqdm:
    # tqdm reads TQDM_DISABLE and TQDM_MININTERVAL only for arguments that are not given, so none is given needlessly
    options = {} if progress else {"disable": True}
    return tqdm(total=steps, desc="training", unit="step", delay=BAR_DELAY, **options)
