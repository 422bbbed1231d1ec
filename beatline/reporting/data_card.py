"""The data card of a data set: what a reader must know before believing a number measured on it.

Its questions are those of Gebru et al. 2021, Datasheets for Datasets, Communications of the ACM 64(12),
and of Pushkarna et al. 2022, Data Cards, FAccT, as far as the pipeline and its authors know answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beatline.common.files import sha256
from beatline.datasets.cards import Words, words_of
from beatline.evaluation import estimates
from beatline.reporting.data import (
    TASKS,
    add_counts,
    add_facts,
    add_normalization,
    add_splits,
    recordings,
    what,
)
from beatline.reporting.document import CARDS, DASH, Document, anchor, counted, spoken, text
from beatline.reporting.results import SPLITS, DatasetResults, noun

REPORT = "../report.md"
FEW = 50  # test records of a class: with fewer, one record moves recall by two percent or more
UNKNOWN = "The table of records tells no sex and no age, so nothing is counted or measured by them."


def data_card(results: DatasetResults, content: Mapping[str, Any], root: Path) -> str:
    """Markdown, to be read in the folder :data:`CARDS` beside the report."""
    about = results.description
    words = words_of(results.name, content["datasets"], about)
    card = Document()
    card.add(title("Data", results), opening(results))
    card.add("## What it is")
    facts = {**what(results), "How it came about": words.collected, "Licence": words.licence}
    add_facts(card, facts | recordings(results))
    card.add(f"Examples are drawn in the [report]({REPORT}#{anchor(f'{results.name}: data')}).")
    _add_labels(card, results, words)
    card.add("## Splits", _how_divided(results))
    add_splits(card, results)
    card.add("## Who or what was recorded")
    _add_people(card, results)
    card.add("## Normalization")
    add_normalization(card, results)
    card.add("## Limits")
    card.add_list([*words.limits, *limits_of_counts(results)])
    add_uses(card, words)
    _add_identity(card, results, root)
    return card.markdown


def data_card_path(name: str) -> str:
    """Of the card of the data set `name`, relative to report.md."""
    return f"{CARDS}/{name}_data.md"


def title(kind: str, results: DatasetResults) -> str:
    return f"# {kind} card: {text(results.name)} ({results.reality} data)"


def opening(results: DatasetResults) -> str:
    """Whether it is real, before anything else."""
    if results.description["simulated"]:
        return (
            "**Everything here is simulated.** A score on these recordings shows that the pipeline works "
            "and how models compare on them; it says nothing about real patients or machines."
        )
    return "The recordings are real, as far as their source says."


def add_uses(card: Document, words: Words) -> None:
    card.add("## What it is for", words.use)
    card.add("What it must not be used for:")
    card.add_list(words.misuse)


def limits_of_counts(results: DatasetResults) -> list[str]:
    """What the numbers of records themselves forbid to conclude."""
    table = results.splits["test"].table
    counts = {name: int(np.count_nonzero(table[name])) for name in results.classes}
    limits = []
    if few := {name: count for name, count in counts.items() if count < FEW}:
        named = spoken([f"{text(name)} {count:,}" for name, count in few.items()])
        limits.append(
            f"Some classes have few of the {len(table):,} test records ({named}): their intervals are "
            f"wide, and a difference must be large to be seen."
        )
    total = {
        name: sum(int(np.count_nonzero(results.splits[split].table[name])) for split in SPLITS)
        for name in results.classes
    }
    least, most = min(total, key=total.__getitem__), max(total, key=total.__getitem__)
    if total[most] > 2 * total[least]:
        limits.append(
            f"Classes are not equally frequent: there are {total[most]:,} records of {text(most)}, and "
            f"{total[least]:,} of {text(least)}."
        )
    limits.append(
        "Test records come from the same source as those that models learn from. How good a model is on "
        "recordings from elsewhere is not measured."
    )
    return limits


# ---------------------------------------------------------------- sections


def _add_labels(card: Document, results: DatasetResults, words: Words) -> None:
    about = results.description
    card.add("## Labels", words.labelled)
    add_facts(
        card,
        {
            "Task": f"{about['task']}: {TASKS[about['task']]}",
            "Classes": text(", ".join(results.classes)),
            "Measured apart": f"each {noun(about['sections'])}" if about["sections"] else "",
        },
    )
    card.add("Aggregated with these parameters:")
    card.add_yaml({"aggregate_labels": results.parameters["aggregate_labels"]})
    add_counts(card, results)


def _how_divided(results: DatasetResults) -> str:
    """In words, of the parameters of the split."""
    split = results.parameters["split"]
    how = (
        "The publishers' splits are kept; where they have no validation split, it is drawn from train"
        if split["method"] == "official"
        else "Splits are drawn by iterative stratification (Sechidis et al. 2011)"
    )
    kept = (
        f"and all records of one {results.groups} are in the same one"
        if results.groups and split["by"] != "record"
        else "and each record is drawn by itself"
    )
    return f"{how}, {kept} (seed {split['seed']})."


def _add_people(card: Document, results: DatasetResults) -> None:
    """How many records of each sex and age group are in each split, where the table tells."""
    tables = [results.splits[split].table for split in SPLITS]
    if column := results.section_column:
        card.add(f"Each record is of one {noun(column)}; the table above counts them.")
    elif rows := [*_rows_of_sex(tables), *_rows_of_age(tables)]:
        card.add_table(["records of", "group", *SPLITS], rows, words=2)
    else:
        card.add(UNKNOWN)


def _rows_of_sex(tables: list[pd.DataFrame]) -> list[list[str]]:
    if not all("sex" in table for table in tables):
        return []
    sexes = [_numbers(table, "sex") for table in tables]
    return _rows(
        "sex",
        {name: [sex == code for sex in sexes] for name, code in estimates.SEX.items()},
    )


def _rows_of_age(tables: list[pd.DataFrame]) -> list[list[str]]:
    if not all("age" in table for table in tables):
        return []
    ages = [_numbers(table, "age") for table in tables]
    groups = {
        name: [(first <= age) & (age < last) for age in ages]
        for name, (first, last) in estimates.AGES.items()
    }
    known = [age[np.isfinite(age)] for age in ages]
    medians = [f"{np.median(age):g}" if len(age) else DASH for age in known]
    return [*_rows("age", groups), ["age", "median, in years", *medians]]


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    """NaN where none is given."""
    return table[[column]].apply(pd.to_numeric, errors="coerce").to_numpy(float)[:, 0]


def _rows(by: str, groups: Mapping[str, list[np.ndarray]]) -> list[list[str]]:
    """Counts and shares in each split of the records of each group, and of those in none."""
    in_none = [~np.any(of_split, axis=0) for of_split in zip(*groups.values(), strict=True)]
    named = {**groups, "not known": in_none} if any(map(np.any, in_none)) else groups
    return [
        [by, name, *(f"{inside.sum():,} ({100 * inside.mean():.0f} %)" for inside in of_splits)]
        for name, of_splits in named.items()
    ]


def _add_identity(card: Document, results: DatasetResults, root: Path) -> None:
    card.add(
        "## Identity",
        "SHA-256 sums of what models learn from and are tested on; `sha256sum` of these files gives the "
        "same:",
    )
    folder = Path(f"data/normalized/{results.name}")
    rows = []
    for split in SPLITS:
        for name in ("records.csv", "signals.npy"):
            path = folder / split / name
            rows.append([f"`{path.as_posix()}`", f"`{sha256(root / path)}`"])
    card.add_table(["file", "SHA-256"], rows, words=2)
    counts = counted(len(results.description["channels"]), results.drawing.axes[1])
    card.add(
        f"Each row of `records.csv` is a record with its labels, and the same row of `signals.npy` its "
        f"recording, normalized, with {counts}. All parameters of the data set:"
    )
    card.add_yaml({results.name: results.parameters})
