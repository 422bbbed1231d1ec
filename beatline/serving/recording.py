"""A recording as somebody's file holds it, before it is brought to what a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Notice:
    """What a reader of the answer should know. `code`: a word for programs, such as `clipped`."""

    code: str
    message: str


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
