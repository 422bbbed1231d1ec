"""Results of the stages before the report, read once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beatline import drawings
from beatline.common import params, sums
from beatline.common.errors import warn
from beatline.common.files import read_json
from beatline.drawings import Drawing
from beatline.evaluation.results import Evaluated, load
from beatline.preprocessing import arrays
from beatline.preprocessing.normalization import Normalization
from beatline.reporting.document import text

SPLITS = ("train", "validation", "test")
FAULT = "fault"  # a column that says what is wrong with a recording, where a data set knows


@dataclass(frozen=True)
class DatasetResults:
    """A data set, by its `name` in params.yaml, with its `parameters` there, its `dataset_info`
    (dataset.json), its splits, the content of its split metrics, and its models in the order of
    params.yaml."""

    name: str
    parameters: dict[str, Any]
    dataset_info: dict[str, Any]
    splits: dict[str, arrays.SplitArrays]
    split_metrics: dict[str, Any]
    models: list[Evaluated]

    @property
    def classes(self) -> list[str]:
        return self.dataset_info["classes"]

    @property
    def reality(self) -> str:
        return "simulated" if self.dataset_info["simulated"] else "real"

    @property
    def drawing(self) -> Drawing:
        return drawings.drawing_of(self.dataset_info)

    @property
    def section_column(self) -> str | None:
        """The column of the sections that no metric pools, if any."""
        return self.dataset_info["sections"]

    @property
    def exclusive(self) -> bool:
        """Whether each record has exactly one of several classes."""
        return self.dataset_info["task"] == "multiclass"

    @property
    def main_metric(self) -> str:
        """What models are judged by first."""
        return "accuracy" if self.exclusive else "auc"

    @property
    def groups(self) -> str | None:
        """The noun for one group of records; None if each record is a group of its own."""
        if pd.concat([self.splits[split].table["group"] for split in SPLITS]).is_unique:
            return None
        by = self.parameters["split"]["by"]
        return by if by != "record" else "group"

    def recordings(self, split: str, rows: Sequence[int]) -> np.ndarray:
        """Recordings `[N, T, C]` of a split, in their unit."""
        normalization = Normalization(**self.dataset_info["normalization"])
        return normalization.undo(self.splits[split].signals[list(rows)])

    def label(self, split: str, row: int) -> str:
        """The classes of a record, or normal, or none; what is wrong with it, where that is known."""
        record = self.splits[split].table.iloc[row]
        label = ", ".join(name for name in self.classes if record[name] == 1)
        if not label:
            return "normal" if record["normal"] == 1 else "none"
        fault = record.get(FAULT)
        return f"{label} ({fault})" if isinstance(fault, str) and fault else label

    def record(self, split: str, row: int) -> str:
        return str(self.splits[split].table["record"].iloc[row])

    def section(self, split: str, row: int) -> str | None:
        """The machine, or the like, that a record is of."""
        if not self.section_column:
            return None
        return str(self.splits[split].table[self.section_column].iloc[row])


def heading(results: DatasetResults, model: Evaluated) -> str:
    """Return the heading of the section on a model."""
    return f"{text(results.name)}: {text(model.model)}"


def read(content: dict[str, Any], name: str, root: Path) -> DatasetResults:
    """The data set `name` of params.yaml. Raises UserError if an output is missing."""
    folder = root / "data/normalized" / name
    info = sums.read_sealed_json(folder / "dataset.json")
    return DatasetResults(
        name=name,
        parameters=content["datasets"][name],
        dataset_info=info,
        splits={
            split: arrays.load_split(folder / split, sections=info["sections"]) for split in SPLITS
        },
        split_metrics=read_json(root / f"reports/metrics/{name}/split.json"),
        models=[
            load(
                model,
                root / f"data/models/{name}/{model}",
                root / f"data/predictions/{name}/{model}",
                root / f"data/durations/{name}/{model}",
            )
            for model in params.models_of(content, name)
        ],
    )


def results_sum(datasets: Sequence[DatasetResults]) -> str:
    """SHA-256 of what the models' metrics are, whoever computed them."""
    content = {
        results.name: {
            model.model: {
                name: value for name, value in model.estimates.items() if name != "identity"
            }
            for model in results.models
        }
        for results in datasets
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def warn_of_stale(content: dict[str, Any], root: Path) -> None:
    """Name models that lie there and are not listed in params.yaml."""
    for folder in sorted((root / "data/models").glob("*/*")):
        if folder.name not in params.models_of(content, folder.parent.name):
            place = folder.relative_to(root).as_posix()
            warn(f"{place} is not listed in params.yaml and is left out: remove it")
