"""A made-up project, small: five data sets of all drawings and tasks, as the stages leave them.

Recordings, scores, seeds and identities are made up; all else that is told of them comes from the
project's own evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from beatline import bundle, models
from beatline.bundle import Bundle
from beatline.common import sums
from beatline.common.files import write_csv, write_json
from beatline.drawings import twelve_leads
from beatline.evaluation import estimates as estimation
from beatline.evaluation import predictions, reconstructions
from beatline.models import autoencoder
from beatline.prediction import tasks
from beatline.preprocessing.arrays import write_split
from beatline.sources.pack import PackWriter

SIZES = {"train": 12, "validation": 6, "test": 24}
EVALUATE = {"resamples": 100, "confidence": 0.95, "max_fpr": 0.1, "seed": 1}
INITIAL = {  # what the cnn of hearts has started from
    "bundle": "others/cnn",
    "weights_sha256": "0123456789abcdef" * 4,
    "dataset": "others",
    "simulated": True,
}
DURATIONS = {"train_seconds": 12.345, "predict_milliseconds": 0.678}
FRAMES = 40  # of a spectrogram


def _block(
    module: str,
    by: str,
    download: dict[str, Any],
    labels: dict[str, Any],
    per: str = "channel",
    invalid: str = "mean",
) -> dict[str, Any]:
    return {
        "module": module,
        "download": download,
        "aggregate_labels": labels,
        "split": {"method": "stratified", "by": by, "seed": 7},
        "normalize": {"per": per, "invalid": invalid},
    }


CONTENT: dict[str, Any] = {
    "datasets": {
        "hearts": _block(
            "ptbxl", "patient", {"source": "beatline/simulators/ecg"}, {"min_likelihood": 0}
        ),
        "beats": _block(
            "ucr",
            "record",
            {"source": "beatline/datasets/ucr/package.yaml", "name": "ECG5000"},
            {"target": "anomaly", "normal_class": "1"},
        ),
        "digits": _block(
            "mnist",
            "record",
            {"source": "beatline/datasets/mnist/package.yaml"},
            {"min_records": 1},
            per="all",
        ),
        "rows": _block("table", "record", {"source": "rows.csv"}, {"values": []}, invalid="median"),
        "machines": _block(
            "sound",
            "record",
            {"source": "beatline/simulators/machines"},
            {"min_records": 1, "max_bad_records": 0},
        ),
    },
    "extract_features": {"machines": {"module": "sound", "bands": 10}},
    "train": {
        "cnn": {name: {"epochs": 3} for name in ("hearts", "beats", "digits")},
        "lstm": {"digits": {"epochs": 3}},
        "autoencoder": {name: {"epochs": 3} for name in ("hearts", "beats", "machines")},
        "embedding": {"machines": {"epochs": 3}},
        "logistic_regression": {"rows": {"l2": 1.0}},
        "boosted_trees": {"rows": {"l2": 1.0}},
        "rocket": {"rows": {"l2": [10.0, 1.0, 0.1]}},
    },
    "evaluate": EVALUATE,
    "report": {"mistakes": 2},
}
HEARTS: dict[str, Any] = {
    "title": "Hearts <made|up> & more",
    "source": "beatline/simulators/ecg",
    "simulated": True,
    "channels": list(twelve_leads.LEADS),
    "sampling_rate": 100,
    "unit": "mV",
    "drawing": "twelve_leads",
    "citation": "Nobody 2020",
    "classes": ["NORM", "M|I_x"],
    "task": "multilabel",
    "length": 120,
    "sections": None,
    "representation": None,
}
BEATS = {
    **HEARTS,
    "title": "Beats",
    "source": "beatline/datasets/ucr/package.yaml",
    "simulated": False,
    "channels": ["channel 1"],
    "sampling_rate": None,
    "drawing": "trace",
    "classes": ["anomaly"],
    "task": "binary",
    "length": 48,
}
DIGITS = {
    **BEATS,
    "title": "Digits",
    "source": "beatline/datasets/mnist/package.yaml",
    "channels": [f"column {number}" for number in range(5)],
    "unit": "share of white",
    "drawing": "image",
    "classes": ["0", "1", "2"],
    "task": "multiclass",
    "length": 6,
}
ROWS = {
    **BEATS,
    "title": "Rows",
    "source": "rows.csv",
    "channels": [f"feature_{number}" for number in range(20)],
    "unit": "as given",
    "drawing": "features",
    "classes": ["sick"],
    "length": 1,
}
MACHINES = {
    **HEARTS,
    "title": "Machines",
    "source": "beatline/simulators/machines",
    "channels": [f"mel band {n} ({100 * n} Hz)" for n in range(1, 11)],
    "sampling_rate": 25.0,
    "unit": "dB",
    "drawing": "spectrogram",
    "classes": ["anomaly"],
    "task": "anomaly",
    "length": FRAMES,
    "sections": "machine_id",
    "representation": {"kind": "sound", "bands": 10, "highest_frequency": None},
}
DATASETS = {"hearts": HEARTS, "beats": BEATS, "digits": DIGITS, "rows": ROWS, "machines": MACHINES}
SEEDS = {("hearts", "cnn"): 3, ("digits", "lstm"): 2}  # others have one
TASKS = {"autoencoder": "reconstruction", "embedding": "neighbours"}  # others have their data set's


def build(root: Path) -> None:
    """Write what the stages before the report leave behind under `root`."""
    for name, about in DATASETS.items():
        _write_dataset(root, name, about)
        for model, trained_on in CONTENT["train"].items():
            if name in trained_on:
                _write_model(root, name, about, model)


def only(*datasets: str, models: Sequence[str] = ()) -> dict[str, Any]:
    """params.yaml with these data sets and `models` (none named: all that they have)."""
    train = {
        model: {name: block for name, block in trained_on.items() if name in datasets}
        for model, trained_on in CONTENT["train"].items()
        if not models or model in models
    }
    return {
        **CONTENT,
        "datasets": {name: CONTENT["datasets"][name] for name in datasets},
        "extract_features": {},
        "train": {model: trained_on for model, trained_on in train.items() if trained_on},
    }


# ---------------------------------------------------------------- data sets


def normalization(about: dict[str, Any]) -> dict[str, Any]:
    channels = len(about["channels"])
    return {
        "mean": [0.1] * channels,
        "standard_deviation": [0.5] * channels,
        "fill": [0.1] * channels,
        "constant_channels": [0] if about is HEARTS else [],
    }


def _write_dataset(root: Path, name: str, about: dict[str, Any]) -> None:
    counts = {"records": sum(SIZES.values()), "files_without_rows": 3, "invalid_samples": 7}
    description = {**about, "counts": counts, "normalization": normalization(about)}
    path = root / f"data/normalized/{name}/dataset.json"
    sums.write_sealed_json(path, description)
    tables = {split: table_of(split, about, size) for split, size in SIZES.items()}
    labels = pd.concat([table.assign(split=split) for split, table in tables.items()])
    folder = root / f"data/labels/{name}"
    folder.mkdir(parents=True)
    write_csv(folder / "labels.csv", labels.drop(columns="split"))
    sums.seal(folder)
    splits = root / f"data/splits/{name}.csv"
    write_csv(splits, labels.loc[:, ["record", "split"]])
    sums.seal(splits)
    with PackWriter(root / f"data/raw/{name}.zip") as pack:
        pack.add("recordings", name.encode())
    shared = 2 if about is HEARTS else 0
    write_json(root / f"reports/metrics/{name}/split.json", {"leak": shared})
    for seed, (split, size) in enumerate(SIZES.items()):
        table = table_of(split, about, size)
        shape = size, about["length"], len(about["channels"])
        signals = np.random.default_rng(seed).normal(size=shape)
        signals *= np.where(table["normal"] == 1, 1, 1.2)[:, None, None]  # anomalies are louder
        write_split(root / f"data/normalized/{name}/{split}", [signals.astype(np.float32)], table)


def table_of(split: str, about: dict[str, Any], size: int) -> pd.DataFrame:
    """Label the records. Hearts: NORM is every second, the other class every third; others: every third
    record is abnormal, of machines in the test split alone; the digits take turns."""
    number = np.arange(size)
    third = (number % 3 == 0).astype(int)
    table = pd.DataFrame(
        {
            "record": [f"files/{split}_{n}" for n in number],
            "group": [f"{split} {n // 2 if about is HEARTS else n}" for n in number],
            "normal": 1 - third,
        }
    )
    if about is HEARTS:
        table["normal"] = table["NORM"] = (number % 2 == 0).astype(int)
        table["M|I_x"] = third
        # Of the test records three are of men and three of nobody knows whom: too few to measure.
        table["sex"] = np.where(number % 8 == 0, 0, 1)
        table["age"] = np.where(number % 8 == 1, np.nan, 30 + 2 * number)
    elif about is DIGITS:
        table[about["classes"]] = np.eye(3, dtype=int)[number % 3]
    elif about is MACHINES:
        table["normal"] = 1 - third if split == "test" else 1
        table["anomaly"] = 1 - table["normal"]
        table["machine_id"] = [f"0{n // 2 % 2}" for n in number]
        table["fault"] = np.where(table["normal"] == 1, "", np.where(number % 2, "leak", "bearing"))
    else:
        table[about["classes"][0]] = third
    return table


# ---------------------------------------------------------------- identities, seeds

OLD = {  # as models had them before revisions were recorded
    "data": "d" * 64,
    "code": "c" * 64,
    "environment": {"python": "3", "torch": "2", "device": "cpu (x86)"},
}
CLEAN = {
    **OLD,
    "git": {"revision": "0123456789abcdef", "clean": True, "changed": []},
    "environment": {
        **OLD["environment"],
        "machine": {"system": "Linux", "processor": "A|B 1", "cores": 2, "threads": 1},
    },
    "pipeline": {"split@hearts": {"params": {}, "deps": {}, "outs": {"data/splits": "5" * 32}}},
}
CHANGED = {
    **CLEAN,
    "git": {"revision": "fedcba9876543210", "clean": False, "changed": ["beatline/a_b.py"]},
    "pipeline": None,
}
NO_GIT = {**CLEAN, "git": {"revision": None, "clean": False, "changed": []}, "pipeline": None}
REPORT = {"git": CLEAN["git"], "code": "e" * 64, "environment": OLD["environment"]}


def trained_by(about: dict[str, Any]) -> dict[str, Any]:
    """Digits are old; rows were trained outside of Git."""
    return OLD if about is DIGITS else NO_GIT if about is ROWS else CLEAN


def evaluated_by(name: str) -> dict[str, Any]:
    """Hearts by what trained them, machines with changes, rows outside of Git; others are old."""
    made = {"hearts": CLEAN, "machines": CHANGED, "rows": NO_GIT}
    if name not in made:
        return {}
    return {"identity": {**made[name], "data": "b" * 64, "model": "a" * 64}}


def seeds_of(name: str, model: str, estimates: dict[str, Any]) -> list[dict[str, Any]]:
    """The values themselves, and somewhat less of them with every further seed."""
    values = {metric: found["value"] for metric, found in estimates["overall"].items()}
    return [
        {"seed": 1 + n, **{metric: value - 0.01 * n**2 for metric, value in values.items()}}
        for n in range(SEEDS.get((name, model), 1))
    ]


# ---------------------------------------------------------------- models


def _write_model(root: Path, name: str, about: dict[str, Any], model: str) -> None:
    trained = _trained(about, model)
    table = table_of("test", about, SIZES["test"])
    signals = np.load(root / f"data/normalized/{name}/test/signals.npy")
    values = _values(trained, signals, _targets(trained, table))
    if trained.task.learns_normal_only:  # half of the normal records are false alarms
        trained.description["thresholds"] = [float(np.median(values[table["normal"] == 1]))]
    decisions = trained.task.decide(values, trained.description["thresholds"])
    parameters = estimation.Evaluate(**EVALUATE)

    folder = root / f"data/models/{name}/{model}"
    bundle.save(folder, trained.network, trained.description, _history(model))
    folder = root / f"data/predictions/{name}/{model}"
    made = predictions.made(trained.description, values, decisions, table)
    predictions.write(folder, made)
    estimates = estimation.estimates(made, table, parameters)
    write_json(
        folder / "estimates.json",
        {**estimates, "seeds": seeds_of(name, model, estimates), **evaluated_by(name)},
    )
    sums.seal(folder)
    if model == "autoencoder":
        written = predictions.read(folder, trained.description)
        reconstructions.write(folder, written, signals, trained.reconstruct)
        sums.seal(folder)
    durations = root / f"data/durations/{name}/{model}"
    for stage, key in {"train": "train_seconds", "predict": "predict_milliseconds"}.items():
        sums.write_sealed_json(durations / f"{stage}.json", {key: DURATIONS[key]})


def _targets(trained: Bundle, table: pd.DataFrame) -> np.ndarray:
    """0/1 `[N, K]`."""
    if trained.task.learns_normal_only:
        return 1 - table[["normal"]].to_numpy()
    return table[trained.classes].to_numpy()


def _trained(about: dict[str, Any], model: str) -> Bundle:
    """An autoencoder with random weights, or a network that nobody asks anything."""
    torch.manual_seed(0)
    architecture = autoencoder.Architecture(dimensions=1, filters=[3, 2], kernel=5, code=0)
    length, stride = about["length"] // 2, about["length"] // 3
    network: nn.Module = nn.Linear(1, 1)
    if model == "autoencoder":
        shape = length, len(about["channels"])
        network = models.create(
            models.module(model), architecture, shape, 1, "train.autoencoder"
        ).eval()
    task = TASKS.get(model, about["task"])
    classes = ["anomaly"] if model in TASKS else about["classes"]
    steps: dict[str, Any] = {
        "boosted_trees": {"iterations": 3},
        "logistic_regression": {"iterations": 3},
        "rocket": {"l2": [10.0, 1.0, 0.1]},
    }
    description = {
        "architecture": {"name": model, "parameters": architecture.model_dump()},
        "parameters": 1234,
        "task": task,
        "classes": classes,
        "sections": [],
        "thresholds": [] if task == "multiclass" else [0.5] * len(classes),
        "windows": {"length": length, "stride": max(stride, 1), "aggregate": "mean"},
        "normalization": normalization(about),
        "dataset": about,
        "training": {
            **steps.get(model, {"epochs": 3}),
            "monitor": "loss" if model in TASKS else "auc",
            "threshold_percentile": 95,
        },
        "best_epoch": 1 if model == "logistic_regression" else 2,
        "identity": trained_by(about),
    }
    if (about["title"], model) == (HEARTS["title"], "cnn"):
        description["initial"] = INITIAL
    return Bundle(network, description)


def _history(model: str) -> pd.DataFrame:
    """Make a history: a single row for a model fitted in one step; no AUC for a detector."""
    epochs = [1] if model == "logistic_regression" else [1, 2, 3]
    undefined = [np.nan] * len(epochs)
    loss = [1 / epoch for epoch in epochs]
    return pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": loss,
            "validation_loss": loss,
            "validation_auc": undefined if model in TASKS else loss,
            "learning_rate": undefined
            if model in ("boosted_trees", "embedding", "rocket")
            else loss,
        }
    )


def _values(trained: Bundle, signals: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return an autoencoder's predictions; made-up ones for other models, right more often than not."""
    if trained.description["architecture"]["name"] == "autoencoder":
        return trained.answer(signals).values
    rng = np.random.default_rng(len(trained.description["architecture"]["name"]))
    values = 0.3 * targets + 0.7 * rng.random(targets.shape)
    if trained.task is tasks.TASKS["multiclass"]:
        return values / values.sum(axis=1, keepdims=True)
    return values
