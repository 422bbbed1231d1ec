"""A recording in the one form that all formats come to, and what a model makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np


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


@dataclass(frozen=True)
class Prepared:
    """`samples`: `[T, C]` in the unit, the order of channels and the sampling rate of a data set, NaN
    where one is invalid. `notices`: what was done to get there, and what is odd about it. `length`:
    how many of the first samples are the recording's own; others repeat them, of short sound.
    Of sound: `features`, those that :mod:`beatline.features.sound` measures, and the `waveform` `[S]`, at
    the sampling rate of the training, of which the samples are the spectrogram."""

    samples: np.ndarray
    notices: list[Notice]
    length: int
    features: np.ndarray | None = None
    waveform: np.ndarray | None = None
