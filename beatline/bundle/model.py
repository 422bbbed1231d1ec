"""A loaded model, and how it is saved and loaded."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from safetensors import torch as safetensors
from torch import nn

from beatline import models
from beatline.bundle.combined import Combined
from beatline.bundle.model_info import (
    DESCRIPTION,
    FAMILIARITY,
    FAMILIARITY_SHA256,
    FORMAT,
    GRAPH,
    GRAPH_SHA256,
    HISTORY,
    REFERENCE,
    REFERENCE_SHA256,
    SEEDS,
    WEIGHTS,
    WEIGHTS_SHA256,
    batches,
    read_familiarity,
    read_model_info,
    shape_of,
)
from beatline.common.errors import UserError, warn
from beatline.common.files import replacing, write_csv, write_json
from beatline.common.params import validated
from beatline.common.sums import listed, seal, verified
from beatline.export import onnx_graph
from beatline.export.onnx_graph import NotExported
from beatline.prediction import devices, inference, losses, tasks
from beatline.prediction.device_data import Recordings
from beatline.prediction.familiarity import Familiarity
from beatline.prediction.reference import Reference
from beatline.prediction.windows import Windows, averaged, starts
from beatline.preprocessing.arrays import Signals
from beatline.preprocessing.normalization import Normalization


@dataclass(frozen=True)
class Answers:
    """`values` `[N, K]`: probabilities per class, or an anomaly score. `decisions` `[N, K]`: 0/1 at
    the thresholds that were chosen on validation data (the most probable class, if exclusive)."""

    classes: list[str]
    values: np.ndarray
    decisions: np.ndarray


@dataclass(frozen=True)
class Bundle:
    """A loaded model. `description` is the content of model.json; `familiarity` tells which recordings
    are far from those of the training, None of bundles of older versions."""

    network: nn.Module
    description: dict[str, Any]
    familiarity: Familiarity | None = None

    @property
    def task(self) -> tasks.Task:
        return tasks.TASKS[self.description["task"]]

    @property
    def classes(self) -> list[str]:
        return self.description["classes"]

    def predict(self, recordings: ArrayLike | Sequence[ArrayLike]) -> Answers:
        """Return predictions for raw recordings `[N, T, C]`, in the unit, the channel order and at the
        sampling rate of the data set (`description["dataset"]`); NaN marks an invalid sample.

        One recording `[T, C]` gives one row; recordings in a list may differ in length; a table may come
        as `[N, C]`. Files in whatever form are read by :mod:`beatline.serving.predictor`.

        Raises UserError if the shape does not fit: other channels, no recordings, fewer samples
        than the window that the model looks at, or more if it looks at whole recordings of one length.
        """
        parts = [self._predict(array) for array in batches(recordings, self.description)]
        if len(parts) == 1:
            return parts[0]
        values, decisions = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("values", "decisions")
        )
        return Answers(self.classes, values, decisions)

    def _predict(self, recordings: np.ndarray) -> Answers:
        channels = self.description["dataset"]["channels"]
        shortest, _ = shape_of(self.description)
        shape = list(recordings.shape)
        if len(shape) != 3 or not shape[0] or shape[1] < shortest or shape[2] != len(channels):
            raise UserError(
                f"recordings of shape {shape} do not fit: this model takes [N, T, C] with T at least "
                f"{shortest} and the {len(channels)} channels {', '.join(channels)}"
            )
        window = self.windows.length
        if shape[1] > shortest and not 0 < window < shape[1] and not self._fits(shape[1]):
            raise UserError(
                f"recordings of {shape[1]} samples do not fit: this model looks at whole recordings of "
                f"{shortest}"
            )
        return self.answer(self.normalization.apply(recordings))

    def _fits(self, samples: int) -> bool:
        try:
            models.look_at(
                self.network.cpu(), (samples, len(self.description["dataset"]["channels"]))
            )
        except (RuntimeError, ValueError):
            return False
        return True

    def answer(self, signals: Signals | np.ndarray) -> Answers:
        """Return predictions for recordings `[N, T, C]` that are normalized already."""
        device = devices.choose()
        recordings = Recordings(signals, np.arange(len(signals)), device)
        network = self.network.to(device)
        values = inference.predict(network, self.task, recordings, self.windows)
        return Answers(
            self.classes, values, self.task.decide(values, self.description["thresholds"])
        )

    @torch.inference_mode()
    def reconstruct(self, signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return an autoencoder's reconstruction of normalized recordings `[N, T, C]`, and its squared
        error, of the same shape.

        Window by window, as it is scored; where windows overlap, their mean; NaN between windows that
        leave gaps, where nothing was reconstructed.
        """
        network, windows = self.network.cpu(), self.windows
        samples = signals.shape[1]
        length = windows.steps(samples)
        first = starts(samples, windows)
        parts = [signals[:, start : start + length] for start in first]
        outputs = [network(torch.from_numpy(part)) for part in parts]
        copies = [losses.reconstruction(each).numpy() for each in outputs]
        errors = [(copy - part) ** 2 for copy, part in zip(copies, parts, strict=True)]
        return averaged(copies, first, samples), averaged(errors, first, samples)

    def uncalibrated(self) -> Bundle | None:
        """The same model as if its temperature were 1; None if it has none."""
        if not (isinstance(self.network, Combined) and self.network.calibrated):
            return None
        network = copy.deepcopy(self.network)
        network.temperature.fill_(1)
        return replace(self, network=network)

    @property
    def windows(self) -> Windows:
        return Windows(**self.description["windows"])

    @property
    def normalization(self) -> Normalization:
        return Normalization(**self.description["normalization"])


def save(
    folder: Path,
    network: nn.Module,
    model_info: dict[str, Any],
    history: pd.DataFrame,
    known: Familiarity | None = None,
    reference: Reference | None = None,
) -> None:
    """Write a bundle. `model_info` needs what :data:`beatline.bundle.model_info.PROMISED` names;
    `known`: the distance to its training recordings, if it is to tell which are far; `reference`: the
    validation records that it is to be watched by.

    A network that cannot be exported gets no ONNX graph and a warning: it works, but cannot be served.
    """
    weights = _weights(network)
    sums: dict[str, str | None] = {WEIGHTS_SHA256: hashlib.sha256(weights).hexdigest()}
    graph = _graph(network, model_info)
    sums[GRAPH_SHA256] = hashlib.sha256(graph).hexdigest() if graph else None
    distance = known.to_bytes() if known else None
    sums[FAMILIARITY_SHA256] = hashlib.sha256(distance).hexdigest() if distance else None
    watched = reference.to_bytes() if reference else None
    sums[REFERENCE_SHA256] = hashlib.sha256(watched).hexdigest() if watched else None
    with replacing(folder) as beside:
        beside.mkdir()
        # As bytes: save_file would not report a full disk as an OSError.
        (beside / WEIGHTS).write_bytes(weights)
        if graph:
            (beside / GRAPH).write_bytes(graph)
        if distance:
            (beside / FAMILIARITY).write_bytes(distance)
        if watched:
            (beside / REFERENCE).write_bytes(watched)
        # Seventeen digits tell any two numbers apart: the normalization must come back as it was.
        content = {"format": FORMAT, **model_info, **sums}
        write_json(beside / DESCRIPTION, content, digits=17)
        write_csv(beside / HISTORY, history)
        seal(beside)


def _weights(network: nn.Module) -> bytes:
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    return safetensors.save(state)


def weights_sha256(network: nn.Module) -> str:
    """The SHA-256 of the weights as :func:`save` writes them."""
    return hashlib.sha256(_weights(network)).hexdigest()


def _graph(network: nn.Module, model_info: dict[str, Any]) -> bytes | None:
    task = tasks.TASKS[model_info["task"]]
    try:
        return onnx_graph.export(network, task, shape_of(model_info))
    except NotExported as error:
        warn(f"this model has no graph and cannot be served ({error})")
        return None


def load(folder: Path | str) -> Bundle:
    """The bundle in a folder. Raises UserError if it is missing or damaged."""
    folder = Path(folder)
    model_info = read_model_info(folder)
    network = network_of(model_info, str(folder / DESCRIPTION))
    weights = verified(folder / WEIGHTS)
    if model_info.get(WEIGHTS_SHA256) != listed(folder)[WEIGHTS]:
        raise UserError(
            f"{weights} is not the one of {DESCRIPTION} (another SHA-256): train the model again"
        )
    try:
        network.load_state_dict(safetensors.load_file(weights))
    except Exception as error:
        raise UserError(
            f"{weights} does not fit {DESCRIPTION} ({type(error).__name__}): train the model again"
        ) from None
    return Bundle(network.eval(), model_info, read_familiarity(folder, model_info))


def other_seeds(folder: Path) -> list[Path]:
    """The folders of the bundles that a bundle holds, in the order of their seeds: of the seeds that it
    does not predict with, or of those whose mean it is."""
    folders = (folder / SEEDS).glob("[0-9]*")
    return sorted(folders, key=lambda path: int(path.name))


def network_of(model_info: dict[str, Any], where: str) -> nn.Module:
    """Return the untrained network that `model_info` describes. `where` that is, for errors.

    Raises UserError if there is no such architecture or it does not fit the data set's recordings.
    """
    name = model_info["architecture"]["name"]
    try:
        kind = models.module(name)
    except ModuleNotFoundError:
        raise UserError(
            f"{where}: there is no architecture {name!r}: train the model again"
        ) from None
    parameters = model_info["architecture"]["parameters"]
    architecture = validated(parameters, "architecture.parameters", kind.Architecture, Path(where))
    classes = model_info["classes"]
    outputs = len(model_info["sections"] or classes)
    members, calibrated = len(model_info.get("members") or [0]), bool(model_info.get("temperature"))
    networks = [
        models.create(kind, architecture, shape_of(model_info), outputs, where)
        for _ in range(members)
    ]
    if members == 1 and not calibrated:
        return networks[0]
    task = tasks.TASKS[model_info["task"]]
    return Combined(networks, task, len(classes), calibrated=calibrated)
