"""Tables behind the pictures: one per kind of curve, the models of a data set below each other.

The report's figures and what `dvc plots` draws come from these tables, so they cannot disagree.
Every table has a column `model`; those of single classes (or machines) also have `class`. Curves are
computed by :mod:`beatline.metrics` from the predictions on test records and from the training
histories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beatline import bundle, metrics
from beatline.common.files import read_csv, read_json
from beatline.prediction import tasks

POINTS = 100  # of a ROC or precision-recall curve: enough for a picture, small enough for Git
BINS = 20  # of a score histogram
CALIBRATION_BINS = 10
TAIL = 98  # percentile of unbounded scores where a histogram's last bin begins to collect the rest
ALL_CLASSES = "all classes"


@dataclass(frozen=True)
class Facet:
    """A class, or a section, on test records: 0/1 `targets` [N], `scores` [N], 0/1 `decisions` [N]
    and the threshold (NaN if there is none)."""

    name: str
    targets: np.ndarray
    scores: np.ndarray
    decisions: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Evaluated:
    """A trained model and its answers on the N test records.

    `description`: model.json. `history`: a row per epoch. `predictions`: a row per test record, as
    :func:`beatline.evaluation.estimates.predictions` writes it. `estimates`: metrics with intervals.
    `durations`: `train_seconds` and `predict_milliseconds`.
    """

    model: str
    description: dict[str, Any]
    history: pd.DataFrame
    predictions: pd.DataFrame
    estimates: dict[str, Any]
    durations: dict[str, float]

    @property
    def classes(self) -> list[str]:
        return self.description["classes"]

    @property
    def thresholds(self) -> list[float]:
        """One per class; none if the classes exclude each other."""
        return self.description["thresholds"]

    @property
    def task(self) -> tasks.Task:
        return tasks.TASKS[self.description["task"]]

    @property
    def section_column(self) -> str | None:
        """The column that names the section (machine) of a record, of a detector that is measured on
        each; the parts of other models' estimates are classes."""
        sections = self.description["dataset"]["sections"]
        return sections if self.task.learns_normal_only else None

    @property
    def facets(self) -> list[Facet]:
        """What curves are drawn of: each class, or each section (machine) of a detector, whose
        records no curve pools."""
        thresholds = self.thresholds or [np.nan] * len(self.classes)
        if self.section_column:
            of_record = self.predictions[self.section_column].astype(str).to_numpy()
            return [
                self._facet(0, name, thresholds, of_record == name) for name in np.unique(of_record)
            ]
        everything = np.ones(len(self.predictions), dtype=bool)
        return [self._facet(k, name, thresholds, everything) for k, name in enumerate(self.classes)]

    def _facet(self, k: int, name: str, thresholds: list[float], inside: np.ndarray) -> Facet:
        return Facet(
            str(name),
            self.targets[inside, k],
            self.scores[inside, k],
            self.decisions[inside, k],
            thresholds[k],
        )

    @property
    def exclusive(self) -> bool:
        """Whether the most probable class is what the model decides, rather than thresholds."""
        return not self.thresholds

    @property
    def targets(self) -> np.ndarray:
        """0/1 `[N, K]`."""
        return self.predictions[self.classes].to_numpy()

    @property
    def scores(self) -> np.ndarray:
        """Probabilities `[N, K]`, or anomaly scores `[N, 1]`."""
        return self.predictions[[f"{name} predicted" for name in self.classes]].to_numpy()

    @property
    def decisions(self) -> np.ndarray:
        """0/1 `[N, K]`."""
        return self.predictions[[f"{name} decided" for name in self.classes]].to_numpy()


def load(model: str, trained: Path, predicted: Path, durations: Path) -> Evaluated:
    """What `train` left in the folder `trained`, `evaluate` in `predicted`, and both in `durations`.

    Raises UserError that names the file if one is missing.
    """
    return Evaluated(
        model=model,
        description=read_json(trained / bundle.DESCRIPTION),
        history=bundle.history(trained),
        predictions=read_csv(predicted / "predictions.csv", ("record",)),
        estimates=read_json(predicted / "estimates.json"),
        durations=read_json(durations / "train.json") | read_json(durations / "predict.json"),
    )


def tables(models: Sequence[Evaluated]) -> dict[str, pd.DataFrame]:
    """The table of each kind in :data:`KINDS`; one that would have no rows is left out."""
    found = {}
    for kind, of_model in KINDS.items():
        parts = [part for model in models if not (part := of_model(model)).empty]
        if parts:
            found[kind] = pd.concat(parts, ignore_index=True)
    return found


def loss(model: Evaluated) -> pd.DataFrame:
    """`model, epoch, split, loss`: of the train and of the validation records."""
    parts = [
        pd.DataFrame(
            {
                "model": model.model,
                "epoch": model.history["epoch"],
                "split": split,
                "loss": model.history[f"{split}_loss"],
            }
        )
        for split in ("train", "validation")
    ]
    return pd.concat(parts, ignore_index=True).dropna()


def auc(model: Evaluated) -> pd.DataFrame:
    """`model, epoch, auc`: macro AUC of the validation records, where it is defined."""
    values = {"epoch": model.history["epoch"], "auc": model.history["validation_auc"]}
    return pd.DataFrame({"model": model.model, **values}).dropna()


def learning_rate(model: Evaluated) -> pd.DataFrame:
    """`model, epoch, learning_rate`."""
    values = {name: model.history[name] for name in ("epoch", "learning_rate")}
    return pd.DataFrame({"model": model.model, **values}).dropna()


def roc(model: Evaluated) -> pd.DataFrame:
    """`model, class, fpr, tpr`: points in order along the curve, from (0, 0) to (1, 1)."""

    def points(targets: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        curve = metrics.roc_curve_points(targets, scores, POINTS)
        return {"fpr": curve.fpr, "tpr": curve.tpr}

    return _by_class(model, points)


def precision_recall(model: Evaluated) -> pd.DataFrame:
    """`model, class, recall, precision`: points in order of rising recall."""

    def points(targets: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        curve = metrics.precision_recall_points(targets, scores, POINTS)
        return {"recall": curve.recall, "precision": curve.precision}

    return _by_class(model, points)


def calibration(model: Evaluated) -> pd.DataFrame:
    """`model, class, predicted, observed, records`: a row per bin of predicted probability.

    No rows for anomaly scores, which are not probabilities.
    """

    def points(targets: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        curve = metrics.calibration_points(targets, scores, CALIBRATION_BINS)
        return {
            "predicted": curve.mean_probability,
            "observed": curve.frequency,
            "records": curve.records,
        }

    return pd.DataFrame() if model.task.learns_normal_only else _by_class(model, points)


def confusion(model: Evaluated) -> pd.DataFrame:
    """`model, class, actual, predicted, records`: counts of test records.

    Yes and no for each class; class against class (`class` is then "all classes") if the classes
    exclude each other.
    """
    if model.exclusive:
        actual, predicted = model.targets.argmax(axis=1), model.decisions.argmax(axis=1)
        return _crossed(model.model, ALL_CLASSES, actual, predicted, model.classes)
    parts = [
        _crossed(model.model, facet.name, facet.targets, facet.decisions, ["no", "yes"])
        for facet in model.facets
    ]
    return pd.concat(parts, ignore_index=True)


def scores(model: Evaluated) -> pd.DataFrame:
    """`model, class, actual, low, high, share, threshold`: a histogram of scores by label.

    `actual` is yes or no; `low` and `high` are the bin's edges; `share` is the part of the records
    with this label whose score is in the bin. Bins of probabilities span 0 to 1. Those of anomaly
    scores end at their 98th percentile (or the threshold), and the last takes what lies beyond.
    """
    parts = []
    for facet in model.facets:
        values, targets = facet.scores, facet.targets
        end = 1.0
        if model.task.learns_normal_only:
            end = max(float(np.percentile(values, TAIL)), 1.25 * facet.threshold)
        edges = np.linspace(0, end, BINS + 1)
        for label, actual in enumerate(("no", "yes")):
            inside = np.clip(values[targets == label], 0, end)
            counts, _ = np.histogram(inside, edges)
            parts.append(
                pd.DataFrame(
                    {
                        "model": model.model,
                        "class": facet.name,
                        "actual": actual,
                        "low": edges[:-1],
                        "high": edges[1:],
                        "share": counts / max(len(inside), 1),
                        "threshold": facet.threshold,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


KINDS: dict[str, Callable[[Evaluated], pd.DataFrame]] = {
    "loss": loss,
    "auc": auc,
    "learning_rate": learning_rate,
    "roc": roc,
    "precision_recall": precision_recall,
    "calibration": calibration,
    "confusion": confusion,
    "scores": scores,
}


def _by_class(
    model: Evaluated, points: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "model": model.model,
                "class": facet.name,
                **points(facet.targets, facet.scores),
            }
        )
        for facet in model.facets
    ]
    return pd.concat(parts, ignore_index=True)


def _crossed(
    model: str, name: str, actual: np.ndarray, predicted: np.ndarray, values: list[str]
) -> pd.DataFrame:
    counts = np.zeros((len(values), len(values)), dtype=int)
    np.add.at(counts, (actual, predicted), 1)
    rows = [
        (model, name, of_actual, of_predicted, int(counts[i, j]))
        for i, of_actual in enumerate(values)
        for j, of_predicted in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["model", "class", "actual", "predicted", "records"])
