"""A bundle that predicts without torch: its ONNX graph, and the pipeline's own way to its input."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from onnxruntime import InferenceSession

from beatline.bundle.model_info import (
    CURE,
    DESCRIPTION,
    GRAPH,
    GRAPH_SHA256,
    MOST_VALUES,
    WEIGHTS_SHA256,
    read_familiarity,
    read_model_info,
    shape_of,
)
from beatline.common.errors import UserError
from beatline.common.files import read_json
from beatline.common.params import validated
from beatline.common.sums import verified
from beatline.export import limits
from beatline.export.limits import BeyondLimits, Needs
from beatline.export.session import WINDOWS, open_session
from beatline.features import sound
from beatline.prediction import tasks
from beatline.prediction.familiarity import Familiarity
from beatline.prediction.tasks import Task, measures
from beatline.prediction.windows import Windows, aggregated, starts
from beatline.preprocessing.normalization import Normalization
from beatline.serving.problems import Problem, unavailable
from beatline.tracking.copies import read_version

AT_A_TIME = 500_000  # values that are normalized
BATCH = 32  # windows in a run, at most: more are hardly faster, and their memory is kept
MEASURED = 16  # windows of a run whose time is taken
Check = Callable[[], None]
"""Is called between the parts of an answer, and raises an exception once nobody waits for it."""


def go_on() -> None:
    """Stop nothing: the check of an answer that takes less than to ask whether it should end."""


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
class Cost:
    """Measured seconds of the ONNX graph: `run`, of a run whatever it is given, and `window`, of each
    window in it."""

    run: float
    window: float

    def seconds(self, runs: int, windows: int) -> float:
        return self.run * runs + self.window * windows


@dataclass(frozen=True)
class Model:
    """`dataset`, `name`: as in data/models/<data set>/<model>. `model_info`: of model.json. `needs`: of
    its ONNX graph, whose `cost` is measured when it is loaded. `familiarity`: tells
    which recordings are far from those of the training; bundles of older versions have none.
    `registered`: version and alias of a model from the registry, None of one from this project."""

    dataset: str
    name: str
    model_info: dict[str, Any]
    session: InferenceSession
    normalization: Normalization
    windows: Windows
    needs: Needs
    cost: Cost
    familiarity: Familiarity | None = None
    registered: dict[str, str] | None = None

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
    def measures(self) -> Literal["error", "distance"] | None:
        """What its anomaly score is (:func:`beatline.prediction.tasks.measures`)."""
        return measures(self.model_info)

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
            "registered": self.registered,
        }

    def same_as(self, other: Model) -> bool:
        """Whether both are one bundle: model.json has the sums of all its files."""
        return (self.model_info, self.registered) == (other.model_info, other.registered)

    @property
    def _task(self) -> Task:
        return tasks.TASKS[self.task]

    def decide(self, values: np.ndarray) -> np.ndarray:
        """0/1 `[N, K]` from probabilities or scores `[N, K]`, as the pipeline decides."""
        return self._task.decide(values, self.model_info["thresholds"])

    def normalized(self, samples: np.ndarray) -> np.ndarray:
        """Return a recording `[T, C]` as the network sees it, float32. Part by part: the normalization
        computes in float64, which takes twelve times the memory of what it returns."""
        result, steps = np.empty(samples.shape, np.float32), max(AT_A_TIME // samples.shape[1], 1)
        for begin in range(0, len(samples), steps):
            part = slice(begin, begin + steps)
            result[part] = self.normalization.apply(samples[part])
        return result

    def outputs(self, signal: np.ndarray, check: Check = go_on) -> Outputs:
        """Compute the outputs for a normalized recording `[T, C]`; `check`: see :meth:`run`."""
        first, batch = starts(len(signal), self.windows), self.needs.batch
        parts = [  # a batch at a time: windows that overlap hold a recording many times over
            self.run(
                np.stack([signal[start : start + self.length] for start in first[begin:][:batch]]),
                check,
            )
            for begin in range(0, len(first), batch)
        ]
        by_window = np.concatenate([predictions for predictions, _ in parts])
        copies = [copy for _, copy in parts if copy is not None]
        reconstruction = np.concatenate(copies) if copies else None
        return Outputs(aggregated(by_window, self.windows), by_window, first, reconstruction)

    def runs(self, windows: int) -> int:
        """Return in how many runs of the ONNX graph :meth:`run` predicts so many windows."""
        return -(-windows // self.needs.batch)

    def run(
        self, windows: np.ndarray, check: Check = go_on
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return predictions `[B, K]` for windows `[B, L, C]`, and the reconstructions `[B, L, C]` of an
        autoencoder that is scored by their error.

        `check` is called before each run of the ONNX graph, and may raise to stop. Raises Problem if the
        graph fails, or gives what is no number.
        """
        batch, batches = self.needs.batch, []
        for begin in range(0, len(windows), batch):
            check()
            try:
                batches.append(self.session.run(None, {WINDOWS: windows[begin : begin + batch]}))
            except Exception as error:  # ONNX Runtime's have no common base of their own
                raise self._fails(f"its {GRAPH} fails ({type(error).__name__})") from None
        predictions, *others = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        if not all(np.isfinite(part).all() for part in (predictions, *others)):
            raise self._fails("what it gives for this recording is no number")
        # What is scored by a distance explains nothing by the error of its reconstruction.
        return predictions, others[0] if others and self.measures == "error" else None

    def _fails(self, reason: str) -> Problem:
        return unavailable(
            f"{self.dataset}/{self.name} cannot answer: {reason}; check the recording's unit, or train "
            f"the model again"
        )


def load(folder: Path) -> Model:
    """The model of a bundle. Raises UserError if it is missing, damaged or has no graph."""
    model_info = read_model_info(folder)
    expected = model_info.get(GRAPH_SHA256)
    if expected is None:
        raise UserError(
            f"{folder} has no {GRAPH}: its network could not be exported when it was trained"
        )
    _check_representation(model_info, folder / DESCRIPTION)
    try:
        with (folder / GRAPH).open("rb") as file:
            content = file.read(limits.LARGEST + 1)
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
    task, classes = tasks.TASKS[model_info["task"]], model_info["classes"]
    shape, reconstructs = shape_of(model_info), task.name == "reconstruction"
    try:
        needs = limits.check(content, shape, len(classes), reconstructs=reconstructs)
        session = open_session(content)
    except BeyondLimits as error:
        raise _not_loaded(folder, str(error)) from None
    except Exception as error:  # ONNX Runtime's have no common base of their own
        raise _not_loaded(folder, type(error).__name__) from None
    model = Model(
        dataset=folder.parent.name,
        name=folder.name,
        model_info=model_info,
        session=session,
        normalization=Normalization(**model_info["normalization"]),
        windows=Windows(**model_info["windows"]),
        needs=replace(needs, batch=min(needs.batch, BATCH)),
        cost=Cost(0, 0),
        familiarity=read_familiarity(folder, model_info),
        registered=read_version(folder),
    )
    try:
        return replace(model, cost=_measured(model, shape))
    except Problem as problem:
        raise _not_loaded(folder, problem.detail) from None


def _measured(model: Model, shape: tuple[int, int]) -> Cost:
    """Return the cost of a model: the best of three runs of one window, and of more at once."""
    several = min(MEASURED, model.needs.batch)
    windows = model.normalization.apply(np.full((several, *shape), np.nan))

    def best(count: int) -> float:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            model.run(windows[:count])
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    alone = best(1)
    together = best(several) if several > 1 else alone
    window = (together - alone) / (several - 1) if together > alone else together / several
    return Cost(run=max(alone - window, 0), window=window)


def _not_loaded(folder: Path, reason: str) -> UserError:
    return UserError(f"{folder / GRAPH} cannot be loaded ({reason}): train the model again")


def _check_representation(model_info: dict[str, Any], path: Path) -> None:
    """Raise UserError unless sound can be represented as a data set says its recordings are."""
    dataset, key = model_info["dataset"], "dataset.representation"
    if dataset["representation"] is None:
        return
    kind, settings = dataset["representation"].get("kind"), {**dataset["representation"]}
    settings.pop("kind", None)
    try:
        parameters = validated(settings, key, sound.ExtractFeatures, path)
        rate, bands = parameters.sampling_rate, len(dataset["channels"])
        if kind != "sound" or rate is None or not dataset["sampling_rate"]:
            raise UserError(f"{path}: {key} must be of the kind sound, with a sampling rate")
        if parameters.bands != bands or parameters.frame * bands > MOST_VALUES:
            raise UserError(f"{path}: {key}.bands must be the {bands} channels, in frames that fit")
        next(sound.extract([np.zeros(parameters.frame)], rate, parameters))
    except UserError as error:
        raise UserError(f"{error}; {CURE}") from None


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
        "measures": model.measures,
        "classes": model.classes,
        "title": dataset["title"],
        "simulated": dataset["simulated"],
        "citation": dataset.get("citation"),
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
        "far_from": _far_from(model),
        "metrics": _metrics(estimates, model_info[WEIGHTS_SHA256]),
        "parameters": model_info.get("parameters"),
        "identity": {
            "revision": git["revision"],
            "clean": git["clean"],
            "data": identity["data"],
            "code": identity["code"],
            "weights": model_info[WEIGHTS_SHA256],
        },
        "registered": model.registered,
    }


def thresholds(model: Model) -> dict[str, float] | None:
    """Return the threshold of each class; None if the most probable class is decided."""
    values = model.model_info["thresholds"]
    return dict(zip(model.classes, values, strict=True)) if values else None


def _far_from(model: Model) -> float | None:
    """Return the distance from which on recordings are told to be far from those of the training; None
    if the model tells none."""
    known = model.familiarity
    return known.threshold if known and math.isfinite(known.threshold) else None


def _metrics(path: Path, weights: str) -> dict[str, Any] | None:
    """Return the overall metrics of these weights from evaluate, each with its interval."""
    try:
        estimates = read_json(verified(path))
        return estimates["overall"] if estimates["identity"]["model"] == weights else None
    except (UserError, KeyError, TypeError):
        return None


def _git(model_info: dict[str, Any]) -> dict[str, Any]:
    return model_info["identity"].get("git") or {"revision": None, "clean": False}
