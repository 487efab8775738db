"""The training loop itself: what one step does, and the state that lets a long run stop and go on.

``training.train`` is the loop for notebooks; this is what it runs. Home chapters: the reverse process
(chapters/05_reverse_process.md) for the steps; scaling up (chapters/13_scaling_up.md) for the state.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from diffutils.device import default_generators, find_device, make_generator, seed_default_generators, set_default_generators
from diffutils.speed import COMPILE_MODES, PRECISIONS, autocast, compile_networks
from diffutils.validation import accepts, check_bool, check_choice, check_data, check_float, check_int, require

# The loss is looked at once per block: looking at every step would make a GPU wait for the CPU each time.
BLOCK = 50
# torch has fused AdamW kernels for these; elsewhere its default implementation is used.
FUSED_DEVICES = ("cpu", "cuda", "mps")
# What a state holds.
STATE = set("arguments step losses norms model averages optimizer scheduler generator layers".split())
# Seconds of training before a bar is shown.
BAR_DELAY = 2.0


class TrainingError(RuntimeError):
    """Training stopped because the loss or its gradient was not finite."""


class TrainingRun:
    """The training loop, with a state that can be saved after any block of steps and put back later.

    ``training.train`` is all that a notebook needs. A long run is looked at, stopped, and goes on as if it had not been.

    Args:
        block: steps between two looks at the losses; the other arguments are those of ``training.train``.

    Attributes:
        model: the model, with the weights of the last step.
        averaged: a copy of the model with the averages of its weights and floating-point buffers; None without
            ``ema_decay``.
        step: number of steps made.
        losses: the loss of every step made so far, then zeros, shape (steps,).
        norms: the norm of every step's gradient before it was clipped, likewise.
        device: where the run trains.

    Raises:
        ValueError: if an argument is out of its range; in ``advance``, if the loss is not one number.
    """

    def __init__(
        self,
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
        block: int = BLOCK,
    ) -> None:
        check_data("data", data, min_ndim=1)
        fits = accepts(getattr(model, "loss", None), data, generator=None)
        require(fits, "model", type(model).__name__, "a module with a method loss(x, *, generator)")
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        require(len(self._parameters) > 0, "model", type(model).__name__, "a module with trainable parameters")
        dtype = self._parameters[0].dtype
        require(data.dtype == dtype, "data.dtype", data.dtype, f"{dtype}, as the model's weights: data.to({dtype})")
        self.steps = check_int("steps", steps, 1)
        self.batch_size = check_int("batch_size", batch_size, 1)
        lr = check_float("lr", lr, low=0.0)
        require(isinstance(betas, tuple) and len(betas) == 2, "betas", betas, "a pair of numbers in [0, 1)")
        betas = tuple(check_float("betas", b) for b in betas)
        require(all(0 <= b < 1 for b in betas), "betas", betas, "a pair of numbers in [0, 1)")
        weight_decay = check_float("weight_decay", weight_decay, low=0.0, inclusive=True)
        check_bool("cosine", cosine)
        warmup = self.steps // 20 if warmup is None else check_int("warmup", warmup, 0, steps)
        self._clip_norm = math.inf if clip_norm is None else check_float("clip_norm", clip_norm, low=0.0)
        if ema_decay is not None:
            ema_decay = check_float("ema_decay", ema_decay, 0.0, 1.0)
        self._seed, self._block = check_int("seed", seed, 0), check_int("block", block, 1)
        self.precision = check_choice("precision", precision, PRECISIONS)
        if compile_mode is not None:
            check_choice("compile_mode", compile_mode, COMPILE_MODES)
            allowed = "None for a loss with a gradient in it (GAN with r1 > 0), which torch cannot compile"
            require(not getattr(model, "differentiates_twice", False), "compile_mode", compile_mode, allowed)

        self.device = find_device(device)
        # Without the cosine, ``steps`` says where a run ends and nothing else.
        self._arguments = {
            "cosine": cosine, "steps": self.steps if cosine else None, "warmup": warmup, "batch_size": self.batch_size,
            "lr": lr, "betas": betas, "weight_decay": weight_decay, "clip_norm": self._clip_norm, "ema_decay": ema_decay,
            "seed": self._seed, "precision": precision, "compile_mode": compile_mode, "device": self.device.type,
            "data.shape": tuple(data.shape), "frozen": [n for n, p in model.named_parameters() if not p.requires_grad],
        }  # fmt: skip
        self.model, self.data = model.to(self.device).train(), data.to(self.device)
        self.generator = make_generator(seed, self.device)
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=self.device.type in FUSED_DEVICES
        )
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: lr_factor(step, steps, warmup, cosine)
        )
        self.averaged = None
        if ema_decay is not None:
            self.averaged = copy.deepcopy(self.model)
            self._update_average = get_ema_multi_avg_fn(ema_decay)
            # Found once: torch's AveragedModel goes through all weights at every step, which costs several times the sums.
            self._averages, self._weights = _floating(tensors(self.averaged)), _floating(self.model.parameters())
        if compile_mode is not None:
            compile_networks(model, compile_mode)
        self._models = nn.ModuleList(held for held in (self.model, self.averaged) if held is not None)
        self.step, self._stopping, self._layers_state, self._broken = 0, False, None, None
        self.losses, self.norms = (torch.zeros(steps, device=self.device) for _ in range(2))

    def advance(self, *, after_block: Callable[[TrainingRun], None] | None = None, progress: bool = False) -> None:
        """Make the steps that are left, or those up to a call of ``stop``.

        Args:
            after_block: called with this run after each block of steps whose losses and gradients were finite.
            progress: show a bar.

        Raises:
            TrainingError: as ``training.train``. Model, averages, losses, norms and ``step`` are then as they were after
                the last good block. The optimizer and the generators are not, so that this method and ``state_dict``
                raise it again, until ``load_state_dict`` has put a state back.
        """
        self._refuse_if_broken()
        good, checked = snapshot(self._models), self.step
        with self._seeded_layers(), _bar(self.steps, self.step, progress) as bar:
            while self.step < self.steps and not self._stopping:
                self._make_step()
                bar.update()
                if self.step % self._block == 0 or self.step == self.steps or self._stopping:
                    self._gather(checked)
                    try:
                        _check_block(self._models, self.losses, self.norms, checked, self.step, good)
                    except TrainingError as error:
                        self._broken, self._stopping = str(error), False
                        self._forget_after(checked)
                        raise
                    good = snapshot(self._models)
                    bar.set_postfix(loss=f"{self.losses[checked : self.step].mean().item():.4f}", refresh=False)
                    checked, self._layers_state = self.step, default_generators(self.device)
                    if after_block is not None:
                        after_block(self)
        self._stopping = False

    def stop(self) -> None:
        """Let ``advance`` return after the step that is being made, with its block closed; a signal may call this."""
        self._stopping = True

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the steps to come depend on, but for the data.

        A run with the same arguments and the same kind of device that loads it goes on bit for bit. The tensors are the
        run's own: save or copy them before the next step.

        Raises:
            TrainingError: if ``advance`` has raised it and no state has been put back since.
        """
        self._refuse_if_broken()
        return {
            "arguments": self._arguments,
            "step": self.step,
            "losses": self.losses[: self.step].cpu(),
            "norms": self.norms[: self.step].cpu(),
            "model": self.model.state_dict(),
            "averages": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {name: value for name, value in self._scheduler.state_dict().items() if name != "lr_lambdas"},
            "generator": self.generator.get_state(),
            "layers": self._layers_state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned; a state that is refused leaves the run as it was.

        Raises:
            ValueError: if it is no such state, comes from a run with other arguments (``block`` may differ, and without
                ``cosine`` also ``steps``), or has made more steps than this run has.
            RuntimeError: if the weights do not fit the model.
        """
        missing = STATE - set(state)
        require(not missing, "state", sorted(state), f"what state_dict returns; it lacks {', '.join(sorted(missing))}")
        step = check_int("state['step']", state["step"], 0, self.steps)
        for name, mine in self._arguments.items():
            found = state["arguments"].get(name)
            require(found == mine, f"the state's {name}", found, f"this run's, {mine!r}")
        before = snapshot(self._models)
        try:
            for held, part in zip(self._models, ("model", "averages")):
                held.load_state_dict(state[part])
            # torch keeps the tensors that it is given, and the next step would change them
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        except Exception:
            restore(self._models, before)
            raise
        self._scheduler.load_state_dict({**state["scheduler"], "lr_lambdas": [None]})
        self.generator.set_state(state["generator"].cpu())
        self._layers_state = state["layers"]
        self.losses[:step], self.norms[:step] = state["losses"].to(self.device), state["norms"].to(self.device)
        self._forget_after(step)
        self._broken = None

    def _forget_after(self, step: int) -> None:
        self.losses[step:], self.norms[step:] = 0.0, 0.0
        self.step = step

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise TrainingError(f"load_state_dict must put a good state back before this run can go on: {self._broken}")

    def _make_step(self) -> None:
        # first, so that the memory of the old gradients serves the network's activations
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            loss = self._loss()
        single = isinstance(loss, Tensor) and loss.numel() == 1
        require(single, "model.loss", getattr(loss, "shape", loss), "one number, such as the mean over the batch")
        self._backward(loss)
        self.norms[self.step] = self._clip_gradient()
        self.optimizer.step()
        self._scheduler.step()
        if self.averaged is not None:
            self._average()
        self.losses[self.step] = loss.detach()
        self.step += 1

    @torch.no_grad()
    def _average(self) -> None:
        # A model may put another tensor in the place of a buffer, but the optimizer changes weights where they are.
        values = self._weights + _floating(self.model.buffers())
        if self.step == 0:
            restore(self.averaged, list(tensors(self.model)), counters=False)
        else:
            self._update_average(self._averages, values, self.step)

    def _clip_gradient(self) -> Tensor:
        """Scale the gradient to the norm allowed where it is longer; return its norm before."""
        norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        # torch scales by min(1, clip_norm / (norm + 1e-6)). Where the norm is read without waiting, a 1 is left out.
        if self.device.type != "cpu" or not norm < self._clip_norm - 1e-6:
            nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
        return norm

    def draw_batch(self) -> Tensor:
        """Return the next batch, (batch_size, ...), drawn uniformly with replacement."""
        index = torch.randint(len(self.data), (self.batch_size,), generator=self.generator, device=self.device)
        return self.data.index_select(0, index)

    def _loss(self) -> Tensor:
        return self.model.loss(self.draw_batch(), generator=self.generator)

    def _backward(self, loss: Tensor) -> None:
        loss.backward()

    def _gather(self, start: int) -> None:
        """A run over several processes makes the losses from ``start`` on the mean over all of them here."""

    @contextlib.contextmanager
    def _seeded_layers(self) -> Iterator[None]:
        """Dropout draws from torch's global generators: seed them here, and leave them as they were found."""
        found = default_generators(self.device)
        try:
            if self._layers_state is None:
                seed_default_generators(self._seed, self.device)
            else:
                set_default_generators(self.device, self._layers_state)
            yield
        finally:
            set_default_generators(self.device, found)


def lr_factor(step: int, steps: int, warmup: int, cosine: bool = True) -> float:
    """Return the share of the highest learning rate that is used in 0-based step ``step`` of ``steps``.

    Linear from 1 / warmup to 1 over the first ``warmup`` steps; then half a cosine that would reach zero at ``steps``.
    """
    if step < warmup:
        return (step + 1) / warmup
    if not cosine:
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def tensors(model: nn.Module) -> Iterator[Tensor]:
    """Return the model's parameters and then its buffers."""
    return itertools.chain(model.parameters(), model.buffers())


def _floating(values: Iterable[Tensor]) -> list[Tensor]:
    return [value.detach() for value in values if value.is_floating_point()]


def snapshot(model: nn.Module) -> list[Tensor]:
    """Return copies of the model's parameters and buffers."""
    return [value.detach().clone() for value in tensors(model)]


@torch.no_grad()
def restore(model: nn.Module, values: list[Tensor], *, counters: bool = True) -> None:
    """Write values, in the order of ``tensors``, into the model's parameters and buffers; ``counters``: integers too."""
    for mine, value in zip(tensors(model), values, strict=True):
        # An average of counters means nothing, so whoever takes over averages leaves integers as they are. A yes or no is
        # no counter: that ActNorm has started says what its weights are, and goes where they go.
        if counters or mine.is_floating_point() or mine.dtype == torch.bool:
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
    restore(model, good)
    what = "loss" if bool(bad_loss[first]) else "gradient"
    held = f"after step {start}" if start else "before training"
    raise TrainingError(
        f"the {what} is not finite at step {start + first + 1} of {len(losses)}; "
        f"the model holds its weights from {held}. Try a smaller lr, and look for NaN or huge values in the loss."
    )


def _bar(steps: int, made: int, progress: bool) -> tqdm:
    # tqdm reads TQDM_DISABLE and TQDM_MININTERVAL only for arguments that are not given, so none is given needlessly
    options = {} if progress else {"disable": True}
    return tqdm(total=steps, initial=made, desc="training", unit="step", delay=BAR_DELAY, **options)
