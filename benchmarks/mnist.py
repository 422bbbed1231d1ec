"""MNIST: the networks of params.yaml against the textbook ones that the project started from.

All four are trained by the project's loop on the same digits and tested on the same digits, each in a
process of its own, one after the other. ``python -m benchmarks.mnist`` takes the 5,000 digits of the
pinned package, stratified; ``--source beatline/datasets/mnist/official.yaml`` or ``--source <folder>``
all 70,000 in the publishers' split, 5 % of train being validation. Exits 1 if ours is not both faster
and more often right.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from beatline import models
from beatline.common import params
from beatline.common.errors import reporting_mistakes
from beatline.datasets import mnist
from beatline.models import Examples
from beatline.prediction import devices, inference, tasks
from beatline.prediction.device_data import Recordings
from beatline.preprocessing import normalization, splitting
from beatline.sources.pack import Pack, PackWriter
from beatline.training import loop
from beatline.training.parameters import Train, parameters_of

MODULE = "beatline/datasets/mnist"
OFFICIAL = "official"  # a file that says that all 70,000 digits are there
# What `make exp-mnist` changes of params.yaml for them, but for the epochs.
OURS: dict[str, dict[str, Any]] = {"cnn": {"filters": [64, 128, 128, 256]}}
# Their batch size is not known: 64 is PyTorch's example's, and makes them faster than Keras' 32.
START_TRAINING: dict[str, Any] = {
    "optimizer": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 0.0},
    "schedule": {"name": "constant"},
    "augment": {},
    "batch_size": 64,
    "gradient_clip": 0.0,
    "label_smoothing": 0.0,
}
START: dict[str, dict[str, Any]] = {
    "cnn": {
        "dimensions": 2,
        "blocks": "plain",
        "filters": [32, 64],
        "kernels": [3, 3],
        "strides": [1, 1],
        "pool": 2,
        "pooling": "none",
        "dense": 128,
        "dropout": 0.5,
    },
    "lstm": {
        "hidden": 128,
        "layers": 1,
        "pooling": "last",
        "dropout": 0.5,
    },
}
SPLIT = {"train": 0.9, "validation": 0.05, "test": 0.05, "by": "record", "seed": 1}


def prepare(source: str, folder: Path) -> None:
    """Write signals, targets and row numbers of each split, normalized, to `folder`."""
    block = {"source": source, "sha256": None}
    with PackWriter(folder / "raw.zip") as pack:
        mnist.download(params.validated(block, "source", mnist.Download), pack, folder)
    with Pack(folder / "raw.zip") as pack:
        labels = mnist.read_labels(pack, mnist.AggregateLabels(min_records=1))
        images = np.concatenate(list(mnist.read_recordings(pack, labels.table["record"].to_list())))
    official = set(labels.table["fold"]) == {"train", "test"}
    if official:
        (folder / OFFICIAL).touch()
    method = {"method": "official"} if official else {"method": "stratified"}
    shares = {} if official else {"train": 0.7, "validation": 0.15, "test": 0.15}
    parameters = params.validated({**SPLIT, **method, **shares}, "split", splitting.Split)
    split = splitting.assign(labels.table, labels.classes, parameters).to_numpy()
    per_image = normalization.Normalize(recordings="", per="all", invalid="mean")
    fitted = normalization.fit(iter([images[split == "train"]]), per_image)
    np.save(folder / "signals.npy", fitted.apply(images))
    np.save(folder / "targets.npy", labels.table[labels.classes].to_numpy(np.int8))
    np.save(folder / "split.npy", split.astype("U"))


def train(model: str, which: str, epochs: int, folder: Path) -> dict[str, float]:
    """Train the network `which` (start, ours) of `model`: its seconds, test accuracy, parameters."""
    content = params.load()
    block = params.block_of(content, f"train.{model}.mnist")
    if which == "start":
        block |= {"architecture": START[model], **START_TRAINING}
    elif (folder / OFFICIAL).exists():
        block["architecture"] |= OURS.get(model, {})
    block["epochs"] = epochs
    architecture, parameters = parameters_of(content, model, "mnist")
    assert isinstance(parameters, Train)
    signals, targets = np.load(folder / "signals.npy"), np.load(folder / "targets.npy")
    split = np.load(folder / "split.npy")
    device = devices.choose()
    devices.keep_freed_memory()
    devices.make_deterministic(parameters.seed)
    examples = {}
    for part in splitting.SPLITS:
        rows = np.flatnonzero(split == part)
        examples[part] = Examples(Recordings(signals, rows, device), targets[rows])
    network = models.create(
        models.module(model), architecture, signals.shape[1:], targets.shape[1], model
    )
    task = tasks.TASKS["multiclass"]
    began = time.perf_counter()
    loop.fit(network, task, examples["train"], examples["validation"], parameters)
    seconds = time.perf_counter() - began
    test = examples["test"]
    answers = inference.predict(network, task, test.recordings, parameters.windows)
    right = answers.argmax(axis=1) == test.targets.argmax(axis=1)
    return {
        "seconds": seconds,
        "accuracy": float(right.mean()),
        "parameters": models.count_parameters(network),
    }


def main(source: str, epochs: int) -> int:
    failed = False
    print(f"{'':12s} {'seconds':>8s} {'accuracy':>9s} {'parameters':>11s}   ({epochs} epochs)")
    with tempfile.TemporaryDirectory() as temporary:
        prepare(source, Path(temporary))
        for model in START:
            found = {}
            for which in ("start", "ours"):
                found[which] = one = _in_own_process(model, which, epochs, temporary)
                print(
                    f"{model:6s} {which:5s} {one['seconds']:8.1f} {one['accuracy']:9.2%} "
                    f"{one['parameters']:11,.0f}",
                    flush=True,
                )
            failed |= found["ours"]["seconds"] >= found["start"]["seconds"]
            failed |= found["ours"]["accuracy"] <= found["start"]["accuracy"]
    return int(failed)


def _in_own_process(model: str, which: str, epochs: int, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.mnist", "--train", model, which, folder]
    printed = subprocess.check_output([*command, "--epochs", str(epochs)], text=True)
    return json.loads(printed.splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default=f"{MODULE}/package.yaml", help="as download.source")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)  # model, which, folder
    chosen = parser.parse_args()
    with reporting_mistakes():
        if chosen.train:
            kind, version, place = chosen.train
            print(json.dumps(train(kind, version, chosen.epochs, Path(place))))
        else:
            sys.exit(main(chosen.source, chosen.epochs))
