"""A table of features per 12-lead ECG: rhythm, intervals, amplitudes, axes, voltages, spectrum.

R peaks are found on all leads together with SciPy's filters and peak finder; everything of shape is
measured on one representative beat (:mod:`beatline.features.ecg.beats`), as electrocardiographs do.
PTB-XL+ (Strodthoff et al. 2023, Scientific Data 10:279) has features of this kind, made by other
programs. What cannot be measured is NaN, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator
from tqdm import tqdm

from beatline.common import parallel
from beatline.common.errors import UserError
from beatline.common.params import Parameters
from beatline.features import Recorded
from beatline.features.ecg import measurements
from beatline.features.ecg.beats import (
    QRS_BAND,
    RATE,
    filtered,
    find_beats,
    qrs_activity,
    r_peaks,
    resampled,
)
from beatline.features.ecg.delineation import delineate
from beatline.features.tables import write_tables
from beatline.formats.leads import LEADS, POSITION

Array = NDArray[np.floating]

RHYTHM_AND_SHAPE = (
    *measurements.RHYTHM,
    *measurements.INTERVALS,
    *(f"{kind}_{lead}" for kind in measurements.AMPLITUDES for lead in LEADS),
    *measurements.VECTORS,
)
FEATURES = (
    *RHYTHM_AND_SHAPE,
    *measurements.SPECTRUM,
    *(
        f"{name}_{lead}"
        for lead in measurements.STATISTICS_LEADS
        for name in measurements.STATISTICS
    ),
)

INDEPENDENT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")  # the others follow from I and II
RECORDS_AT_ONCE = 32  # 8 MB a copy at 10 s
SHORTEST = 2.0  # seconds
MOST_INVALID = 0.5  # of a lead's samples: with more it counts as without signal


class ExtractFeatures(Parameters):
    """How features are measured.

    `lowest_frequency`, `highest_frequency` in Hz: the band in which shapes are measured (0.67 Hz, the
    highest that leaves ST alone if filtered without a shift of phase: Kligfield et al. 2007).
    `peak_threshold`: the least QRS complex, relative to the typical one. `beat_correlation`: how much
    beats must be alike to be averaged. `qrs_threshold`: QRS begins and ends where the leads change
    this fast, relative to their fastest change.
    """

    lowest_frequency: Annotated[float, Field(gt=0)]
    highest_frequency: Annotated[float, Field(gt=0, lt=RATE / 2)]
    peak_threshold: Annotated[float, Field(gt=0, lt=1)]
    beat_correlation: Annotated[float, Field(gt=0, lt=1)]
    qrs_threshold: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _fit_together(self) -> ExtractFeatures:
        if self.highest_frequency <= self.lowest_frequency:
            raise ValueError("highest_frequency must exceed lowest_frequency")
        return self


def extract(
    recordings: Array, sampling_rate: float, leads: Sequence[str], parameters: ExtractFeatures
) -> Array:
    """FEATURES `[B, F]`, float64, of recordings `[B, T, 12]` in mV, NaN where one cannot be measured.

    `leads` names the last axis, in any order and case; NaN in recordings is an invalid sample. A
    record is measured without regard to the others. Raises UserError if leads are missing, or the
    recordings are too short, or sampled too slowly for `highest_frequency`.
    """
    order = _order(leads)
    if sampling_rate <= 2 * parameters.highest_frequency:
        raise UserError(
            f"recordings at {sampling_rate:g} Hz hold nothing up to highest_frequency = "
            f"{parameters.highest_frequency:g} Hz: set it below {sampling_rate / 2:g}"
        )
    if recordings.shape[1] < SHORTEST * sampling_rate:
        raise UserError(
            f"the recordings last {recordings.shape[1] / sampling_rate:g} s: features of an ECG "
            f"need at least {SHORTEST:g} s"
        )
    parts = [
        _extract(recordings[start : start + RECORDS_AT_ONCE][..., order], sampling_rate, parameters)
        for start in range(0, len(recordings), RECORDS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(FEATURES)))


def write(folder: Path, recorded: Recorded, parameters: ExtractFeatures) -> dict[str, Any]:
    """Write the tables of features, a row per record after its labels and its `diagnosis`: the class
    that holds alone, `several`, or `none`. Returns what the table is, and how it was made."""
    names = recorded.table["record"].astype(str).to_list()
    channels, rate = recorded.description["channels"], recorded.description["sampling_rate"]
    if rate is None:
        raise UserError(
            "kind is ecg, and nobody says the sampling rate of these recordings: say it in download, or "
            "take the data set out of extract_features"
        )
    work = partial(extract, sampling_rate=rate, leads=channels, parameters=parameters)
    total = -(-len(names) // RECORDS_AT_ONCE)
    rows: list[np.ndarray] = []
    with tqdm(total=len(names), desc="extract features", mininterval=10, unit=" records") as shown:
        for measured in parallel.ordered(work, _few(recorded, names), total=total):
            rows.append(measured)
            shown.update(len(measured))
    table = pd.DataFrame(np.concatenate(rows), columns=list(FEATURES))
    classes: list[str] = recorded.description["classes"]
    diagnosis = _diagnosis(recorded.table.loc[:, classes])
    write_tables(folder, pd.concat([recorded.table, diagnosis, table], axis=1))
    return {
        "title": f"features of {recorded.description['title']}",
        "channels": list(FEATURES),
        "unit": "of each feature its own",
        "representation": {"kind": "ecg", **parameters.model_dump()},
    }


def _few(recorded: Recorded, names: Sequence[str]) -> Iterator[Array]:
    """The recordings `names`, at most RECORDS_AT_ONCE in an array."""
    for batch in recorded.module.read_recordings(recorded.pack, names):
        for start in range(0, len(batch), RECORDS_AT_ONCE):
            yield batch[start : start + RECORDS_AT_ONCE]


def _diagnosis(labels: pd.DataFrame) -> pd.Series:
    total = labels.sum(axis=1)
    alone = labels.idxmax(axis=1).where(total > 0, "none").where(total <= 1, "several")
    return alone.rename("diagnosis")


def _order(leads: Sequence[str]) -> list[int]:
    """Return the position of each of LEADS among `leads`."""
    names = [lead.upper() for lead in leads]
    if missing := [lead for lead in LEADS if names.count(lead) != 1]:
        raise UserError(
            f"features of an ECG need the twelve leads {', '.join(LEADS)}, each once; not so: "
            f"{', '.join(missing)}"
        )
    return [names.index(lead) for lead in LEADS]


def _extract(recordings: Array, sampling_rate: float, parameters: ExtractFeatures) -> Array:
    """Extract like `extract`, for a few recordings with leads in the order of LEADS."""
    raw = recordings.transpose(0, 2, 1).astype(np.float64)
    invalid = ~np.isfinite(raw)
    usable = _usable(raw, invalid)
    raw[~usable] = 0.0
    _fill(raw, invalid & usable[..., None])
    raw = resampled(raw, sampling_rate)
    samples = np.arange(raw.shape[-1]) * sampling_rate / RATE
    invalid = invalid[..., np.minimum(np.rint(samples).astype(int), invalid.shape[-1] - 1)]
    shapes = filtered(raw, (parameters.lowest_frequency, parameters.highest_frequency))
    qrs = filtered(raw, QRS_BAND)
    shape_measures = [
        _rhythm_and_shape(*record, parameters)
        for record in zip(shapes, qrs, invalid, usable, strict=True)
    ]
    shapes[~usable] = np.nan
    return np.concatenate(
        (shape_measures, measurements.spectrum(shapes), measurements.statistics(shapes)), axis=1
    )


def _usable(raw: Array, invalid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which leads `[B, C]` of `[B, C, T]` have a signal: enough valid samples, and not one value."""
    highest = np.where(invalid, -np.inf, raw).max(axis=-1)
    lowest = np.where(invalid, np.inf, raw).min(axis=-1)
    return (invalid.mean(axis=-1) <= MOST_INVALID) & (highest > lowest)


def _fill(raw: Array, invalid: NDArray[np.bool_]) -> None:
    """Bridge invalid samples by straight lines, in place, for the filters; they are not measured."""
    for record, lead in np.argwhere(invalid.any(axis=-1)):
        gaps = invalid[record, lead]
        values = raw[record, lead]
        values[gaps] = np.interp(np.flatnonzero(gaps), np.flatnonzero(~gaps), values[~gaps])


def _rhythm_and_shape(
    leads: Array,
    qrs: Array,
    invalid: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    parameters: ExtractFeatures,
) -> Array:
    """RHYTHM_AND_SHAPE of one record: its `leads` and the same in the band of `qrs`, `[12, T]`."""
    nothing = np.full(len(RHYTHM_AND_SHAPE), np.nan)
    chosen = [POSITION[lead] for lead in INDEPENDENT if usable[POSITION[lead]]]
    if not chosen:
        return nothing
    peaks = r_peaks(qrs_activity(qrs[chosen]), parameters.peak_threshold)
    missing = invalid | ~usable[:, None]
    beats = find_beats(leads, missing, peaks, parameters.beat_correlation)
    if beats is None:
        return nothing
    beat = beats.representative
    chosen = [lead for lead in chosen if np.isfinite(beat[lead]).all()]
    if not chosen:
        return nothing
    waves = delineate(beats, chosen, parameters.qrs_threshold)
    measured = measurements.amplitudes(beat, waves)
    return np.array(
        [
            *measurements.rhythm(beats),
            *measurements.intervals(beats, waves),
            *measured.ravel(),
            *measurements.vectors(beat, waves, measured),
        ]
    )
