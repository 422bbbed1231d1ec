"""In which precision a network learns: the one that `precision` names, or the one that pays.

Where 16 bits pay depends on the layers and on the processor. On CPUs that is a rule, so that the same
processor always gives the same bytes; on GPUs, which differ more, a few steps of each are timed, once for
each network, size of batch and GPU. `python -m benchmarks.precision` shows for every network of
params.yaml what is chosen and what it gains.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from beatline.common.errors import UserError
from beatline.common.files import read_json, write_json
from beatline.prediction import devices, losses
from beatline.prediction.devices import Precision
from beatline.prediction.tasks import Task
from beatline.training import checkpoint

MEASURED = (
    checkpoint.FOLDER / "precision.json"
)  # what was chosen by measuring, in the project's folder
# Steps before what is timed and in each round, of which the fastest counts.
WARM_UP, STEPS, ROUNDS = 3, 5, 4
TYPES: dict[Precision, torch.dtype | None] = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def chosen(
    precision: Precision,
    network: nn.Module,
    task: Task,
    shape: Sequence[int],
    device: torch.device,
) -> Precision:
    """Return the precision in which `network` is to learn from batches `[B, T, C]` of `shape`: the given
    one, unless that is `auto`."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        about = [str(network), list(shape), torch.cuda.get_device_name(device), torch.__version__]
        return remembered(MEASURED, about, lambda: measured(network, task, shape, device))
    # Of one step in time, a row of a table, converting the numbers takes longer than 16 bits save.
    fast = device.type == "cpu" and devices.has_fast_bfloat16() and shape[1] > 1
    return "bfloat16" if fast else "float32"


def measured(
    network: nn.Module, task: Task, shape: Sequence[int], device: torch.device
) -> Precision:
    """Return the precision in which a copy of `network` takes the fewest seconds for a training step.
    Random numbers that it draws are not missed."""
    drawn_from = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(drawn_from, device_type=device.type):
        compute = step(copy.deepcopy(network).to(device).train(), task, shape, device)
        seconds: dict[Precision, float] = {
            name: fastest(partial(compute, TYPES[name]), device)
            for name in ("float32", narrow(device))
        }
    return min(seconds, key=lambda name: seconds[name])


def narrow(device: torch.device) -> Precision:
    """Return the 16-bit precision that a device computes in."""
    float16 = device.type == "cuda" and not torch.cuda.is_bf16_supported()
    return "float16" if float16 else "bfloat16"


def step(
    network: nn.Module, task: Task, shape: Sequence[int], device: torch.device
) -> Callable[[torch.dtype | None], None]:
    """Return what computes the gradient of a batch of noise `[B, T, C]` in a type."""
    loss_of, inputs = losses.for_task(task).loss, torch.randn(tuple(shape), device=device)

    def compute(dtype: torch.dtype | None) -> None:
        network.zero_grad(set_to_none=True)
        with devices.autocast(dtype, device):
            outputs = network(inputs)
        targets = torch.zeros(len(inputs), outputs.shape[1], device=device)
        loss_of(outputs.float(), inputs, targets, None).backward()

    return compute


def fastest(compute: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of a step, in the fastest of some rounds."""

    def round_of(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            compute()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    round_of(WARM_UP)
    return min(round_of(STEPS) for _ in range(ROUNDS)) / STEPS


def remembered(path: Path, about: Sequence[Any], measure: Callable[[], Precision]) -> Precision:
    """Return what the file says of a case that values of JSON describe, or what `measure` returns, which
    it then says too. What is no longer legible was never measured."""
    key = checkpoint.key(*about)
    known: Any = None
    with suppress(UserError):
        known = read_json(path)
    if not isinstance(known, dict):
        known = {}
    if known.get(key) not in TYPES:
        known[key] = measure()
        write_json(path, known)
    return known[key]
