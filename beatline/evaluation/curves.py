"""Tables behind the pictures: one per kind of curve, the models of a data set below each other.

The report's figures and what `dvc plots` draws come from these tables, so they cannot disagree.
Every table has a column `model`; those of single classes (or machines) also have `class`. Curves are
computed by :mod:`beatline.metrics` from the predictions on test records and from the training
histories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from beatline import metrics
from beatline.evaluation.predictions import Predictions

POINTS = 100  # of a ROC or precision-recall curve: enough for a picture, small enough for Git
BINS = 20  # of a score histogram
CALIBRATION_BINS = 10
TAIL = 98  # percentile of unbounded scores where a histogram's last bin begins to collect the rest
ALL_CLASSES = "all classes"


def tables(
    histories: Mapping[str, pd.DataFrame], predictions: Mapping[str, Predictions]
) -> dict[str, pd.DataFrame]:
    """The table of each kind in :data:`KINDS`, from training histories (a row per epoch) and predictions
    by model; one that would have no rows is left out."""
    content = {}
    for kind, rows_of in KINDS.items():
        models: Mapping[str, Any] = histories if kind in OF_HISTORY else predictions
        parts = {name: part for name in models if not (part := rows_of(models[name])).empty}
        for name, part in parts.items():
            part.insert(0, "model", name)
        if parts:
            content[kind] = pd.concat(parts.values(), ignore_index=True)
    return content


# ---------------------------------------------------------------- of training


def loss(history: pd.DataFrame) -> pd.DataFrame:
    """`epoch, split, loss`: of the train and of the validation records."""
    epoch = history["epoch"]
    parts = [
        pd.DataFrame({"epoch": epoch, "split": split, "loss": history[f"{split}_loss"]})
        for split in ("train", "validation")
    ]
    return pd.concat(parts, ignore_index=True).dropna()


def auc(history: pd.DataFrame) -> pd.DataFrame:
    """`epoch, auc`: macro AUC of the validation records, where it is defined."""
    return pd.DataFrame({"epoch": history["epoch"], "auc": history["validation_auc"]}).dropna()


def learning_rate(history: pd.DataFrame) -> pd.DataFrame:
    """`epoch, learning_rate`."""
    return history.loc[:, ["epoch", "learning_rate"]].dropna()


# ---------------------------------------------------------------- on test records


def roc(predictions: Predictions) -> pd.DataFrame:
    """`class, fpr, tpr`: points in order along the curve, from (0, 0) to (1, 1)."""
    return _points(predictions, metrics.roc_curve_points, POINTS, ("fpr", "tpr"))


def precision_recall(predictions: Predictions) -> pd.DataFrame:
    """`class, recall, precision`: points in order of rising recall."""
    return _points(predictions, metrics.precision_recall_points, POINTS, ("recall", "precision"))


def calibration(predictions: Predictions) -> pd.DataFrame:
    """`class, predicted, observed, records`: a row per bin of predicted probability.

    No rows for anomaly scores, which are not probabilities.
    """
    if predictions.task.learns_normal_only:
        return pd.DataFrame()
    names = ("predicted", "observed", "records")
    return _points(predictions, metrics.calibration_points, CALIBRATION_BINS, names)


def _points(
    predictions: Predictions,
    curve: Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, ...]],
    most: int,
    names: Sequence[str],
) -> pd.DataFrame:
    """The points of a `curve` of each class or section, the first of its arrays as columns."""
    parts = [
        pd.DataFrame(
            {
                "class": facet.name,
                **dict(zip(names, curve(facet.targets, facet.scores, most), strict=False)),
            }
        )
        for facet in predictions.facets
    ]
    return pd.concat(parts, ignore_index=True)


def confusion(predictions: Predictions) -> pd.DataFrame:
    """`class, actual, predicted, records`: counts of test records.

    Yes and no for each class; class against class (`class` is then "all classes") if the classes
    exclude each other.
    """
    if predictions.exclusive:
        actual = predictions.targets.argmax(axis=1)
        decided = predictions.decisions.argmax(axis=1)
        return _crossed(ALL_CLASSES, actual, decided, predictions.classes)
    parts = [
        _crossed(facet.name, facet.targets, facet.decisions, ["no", "yes"])
        for facet in predictions.facets
    ]
    return pd.concat(parts, ignore_index=True)


def _crossed(
    name: str, actual: np.ndarray, decided: np.ndarray, values: Sequence[str]
) -> pd.DataFrame:
    counts = np.zeros((len(values), len(values)), dtype=int)
    np.add.at(counts, (actual, decided), 1)
    rows = [(name, values[i], values[j], count) for (i, j), count in np.ndenumerate(counts)]
    return pd.DataFrame(rows, columns=["class", "actual", "predicted", "records"])


def scores(predictions: Predictions) -> pd.DataFrame:
    """`class, actual, low, high, share, threshold`: a histogram of scores by label.

    `actual` is yes or no; `low` and `high` are the bin's edges; `share` is the part of the records
    with this label whose score is in the bin. Bins of probabilities span 0 to 1. Those of anomaly
    scores end at their 98th percentile (or the threshold), and the last takes what lies beyond.
    """
    parts = []
    for facet in predictions.facets:
        end = 1.0
        if predictions.task.learns_normal_only:
            end = max(float(np.percentile(facet.scores, TAIL)), 1.25 * facet.threshold)
        for label, actual in enumerate(("no", "yes")):
            inside = np.clip(facet.scores[facet.targets == label], 0, end)
            counts, edges = np.histogram(inside, np.linspace(0, end, BINS + 1))
            columns = {
                "class": facet.name,
                "actual": actual,
                "low": edges[:-1],
                "high": edges[1:],
                "share": counts / max(len(inside), 1),
                "threshold": facet.threshold,
            }
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


OF_HISTORY = {"loss": loss, "auc": auc, "learning_rate": learning_rate}
KINDS: dict[str, Callable[[Any], pd.DataFrame]] = {
    **OF_HISTORY,
    "roc": roc,
    "precision_recall": precision_recall,
    "calibration": calibration,
    "confusion": confusion,
    "scores": scores,
}
