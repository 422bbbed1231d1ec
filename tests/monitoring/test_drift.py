"""Drift is told where there is some, and of undrifted windows no more often than is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from pydantic import ValidationError

from beatline.monitoring import drift, two_samples
from beatline.monitoring.drift import (
    MOST_RECORDS,
    Finding,
    Records,
    Watched,
    check,
    p_values,
)
from beatline.monitoring.settings import Drift
from beatline.prediction.familiarity import features
from beatline.training import familiarity, reference
from tests.models.detectors import needs_bearing, spectrograms_of
from tests.monitoring.watched import KINDS, recordings, records, watched

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WINDOWS, PERMUTATIONS = 1000, 59


@pytest.mark.parametrize("kind", KINDS)
def test_false_alarms_are_at_the_stated_level(kind: str) -> None:
    """Of 1,000 windows without drift 3 to 7 % are flagged at 5 %: records of one population, divided by
    chance into reference and window."""
    model, population = watched(kind), records(kind, recordings(kind, 400, 7))
    flagged = 0
    for seed in range(WINDOWS):
        order = np.random.default_rng(seed).permutation(400)
        reference, window = population.rows(order[:60]), population.rows(order[60:90])
        p = two_samples.least(
            np.stack([*p_values(model, reference, window, PERMUTATIONS).values()])
        )
        flagged += p <= 0.05
    assert 0.03 * WINDOWS <= flagged <= 0.07 * WINDOWS


def found(kind: str, window: Records, **settings: float) -> Finding:
    return check(watched(kind), window, Drift(**settings), NOW)  # pyright: ignore[reportArgumentType]


Change = Callable[[np.ndarray], np.ndarray]


def noisy(signals: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(signals.shape)
    if signals.shape[1:] == (30, 32):  # a spectrogram, where powers are added
        return np.log(np.exp(signals) + np.square(0.5 * noise)).astype(np.float32)
    return (signals + 0.5 * noise).astype(np.float32)


def resampled(signals: np.ndarray) -> np.ndarray:
    """Another sampling chain: whose filter takes high frequencies away."""
    return (signals + np.roll(signals, 1, axis=1)) / 2


def of_another_machine(signals: np.ndarray) -> np.ndarray:
    """Whose channels, or bands, are coupled otherwise."""
    size = signals.shape[2]
    return (signals @ (np.eye(size) + 0.5 * np.eye(size, k=-1))).astype(np.float32)


CHANGES: dict[str, tuple[Change, list[str]]] = {
    "gain": (lambda signals: 1.3 * signals, [*KINDS]),
    "noise": (noisy, [*KINDS]),
    "sampling chain": (resampled, ["multilabel", "binary", "multiclass"]),
    "new machine": (of_another_machine, [*KINDS]),
}


@pytest.mark.parametrize(
    ("change", "kind"), [(name, kind) for name, (_, kinds) in CHANGES.items() for kind in kinds]
)
def test_drift_is_found(change: str, kind: str) -> None:
    """In windows of 100 recordings, of which each is found."""
    for seed in (11, 12, 13):
        signals = CHANGES[change][0](recordings(kind, 100, seed))
        finding = found(kind, records(kind, signals))
        assert finding.verdict == "drift" and finding.p and finding.p <= 0.05


@pytest.mark.parametrize("kind", ["multilabel", "binary", "reconstruction"])
def test_another_mix_of_classes_is_found(kind: str) -> None:
    """Twice as many ill recordings as in the training, each of a kind that was there."""
    for seed in (11, 12, 13):
        finding = found(kind, records(kind, recordings(kind, 150, seed, ill=0.65)))
        assert finding.verdict == "drift"


@needs_bearing
def test_real_recordings_of_a_bearing() -> None:
    """Of its drive end, in parts of 50 ms: recordings of the sound bearing that were made between those
    of the reference are no drift, each kind of fault is."""

    def parts(pattern: str) -> np.ndarray:
        whole = spectrograms_of(pattern)
        return np.concatenate(np.split(whole[:, : whole.shape[1] // 5 * 5], 5, axis=1))

    sound = parts("normal/*.wav")
    centre, spread = sound.mean(axis=(0, 1)), sound.std(axis=(0, 1))
    dataset = {
        "drawing": "spectrogram",
        "length": sound.shape[1],
        "channels": [f"band {number}" for number in range(sound.shape[2])],
        "sampling_rate": None,
        "simulated": False,
    }
    signals = (sound - centre) / spread
    learned = np.arange(len(signals)) % 2 == 0  # whose distances are not those of new ones
    known = familiarity.fit(signals[learned], signals[~learned], dataset)
    assert known

    def asked(pattern: str) -> Records:
        embeddings = np.stack([features((p - centre) / spread, dataset) for p in parts(pattern)])
        scores = known.distances(embeddings)[:, None].astype(np.float32)
        return Records(embeddings.astype(np.float32), scores, scores >= known.threshold)

    usual = asked("normal/*.wav").rows(np.flatnonzero(~learned))
    info = {"task": "neighbours", "classes": ["anomaly"], "thresholds": [known.threshold]}
    info |= {"dataset": dataset, "weights_sha256": "a" * 64}
    kept = reference.taken(signals[~learned], usual.scores, usual.decisions, known, dataset)
    model = Watched("bearing", "made", info, kept, known)
    verdicts = {
        kind: check(model, asked(f"test/{kind}*.wav"), Drift(records=20), NOW).verdict
        for kind in ("normal", *(f"anomaly_{fault}" for fault in ("B", "IR", "OR")))
    }
    assert verdicts.pop("normal") == "none" and set(verdicts.values()) == {"drift"}


def test_culprits_are_named() -> None:
    """A channel that is louder is the first of the features that differ, with its shift in deviations;
    what stays as it was is not among them."""
    signals = recordings("multilabel", 200, 11)
    signals[:, :, 1] *= 1.5
    finding = found("multilabel", records("multilabel", signals))
    (power,) = (column for column in finding.columns if column.name == "power of II")
    assert power.name in finding.culprits and power.low < power.shift < power.high
    assert power.shift > finding.smallest_shift > 0 and power.wasserstein > 0.5 and power.psi > 0.2
    assert not {"power of I", "power of V1"} & set(finding.culprits)


def test_shares_of_classes_stand_with_those_of_validation() -> None:
    model = watched("multiclass")
    window = records("multiclass", recordings("multiclass", 120, 11))
    window.decisions[:] = [1, 0, 0, 0]
    finding = found("multiclass", window)
    assert [share.window for share in finding.classes] == [1, 0, 0, 0]
    before = model.reference.decided / model.reference.records
    assert [share.reference for share in finding.classes] == before.tolist()
    assert all(share.low <= share.reference <= share.high for share in finding.classes)
    assert "the share of 0" in finding.culprits and finding.families["classes"] <= 0.002


def test_rare_classes_are_tested_exactly() -> None:
    """A class of which a record in a hundred is: two instead of one are no drift."""
    model = watched("binary")
    kept = replace(model.reference, decided=np.array([3]))
    window = records("binary", recordings("binary", 100, 11))
    window.decisions[:] = 0
    window.decisions[:2] = 1
    finding = check(replace(model, reference=kept), window, Drift(), NOW)
    assert finding.classes[0].p > 0.3


def test_unfamiliar_recordings_are_drift() -> None:
    """Ten of a hundred from another world."""
    signals = recordings("multilabel", 100, 11)
    signals[:10] *= 50
    finding = found("multilabel", records("multilabel", signals))
    assert finding.verdict == "drift" and finding.families["unfamiliar"] <= 0.002
    assert finding.unfamiliar and finding.unfamiliar.window >= 0.1


@pytest.mark.parametrize("count", [0, 1, 49])
def test_too_few_records_are_an_answer_of_their_own(count: int) -> None:
    """However far they are; what so few could have shown is told."""
    finding = found("table", records("table", recordings("table", 60, 1)).rows(np.arange(count)))
    assert finding.verdict == "too few" and finding.p is None and finding.notes
    assert finding.smallest_shift > 0.5


def test_too_few_validation_records() -> None:
    window = records("table", recordings("table", 100, 11))
    finding = check(watched("table", validation=10), window, Drift(), NOW)
    assert finding.verdict == "too few" and "10" in finding.notes[0]


def test_few_machines_are_warned_of() -> None:
    """A hundred records of a machine are hardly more than one; of as many machines they are."""
    window = records("table", recordings("table", 100, 11))
    notes = [
        found("table", replace(window, entities=entities)).notes
        for entities in (["fan"] * 90 + ["pump"] * 10, [str(n) for n in range(100)], [None] * 100)
    ]
    assert len(notes[0]) == 1 and not notes[1] and not notes[2]


def test_of_large_windows_a_sample_is_compared() -> None:
    """The whole window counts for shares, and the report says what was compared."""
    few = records("table", recordings("table", 300, 11))
    large = few.rows(np.arange(10 * MOST_RECORDS) % 300)
    large.decisions[:] = 0
    large.decisions[-1, 0] = 1
    finding = found("table", large)
    assert (finding.records, finding.compared) == (10 * MOST_RECORDS, MOST_RECORDS)
    assert f"{MOST_RECORDS:,}" in finding.notes[0]
    assert finding.classes[0].window == 1 / len(large)


def test_a_check_is_the_same_when_it_is_made_again() -> None:
    window = records("multilabel", recordings("multilabel", 100, 11))
    assert found("multilabel", window) == found("multilabel", window)


@pytest.mark.parametrize("wrong", [{"level": 0.0009}, {"records": 1}])
def test_settings_by_which_nothing_could_be_told(wrong: dict[str, float]) -> None:
    """A level below all p-values that permutations can have; a window for which no test is defined."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Drift.model_validate(wrong)
    least = two_samples.p_values(np.arange(1 + drift.PERMUTATIONS)[::-1])[0]
    assert Drift(level=float(least)).level == least
