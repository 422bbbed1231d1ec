"""A bundle that predicts without torch: its ONNX graph, and the pipeline's own way to its input."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import InferenceSession

from beatline.bundle.model_info import (
    DESCRIPTION,
    GRAPH,
    GRAPH_SHA256,
    WEIGHTS_SHA256,
    read_model_info,
    shape_of,
)
from beatline.common.errors import UserError
from beatline.common.files import read_json
from beatline.common.sums import verified
from beatline.export.session import WINDOWS, open_session
from beatline.prediction import tasks
from beatline.prediction.tasks import Task
from beatline.prediction.windows import Windows, aggregated, starts
from beatline.preprocessing.normalization import Normalization

BATCH = 128  # windows in one run of the ONNX graph: bounds memory


@dataclass(frozen=True)
class Outputs:
    """A model's outputs for one recording `[T, C]`, cut into W windows `[L, C]`.

    `values` `[K]`: probabilities, or a score; `by_window` `[W, K]`: what they are the mean or the
    maximum of; `starts`: first samples of the windows; `reconstruction` `[W, L, C]` of an autoencoder,
    normalized.
    """

    values: np.ndarray
    by_window: np.ndarray
    starts: list[int]
    reconstruction: np.ndarray | None


@dataclass(frozen=True)
class Model:
    """`dataset`, `name`: as in data/models/<data set>/<model>. `model_info`: of model.json."""

    dataset: str
    name: str
    model_info: dict[str, Any]
    session: InferenceSession
    normalization: Normalization
    windows: Windows

    @property
    def task(self) -> str:
        return self.model_info["task"]

    @property
    def classes(self) -> list[str]:
        return self.model_info["classes"]

    @property
    def detects(self) -> bool:
        """Whether its answer is an anomaly score."""
        return self._task.learns_normal_only

    @property
    def length(self) -> int:
        """The length of a window, in samples; a recording may not be shorter."""
        return shape_of(self.model_info)[0]

    @property
    def looks_at_whole(self) -> bool:
        """Whether it takes recordings of one length, and no other."""
        return not 0 < self.windows.length <= self.model_info["dataset"]["length"]

    @property
    def identity(self) -> dict[str, Any]:
        """The model as its answers name it."""
        return {
            "dataset": self.dataset,
            "name": self.name,
            "task": self.task,
            "simulated": self.model_info["dataset"]["simulated"],
            "weights": self.model_info[WEIGHTS_SHA256],
            "revision": _git(self.model_info)["revision"],
        }

    @property
    def _task(self) -> Task:
        return tasks.TASKS[self.task]

    def decide(self, values: np.ndarray) -> np.ndarray:
        """0/1 `[N, K]` from probabilities or scores `[N, K]`, as the pipeline decides."""
        return self._task.decide(values, self.model_info["thresholds"])

    def outputs(self, signal: np.ndarray) -> Outputs:
        """Compute the outputs for a normalized recording `[T, C]`."""
        first = starts(len(signal), self.windows)
        windows = np.stack([signal[start : start + self.length] for start in first])
        by_window, reconstruction = self.run(windows)
        return Outputs(aggregated(by_window, self.windows), by_window, first, reconstruction)

    def run(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return predictions `[B, K]` for windows `[B, L, C]`, and an autoencoder's reconstructions
        `[B, L, C]`."""
        batches = [
            self.session.run(None, {WINDOWS: windows[begin : begin + BATCH]})
            for begin in range(0, len(windows), BATCH)
        ]
        predictions, *others = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return predictions, others[0] if others else None


def load(folder: Path) -> Model:
    """The model of a bundle. Raises UserError if it is missing, damaged or has no graph."""
    model_info = read_model_info(folder)
    expected = model_info.get(GRAPH_SHA256)
    if expected is None:
        raise UserError(
            f"{folder} has no {GRAPH}: its network could not be exported when it was trained"
        )
    try:
        content = (folder / GRAPH).read_bytes()
    except OSError as error:
        raise UserError(
            f"{folder / GRAPH} cannot be read ({error.strerror}): run `beatline repair {folder}`"
        ) from None
    # By model.json, not by SHA256SUMS: the folder may be replaced while it is read.
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(
            f"{folder / GRAPH} is not the one of {DESCRIPTION} (another SHA-256): run "
            f"`beatline repair {folder}` or train the model again"
        )
    try:
        session = open_session(content)
    except Exception as error:  # ONNX Runtime's have no common base of their own
        raise UserError(
            f"{folder / GRAPH} cannot be loaded ({type(error).__name__}): train the model again"
        ) from None
    return Model(
        dataset=folder.parent.name,
        name=folder.name,
        model_info=model_info,
        session=session,
        normalization=Normalization(**model_info["normalization"]),
        windows=Windows(**model_info["windows"]),
    )


def summary(model: Model, estimates: Path) -> dict[str, Any]:
    """Return a model's entry in the list of models. Its metrics are read from the file `estimates` if
    they belong to these weights, and are None otherwise."""
    model_info = model.model_info
    dataset, identity = model_info["dataset"], model_info["identity"]
    representation = dataset["representation"]
    sound = None
    if representation is not None and representation["kind"] == "sound":
        sound = {"sampling_rate": representation["sampling_rate"]}
    git = _git(model_info)
    return {
        "dataset": model.dataset,
        "name": model.name,
        "available": True,
        "task": model.task,
        "classes": model.classes,
        "title": dataset["title"],
        "simulated": dataset["simulated"],
        "citation": dataset["citation"],
        "input": {
            "shape": [dataset["length"], len(dataset["channels"])],
            "shortest": model.length,
            "whole": model.looks_at_whole,
            "channels": dataset["channels"],
            "sampling_rate": dataset["sampling_rate"],
            "unit": dataset["unit"],
            "drawing": dataset["drawing"],
            "sound": sound,
        },
        "thresholds": thresholds(model),
        "metrics": _metrics(estimates, model_info[WEIGHTS_SHA256]),
        "parameters": model_info["parameters"],
        "identity": {
            "revision": git["revision"],
            "clean": git["clean"],
            "data": identity["data"],
            "code": identity["code"],
            "weights": model_info[WEIGHTS_SHA256],
        },
    }


def thresholds(model: Model) -> dict[str, float] | None:
    """Return the threshold of each class; None if the most probable class is decided."""
    values = model.model_info["thresholds"]
    return dict(zip(model.classes, values, strict=True)) if values else None


def _metrics(path: Path, weights: str) -> dict[str, Any] | None:
    """Return the overall metrics of these weights from evaluate, each with its interval."""
    try:
        estimates = read_json(verified(path))
        return estimates["overall"] if estimates["identity"]["model"] == weights else None
    except (UserError, KeyError, TypeError):
        return None


def _git(model_info: dict[str, Any]) -> dict[str, Any]:
    return model_info["identity"].get("git") or {"revision": None, "clean": False}
