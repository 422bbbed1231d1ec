"""How fast, and how rightly, ECGs are measured: ours against a loop over `wfdb.processing.xqrs_detect`.

Run as `python -m benchmarks.ecg_features`. It simulates 600 records of 10 s at 100 Hz, whose R peaks
are known, and in one process lets both find them: the loop in lead II, record by record, as a user
of the library would write it; ours in all leads together. Ours then measures all features, too. Times
are of the processor, in one thread. Exits with status 1 if ours finds fewer of the R peaks or more
that are none, is not faster, or would take more than 15 s to measure 2,400 records.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from wfdb.processing import xqrs_detect

from beatline import features
from beatline.common import params
from beatline.features import ecg
from beatline.features.ecg.beats import QRS_BAND, RATE, filtered, qrs_activity, r_peaks, resampled
from beatline.formats.leads import LEADS
from beatline.simulators.ecg import simulator
from beatline.simulators.ecg.cardiac_model import DURATION, heartbeats

N_RECORDS, SEED, SAMPLING_RATE = 600, 5, 100
PIPELINE_RECORDS, PIPELINE_SECONDS = 2_400, 15.0
TOLERANCE = 0.075  # seconds between an R peak and one that counts as the same
EDGE = 0.2  # seconds at both ends of a record in which a beat may be cut off: not counted
LEAD_II = LEADS.index("II")

Peaks = list[np.ndarray]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Agreement:
    """Which share of the beats was found, and of what was found is a beat (ANSI/AAMI EC57)."""

    sensitivity: float
    positive_predictivity: float


def simulate() -> tuple[np.ndarray, Peaks]:
    """Records `[N, T, 12]` in mV, and when their ventricles beat, in seconds."""
    cohort = simulator.cohort(N_RECORDS, SEED)
    recordings = [simulator.signals(record, SEED, SAMPLING_RATE) for record in cohort]
    times = []
    for record in cohort:
        stream = simulator.stream(SEED, simulator.RECORD, record.ecg_id, 1)
        beats = heartbeats(record.rhythm, stream)
        times.append(np.array([beat.time for beat in beats if beat.ventricular]))
    return np.asarray(recordings, np.float32), times


def peaks_by_loop(recordings: np.ndarray, sampling_rate: int) -> Peaks:
    """The R peaks of records `[N, T, 12]` in seconds, as wfdb finds them in lead II."""
    found = []
    for recording in recordings:
        lead = recording[:, LEAD_II].astype(np.float64)
        found.append(np.asarray(xqrs_detect(lead, sampling_rate, verbose=False)) / sampling_rate)
    return found


def peaks_by_ours(recordings: np.ndarray, sampling_rate: int, threshold: float) -> Peaks:
    """The R peaks of records `[N, T, 12]` without invalid samples in seconds, as ours finds them."""
    independent = [LEADS.index(lead) for lead in ecg.INDEPENDENT]
    found = []
    for start in range(0, len(recordings), ecg.RECORDS_AT_ONCE):
        part = recordings[start : start + ecg.RECORDS_AT_ONCE, :, independent]
        leads = resampled(part.transpose(0, 2, 1).astype(np.float64), sampling_rate)
        found += [
            r_peaks(qrs_activity(record), threshold) / RATE for record in filtered(leads, QRS_BAND)
        ]
    return found


def agreement(found: Peaks, beats: Peaks) -> Agreement:
    """How `found` agrees with the `beats` that there were, times in seconds, record by record."""
    pairs = list(zip(found, beats, strict=True))
    hits = sum(int(_near(_counted(there), peaks).sum()) for peaks, there in pairs)
    right = sum(int(_near(_counted(peaks), there).sum()) for peaks, there in pairs)
    return Agreement(
        hits / sum(len(_counted(there)) for there in beats),
        right / sum(len(_counted(peaks)) for peaks in found),
    )


def _counted(times: np.ndarray) -> np.ndarray:
    return times[(times > EDGE) & (times < DURATION - EDGE)]


def _near(times: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the `times` have one of the `others` within the tolerance."""
    return np.min(np.abs(times[:, None] - others), axis=1, initial=np.inf) < TOLERANCE


def timed(run: Callable[[], Result]) -> tuple[float, Result]:
    """The processor's seconds that `run` takes a record, and what it returns."""
    start = time.process_time()
    result = run()
    return (time.process_time() - start) / N_RECORDS, result


def show(ways: Sequence[tuple[str, float, Agreement | None]]) -> None:
    """Print a line per way: its name, seconds a record, agreement."""
    print(f"{'':34}{'ms a record':>12}{'ratio':>8}{'sensitivity':>13}{'pos. pred.':>12}")
    for name, seconds, agrees in ways:
        line = f"{name:34}{seconds * 1e3:12.2f}{ways[0][1] / seconds:8.1f}"
        if agrees:
            line += f"{agrees.sensitivity:13.4f}{agrees.positive_predictivity:12.4f}"
        print(line)


def main() -> int:
    """Print the table; return the exit status."""
    parameters = features.parameters_of(params.load(), "ptbxl")
    assert isinstance(parameters, ecg.ExtractFeatures)
    recordings, beats = simulate()
    loop, by_loop = timed(lambda: peaks_by_loop(recordings, SAMPLING_RATE))
    ours, by_ours = timed(
        lambda: peaks_by_ours(recordings, SAMPLING_RATE, parameters.peak_threshold)
    )
    everything, _ = timed(lambda: ecg.extract(recordings, SAMPLING_RATE, LEADS, parameters))
    theirs_agrees, ours_agrees = agreement(by_loop, beats), agreement(by_ours, beats)
    print(f"{N_RECORDS:,} simulated records of {DURATION:g} s at {SAMPLING_RATE} Hz")
    show(
        [
            ("wfdb xqrs_detect, lead II", loop, theirs_agrees),
            ("ours, R peaks of all leads", ours, ours_agrees),
            (f"ours, all {len(ecg.FEATURES)} features", everything, None),
        ]
    )
    print(f"{PIPELINE_RECORDS:,} records: {everything * PIPELINE_RECORDS:.1f} s")
    right = (
        ours_agrees.sensitivity >= theirs_agrees.sensitivity
        and ours_agrees.positive_predictivity >= theirs_agrees.positive_predictivity
    )
    fast = ours < loop and everything * PIPELINE_RECORDS <= PIPELINE_SECONDS
    return 0 if right and fast else 1


if __name__ == "__main__":
    sys.exit(main())
