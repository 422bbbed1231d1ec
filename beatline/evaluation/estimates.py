"""A trained model on the test records: predictions per record, metrics with intervals.

The test split is read here and nowhere else; thresholds come with the bundle, from validation.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from beatline import bundle, models
from beatline.bundle import Answers, Bundle
from beatline.common.files import sha256
from beatline.common.params import Parameters
from beatline.evaluation import bootstrap

WARM_UP, TIMED = 5, 25  # answers before and while an answer is timed
SCALARS = ("auc", "f1", "accuracy")  # what `dvc metrics show` prints of a model
SEX = {"female": 1, "male": 0}  # as PTB-XL has it
AGES = {  # from, to below; PTB-XL says 300 of everybody over 89
    "under 40": (0, 40),
    "40 to 59": (40, 60),
    "60 to 79": (60, 80),
    "80 and over": (80, math.inf),
}
FEWEST = 20  # records of a subgroup that is measured
FEWEST_OF_A_KIND = (
    5  # with a class, and without it: one alone decides an AUC, and no resample shows it
)


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
    """`{"overall": {metric: {value, low, high}}, "parts": {name: {…}}, "counts": {…}, "subgroups":
    {"sex": {name: {…}}, "age": {name: {…}}}}`.

    The parts are the classes, or the sections (machines) of an anomaly detector. See
    :func:`subgroups` for those.
    """
    found = _measured(model, answers, table, parameters)
    return found | {"subgroups": subgroups(model, answers, table, parameters)}


def _measured(
    model: Bundle,
    answers: Answers,
    table: pd.DataFrame,
    parameters: Evaluate,
    kept: Sequence[int] | None = None,
) -> dict[str, Any]:
    """`kept`: the numbers of the classes that are measured, if not all are."""
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
    columns = list(range(len(model.classes))) if kept is None else list(kept)
    found = bootstrap.evaluate_classification(
        model.task.name,
        [model.classes[k] for k in columns],
        targets[:, columns],
        answers.values[:, columns],
        answers.decisions[:, columns],
        groups,
        **how,
    )
    classes = found["classes"] if len(model.classes) > 1 else {}
    return {"overall": found["macro"], "parts": classes, "counts": {}}


def subgroups(
    model: Bundle, answers: Answers, table: pd.DataFrame, parameters: Evaluate
) -> dict[str, dict[str, dict[str, Any]]]:
    """The overall metrics among the records of each sex and age group, where the table tells them.

    With each stand `records`, `positives` (labels that are 1, of all classes together) and `classes`:
    of how many classes the group has FEWEST_OF_A_KIND records with and without it. Those are measured,
    and a mean over few classes does not compare with one over all. Groups of fewer than FEWEST records,
    or without such a class, have `records` alone. Records of unknown sex or age are in no group.
    """
    targets = targets_of(model, table)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for by, members in _members(table).items():
        found[by] = {}
        for name, inside in members.items():
            rows = np.flatnonzero(inside)
            positives = targets[rows].sum(axis=0)
            fewer = np.minimum(positives, len(rows) - positives)  # of those with it or without it
            kept = np.flatnonzero(fewer >= FEWEST_OF_A_KIND).tolist()
            if model.task.name == "multiclass" and len(kept) < len(model.classes):
                kept = []  # classes that exclude each other are decided among all of them
            found[by][name] = {"records": len(rows)}
            if len(rows) < FEWEST or not kept:
                continue
            of_rows = Answers(answers.classes, answers.values[rows], answers.decisions[rows])
            measured = _measured(model, of_rows, table.iloc[rows], parameters, kept)
            counts = {"positives": int(positives.sum()), "classes": len(kept)}
            found[by][name] = {**measured["overall"], "records": len(rows), **counts}
    return found


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
    return {by: of for by, of in members.items() if np.any(list(of.values()))}


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    """`[N]`, NaN for what is no number."""
    return np.asarray(pd.to_numeric(table.loc[:, column], errors="coerce"), dtype=float)


def of_seed(model: Bundle, overall: dict[str, Any]) -> dict[str, float]:
    """The overall metrics without intervals, and the seed that the model was trained from."""
    values = {metric: estimate["value"] for metric, estimate in overall.items()}
    return {"seed": model.description["training"]["seed"], **values}


def of_other_seeds(
    folder: Path, signals: np.ndarray, table: pd.DataFrame, parameters: Evaluate
) -> list[dict[str, float]]:
    """:func:`of_seed` of each bundle that the bundle in `folder` holds, in the order of the seeds."""
    rows = []
    # A value needs no resample; one is the fewest there can be.
    once = parameters.model_copy(update={"resamples": 1})
    for path in bundle.other_seeds(folder):
        model = bundle.load(path)
        found = _measured(model, model.answer(signals), table, once)
        rows.append(of_seed(model, found["overall"]))
    return rows


def metrics_of(
    model: Bundle, found: dict[str, Any], about: dict[str, str | int | float]
) -> dict[str, Any]:
    """The content of the metrics file, from the :func:`estimates` with `seeds`, and what :func:`about`
    tells.

    `dvc metrics show` prints the numbers at the top and leaves lists out, so that its table fits a
    terminal; who reads the file finds every metric, part, subgroup and seed in it.
    """
    overall = found["overall"]
    kind = part_kind(model)
    return {
        "simulated": model.description["dataset"]["simulated"],
        **{metric: overall[metric]["value"] for metric in SCALARS},
        "metrics": [{"metric": metric, **estimate} for metric, estimate in overall.items()],
        "parts": [{kind: name, **flat(part)} for name, part in found["parts"].items()],
        "subgroups": [
            {"by": by, "group": name, **flat(of_group)}
            for by, groups in found["subgroups"].items()
            for name, of_group in groups.items()
        ],
        "seeds": found["seeds"],
        "about": [{**about, **found["counts"]}],
    }


def about(
    model: Bundle, table: pd.DataFrame, parameters: Evaluate, predictions: Path
) -> dict[str, str | int | float]:
    """What the numbers are of, to be read without the data: task, classes, numbers of test records and
    of the network's parameters, how intervals were found, and two SHA-256 sums: of what the test
    records are (:func:`records_identity`) and of the file `predictions`."""
    return {
        "task": model.task.name,
        "classes": ", ".join(model.classes),
        "records": len(table),
        "parameters": models.count_parameters(model.network),
        "resamples": parameters.resamples,
        "confidence": parameters.confidence,
        "test_records": records_identity(table, targets_of(model, table)),
        "predictions": sha256(predictions),
    }


def records_identity(table: pd.DataFrame, targets: np.ndarray) -> str:
    """SHA-256 of the sorted lines `record,group,label,…` of test records, whatever their order: metrics
    of two revisions compare if it is the same."""
    lines = sorted(
        ",".join([str(record), str(group), *map(str, labels)])
        for record, group, labels in zip(
            table["record"], table["group"], targets.astype(int).tolist(), strict=True
        )
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def part_kind(model: Bundle) -> str:
    """What the parts of the estimates are: `class`, or the column that tells sections apart."""
    sections = model.description["dataset"]["sections"]
    return sections if sections and model.task.learns_normal_only else "class"


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
    parts = found["parts"] or {model.classes[0]: found["overall"]}
    return pd.DataFrame([{"class": name, **flat(part)} for name, part in parts.items()])
