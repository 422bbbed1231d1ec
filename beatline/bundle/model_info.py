"""The files of a bundle, and the content of its model.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from beatline.common import sums
from beatline.common.errors import UserError, names_there_are
from beatline.common.files import read_json
from beatline.common.params import Parameters, validated
from beatline.prediction import familiarity, reference
from beatline.prediction.familiarity import Familiarity
from beatline.prediction.reference import Reference
from beatline.prediction.tasks import TaskName
from beatline.prediction.windows import Windows

FOLDER = Path("data/models")  # with the bundle of each data set and model: ptbxl/cnn
WEIGHTS, GRAPH = "weights.safetensors", "model.onnx"
FAMILIARITY, REFERENCE = "familiarity.safetensors", "reference.safetensors"
DESCRIPTION, HISTORY = "model.json", "history.csv"
SEEDS = "seeds"
WEIGHTS_SHA256, GRAPH_SHA256 = "weights_sha256", "graph_sha256"  # in model.json
FAMILIARITY_SHA256, REFERENCE_SHA256 = "familiarity_sha256", "reference_sha256"  # there too
FORMAT = 3
MOST_VALUES = 1 << 26  # samples times channels of a recording: sixteen times what the service takes
CURE = "train the model again"  # its bytes are those that were written, so no copy is better


def _of_64_bits(value: Any) -> Any:
    """Refuse integers that NumPy has no number for."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError("must be a number of 64 bits")
    return value


Text = Annotated[str, Field(max_length=10_000)]
Names = Annotated[list[Annotated[str, Field(max_length=1_000)]], Field(max_length=10_000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]  # as JavaScript counts
# Of squares and quotients of which float64 has numbers too.
Number = Annotated[float, Field(ge=-1e150, le=1e150), BeforeValidator(_of_64_bits)]
Deviation = Annotated[Number, Field(ge=1e-150)]
Rate = Annotated[Number, Field(ge=1e-9, le=1e9)]


class _Part(Parameters):
    """A part of model.json, which may hold more than is checked here."""

    model_config = ConfigDict(extra="ignore")


class _Architecture(_Part):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=100)]
    parameters: dict[str, Any]


class _Typical(_Part):
    rms: tuple[Annotated[Number, Field(ge=0)], Annotated[Number, Field(ge=0)]] = Field(strict=False)


class _Dataset(_Part):
    title: Text
    source: Text
    citation: Text | None = None  # nor did they name whom to cite
    simulated: bool
    channels: Annotated[Names, Field(min_length=1)]
    length: Annotated[int, Field(ge=1, le=MOST_VALUES)]
    sampling_rate: Rate | None
    unit: Text
    drawing: Literal["twelve_leads", "trace", "features", "image", "spectrogram"]
    sections: Text | None = None  # data sets had none at first
    representation: dict[str, Any] | None
    typical: _Typical | None

    @field_validator("length")
    @classmethod
    def _is_not_too_long(cls, length: int, info: ValidationInfo) -> int:
        if length * len(info.data.get("channels", ())) > MOST_VALUES:
            raise ValueError(f"times its channels is more than {MOST_VALUES:,} values")
        return length

    @field_validator("representation")
    @classmethod
    def _fits_drawing(cls, value: dict[str, Any] | None, info: ValidationInfo) -> Any:
        if (value is None) == (info.data.get("drawing") == "spectrogram"):
            raise ValueError(
                "and drawing do not belong together: a spectrogram has one, and no other"
            )
        return value


class _Normalization(Parameters):
    mean: list[Number]
    standard_deviation: list[Deviation]
    fill: list[Number]
    constant_channels: list[Count]


class _Windows(Parameters):
    """:class:`beatline.prediction.windows.Windows`, whose length is said."""

    length: Annotated[int, Field(ge=0, le=MOST_VALUES)]
    stride: Annotated[int, Field(ge=1, le=MOST_VALUES)] | None = None
    aggregate: Literal["mean", "max"] = "mean"


class _Training(_Part):
    seed: Count


class _Git(_Part):
    revision: Annotated[str, Field(max_length=100)] | None
    clean: bool
    changed: Names = Field(default_factory=list)


class _Identity(_Part):
    git: _Git | None = None
    data: Text
    code: Text
    environment: dict[str, Any]
    pipeline: dict[str, Any] | None = None


class _Initial(_Part):
    bundle: Text
    weights_sha256: Sha256
    dataset: Text
    simulated: bool


class _Member(_Part):
    seed: Count
    weights_sha256: Sha256


class ModelInfo(_Part):
    """What model.json holds: every value of its type, finite, and as many as there are channels and
    classes."""

    architecture: _Architecture
    task: TaskName
    classes: Annotated[Names, Field(min_length=1)]
    sections: Names
    thresholds: list[Number]
    windows: _Windows
    dataset: _Dataset
    normalization: _Normalization
    training: _Training
    parameters: Count | None = None
    best_epoch: Count
    precision: Literal["float32", "bfloat16", "float16"] | None = None  # in which a network learned
    identity: _Identity
    initial: _Initial | None = None  # the model whose weights training started from
    # The networks whose mean it is.
    members: Annotated[list[_Member], Field(min_length=2, max_length=1000)] | None = None
    temperature: Annotated[list[Deviation], Field(min_length=1)] | None = None  # of calibration
    weights_sha256: Sha256
    graph_sha256: Sha256 | None = None
    familiarity_sha256: Sha256 | None = None  # bundles had none at first
    reference_sha256: Sha256 | None = None  # nor this

    @field_validator("classes")
    @classmethod
    def _suit_task(cls, classes: list[str], info: ValidationInfo) -> list[str]:
        if len(set(classes)) < len(classes):
            raise ValueError("must differ from each other")
        task = info.data.get("task")
        if task not in (None, "multilabel", "multiclass") and len(classes) != 1:
            raise ValueError(f"must be one for the task {task}")
        return classes

    @field_validator("thresholds")
    @classmethod
    def _suit_classes(cls, thresholds: list[float], info: ValidationInfo) -> list[float]:
        if {"task", "classes"} <= info.data.keys():
            expected = 0 if info.data["task"] == "multiclass" else len(info.data["classes"])
            if len(thresholds) != expected:
                raise ValueError(f"must be {expected} numbers, one for each class that has one")
        return thresholds

    @field_validator("temperature")
    @classmethod
    def _suits_task(cls, found: list[float] | None, info: ValidationInfo) -> list[float] | None:
        if found is not None and {"task", "classes"} <= info.data.keys():
            expected = 1 if info.data["task"] == "multiclass" else len(info.data["classes"])
            if len(found) != expected:
                raise ValueError(f"must be {expected} numbers")
        return found

    @field_validator("normalization")
    @classmethod
    def _suits_channels(cls, found: _Normalization, info: ValidationInfo) -> _Normalization:
        channels = len(info.data["dataset"].channels) if "dataset" in info.data else None
        sizes = {len(found.mean), len(found.standard_deviation), len(found.fill)}
        if channels is not None and sizes != {channels}:
            raise ValueError(f"must have a number for each of the {channels} channels")
        return found


PROMISED = tuple(  # what model.json holds at least
    name for name, field in ModelInfo.model_fields.items() if field.is_required()
)


def find(name: str) -> Path:
    """Return the folder of the bundle that is called by its path, or by its name in data/models.

    Raises UserError if there is none, with those that there are.
    """
    for folder in (Path(name), FOLDER / name):
        if (folder / DESCRIPTION).is_file():
            return folder
    bundles = sorted(FOLDER.glob(f"*/*/{DESCRIPTION}"))
    if not bundles:
        raise UserError(f"there is no trained model {name}, nor any in {FOLDER}: run `dvc repro`")
    known = [path.parent.relative_to(FOLDER).as_posix() for path in bundles]
    raise UserError(
        f"there is no trained model {name} (no {DESCRIPTION}): train it by `dvc repro`, or name another"
        f"{names_there_are(name, known)}"
    )


def read_model_info(folder: Path) -> dict[str, Any]:
    """The content of a bundle's model.json. Raises UserError if it is missing or damaged, or if a value
    is none that a model can have."""
    path = folder / DESCRIPTION
    model_info = read_json(sums.verified(path))
    if not isinstance(model_info, dict) or model_info.get("format") != FORMAT:
        raise UserError(f"{folder} is a bundle of another format than {FORMAT}: train it again")
    if missing := [name for name in PROMISED if name not in model_info]:
        raise UserError(f"{path} has no {missing[0]}: train the model again")
    try:
        validated(model_info, "", ModelInfo, path)
    except UserError as error:
        raise UserError(f"{error}; {CURE}") from None
    return model_info


def read_familiarity(folder: Path, model_info: dict[str, Any]) -> Familiarity | None:
    """Return a bundle's distance to its training recordings, None if it has none, as those of
    older versions. Raises UserError if it is missing or damaged."""
    expected = model_info.get(FAMILIARITY_SHA256)
    if expected is None:
        return None
    return familiarity.load(folder / FAMILIARITY, expected, model_info["dataset"])


def read_reference(folder: Path, model_info: dict[str, Any]) -> Reference:
    """Return the validation records that a bundle is watched by. Raises UserError if it has none, as
    those of older versions, or if they are missing or damaged."""
    expected = model_info.get(REFERENCE_SHA256)
    if expected is None:
        raise UserError(f"{folder} has no {REFERENCE} and cannot be watched: train it again")
    return reference.load(folder / REFERENCE, expected, model_info)


def batches(recordings: Any, model_info: dict[str, Any]) -> list[np.ndarray]:
    """Return recordings as arrays `[N, T, C]`, one unless their lengths differ.

    `recordings`: an array `[N, T, C]`, one recording `[T, C]` (or `[T]` of one channel), a list of
    recordings, or rows `[N, C]` or one row `[C]` of a table. An array of any other shape comes back with
    it. Raises UserError if it does not hold numbers.
    """
    try:
        array = np.asarray(recordings)
    except ValueError:  # of different lengths
        parts = (batches(recording, model_info) for recording in recordings)
        return [array for part in parts for array in part]
    if array.dtype.kind not in "fiub":
        raise UserError(
            f"recordings of the type {array.dtype} are no array of numbers: give one, with NaN where a "
            f"sample is invalid (files are read by beatline.serving.predictor)"
        )
    is_table = model_info["dataset"]["length"] == 1
    if array.ndim == 1 and (is_table or len(model_info["dataset"]["channels"]) == 1):
        array = array[None] if is_table else array[:, None]
    if array.ndim == 2:
        array = array[:, None] if is_table else array[None]
    return [array]


def shape_of(model_info: dict[str, Any]) -> tuple[int, int]:
    """Return the shape of the windows that a bundle's network looks at: samples and channels."""
    dataset, windows = model_info["dataset"], Windows(**model_info["windows"])
    return windows.steps(dataset["length"]), len(dataset["channels"])
