"""The predictions of a model on test records: predictions.csv is written and read here alone.

It has a row per record: `record, group, normal`, the column that tells sections (machines) apart, if
the data set has one, `wrong` (1 if any decision differs from its label), then for each class `<class>`
(the label), `<class> predicted` (probability or anomaly score) and `<class> decided`. Which columns are
meant is told by what lies beside it, model.json or the metrics file; any further one is passed over.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beatline.common.errors import UserError
from beatline.common.files import parse_csv, read_csv, write_csv
from beatline.common.sums import verified
from beatline.prediction import tasks

FILE = "predictions.csv"
WRONG = "wrong"  # for people who filter the table; who reads it here compares labels and decisions
_CURE = "run `beatline repair data/predictions`"


@dataclass(frozen=True)
class Facet:
    """A class, or a section, on the n test records that are `inside` [N] of it: 0/1 `targets` [n],
    `scores` [n], 0/1 `decisions` [n] and the threshold (NaN if there is none)."""

    name: str
    inside: np.ndarray
    targets: np.ndarray
    scores: np.ndarray
    decisions: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on N test records, a row each in `table`.

    `thresholds`: one per class; none where classes exclude each other, or where they are not known.
    `section_column`: the column that names the section (machine) of a record, of a detector that is
    measured on each; None for other models, whatever tells their records apart.
    """

    task: tasks.Task
    classes: list[str]
    thresholds: list[float]
    section_column: str | None
    table: pd.DataFrame

    @property
    def exclusive(self) -> bool:
        """Whether the most probable class is what the model decides, rather than thresholds."""
        return self.task.name == "multiclass"

    @property
    def targets(self) -> np.ndarray:
        """0/1 `[N, K]`."""
        return self._columns("")

    @property
    def scores(self) -> np.ndarray:
        """Probabilities `[N, K]`, or anomaly scores `[N, 1]`."""
        return self._columns(" predicted")

    @property
    def decisions(self) -> np.ndarray:
        """0/1 `[N, K]`."""
        return self._columns(" decided")

    @property
    def wrong(self) -> np.ndarray:
        """Which records `[N]` have a decision that differs from its label."""
        return (self.targets != self.decisions).any(axis=1)

    def _columns(self, ending: str) -> np.ndarray:
        names = [f"{name}{ending}" for name in self.classes]
        # In one layout, whatever the table's: sums of floats depend on it in their last digit.
        return np.asfortranarray(self.table[names].to_numpy())

    @property
    def facets(self) -> list[Facet]:
        """The parts measured and drawn separately: each class, or each section (machine) of a detector,
        whose records no metric and no curve pools."""
        if not self.section_column:
            everything = np.ones(len(self.table), dtype=bool)
            return [self._facet(k, name, everything) for k, name in enumerate(self.classes)]
        sections = self.table[self.section_column].astype(str).to_numpy()
        return [self._facet(0, name, sections == name) for name in np.unique(sections)]

    def _facet(self, k: int, name: str, inside: np.ndarray) -> Facet:
        return Facet(
            str(name),
            inside,
            self.targets[inside, k],
            self.scores[inside, k],
            self.decisions[inside, k],
            self.thresholds[k] if self.thresholds else np.nan,
        )

    def rows(self, rows: np.ndarray) -> Predictions:
        """The predictions on some of the records, by their positions."""
        return replace(self, table=self.table.iloc[rows])

    def of_classes(self, numbers: Sequence[int]) -> Predictions:
        """The predictions of some of the classes."""
        thresholds = [self.thresholds[k] for k in numbers] if self.thresholds else []
        return replace(self, classes=[self.classes[k] for k in numbers], thresholds=thresholds)


def made(
    model_info: Mapping[str, Any], values: np.ndarray, decisions: np.ndarray, records: pd.DataFrame
) -> Predictions:
    """The predictions of the model that `model_info` (model.json) describes: `values` and `decisions`
    `[N, K]` on the test records of the table `records`."""
    columns = _told_by_model(model_info)
    sections = model_info["dataset"]["sections"]
    names = ("record", "group", "normal", *([sections] if sections else []))
    table: dict[str, Any] = {name: records[name] for name in names}
    if columns["task"].learns_normal_only:
        targets = 1 - records[["normal"]].to_numpy(dtype=np.int8)
    else:
        targets = records[columns["classes"]].to_numpy(dtype=np.int8)
    for k, name in enumerate(columns["classes"]):
        table[name] = targets[:, k]
        table[f"{name} predicted"] = values[:, k]
        table[f"{name} decided"] = decisions[:, k]
    return Predictions(**columns, table=pd.DataFrame(table))


def write(folder: Path, predictions: Predictions) -> None:
    """Write predictions.csv into a folder. Nine digits tell any two float32 apart.

    UserError if a class or section column has the name of the column :data:`WRONG`.
    """
    if WRONG in predictions.table.columns:
        raise UserError(
            f"a class is called {WRONG}, which is a column of {FILE}: give the class another name in "
            f"the data, and run `dvc repro`"
        )
    table = predictions.table.copy()
    place = table.columns.tolist().index(predictions.classes[0])
    table.insert(place, WRONG, predictions.wrong.astype(np.int8))
    write_csv(folder / FILE, table, digits=9)


def read(folder: Path, model_info: Mapping[str, Any]) -> Predictions:
    """The predictions in a folder. UserError if they are missing or damaged."""
    path = folder / FILE
    columns = _told_by_model(model_info)
    table = read_csv(verified(path), sections=columns["section_column"])
    return _checked(columns, table, str(path))


def parse(content: bytes, told_by: Mapping[str, Any], where: str) -> Predictions:
    """The predictions in the `content` of a predictions.csv. `told_by`: what lay beside it, the content
    of the metrics file or of model.json. UserError that says `where` if they are damaged."""
    try:
        header = list(pd.read_csv(io.BytesIO(content), nrows=0))
        by_metrics = "about" in told_by
        columns = _told_by_metrics(told_by, header) if by_metrics else _told_by_model(told_by)
        table = parse_csv(io.BytesIO(content), columns["section_column"])
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where} is not a CSV table ({reason}): {_CURE}") from None
    return _checked(columns, table, where)


def _task(name: Any) -> tasks.Task:
    """The task of this name. One that no model has any more (`anomaly`) was a detector's."""
    return tasks.TASKS.get(name) or replace(tasks.TASKS["reconstruction"], name=name)


def _told_by_model(model_info: Mapping[str, Any]) -> dict[str, Any]:
    task = _task(model_info["task"])
    sections = model_info["dataset"].get("sections")  # data sets had none at first
    return {
        "task": task,
        "classes": model_info["classes"],
        "thresholds": model_info["thresholds"],
        "section_column": sections if task.learns_normal_only else None,
    }


def _told_by_metrics(metrics: Mapping[str, Any], header: Sequence[str]) -> dict[str, Any]:
    """The metrics file names the classes in one text, `NORM, MI`. Where a class has a comma in its own
    name, the `header` tells the two kinds of commas apart."""
    about = metrics["about"][0]
    task, names = _task(about["task"]), about["classes"]
    classes = [
        name for name in header if f", {name}, " in f", {names}, " and f"{name} predicted" in header
    ]
    parts = metrics["parts"] if task.learns_normal_only else []
    return {
        "task": task,
        "classes": classes if ", ".join(classes) == names else names.split(", "),
        "thresholds": [],
        "section_column": next(iter(parts[0])) if parts else None,
    }


def _checked(columns: dict[str, Any], table: pd.DataFrame, where: str) -> Predictions:
    """UserError that says `where` if a column is missing or has gaps."""
    sections = [columns["section_column"]] if columns["section_column"] else []
    endings = ("", " predicted", " decided")
    class_columns = [f"{name}{ending}" for name in columns["classes"] for ending in endings]
    names = ["record", "group", *sections, *class_columns]
    if missing := [name for name in names if name not in table.columns]:
        raise UserError(f"{where} has no column {missing[0]}: {_CURE}")
    if table[class_columns].isna().to_numpy().any():
        raise UserError(f"{where} has gaps: {_CURE}")
    return Predictions(**columns, table=table.loc[:, names])
