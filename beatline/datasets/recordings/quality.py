"""What may be wrong with a recording, measured once when it is read.

Thresholds are those that the first 400 records of PTB-XL and faults made in them bear out:
tests/datasets/recordings/test_quality.py holds how many of each are found.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy import signal

from beatline.formats.leads import POSITION
from beatline.formats.oddities import flat_and_clipped
from beatline.formats.resampling import interpolated, resampled

Flag = Literal["flat", "clipped", "noisy", "reversed", "duplicate", "short"]
FLAGS: tuple[Flag, ...] = ("flat", "clipped", "noisy", "reversed", "duplicate", "short")
RATE = 100  # Hz, at which ECGs are looked at, so that thresholds are of one band
CORNER = 0.67  # Hz, below which is the baseline (Kligfield et al. 2007, Circulation 115:1306)
# Noise is estimated from second differences, which QRS complexes are too rare to move the median of.
NOISE = 0.1  # of a lead's amplitude: of white noise as strong as the ECG all is found
DRIFT = 1.0  # standard deviation of the baseline, of a lead's amplitude
LEAST_SECONDS = 2.0  # of an ECG that is looked at
# With the arm electrodes exchanged lead I is upside down and V6, which resembles it, is not (Batchvarov,
# Malik and Camm 2007, Europace 9:1081). Infarctions turn V6 alone: lead I must also point down.
CORRELATION = -0.3


def measured(
    samples: np.ndarray, channels: list[str] | None, rate: float | None
) -> dict[str, list[int]]:
    """The columns of `[T, C]`, in which NaN is missing, that are flat, clipped, noisy or reversed;
    flags of none are left out. Noise and exchanged electrodes are looked for in leads of an ECG
    (`channels`) alone."""
    whole, _ = interpolated(samples)
    if len(whole) < 2:
        return {}
    flat, clipped = flat_and_clipped(whole)
    flags = {"flat": np.flatnonzero(flat).tolist(), "clipped": np.flatnonzero(clipped).tolist()}
    leads = {name: n for n, name in enumerate(channels or []) if name in POSITION and not flat[n]}
    if leads and rate and rate >= RATE * 0.8 and len(whole) >= LEAST_SECONDS * rate:
        columns = list(leads.values())
        ecg = whole[:, columns].astype(np.float64)
        ecg = ecg if rate == RATE else resampled(ecg, None, rate, RATE)
        flags["noisy"] = [columns[number] for number in np.flatnonzero(is_noisy(ecg))]
        if {"I", "V6"} <= leads.keys():
            first, sixth = (ecg[:, list(leads).index(name)] for name in ("I", "V6"))
            flags["reversed"] = [leads["I"]] if arms_are_exchanged(first, sixth) else []
    return {flag: columns for flag, columns in flags.items() if columns}


def is_noisy(ecg: np.ndarray) -> np.ndarray:
    """Whether noise or a wandering baseline is as large as the ECG in each lead of `[T, C]` at RATE."""
    beats = _without_baseline(ecg)
    low, high = np.percentile(beats, (0.5, 99.5), axis=0)
    noise = 1.4826 * np.median(np.abs(np.diff(ecg, n=2, axis=0)), axis=0) / np.sqrt(6)
    return np.maximum(noise / NOISE, (ecg - beats).std(axis=0) / DRIFT) > high - low


def arms_are_exchanged(first: np.ndarray, sixth: np.ndarray) -> bool:
    """Whether lead I `[T]` at RATE is upside down, by V6."""
    first, sixth = _without_baseline(np.stack([first, sixth], axis=1)).T
    return bool(np.corrcoef(first, sixth)[0, 1] < CORRELATION and np.mean(first**3) < 0)


def _without_baseline(ecg: np.ndarray) -> np.ndarray:
    sections: Any = signal.butter(2, CORNER / (RATE / 2), "high", output="sos")
    return signal.sosfiltfilt(sections, ecg, axis=0)
