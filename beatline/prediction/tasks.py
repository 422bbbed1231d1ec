"""The tasks, and all that differs between them: targets, thresholds, decisions, quality of predictions.

A *prediction* is what a user sees: probabilities `[B, K]`, or an anomaly score `[B, 1]`. Predictions for
several windows of one recording are aggregated before anything is decided. How a network's outputs become
predictions, and its loss, is in :mod:`beatline.prediction.losses`; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from beatline import metrics

TaskName = Literal["multilabel", "binary", "multiclass", "reconstruction", "neighbours"]
TINY = 1e-7  # probabilities are kept this far from 0 and 1 in logarithms


@dataclass(frozen=True)
class Task:
    """`learns_normal_only`: whether it detects anomalies and sees normal records alone.
    `prediction_loss(predictions, targets)`: the loss that is learned by, both `[N, K]`.
    `thresholds(targets, predictions, percentile)`: `[K]`, from validation records; none if exclusive.
    `decide(predictions, thresholds)`: 0/1 `[N, K]`. `uninformed(K)`: the probability that each of K
    classes has for one who knows nothing, towards which labels are smoothed.
    """

    name: TaskName
    learns_normal_only: bool
    prediction_loss: Callable[[np.ndarray, np.ndarray], float]
    thresholds: Callable[[np.ndarray, np.ndarray, float], list[float]]
    decide: Callable[[np.ndarray, list[float]], np.ndarray]
    class_weights: Callable[[np.ndarray], np.ndarray]
    uninformed: Callable[[int], float]

    def labels(self, classes: list[str]) -> list[str]:
        """The columns of labels that it needs; what is normal is always known."""
        return [] if self.learns_normal_only else classes


def for_dataset(learns: str, dataset_task: str) -> Task | None:
    """The task of a model that `learns` (see :mod:`beatline.models`) on a data set: detectors have the
    same on all; labels cannot be learned (None) where no anomaly is for training."""
    return TASKS.get(_DETECTORS.get(learns, dataset_task))


_DETECTORS = {"normal": "reconstruction", "sections": "neighbours"}


def _binary_prediction_loss(predictions: np.ndarray, targets: np.ndarray) -> float:
    sure = np.clip(predictions, TINY, 1 - TINY)
    return float(-(targets * np.log(sure) + (1 - targets) * np.log(1 - sure)).mean())


def _exclusive_prediction_loss(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(-np.log(np.clip((predictions * targets).sum(axis=1), TINY, 1)).mean())


def _normal_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(predictions[targets[:, 0] == 0].mean())


def _f1_thresholds(targets: np.ndarray, predictions: np.ndarray, _: float) -> list[float]:
    return [float(value) for value in metrics.choose_thresholds(targets, predictions)]


def _normal_percentile(
    targets: np.ndarray, predictions: np.ndarray, percentile: float
) -> list[float]:
    normal = predictions[targets[:, 0] == 0, 0]
    threshold = np.float32(metrics.percentile_threshold(normal, percentile))
    # What reaches a threshold is above it, and many normal records may have just this score.
    return [float(np.nextafter(threshold, np.float32(np.inf)))]


def _above(predictions: np.ndarray, thresholds: list[float]) -> np.ndarray:
    return (predictions >= np.asarray(thresholds)).astype(np.int8)


def _largest(predictions: np.ndarray, _: list[float]) -> np.ndarray:
    return np.eye(predictions.shape[1], dtype=np.int8)[predictions.argmax(axis=1)]


def _positive_weights(targets: np.ndarray) -> np.ndarray:
    positives = targets.sum(axis=0)
    return (len(targets) - positives) / np.maximum(positives, 1)


def _inverse_frequency(targets: np.ndarray) -> np.ndarray:
    return len(targets) / (targets.shape[1] * np.maximum(targets.sum(axis=0), 1))


_MULTILABEL = Task(
    name="multilabel",
    learns_normal_only=False,
    prediction_loss=_binary_prediction_loss,
    thresholds=_f1_thresholds,
    decide=_above,
    class_weights=_positive_weights,
    uninformed=lambda _: 0.5,
)

_RECONSTRUCTION = Task(
    name="reconstruction",
    learns_normal_only=True,
    prediction_loss=_normal_error,
    thresholds=_normal_percentile,
    decide=_above,
    class_weights=lambda targets: np.ones(targets.shape[1]),
    uninformed=lambda _: 0.5,
)

TASKS: dict[str, Task] = {
    "multilabel": _MULTILABEL,
    "binary": replace(_MULTILABEL, name="binary"),
    "multiclass": Task(
        name="multiclass",
        learns_normal_only=False,
        prediction_loss=_exclusive_prediction_loss,
        thresholds=lambda *_: [],
        decide=_largest,
        class_weights=_inverse_frequency,
        uninformed=lambda classes: 1 / classes,
    ),
    "reconstruction": _RECONSTRUCTION,
    "neighbours": replace(_RECONSTRUCTION, name="neighbours"),
}


def measures(model_info: Mapping[str, Any]) -> Literal["error", "distance"] | None:
    """Return what an anomaly score is: a reconstruction's error or the distance from normal recordings;
    None of a model of labels, which gives none."""
    if not TASKS[model_info["task"]].learns_normal_only:
        return None
    score = model_info["architecture"]["parameters"].get("score", "reconstruction")
    reconstructs = model_info["task"] == "reconstruction" and score == "reconstruction"
    return "error" if reconstructs else "distance"
