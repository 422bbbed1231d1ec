"""R peaks, and the representative beat of a 12-lead ECG.

Automatic electrocardiographs measure intervals and amplitudes on one representative beat, made of
all beats of the dominant shape, because that takes out noise and keeps ectopic beats apart
(Kligfield et al. 2007, Recommendations for the standardization and interpretation of the
electrocardiogram I, Circulation 115:1306, https://doi.org/10.1161/CIRCULATIONAHA.106.180200).
Here it is the median of the beats, sample by sample.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

RATE = 250  # Hz, at which everything is measured, whatever the rate of the recordings
BEFORE, AFTER = 0.42, 0.66  # seconds around R that hold a long PR and a long QT interval
R_INDEX = round(BEFORE * RATE)  # of the R peak in a representative beat
WINDOW = np.arange(round((BEFORE + AFTER) * RATE)) - R_INDEX
QRS_BAND = (5.0, 30.0)  # Hz: of the QRS complex, with less of P, T, drift and muscles
QRS_WINDOW = np.arange(-round(0.12 * RATE), round(0.12 * RATE) + 1)  # around R, to compare beats
SMOOTHING = 0.1  # seconds: about the length of QRS (Elgendi 2013, PLoS ONE 8:e73557)
REFRACTORY = 0.2  # seconds after a beat in which no other can follow (Pan & Tompkins 1985)
T_WITHIN = 0.4  # seconds after QRS; a peak there of less than half the height is its T wave
P_WITHIN = 0.3  # seconds before QRS; likewise for its P wave
TYPICAL_WINDOW = 2.0  # seconds: at 30 beats a minute it still holds one
LEAST_DOMINANT = 0.4  # of the beats are alike in any rhythm, even if every second is ectopic


@dataclass(frozen=True)
class Beats:
    """The N beats of one record of C leads.

    `rr` `[N - 1]`: the intervals between their R peaks in seconds, NaN where a beat may have been
    missed for want of valid samples. `dominant` `[N]`: which are of the dominant shape.
    `aligned` `[C, M, W]`: those of them that the recording holds whole, in mV at RATE, their R peaks
    at R_INDEX, NaN where samples are invalid; `representative` `[C, W]`: their median.
    """

    rr: Array
    dominant: Mask
    aligned: Array
    representative: Array


def resampled(recordings: Array, sampling_rate: float) -> Array:
    """Recordings `[..., T]` at RATE, free of aliases."""
    ratio = Fraction(RATE / sampling_rate).limit_denominator(1000)
    return signal.resample_poly(
        recordings, ratio.numerator, ratio.denominator, axis=-1, padtype="line"
    )


def filtered(recordings: Array, band: tuple[float, float]) -> Array:
    """Recordings `[..., T]` at RATE, band-passed without any shift in time."""
    sections = signal.butter(2, band, "bandpass", fs=RATE, output="sos")
    return signal.sosfiltfilt(sections, recordings, axis=-1)


def qrs_activity(leads: Array) -> Array:
    """How strongly the leads `[C, T]` in the QRS_BAND deflect together, `[T]` in mV.

    The mean over leads is that of roots, squared: a disturbance of one lead hardly moves it.
    """
    combined = np.sqrt(np.abs(leads)).mean(axis=0) ** 2
    window = np.hanning(round(SMOOTHING * RATE) + 2)
    return np.convolve(combined, window / window.sum(), mode="same")


def r_peaks(activity: Array, threshold: float) -> Array:
    """Find the R peaks of a record, in samples and fractions of them, from its activity `[T]`.

    A peak must reach `threshold` times the typical QRS complex, the median of the highest values of
    windows that surely hold one. A T wave is known by its coming soon after a QRS complex and being
    much smaller (Pan & Tompkins 1985, IEEE Trans Biomed Eng 32:230,
    https://doi.org/10.1109/TBME.1985.325532), a P wave by the like. No thresholds are learnt from
    the first seconds, as in detectors for long recordings: there are ten in all.
    """
    step = round(TYPICAL_WINDOW * RATE)
    highest = [activity[start : start + step].max() for start in range(0, len(activity), step)]
    height = threshold * np.median(highest)
    if height <= 0:
        return np.empty(0)
    peaks, _ = signal.find_peaks(activity, height=height, distance=round(REFRACTORY * RATE))
    peaks = _without_p_and_t(peaks, activity)
    return peaks + _vertex(activity[peaks - 1], activity[peaks], activity[peaks + 1])


def _without_p_and_t(peaks: NDArray[np.integer], activity: Array) -> NDArray[np.integer]:
    """The `peaks` that have no neighbour of more than twice their height as near as QRS is to P or T."""
    while True:
        gap, height = np.diff(peaks) / RATE, activity[peaks]
        is_t = (gap < T_WITHIN) & (height[1:] < 0.5 * height[:-1])
        is_p = (gap < P_WITHIN) & (height[:-1] < 0.5 * height[1:])
        kept = ~(np.append(False, is_t) | np.append(is_p, False))
        if kept.all():
            return peaks
        peaks = peaks[kept]


def _vertex(before: Array, at: Array, after: Array) -> Array:
    """Return the vertices of the parabolas through three samples, relative to the middle ones."""
    curvature = before - 2 * at + after
    return np.divide(0.5 * (before - after), curvature, np.zeros_like(at), where=curvature < 0)


def find_beats(leads: Array, invalid: Mask, peaks: Array, correlation: float) -> Beats | None:
    """The beats of leads `[C, T]` in mV at RATE whose R peaks are at `peaks` `[N]`, in samples.

    A beat is of the dominant shape if its QRS complex correlates by more than `correlation` with that
    of the beat which is most like all others. None if there are fewer than two beats, or none is
    whole, or they are so unlike each other that what was found are hardly beats.
    """
    if len(peaks) < 2:
        return None
    nearest = np.rint(peaks).astype(int)
    inside = np.clip(nearest[:, None] + QRS_WINDOW, 0, leads.shape[1] - 1)
    dominant = _dominant(leads[:, inside].swapaxes(0, 1), correlation)
    whole = (nearest >= R_INDEX) & (nearest + WINDOW[-1] < leads.shape[1])
    if dominant.mean() < LEAST_DOMINANT or not (whole & dominant).any():
        return None
    places = nearest[whole & dominant][:, None] + WINDOW
    aligned = leads[:, places]
    if invalid.any():
        aligned = np.where(invalid[:, places], np.nan, aligned)
    rr = np.where(_interrupted(invalid, nearest), np.nan, np.diff(peaks) / RATE)
    if np.isnan(rr).all():
        return None
    return Beats(rr, dominant, aligned, _median(aligned))


def _interrupted(invalid: Mask, peaks: NDArray[np.integer]) -> Mask:
    """Between which of the `peaks` `[N]` most leads are invalid for longer than a QRS complex lasts,
    `[N - 1]`, by the samples `invalid` `[C, T]`; leads that are so throughout do not count."""
    present = invalid[~invalid.all(axis=1)]
    gone = np.concatenate(([0], np.cumsum(present.mean(axis=0) > 0.5)))
    return np.diff(gone[peaks]) > SMOOTHING * RATE


def _dominant(shapes: Array, correlation: float) -> Mask:
    """Which of the QRS complexes `[N, C, W]` are like the one that is most like all others."""
    flat = (shapes - shapes.mean(axis=2, keepdims=True)).reshape(len(shapes), -1)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    likeness = flat @ flat.T
    return likeness[np.median(likeness, axis=0).argmax()] > correlation


def _median(aligned: Array) -> Array:
    """The median over beats of `[C, M, W]`, NaN where none has a valid sample."""
    if not np.isnan(aligned).any():
        return np.median(aligned, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the median of nothing, which is NaN
        return np.nanmedian(aligned, axis=1)
