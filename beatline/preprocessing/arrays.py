"""Recordings on disk: `signals.npy` `[N, T, C]` with a table of its rows.

Stored as float32, or in half the space as float16 or int16, which counts steps whose sizes are in
`steps.npy` `[C]`. Whoever reads them gets float32, from :class:`Signals`.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pandas as pd

from beatline.common import sums
from beatline.common.errors import UserError
from beatline.common.files import read_csv, replacing, write_csv

SIGNALS, RECORDS, STEPS = "signals.npy", "records.csv", "steps.npy"
BATCH = 256  # recordings read at a time
MAPPED = 2**28  # bytes of a file that stay mapped into memory
_FAULT = 2**21  # bytes that Linux may map around one that is read, a large folio of its cache

Store = Literal["float32", "float16", "int16"]
_TYPES: dict[Store, str] = {"float32": "<f4", "float16": "<f2", "int16": "<i2"}
_LARGEST = {"float16": float(np.finfo(np.float16).max), "int16": float(np.iinfo(np.int16).max)}
HEADROOM = 2  # times the largest training sample: what int16 can hold
COARSEST = 0.01  # of a standard deviation: the largest step of int16

Reader = Callable[[Sequence[str]], Iterator[np.ndarray]]
"""Reads recordings by their names, as batches `[B, T, C]`."""


class Signals:
    """Recordings `[N, T, C]`: `stored` on disk or in memory, in one of the types of :data:`Store`.

    What is taken from them by index is float32. `steps` `[C]`: what 1 stands for, of int16. No more than
    some MAPPED bytes of a file stay mapped, whatever is read of it.
    """

    def __init__(self, stored: np.ndarray, steps: np.ndarray | None = None) -> None:
        self.stored, self.steps = stored, steps
        self.shape: tuple[int, ...] = stored.shape
        self._mapped = 0

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: Any) -> np.ndarray:
        values = np.asarray(self.stored[rows])
        self.count_read(values.size // max(1, self.stored[:1].size))
        if self.steps is not None:
            return values * self.steps
        return values.astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def batches(self) -> Iterator[np.ndarray]:
        """All recordings in order, BATCH at a time."""
        return (self[first : first + BATCH] for first in range(0, len(self), BATCH))

    def count_read(self, recordings: int) -> None:
        """Count recordings as read, and unmap all once they are many: the file's pages would otherwise
        count as this process's memory. What still looks at them maps them again."""
        file = getattr(self.stored, "base", None)
        if not isinstance(file, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
            return
        self._mapped += recordings * (self.stored[:1].nbytes + _FAULT)
        if self._mapped > MAPPED < self.stored.nbytes:
            file.madvise(mmap.MADV_DONTNEED)
            self._mapped = 0


class Encoding:
    """How samples are stored, and how many were `clipped` because they did not fit.

    `largest` `[C]`: the largest absolute values of the training recordings, from which int16 has its
    steps. Raises UserError if these would be coarse, which few and far too large samples do.
    """

    def __init__(self, store: Store = "float32", largest: Sequence[float] = ()) -> None:
        self.store: Store = store
        self.clipped = 0
        self.steps: np.ndarray | None = None
        if store == "int16":
            reach = HEADROOM * np.maximum(np.asarray(largest), 1)
            self.steps = (reach / _LARGEST[store]).astype(np.float32)
            if self.steps.max() > COARSEST:
                worst = int(self.steps.argmax())
                raise UserError(
                    f"normalize.store: int16 has no room for channel number {worst + 1}, whose largest "
                    f"training sample is {largest[worst]:,.0f} standard deviations from the "
                    f"mean: set it to float16 or float32, or repair the source"
                )

    def encoded(self, batch: np.ndarray) -> np.ndarray:
        """Return samples `[..., C]` in the stored type; what does not fit becomes the nearest that does,
        and is counted."""
        if self.store == "float32":
            return np.ascontiguousarray(batch, _TYPES[self.store])
        values = batch if self.steps is None else np.rint(batch / self.steps)
        largest = _LARGEST[self.store]
        fitting = np.clip(values, -largest, largest)
        self.clipped += int(np.count_nonzero(fitting != values))
        return np.ascontiguousarray(fitting, _TYPES[self.store])


@dataclass(frozen=True)
class SplitArrays:
    """One split: `signals` `[N, T, C]`, memory-mapped; `table` with the N records' labels."""

    signals: Signals
    table: pd.DataFrame

    def targets(self, classes: list[str]) -> np.ndarray:
        """0/1 `[N, K]`."""
        return self.table[classes].to_numpy(dtype=np.int8)

    def anomalies(self) -> np.ndarray:
        """1 where a record is not normal, `[N, 1]`."""
        return 1 - self.table[["normal"]].to_numpy(dtype=np.int8)


def load_split(
    folder: Path, classes: Sequence[str] = (), sections: str | None = None
) -> SplitArrays:
    """The split that :func:`write_split` wrote. Raises UserError if it is missing or damaged, or has no
    labels of `classes`, or no column `sections`, if one is named."""
    try:
        stored = np.load(sums.verified(folder / SIGNALS), mmap_mode="r")
        steps = np.load(sums.verified(folder / STEPS)) if stored.dtype.kind == "i" else None
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: run `dvc repro` to make it") from None
    except (ValueError, EOFError) as error:
        raise UserError(
            f"{folder / SIGNALS} is damaged ({error}): run `beatline repair {folder}`"
        ) from None
    columns = ("record", "group", "normal", *classes, *([sections] if sections else []))
    table = read_csv(sums.verified(folder / RECORDS), columns, sections)
    if len(stored) != len(table):
        raise UserError(
            f"{folder} is damaged ({len(stored)} recordings, {len(table)} rows): run `beatline "
            f"repair {folder}`"
        )
    return SplitArrays(Signals(stored, steps), table)


def write_split(
    folder: Path,
    batches: Iterable[np.ndarray],
    table: pd.DataFrame,
    encoding: Encoding | None = None,
) -> None:
    """Write a split: the recordings of `table`'s rows, which come as float32 batches `[B, T, C]`.

    `encoding`: how they are stored, as float32 without. One batch is in memory at a time. Raises
    UserError if there are not as many recordings as rows.
    """
    encoding = encoding or Encoding()
    with replacing(folder) as beside:
        beside.mkdir()
        done = 0
        # Written, not mapped: a full disk under a memory map kills the process without a word.
        with (beside / SIGNALS).open("wb") as file:
            for batch in batches:
                if not done:
                    _write_header(file, encoding.store, (len(table), *batch.shape[1:]))
                file.write(encoding.encoded(batch).data)
                done += len(batch)
        if done != len(table) or not done:
            raise UserError(f"{folder}: {done} of {len(table)} recordings could be read")
        if encoding.steps is not None:
            np.save(beside / STEPS, encoding.steps)
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


def _write_header(file: BinaryIO, store: Store, shape: tuple[int, ...]) -> None:
    header = {"descr": _TYPES[store], "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
