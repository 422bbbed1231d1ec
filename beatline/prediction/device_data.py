"""Recordings on the device, from where a network draws them by index."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

RESIDENT_SHARE = 0.5  # of the free device memory that recordings may take


class Recordings:
    """Recordings that a training loop draws from by index: on the device where they fit, otherwise
    gathered from the memory map batch by batch."""

    def __init__(self, signals: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        self.device = device
        self.length = signals.shape[1]
        self._rows = rows
        self._signals = signals
        self._resident: torch.Tensor | None = None
        if _fits(signals[:1].nbytes * len(rows), device):
            self._resident = torch.from_numpy(np.ascontiguousarray(signals[rows])).to(device)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(
        self, positions: torch.Tensor, starts: torch.Tensor | None = None, length: int = 0
    ) -> torch.Tensor:
        """Recordings `[B, T, C]` at `positions` `[B]`, or of each the `length` samples from `starts`."""
        if self._resident is None:
            return self._gathered(
                positions.numpy(), None if starts is None else starts.numpy(), length
            )
        positions = positions.to(self.device)
        if starts is None:
            return self._resident[positions]
        crops = self._resident.unfold(1, length, 1)
        return crops[positions, starts.to(self.device)].transpose(1, 2)

    def part(self, positions: range) -> Recordings:
        """The recordings at neighbouring `positions`, in the same memory."""
        part, inside = copy.copy(self), slice(positions.start, positions.stop)
        part._rows = self._rows[inside]
        if self._resident is not None:
            part._resident = self._resident[inside]
        return part

    def stream(
        self, requests: Iterable[tuple[torch.Tensor, torch.Tensor | None]], length: int = 0
    ) -> Iterator[torch.Tensor]:
        """Yield :meth:`batch` of each of `requests`, positions and starts, in their order."""
        for positions, starts in requests:
            yield self.batch(positions, starts, length)

    def _gathered(
        self, positions: np.ndarray, starts: np.ndarray | None, length: int
    ) -> torch.Tensor:
        rows = self._rows[positions]
        if starts is None:
            batch = self._signals[rows]
        else:
            batch = np.stack(
                [
                    self._signals[row, start : start + length]
                    for row, start in zip(rows, starts, strict=True)
                ]
            )
        tensor = torch.from_numpy(np.ascontiguousarray(batch))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def _fits(size: int, device: torch.device) -> bool:
    if device.type == "cuda":
        return size < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
    return size < RESIDENT_SHARE * _free_memory()


def _free_memory() -> float:
    """Bytes of main memory that can be had without swapping; without limit where nobody tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
