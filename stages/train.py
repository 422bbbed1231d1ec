"""train: one model on one data set, to a bundle that predicts from raw recordings.

Of several networks, `seeds` in params.yaml, the first is the bundle, and the others are bundles in its
folder `seeds`; or the bundle is the mean of all, which are bundles there (`predict_with`). An interrupted
training goes on after its last completed epoch.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from beatline import models
from beatline.bundle import WEIGHTS_SHA256
from beatline.bundle import model as bundle  # now, since identity sums what is loaded
from beatline.bundle.combined import Combined, as_trained
from beatline.common import params, sums
from beatline.common.errors import run_stage
from beatline.common.files import replacing
from beatline.lineage import record
from beatline.models import Learning
from beatline.prediction import devices, inference
from beatline.prediction.familiarity import Familiarity
from beatline.prediction.reference import Reference
from beatline.training import (
    augmentation,
    calibration,
    checkpoint,
    familiarity,
    initial,
    loop,
    processes,
    reference,
)
from beatline.training.data import PARTS, TrainingData, load_training_data
from beatline.training.parameters import parameters_of

# Parameters that no weight of a single network depends on.
NOT_LEARNED = {"seeds", "predict_with", "calibrate"}
# network, model.json, history, and what it is watched by
Trained = tuple[nn.Module, dict[str, Any], pd.DataFrame, Reference | None]


def main(model: str, name: str) -> None:
    began = time.perf_counter()
    key = f"{params.PATH}: train.{model}.{name}"
    architecture, parameters = parameters_of(params.load(), model, name)
    shards = getattr(parameters, "shards", None)  # a model with a `fit` of its own has none
    place = processes.place(shards)
    if place.rank and shards is None:
        return  # process 0 alone fits it
    processes.prepare(place, shards)
    devices.keep_freed_memory()
    folder = Path(f"data/normalized/{name}")
    data = load_training_data(folder, model, key, devices.choose())
    windows = parameters.windows.completed(data.train.recordings.length, f"{key}.windows")
    parameters = parameters.model_copy(update={"windows": windows})
    if augment := getattr(parameters, "augment", None):
        steps = windows.steps(data.train.recordings.length)
        augmentation.check(augment, data.dataset["drawing"], steps, f"{key}.augment")
    parts = [folder / part for part in PARTS]
    identity = record.identity(parts, f"train_{model}@{name}")
    model_info = {
        "architecture": {"name": model, "parameters": architecture.model_dump()},
        **data.description,
        "windows": windows.model_dump(),
    }
    if start := getattr(parameters, "initial", None):
        model_info["initial"] = initial.described(start, f"{key}.initial")
    parameters_per_seed = [
        parameters.model_copy(update={"seed": parameters.seed + number, "predict_with": "first"})
        for number in range(parameters.seeds)
    ]
    went_in = [model_info, *(identity[part] for part in ("data", "code", "environment"))]
    keys = [
        checkpoint.key(*went_in, seed_parameters.model_dump(exclude=NOT_LEARNED))
        for seed_parameters in parameters_per_seed
    ]
    sharing = partial(
        processes.joined,
        place,
        {part: identity[part] for part in ("data", "code", "environment")}
        | {"parameters": checkpoint.key(model_info, parameters.model_dump())},
        ["-m", "stages.train", model, name],
    )
    if place.rank:
        with sharing() as group:
            for seed_parameters in parameters_per_seed:
                learn(model_info, data, seed_parameters, None, key, group)
        return
    output = Path(f"data/models/{name}/{model}")
    known = familiarity.fit(*data.signals, model_info["dataset"])
    earlier, trained = 0.0, []
    with checkpoint.kept(checkpoint.FOLDER / name / model, keys) as paths:
        with sharing() as group:
            for seed_parameters, path in zip(parameters_per_seed, paths, strict=True):
                state = checkpoint.State(path)
                trained.append(
                    train(
                        model_info | {"identity": identity},
                        data,
                        seed_parameters,
                        state,
                        key,
                        known,
                        group,
                    )
                )
                earlier += state.earlier
        first, *others = trained
        if parameters.predict_with == "mean":
            first, others = mean(trained, data, parameters, known), trained
        save(output, first, others, known)
        seconds = time.perf_counter() - began + earlier
        # Durations differ from run to run: they stay out of what metrics and bundles hold.
        durations = Path(f"data/durations/{name}/{model}/train.json")
        sums.write_sealed_json(durations, {"train_seconds": round(seconds, 2)})
    print(f"{seconds:.0f} s: {output}")


def train(
    model_info: dict[str, Any],
    data: TrainingData,
    parameters: Learning,
    state: checkpoint.State,
    key: str,
    known: Familiarity | None,
    group: processes.Group,
) -> Trained:
    """One network, from the seed in `parameters` alone, whatever was trained before it. `known`: the
    distance to the training recordings, without which it is not watched."""
    network, history, best_epoch = learn(model_info, data, parameters, state, key, group)
    print(f"{loop.label(parameters)}best epoch {best_epoch} of {len(history)}", flush=True)
    return completed(
        [network], model_info | {"best_epoch": best_epoch}, data, parameters, history, known
    )


def mean(
    trained: list[Trained], data: TrainingData, parameters: Learning, known: Familiarity | None
) -> Trained:
    """The model that predicts with the mean of several. Best epoch and history are those of the first."""
    _, model_info, history, _ = trained[0]
    members = [
        {
            "seed": member["training"]["seed"],
            WEIGHTS_SHA256: bundle.weights_sha256(network),
        }
        for network, member, _, _ in trained
    ]
    networks = [as_trained(network) for network, *_ in trained]
    return completed(networks, model_info | {"members": members}, data, parameters, history, known)


def completed(
    networks: list[nn.Module],
    model_info: dict[str, Any],
    data: TrainingData,
    parameters: Learning,
    history: pd.DataFrame,
    known: Familiarity | None,
) -> Trained:
    """The model that is made of one network, or of the mean of several: calibrated, if it is to be, and
    with what is chosen on validation records."""
    task, validation, classes = data.task, data.validation, data.classes
    calibrated = parameters.calibrate == "temperature"
    if calibrated or len(networks) > 1:
        network = Combined(networks, task, len(classes), calibrated=calibrated)
        network.to(validation.recordings.device)
        if calibrated:
            fitted = calibration.fit(network, task, validation, parameters.windows, classes)
            network.temperature.copy_(torch.from_numpy(fitted))
            model_info = model_info | {"temperature": network.temperature.tolist()}
    else:
        network = networks[0]
    predictions = inference.predict(network, task, validation.recordings, parameters.windows)
    percentile = parameters.threshold_percentile
    thresholds = task.thresholds(validation.targets, predictions, percentile)
    decisions = task.decide(predictions, thresholds)
    computed_in = {"precision": history["precision"].iloc[0]} if "precision" in history else {}
    learned = {
        "training": parameters.model_dump(),
        **computed_in,
        "parameters": models.count_parameters(network),
        "thresholds": thresholds,
    }
    watched = known and reference.taken(
        data.signals[1], predictions, decisions, known, model_info["dataset"]
    )
    return network, model_info | learned, history, watched


def learn(
    model_info: dict[str, Any],
    data: TrainingData,
    parameters: Learning,
    state: checkpoint.State | None,
    key: str,
    group: processes.Group,
) -> tuple[nn.Module, pd.DataFrame, int]:
    """The network, its history and its best epoch's number. `state`: None in all but process 0."""
    devices.make_deterministic(parameters.seed)
    network = bundle.network_of(model_info, f"{key}.architecture")
    if "initial" in model_info:
        initial.apply(network, model_info, f"{key}.initial")
        initial.check_frozen(network, getattr(parameters, "freeze", []), f"{key}.freeze")
    size, device = models.count_parameters(network), data.train.recordings.device
    several = f", {group.size} processes" if group.size > 1 else ""
    print(f"{loop.label(parameters)}{size:,} parameters on {device.type}{several}", flush=True)
    kind = models.module(model_info["architecture"]["name"])
    history, best_epoch = loop.learn(
        kind, network, data.task, data.train, data.validation, parameters, state, group
    )
    return network, history, best_epoch


def save(folder: Path, model: Trained, others: list[Trained], known: Familiarity | None) -> None:
    """Write the bundles of the model and of the other seeds, or none. `known`: the distance to the
    training recordings."""
    with replacing(folder) as beside:
        for number, (network, model_info, history, watched) in enumerate([model, *others]):
            seed = str(model_info["training"]["seed"])
            target = beside / "seeds" / seed if number else beside
            bundle.save(target, network, model_info, history, known, watched)
        sums.seal(beside)  # with the bundles of other seeds


if __name__ == "__main__":
    run_stage(main)
