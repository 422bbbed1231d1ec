"""A recording in the one form that all formats come to, and how their readers refuse a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from beatline.common.errors import UserError, wording

_ADDRESS = re.compile(r":? *<[^<>]* at 0x[0-9a-f]+>")


class BadRecording(UserError):
    """A file that is not what it claims to be, such as a damaged one."""


class UnfitRecording(BadRecording):
    """A file that can be read, and is no recording that can be used."""


class LargeRecording(BadRecording):
    """A file that holds more values than its reader was told to take."""


@dataclass(frozen=True)
class Notice:
    """A remark on a recording that its sender should read. `grade`: a caution if the answer may be wrong,
    a note of what was done or assumed without harm. `code`: for programs, such as `clipped`."""

    grade: Literal["caution", "note"]
    code: str
    message: str


caution, note = partial(Notice, "caution"), partial(Notice, "note")


@dataclass(frozen=True)
class Recording:
    """`samples`: `[T, C]` float32 or float64, NaN where one is invalid. `channels`: their names;
    `sampling_rate`: in Hz; `units`: of each channel. None where the file does not say.
    `warnings`: what reading it found."""

    samples: np.ndarray
    channels: list[str] | None = None
    sampling_rate: float | None = None
    units: list[str] | None = None
    warnings: list[Notice] = field(default_factory=list)


@contextmanager
def decoding(where: str, format_name: str) -> Iterator[None]:
    """Makes a BadRecording of whatever a decoder raises.

    Decoders are written by others for undamaged files. At a damaged one they raise far more than they
    document (struct.error, IndexError, RecursionError …), and it is the file's fault each time.
    """
    try:
        yield
    except UserError:  # which is a sentence already
        raise
    except Exception as error:
        # Of several sentences the first, without addresses in memory; the others are for programmers.
        reason = _ADDRESS.sub("", wording(error)).split(". ")[0] or type(error).__name__
        raise BadRecording(
            f"{where} is no {format_name} that can be read ({reason}): use an undamaged file"
        ) from None


def check_size(values: int, most: float, where: str) -> None:
    """Raise LargeRecording if a recording announces more than `most` values, samples times channels."""
    if values > most:
        raise LargeRecording(
            f"{where} holds {values:,} values, more than the {most:,} that one recording may have: "
            f"use a shorter part of it"
        )


def two_dimensional(values: np.ndarray, where: str) -> np.ndarray:
    """`[T, C]` of `[T]`, `[T, C]` or `[1, T, C]`. Raises UnfitRecording for any other shape."""
    if values.ndim == 1:
        return values[:, None]
    if values.ndim == 3 and len(values) == 1:
        return values[0]
    if values.ndim == 2:
        return values
    shape = " x ".join(map(str, values.shape)) or "a single value"
    raise UnfitRecording(f"{where} is an array of {shape}: make it one of time steps x channels")
