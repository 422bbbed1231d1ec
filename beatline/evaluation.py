"""A trained model on the test records: predictions per record, metrics with intervals.

The test split is read here and nowhere else; thresholds come with the bundle, from validation.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from beatline import bootstrap
from beatline.bundle import Answers, Bundle
from beatline.params import Parameters

WARM_UP, TIMED = 5, 25  # answers before and while an answer is timed
SHORT = {  # name in the metrics file: name in the estimates
    "auc": "auc",
    "pauc": "pauc",
    "harmonic": "harmonic_mean",
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
    """A row per record: `record, group, normal`, the column that tells sections apart, if any, then
    per class `<class>` (the label), `<class> predicted` (probability or anomaly score) and
    `<class> decided`."""
    sections = model.description["dataset"]["sections"]
    names = ("record", "group", "normal", *([sections] if sections else []))
    columns: dict[str, Any] = {name: table[name] for name in names}
    targets = targets_of(model, table)
    for number, name in enumerate(model.classes):
        columns[name] = targets[:, number]
        columns[f"{name} predicted"] = answers.values[:, number]
        columns[f"{name} decided"] = answers.decisions[:, number]
    return pd.DataFrame(columns)


def estimates(
    model: Bundle, answers: Answers, table: pd.DataFrame, parameters: Evaluate
) -> dict[str, Any]:
    """`{"overall": {metric: {value, low, high}}, "parts": {name: {…}}, "counts": {…}}`.

    The parts are the classes, or the sections (machines) of an anomaly detector.
    """
    targets = targets_of(model, table)
    groups = table["group"].to_numpy()
    how = {
        "resamples": parameters.resamples,
        "seed": parameters.seed,
        "confidence": parameters.confidence,
    }
    if model.task.learns_normal_only:
        sections = model.description["dataset"]["sections"]
        found = bootstrap.evaluate_anomaly(
            targets[:, 0],
            answers.values[:, 0],
            model.description["thresholds"][0],
            groups,
            sections=table[sections].to_numpy(str) if sections else None,
            max_fpr=parameters.max_fpr,
            **how,
        )
        return {"overall": found["overall"], "parts": found["sections"], "counts": found["counts"]}
    found = bootstrap.evaluate_classification(
        model.task.name, model.classes, targets, answers.values, answers.decisions, groups, **how
    )
    classes = found["classes"] if len(model.classes) > 1 else {}
    return {"overall": found["macro"], "parts": classes, "counts": {}}


def metrics_of(model: Bundle, found: dict[str, Any]) -> dict[str, Any]:
    """The content of the metrics file: the overall metrics, and a list with those of each part.

    `dvc metrics show` prints numbers and leaves lists out, so the table stays as narrow as the
    overall metrics are few; who reads the file finds every class (or machine) in it.
    """
    simulated = model.description["dataset"]["simulated"]
    overall = {"simulated": simulated, **_short(found["overall"]), **found["counts"]}
    kind = part_kind(model)
    parts = [
        {kind: name, **_short(estimates), **_numbers(estimates)}
        for name, estimates in found["parts"].items()
    ]
    return {**overall, "parts": parts} if parts else overall


def part_kind(model: Bundle) -> str:
    """What the parts of the estimates are: `class`, or the column that tells sections apart."""
    sections = model.description["dataset"]["sections"]
    return sections if sections and model.task.learns_normal_only else "class"


def _numbers(estimates: dict[str, Any]) -> dict[str, int]:
    """What is a count and has no interval."""
    return {name: value for name, value in estimates.items() if not isinstance(value, dict)}


def _short(estimates: dict[str, Any]) -> dict[str, float]:
    """The values under their short names, and the interval of the AUC."""
    values = {short: estimates[name]["value"] for short, name in SHORT.items() if name in estimates}
    interval = {"auc_low": estimates["auc"]["low"], "auc_high": estimates["auc"]["high"]}
    return {"auc": values.pop("auc"), **interval, **values}


def time_of_an_answer(model: Bundle, signals: np.ndarray) -> float:
    """Milliseconds from one normalized recording to its answer, alone: the median of TIMED tries."""
    alone = np.ascontiguousarray(signals[:1])
    seconds = []
    for _ in range(WARM_UP + TIMED):
        began = time.perf_counter()
        model.answer(alone)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[WARM_UP:])


def by_class(model: Bundle, found: dict[str, Any]) -> pd.DataFrame:
    """A row per class, or section of a detector (one, if there is only one): `class`, `positives`,
    then each metric with its interval as `<metric>`, `<metric>_low`, `<metric>_high`."""
    rows = []
    for name, estimates_of_class in (
        found["parts"] or {model.classes[0]: found["overall"]}
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
