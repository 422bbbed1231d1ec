"""What a model is given of a recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beatline.formats.recording import Notice


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
