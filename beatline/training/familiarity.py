"""The fit of the distance by which a recording is told that is far from those of the training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

from beatline.common.errors import warn
from beatline.prediction.familiarity import MOST_FEATURES, SHARE, Familiarity, features
from beatline.preprocessing.arrays import Signals

MOST_VALUES = 2**24  # features of all recordings that are fitted to: 128 MiB
LEAST_VARIANCE = 1e-3  # of the mean one: what hardly varied counts as if it had a little more
RIDGE = 1e-6  # so that there is an inverse even if all recordings are alike


def fit(
    train: Signals | np.ndarray, validation: Signals | np.ndarray, dataset: Mapping[str, Any]
) -> Familiarity | None:
    """Fit the distance to normalized recordings `[N, T, C]`, and its threshold to those of validation.

    Of many recordings to some that are chosen by chance, so that their features fit into memory; the
    choice depends on their number alone.

    A detector's too to all that the data set has for training: an anomaly of a known kind is not foreign.

    The covariance is shrunk, since there may be more features than recordings. None, with a warning, if
    there are too many features.
    """
    size = len(features(train[0], dataset))
    if size > MOST_FEATURES:
        warn(
            f"recordings of {len(dataset['channels'])} channels have {size} features, more "
            f"than {MOST_FEATURES}: the model will not tell which are far from the training"
        )
        return None
    fitted_to = min(len(train), MOST_VALUES // size)
    rows = np.sort(np.random.default_rng(0).choice(len(train), fitted_to, False))
    known = np.stack([features(train[row], dataset) for row in rows])
    mean, variance = known.mean(axis=0), known.var(axis=0)
    scale = np.sqrt(np.maximum(variance, LEAST_VARIANCE * variance.mean()))
    scale[scale == 0] = 1
    shrunk = shrunk_covariance((known - mean) / scale)
    precision = np.linalg.inv(shrunk + RIDGE * np.eye(len(scale)))
    # Rounded, so that the order in which float64 was summed does not show.
    whitening = (np.linalg.cholesky(precision) / scale[:, None]).astype(np.float32)
    fitted = Familiarity(mean.astype(np.float32), whitening, math.inf)
    distances = np.array([fitted.distance(signal, dataset) for signal in validation])
    return Familiarity(fitted.mean, fitted.whitening, _stored(threshold(distances)))


def _stored(threshold: float) -> float:
    """The threshold as the bundle stores it, in float32: not below that of which it is made."""
    nearest = np.float32(threshold)
    below = float(nearest) < threshold
    return float(np.nextafter(nearest, np.float32(np.inf)) if below else nearest)


def shrunk_covariance(features: np.ndarray) -> np.ndarray:
    """Return the covariance `[D, D]` of features `[N, D]` whose mean is 0, shrunk towards equal variances
    without correlation (Ledoit & Wolf 2004, J. Multivariate Anal. 88).

    As scikit-learn computes it, whose import would take a second of every training.
    """
    count, size = features.shape
    squares, products = features**2, features.T @ features
    variances = squares.sum(axis=0) / count
    target = variances.sum() / size
    norm = (products**2).sum() / count**2
    distance = (norm - 2 * target * variances.sum() + size * target**2) / size
    error = ((squares.T @ squares).sum() / count - norm) / (size * count)
    shrinkage = min(error, distance) / distance if distance > 0 else 0.0
    return (1 - shrinkage) * products / count + shrinkage * target * np.eye(size)


def threshold(distances: np.ndarray) -> float:
    """Return what a further recording's distance exceeds with a probability of 1 - SHARE at most.

    The conformal quantile (Vovk, Gammerman & Shafer 2005). Fewer than 199 distances have none: then what
    a log-normal distribution leads to expect, and no less than the largest. One alone tells nothing.
    """
    count = len(distances)
    rank = math.ceil((count + 1) * SHARE)
    if rank <= count:
        return float(np.sort(distances)[rank - 1])
    if count < 2:
        return math.inf
    logs = np.log(np.maximum(distances, np.finfo(np.float32).tiny))
    spread = logs.std(ddof=1) * math.sqrt(1 + 1 / count)
    bound = math.exp(logs.mean() + float(stdtrit(count - 1, SHARE)) * spread)
    return max(bound, float(distances.max()))
