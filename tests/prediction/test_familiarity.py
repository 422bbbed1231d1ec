"""Features of recordings do not depend on their length, and a file that does not fit is refused."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors import numpy as safetensors

from beatline.common.errors import UserError
from beatline.prediction.familiarity import MOST_FEATURES, Familiarity, columns, features, load

DATASET = {"drawing": "trace", "length": 500, "channels": ["I", "II"]}
SIZE = len(features(np.zeros((500, 2)), DATASET))


def waves(length: int) -> np.ndarray:
    time = np.arange(length)[:, None]
    return np.sin(2 * np.pi * time * [0.02, 0.1]) + 0.3 * np.sin(2 * np.pi * time * 0.3)


@pytest.mark.parametrize("length", [1000, 1250, 1400])
def test_longer_recordings_have_the_same_features(length: int) -> None:
    """A day of the same is as near as ten seconds."""
    found, usual = (features(waves(samples), DATASET) for samples in (length, 500))
    np.testing.assert_allclose(found, usual, atol=1e-6)


def test_shorter_recordings_have_their_power_where_longer_ones_have_it() -> None:
    """Padding moves no power to other bands, but for what leaks of any short recording."""
    short, usual = (np.exp(features(waves(samples), DATASET)[:18]) for samples in (250, 500))
    np.testing.assert_allclose(short, usual, atol=0.05)


def test_power_in_bands_is_the_recordings() -> None:
    """Parseval: over the bands it sums up to the mean square of each channel."""
    signal = np.random.default_rng(0).normal([1, 3], 1, (501, 2))
    found = features(signal, DATASET | {"length": 501})
    power = np.exp(found[: 9 * 2]).reshape(9, 2)
    np.testing.assert_allclose(power[-1], np.square(signal).mean(axis=0), rtol=2e-3)
    np.testing.assert_allclose(np.sum(power[:8], axis=0), power[-1], rtol=1e-2)
    np.testing.assert_allclose(found[-1:], np.asarray(np.corrcoef(signal.T))[0, 1:], atol=1e-2)


def test_image_turned_has_other_features_and_shifted_the_same() -> None:
    """Directions count, and places do not."""
    dataset = {"drawing": "image", "length": 28, "channels": [str(number) for number in range(28)]}
    image = np.zeros((28, 28))
    image[5:22, 8:11] = 1
    usual = features(image, dataset)
    np.testing.assert_allclose(features(np.roll(image, 4, axis=1), dataset), usual, atol=1e-9)
    assert np.abs(features(np.rot90(image), dataset) - usual).max() > 1


def saved(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    """With an infinite threshold too."""
    rng = np.random.default_rng(0)
    whitening = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    for threshold in (2.5, math.inf):
        known = Familiarity(whitening[0], whitening, threshold)
        digest = saved(tmp_path / "x", known.to_bytes())
        found = load(tmp_path / "x", digest, DATASET)
        assert found.threshold == threshold and found.distance(waves(500), DATASET) > 0
        assert found.to_bytes() == known.to_bytes()


GOOD = {
    "mean": np.zeros(SIZE, np.float32),
    "whitening": np.eye(SIZE, dtype=np.float32),
    "threshold": np.ones(1, np.float32),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": np.zeros(SIZE + 1, np.float32)},
        {"whitening": np.eye(SIZE - 1, dtype=np.float32)},
        {"whitening": np.full((SIZE, SIZE), np.nan, np.float32)},
        {"mean": np.full(SIZE, np.inf, np.float32)},
        {"threshold": np.array([np.nan], np.float32)},
        {"threshold": np.array([-1], np.float32)},
        {"threshold": np.zeros(0, np.float32)},
        {"more": np.zeros(1, np.float32)},
        {"mean": np.zeros(SIZE, np.int64)},
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    """A hostile bundle, whose sums are right, ends in a sentence when it is loaded and not in an error
    when it is asked."""
    path = tmp_path / "familiarity.safetensors"
    load(path, saved(path, safetensors.save(GOOD)), DATASET)
    with pytest.raises(UserError, match=r"familiarity\.safetensors .*train the model again"):
        load(path, saved(path, safetensors.save({**GOOD, **changes})), DATASET)


def test_damage_is_refused(tmp_path: Path) -> None:
    """No tensors at all, other bytes than were written, no file, more than anybody wrote."""
    path = tmp_path / "familiarity.safetensors"
    with pytest.raises(UserError, match="train the model again"):
        load(path, saved(path, b"nothing"), DATASET)
    with pytest.raises(UserError, match=r"another SHA-256.*beatline repair"):
        load(path, "0" * 64, DATASET)
    wide = DATASET | {"channels": ["x"] * (MOST_FEATURES + 1)}
    with pytest.raises(UserError, match="train the model again"):
        load(path, saved(path, safetensors.save(GOOD)), wide)
    path.unlink()
    with pytest.raises(UserError, match=r"familiarity\.safetensors .*beatline repair"):
        load(path, "0" * 64, DATASET)


def channels(count: int) -> list[str]:
    return [f"channel {number}" for number in range(count)]


def test_columns_of_a_signal_follow_its_channels_and_bands() -> None:
    """A louder channel raises its own power and the bands, each by its name; correlation stays."""
    dataset = {"drawing": "trace", "length": 500, "channels": ["I", "II"], "sampling_rate": 100}
    signal = np.random.default_rng(0).standard_normal((500, 2))
    names, values = columns(
        np.stack([features(each, dataset) for each in (signal, signal * [3, 1])]), dataset
    )
    change = dict(zip(names, values[1] - values[0], strict=True))
    assert change["power of I"] == pytest.approx(2 * math.log(3), abs=0.05)
    assert change["power of II"] == 0 and change["28.6 to 50 Hz"] > 1
    assert abs(change["correlation of channels"]) < 0.01


def test_band_of_a_tone_is_named() -> None:
    """A tone of 12 Hz is in the band that says so, and the offset in the lowest."""
    dataset = {"drawing": "trace", "length": 500, "channels": ["I"], "sampling_rate": 100}
    tone = np.sin(2 * np.pi * 12 * np.arange(500) / 100)[:, None]
    for signal, expected in ((tone, "9.35 to 16.4 Hz"), (np.ones((500, 1)), "0 to 1 Hz")):
        names, values = columns(features(signal, dataset)[None], dataset)
        assert names[1:][int(values[0, 1:].argmax())] == expected


@pytest.mark.parametrize("count", [3, 8, 30])
def test_columns_of_a_spectrogram_are_groups_of_bands(count: int) -> None:
    """Neighbours together, each band in one, named by the first and the last."""
    dataset = {"drawing": "spectrogram", "length": 9, "channels": channels(count)}
    embedding = np.arange(count, dtype=float)[None]
    names, values = columns(embedding, dataset)
    assert len(names) == min(count, 8) and (np.diff(values) > 0).all()
    assert names[0].startswith("channel 0") and names[-1].endswith(f"channel {count - 1}")


def test_columns_of_images_and_rows() -> None:
    """An image's fine noise is in its last ring, brightness in the mean; a row's columns are its own."""
    dataset = {"drawing": "image", "length": 28, "channels": channels(28)}
    checkers = np.indices((28, 28)).sum(axis=0) % 2 - 0.5
    flat = np.zeros((28, 28))
    names, values = columns(
        np.stack([features(each, dataset) for each in (flat, flat + checkers, flat + 1)]), dataset
    )
    assert names[int((values[1] - values[0]).argmax())] == names[-2]
    assert (values[2] - values[0]).nonzero()[0].tolist() == [len(names) - 1]
    row = {"drawing": "features", "length": 1, "channels": ["age", "sex"]}
    assert columns(np.ones((4, 2)), row)[0] == ["age", "sex"]
