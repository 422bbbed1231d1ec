"""Code shared by the tests of both anomaly detectors: toy spectrograms, a real bearing, and the
project's training and scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from beatline import models
from beatline.metrics import roc_auc
from beatline.models import Examples
from beatline.prediction import inference, tasks
from beatline.prediction.device_data import Recordings
from beatline.training import loop
from beatline.training.parameters import Train
from tests.pipeline.clones import ROOT

BEARING = ROOT.parent / "shared/data/bearing_vibration"
needs_bearing = pytest.mark.skipif(not BEARING.exists(), reason="the real recordings are not here")
TRAIN: dict[str, Any] = {
    "windows": {"length": 16, "stride": 8},
    "optimizer": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.0},
    "schedule": {"name": "one_cycle", "patience": 1},
    "batch_size": 16,
    "monitor": "epoch",
    "gradient_clip": 1.0,
    "threshold_percentile": 95,
    "precision": "float32",
    "seed": 1,
}


@dataclass(frozen=True)
class Found:
    """Anomaly scores of test recordings by a trained network."""

    network: Any
    normal: np.ndarray
    anomalous: np.ndarray

    def auc(self) -> float:
        labels = np.repeat([0, 1], [len(self.normal), len(self.anomalous)])
        scores = np.concatenate([self.normal, self.anomalous])
        return float(roc_auc(labels[:, None], scores[:, None])[0])


def create(name: str, architecture: dict[str, Any], shape: models.Shape, outputs: int) -> Any:
    schema = models.module(name).Architecture
    return models.create(
        models.module(name), schema.model_validate(architecture), shape, outputs, "train.x"
    )


def toys(sections: int, records: int, seed: int, *, anomalous: bool = False) -> np.ndarray:
    """Spectrograms `[sections * records, 24, 16]` section by section: each has its own pattern, whose
    level varies; in anomalies its lower half is upside down."""
    patterns = np.random.default_rng(1).standard_normal((sections, 16))
    rng = np.random.default_rng(seed)
    if anomalous:
        patterns[:, :8] = patterns[:, 7::-1].copy()
    levels = rng.uniform(0.7, 1.3, (sections, records, 1, 1))
    signals = levels * patterns[:, None, None] + 0.4 * rng.standard_normal(
        (sections, records, 24, 16)
    )
    return signals.reshape(-1, 24, 16).astype(np.float32)


def trained_on_toys(
    name: str, architecture: dict[str, Any], epochs: int, sections: int = 2
) -> Found:
    return trained(
        name,
        architecture,
        toys(sections, 24, seed=2),
        np.repeat(np.eye(sections, dtype=np.int8), 24, axis=0),
        toys(sections, 20, seed=3),
        toys(sections, 20, seed=4, anomalous=True),
        epochs=epochs,
    )


def trained_on_bearing(name: str, architecture: dict[str, Any], epochs: int) -> Found:
    """Eight of the ten clips for training are learned; the test clips are scored."""
    spectrograms = {
        kind: spectrograms_of(pattern)
        for kind, pattern in (
            ("train", "normal/*.wav"),
            ("normal", "test/normal*.wav"),
            ("anomalous", "test/anomaly*.wav"),
        )
    }
    learned = spectrograms["train"][:8]
    centre, spread = learned.mean(axis=(0, 1)), learned.std(axis=(0, 1))
    normalized = {kind: (values - centre) / spread for kind, values in spectrograms.items()}
    return trained(
        name,
        architecture,
        normalized["train"][:8],
        np.ones((8, 1), np.int8),
        normalized["normal"],
        normalized["anomalous"],
        epochs=epochs,
        batch_size=8,
    )


def trained(
    name: str,
    architecture: dict[str, Any],
    learned: np.ndarray,
    sections: np.ndarray,
    normal: np.ndarray,
    anomalous: np.ndarray,
    **changes: Any,
) -> Found:
    """Trained by the project's loop on `learned` `[N, T, C]`, which also stand in for validation."""
    parameters = Train.model_validate({**TRAIN, **changes})
    module = models.module(name)
    task = tasks.for_dataset(module.LEARNS, "anomaly")
    assert task
    is_sectioned = module.LEARNS == "sections"
    length = min(parameters.windows.length, learned.shape[1])
    torch.manual_seed(parameters.seed)
    outputs = sections.shape[1] if is_sectioned else 1
    network = create(name, architecture, (length, learned.shape[2]), outputs)
    nobody = np.zeros((len(learned), 1), np.int8)
    loop.fit(
        network,
        task,
        Examples(_recordings(learned), sections if is_sectioned else nobody),
        Examples(_recordings(learned), nobody),
        parameters,
    )
    scores = [
        inference.predict(network, task, _recordings(signals), parameters.windows)[:, 0]
        for signals in (normal, anomalous)
    ]
    return Found(network, *scores)


def _recordings(signals: np.ndarray) -> Recordings:
    return Recordings(signals.astype(np.float32), np.arange(len(signals)), torch.device("cpu"))


def spectrograms_of(pattern: str) -> np.ndarray:
    """The spectrograms `[N, T, 128]` of the bearing's clips that `pattern` names: the mean power in dB
    of every four of 512 frequencies."""
    samples = [wavfile.read(path)[1] for path in sorted(BEARING.glob(pattern))]
    clips = torch.from_numpy(np.stack(samples).astype(np.float32))
    window = torch.hann_window(1024)
    power = torch.stft(clips, 1024, 512, window=window, return_complex=True).abs().square()
    bands = power[:, 1:].unflatten(1, (128, 4)).mean(dim=2)
    return (10 * bands.log10()).transpose(1, 2).numpy()
