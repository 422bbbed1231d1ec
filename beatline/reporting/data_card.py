"""The data card of a data set: what a reader must know before believing a number measured on it.

Its questions are those of Gebru et al. 2021, Datasheets for Datasets, Communications of the ACM 64(12),
and of Pushkarna et al. 2022, Data Cards, FAccT, as far as the pipeline and its authors can answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beatline.common import sums
from beatline.datasets.cards import words_of
from beatline.evaluation import estimates
from beatline.reporting.data import DataFacts
from beatline.reporting.document import CARDS, DASH, fill, text
from beatline.reporting.results import SPLITS, DatasetResults

QUALITY = "quality"  # a column with flags, separated by semicolons, where a data set has it
FEW = 50  # test records of a class: with fewer, one record moves recall by two percent or more


def data_card(results: DatasetResults, content: Mapping[str, Any], root: Path) -> str:
    """Markdown, to be read in the folder :data:`CARDS` beside the report."""
    folder = f"data/normalized/{results.name}"
    return fill(
        "data_card",
        data=DataFacts(results),
        words=words_of(results.name, content["datasets"], results.dataset_info),
        people=_people(results),
        quality=_quality(results),
        quality_file=quality_path(results.name).rsplit("/", 1)[-1],
        limits=limits_of_counts(results),
        sums={
            f"{folder}/{split}/{name}": digest
            for split in SPLITS
            for name, digest in sums.listed(root / folder / split).items()
        },
    )


def data_card_path(name: str) -> str:
    """Return the path of the card of the data set `name`, relative to report.md."""
    return f"{CARDS}/{name}_data.md"


def quality_path(name: str) -> str:
    """Return the path of the table of recordings' quality, relative to report.md."""
    return f"{CARDS}/{name}_quality.csv"


def quality_table(results: DatasetResults) -> pd.DataFrame | None:
    """Return what was found of the quality of each record, in columns record, split, quality and
    quality_details; None for a data set whose quality nobody has measured."""
    tables = {split: results.splits[split].table for split in SPLITS}
    if not all(QUALITY in table for table in tables.values()):
        return None
    columns = ["record", "split", QUALITY, f"{QUALITY}_details"]
    parts = [table.assign(split=split).loc[:, columns] for split, table in tables.items()]
    return pd.concat(parts, ignore_index=True).fillna("")


def _quality(results: DatasetResults) -> list[list[str]]:
    """Count the records with each flag in each split, if any has one."""
    table = quality_table(results)
    if table is None:
        return []
    flags = table.assign(flag=table[QUALITY].str.split(";")).explode("flag")
    counts = pd.crosstab(flags["flag"], flags["split"]).reindex(columns=list(SPLITS), fill_value=0)
    rows = counts.rename(index={"": "nothing found"}).to_dict("index")
    return [[str(flag), *(f"{row[split]:,}" for split in SPLITS)] for flag, row in rows.items()]


def limits_of_counts(results: DatasetResults) -> str:
    """List in Markdown the conclusions that the numbers of records do not allow."""
    tables = [results.splits[split].table for split in SPLITS]
    counts = {name: int(np.count_nonzero(tables[-1][name])) for name in results.classes}
    total = {
        name: sum(int(np.count_nonzero(table[name])) for table in tables)
        for name in results.classes
    }
    return fill(
        "limits_of_counts",
        records=len(tables[-1]),
        few=[f"{text(name)} {count:,}" for name, count in counts.items() if count < FEW],
        least=min(total.items(), key=lambda item: item[1]),
        most=max(total.items(), key=lambda item: item[1]),
    )


def _people(results: DatasetResults) -> list[list[str]]:
    """Count the records of each sex and age group in each split, where the table has these columns."""
    tables = [results.splits[split].table for split in SPLITS]
    rows: list[list[str]] = []
    if all("sex" in table for table in tables):
        sexes = [_numbers(table, "sex") for table in tables]
        groups = {name: [sex == code for sex in sexes] for name, code in estimates.SEX.items()}
        rows += _rows("sex", groups)
    if all("age" in table for table in tables):
        ages = [_numbers(table, "age") for table in tables]
        groups = {
            name: [(first <= age) & (age < last) for age in ages]
            for name, (first, last) in estimates.AGES.items()
        }
        known = [age[np.isfinite(age)] for age in ages]
        medians = [f"{np.median(age):g}" if len(age) else DASH for age in known]
        rows += [*_rows("age", groups), ["age", "median, in years", *medians]]
    return rows


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    """NaN where none is given."""
    return table[[column]].apply(pd.to_numeric, errors="coerce").to_numpy(float)[:, 0]


def _rows(by: str, groups: Mapping[str, list[np.ndarray]]) -> list[list[str]]:
    """Counts and shares in each split of the records of each group, and of those in none."""
    ungrouped = [~np.any(masks, axis=0) for masks in zip(*groups.values(), strict=True)]
    named = {**groups, "not known": ungrouped} if any(map(np.any, ungrouped)) else groups
    return [
        [by, name, *(f"{inside.sum():,} ({100 * inside.mean():.0f} %)" for inside in masks)]
        for name, masks in named.items()
    ]
