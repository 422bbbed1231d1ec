"""The report's section on a data set: what it is, how it is divided and normalized, how it looks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from beatline.drawings import Shown
from beatline.reporting.document import MANY, Document, counted, listed, measured, short, slug, text
from beatline.reporting.results import SPLITS, DatasetResults, noun

SECTIONS = 4  # machines of which examples are drawn, at most
TASKS = {
    "multilabel": "several classes may hold at once",
    "multiclass": "exactly one class holds",
    "binary": "one class, yes or no",
    "anomaly": "there are normal records alone to learn from; anomalies are in the test split only",
    "reconstruction": "learns normal records only; the score is the reconstruction error",
    "neighbours": "learns normal records only; the score is the distance to the nearest of them",
}


def add_data(document: Document, results: DatasetResults) -> None:
    about = results.description
    document.add(f"### {text(results.name)}: data")
    facts = (
        what(results) | recordings(results) | {"Task": f"{about['task']}: {TASKS[about['task']]}"}
    )
    add_facts(document, facts)
    add_counts(document, results)
    add_splits(document, results)
    add_normalization(document, results)
    _add_examples(document, results)


def what(results: DatasetResults) -> dict[str, str]:
    """What a data set is, and where it is from."""
    about = results.description
    return {
        "What": f"{text(about['title'])} ({results.reality} data, source `{about['source']}`)",
        "From": text(about["citation"]),
    }


def recordings(results: DatasetResults) -> dict[str, str]:
    """How long a recording is, and of what."""
    about = results.description
    rate = about["sampling_rate"]
    step, channel = results.drawing.axes
    return {
        "Recordings": f"{counted(about['length'], step)}{f' at {rate:g} Hz' if rate else ''}, "
        f"{counted(len(about['channels']), channel)} ({listed(about['channels'])}), "
        f"unit {text(about['unit'])}",
        "Made by extract\\_features": _representation(about["representation"]),
    }


def add_facts(document: Document, facts: Mapping[str, str]) -> None:
    """A list of them, less those of which nothing is known."""
    document.add_list(f"**{name}:** {value}" for name, value in facts.items() if value)


def add_counts(document: Document, results: DatasetResults) -> None:
    counts = results.description["counts"]
    document.add_table(
        ["found and skipped", "number"],
        [[text(name.replace("_", " ")), f"{number:,}"] for name, number in counts.items()],
    )


def _representation(made: Mapping[str, object] | None) -> str:
    """What extract_features made of the recordings, and with which parameters."""
    if not made:
        return ""
    rest = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in made.items()
        if name != "kind" and value is not None
    ]
    return text(f"{made['kind']}, with {', '.join(rest)}")


def add_splits(document: Document, results: DatasetResults) -> None:
    """Records of each class and split, and groups that are in more than one split."""
    tables = {split: results.splits[split].table for split in SPLITS}
    rows = [
        [text(name), *(f"{np.count_nonzero(table[name]):,}" for table in tables.values())]
        for name in results.classes
    ]
    rows += _rows_without_class(results, tables)
    rows.append(["records", *(f"{len(table):,}" for table in tables.values())])
    if column := results.section_column:
        names = sorted(set().union(*(table[column].astype(str) for table in tables.values())))
        rows += [
            [
                f"records of {noun(column)} {text(name)}",
                *(f"{(table[column].astype(str) == name).sum():,}" for table in tables.values()),
            ]
            for name in names
        ]
    groups = results.groups
    if groups:
        counts = [table["group"].nunique() for table in tables.values()]
        rows.append([f"{groups}s", *(f"{number:,}" for number in counts)])
    document.add_table(["class", *SPLITS], rows)
    shared = results.split_metrics["leak"]
    if groups:
        document.add(
            f"{groups.capitalize()}s with records in more than one split: **{shared:,}**."
            + (" Scores are flattered by as much as their records are alike." if shared else "")
        )


def _rows_without_class(
    results: DatasetResults, tables: Mapping[str, pd.DataFrame]
) -> list[list[str]]:
    """How many records have none of the classes, if any has not."""
    without = [table.loc[table[results.classes].sum(axis=1) == 0] for table in tables.values()]
    if not any(map(len, without)):
        return []
    normal = all((table["normal"] == 1).all() for table in without)
    return [["normal" if normal else "none of these", *(f"{len(table):,}" for table in without)]]


def add_normalization(document: Document, results: DatasetResults) -> None:
    """How recordings are normalized, and by which values."""
    about = results.description
    values, channels = about["normalization"], about["channels"]
    _, channel = results.drawing.axes
    per, invalid = (results.parameters["normalize"][key] for key in ("per", "invalid"))
    how = f"Each {channel} is" if per == "channel" else f"All {channel}s are"
    constant = [channels[number] for number in values["constant_channels"]]
    document.add(
        f"{how} normalized by the mean and standard deviation of the training records. Constant "
        f"{channel}s: {listed(constant) if constant else 'none'}. Invalid or missing samples, set to "
        f"the {invalid} of the training records: {about['counts'].get('invalid_samples', 0):,}."
    )
    means, deviations = np.array(values["mean"]), np.array(values["standard_deviation"])
    if per == "all":
        means, deviations, channels = means[:1], deviations[:1], [f"all {channel}s"]
    header = channel
    if len(channels) <= MANY:
        rows = [
            [text(name), measured(mean), measured(deviation)]
            for name, mean, deviation in zip(channels, means, deviations, strict=True)
        ]
    else:
        header = f"of {len(channels):,} {channel}s"
        rows = [
            [words, measured(function(means)), measured(function(deviations))]
            for words, function in (
                ("smallest", np.min),
                ("median", np.median),
                ("largest", np.max),
            )
        ]
    document.add_table([header, "mean", "standard deviation"], rows)


# ---------------------------------------------------------------- examples


def _add_examples(document: Document, results: DatasetResults) -> None:
    """Recordings of each kind: one by one, or on one sheet if they are drawn small."""
    split, chosen = _chosen(results)
    drawing = results.drawing
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
            drawing.sheet(shown, results.description),
            f"{text(results.name)}: {results.reality} {_split_word(split)} records of each kind",
            f"{results.reality.capitalize()} recordings, of the {_split_word(split)} split: "
            f"{', '.join(text(short(results.record(split, row))) for row in rows)}. "
            f"{drawing.how_to_read}",
            drawing.colours,
        )
        return
    for number, ((name, row), one) in enumerate(zip(chosen.items(), shown, strict=True), 1):
        record = results.record(split, row)
        labels = results.splits[split].table[results.classes].iloc[row].sum()
        alone = " with this label alone" if labels == 1 else ""
        document.add_figure(
            f"{results.name}/example_{number}_{slug(name)}",
            drawing.sheet([one], results.description),
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
    Otherwise of the train split a record of each class, the first that has no other class, if there is
    one.
    """
    if results.description["task"] == "anomaly":
        return "test", _normal_and_anomaly(results)
    return "train", _one_of_each_class(results)


def _normal_and_anomaly(results: DatasetResults) -> dict[str, int]:
    """Of each section the first normal record, and the first anomaly of a kind not yet chosen."""
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
    chosen = {}
    for name in results.classes:
        having = table[name] == 1
        rows = np.flatnonzero(having & (totals == 1))
        if not len(rows):
            rows = np.flatnonzero(having)
        chosen |= {name: int(rows[0])} if len(rows) else {}
    if (plain := np.flatnonzero((totals == 0) & (table["normal"] == 1))).size:
        chosen = {"normal": int(plain[0]), **chosen}
    return chosen
