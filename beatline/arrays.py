"""Recordings on disk and on the device: `signals.npy` `[N, T, C]` float32 with a table of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import torch

from beatline.errors import UserError
from beatline.files import read_csv, replacing, write_csv

SIGNALS, RECORDS = "signals.npy", "records.csv"
RESIDENT_SHARE = 0.5  # of the free device memory that recordings may take


@dataclass(frozen=True)
class SplitArrays:
    """One split: `signals` `[N, T, C]` float32, memory-mapped; `table` with the N records' labels."""

    signals: np.ndarray
    table: pd.DataFrame

    def targets(self, classes: list[str]) -> np.ndarray:
        """0/1 `[N, K]`."""
        return self.table[classes].to_numpy(dtype=np.int8)

    def anomalies(self) -> np.ndarray:
        """1 where a record is not normal, `[N, 1]`."""
        return 1 - self.table[["normal"]].to_numpy(dtype=np.int8)


def load_split(folder: Path, classes: Sequence[str] = ()) -> SplitArrays:
    """The split that :func:`write_split` wrote. Raises UserError if it is missing or damaged, or has no
    labels of `classes`."""
    try:
        signals = np.load(folder / SIGNALS, mmap_mode="r")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: run `dvc repro` to make it") from None
    except (ValueError, EOFError) as error:
        raise UserError(
            f"{folder / SIGNALS} is damaged ({error}): remove it and run `dvc repro`"
        ) from None
    table = read_csv(folder / RECORDS, ("record", "group", "normal", *classes))
    if len(signals) != len(table):
        raise UserError(
            f"{folder} is damaged ({len(signals)} recordings, {len(table)} rows): remove it and "
            f"run `dvc repro`"
        )
    return SplitArrays(signals, table)


def write_split(folder: Path, batches: Iterable[np.ndarray], table: pd.DataFrame) -> None:
    """Write a split: the recordings of `table`'s rows, which come as float32 batches `[B, T, C]`.

    One batch is in memory at a time. Raises UserError if there are not as many recordings as rows.
    """
    with replacing(folder) as beside:
        beside.mkdir()
        done = 0
        # Written, not mapped: a full disk under a memory map kills the process without a word.
        with (beside / SIGNALS).open("wb") as file:
            for batch in batches:
                if not done:
                    _write_header(file, (len(table), *batch.shape[1:]))
                file.write(np.ascontiguousarray(batch, dtype="<f4").data)
                done += len(batch)
        if done != len(table) or not done:
            raise UserError(f"{folder}: {done} of {len(table)} recordings could be read")
        write_csv(beside / RECORDS, table)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


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
