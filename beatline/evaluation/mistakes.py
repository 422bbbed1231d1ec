"""The mistakes of a model, and how sure it was of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from beatline.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Mistake:
    """A test record (a `row` of the predictions) that was decided wrongly, as to the class of number
    `k`, which is the one that was decided if classes exclude each other. `confidence`: how far beyond
    the threshold, as a share of the way to certainty."""

    row: int
    k: int
    confidence: float


def most_confident(predictions: Predictions, most: int) -> list[Mistake]:
    """The worst of a model's mistakes, at most `most`, one per record, the most confident first.

    Confidence is how far a probability lies beyond the threshold, as a share of the way to 0 or 1;
    for exclusive classes how much more probable than the right class the decided one was; for anomaly
    scores the logarithm of score over threshold, without its sign.
    """
    mistakes = _exclusive if predictions.exclusive else _beyond_thresholds
    worst: dict[int, Mistake] = {}
    for mistake in mistakes(predictions):
        if mistake.row not in worst or mistake.confidence > worst[mistake.row].confidence:
            worst[mistake.row] = mistake
    return sorted(worst.values(), key=lambda mistake: (-mistake.confidence, mistake.row))[:most]


def _exclusive(predictions: Predictions) -> Iterable[Mistake]:
    right, decided = predictions.targets.argmax(axis=1), predictions.decisions.argmax(axis=1)
    scores = predictions.scores
    for row in np.flatnonzero(right != decided):
        confidence = float(scores[row, decided[row]] - scores[row, right[row]])
        yield Mistake(int(row), int(decided[row]), confidence)


def _beyond_thresholds(predictions: Predictions) -> Iterable[Mistake]:
    scores, decisions = predictions.scores, predictions.decisions
    for row, k in np.argwhere(predictions.targets != decisions):
        value, threshold = float(scores[row, k]), predictions.thresholds[k]
        if predictions.task.learns_normal_only:
            confidence = abs(np.log(max(value, 1e-12) / max(threshold, 1e-12)))
        else:
            room = 1 - threshold if decisions[row, k] else threshold
            confidence = abs(value - threshold) / max(room, 1e-12)
        yield Mistake(int(row), int(k), float(confidence))
