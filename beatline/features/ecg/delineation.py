"""Onsets and offsets of P, QRS and T in the representative beat of a 12-lead ECG.

Intervals are those of all leads together, from the earliest onset to the latest offset (Kligfield et
al. 2007, Circulation 115:1306), so the boundaries are sought in the root mean square over the leads
and its like, where one noisy lead does not decide. P and T end where the tangent to their steepest
slope meets the baseline (Lepeschkin & Surawicz 1952, Circulation 6:378,
https://doi.org/10.1161/01.CIR.6.3.378).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from beatline.features.ecg.beats import R_INDEX, RATE, Beats

Array = NDArray[np.floating]

NEAR_R = round(0.08 * RATE)  # samples around R that hold the steepest part of QRS
QRS_REACH = round(0.15 * RATE)  # samples from there to the farthest boundary of QRS
QUIET = round(0.02 * RATE)  # samples that all leads are quiet before QRS, and after it
LEVEL = 5  # samples before QRS, whose mean is the level from which all is measured
J_TO_T = 0.06  # seconds between the end of QRS and the earliest peak of T
T_LATEST = (
    0.42  # seconds from R to the latest peak of T, at an RR interval of 1 s; goes with its root
)
T_DESCENT = round(0.16 * RATE)  # samples after its peak in which T descends
T_LEAST = 0.02  # mV, root mean square over leads; what is lower is no T wave
P_EARLIEST = 0.34  # seconds before QRS in which a P wave may begin
P_LATEST = round(0.03 * RATE)  # samples before QRS in which no P wave peaks
P_REACH = round(0.09 * RATE)  # samples between the peak of P and its steepest slopes
P_LEAST = 0.015  # mV, root mean square over leads
P_SHORTEST = 0.04  # seconds; what is shorter is the spike of a pacemaker
P_CONSISTENCY = 3.0  # a P wave is so many times what chance leaves of f waves in the mean of beats
NAN = float("nan")


@dataclass(frozen=True)
class Waves:
    """Boundaries of the waves in samples of the representative beat, and parts of them; NaN where
    there is no such wave. `t_latest`: T cannot end later than this."""

    p_onset: float = NAN
    p_offset: float = NAN
    qrs_onset: float = NAN
    qrs_offset: float = NAN
    t_end: float = NAN
    t_latest: float = NAN


def delineate(beats: Beats, leads: list[int], threshold: float) -> Waves:
    """The waves of the representative beat, from those of its leads that are independent and have a
    signal. QRS is where the leads change by more than `threshold` times their fastest change."""
    beat = beats.representative[leads]
    onset, offset = _qrs(beat, threshold)
    if np.isnan(onset + offset):
        return Waves()
    before, after, usual = _intervals(beats)
    latest = min(beat.shape[1], R_INDEX + (after - 0.1) * RATE)
    t_end = _t_end(beat, (onset, offset), latest, usual)
    earliest = max(onset - P_EARLIEST * RATE, np.nan_to_num(t_end) - before * RATE + 2, 0)
    aligned = beats.aligned[leads]
    p_onset, p_offset = _p_wave(beat, aligned, int(earliest), int(onset))
    return Waves(p_onset, p_offset, onset, offset, t_end, latest)


def above_level(beat: Array, qrs_onset: float) -> Array:
    """The beat `[C, W]` above its level just before QRS, the reference of amplitudes and of ST."""
    onset = int(qrs_onset)
    return beat - beat[:, max(0, onset - LEVEL + 1) : onset + 1].mean(axis=1, keepdims=True)


def _intervals(beats: Beats) -> tuple[float, float, float]:
    """RR intervals in seconds: the shortest that commonly precede and follow a dominant beat (others
    may be premature), and the usual one."""
    finite = np.isfinite(beats.rr)
    usual = float(np.median(beats.rr[finite]))
    shortest = [
        float(np.quantile(part, 0.25)) if len(part) else usual
        for part in (
            beats.rr[beats.dominant[1:] & finite],
            beats.rr[beats.dominant[:-1] & finite],
        )
    ]
    return shortest[0], shortest[1], usual


def _qrs(beat: Array, threshold: float) -> tuple[float, float]:
    velocity = np.sqrt((np.gradient(beat, axis=1) ** 2).mean(axis=0))
    steepest = R_INDEX - NEAR_R + int(velocity[R_INDEX - NEAR_R : R_INDEX + NEAR_R + 1].argmax())
    reach = QRS_REACH + QUIET
    before = velocity[max(0, steepest - reach) : steepest + 1][::-1]
    after = velocity[steepest : steepest + reach + 1]
    return (
        steepest - _until_quiet(before, threshold),
        steepest + _until_quiet(after, threshold),
    )


def _until_quiet(velocity: Array, threshold: float) -> float:
    """After how many samples from the first `velocity` falls below the threshold and stays there for
    QUIET samples, relative to the quiet level; NaN if it does not."""
    quiet = np.quantile(velocity[len(velocity) // 2 :], 0.2)
    limit = quiet + threshold * (velocity[0] - quiet)
    below = np.convolve(velocity < limit, np.ones(QUIET), "valid") == QUIET
    if not below.any() or below[0]:
        return NAN
    first = int(below.argmax())
    return first - (limit - velocity[first]) / (velocity[first - 1] - velocity[first])


def _magnitude(beat: Array) -> Array:
    return np.sqrt((beat**2).mean(axis=0))


def _t_end(beat: Array, qrs: tuple[float, float], latest: float, rr: float) -> float:
    """The end of T. Its peak is the most prominent one in time for a long QT interval at this `rr`."""
    first = int(qrs[1] + J_TO_T * RATE)
    magnitude = _magnitude(above_level(beat, qrs[0]))[first : int(latest)]
    peaks, properties = find_peaks(magnitude, prominence=T_LEAST)
    in_time = first + peaks < R_INDEX + T_LATEST * np.sqrt(rr) * RATE
    if not in_time.any():
        return NAN
    peak = int(peaks[in_time][properties["prominences"][in_time].argmax()])
    return first + _foot(magnitude, peak, T_DESCENT)


def _foot(magnitude: Array, peak: int, reach: int) -> float:
    """Return where the tangent to the steepest descent after `peak` meets the baseline, which is the
    lowest value that follows soon."""
    slopes = np.gradient(magnitude)
    steepest = peak + int(slopes[peak : peak + reach].argmin())
    if slopes[steepest] >= 0:
        return NAN
    baseline = magnitude[steepest : steepest + reach].min()
    return steepest + float((baseline - magnitude[steepest]) / slopes[steepest])


def _p_wave(beat: Array, aligned: Array, first: int, last: int) -> tuple[float, float]:
    """Onset and offset of P between two samples of the representative `beat` `[C, W]`, if the single
    beats `aligned` `[C, M, W]` show that it is no chance: fibrillation leaves small waves, too."""
    if last - first < 2 * P_REACH:
        return NAN, NAN
    magnitude = _magnitude(_between_ends(beat[:, first:last]))
    peaks, _ = find_peaks(magnitude[: len(magnitude) - P_LATEST], prominence=P_LEAST)
    if not len(peaks):
        return NAN, NAN
    peak = int(peaks[magnitude[peaks].argmax()])
    offset = _foot(magnitude, peak, P_REACH)
    onset = len(magnitude) - 1 - _foot(magnitude[::-1], len(magnitude) - 1 - peak, P_REACH)
    if not offset - onset >= P_SHORTEST * RATE:
        return NAN, NAN
    wave = slice(max(first, int(first + onset)), min(last, int(first + offset) + 1))
    if not _is_consistent(beat[:, wave], aligned[:, :, wave]):
        return NAN, NAN
    return first + onset, first + offset


def _is_consistent(beat: Array, aligned: Array) -> bool:
    """Whether the wave `[C, W]` is larger than its standard error over the beats `[C, M, W]`."""
    singles = np.where(np.isnan(aligned), beat[:, None], aligned)
    error = _between_ends(singles).std(axis=1) / np.sqrt(aligned.shape[1])
    size = np.sqrt((_between_ends(beat) ** 2).mean())
    return bool(size >= P_CONSISTENCY * np.sqrt((error**2).mean()))


def _between_ends(wave: Array) -> Array:
    """`[..., W]` above the straight line from its beginning to its end."""
    start, end = wave[..., :3].mean(axis=-1), wave[..., -3:].mean(axis=-1)
    return wave - np.linspace(start, end, wave.shape[-1], axis=-1)
