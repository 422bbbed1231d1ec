"""The mel filter bank of Slaney's Auditory Toolbox, as librosa's ``filters.mel`` builds it by default.

Written here and not imported: ``librosa.filters`` takes three quarters of a second to import, and
brings a compiler with it. The tests compare the two.
"""

from __future__ import annotations

import numpy as np

HZ_A_MEL = 200 / 3  # below the break
BREAK_HZ = 1000.0  # linear below, logarithmic above
BREAK_MEL = BREAK_HZ / HZ_A_MEL
LOG_STEP = np.log(6.4) / 27  # of the natural logarithm of the frequency, per mel above the break


def hz_to_mel(frequency: float) -> float:
    """Slaney's mel scale (Auditory Toolbox, Technical Report 1998-010, Interval Research)."""
    if frequency < BREAK_HZ:
        return frequency / HZ_A_MEL
    return BREAK_MEL + float(np.log(frequency / BREAK_HZ) / LOG_STEP)


def mel_to_hz(mels: np.ndarray) -> np.ndarray:
    """The inverse of :func:`hz_to_mel`, for an array."""
    logarithmic = BREAK_HZ * np.exp(LOG_STEP * (mels - BREAK_MEL))
    return np.where(mels < BREAK_MEL, mels * HZ_A_MEL, logarithmic)


def filter_bank(frequencies: np.ndarray, bands: int, lowest: float, highest: float) -> np.ndarray:
    """Triangular filters of equal area, `[bands, F]` float32, for FFT bins at `frequencies` `[F]` in Hz.

    Their corners are spaced evenly in mel from `lowest` to `highest` Hz. A filter between two bins is
    zero throughout.
    """
    corners = _corners(bands, lowest, highest)
    widths = np.diff(corners)
    distances = frequencies - corners[:, None]
    rising = distances[:-2] / widths[:-1, None]
    falling = -distances[2:] / widths[1:, None]
    heights = 2 / (corners[2:, None] - corners[:-2, None])
    return (np.maximum(0, np.minimum(rising, falling)) * heights).astype(np.float32)


def centre_frequencies(bands: int, lowest: float, highest: float) -> np.ndarray:
    """Return the frequency at which each filter of the bank is highest, `[bands]` in Hz."""
    return _corners(bands, lowest, highest)[1:-1]


def _corners(bands: int, lowest: float, highest: float) -> np.ndarray:
    return mel_to_hz(np.linspace(hz_to_mel(lowest), hz_to_mel(highest), bands + 2))
