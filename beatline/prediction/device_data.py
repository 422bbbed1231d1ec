"""Recordings on the device, from where a network draws them by index."""

from __future__ import annotations

import copy
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from beatline.common.errors import UserError
from beatline.preprocessing.arrays import BATCH, Signals

RESIDENT_SHARE = 0.5  # of the free device memory that recordings may take
RESIDENT_MB = "BEATLINE_RESIDENT_MB"  # the environment variable that allows them less
ON_THIS_MACHINE = "LOCAL_WORLD_SIZE"  # processes that share its memory, as torchrun says it
AHEAD = 4  # batches that are read before they are asked for
_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")

Request = tuple[torch.Tensor, torch.Tensor | None]
"""Positions of recordings `[B]`, and the first samples of crops `[B]`, or None for whole recordings."""


class Recordings:
    """Recordings that a training loop draws from by index: on the device where they fit, otherwise
    gathered from the memory map batch by batch.

    Both give the same bytes in the same layout of memory, on which the kernels that torch chooses, and
    so their rounding, may depend.
    """

    def __init__(
        self, signals: Signals | np.ndarray, rows: np.ndarray, device: torch.device
    ) -> None:
        if not isinstance(signals, Signals):
            signals = Signals(np.ascontiguousarray(signals))
        self.device = device
        self.length, self.channels = signals.shape[1:]
        self._rows = torch.from_numpy(rows)
        self._signals = signals
        self._steps = None if signals.steps is None else torch.from_numpy(signals.steps).to(device)
        with warnings.catch_warnings():
            # Of a map that cannot be written to, to which nothing here writes.
            warnings.simplefilter("ignore", UserWarning)
            self._stored = torch.from_numpy(signals.stored)
        self.resident = _fits(signals.stored[:1].nbytes * len(rows), device)
        if self.resident:
            self._stored = self._copied()

    def __len__(self) -> int:
        return len(self._rows)

    def batch(
        self, positions: torch.Tensor, starts: torch.Tensor | None = None, length: int = 0
    ) -> torch.Tensor:
        """Recordings `[B, T, C]` at `positions` `[B]`, or of each the `length` samples from `starts`."""
        return self._decoded(self._gathered(positions, starts, length))

    def stream(self, requests: Iterable[Request], length: int = 0) -> Iterator[torch.Tensor]:
        """What :meth:`batch` gives for each of the `requests`, in their order. A thread reads ahead from
        the disk."""
        if self.resident:
            yield from (self.batch(*request, length) for request in requests)
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = deque()
            for request in requests:
                ahead.append(reader.submit(self._gathered, *request, length))
                if len(ahead) > AHEAD:
                    yield self._decoded(ahead.popleft().result())
            while ahead:
                yield self._decoded(ahead.popleft().result())

    def part(self, positions: range) -> Recordings:
        """The recordings at neighbouring `positions`, in the same memory."""
        part, inside = copy.copy(self), slice(positions.start, positions.stop)
        part._rows = self._rows[inside]
        if self.resident:
            part._stored = self._stored[inside]
        return part

    def _gathered(
        self, positions: torch.Tensor, starts: torch.Tensor | None, length: int
    ) -> torch.Tensor:
        """The batch as it is stored: where the recordings are, or pinned on its way to a GPU."""
        if self.resident:
            rows = positions.to(self.device)
        else:
            rows = self._rows[positions]
            self._signals.count_read(len(rows))
        if starts is None:
            batch = self._stored.index_select(0, rows)
        else:
            crops = self._stored.unfold(1, length, 1)
            batch = crops[rows, starts.to(rows.device)].transpose(1, 2)
        pinned = self.device.type == "cuda" and not self.resident
        return batch.pin_memory() if pinned else batch

    def _decoded(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch on the device, as float32."""
        values = batch.to(self.device, non_blocking=True).float()
        return values if self._steps is None else values * self._steps

    def _copied(self) -> torch.Tensor:
        """All rows on the device, as they are stored, copied a few at a time."""
        shape = (len(self._rows), *self._stored.shape[1:])
        copied = torch.empty(shape, dtype=self._stored.dtype, device=self.device)
        for first in range(0, len(copied), BATCH):
            rows = self._rows[first : first + BATCH]
            self._signals.count_read(len(rows))
            copied[first : first + BATCH] = self._stored.index_select(0, rows)
        return copied


def _fits(size: int, device: torch.device) -> bool:
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = _free_memory() / int(os.environ.get(ON_THIS_MACHINE) or 1)
    return size < min(RESIDENT_SHARE * free, _allowed())


def _allowed() -> float:
    """Bytes that RESIDENT_MB allows the recordings of one split; without limit if it is not set."""
    if not (text := os.environ.get(RESIDENT_MB, "")):
        return float("inf")
    if not text.isdecimal():
        raise UserError(
            f"{RESIDENT_MB} is {text!r}, not a whole number of megabytes: set it to one, or unset it"
        )
    return int(text) * 1e6


def _free_memory() -> float:
    """Bytes of main memory that can be had without swapping, no more than a container or a job may have;
    without limit where nobody tells."""
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    free = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return min([free, *_group_limits()])


def _group_limits() -> list[float]:
    """Return the limits in bytes of the control group (v2) of this process, and of those around."""
    try:
        lines = (_PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = [_GROUPS / line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    files = [folder / "memory.max" for group in groups for folder in (group, *group.parents)]
    limits = [file.read_text().strip() for file in files if file.is_file()]
    return [float(limit) for limit in limits if limit != "max"]
