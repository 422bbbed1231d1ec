"""The choice of the validation records that a bundle keeps to be watched by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from beatline.prediction.familiarity import Familiarity, features
from beatline.prediction.reference import MOST_RECORDS, Reference
from beatline.preprocessing.arrays import Signals

AT_ONCE = 4096  # recordings whose embeddings are in memory


def taken(
    signals: Signals | np.ndarray,
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
    chosen = np.random.default_rng(0).choice(len(signals), min(len(signals), MOST_RECORDS), False)
    chosen.sort()
    kept, unfamiliar = [], 0
    for first in range(0, len(signals), AT_ONCE):
        rows = np.arange(first, min(first + AT_ONCE, len(signals)))
        embeddings = np.stack([features(signals[row], dataset) for row in rows])
        kept.append(embeddings[np.isin(rows, chosen)].astype(np.float32))
        unfamiliar += int(np.count_nonzero(known.distances(embeddings) > known.threshold))
    return Reference(
        np.concatenate(kept),
        scores[chosen].astype(np.float32),
        decisions.sum(axis=0, dtype=np.int64),
        len(signals),
        unfamiliar,
    )
