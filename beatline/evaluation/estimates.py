"""Metrics of a trained model on the test records, with intervals.

The test split is read for them and for nothing else; thresholds come with the bundle, from validation.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from beatline import metrics
from beatline.common.files import sha256
from beatline.common.params import Parameters
from beatline.evaluation import bootstrap
from beatline.evaluation.measures import MEASURES
from beatline.evaluation.predictions import Facet, Predictions
from beatline.metrics import Array
from beatline.preprocessing.arrays import Signals

WARM_UP, TIMED = 5, 25  # predictions before and while one is timed
SCALARS = ("auc", "f1", "accuracy")  # what `dvc metrics show` prints of a model
OF_PROBABILITIES = ("calibration_error", "brier")  # what calibration is for
SEX = {"female": 1, "male": 0}  # as PTB-XL has it
AGES = {  # from, to below; PTB-XL says 300 of everybody over 89
    "under 40": (0, 40),
    "40 to 59": (40, 60),
    "60 to 79": (60, 80),
    "80 and over": (80, math.inf),
}
FEWEST = 20  # records of a subgroup that is measured
FEWEST_OF_A_KIND = 5  # groups with a class, and without: one decides an AUC, unseen by resamples
FEWEST_GROUPS = 10  # patients: of five, four in five intervals of 95 % hold the truth, of ten nine
CONSTANT = 1e-9  # between resamples: a sum in another order


class Evaluate(Parameters):
    """The block `evaluate`. Intervals are bootstrap percentiles over patients (groups), where there are
    FEWEST_GROUPS of them; see :func:`_left_open` for metrics that are the same in every resample.

    `max_fpr`: pAUC is the standardised area under the ROC curve up to this false positive rate.
    """

    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0, lt=1)
    max_fpr: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)


def estimates(
    predictions: Predictions, records: pd.DataFrame, parameters: Evaluate
) -> dict[str, Any]:
    """:func:`measured`, and `{"subgroups": {"sex": {name: {…}}, "age": {name: {…}}}}` of the test records
    in the table `records`; see :func:`subgroups` for those."""
    subgroups_of = subgroups(predictions, records, parameters)
    return {**measured(predictions, parameters), "subgroups": subgroups_of}


def measured(predictions: Predictions, parameters: Evaluate) -> dict[str, Any]:
    """`{"overall": {metric: {value, low, high}}, "parts": {name: {…}}, "counts": {…}}`, low and high NaN
    of fewer than FEWEST_GROUPS groups (patients).

    The parts are the classes, if there are several, each with its number of `positives`; or the
    sections (machines) of an anomaly detector, with `tp`, `fp`, `fn` and `tn` besides, which a detector
    has as counts of all records too.
    """
    groups = predictions.table["group"].to_numpy()
    weights = bootstrap.once_and_resampled(groups, parameters.resamples, parameters.seed)
    resampled = bootstrap.measure(predictions, weights, parameters.max_fpr)
    counted = _confusion if predictions.task.learns_normal_only else lambda *_: {}
    facets, cases = predictions.facets, cases_of(predictions)
    fewest = {
        kind: min((each[kind] for each in cases.values() if each[kind]), default=0)
        for kind in cases[facets[0].name]
    }
    overall_cases = fewest | {"groups": len(np.unique(groups))}
    parts = {
        facet.name: {
            **_with_intervals(resampled.parts[facet.name], cases[facet.name], parameters),
            "positives": int(np.count_nonzero(facet.targets)),
            **counted(facet.targets, facet.decisions),
        }
        for facet in facets
        if facet.name in resampled.parts
    }
    return {
        "overall": _with_intervals(resampled.overall, overall_cases, parameters),
        "parts": parts,
        "counts": counted(predictions.targets, predictions.decisions),
    }


def cases_of(predictions: Predictions) -> dict[str, dict[str, int]]:
    """Count the groups (patients) of each class or machine: all, those with positives, with negatives,
    with decisions, and of the rarer of both kinds."""
    groups = predictions.table["group"].to_numpy(str)
    return {facet.name: _cases(facet, groups[facet.inside]) for facet in predictions.facets}


def _cases(facet: Facet, groups: np.ndarray) -> dict[str, int]:
    positives, negatives, decided = (
        len(np.unique(groups[inside]))
        for inside in (facet.targets == 1, facet.targets == 0, facet.decisions == 1)
    )
    return {
        "groups": len(np.unique(groups)),
        "positives": positives,
        "negatives": negatives,
        "decided": decided,
        "rarer": min(positives, negatives),
    }


def _with_intervals(
    values: Mapping[str, Array], cases: Mapping[str, int], parameters: Evaluate
) -> dict[str, Any]:
    """Value, low and high of each metric; the first of its values is of the records themselves. There is
    no interval where `cases` are of fewer than FEWEST_GROUPS groups."""
    intervals = {}
    for name, value in values.items():
        resampled, known = value[1:], np.isfinite(value[1:])
        if cases["groups"] < FEWEST_GROUPS or not known.any():
            low, high = math.nan, math.nan
        elif np.ptp(resampled[known]) < CONSTANT:
            number = cases[MEASURES[name].share_of]
            low, high = _left_open(name, float(value[0]), number, parameters)
        else:
            low, high = bootstrap.percentile_interval(resampled, parameters.confidence)
        intervals[name] = {"value": float(value[0]), "low": float(low), "high": float(high)}
    return intervals


def _left_open(metric: str, value: float, cases: int, parameters: Evaluate) -> tuple[float, float]:
    """The interval of a metric that is the same in every resample, as far as `cases` leave it open.

    Of what none of them shows there may be a `share` in truth (Clopper & Pearson, Biometrika 26, 1934;
    the rule of three), on which the metric may be as bad or as good as can be. For precision, recall and
    accuracy of 0 or 1 that is the exact binomial interval; an F1 gains by recall where precision is 1; of
    a pAUC, the share of negatives that lie above all positives is a share of `max_fpr`.
    """
    share = 1 - ((1 - parameters.confidence) / 2) ** (1 / cases)  # the upper end where none is seen
    loss, gain = share, 2 * share / (1 + share) if metric == "f1" else share
    if metric in ("pauc", "harmonic_mean"):
        by_chance = parameters.max_fpr**2 / 2
        loss = min(share, parameters.max_fpr) / (2 * (parameters.max_fpr - by_chance))
    return value * (1 - loss), value + (1 - value) * gain


def _confusion(targets: np.ndarray, decisions: np.ndarray) -> dict[str, int]:
    """Count right and wrong decisions on the one class that a detector has."""
    table = metrics.confusion(targets.reshape(-1, 1), decisions.reshape(-1, 1))
    return {name: int(count[0]) for name, count in table._asdict().items()}


def subgroups(
    predictions: Predictions, records: pd.DataFrame, parameters: Evaluate
) -> dict[str, dict[str, dict[str, Any]]]:
    """The overall metrics among the records of each sex and age group, where the table tells them.

    With each stand `records`, `positives` (labels that are 1, of all classes together) and `classes`:
    of how many classes the group has FEWEST_OF_A_KIND patients with and without it. Those are measured,
    and a mean over few classes does not compare with one over all. Groups of fewer than FEWEST records,
    or without such a class, have `records` alone. Records of unknown sex or age are in no group.
    """
    return {
        by: {
            name: _subgroup(predictions.rows(np.flatnonzero(inside)), parameters)
            for name, inside in members.items()
        }
        for by, members in _members(records).items()
    }


def _subgroup(members: Predictions, parameters: Evaluate) -> dict[str, Any]:
    positives, size = members.targets.sum(axis=0), len(members.table)
    groups = members.table["group"].to_numpy(str)
    kinds = (members.targets == 1, members.targets == 0)
    fewer = np.min([[len(set(groups[rows])) for rows in kind.T] for kind in kinds], axis=0)
    kept = np.flatnonzero(fewer >= FEWEST_OF_A_KIND).tolist()
    if members.exclusive and len(kept) < len(members.classes):
        kept = []  # classes that exclude each other are decided among all of them
    if size < FEWEST or not kept:
        return {"records": size}
    overall = measured(members.of_classes(kept), parameters)["overall"]
    return {**overall, "records": size, "positives": int(positives.sum()), "classes": len(kept)}


def _members(table: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Which records `[N]` are in which subgroup; nothing of what the table does not tell."""
    members: dict[str, dict[str, np.ndarray]] = {}
    if "sex" in table:
        sex = _numbers(table, "sex")
        members["sex"] = {name: sex == code for name, code in SEX.items()}
    if "age" in table:
        age = _numbers(table, "age")
        members["age"] = {
            name: (first <= age) & (age < last) for name, (first, last) in AGES.items()
        }
    return {by: groups for by, groups in members.items() if np.any(list(groups.values()))}


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    """`[N]`, NaN for what is no number."""
    return np.asarray(pd.to_numeric(table.loc[:, column], errors="coerce"), dtype=float)


def metrics_of(
    predictions: Predictions,
    estimated: dict[str, Any],
    about: dict[str, str | int | float],
    simulated: bool,
) -> dict[str, Any]:
    """The content of the metrics file, from the :func:`estimates` with `seeds`, and what :func:`about`
    tells. `simulated`: whether the recordings are. A model that is the mean of several networks is of
    no one seed, and its `members` are listed; one with a temperature has what it would be `uncalibrated`.

    `dvc metrics show` prints the numbers at the top and leaves lists out, so that its table fits a
    terminal; who reads the file finds every metric, part, subgroup and seed in it. A part is named by
    its `class`, or in the column that tells sections apart.
    """
    overall = estimated["overall"]
    kind = predictions.section_column or "class"
    members, uncalibrated = {}, {}
    if "members" in estimated:
        members = {"members": estimated["members"]}
    if "uncalibrated" in estimated:
        rows = estimated["uncalibrated"].items()
        uncalibrated = {"uncalibrated": [{"metric": name, **value} for name, value in rows]}
    return {
        "simulated": simulated,
        **{metric: overall[metric]["value"] for metric in SCALARS},
        "metrics": [{"metric": metric, **estimate} for metric, estimate in overall.items()],
        "parts": [{kind: name, **flat(part)} for name, part in estimated["parts"].items()],
        "subgroups": [
            {"by": by, "group": name, **flat(group)}
            for by, groups in estimated["subgroups"].items()
            for name, group in groups.items()
        ],
        "seeds": estimated["seeds"],
        **members,
        **uncalibrated,
        "about": [{**about, **estimated["counts"]}],
    }


def about(
    predictions: Predictions, parameters: Evaluate, network_parameters: int, file: Path
) -> dict[str, str | int | float]:
    """Return what the metrics describe, to be read without the data: task, classes, numbers of test
    records, of their groups (patients) and of those of the rarest kind (see :func:`groups_of_a_kind`),
    and of the network's parameters, how intervals were found, and two SHA-256 sums: of what
    the test records are (:func:`records_identity`) and of the `file` of predictions."""
    return {
        "task": predictions.task.name,
        "classes": ", ".join(predictions.classes),
        "records": len(predictions.table),
        "groups": len(set(predictions.table["group"])),
        "groups_of_a_kind": groups_of_a_kind(predictions),
        "parameters": network_parameters,
        "resamples": parameters.resamples,
        "confidence": parameters.confidence,
        "test_records": records_identity(predictions),
        "predictions": sha256(file),
    }


def groups_of_a_kind(predictions: Predictions) -> int:
    """Return how many groups have the rarest class, or lack the commonest, in the smallest section."""
    kinds = ("positives", "negatives")
    numbers = [each[kind] for each in cases_of(predictions).values() for kind in kinds]
    return min(filter(None, numbers), default=0)


def records_identity(predictions: Predictions) -> str:
    """SHA-256 of the sorted lines `record,group,label,…` of test records, whatever their order: metrics
    of two revisions compare if it is the same."""
    table, labels = predictions.table, predictions.targets.astype(int).tolist()
    lines = sorted(
        ",".join(map(str, (record, group, *own)))
        for record, group, own in zip(table["record"], table["group"], labels, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def flat(estimates: dict[str, Any]) -> dict[str, Any]:
    """A row: `<metric>`, `<metric>_low`, `<metric>_high` of each metric, and counts as they are."""
    row: dict[str, Any] = {}
    for metric, value in estimates.items():
        if isinstance(value, dict):
            row |= {
                metric: value["value"],
                f"{metric}_low": value["low"],
                f"{metric}_high": value["high"],
            }
        else:
            row[metric] = value
    return row


def time_of_a_prediction(
    predict: Callable[[np.ndarray], Any], signals: Signals | np.ndarray
) -> float:
    """Milliseconds that `predict` takes for one normalized recording alone: the median of TIMED."""
    alone = np.ascontiguousarray(signals[:1])
    seconds = []
    for _ in range(WARM_UP + TIMED):
        began = time.perf_counter()
        predict(alone)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[WARM_UP:])


def by_class(predictions: Predictions, estimated: dict[str, Any]) -> pd.DataFrame:
    """A row per class, or section of a detector (one, if there is only one): `class`, `positives`,
    then each metric with its interval as `<metric>`, `<metric>_low`, `<metric>_high`."""
    parts = estimated["parts"] or {predictions.classes[0]: estimated["overall"]}
    return pd.DataFrame([{"class": name, **flat(part)} for name, part in parts.items()])
