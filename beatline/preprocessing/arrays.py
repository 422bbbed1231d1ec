"""Recordings on disk: `signals.npy` `[N, T, C]` float32 with a table of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.common.files import read_csv, replacing, write_csv

SIGNALS, RECORDS = "signals.npy", "records.csv"
BATCH = 256  # recordings read at a time

Reader = Callable[[Sequence[str]], Iterator[np.ndarray]]
"""Reads recordings by their names, as batches `[B, T, C]`."""


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
        signals = np.load(sums.verified(folder / SIGNALS), mmap_mode="r")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: run `dvc repro` to make it") from None
    except (ValueError, EOFError) as error:
        raise UserError(
            f"{folder / SIGNALS} is damaged ({error}): run `beatline repair {folder}`"
        ) from None
    table = read_csv(sums.verified(folder / RECORDS), ("record", "group", "normal", *classes))
    if len(signals) != len(table):
        raise UserError(
            f"{folder} is damaged ({len(signals)} recordings, {len(table)} rows): run `beatline "
            f"repair {folder}`"
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
        sums.seal(beside)


def reader(folder: Path) -> Reader:
    """Reads the recordings that :func:`write_split` wrote. It raises UserError for a name that is none
    of theirs."""
    stored = load_split(folder)
    row_of = {name: row for row, name in enumerate(stored.table["record"].astype(str))}

    def read(names: Sequence[str]) -> Iterator[np.ndarray]:
        if unknown := [name for name in names if name not in row_of]:
            raise UserError(f"{folder} has no recording {unknown[0]}: run `dvc repro`")
        for first in range(0, len(names), BATCH):
            yield stored.signals[[row_of[name] for name in names[first : first + BATCH]]]

    return read


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
