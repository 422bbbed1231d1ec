"""Code shared by models that are scikit-learn estimators: their view of recordings and of targets.

Such a model is fitted by scikit-learn and computes in torch, so that its bundle holds tensors and no
pickle, and whoever loads it needs no scikit-learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from beatline import metrics
from beatline.models import Examples
from beatline.prediction import inference, losses
from beatline.prediction.tasks import Task
from beatline.prediction.windows import Windows, aggregated, starts

ClassWeights = Literal["none", "balanced"]


@dataclass(frozen=True)
class Problem:
    """The problem that one estimator learns: `labels` `[N]`, of which value i has the logit number
    `outputs[i]`, or none, if it is the "no" of a question."""

    labels: np.ndarray
    outputs: list[int | None]

    @property
    def constant(self) -> bool:
        """Whether there is nothing to learn."""
        return bool((self.labels == self.labels[0]).all())

    def prior(self) -> dict[int, float]:
        """The logits `{output: logit}` to which an estimator adds its own. A label that no example has
        gets the logarithm of the odds of what was not seen in N examples (Jeffreys' 1/2 : N + 1/2)."""
        seen = np.bincount(self.labels, minlength=len(self.outputs)) > 0
        unseen = -math.log(2 * len(self.labels) + 1)
        if self.outputs[0] is None and not seen[0]:
            return {output: -unseen for output in self.outputs if output is not None}
        return {
            output: 0.0 if is_seen else unseen
            for output, is_seen in zip(self.outputs, seen, strict=True)
            if output is not None
        }

    def learned(self) -> list[int]:
        """The outputs of which an estimator of scikit-learn gives logits, in its order: if there are
        two labels, of the second alone."""
        present = [self.outputs[label] for label in np.unique(self.labels)]
        return [output for output in present[len(present) == 2 :] if output is not None]

    def weights(self, class_weights: ClassWeights) -> np.ndarray | None:
        """Return the examples' weights `[N]`, of mean 1 and, if balanced, of the same sum per label."""
        if class_weights == "none":
            return None
        counts = np.bincount(self.labels)
        return len(self.labels) / (np.count_nonzero(counts) * counts[self.labels])


def problems(task: Task, targets: np.ndarray) -> list[Problem]:
    """One for all classes if they exclude each other, otherwise one per class."""
    if task.name == "multiclass":
        return [Problem(targets.argmax(axis=1), list(range(targets.shape[1])))]
    return [Problem(targets[:, output], [None, output]) for output in range(targets.shape[1])]


def table(examples: Examples, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """All windows of the recordings as rows `[N, T * C]` float64, and the targets `[N, K]` of each."""
    batches = inference.batches(examples.recordings, windows)
    rows = np.concatenate([batch.flatten(1).cpu().numpy() for batch in batches])
    each = len(starts(examples.recordings.length, windows))
    return rows.astype(np.float64), np.repeat(examples.targets, each, axis=0)


def predictions(task: Task, logits: np.ndarray, examples: Examples, windows: Windows) -> np.ndarray:
    """Return predictions `[N, K]` from the logits of all windows, as
    :func:`beatline.prediction.inference.predict` does."""
    window_predictions = (
        losses.for_task(task).predict(torch.from_numpy(logits), torch.empty(0)).numpy()
    )
    window_predictions = window_predictions.reshape(len(examples.recordings), -1, logits.shape[1])
    return aggregated(window_predictions, windows)


def history_row(
    task: Task,
    epoch: int,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    """A row as :func:`beatline.training.loop.fit` has them, from predictions and targets `[N, K]` of each
    part; there is no learning rate that changes."""
    predictions, targets = validation
    values = metrics.roc_auc(targets, predictions)
    defined = values[np.isfinite(values)]
    return {
        "epoch": epoch,
        "train_loss": task.prediction_loss(*train),
        "validation_loss": task.prediction_loss(*validation),
        "validation_auc": float(defined.mean()) if len(defined) else math.nan,
        "learning_rate": math.nan,
    }
