"""Forked processes, a few at a time: each does one job and reports one result."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from packages import module_names
from tqdm import tqdm

import diffutils

_FORK = multiprocessing.get_context("fork")


def pipe() -> tuple[Connection, Connection]:
    """Return the two ends of a connection, both to send and to receive through."""
    return _FORK.Pipe()


def run(
    jobs: Iterable[Any], work: Callable[[Any], Any], *, processes: int, seconds: float
) -> Iterator[tuple[Any, Any, str]]:
    """Do each job in a process of its own, forked from this one; yield (job, result, error) as they end.

    The error is empty where there is a result. It is the traceback of what ``work`` raised, or says that the job was
    ended after so many seconds. What a job prints goes nowhere.
    """
    waiting, running = list(jobs)[::-1], {}
    while waiting or running:
        while waiting and len(running) < processes:
            job = waiting.pop()
            receiver, sender = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=_child, args=(work, job, sender))
            process.start()
            sender.close()
            running[receiver] = (job, process, time.monotonic() + seconds)
        first = min(deadline for _, _, deadline in running.values())
        for receiver in wait(list(running), timeout=max(0.0, first - time.monotonic())) or _overdue(running):
            job, process, _ = running.pop(receiver)
            yield job, *_result(receiver, process, seconds)


def _overdue(running: dict) -> list:
    return [receiver for receiver, (_, _, deadline) in running.items() if deadline <= time.monotonic()]


def _result(receiver, process, seconds: float) -> tuple[Any, str]:
    try:
        result = receiver.recv() if receiver.poll() else (None, f"ended after {seconds:.0f} s")
    except EOFError:
        result = (None, "the process died")
    process.kill()
    process.join()
    receiver.close()
    return result


def _child(work: Callable[[Any], Any], job: Any, sender) -> None:
    with tempfile.TemporaryFile() as sink:
        for stream in (1, 2):
            os.dup2(sink.fileno(), stream)
        try:
            result = (work(job), "")
        except BaseException:  # whatever went wrong is the report
            result = (None, traceback.format_exc())
    sender.send(result)
    sender.close()
    # No clean-up of what belongs to the parent.
    sys.stdout.flush()
    os._exit(0)


def warm_up() -> None:
    """Import all of both packages, and what torch imports late: each fork would have to do it again."""
    for name in module_names():
        importlib.import_module(name)
    # No thread beside the one that forks.
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0
    model = diffutils.models.vae.VAE()
    diffutils.training.train(model, torch.zeros(4, 2), steps=1, batch_size=4, ema_decay=0.5, device="cpu", progress=False)


def settle() -> None:
    """Spare the collectors of garbage of all forks what lives by now."""
    gc.collect()
    gc.freeze()
