"""From what a table of one's own says of its records to classes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from beatline.common.errors import UserError, listed, names_there_are, warn
from beatline.common.params import Parameters
from beatline.datasets import (
    COLUMNS,
    DESCRIBED,
    Labels,
    Task,
    by_number,
    class_name,
    count_unknown_groups,
    exclusive,
    joined,
    label_of,
    large_classes,
    one_class,
    some,
)
from beatline.datasets.recordings.quality import FLAGS, Flag
from beatline.formats import cells, tables

TRUE, FALSE = ("1", "true", "yes", "y"), ("0", "false", "no", "n", "")
FOLDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    "": "",
}
MALE = ("m", "male", "man", "männlich", "masculino", "homme", "hombre", "maschio")
FEMALE = ("f", "female", "woman", "w", "weiblich", "femenino", "femme", "mujer", "femmina")
# By words, and by the codes of PTB-XL; with a 2 among them, those of ISO/IEC 5218.
SEXES = {**dict.fromkeys(MALE, "0"), **dict.fromkeys(FEMALE, "1")}
ISO_5218 = {"1": "0", "2": "1"}
OLDEST, NOT_TOLD = 130, 300  # years; the latter stands for above 89 in PTB-XL, which tells no more
ANOMALY = "anomaly"
ONE_CLASS = (
    "change aggregate_labels.classes, drop or min_records, or name other columns as download.labels"
)
Text = str | int | bool | float


class Quality(Parameters):
    """`drop`: records with one of these flags are left out; of equal records with a label the first
    stays."""

    drop: list[Flag] = Field(default_factory=list)


class AggregateLabels(Parameters):
    """`task`: null is multilabel where a record may have several labels, binary for two labels, else
    multiclass; anomaly makes everything that is not `normal` one class, which nothing learns from.
    `map`: other names of labels, two of which may become one. `classes`: those to keep, in the order of
    the outputs (none named: all, sorted); of a binary task that is the one that is not `normal`. `drop`:
    records with one of these labels are left out, whatever else they have. `normal`: the label that is.
    `unlabelled`: records that no class is left of, which a multilabel task may keep as examples of
    none; null keeps those of which columns with 0 and 1 say that they have no label."""

    task: Task | None = None
    map: dict[Text, Text] = Field(default_factory=dict)
    classes: list[Text] = Field(default_factory=list)
    drop: list[Text] = Field(default_factory=list)
    normal: Text | None = None
    min_records: int = Field(ge=1)
    unlabelled: Literal["drop", "keep"] | None = None
    quality: Quality = Field(default_factory=Quality)


def aggregated(
    rows: pd.DataFrame, columns: list[str], separator: str | None, parameters: AggregateLabels
) -> Labels:
    """Return the labels of records that can be used.

    `rows`: a record each, with what its row of the table said (`label 0`, … of the `columns` with labels,
    `patient`, `fold`, …) and flags of its quality. What is left out is counted. Raises UserError where
    labels do not fit the task, or a patient is in two folds.
    """
    rejected = rows["rejected"].to_numpy() == 1
    rows = rows.loc[~rejected].reset_index(drop=True)
    counts = _quality_counts(rows)
    flags = [flag for flag in parameters.quality.drop if flag != "duplicate"]
    poor = rows.loc[:, flags].ne("").any(axis=1).to_numpy()
    counts["left_out_for_quality"] = int(poor.sum())
    rows = rows.loc[~poor].reset_index(drop=True)
    if rows.empty:
        raise UserError(
            "aggregate_labels.quality.drop leaves no record: shorten it, or repair the source"
        )
    several = len(columns) > 1 or bool(separator)
    said, empty = _sets(rows, columns, separator)
    if empty:
        counts["empty_label_cells"] = empty
        warn(f"{empty} cells of columns with 0 and 1 are empty: they are taken for 0")
    normal = None if parameters.normal is None else tables.text(parameters.normal)
    kept, classes = _kept(said, rows["classes"].to_list(), parameters)
    task = parameters.task or _task(several, classes, normal)
    only = len(set().union(*said)) == 1
    dropped = set(map(tables.text, parameters.drop))
    out = np.array([bool(labels & dropped) for labels in said])
    counts["records_of_dropped_labels"] = int(out.sum())
    rows, said, kept = _without(out, rows, said, kept)
    most = 1 if task in ("binary", "multiclass") else len(classes)
    usable = np.array([1 <= len(labels) <= most for labels in kept], dtype=bool)
    told = usable | np.array(
        [not has and (bool(had) or len(columns) > 1) for had, has in zip(said, kept, strict=True)]
    )
    counts["equal_with_other_labels"] = _contradictions(rows, kept, told)
    if "duplicate" in parameters.quality.drop:
        # Of equal records one that can be used stays, else the first.
        first = rows.iloc[np.argsort(~usable, kind="stable")].drop_duplicates("alike").index
        out = ~rows.index.isin(first)
        counts["left_out_for_quality"] += int(out.sum())
        rows, said, kept = _without(out, rows, said, kept)
    lost = sum(len(had) - len(has) for had, has in zip(said, kept, strict=True))
    unlabelled = np.array([not labels for labels in said])
    counts |= {
        "records_without_label": int(unlabelled.sum()),
        "records_of_other_labels": len(
            others := [had for had, has in zip(said, kept, strict=True) if had and not has]
        ),
    }
    if others and task != "anomaly":
        warn(
            f"{len(others)} records have other labels than aggregate_labels.classes alone "
            f"({listed(sorted(set().union(*others)))}): name them there or in aggregate_labels.map, or, "
            f"if they are lists of labels, what separates these as download.separator"
        )
    if lost:
        counts["labels_left_out"] = lost
    if "patient" in rows:
        counts |= count_unknown_groups(rows["patient"].to_list())
    described = _described(rows)
    described["normal"] = [int(labels == {normal}) if normal else 0 for labels in said]
    if normal is not None and normal not in set().union(*said):
        raise _unknown("normal", normal, sorted(set().union(*said), key=by_number))
    if task == "multilabel":
        of_none = unlabelled & (len(columns) > 1)
        labels = _multilabel(described, kept, classes, parameters, of_none)
    elif task == "anomaly":
        labels = _anomaly(described, said, kept, normal)
    else:
        # Of columns with 0 and 1 a record without any is one of none; of others nothing is known.
        unknown = unlabelled & (len(columns) == 1)
        if only and task == "binary" and unknown.any():
            warn(
                f"{unknown.sum()} records have no label: as the table has one class alone, they are "
                f"taken for those that are not of it"
            )
            unknown[:] = False
        labels = _one_each(described, kept, classes, normal, task, parameters, unknown)
    if labels.table["alike"].is_unique:
        labels = replace(labels, table=labels.table.drop(columns="alike"))
    return replace(labels, counts=counts | labels.counts)


def later_labels(classes: Sequence[str], block: Mapping[str, Any]) -> list[str]:
    """Return the labels, as `map` leaves them, of a recording whose classes, or whether it is `normal`,
    experts have told. Raises UserError if nothing says what a record is called that has no class."""
    parameters = AggregateLabels.model_validate(block)
    normal = None if parameters.normal is None else tables.text(parameters.normal)
    if parameters.task == "anomaly":
        return [ANOMALY if ANOMALY in classes else str(normal)]
    if classes or parameters.task == "multilabel":
        return list(map(label_of, classes))
    if normal is None:
        raise UserError(
            "aggregate_labels.normal: what records are called that are of no class is not said: name it"
        )
    return [normal]


# ---------------------------------------------------------------- what the table says


def _sets(
    rows: pd.DataFrame, columns: list[str], separator: str | None
) -> tuple[list[set[str]], int]:
    """The labels of each record, and how many cells of columns with 0 and 1 are empty. A record of a
    snapshot has its classes themselves."""
    cells = [rows[f"label {number}"].to_list() for number in range(len(columns))]
    later = rows["classes"].to_list()
    empty = 0
    result: list[set[str]] = []
    for number, values in enumerate(zip(*cells, strict=True)):
        if later[number]:
            result.append(set(json.loads(later[number])))
        elif len(columns) > 1:
            result.append(
                {
                    name
                    for name, value in zip(columns, values, strict=True)
                    if _holds(value, name, rows["record"].iloc[number])
                }
            )
            empty += values.count("")
        elif separator:
            result.append({tables.text(part) for part in values[0].split(separator)} - {""})
        else:
            result.append({values[0]} - {""})
    return result, empty


def _holds(value: str, column: str, record: str) -> bool:
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise UserError(
        f"column {column} holds {value!r} for {record}, which is neither 0 nor 1: correct it, or name "
        f"one column with classes as download.labels"
    )


def _kept(
    said: list[set[str]], later: list[str], parameters: AggregateLabels
) -> tuple[list[set[str]], list[str]]:
    """The classes of each record by `map`, `classes` and `drop`, and all classes in order. Changes
    `said` by `map`, but for records of snapshots, of whose labels some are `later`. Raises
    UserError for a label that there is not."""
    known = sorted(set().union(*said), key=by_number)
    mapping = {tables.text(old): tables.text(new) for old, new in parameters.map.items()}
    for old in mapping:
        if old not in known:
            raise _unknown("map", old, known)
    said[:] = [
        labels if told else {mapping.get(label, label) for label in labels}
        for labels, told in zip(said, later, strict=True)
    ]
    known = sorted(set().union(*said), key=by_number)
    if not known:
        raise UserError(
            "no record has a label: name other columns as download.labels, or a separator that there is"
        )
    wanted = list(map(tables.text, parameters.classes))
    dropped = list(map(tables.text, parameters.drop))
    for key, names in (("classes", wanted), ("drop", dropped)):
        for name in names:
            if name not in known:
                raise _unknown(key, name, known)
    classes = [name for name in dict.fromkeys(wanted or known) if name not in dropped]
    return [labels & set(classes) for labels in said], classes


def _without(
    out: np.ndarray, rows: pd.DataFrame, *labels: list[set[str]]
) -> tuple[pd.DataFrame, list[set[str]], list[set[str]]]:
    """Rows and two lists of labels without the records that are `out`. Raises UserError if none is
    left."""
    if out.all():
        raise UserError(
            "aggregate_labels.drop leaves no record: shorten it, or name other columns as "
            "download.labels"
        )
    said, kept = ([one for one, gone in zip(each, out, strict=True) if not gone] for each in labels)
    return rows.loc[~out].reset_index(drop=True), said, kept


def _contradictions(rows: pd.DataFrame, kept: list[set[str]], told: np.ndarray) -> int:
    """How many of the records of which labels tell are equal to another one of other classes; a warning
    says so."""
    classes = pd.Series(["\n".join(sorted(labels)) for labels in kept], rows.index).loc[told]
    different = classes.groupby(rows["alike"].loc[told]).transform("nunique") > 1
    if different.any():
        warn(
            f"{different.sum()} records are equal to another one that has other labels: correct the "
            f"table ({some(rows.loc[different.index[different], 'record'].to_list())})"
        )
    return int(different.sum())


def _unknown(key: str, name: str, known: Sequence[str]) -> UserError:
    return UserError(
        f"aggregate_labels.{key}: no record has the label {name!r}{names_there_are(name, known)}"
    )


def _described(rows: pd.DataFrame) -> pd.DataFrame:
    """Record, group, fold, and what else is known of each record."""
    records, patients = _texts(rows, "record"), _texts(rows, "patient")
    groups = [patient or record for patient, record in zip(patients, records, strict=True)]
    folds = _folds(_texts(rows, "fold"), records)
    table = pd.DataFrame({"record": records, "group": groups, "fold": folds})
    _check_folds(table)
    table["alike"] = _alike(rows)
    group_of = pd.Series(groups, records)
    together = joined(group_of, group_of.loc[table["alike"]]).to_list()
    if moved := sum(new != old for new, old in zip(together, groups, strict=True)):
        if patients.count("") < len(patients):
            warn(f"{moved} records are equal to one of another patient: they are kept in one split")
        table["group"] = together
    if "age" in rows:
        table["age"] = _ages(rows["age"].to_list())
    if "sex" in rows:
        table["sex"] = _sexes(rows["sex"].str.lower().to_list())
    if "time" in rows:
        table["event_timestamp"] = rows["time"]
    flags = rows.loc[:, list(FLAGS)].to_dict("records")
    table["quality"] = [";".join(name for name in FLAGS if row[name]) for row in flags]
    table["quality_details"] = [
        "; ".join(f"{name}: {row[name]}" for name in FLAGS if row[name]) for row in flags
    ]
    return table


def _texts(rows: pd.DataFrame, column: str) -> list[str]:
    return rows[column].to_list() if column in rows else [""] * len(rows)


def _folds(values: list[str], records: list[str]) -> list[str]:
    for value, record in zip(values, records, strict=True):
        if value.lower() not in FOLDS:
            raise UserError(
                f"the fold of {record} is {value!r}: write train, validation or test, or set "
                f"download.fold to null"
            )
    return [FOLDS[value.lower()] for value in values]


def _check_folds(table: pd.DataFrame) -> None:
    """Raise UserError if a patient is in two folds."""
    folds = table.loc[table["fold"] != ""].groupby("group")["fold"].unique()
    parted = folds[folds.map(len) > 1]
    if len(parted):
        names = " and ".join(sorted(parted.iloc[0]))
        raise UserError(
            f"{len(parted)} patients are in two folds, such as {parted.index[0]} in {names}: correct the "
            f"table, or set download.fold to null, so that patients are split by the pipeline"
        )


def _alike(rows: pd.DataFrame) -> list[str]:
    """For each record the first that is equal and still there."""
    first: dict[str, str] = {}
    pairs = zip(rows["alike"], rows["record"], strict=True)
    return [first.setdefault(alike, record) for alike, record in pairs]


def _ages(values: list[str]) -> list[float]:
    """Years, NaN where there are none."""
    found = [cells.number(value, "," if "," in value else ".") for value in values]
    is_wrong = [age is None or age < 0 or (age > OLDEST and age != NOT_TOLD) for age in found]
    if unknown := list(compress(values, is_wrong)):
        warn(
            f"{len(unknown)} records have an age that is no number of years up to {OLDEST} "
            f"({listed(sorted(set(unknown)))}): it counts as missing"
        )
    return [
        math.nan if age is None or wrong else age
        for age, wrong in zip(found, is_wrong, strict=True)
    ]


def _sexes(values: list[str]) -> list[float]:
    """Codes as PTB-XL has them, NaN where there is none."""
    digits = {value for value in values if value.isdecimal()}
    codes: Mapping[str, str] = ISO_5218 if "2" in digits else {"0": "0", "1": "1"}
    if digits:
        first, second = codes
        warn(
            f"sex is given by numbers: {first} is taken for male and {second} for female; write the "
            f"words if that is wrong"
        )
    found = [(codes if value.isdecimal() else SEXES).get(value) for value in values]
    unknown = [value for value, code in zip(values, found, strict=True) if value and code is None]
    if unknown:
        warn(
            f"{len(unknown)} records are of no sex that is known ({listed(sorted(set(unknown)))}): it "
            f"counts as missing; write male and female"
        )
    return [float("nan") if code is None else float(code) for code in found]


def _quality_counts(rows: pd.DataFrame) -> dict[str, int]:
    """How many records have each flag; a warning says so."""
    counts = {name: _texts(rows, name).count("") for name in FLAGS}
    counts = {name: len(rows) - empty for name, empty in counts.items()}
    seen = {name: number for name, number in counts.items() if number}
    if seen:
        examples = some(rows.loc[rows[list(seen)].ne("").any(axis=1), "record"].to_list())
        totals = ", ".join(f"{number} {name}" for name, number in seen.items())
        warn(
            f"quality of recordings: {totals} ({examples}); aggregate_labels.quality.drop leaves them out"
        )
    return {f"quality_{name}": number for name, number in counts.items()}


# ---------------------------------------------------------------- tasks


def _task(several: bool, classes: list[str], normal: str | None) -> Task:
    if several:
        return "multilabel"
    if len(classes) == 1:
        if normal is None or normal == classes[0]:
            raise one_class(classes[0], ONE_CLASS)
        return "binary"
    return "binary" if len(classes) == 2 else "multiclass"


def _multilabel(
    table: pd.DataFrame,
    kept: list[set[str]],
    classes: list[str],
    parameters: AggregateLabels,
    of_none: np.ndarray,
) -> Labels:
    """Classes of which a record may have several. `of_none`: which are said to have none."""
    names = {name: class_name(name) for name in classes}
    for name, column in names.items():
        table[column] = [int(name in labels) for labels in kept]
    left = large_classes(table, list(names.values()), parameters.min_records)
    without = table[left].sum(axis=1).to_numpy() == 0
    is_kept = of_none if parameters.unlabelled is None else parameters.unlabelled == "keep"
    out = without & ~np.asarray(is_kept)
    fates = {"dropped": int(out.sum()), "kept": int((without & ~out).sum())}
    counts = {f"without_class_{fate}": number for fate, number in fates.items() if number}
    table = table.loc[~out].reset_index(drop=True)
    return Labels(_ordered(table, left), left, "multilabel", counts)


def _anomaly(
    table: pd.DataFrame, said: list[set[str]], kept: list[set[str]], normal: str | None
) -> Labels:
    if normal is None:
        raise UserError(
            "aggregate_labels.task is anomaly, but normal is null: set it to the label of normal records"
        )
    inside = np.array([bool(labels) for labels in kept])
    table[ANOMALY] = [int(labels != {normal}) for labels in said]
    table = table.loc[inside].reset_index(drop=True)
    if table[ANOMALY].to_list().count(0) == 0:
        raise UserError(f"no record is {normal} and nothing else, so nothing can be learned of it")
    return Labels(_ordered(table, [ANOMALY]), [ANOMALY], "anomaly", {})


def _one_each(
    table: pd.DataFrame,
    kept: list[set[str]],
    classes: list[str],
    normal: str | None,
    task: Task,
    parameters: AggregateLabels,
    unknown: np.ndarray,
) -> Labels:
    """Classes of which each record has one; of a binary task the class is what is not normal. `unknown`:
    records of which nobody says what they are."""
    several = np.array([len(labels) > 1 for labels in kept])
    counts = {"records_of_several_labels": int(several.sum())} if several.any() else {}
    if several.any():
        example = table.loc[several, "record"].iloc[0]
        warn(
            f"{counts['records_of_several_labels']} records, such as {example}, have several labels: a "
            f"{task} task leaves them out"
        )
    table["label"] = [next(iter(labels)) if len(labels) == 1 else "" for labels in kept]
    if task == "binary" and len(classes) == 1 and normal in (None, *classes):
        # One column of 0 and 1, or one class that is named: what has it not is the other.
        only = [class_name(classes[0])]
        table[only[0]] = [int(bool(labels)) for labels in kept]
        table = table.loc[~unknown].reset_index(drop=True)
        large_classes(table, only, parameters.min_records)
        if table[only[0]].to_numpy().all():
            raise one_class(classes[0], ONE_CLASS)
        return Labels(_ordered(table, only), only, task, counts)
    named = table.loc[table["label"] != ""].reset_index(drop=True)
    labels = exclusive(
        named, {class_name(name): name for name in classes}, parameters.min_records, ONE_CLASS
    )
    extras = named.set_index("record").drop(columns=[*COLUMNS[1:], "label"])
    full = labels.table.join(extras, on="record")
    counts |= labels.counts
    if task == "multiclass":
        return Labels(_ordered(full, labels.classes), labels.classes, task, counts)
    if len(labels.classes) != 2:
        raise UserError(
            f"aggregate_labels.task is binary, but there are {len(labels.classes)} classes "
            f"({some(labels.classes)}): choose two by map, classes or drop, or set task to multiclass"
        )
    negative = class_name(normal) if normal in classes else labels.classes[0]
    positive = [name for name in labels.classes if name != negative]
    return Labels(_ordered(full, positive), positive, task, counts)


def _ordered(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """The table with the columns that all labels have, the classes, and what else describes a record."""
    more = [name for name in ("alike", *DESCRIBED) if name in table]
    return table.loc[:, [*COLUMNS, *classes, *more]]
