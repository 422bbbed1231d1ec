"""Faults of recordings: those that were made in real ECGs are found, and good ECGs are not accused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soxr

from beatline.datasets.recordings.quality import measured
from beatline.formats.leads import LEADS
from tests.own_recordings import real, real_ecgs

CHANNELS: list[str] = list(LEADS)
COLUMN = {name: number for number, name in enumerate(LEADS)}


def flat(ecg: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """An electrode that is off."""
    ecg[:, draw.integers(6, 12)] = draw.choice([0.0, 0.5])
    return ecg


def clipped(ecg: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """An amplifier that ends at 70 percent of a lead's extreme, by which its QRS complexes are cut."""
    lead = ecg[:, draw.integers(6, 12)]
    end = 0.7 * lead[np.abs(lead).argmax()]
    lead[:] = np.minimum(lead, end) if end > 0 else np.maximum(lead, end)
    return ecg


def noisy(ecg: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """White noise as strong as the lead itself."""
    lead = ecg[:, draw.integers(0, 12)]
    lead += lead.std() * draw.standard_normal(len(lead)).astype(lead.dtype)
    return ecg


def exchanged(ecg: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Exchanged electrodes of the arms."""
    made = ecg.copy()
    made[:, COLUMN["I"]] *= -1
    for one, other in (("II", "III"), ("AVR", "AVL")):
        made[:, [COLUMN[one], COLUMN[other]]] = ecg[:, [COLUMN[other], COLUMN[one]]]
    return made


@real_ecgs
def test_few_of_the_real_ecgs_are_accused() -> None:
    """Of 400 records none is flat, clipped or has exchanged electrodes, and two are noisy: their
    baselines wander by more than the ECG is high."""
    found = [measured(ecg, CHANNELS, 100) for ecg in real()[1]]
    assert {flag for flags in found for flag in flags} == {"noisy"}
    assert [number + 1 for number, flags in enumerate(found) if flags] == [8, 200]


@real_ecgs
@pytest.mark.parametrize("rate", [100, 500])
@pytest.mark.parametrize(
    ("fault", "flag", "least"),
    [
        (flat, "flat", 1.0),
        (clipped, "clipped", 0.8),
        (noisy, "noisy", 0.9),
        (exchanged, "reversed", 0.9),
    ],
)
def test_made_faults_are_found(
    fault: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    flag: str,
    least: float,
    rate: int,
) -> None:
    """In so many of the real ECGs at least, at their own rate and at another."""
    draw = np.random.default_rng(1)
    found = 0
    chosen = real()[1][:: 1 if rate == 100 else 4]
    for ecg in chosen:
        at_rate = ecg if rate == 100 else soxr.resample(ecg, 100, rate)
        if fault is noisy and rate != 100:  # white up to 50 Hz, as devices filter it
            at_rate = soxr.resample(noisy(ecg.copy(), draw), 100, rate)
        else:
            at_rate = fault(at_rate.copy(), draw)
        found += flag in measured(at_rate, CHANNELS, rate)
    assert found / len(chosen) >= least


def test_what_is_no_ecg_is_not_judged_as_one() -> None:
    """Noise of a machine is its signal; flat and clipped channels are told of any recording."""
    draw = np.random.default_rng(1)
    noise = draw.standard_normal((2000, 2))
    assert measured(noise, ["x", "y"], 100) == {}
    assert measured(noise, None, 100) == {}
    noise[:, 1] = 3
    assert measured(noise, ["x", "y"], None) == {"flat": [1]}


def test_missing_samples_and_short_recordings_are_no_fault() -> None:
    """NaN is neither flat nor clipped; of one sample nothing can be told."""
    ecg = np.random.default_rng(1).standard_normal((1000, 1))
    ecg[100:200] = np.nan
    assert "clipped" not in measured(ecg, ["II"], 100)
    assert measured(np.ones((1, 3)), None, None) == {}
