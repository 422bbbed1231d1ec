"""Measurements on one record: rhythm, intervals, amplitudes, axes, voltages, spectrum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from beatline.features.ecg.beats import RATE, Beats
from beatline.features.ecg.delineation import J_TO_T, NAN, Waves, above_level
from beatline.formats.leads import LEADS, POSITION

Array = NDArray[np.floating]

R_LEAST = 0.02  # mV: what is lower is no R wave (CSE Working Party 1985, Eur Heart J 6:815)
ST_AT = 0.06  # seconds after the end of QRS
BANDS = {"low": (0.5, 5.0), "middle": (5.0, 15.0), "high": (15.0, 40.0)}  # Hz
SEGMENT = 4 * RATE  # samples of Welch's method: a resolution of 0.25 Hz

RHYTHM = ("heart_rate", "rr_variation", "sdnn", "rmssd", "pnn50", "ectopic_share")
INTERVALS = ("p_duration", "pr_interval", "qrs_duration", "qt_interval", "qtc_fridericia")
AMPLITUDES = ("q_amplitude", "r_amplitude", "s_amplitude", "st_level", "t_amplitude")
VECTORS = ("qrs_axis", "t_axis", "qrs_t_angle", "sokolow_lyon_voltage", "cornell_voltage")
SPECTRUM = (
    *(f"{name}_frequency_share_II" for name in BANDS),
    "dominant_frequency_II",
    "spectral_entropy_II",
)
STATISTICS = ("standard_deviation", "skewness", "kurtosis")
STATISTICS_LEADS = ("II", "V1")


def rhythm(beats: Beats) -> list[float]:
    """RHYTHM: beats per minute; standard deviation of all RR intervals over their mean; of the normal
    ones SDNN and RMSSD in ms and pNN50 in percent (Task Force 1996, Circulation 93:1043); the share
    of beats that are not of the dominant shape."""
    finite = np.isfinite(beats.rr)
    normal = beats.dominant[1:] & beats.dominant[:-1] & finite
    successive = np.diff(beats.rr)[normal[1:] & normal[:-1]] * 1000
    rr, normal_rr = beats.rr[finite], beats.rr[normal]
    return [
        60 / float(rr.mean()),
        float(rr.std(ddof=1) / rr.mean()) if len(rr) > 1 else NAN,
        float(normal_rr.std(ddof=1) * 1000) if len(normal_rr) > 1 else NAN,
        float(np.sqrt((successive**2).mean())) if len(successive) else NAN,
        float((np.abs(successive) > 50).mean() * 100) if len(successive) else NAN,
        float(1 - beats.dominant.mean()),
    ]


def intervals(beats: Beats, waves: Waves) -> list[float]:
    """INTERVALS in ms; QTc after Fridericia 1920, QT over the cube root of RR in seconds."""
    p, pr, qrs, qt = (
        (end - start) * 1000 / RATE
        for start, end in (
            (waves.p_onset, waves.p_offset),
            (waves.p_onset, waves.qrs_onset),
            (waves.qrs_onset, waves.qrs_offset),
            (waves.qrs_onset, waves.t_end),
        )
    )
    return [p, pr, qrs, qt, qt / float(np.cbrt(np.nanmean(beats.rr)))]


def amplitudes(beat: Array, waves: Waves) -> Array:
    """AMPLITUDES `[5, 12]` of the leads in mV, above the level at the onset of QRS.

    Q and S are negative or 0, R is positive or 0; a QRS complex without R counts as Q (QS). T is its
    farthest deflection to either side, whether or not it has a clear end.
    """
    if np.isnan(waves.qrs_onset):
        return np.full((len(AMPLITUDES), len(LEADS)), np.nan)
    beat = above_level(beat, waves.qrs_onset)
    qrs = beat[:, int(waves.qrs_onset) : int(np.ceil(waves.qrs_offset)) + 1]
    peak, r = qrs.argmax(axis=1)[:, None], qrs.max(axis=1)
    places = np.arange(qrs.shape[1])
    q = np.where(places <= peak, qrs, 0.0).min(axis=1, initial=0.0)
    s = np.where(places >= peak, qrs, 0.0).min(axis=1, initial=0.0)
    without_r = r < R_LEAST
    q, s = np.where(without_r, np.minimum(q, s), q), np.where(without_r, 0.0, s)
    st = beat[:, min(round(waves.qrs_offset + ST_AT * RATE), beat.shape[1] - 1)]
    end = waves.t_latest if np.isnan(waves.t_end) else waves.t_end
    start = int(waves.qrs_offset + J_TO_T * RATE)
    t = beat[:, start : max(start + 1, int(end))]
    farthest = np.abs(t).argmax(axis=1)
    return np.stack((q, np.maximum(r, 0.0), s, st, t[np.arange(len(t)), farthest]))


def vectors(beat: Array, waves: Waves, measured: Array) -> list[float]:
    """VECTORS: frontal axes of QRS (from its area) and T (from its amplitude) in degrees, 0 to the
    left and 90 to the feet, and the angle between them; voltages in mV: S in V1 and the larger R of
    V5 and V6 (Sokolow & Lyon 1949), R in aVL and S in V3 (Casale et al. 1985). `measured` are the
    `amplitudes` of the beat."""
    if np.isnan(waves.qrs_onset):
        return [NAN] * len(VECTORS)
    qrs = slice(int(waves.qrs_onset), int(np.ceil(waves.qrs_offset)) + 1)
    area = above_level(beat, waves.qrs_onset)[:, qrs].sum(axis=1)
    q, r, s, _, t = measured
    qrs_axis, t_axis = _axis(area), _axis(t)
    depth = -np.minimum(q, s)
    return [
        qrs_axis,
        t_axis,
        abs((qrs_axis - t_axis + 180) % 360 - 180),
        float(depth[POSITION["V1"]] + np.maximum(r[POSITION["V5"]], r[POSITION["V6"]])),
        float(depth[POSITION["V3"]] + r[POSITION["AVL"]]),
    ]


def _axis(values: Array) -> float:
    """The direction of a vector of which leads I and aVF show the components. aVF, a third of three
    potentials, is the smaller by half the root of three."""
    x, y = values[POSITION["I"]], values[POSITION["AVF"]] * 2 / np.sqrt(3)
    return float(np.degrees(np.arctan2(y, x)))


def spectrum(leads: Array) -> Array:
    """SPECTRUM `[B, 5]` of lead II of recordings `[B, 12, T]` at RATE, by Welch's method: shares of the
    power in BANDS, frequency of the highest power in Hz, and the entropy of the distribution of
    power over frequencies, 1 where all have the same."""
    segment = min(SEGMENT, leads.shape[-1])
    frequency, power = signal.welch(leads[:, POSITION["II"]], RATE, nperseg=segment)
    used = _between(frequency, BANDS["low"][0], BANDS["high"][1])
    frequency, power = frequency[used], power[:, used]
    with np.errstate(invalid="ignore", divide="ignore"):  # a lead without signal has no shares
        power = power / power.sum(axis=1, keepdims=True)
    shares = [power[:, _between(frequency, *band)].sum(axis=1) for band in BANDS.values()]
    entropy = stats.entropy(power, axis=1) / np.log(len(frequency))
    dominant = np.where(np.isnan(entropy), np.nan, frequency[power.argmax(axis=1)])
    return np.column_stack((*shares, dominant, entropy))


def _between(frequency: Array, low: float, high: float) -> slice:
    return slice(*np.searchsorted(frequency, (low, high)))


def statistics(leads: Array) -> Array:
    """STATISTICS of STATISTICS_LEADS `[B, 6]` of recordings `[B, 12, T]`, lead by lead; the kurtosis of
    a normal distribution is 0."""
    chosen = leads[:, [POSITION[lead] for lead in STATISTICS_LEADS]]
    moments = (chosen.std(axis=-1), stats.skew(chosen, axis=-1), stats.kurtosis(chosen, axis=-1))
    return np.stack(moments, axis=2).reshape(len(leads), -1)
