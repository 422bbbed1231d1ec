"""The report's section on a data set: what it is, how it is divided and normalized, how it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from beatline.drawings import Shown
from beatline.reporting.document import MANY, Document, fill, measured, noun, short, slug, text
from beatline.reporting.results import SPLITS, DatasetResults

SECTIONS = 4  # machines of which examples are drawn, at most
CLASSES = 12  # of which examples are drawn, at most


def add_data(document: Document, results: DatasetResults) -> None:
    facts = DataFacts(results)
    document.add(fill("data", data=facts))
    with document.folded("Records, splits, normalization and examples"):
        document.add(fill("data_details", data=facts))
        _add_examples(document, results)


@dataclass(frozen=True)
class DataFacts:
    """The facts that fill `templates/data_parts.md.j2`, for the report and the data card. `made`: the
    output of extract_features, and its parameters."""

    results: DatasetResults

    @property
    def step(self) -> str:
        return self.results.drawing.axes[0]

    @property
    def channel(self) -> str:
        return self.results.drawing.axes[1]

    @property
    def made(self) -> str:
        made = self.results.dataset_info["representation"]
        if not made:
            return ""
        rest = [
            f"{name.replace('_', ' ')} {value}"
            for name, value in made.items()
            if name != "kind" and value is not None
        ]
        return f"{made['kind']}, with {', '.join(rest)}"

    @property
    def split_rows(self) -> list[list[str]]:
        """Records of each class, of none and of each machine, and groups, in each split."""
        results = self.results
        tables = [results.splits[split].table for split in SPLITS]
        rows: dict[str, list[Any]] = {
            text(name): [np.count_nonzero(t[name]) for t in tables] for name in results.classes
        }
        rows |= _rows_without_class(results, tables) | {"records": list(map(len, tables))}
        if column := results.section_column:
            sections = [table[column].astype(str) for table in tables]
            rows |= {
                f"records of {noun(column)} {text(name)}": [(s == name).sum() for s in sections]
                for name in sorted(set().union(*sections))
            }
        if results.groups:
            rows[f"{results.groups}s"] = [table["group"].nunique() for table in tables]
        return [[name, *(f"{number:,}" for number in counts)] for name, counts in rows.items()]

    @property
    def constant(self) -> list[str]:
        """The channels that never change."""
        info = self.results.dataset_info
        return [info["channels"][n] for n in info["normalization"]["constant_channels"]]

    @property
    def normalized_what(self) -> str:
        channels = self.results.dataset_info["channels"]
        many = len(channels) > MANY and self.results.parameters["normalize"]["per"] != "all"
        return f"of {len(channels):,} {self.channel}s" if many else self.channel

    @property
    def normalized_rows(self) -> list[list[str]]:
        """Mean and deviation of each channel; of many channels the smallest, median and largest."""
        info = self.results.dataset_info
        names, values = map(text, info["channels"]), info["normalization"]
        pairs = np.array([values["mean"], values["standard_deviation"]])
        if self.results.parameters["normalize"]["per"] == "all":
            names, pairs = [f"all {self.channel}s"], pairs[:, :1]
        elif pairs.shape[1] > MANY:
            names = ["smallest", "median", "largest"]
            pairs = np.quantile(pairs, (0, 0.5, 1), axis=1).T
        return [[name, *map(measured, pair)] for name, pair in zip(names, pairs.T, strict=True)]


def _rows_without_class(
    results: DatasetResults, tables: list[pd.DataFrame]
) -> dict[str, list[Any]]:
    """Count the records without any of the classes in each split; empty if there is none."""
    without = [table.loc[table[results.classes].sum(axis=1) == 0] for table in tables]
    if not any(map(len, without)):
        return {}
    normal = all((table["normal"] == 1).all() for table in without)
    return {"normal" if normal else "none of these": list(map(len, without))}


# ---------------------------------------------------------------- examples


def _add_examples(document: Document, results: DatasetResults) -> None:
    """Recordings of each kind: one by one, or on one sheet if they are drawn small."""
    split, chosen = _chosen(results)
    drawing = results.drawing
    if results.dataset_info["task"] != "anomaly" and len(results.classes) > CLASSES:
        most = f"Examples are of the {CLASSES} classes with most training records"
        document.add(f"{most}, of {len(results.classes)}.")
    rows = list(chosen.values())
    shown = [
        Shown(_title(results, split, name, row, drawing.per_sheet == 1), recording)
        for (name, row), recording in zip(
            chosen.items(), results.recordings(split, rows), strict=True
        )
    ]
    if drawing.per_sheet > 1:
        document.add_figure(
            f"{results.name}/examples",
            drawing.sheet(shown, results.dataset_info),
            f"{text(results.name)}: {results.reality} {_split_word(split)} records of each kind",
            f"{results.reality.capitalize()} recordings, of the {_split_word(split)} split: "
            f"{', '.join(text(short(results.record(split, row))) for row in rows)}. "
            f"{drawing.how_to_read}",
            drawing.colours,
        )
        return
    for number, ((name, row), example) in enumerate(zip(chosen.items(), shown, strict=True), 1):
        record = results.record(split, row)
        labels = results.splits[split].table[results.classes].iloc[row].sum()
        alone = " with this label alone" if labels == 1 else ""
        document.add_figure(
            f"{results.name}/example_{number}_{slug(name)}",
            drawing.sheet([example], results.dataset_info),
            f"{text(results.name)}: {results.reality} {_split_word(split)} record "
            f"{text(short(record))}, {text(name)}",
            f"A {results.reality} recording labelled {text(name)} ({text(record)}), the first of the "
            f"{_split_word(split)} split{alone}. {drawing.how_to_read}",
            drawing.colours,
        )


def _split_word(split: str) -> str:
    return "training" if split == "train" else split


def _title(results: DatasetResults, split: str, name: str, row: int, with_record: bool) -> str:
    simulated = "simulated" if results.reality == "simulated" else ""
    record = short(results.record(split, row)) if with_record else ""
    return "   ".join(part for part in (name, record, simulated) if part)


def _chosen(results: DatasetResults) -> tuple[str, dict[str, int]]:
    """The split that examples are of, and its row by what the example shows.

    Where no anomaly is for training: of the test split, a normal one and an anomaly of each section.
    Otherwise of the train split a record of each class, of many classes the most frequent, the first that
    has no other class, if there is one.
    """
    if results.dataset_info["task"] == "anomaly":
        return "test", _normal_and_anomaly(results)
    return "train", _one_of_each_class(results)


def _normal_and_anomaly(results: DatasetResults) -> dict[str, int]:
    """Choose the first normal record of each section, and its first anomaly of a kind not yet chosen."""
    table = results.splits["test"].table
    column = results.section_column
    sections = table[column].astype(str).to_numpy() if column else np.full(len(table), "")
    chosen: dict[str, int] = {}
    shown: set[str] = set()
    for section in np.unique(sections)[:SECTIONS]:
        for normal in (1, 0):
            rows = np.flatnonzero((sections == section) & (table["normal"] == normal)).tolist()
            labels = {row: results.label("test", row) for row in rows}
            for row in sorted(rows, key=lambda row: labels[row] in shown)[:1]:
                chosen[f"{section}: {labels[row]}" if section else labels[row]] = row
                shown |= {labels[row]} if not normal else set()
    return chosen


def _one_of_each_class(results: DatasetResults) -> dict[str, int]:
    table = results.splits["train"].table
    totals = table[results.classes].sum(axis=1)
    frequent = table[results.classes].sum().nlargest(CLASSES).index
    chosen = {}
    for name in results.classes:
        if name not in frequent:
            continue
        having = table[name] == 1
        rows = np.flatnonzero(having & (totals == 1))
        if not len(rows):
            rows = np.flatnonzero(having)
        chosen |= {name: int(rows[0])} if len(rows) else {}
    if (plain := np.flatnonzero((totals == 0) & (table["normal"] == 1))).size:
        chosen = {"normal": int(plain[0]), **chosen}
    return chosen
