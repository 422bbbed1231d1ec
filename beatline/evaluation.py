"""A trained model on the test records: predictions per record, metrics with intervals.

The test split is read here and nowhere else; thresholds come with the bundle, from validation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from beatline import bootstrap
from beatline.bundle import Answers, Bundle
from beatline.params import Parameters

SHORT = {  # name in the metrics file: name in the estimates
    "auc": "auc",
    "pauc": "pauc",
    "ap": "average_precision",
    "f1": "f1",
    "recall": "recall",
    "precision": "precision",
    "accuracy": "accuracy",
    "brier": "brier",
    "ece": "ece",
}


class Evaluate(Parameters):
    """The block `evaluate`. Intervals are bootstrap percentiles over patients (groups).

    `max_fpr`: pAUC is the standardised area under the ROC curve up to this false positive rate.
    """

    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0, lt=1)
    max_fpr: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)


def targets_of(model: Bundle, table: pd.DataFrame) -> np.ndarray:
    """What the model should have said, 0/1 `[N, K]`."""
    if model.task.learns_normal_only:
        return 1 - table[["normal"]].to_numpy(dtype=np.int8)
    return table[model.classes].to_numpy(dtype=np.int8)


def predictions(model: Bundle, answers: Answers, table: pd.DataFrame) -> pd.DataFrame:
    """A row per record: `record, group, normal`, then per class `<class>` (the label),
    `<class> predicted` (probability or anomaly score) and `<class> decided`."""
    columns: dict[str, Any] = {name: table[name] for name in ("record", "group", "normal")}
    targets = targets_of(model, table)
    for number, name in enumerate(model.classes):
        columns[name] = targets[:, number]
        columns[f"{name} predicted"] = answers.values[:, number]
        columns[f"{name} decided"] = answers.decisions[:, number]
    return pd.DataFrame(columns)


def estimates(
    model: Bundle, answers: Answers, table: pd.DataFrame, parameters: Evaluate
) -> dict[str, Any]:
    """`{"overall": {metric: {value, low, high}}, "classes": {class: {…}}, "counts": {…}}`."""
    targets = targets_of(model, table)
    groups = table["group"].to_numpy()
    how = {
        "resamples": parameters.resamples,
        "seed": parameters.seed,
        "confidence": parameters.confidence,
    }
    if model.task.name == "anomaly":
        found = bootstrap.evaluate_anomaly(
            targets[:, 0],
            answers.values[:, 0],
            model.description["thresholds"][0],
            groups,
            max_fpr=parameters.max_fpr,
            **how,
        )
        counts = {name: found.pop(name) for name in ("tp", "fp", "tn", "fn")}
        return {"overall": found, "classes": {}, "counts": counts}
    found = bootstrap.evaluate_classification(
        model.task.name, model.classes, targets, answers.values, answers.decisions, groups, **how
    )
    classes = found["classes"] if len(model.classes) > 1 else {}
    return {"overall": found["macro"], "classes": classes, "counts": {}}


def metrics_of(model: Bundle, found: dict[str, Any]) -> dict[str, Any]:
    """The content of the metrics file: the overall metrics, and a list with those of each class.

    `dvc metrics show` prints numbers and leaves lists out, so the table stays as narrow as the
    overall metrics are few; who reads the file finds every class in it.
    """
    simulated = model.description["dataset"]["simulated"]
    overall = {"simulated": simulated, **_short(found["overall"]), **found["counts"]}
    classes = [
        {"class": name, "positives": estimates["positives"], **_short(estimates)}
        for name, estimates in found["classes"].items()
    ]
    return {**overall, "classes": classes} if classes else overall


def _short(estimates: dict[str, Any]) -> dict[str, float]:
    """The values under their short names, and the interval of the AUC."""
    values = {short: estimates[name]["value"] for short, name in SHORT.items() if name in estimates}
    interval = {"auc_low": estimates["auc"]["low"], "auc_high": estimates["auc"]["high"]}
    return {"auc": values.pop("auc"), **interval, **values}


def by_class(model: Bundle, found: dict[str, Any]) -> pd.DataFrame:
    """A row per class (one, if there is only one): `class`, `positives`, then each metric with its
    interval as `<metric>`, `<metric>_low`, `<metric>_high`."""
    rows = []
    for name, estimates_of_class in (
        found["classes"] or {model.classes[0]: found["overall"]}
    ).items():
        row: dict[str, Any] = {"class": name}
        for metric, value in estimates_of_class.items():
            if isinstance(value, dict):
                row |= {
                    metric: value["value"],
                    f"{metric}_low": value["low"],
                    f"{metric}_high": value["high"],
                }
            else:
                row[metric] = value
        rows.append(row)
    return pd.DataFrame(rows)
