"""A small params.yaml of the tests' own, so that no test depends on the values of the one in use."""

from __future__ import annotations

import copy
from typing import Any

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "autoencoder": {"dimensions": 1, "filters": [4, 3], "kernel": 5},
    "boosted_trees": {"iterations": 3, "leaves": 4},
    "cnn": {
        "dimensions": 1,
        "blocks": "residual",
        "stem_kernel": 3,
        "filters": [4, 5],
        "kernels": [5, 3],
        "strides": [1, 2],
        "pooling": "average_max",
        "dropout": 0.5,
    },
    "cnn_lstm": {
        "filters": [4],
        "kernels": [5],
        "pool": 2,
        "hidden": 3,
        "pooling": "average_max_last",
        "dense": 3,
        "dropout": 0.5,
    },
    "embedding": {
        "filters": [3, 4],
        "kernel": 3,
        "embedding": 5,
        "scale": 10.0,
        "neighbours": 2,
        "versions": {
            "shift": 1,
            "tilt": 1.0,
            "boost": 1.0,
            "regions": 2,
            "stretch": 1.5,
            "smooth": 3,
            "reverse": True,
        },
    },
    "logistic_regression": {},
    "lstm": {
        "hidden": 5,
        "layers": 2,
        "bidirectional": True,
        "frame": 2,
        "pooling": "average_max_last",
        "dropout": 0.5,
    },
    "mahalanobis": {},
    "mlp": {"dense": [6], "batch_norm": True, "dropout": 0.5},
    "rocket": {"features": 168},
    "s4": {"width": 4, "state": 4, "layers": 2, "dropout": 0.5},
}
TRAINING: dict[str, Any] = {
    "schedule": {"name": "constant", "patience": 1},
    "threshold_percentile": 95,
    "precision": "float32",
    "seed": 1,
}
TRAIN: dict[str, Any] = {
    "optimizer": {"name": "adamw", "learning_rate": 0.02, "weight_decay": 0.0},
    "epochs": 4,
    "batch_size": 16,
    "monitor": "loss",
}
SOUND: dict[str, Any] = {
    "module": "sound",
    "kind": "sound",
    "channel": "mean",
    "sampling_rate": None,
    "frame": 512,
    "hop": 256,
    "bands": 20,
    "lowest_frequency": 0.0,
    "highest_frequency": None,
    "top_db": 80.0,
    "contrast_bands": 2,
}
_SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15, "seed": 1}
_PTBXL = {
    "module": "ptbxl",
    "download": {
        "source": "beatline/simulators/ecg",
        "sampling_rate": 100,
        "sha256": None,
        "simulated": {"records": 80, "seed": 1},
    },
    "aggregate_labels": {
        "classes": ["NORM", "MI", "STTC"],
        "min_likelihood": 0,
        "min_records": 3,
        "unlabelled": "drop",
        "max_bad_records": 20,
    },
    "split": {"method": "stratified", "by": "patient", **_SHARES},
    "normalize": {"recordings": "data/raw/ptbxl.zip", "per": "channel", "invalid": "mean"},
}
_ECG5000 = {
    "module": "ucr",
    "download": {
        "source": "beatline/datasets/ucr/package.yaml",
        "name": "ECG5000",
        "sha256": None,
    },
    "aggregate_labels": {"target": "anomaly", "normal_class": "1", "min_records": 3},
    "split": {"method": "stratified", "by": "record", **_SHARES},
    "normalize": {"recordings": "data/raw/ecg5000.zip", "per": "channel", "invalid": "mean"},
}
_MACHINE_SOUND = {
    "module": "sound",
    "download": {
        "source": "beatline/simulators/machines",
        "sha256": None,
        "simulated": {
            "machines": 2,
            "train": 12,
            "test_normal": 6,
            "test_anomaly": 6,
            "seconds": 0.5,
            "sampling_rate": 8000,
            "snr": [6.0],
            "seed": 1,
        },
        "mimii": {"machine": "fan", "snr": 6},
    },
    "aggregate_labels": {"min_records": 3, "max_bad_records": 20},
    "split": {"method": "official", "by": "record", **_SHARES},
    "normalize": {
        "recordings": "data/features/machine_sound",
        "per": "channel",
        "invalid": "mean",
    },
}
_CONTENT: dict[str, Any] = {
    "datasets": {"ptbxl": _PTBXL, "ecg5000": _ECG5000, "machine_sound": _MACHINE_SOUND},
    "extract_features": {"machine_sound": SOUND},
    "training": TRAINING,
    "train": {
        model: {"ecg5000": {"architecture": ARCHITECTURES[model], **TRAIN}}
        for model in ("cnn", "lstm", "cnn_lstm")
    }
    | {
        "autoencoder": {
            name: {"architecture": ARCHITECTURES["autoencoder"], **TRAIN}
            for name in ("ecg5000", "machine_sound")
        },
        "embedding": {"machine_sound": {"architecture": ARCHITECTURES["embedding"], **TRAIN}},
    },
    "evaluate": {"resamples": 100, "confidence": 0.95, "max_fpr": 0.1, "seed": 1},
    "report": {"mistakes": 6},
    "compare": {
        "resamples": 200,
        "confidence": 0.95,
        "seed": 1,
        "metrics": ["auc", "f1", "accuracy"],
        "tolerance": {"auc": 0.005},
    },
    "serve": {
        "features": "ecg5000/cnn",
        "max_megabytes": 1.0,
        "max_values": 200_000,
        "max_rows": 20,
        "seconds_to_send": 5.0,
        "seconds_to_answer": 20.0,
        "poll_seconds": 0.1,
    },
    "monitoring": {
        "log": None,
        "keep_days": 90.0,
        "max_megabytes": 10.0,
        "retrain": {"records": 20},
    },
}


def content() -> dict[str, Any]:
    """The content of params.yaml: three small data sets, six training runs; to be changed at will."""
    return copy.deepcopy(_CONTENT)
