"""One training run over several processes, each with its share of every batch.

All processes draw the same batch, times and noise from equal generators, and each takes its slice of them. The mean of
their gradients is the gradient of the whole batch, so that the losses do not depend on how many processes there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diffutils.models.ddpm import DDPM
from diffutils.objectives import draw_uniform_times, l_simple
from diffutils.process import draw_noise
from diffutils.training_run import TrainingRun
from diffutils.validation import require

if TYPE_CHECKING:
    from accelerate import Accelerator


class _Share(nn.Module):
    """The loss as a module, which is what a wrapper that averages gradients can call."""

    def __init__(self, model: DDPM) -> None:
        super().__init__()
        self.model = model

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        return l_simple(self.model, self.model.schedule, x0, t=t, noise=noise)


def wait_for_everyone(accelerator: Accelerator) -> None:
    """Return when all processes of a launch have come here."""
    # accelerate asks a GPU of each process to wait, on a machine that has one, even if the processes compute on the CPU;
    # there may be fewer GPUs than processes.
    if accelerator.device.type == "cpu" and accelerator.num_processes > 1:
        torch.distributed.barrier()
    else:
        accelerator.wait_for_everyone()


def share_of(batch: int, processes: int) -> int:
    """Return how many examples of a batch each process takes.

    Raises:
        ValueError: if the batch cannot be shared equally.
    """
    fits = batch % processes == 0
    require(fits, "batch", batch, f"a multiple of the number of processes, {processes}")
    return batch // processes


class ParallelRun(TrainingRun):
    """A training run of a DDPM on the devices of ``accelerate``; with one process, the run of ``train``.

    Args:
        accelerator: knows the processes and their devices.
        model, data, options: as in ``TrainingRun``; ``batch_size`` is that of all processes together.

    Raises:
        ValueError: if the batch cannot be shared equally, or as ``TrainingRun``.
    """

    def __init__(self, accelerator: Accelerator, model: DDPM, data: Tensor, **options: Any) -> None:
        share = share_of(options["batch_size"], accelerator.num_processes)
        super().__init__(model, data, device=accelerator.device, **options)
        self.accelerator = accelerator
        self._mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
        self._module = accelerator.prepare(_Share(model))

    def _loss(self) -> Tensor:
        x0 = self.draw_batch()
        t = draw_uniform_times(self.model.schedule, x0, self.generator)
        noise = draw_noise(x0, generator=self.generator)
        return self._module(x0[self._mine], t[self._mine], noise[self._mine])

    def _backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    @torch.no_grad()
    def _gather(self, start: int) -> None:
        self.losses[start : self.step] = self.accelerator.reduce(self.losses[start : self.step], "mean")
