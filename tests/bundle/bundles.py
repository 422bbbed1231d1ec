"""Bundles for tests: small networks with descriptions that promise what a trained model's do."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from beatline import bundle, models
from beatline.prediction.familiarity import Familiarity, features
from beatline.prediction.reference import Reference
from beatline.preprocessing import normalization
from tests.parameters import ARCHITECTURES

LENGTH, CHANNELS = 23, ["I", "II", "V1"]
DETECTORS = ("reconstruction", "neighbours")


def raw_recordings(records: int = 9) -> np.ndarray:
    """`[N, T, 3]` with channels of very different offset and scale, and invalid samples."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((records, LENGTH, 3)) * [0.1, 1e3, 1] + [0.7, 1e5, 0]
    values[0, 3, 1] = np.nan
    return values.astype(np.float32)


DATASET = {
    "title": "12-lead ECGs",
    "source": "beatline/simulators/ecg",
    "citation": "Somebody et al. 2020",
    "simulated": True,
    "channels": CHANNELS,
    "sampling_rate": 100,
    "unit": "mV",
    "drawing": "trace",
    "length": LENGTH,
    "sections": None,
    "representation": None,
    "typical": {"rms": [0.1, 10.0]},
}
WINDOW = {"length": 10, "stride": 5, "aggregate": "mean"}


def made(
    model: str = "cnn", task: str = "multilabel", **changes: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """A network whose batch statistics are not those of the start, and its description."""
    classes = ["anomaly"] if task in (*DETECTORS, "binary") else ["NORM", "MI", "CD"]
    how = normalization.Normalize(recordings="x", per="channel", invalid="mean")
    fitted = normalization.fit([raw_recordings()], how)
    description = {
        "architecture": {"name": model, "parameters": ARCHITECTURES[model]},
        "task": task,
        "classes": classes,
        "sections": ["a", "b"] if task == "neighbours" else [],
        "thresholds": [] if task == "multiclass" else [1 / 3] * len(classes),
        "windows": WINDOW,
        "normalization": fitted.as_dict(),
        "dataset": copy.deepcopy(DATASET),
        "training": {"seed": 1},
        "best_epoch": 1,
        "identity": {"data": "0", "code": "1", "environment": {}},
        **changes,
    }
    torch.manual_seed(1)
    network = bundle.network_of(description, "x")
    length = bundle.shape_of(description)[0]
    windows = torch.from_numpy(fitted.apply(raw_recordings())[:, :length])
    network.train()(windows)
    if models.needs_memory_bank(network):
        assert isinstance(network, models.WithMemoryBank)
        with torch.inference_mode():
            network.eval()
            network.build_memory_bank([windows])
    return network, description


def familiarity(model_info: dict[str, Any], threshold: float = 1.0) -> Familiarity:
    """The distance to recordings at the mean of each channel, which no other ones are near."""
    size = len(features(np.zeros((LENGTH, len(CHANNELS))), model_info["dataset"]))
    mean, whitening = np.zeros(size, np.float32), np.eye(size, dtype=np.float32)
    return Familiarity(mean, whitening, threshold)


def reference(model_info: dict[str, Any], records: int = 5) -> Reference:
    """Some records of no particular kind to watch a model by."""
    size, classes = len(familiarity(model_info).mean), len(model_info["classes"])
    embeddings = np.random.default_rng(0).standard_normal((records, size)).astype(np.float32)
    scores = np.linspace(0, 1, records * classes, dtype=np.float32).reshape(records, classes)
    return Reference(embeddings, scores, np.full(classes, 2), records, 0)


HISTORY = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.5, 0.25]})
