"""Another sampling rate, and values for missing samples: the same in pipeline and service."""

from __future__ import annotations

import numpy as np
import soxr

MOST_RESAMPLED = 50  # times higher or lower a sampling rate may be


def interpolated(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The samples `[T, C]` with those in between for missing ones, 0 in a channel that has none, and
    which are missing (None: none is)."""
    missing = np.isnan(samples)
    columns = np.flatnonzero(missing.any(axis=0))
    if not len(columns):
        return samples, None
    whole, places = samples.copy(), np.arange(len(samples))
    for column in columns:
        valid = ~missing[:, column]
        values = samples[valid, column]
        whole[:, column] = np.interp(places, places[valid], values) if len(values) else 0
    return whole, missing


def resampled(
    whole: np.ndarray, missing: np.ndarray | None, rate: float, wanted: float
) -> np.ndarray:
    """Samples `[T, C]`, none of them NaN, at another sampling rate (Hz), NaN where a neighbour in time
    was `missing`."""
    # The filter sees zeros beyond both ends: without its offset a signal has no step there.
    offset = whole.mean(axis=0)
    result = soxr.resample(np.ascontiguousarray(whole - offset), rate, wanted, quality="HQ")
    result += offset
    if missing is not None:
        places = np.arange(len(result)) * (rate / wanted)
        before = np.minimum(places.astype(int), len(missing) - 1)
        after = np.minimum(np.ceil(places).astype(int), len(missing) - 1)
        result[missing[before] | missing[after]] = np.nan
    return result
