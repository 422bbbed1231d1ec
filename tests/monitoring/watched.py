"""Models of each kind, and recordings for them, of which tests know whether they have drifted."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from beatline.monitoring.drift import Records, Watched
from beatline.prediction import tasks
from beatline.prediction.familiarity import features
from beatline.training import familiarity, reference

SERIES = {"drawing": "trace", "length": 200, "channels": ["I", "II", "V1"], "sampling_rate": 100}
IMAGE = {"drawing": "image", "length": 14, "channels": [str(number) for number in range(14)]}
SOUND = {"drawing": "spectrogram", "length": 30, "channels": [f"band {n}" for n in range(32)]}
TABLE = {"drawing": "features", "length": 1, "channels": ["age", "height", "sex", "weight"]}
KINDS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "multilabel": (SERIES, "multilabel", ["NORM", "MI", "CD"]),
    "binary": (SERIES, "binary", ["anomaly"]),
    "multiclass": (IMAGE, "multiclass", ["0", "1", "2", "3"]),
    "reconstruction": (SOUND, "reconstruction", ["anomaly"]),
    "neighbours": (TABLE, "neighbours", ["anomaly"]),
    "table": (TABLE, "multiclass", ["a", "b", "c"]),
}


def recordings(kind: str, count: int, seed: int, ill: float = 0.3) -> np.ndarray:
    """Correlated channels of smoothed noise, each recording as loud as it happens to be, `[N, T, C]`; a
    share is `ill`, louder in some channels."""
    dataset = KINDS[kind][0]
    rng = np.random.default_rng(seed)
    length, channels = dataset["length"], len(dataset["channels"])
    noise = rng.standard_normal((count, length, channels))
    smooth = (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 2, axis=1)) / math.sqrt(3)
    mixed = smooth @ (np.eye(channels) + 0.8 * np.eye(channels, k=1))
    mixed *= rng.lognormal(0, 0.2, (count, 1, 1))
    mixed[:, :, : max(channels // 4, 1)] *= np.where(rng.random((count, 1, 1)) < ill, 2, 1)
    if dataset["length"] == 1:
        mixed[:, :, 2] = mixed[:, :, 2] > 0  # two values alone
    if dataset is SOUND:
        mixed = np.log(np.square(mixed) + 1e-3)
    return mixed.astype(np.float32)


def records(kind: str, signals: np.ndarray) -> Records:
    """What a model of the kind is asked and says: scores that follow some features."""
    dataset, task, classes = KINDS[kind]
    embeddings = np.stack([features(signal, dataset) for signal in signals]).astype(np.float32)
    weights = np.random.default_rng(5).standard_normal((embeddings.shape[1], len(classes)))
    logits = 0.5 * embeddings @ weights
    scores = 1 / (1 + np.exp(-logits))
    if task == "multiclass":
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    scores = scores.astype(np.float32)
    return Records(embeddings, scores, tasks.TASKS[task].decide(scores, [0.5] * len(classes)))


@cache
def watched(kind: str, validation: int = 300) -> Watched:
    """A model of the kind."""
    dataset, task, classes = KINDS[kind]
    model_info = {
        "dataset": {"sampling_rate": None, "simulated": True, **dataset},
        "task": task,
        "classes": classes,
        "thresholds": [] if task == "multiclass" else [0.5] * len(classes),
        "weights_sha256": "a" * 64,
    }
    signals = recordings(kind, validation, 1)
    known = familiarity.fit(recordings(kind, 600, 0), signals, dataset)
    assert known
    of_validation = records(kind, signals)
    kept = reference.taken(
        signals, of_validation.scores, of_validation.decisions, known, model_info["dataset"]
    )
    return Watched("made", kind, model_info, kept, known)
