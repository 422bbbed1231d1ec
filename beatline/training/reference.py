"""The choice of the validation records that a bundle keeps to be watched by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from beatline.prediction.familiarity import Familiarity, features
from beatline.prediction.reference import MOST_RECORDS, Reference


def taken(
    signals: np.ndarray,
    scores: np.ndarray,
    decisions: np.ndarray,
    known: Familiarity,
    dataset: Mapping[str, Any],
) -> Reference:
    """Return the reference of normalized validation recordings `[N, T, C]`, of a model's predictions for
    them `[N, K]` and of what it decides, 0/1 `[N, K]`.

    Which records are kept depends on their number alone: models of one data set have the same ones, and
    a training that was interrupted has those of one that was not.
    """
    embeddings = np.stack([features(signal, dataset) for signal in signals])
    chosen = np.random.default_rng(0).choice(len(signals), min(len(signals), MOST_RECORDS), False)
    chosen.sort()
    return Reference(
        embeddings[chosen].astype(np.float32),
        scores[chosen].astype(np.float32),
        decisions.sum(axis=0, dtype=np.int64),
        len(signals),
        int(np.count_nonzero(known.distances(embeddings) > known.threshold)),
    )
