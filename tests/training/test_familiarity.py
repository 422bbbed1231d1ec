"""The distance to the training recordings is that of Mahalanobis, its threshold holds for new ones, and
what is foreign is beyond it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from beatline.prediction.familiarity import SHARE, Familiarity, features
from beatline.training import familiarity
from beatline.training.familiarity import fit, threshold

SERIES = {"drawing": "trace", "length": 200, "channels": ["I", "II", "V1"]}
IMAGE = {"drawing": "image", "length": 20, "channels": [str(number) for number in range(16)]}
SOUND = {"drawing": "spectrogram", "length": 30, "channels": [str(number) for number in range(12)]}
TABLE = {"drawing": "features", "length": 1, "channels": ["age", "height", "weight"]}
KINDS = [SERIES, IMAGE, SOUND, TABLE]
NAMES = ["series", "image", "sound", "table"]


def recordings(dataset: dict[str, Any], count: int, seed: int) -> np.ndarray:
    """Correlated channels of smoothed noise, `[N, T, C]`, each recording as loud as it happens to be."""
    rng = np.random.default_rng(seed)
    length, channels = dataset["length"], len(dataset["channels"])
    noise = rng.standard_normal((count, length, channels))
    smooth = (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 2, axis=1)) / math.sqrt(3)
    mixed = smooth @ (np.eye(channels) + 0.8 * np.eye(channels, k=1))
    return (mixed * rng.uniform(0.5, 2, (count, 1, 1))).astype(np.float32)


def fitted(dataset: dict[str, Any], validation: int = 400) -> Familiarity:
    known = fit(recordings(dataset, 600, 0), recordings(dataset, validation, 1), dataset)
    assert known
    return known


def share_far(known: Familiarity, signals: np.ndarray, dataset: dict[str, Any]) -> float:
    distances = [known.distance(signal, dataset) for signal in signals]
    return float(np.mean(np.array(distances) > known.threshold))


@pytest.mark.parametrize(("count", "size"), [(3, 40), (50, 40), (400, 7), (30, 1), (20, 3)])
def test_covariance_is_shrunk_as_scikit_learn_does(count: int, size: int) -> None:
    """With fewer records than features too, one feature alone, and records that are all alike."""
    random = np.random.default_rng(count)
    mixed = random.standard_normal((count, size)) @ random.standard_normal((size, size))
    for known in (mixed - mixed.mean(axis=0), np.zeros((count, size))):
        expected = LedoitWolf(assume_centered=True).fit(known).covariance_
        np.testing.assert_allclose(familiarity.shrunk_covariance(known), expected, atol=1e-12)


@pytest.mark.parametrize("dataset", KINDS, ids=NAMES)
def test_recordings_like_those_of_the_training_are_not_far(dataset: dict[str, Any]) -> None:
    """One in 200 is expected; of 1,000 new ones no more than 15, which chance allows."""
    assert share_far(fitted(dataset), recordings(dataset, 1000, 2), dataset) <= 0.015


@pytest.mark.parametrize("dataset", [SERIES, IMAGE, SOUND], ids=NAMES[:3])
def test_foreign_recordings_are_far(dataset: dict[str, Any]) -> None:
    """Another unit, nothing but a constant, and, where frequencies are looked at, noise as loud as
    recordings are."""
    known, usual = fitted(dataset), recordings(dataset, 100, 2)
    assert share_far(known, 1000 * usual, dataset) > 0.95
    assert share_far(known, np.full_like(usual, 5), dataset) == 1
    if dataset is not SOUND:
        loudness = usual.std(axis=(1, 2), keepdims=True)
        noise = loudness * np.random.default_rng(3).standard_normal(usual.shape)
        assert share_far(known, noise, dataset) > 0.95


def test_a_row_whose_values_do_not_go_together_is_far() -> None:
    """Each value is one that training rows have, and no row has them together."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((900, 1, 1)), 3, axis=2)
    rows += 0.1 * rng.standard_normal(rows.shape)
    known = fit(rows[:600], rows[600:], TABLE)
    assert known and known.distance(np.array([[1.0, -1.0, 1.0]]), TABLE) > known.threshold


def test_exchanged_channels_are_far() -> None:
    """Channels in another order have the same spectra, and are correlated in another way."""
    exchanged = recordings(SERIES, 100, 2)[:, :, [1, 0, 2]]
    assert share_far(fitted(SERIES), exchanged, SERIES) > 0.9


@pytest.mark.parametrize("dataset", KINDS, ids=NAMES)
def test_distance_is_that_of_mahalanobis(dataset: dict[str, Any]) -> None:
    """Against SciPy, with the covariance of scikit-learn in the features' own units."""
    train, (signal,) = recordings(dataset, 600, 0), recordings(dataset, 1, 2)
    known = np.stack([features(recording, dataset) for recording in train])
    scale = known.std(axis=0)
    scale[scale < 1e-9] = np.sqrt(1e-3 * np.mean(scale**2))  # empty cells of an image
    covariance = LedoitWolf().fit(known / scale).covariance_ * np.outer(scale, scale)
    expected = mahalanobis(features(signal, dataset), known.mean(axis=0), np.linalg.inv(covariance))
    assert fitted(dataset).distance(signal, dataset) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("count", [200, 230, 260, 290])
def test_what_is_stored_decides_as_what_was_fitted(count: int) -> None:
    """Also of the validation recording whose distance is the threshold: it is in float32, and not below
    that."""
    known, validation = fitted(TABLE, count), recordings(TABLE, count, 1)
    largest = sorted(known.distance(signal, TABLE) for signal in validation)
    at_threshold = largest[math.ceil((count + 1) * SHARE) - 1]
    assert at_threshold <= known.threshold == float(np.float32(known.threshold))
    assert known.threshold == pytest.approx(at_threshold)


@pytest.mark.parametrize("dataset", KINDS, ids=NAMES)
def test_equal_recordings_give_equal_bytes(dataset: dict[str, Any]) -> None:
    """A bundle is the same from run to run."""
    assert fitted(dataset).to_bytes() == fitted(dataset).to_bytes()


@pytest.mark.parametrize("count", [2, 10, 40, 198, 199, 1000])
def test_threshold_holds_for_as_many_as_it_says(count: int) -> None:
    """However few validation recordings there are, at most one further in 200 is beyond it, in the mean
    over many times that they are drawn."""
    rng = np.random.default_rng(count)
    beyond = [
        np.mean(rng.lognormal(1, 0.3, 200) > threshold(rng.lognormal(1, 0.3, count)))
        for _ in range(400)
    ]
    assert np.mean(beyond) < 1 - SHARE + 3 * np.std(beyond) / math.sqrt(400)


def test_of_many_recordings_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit's memory has a bound, and what it is fitted to comes from all over the split: the second
    half of it is not foreign."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2000, 1, 3)) + np.repeat([[[0]], [[50]]], 1000, axis=0)
    computed = []
    monkeypatch.setattr(familiarity, "MOST_VALUES", 3 * 400)
    monkeypatch.setattr(
        familiarity, "features", lambda *args: computed.append(args) or features(*args)
    )
    known = fit(rows, rows[::20], TABLE)
    assert known and len(computed) == 1 + 400
    assert all(known.distance(row, TABLE) < known.threshold for row in rows[[500, 1500], :])


def test_threshold_is_an_order_statistic_where_there_are_enough() -> None:
    """Of 199 the largest, of 999 the fifth from above: no more caution than is needed."""
    for count, expected in ((199, 199), (999, 995)):
        assert threshold(np.arange(1.0, count + 1)[::-1]) == expected


def test_one_validation_recording_tells_nothing() -> None:
    """Then no recording is called far, rather than each that is not that one."""
    known = fitted(SERIES, validation=1)
    assert known.threshold == math.inf
    assert share_far(known, 1000 * recordings(SERIES, 3, 2), SERIES) == 0


def test_alike_recordings_can_be_fitted() -> None:
    """A small run of few or constant recordings ends in a bundle, not in a singular matrix."""
    for train in (np.ones((3, 200, 3), np.float32), recordings(SERIES, 2, 0)):
        known = fit(train, train, SERIES)
        assert known and np.isfinite(known.whitening).all()
        assert known.distance(recordings(SERIES, 1, 5)[0], SERIES) > known.distance(
            train[0], SERIES
        )


def test_too_many_features_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A covariance that would fill the memory is not computed, and its absence is not silent."""
    wide = TABLE | {"channels": [str(number) for number in range(3000)]}
    assert fit(np.zeros((2, 1, 3000)), np.zeros((2, 1, 3000)), wide) is None
    assert "3000" in capsys.readouterr().out
