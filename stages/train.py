"""train: one model on one data set, to a bundle that can answer from raw recordings."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from beatline import arrays, bundle, devices, inference, models, params, tasks, training
from beatline.arrays import Recordings, SplitArrays
from beatline.errors import UserError, reporting_mistakes
from beatline.files import read_json, sha256, write_json


def main(model: str, name: str) -> None:
    began = time.perf_counter()
    architecture, parameters = training.parameters_of(params.load(), model, name)

    folder = Path(f"data/normalized/{name}")
    dataset = read_json(folder / "dataset.json")
    task = tasks.of(model, dataset["task"])
    classes = ["anomaly"] if task.learns_normal_only else dataset["classes"]
    labels = task.labels(classes)
    train = arrays.load_split(folder / "train", labels)
    validation = arrays.load_split(folder / "validation", labels)

    device = devices.choose()
    devices.keep_freed_memory()
    devices.make_deterministic(parameters.seed)
    length, channels = train.signals.shape[1:]
    network = models.create(model, architecture, channels, len(classes))
    window = min(parameters.windows.length or length, length)
    models.require_fit(network, window, channels, f"train.{model}.{name}.architecture")
    print(f"{models.count_parameters(network):,} parameters on {device.type}", flush=True)

    validation_examples = _examples(
        validation, folder / "validation", task, classes, device, everything=True
    )
    history, best_epoch = training.fit(
        network,
        task,
        _examples(train, folder / "train", task, classes, device),
        validation_examples,
        parameters,
    )
    found = inference.answers(network, task, validation_examples.recordings, parameters.windows)
    thresholds = task.thresholds(
        validation_examples.targets, found, parameters.threshold_percentile
    )

    output = Path(f"data/models/{name}/{model}")
    description = {
        "architecture": {"name": model, "parameters": architecture.model_dump()},
        "parameters": models.count_parameters(network),
        "task": task.name,
        "classes": classes,
        "thresholds": thresholds,
        "windows": parameters.windows.model_dump(),
        "normalization": dataset["normalization"],
        "dataset": {key: dataset[key] for key in DATASET_KEYS},
        "training": parameters.model_dump(),
        "best_epoch": best_epoch,
        "identity": {
            "data": sha256(*(folder / part / arrays.SIGNALS for part in ("train", "validation"))),
            "code": bundle.code_identity(),
            "environment": bundle.environment(),
        },
    }
    bundle.save(output, network, description, history)
    seconds = time.perf_counter() - began
    # Durations differ from run to run: they stay out of what DVC compares.
    write_json(Path(f"data/durations/{name}/{model}.json"), {"train_seconds": round(seconds, 2)})
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
)


def _examples(
    split: SplitArrays,
    folder: Path,
    task: tasks.Task,
    classes: list[str],
    device: torch.device,
    *,
    everything: bool = False,
) -> training.Examples:
    """What a task learns from: all records, or the normal ones unless `everything` is asked for."""
    targets = split.anomalies() if task.learns_normal_only else split.targets(classes)
    rows = np.arange(len(targets))
    if task.learns_normal_only:
        normal = np.flatnonzero(targets[:, 0] == 0)
        if not len(normal):
            raise UserError(
                f"{folder} holds no normal record to learn from or to set the threshold by: check "
                f"the class that aggregate_labels calls normal, or use more records"
            )
        rows = rows if everything else normal
    return training.Examples(Recordings(split.signals, rows, device), targets[rows])


if __name__ == "__main__":
    with reporting_mistakes():
        main(*sys.argv[1:])
