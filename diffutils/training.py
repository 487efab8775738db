"""One training loop for every model of the book.

A model is an ``nn.Module`` whose ``loss(x, *, generator)`` returns one number: an estimate, from a batch x, of what is
to be made small. Everything else about training is the same for a GAN, a VAE, a flow and a diffusion model, and is
written once, here: random batches, AdamW, a learning rate that warms up linearly and then follows half a cosine down
to zero, clipped gradients, and an exponential moving average of the weights,

    average <- decay * average + (1 - decay) * weights   after every step.

Home chapter: the reverse process (chapters/05_reverse_process.md).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffutils.training_run import TrainingRun, restore, tensors
from diffutils.validation import check_int


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
    precision: str = "float32",
    compile_mode: str | None = None,
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
        precision: of the network's products, see ``speed.autocast``; the weights stay in float32.
        compile_mode: how the model's networks are compiled, see ``speed.compile_networks``; None does not. torch cannot
            compile a ``GAN`` with r1 > 0, which is refused.
        progress: show a bar with the loss once training has taken two seconds.

    Returns:
        The losses, the seconds and the number of steps.

    Raises:
        ValueError: if an argument is out of its range, before any work is done; or if the loss is not one number.
        TrainingError: (a RuntimeError) if a loss or gradient is not finite. It names the first bad step, and the
            model is as it was after the last block of steps known to be good.

    Whatever ends the loop, an error or Ctrl-C too, the model is left in evaluation mode and with ``ema_decay`` holds the
    averages of the steps made. The losses of such a run are lost; ``training_run.TrainingRun`` keeps them.

    Source: AdamW, Loshchilov & Hutter 2019; the moving average as in Ho et al. 2020, appendix B.
    """
    run = TrainingRun(
        model, data, steps=steps, batch_size=batch_size, lr=lr, betas=betas, weight_decay=weight_decay, warmup=warmup,
        cosine=cosine, clip_norm=clip_norm, ema_decay=ema_decay, seed=seed, device=device, precision=precision,
        compile_mode=compile_mode,
    )  # fmt: skip
    start = time.perf_counter()
    try:
        run.advance(progress=progress)
    finally:
        if run.averaged is not None:
            restore(model, list(tensors(run.averaged)), counters=False)
        model.eval()
    return TrainingRecord(run.losses.cpu(), time.perf_counter() - start, steps)
