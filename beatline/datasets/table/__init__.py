"""Tables of features: any CSV or Parquet file with columns of numbers and a column of labels.

A row is a recording of one time step, `[1, F]`: its features are the channels. By default the table
is derived: the extract_features stage measured it on another data set's recordings. Where that table
has no labels, as one of a feature store has none, those of the recordings are joined to it by time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet
from pydantic import Field

from beatline import datasets
from beatline.common.errors import UserError, names_there_are, warn
from beatline.common.files import read_json
from beatline.common.params import Parameters
from beatline.common.sums import verified
from beatline.datasets import (
    Labels,
    Manifest,
    by_number,
    class_name,
    count_unknown_groups,
    exclusive,
    joined,
    label_of,
)
from beatline.datasets.table.point_in_time import features_at
from beatline.formats import tables
from beatline.formats.tables import EXTENSIONS, Table
from beatline.sources import incoming
from beatline.sources.archives import open_source
from beatline.sources.incoming import Case
from beatline.sources.pack import Pack, PackWriter

FEATURES, DESCRIPTION = "features.parquet", "dataset.json"  # what extract_features writes
EVENTS = Path("recordings/records.csv")  # there too, where networks learn something else: labels
CHOICE = "columns.json"  # the member of a pack that says what the columns are
ROWS = "rows.csv"  # of a snapshot
UNITS = "of each feature its own"
ANOMALY = "anomaly"
ONE_CLASS = "name another download.label, more aggregate_labels.values, or lower min_records there"
LEAST_SUSPECT = 20  # so many different labels, one for every other row, may be measurements
BATCH = 8192


class Join(Parameters):
    """A point-in-time join: each labelled recording gets the latest features of its `entity` (a column
    with machines) at or before its `timestamp`, if they are at most `days` old (null: of any age)."""

    entity: str
    timestamp: str
    days: float | None = Field(gt=0, le=100_000)


class Download(datasets.Download):
    """`source`: the folder that extract_features makes of a data set, or a .csv, .tsv or .parquet file
    of one's own, or a folder or archive that holds one. `label`, `record`, `group`, `fold`:
    columns with the label, the row's name (null: its number), what may never be in two splits (null:
    each row is its own) and the publishers' split: train, validation, test (null: none).
    `features`: columns of numbers; an empty list takes those that the derived table names, or all
    columns but `label`, `record`, `group`, `fold`, `section` and those to `ignore`. `section`: the
    column that tells apart what no metric may pool, such as machines. `join`: where the derived table has
    no labels, how those of its recordings come to it.
    """

    label: str
    features: list[str]
    ignore: list[str]
    record: str | None
    group: str | None
    fold: str | None
    section: str | None = None
    join: Join | None = None


class AggregateLabels(Parameters):
    """`target`: labels, or anomaly: whatever is not `normal`, which nothing learns from.
    `values`: labels to learn, in their order (empty: all, sorted); rows with others are left out.
    `normal`: the one that is normal, null if none is; two labels make a binary task, whose class is
    the one that is not normal (null: the second). `duplicates`: rows of equal features in different
    groups are an error, or put into one group (`together`). No split parts those that are left.
    """

    target: Literal["labels", "anomaly"] = "labels"
    values: list[str | int | bool]
    normal: str | int | bool | None
    duplicates: Literal["error", "together"]
    min_records: int = Field(ge=1)


@dataclass(frozen=True)
class Columns:
    """The columns of a packed table, by use. `table`: the pack's member; `where`: the file that it
    was, for errors."""

    table: str
    where: str
    label: str
    features: list[str]
    record: str | None
    group: str | None
    fold: str | None
    section: str | None = None
    snapshot: str | None = None

    @property
    def texts(self) -> list[str]:
        """The columns that are read as texts."""
        named = [self.label, self.record, self.group, self.fold, self.section, self.snapshot]
        return [name for name in named if name is not None]


def download(parameters: Download, pack: PackWriter, workspace: Path) -> Manifest:
    """Add the table, in the format in which it comes, and what its columns are to the pack.

    Raises UserError if it is no table, or lacks a column, or a feature holds anything but numbers.
    """
    path = parameters.path(workspace)
    if parameters.join:
        content, where = _joined_by_time(path, parameters, parameters.join)
        # It describes what networks learn of the recordings, not the table.
        info = read_json(verified(path / DESCRIPTION))
        info |= {"title": f"features of {info['title']}", "unit": UNITS, "channels": []}
    elif is_derived(path):
        content, where = verified(path / FEATURES).read_bytes(), str(path / FEATURES)
        info = read_json(verified(path / DESCRIPTION))
    else:
        content, where = _own(path)
        name = Path(where.split(": ")[-1]).name  # a member of an archive, or a file
        info: dict[str, Any] = {"title": f"table {name}", "unit": "as given"}
        info |= {"source": parameters.source, "simulated": False, "citation": ""}
    columns = _columns(parameters, tables.names(content, where), info.get("channels", []), where)
    table = tables.read(content, where, columns.features, columns.texts)
    pack.add(columns.table, content)
    pack.add(CHOICE, json.dumps(asdict(columns), indent=2).encode())
    for snapshot in incoming.added(parameters.incoming, pack):
        content = snapshot.source.read(ROWS)
        tables.read(content, f"{snapshot.source.path}: {ROWS}", columns.features, columns.texts)
        pack.add(incoming.packed(snapshot.date, ROWS), content)
    return Manifest(
        title=info["title"],
        source=info["source"],
        simulated=info["simulated"],
        channels=columns.features,
        sampling_rate=None,
        unit=info["unit"],
        drawing="features",
        citation=info["citation"],
        counts={
            "rows": len(table.numbers),
            "features": len(columns.features),
            "missing_values": int(np.count_nonzero(np.isnan(table.numbers))),
        },
    )


def read_labels(pack: Pack, parameters: AggregateLabels) -> Labels:
    """A 0/1 column per label, or the one class of two labels or of a target `anomaly`.

    Rows without a label, with another than `values`, or without any feature are left out and counted.
    Raises UserError if one label is left, names are missing or not unique, or equal rows are in
    different groups.
    """
    columns, table = _packed(pack)
    label = table.texts[columns.label]
    values, normal = _chosen(label, parameters, columns.label)
    if parameters.target == ANOMALY and normal is None:
        raise UserError(
            "aggregate_labels.target is anomaly, but normal is null: set it to what normal rows have"
        )
    empty = np.isnan(table.numbers).all(axis=1)
    counts = {
        "rows_without_label": int((label == "").sum()),
        "rows_of_other_labels": int((~label.isin([*values, ""])).sum()),
        "rows_without_features": int((empty & label.isin(values)).sum()),
    }
    rows = np.flatnonzero(label.isin(values) & ~empty)
    if columns.group is not None:
        counts |= count_unknown_groups(table.texts[columns.group].iloc[rows].to_list(), "group")
    frame = pd.DataFrame({"record": _records(columns, table), "label": label}).iloc[rows]
    first = _first_alike(table.numbers[rows])
    alike = pd.Series(frame["record"].to_numpy()[first], frame["record"])
    frame["group"] = _groups(columns, table, frame["record"])
    frame["group"] = _together(frame["group"], first, table, parameters.duplicates)
    frame["normal"] = (frame["label"] == normal).astype(int) if normal is not None else 0
    if parameters.target == ANOMALY:  # of whatever kind
        frame["label"] = np.where(frame["normal"] == 1, "normal", ANOMALY)
        values = ["normal", ANOMALY]
    frame["fold"] = "" if columns.fold is None else table.texts[columns.fold].iloc[rows]

    class_of = {value: class_name(value) for value in values}
    classes = {name: value for value, name in class_of.items()}
    labels = exclusive(frame, classes, parameters.min_records, ONE_CLASS)
    counts |= labels.counts
    alike = alike.loc[labels.table["record"]]
    if alike.duplicated().any():
        labels = replace(labels, table=labels.table.assign(alike=alike.to_numpy()))
    if columns.section is not None:
        labels = _with_sections(labels, columns, table)
    if columns.snapshot is not None:
        later = dict(zip(_records(columns, table), table.texts[columns.snapshot], strict=True))
        dates = [later[record] for record in labels.table["record"]]
        labels = replace(labels, table=labels.table.assign(**{columns.snapshot: dates}))
    if parameters.target == ANOMALY:
        table = labels.table.drop(columns=labels.classes)
        table[ANOMALY] = 1 - table["normal"]
        return replace(labels, table=table, classes=[ANOMALY], task="anomaly", counts=counts)
    if len(labels.classes) > 2:
        return replace(labels, counts=counts)
    negative = class_of.get(normal or "")
    negative = negative if negative in labels.classes else labels.classes[0]
    table = labels.table.drop(columns=negative)
    classes = [name for name in labels.classes if name != negative]
    return replace(labels, table=table, classes=classes, task="binary", counts=counts)


def read_recordings(pack: Pack, records: Sequence[str]) -> Iterator[np.ndarray]:
    """The rows as batches `[B, 1, F]`, NaN where a value is missing; in float64, because a column may
    have a large offset, such as a time."""
    columns, table = _packed(pack)
    rows = pd.Index(_records(columns, table)).get_indexer(pd.Index(records))
    if (rows < 0).any():
        raise UserError(
            f"{columns.where} has no row {records[int(rows.argmin())]}: run `dvc repro`"
        )
    for first in range(0, len(rows), BATCH):
        yield table.numbers[rows[first : first + BATCH], None, :]


def write(folder: Path, date: str, cases: Sequence[Case], blocks: Mapping[str, Any]) -> list[str]:
    """Write rows to a table in `folder`; the names of their records. Raises UserError if the data set's
    own table is made from recordings: these are what is learned from then."""
    download = Download.model_validate(blocks["download"])
    if Path(download.source).parts[:1] == ("data",):
        raise UserError(
            f"download.source: the rows are measured from recordings ({download.source}): give feedback "
            f"on answers about those, and retrain a model of them"
        )
    if download.record is None:
        raise UserError(
            "download.record: rows that are called by their number in the table cannot be joined by "
            "others: name a column with names"
        )
    del date
    parameters = AggregateLabels.model_validate(blocks["aggregate_labels"])
    rows = []
    for case in cases:
        (values,) = case.samples
        named = {download.record: case.answer, download.label: _later_label(case, parameters)}
        named |= {download.group: case.group} if download.group else {}
        named |= {download.fold: case.fold} if download.fold else {}
        rows.append({**named, **dict(zip(blocks["channels"], map(float, values), strict=True))})
    pd.DataFrame(rows).to_csv(folder / ROWS, index=False, lineterminator="\n")
    return [case.answer for case in cases]


def _later_label(case: Case, parameters: AggregateLabels) -> str:
    """What the table calls a row whose class, or whether it is `normal`, experts have told."""
    normal = None if parameters.normal is None else tables.text(parameters.normal)
    if parameters.target == ANOMALY and ANOMALY in case.labels:
        others = (value for value in map(tables.text, parameters.values) if value != normal)
        return next(others, ANOMALY)
    if case.labels and parameters.target != ANOMALY:
        return label_of(next(iter(case.labels)))
    if normal is None:
        raise UserError(
            "aggregate_labels.normal: what rows are called that are not of the one class is not "
            "said: name it"
        )
    return normal


# ---------------------------------------------------------------- download


def is_derived(path: Path) -> bool:
    """Whether `path` is a folder that extract_features made."""
    return (path / FEATURES).is_file() and (path / DESCRIPTION).is_file()


def _own(path: Path) -> tuple[bytes, str]:
    """A table of one's own, and how errors call it."""
    if path.is_file() and path.suffix.lower() in EXTENSIONS:
        return path.read_bytes(), str(path)
    with open_source(path) as source:
        members = [name for name in source.names() if name.lower().endswith(EXTENSIONS)]
        if len(members) != 1:
            raise UserError(
                f"{path} holds {len(members)} tables ({', '.join(EXTENSIONS)}) instead of one: set "
                f"`source:` in params.yaml to the file, which an archive must be extracted for"
            )
        return source.read(members[0]), f"{path}: {members[0]}"


def _joined_by_time(path: Path, parameters: Download, join: Join) -> tuple[bytes, str]:
    """The labelled recordings of a derived table, each with the latest features of its entity, as CSV
    with exact numbers; and how errors call it."""
    if not (is_derived(path) and (path / EVENTS).is_file()):
        raise UserError(
            f"download.join: {path} holds no {FEATURES} with {EVENTS} beside it, so there is nothing "
            f"to join: name the folder that extract_features made of machine sound, or remove join"
        )
    where = f"{path / FEATURES} joined with {path / EVENTS}"
    events = pd.read_csv(verified(path / EVENTS), dtype=str, keep_default_na=False)
    # By one thread: the table is small, and threads that end with the process have been seen to abort it.
    parquet = pyarrow.parquet.ParquetFile(verified(path / FEATURES))
    table = parquet.read(use_threads=False).to_pandas(use_threads=False)
    for frame, file in ((events, EVENTS), (table, FEATURES)):
        for key in ("entity", "timestamp"):
            _require(getattr(join, key), f"download.join.{key}", list(frame), str(path / file))
    keys = {"entity": join.entity, "timestamp": join.timestamp}
    # What the events say too, such as names, is not measured.
    measured = [name for name in table if name not in events]
    ttl = timedelta(days=join.days) if join.days else None
    features = features_at(events, table.loc[:, [*keys.values(), *measured]], ttl, **keys)
    said = [parameters.label, parameters.record, parameters.group, parameters.fold]
    said += [parameters.section, incoming.COLUMN, *parameters.ignore]
    said = [name for name in events if name in said]
    content = pd.concat([events[said], features], axis=1).to_csv(index=False, lineterminator="\n")
    return content.encode(), where


def _columns(parameters: Download, names: list[str], channels: list[str], where: str) -> Columns:
    """Which column is what. Raises UserError if one is missing or is named twice."""
    keys = ("record", "group", "fold", "section")
    identifiers = [getattr(parameters, key) for key in keys]
    # A table that was measured says which of its recordings came later.
    measured = Path(parameters.source).parts[:1] == ("data",)
    identifiers += [incoming.COLUMN if measured and incoming.COLUMN in names else None]
    for key in ("label", *keys):
        if (name := getattr(parameters, key)) is not None:
            _require(name, key, names, where)
    for key in ("features", "ignore"):
        for name in getattr(parameters, key):
            _require(name, key, names, where)
    out = {parameters.label, *identifiers, *parameters.ignore}
    features = parameters.features or [name for name in channels or names if name not in out]
    for name in features:
        _require(name, "channels in its dataset.json", names, where)
        if name in out or features.count(name) > 1:
            raise UserError(
                f"download.features: {name} is named twice, or is also the "
                f"label, an identifier or to be ignored: name it once"
            )
    if not features:
        raise UserError(f"{where} has no feature left: shorten `ignore`, or name `features`")
    suffix = "parquet" if Path(where).suffix.lower() == ".parquet" else "csv"
    return Columns(f"table.{suffix}", where, parameters.label, features, *identifiers)


def _require(name: str, key: str, names: list[str], where: str) -> None:
    if name not in names:
        there = names_there_are(name, names)
        raise UserError(f"{where} has no column {name}, which {key} names{there}")


# ---------------------------------------------------------------- labels


@lru_cache(maxsize=1)  # normalize reads the same table once per split
def _packed(pack: Pack) -> tuple[Columns, Table]:
    columns = Columns(**json.loads(pack.text(CHOICE)))
    contents = {columns.where: pack.read(columns.table)}
    contents |= {name: pack.read(name) for name in pack.names() if name.endswith(f"/{ROWS}")}
    read = [
        tables.read(content, where, columns.features, columns.texts)
        for where, content in contents.items()
    ]
    if len(read) == 1:
        return columns, read[0]
    starts = np.cumsum([0, *(len(table.numbers) for table in read)])

    def place(row: int) -> str:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{read[number].place(row - int(starts[number]))} of {list(contents)[number]}"

    texts = {
        name: pd.concat([table.texts[name] for table in read], ignore_index=True)
        for name in columns.texts
    }
    return columns, Table(np.concatenate([table.numbers for table in read]), texts, place)


def _chosen(
    label: pd.Series, parameters: AggregateLabels, column: str
) -> tuple[list[str], str | None]:
    """The labels to learn, and which of them is normal."""
    present = set(label.unique()) - {""}
    if not present:
        raise UserError(f"column {column} holds no label: name another download.label")
    labelled = int((label != "").sum())
    if not parameters.values and len(present) > max(LEAST_SUSPECT, labelled / 2):
        raise UserError(
            f"column {column} holds {len(present)} different labels in {labelled} rows: name the "
            f"column that holds the label as download.label, or the labels to learn as "
            f"aggregate_labels.values"
        )
    values = [tables.text(value) for value in parameters.values] or sorted(present, key=by_number)
    normal = None if parameters.normal is None else tables.text(parameters.normal)
    for key, value in [*(("values", value) for value in values), ("normal", normal)]:
        if value is not None and (value not in present or value not in values):
            others = sorted(present if key == "values" else values, key=by_number)
            raise UserError(
                f"aggregate_labels.{key}: {value!r} is not among the labels in column {column} "
                f"({', '.join(others[:20])})"
            )
    return list(dict.fromkeys(values)), normal


def _records(columns: Columns, table: Table) -> list[str]:
    """The rows' names, which are unique."""
    if columns.record is None:
        width = len(str(len(table.numbers)))
        return [f"row_{number:0{width}d}" for number in range(1, len(table.numbers) + 1)]
    records = table.texts[columns.record]
    wrong = np.flatnonzero(records.duplicated() | (records == ""))
    if len(wrong):
        row = int(wrong[0])
        fault = f"{records.iloc[row]} again" if str(records.iloc[row]) else "no name"
        raise UserError(
            f"{columns.where}, {table.place(row)}: column {columns.record} holds {fault}: give every "
            f"row a name of its own, or set download.record to null"
        )
    return records.to_list()


def _with_sections(labels: Labels, columns: Columns, table: Table) -> Labels:
    """`labels` with the column that tells sections apart."""
    records, name = labels.table["record"], columns.section or ""
    if name in {*labels.table, "alike", ANOMALY}:
        raise UserError(
            f"download.section: no section can be called {name}, as a column of the table of labels is: "
            f"rename the column in the source"
        )
    section_of = dict(zip(_records(columns, table), table.texts[name], strict=True))
    sections = [section_of[record] for record in records]
    if "" in sections:
        record = records.iloc[sections.index("")]
        raise UserError(
            f"{columns.where}: column {name} is empty for {record}: say of which section each labelled "
            f"row is, or set download.section to null"
        )
    return replace(labels, table=labels.table.assign(**{name: sections}), sections=name)


def _groups(columns: Columns, table: Table, records: pd.Series) -> pd.Series:
    """The group of each of the rows `records`; a row without one is its own."""
    if columns.group is None:
        return records
    groups = table.texts[columns.group].loc[records.index]
    return groups.where(groups != "", "record " + records)


def _together(
    groups: pd.Series,
    first: np.ndarray,
    table: Table,
    duplicates: Literal["error", "together"],
) -> pd.Series:
    """`groups` so changed that each row is in one with the `first` row that is equal; UserError if that
    is not wanted."""
    rows = groups.index.to_numpy()
    apart = np.flatnonzero(groups.to_numpy() != groups.to_numpy()[first])
    if not len(apart):
        return groups
    if duplicates == "error":
        first_row, second_row = (table.place(int(rows[row])) for row in (first[apart[0]], apart[0]))
        raise UserError(
            f"the table holds {len(apart)} duplicates: {first_row} and {second_row}, for example, "
            f"have equal features, so that training and test could share them: remove one of each, name "
            f"a column that keeps them together as download.group, or set aggregate_labels.duplicates to "
            f"together"
        )
    warn(f"{len(apart)} rows have the features of another one: they are kept in one split")
    return joined(groups, groups.iloc[first])


def _first_alike(numbers: np.ndarray) -> np.ndarray:
    """For each row `[N]`, the first row with equal values (missing ones are equal)."""
    alike = np.where(np.isnan(numbers), np.inf, numbers + 0.0)  # -0.0 is 0.0, and no value is inf
    rows = pd.DataFrame(alike)
    hashes = pd.util.hash_pandas_object(rows, index=False).to_numpy()  # pyright: ignore
    codes, distinct = pd.factorize(hashes)
    first = np.full(len(distinct), len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    candidates = first[codes]
    # Two different rows may have the same hash: they are then no duplicates.
    other = np.flatnonzero(candidates != np.arange(len(codes)))
    unequal = (alike[other] != alike[candidates[other]]).any(axis=1)
    candidates[other[unequal]] = other[unequal]
    return candidates
