"""What a bundle keeps of its validation records, so that it can be watched wherever it is used: their
embeddings and scores, and how many of them were decided to be of each class.

The embedding is what :func:`beatline.prediction.familiarity.features` tells of a recording.
:mod:`beatline.monitoring.drift` compares with it what a model in production is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from beatline.prediction import tensor_files
from beatline.prediction.familiarity import MOST_FEATURES, features

MOST_RECORDS = 500  # that are kept: more would hardly find smaller shifts in windows of as many
_LARGEST = 8 * MOST_RECORDS * (MOST_FEATURES + 10_000)  # bytes of a file, with its header


@dataclass(frozen=True)
class Reference:
    """`embeddings` `[n, D]` and `scores` `[n, K]`, float32, of n validation records chosen by chance; of
    all of them, as many as `records`, how many were `decided` to be of each class, int64 `[K]`, and how
    many were `unfamiliar`, farther from the training than the model's threshold."""

    embeddings: np.ndarray
    scores: np.ndarray
    decided: np.ndarray
    records: int
    unfamiliar: int

    def to_bytes(self) -> bytes:
        counts = np.array([self.records, self.unfamiliar], np.int64)
        tensors = {"embeddings": self.embeddings, "scores": self.scores}
        return safetensors.save({**tensors, "decided": self.decided, "counts": counts})


def load(path: Path, sha256: str, model_info: Mapping[str, Any]) -> Reference:
    """Return what :meth:`Reference.to_bytes` wrote for the model of `model_info` (model.json). Raises
    UserError if the file is missing, has another `sha256`, or does not fit the model."""
    return tensor_files.load(path, sha256, _LARGEST, partial(_of_tensors, model_info))


def _of_tensors(model_info: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> Reference:
    """Raise ValueError unless the tensors are those of the model's features and classes."""
    dataset, classes = model_info["dataset"], len(model_info["classes"])
    channels = len(dataset["channels"])
    if channels > MOST_FEATURES or "embeddings" not in tensors:
        raise ValueError("channels")
    size = len(features(np.zeros((dataset["length"], channels), np.float32), dataset))
    kept = len(tensors["embeddings"])
    expected = {
        "embeddings": (np.float32, (kept, size)),
        "scores": (np.float32, (kept, classes)),
        "decided": (np.int64, (classes,)),
        "counts": (np.int64, (2,)),
    }
    tensor_files.check(tensors, expected)
    records, unfamiliar = tensors["counts"].tolist()
    decided = tensors["decided"]
    finite = all(np.isfinite(tensors[name]).all() for name in ("embeddings", "scores"))
    counted = all(0 <= count <= records for count in (unfamiliar, *decided.tolist()))
    if not (finite and counted and kept == min(records, MOST_RECORDS) and kept):
        raise ValueError("values")
    return Reference(tensors["embeddings"], tensors["scores"], decided, records, unfamiliar)
