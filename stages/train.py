"""train: one model on one data set, to a bundle that can answer from raw recordings."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from beatline import arrays, bundle, devices, inference, models, params, tasks, training
from beatline.arrays import SplitArrays
from beatline.errors import UserError, reporting_mistakes
from beatline.files import read_json, sha256, write_json
from beatline.learning import Examples
from beatline.recordings import Recordings


def main(model: str, name: str) -> None:
    began = time.perf_counter()
    key = f"{params.PATH}: train.{model}.{name}"
    architecture, parameters = training.parameters_of(params.load(), model, name)

    folder = Path(f"data/normalized/{name}")
    dataset = read_json(folder / "dataset.json")
    module = models.module(model)
    if not (task := tasks.of(module.LEARNS, dataset["task"])):
        raise UserError(
            f"{key}: {model} learns labels, but {name} has normal recordings only to learn from: "
            f"train a detector on it (autoencoder, embedding)"
        )
    classes = ["anomaly"] if task.learns_normal_only else dataset["classes"]
    labels = [*task.labels(classes), *([dataset["sections"]] if dataset["sections"] else [])]
    train = arrays.load_split(folder / "train", labels)
    validation = arrays.load_split(folder / "validation", labels)
    sections = _sections(train, dataset["sections"]) if module.LEARNS == "sections" else []

    device = devices.choose()
    devices.keep_freed_memory()
    devices.make_deterministic(parameters.seed)
    description = {
        "architecture": {"name": model, "parameters": architecture.model_dump()},
        "task": task.name,
        "classes": classes,
        "sections": sections,
        "windows": parameters.windows.model_dump(),
        "normalization": dataset["normalization"],
        "dataset": {name: dataset[name] for name in DATASET_KEYS},
        "training": parameters.model_dump(),
    }
    network = bundle.network_of(description, f"{key}.architecture")
    print(f"{models.count_parameters(network):,} parameters on {device.type}", flush=True)

    learned = _targets(train, task, classes, dataset["sections"], sections)
    rows = np.arange(len(train.table))
    if task.learns_normal_only:
        rows = _normal_rows(train, folder / "train")
        _normal_rows(validation, folder / "validation")  # by which the threshold is set
    everything = np.arange(len(validation.table))
    validation_examples = Examples(
        Recordings(validation.signals, everything, device), _targets(validation, task, classes)
    )
    history, best_epoch = training.way_of(model)(
        network,
        task,
        Examples(Recordings(train.signals, rows, device), learned[rows]),
        validation_examples,
        parameters,
    )
    found = inference.answers(network, task, validation_examples.recordings, parameters.windows)
    description |= {
        "parameters": models.count_parameters(network),
        "thresholds": task.thresholds(
            validation_examples.targets, found, parameters.threshold_percentile
        ),
        "best_epoch": best_epoch,
        "identity": {
            "data": sha256(*(folder / part / arrays.SIGNALS for part in ("train", "validation"))),
            "code": bundle.code_identity(),
            "environment": bundle.environment(),
        },
    }
    output = Path(f"data/models/{name}/{model}")
    bundle.save(output, network, description, history)
    seconds = time.perf_counter() - began
    # Durations differ from run to run: they stay out of what metrics and bundles hold.
    write_json(
        Path(f"data/durations/{name}/{model}/train.json"), {"train_seconds": round(seconds, 2)}
    )
    print(f"best epoch {best_epoch} of {len(history)}, {seconds:.0f} s: {output}")


DATASET_KEYS = (
    "title",
    "source",
    "simulated",
    "channels",
    "sampling_rate",
    "unit",
    "drawing",
    "length",
    "sections",
    "representation",
)


def _targets(
    split: SplitArrays,
    task: tasks.Task,
    classes: list[str],
    column: str | None = None,
    sections: list[str] | None = None,
) -> np.ndarray:
    """0/1 `[N, K]`: which section a record is of, if `sections` are to be learned; whether it is an
    anomaly, for other detectors; its labels."""
    if sections:
        of_record = split.table[column].astype(str) if column else ["all"] * len(split.table)
        return np.array([[name == section for section in sections] for name in of_record], np.int8)
    return split.anomalies() if task.learns_normal_only else split.targets(classes)


def _sections(train: SplitArrays, column: str | None) -> list[str]:
    """What a network learns to tell apart; all recordings are of one kind if nobody says more."""
    return sorted(set(train.table[column].astype(str))) if column else ["all"]


def _normal_rows(split: SplitArrays, folder: Path) -> np.ndarray:
    normal = np.flatnonzero(split.anomalies()[:, 0] == 0)
    if not len(normal):
        raise UserError(
            f"{folder} holds no normal record to learn from or to set the threshold by: check "
            f"the class that aggregate_labels calls normal, or use more records"
        )
    return normal


if __name__ == "__main__":
    with reporting_mistakes():
        main(*sys.argv[1:])
