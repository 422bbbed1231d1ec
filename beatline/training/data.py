"""The training data of a model, read from a normalized data set, and its validation data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from beatline import models
from beatline.common import sums
from beatline.common.errors import UserError
from beatline.models import Examples
from beatline.prediction import tasks
from beatline.prediction.device_data import Recordings
from beatline.prediction.tasks import Task
from beatline.preprocessing import arrays
from beatline.preprocessing.arrays import Signals, SplitArrays

PARTS = ("train", "validation")
DESCRIBED = (  # of dataset.json
    "title",
    "source",
    "citation",
    "simulated",
    "channels",
    "sampling_rate",
    "unit",
    "drawing",
    "length",
    "sections",
    "representation",
    "typical",
)


@dataclass(frozen=True)
class TrainingData:
    """`sections`: what is learned to be told apart, by a model that learns that: its targets for training
    are of sections, those for validation of anomalies. `dataset`: the data set's dataset.json. `signals`:
    all recordings `[N, T, C]` of training, those too that a detector does not learn from, and of
    validation, memory-mapped."""

    task: Task
    classes: list[str]
    sections: list[str]
    train: Examples
    validation: Examples
    dataset: dict[str, Any]
    signals: tuple[Signals, Signals]

    @property
    def description(self) -> dict[str, Any]:
        """Return what model.json says of the data set."""
        return {
            "task": self.task.name,
            "classes": self.classes,
            "sections": self.sections,
            "normalization": self.dataset["normalization"],
            "dataset": {name: self.dataset[name] for name in DESCRIBED},
        }


def load_training_data(folder: Path, model: str, key: str, device: torch.device) -> TrainingData:
    """Read what a model needs of the data set in `folder`, on the device where it fits.

    Raises UserError if files are missing or damaged, or if the model cannot learn from them; `key` is
    where params.yaml asks for it.
    """
    dataset = sums.read_sealed_json(folder / "dataset.json")
    learns, column = models.module(model).LEARNS, dataset["sections"]
    if not (task := tasks.for_dataset(learns, dataset["task"])):
        raise UserError(
            f"{key}: {model} learns labels, but {folder.name} has normal recordings only to learn "
            f"from: train a detector on it ({', '.join(models.detectors())})"
        )
    classes = ["anomaly"] if task.learns_normal_only else dataset["classes"]
    labels = task.labels(classes)
    train, validation = (arrays.load_split(folder / part, labels, column) for part in PARTS)
    sections = _sections(train, column) if learns == "sections" else []
    learned = _targets(train, task, classes, column, sections)
    rows = np.arange(len(train.table))
    if task.learns_normal_only:
        rows = _normal_rows(train, folder / "train")
        _normal_rows(validation, folder / "validation")  # by which the threshold is set
    everything = np.arange(len(validation.table))
    return TrainingData(
        task,
        classes,
        sections,
        Examples(Recordings(train.signals, rows, device), learned[rows]),
        Examples(
            Recordings(validation.signals, everything, device), _targets(validation, task, classes)
        ),
        dataset,
        (train.signals, validation.signals),
    )


def _targets(
    split: SplitArrays,
    task: Task,
    classes: list[str],
    column: str | None = None,
    sections: list[str] | None = None,
) -> np.ndarray:
    """0/1 `[N, K]`: which section a record is of, if `sections` are to be learned; whether it is an
    anomaly, for other detectors; its labels."""
    if sections:
        record_sections = split.table[column].astype(str) if column else ["all"] * len(split.table)
        return np.array(
            [[name == section for section in sections] for name in record_sections], np.int8
        )
    return split.anomalies() if task.learns_normal_only else split.targets(classes)


def _sections(train: SplitArrays, column: str | None) -> list[str]:
    """Return the sections to tell apart; all recordings are of one section without such a column."""
    return sorted(set(train.table[column].astype(str))) if column else ["all"]


def _normal_rows(split: SplitArrays, folder: Path) -> np.ndarray:
    normal = np.flatnonzero(split.anomalies()[:, 0] == 0)
    if not len(normal):
        raise UserError(
            f"{folder} holds no normal record to learn from or to set the threshold by: check "
            f"the class that aggregate_labels calls normal, or use more records"
        )
    return normal
