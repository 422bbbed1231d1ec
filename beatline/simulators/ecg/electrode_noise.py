"""Noise that the electrodes of an ECG pick up: drift, mains hum, muscles, bad contacts.

Noise arises at the electrodes, not in the leads, so it is simulated there and then projected: a bad
right arm disturbs I, II and, through Wilson's terminal, every other lead, and Einthoven's law holds
for the noise too. Its levels are set so that the drift and the high-frequency content of the leads
have about the spread of PTB-XL's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.signal import butter, sosfilt

from beatline.simulators.ecg.cardiac_model import DURATION, MODEL_RATE, TWELVE_FROM_EIGHT, Array

# The twelve leads from the potentials of nine electrodes, in the order of `ELECTRODES`.
ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")
_EIGHT_FROM_NINE = np.zeros((8, 9))
_EIGHT_FROM_NINE[:2, :3] = [(-1, 1, 0), (-1, 0, 1)]
_EIGHT_FROM_NINE[2:, :3] = -1 / 3
_EIGHT_FROM_NINE[2:, 3:] = np.eye(6)
LEADS_FROM_ELECTRODES = TWELVE_FROM_EIGHT @ _EIGHT_FROM_NINE

MAINS = 50.0  # Hz
_SAMPLES = round(DURATION * MODEL_RATE)
_TIME = np.arange(_SAMPLES) / MODEL_RATE
# Drift as a short Fourier series of a period that is no part of a record's duration, 1/f in size.
_DRIFT_ORDERS = np.arange(1, 13)
_DRIFT_PHASE = 2 * np.pi * _DRIFT_ORDERS[:, None] * _TIME / (2.3 * DURATION)
_DRIFT_BASIS = np.concatenate((np.cos(_DRIFT_PHASE), np.sin(_DRIFT_PHASE)))
_DRIFT_SIZES = np.tile(1 / _DRIFT_ORDERS, 2) / np.sqrt((1.0 / _DRIFT_ORDERS**2).sum())
# Surface EMG has most of its power between 20 and 150 Hz.
_MUSCLE_BAND = butter(1, (20, 150), "bandpass", fs=MODEL_RATE, output="sos")


@dataclass(frozen=True)
class NoiseLevels:
    """How bad one record is: standard deviations in mV, one for each electrode, `[9]`.

    `bursts` are the seconds, `(start, end)`, in which the muscles are several times as active.
    `dead_lead` is the index of a chest lead whose electrode fell off (the lead is flat), or None.
    """

    drift: Array
    breathing: Array
    mains: Array
    muscle: Array
    bursts: tuple[tuple[float, float], ...]
    dead_lead: int | None


def random_levels(rng: Generator, noise: float) -> NoiseLevels:
    """Levels for one record, `noise` times the usual ones; 0 is a record without any noise."""
    count = len(ELECTRODES)
    contact = np.exp(rng.normal(0, 0.5, count))
    # Now and then one electrode has a bad contact: hum and drift there are several times as large.
    if rng.random() < 0.06:
        contact[rng.integers(count)] *= rng.uniform(3, 7)
    limbs = np.array([2.2, 2.0, 1.0] + [0.8] * 6)
    bursts: list[tuple[float, float]] = []
    if rng.random() < 0.05:
        start = rng.uniform(0, DURATION - 1)
        bursts.append((start, start + rng.uniform(0.5, 3)))
    drift = noise * 0.030 * np.exp(rng.normal(0, 0.75))
    # Tense arms are the usual source of muscle noise.
    muscle = noise * 0.0050 * np.exp(rng.normal(0, 0.55))
    return NoiseLevels(
        drift=drift * contact,
        breathing=noise * 0.012 * np.exp(rng.normal(0, 0.6)) * contact,
        mains=noise * 0.003 * np.exp(rng.normal(0, 1.0)) * contact,
        muscle=muscle * limbs * np.exp(rng.normal(0, 0.25, count)),
        bursts=tuple(bursts),
        dead_lead=int(rng.integers(6, 12)) if noise > 0 and rng.random() < 0.004 else None,
    )


def electrode_noise(levels: NoiseLevels, respiration_rate: float, rng: Generator) -> Array:
    """Noise at the nine electrodes over `DURATION` seconds at `MODEL_RATE`, `[9, samples]`, mV.

    `respiration_rate` is in Hz. Mains hum is at 50 Hz with the grid's deviation of a few hundredths
    of a hertz; what of it is left at a lower sampling rate is up to the filter there.
    """
    count = len(ELECTRODES)
    coefficients = rng.normal(0, 1, (count, len(_DRIFT_SIZES))) * _DRIFT_SIZES
    total = (coefficients * levels.drift[:, None]) @ _DRIFT_BASIS
    total += np.outer(levels.breathing, np.cos(2 * np.pi * respiration_rate * _TIME))
    hum = 2 * np.pi * (MAINS + rng.normal(0, 0.03)) * _TIME
    delays, peaks = rng.normal(0, 0.8, count), np.sqrt(2) * levels.mains
    total += np.outer(peaks * np.cos(delays), np.cos(hum))
    total += np.outer(peaks * np.sin(delays), np.sin(hum))
    white = rng.standard_normal((count, _SAMPLES), dtype=np.float32)
    muscle = sosfilt(_MUSCLE_BAND, white, axis=1)
    muscle *= levels.muscle[:, None] / np.sqrt(0.52)
    for start, end in levels.bursts:
        muscle[:, round(start * MODEL_RATE) : round(end * MODEL_RATE)] *= 5
    total += muscle
    return total
